"""Colour jitter and RandAugment against PIL and colorsys, on which torchvision's rules rest."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

import tljax
from tljax.data.jitter import OPS, colour_jitter, operation, rand_augment

KEY = jax.random.key(0)
PIXELS = np.random.default_rng(0).integers(20, 230, (12, 14, 3), np.uint8)
IMAGE = jnp.asarray(PIXELS, jnp.float32) / 255
COS, SIN = np.cos(np.pi / 12), np.sin(np.pi / 12)  # of 15°
STILL = dict(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)


def test_without_strength_nothing_changes():
    np.testing.assert_array_equal(colour_jitter(IMAGE, KEY, **STILL), IMAGE)
    grey = IMAGE[..., :1]
    assert colour_jitter(grey, KEY).shape == grey.shape


def drawn(key, place, strength):
    """A factor uniform in [max(0, 1 − x), 1 + x]."""
    low = max(0.0, 1 - strength)
    return low + (1 + strength - low) * float(jax.random.uniform(key, (4,))[place])


@pytest.mark.parametrize(
    ("place", "name", "enhancer"),
    [
        (0, "brightness", ImageEnhance.Brightness),
        (1, "contrast", ImageEnhance.Contrast),
        (2, "saturation", ImageEnhance.Color),
    ],
)
@pytest.mark.parametrize("strength", [0.4, 1.5])
def test_blends_are_pils(place, name, enhancer, strength):
    for i in range(4):
        key = jax.random.key(i)
        out = colour_jitter(IMAGE, key, **{**STILL, name: strength})
        expected = enhancer(Image.fromarray(PIXELS)).enhance(drawn(key, place, strength))
        np.testing.assert_allclose(255 * out, np.asarray(expected), atol=2.1)


def test_hues_turn():
    for i in range(4):
        key = jax.random.key(i)
        out = np.asarray(colour_jitter(IMAGE, key, **{**STILL, "hue": 0.5}))
        turn = 0.5 * (2 * float(jax.random.uniform(key, (4,))[3]) - 1)
        for row, column in ((0, 0), (5, 3), (11, 13)):
            hue, *rest = colorsys.rgb_to_hsv(*map(float, IMAGE[row, column]))
            expected = colorsys.hsv_to_rgb((hue + turn) % 1, *rest)
            np.testing.assert_allclose(out[row, column], expected, atol=1e-5)


def changed(name, level, signed, image=IMAGE):
    out = operation(image, jnp.int32(OPS.index(name)), level, jnp.float32(signed))
    return 255 * np.asarray(out)


@pytest.mark.parametrize("name", sorted(set(OPS) - {"auto_contrast"}))
def test_at_magnitude_0_an_operation_does_nothing(name):
    np.testing.assert_allclose(changed(name, 0.0, 0.0), PIXELS, atol=1e-3)


@pytest.mark.parametrize("signed", [-0.5, 0.5])
def test_operations_on_values_are_pils(signed):
    """Of level ½: factors 1 ± 0.45, 6 bits, a threshold of 128."""
    image = Image.fromarray(PIXELS)
    for name, enhancer in (
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
        ("sharpness", ImageEnhance.Sharpness),
    ):
        expected = np.asarray(enhancer(image).enhance(1 + 0.9 * signed))
        np.testing.assert_allclose(changed(name, 0.5, signed), expected, atol=2.1, err_msg=name)
    for name, expected in (
        ("posterize", ImageOps.posterize(image, 6)),
        ("solarize", ImageOps.solarize(image, 128)),
        ("auto_contrast", ImageOps.autocontrast(image)),
    ):
        np.testing.assert_allclose(changed(name, 0.5, signed), expected, atol=1.01, err_msg=name)


@pytest.mark.parametrize(
    ("name", "moved"),
    [
        # PIL's matrix (a, b, c, d, e, f) takes from (a x + b y + c, d x + e y + f) of an output's
        # pixel corner (x, y); about the centre (7, 6), of level ½.
        ("shear_x", (1, 0.15, -0.15 * 6, 0, 1, 0)),
        ("shear_y", (1, 0, 0, 0.15, 1, -0.15 * 7)),
        ("translate_x", (1, 0, 14 * 75 / 331, 0, 1, 0)),
        ("translate_y", (1, 0, 0, 0, 1, 12 * 75 / 331)),
        ("rotate", (COS, -SIN, 7 - 7 * COS + 6 * SIN, SIN, COS, 6 - 7 * SIN - 6 * COS)),
    ],
)
def test_operations_on_places_are_pils(name, moved):
    image = Image.fromarray(PIXELS)
    expected = image.transform(image.size, Image.Transform.AFFINE, moved, Image.Resampling.BILINEAR)
    out = changed(name, 0.5, 0.5)
    np.testing.assert_allclose(out[4:8, 4:8], np.asarray(expected)[4:8, 4:8], atol=1.5)


def test_every_operation_is_drawn_as_often():
    """Of 2,600 images of one operation each, 200 ± 5 standard deviations of 13.6 are untouched."""
    keys = jax.random.split(KEY, 2600)
    out = jax.jit(jax.vmap(lambda key: rand_augment(IMAGE, key, ops=1, magnitude=20.0)))(keys)
    kinds, counts = np.unique(np.asarray(out).reshape(2600, -1), axis=0, return_counts=True)
    assert len(kinds) == 22  # nine operations of two directions, and four of none
    untouched = counts[(kinds == np.asarray(IMAGE).ravel()).all(1)]
    assert len(untouched) == 1 and abs(untouched[0] - 200) < 68


def test_it_is_a_transform_of_any_phase():
    bound = tljax.transform("rand_augment", ops=3, magnitude=5)
    out = jax.vmap(bound)(jnp.stack([IMAGE] * 4), jax.random.split(KEY, 4))
    assert out.shape == (4, 12, 14, 3) and 0 <= out.min() and out.max() <= 1
    assert len(np.unique(np.asarray(out).reshape(4, -1), axis=0)) > 1

"""Transforms on images small enough to work by hand, and the rules that they all keep."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from tljax.data import transforms
from tljax.data.transforms import TRANSFORMS, apply, parse, transform
from tljax.errors import UserError

jax.config.update("jax_numpy_rank_promotion", "raise")

RUN = jax.jit(apply, static_argnames="held_out")
JITTED = {name: jax.jit(TRANSFORMS[name]) for name in ("affine", "blur")}
KEY = jax.random.key(0)
KEYS = jax.random.split(KEY, 64)
RANDOM = ("shift", "rotate", "flip", "noise", "brightness_contrast", "colour", "photographs",
          "crop", "affine", "blur", "cutout", "gamma")  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """Nearly all of the time here is compilation."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def over_keys(name, image, keys=KEYS, held_out=False, **parameters):
    """One image under many keys, `[keys, height, width, channels]`."""
    images = jnp.broadcast_to(image, (len(keys), *image.shape))
    one = (transform(name, **parameters),)
    return np.asarray(RUN(one, images, keys, held_out=held_out))


def ramp(height=3, width=4, channels=3):
    """An image no two of whose values are equal, from 0.1 to 0.9."""
    return np.linspace(0.1, 0.9, height * width * channels, dtype=np.float32).reshape(
        height, width, channels
    )


# Each transform by hand.


def test_shift_moves_one_pixel_to_every_place_within_reach():
    image = np.zeros((5, 5, 1), np.float32)
    image[2, 2] = 1.0
    shifted = over_keys("shift", image, pixels=1)
    assert np.all(shifted.sum((1, 2, 3)) == 1.0)
    places = {(int(y), int(x)) for _, y, x, _ in np.argwhere(shifted)}
    assert places == {(y, x) for y in (1, 2, 3) for x in (1, 2, 3)}


def test_shift_fills_with_zeros_and_by_nothing_moves_nothing():
    # A lone pixel moved by up to one stays where it is in one case of nine, else leaves.
    assert set(over_keys("shift", np.ones((1, 1, 1), np.float32), pixels=1).ravel()) == {0.0, 1.0}
    np.testing.assert_array_equal(over_keys("shift", ramp(), pixels=0)[0], ramp())


def test_rotate_by_zero_is_the_identity():
    turned = over_keys("rotate", ramp(), degrees=0.0)
    np.testing.assert_allclose(turned[0], ramp(), atol=1e-6)


def test_rotate_turns_about_the_centre_by_the_angle_drawn():
    # `rotate` draws an angle u · degrees, u in ±1; degrees = 90 / u makes it a quarter turn.
    u = jax.random.uniform(KEY, minval=-1.0)
    turned = TRANSFORMS["rotate"](jnp.asarray(ramp(3, 3)), KEY, degrees=90.0 / u)
    np.testing.assert_allclose(turned, np.rot90(ramp(3, 3)), atol=1e-5)


def test_rotate_lets_zeros_in_at_the_corners():
    turned = over_keys("rotate", np.ones((9, 9, 1), np.float32), degrees=45.0)
    np.testing.assert_allclose(turned[:, 4, 4], 1.0, atol=1e-6)
    assert turned[:, 0, 0].min() == 0.0


def test_flip_mirrors_columns_with_its_probability():
    never, always = (over_keys("flip", ramp(), probability=p) for p in (0.0, 1.0))
    np.testing.assert_array_equal(never[0], ramp())
    np.testing.assert_array_equal(always[0], ramp()[:, ::-1])
    mirrored = np.mean(over_keys("flip", ramp())[:, 0, 0, 0] > 0.11)
    # The mean of 64 fair coins has standard deviation 1/16; four of them.
    assert abs(mirrored - 0.5) < 0.25


def test_transpose_exchanges_rows_and_columns():
    np.testing.assert_array_equal(TRANSFORMS["transpose"](ramp(), KEY), ramp().swapaxes(0, 1))


def test_noise_has_its_standard_deviation_and_is_clipped():
    grey = np.full((3, 4, 3), 0.5, np.float32)
    # The deviation of 2,304 values has standard error 0.1 / sqrt(2 · 2,304) < 0.0015; four of them.
    assert abs(over_keys("noise", grey, std=0.1).std() - 0.1) < 0.006
    loud = over_keys("noise", grey, std=9.0)
    assert loud.min() == 0.0 and loud.max() == 1.0


def test_brightness_lifts_all_values_and_contrast_pivots_on_mid_grey():
    lifted = over_keys("brightness_contrast", ramp(), brightness=0.1, contrast=0.0) - ramp()
    np.testing.assert_allclose(lifted, lifted[:, :1, :1, :1] * np.ones_like(lifted), atol=1e-6)
    assert 0.05 < np.abs(lifted).max() <= 0.1 + 1e-6
    grey = np.full((3, 4, 3), 0.5, np.float32)
    stretched = over_keys("brightness_contrast", grey, brightness=0.0, contrast=0.9)
    np.testing.assert_allclose(stretched, 0.5, atol=1e-6)


def test_colour_gives_each_channel_one_gain():
    gains = over_keys("colour", ramp(), strength=0.1) / ramp()
    np.testing.assert_allclose(gains, gains[:, :1, :1] * np.ones_like(gains), rtol=1e-5)
    assert np.all(np.abs(gains - 1.0) <= 0.1 + 1e-5)
    assert len(np.unique(gains[0, 0, 0])) == 3
    assert over_keys("colour", np.ones((3, 4, 3), np.float32)).max() == 1.0


def test_a_random_inversion_is_one_of_two():
    """Of 64 keys at probability ¼ some 16 invert: 6 to 26 are three deviations."""
    chance = functools.partial(TRANSFORMS["random_invert"], jnp.full((1, 1, 1), 0.25))
    found = [float(chance(key, probability=0.25)[0, 0, 0]) for key in jax.random.split(KEY, 64)]
    assert set(found) == {0.25, 0.75} and 6 <= found.count(0.75) <= 26


def test_an_offset_tints_black_and_a_gain_does_not():
    black = jnp.zeros((2, 2, 3))
    colour = functools.partial(TRANSFORMS["colour"], black, KEY, strength=0.5)
    assert not colour().any()
    tinted = colour(offset=0.3)
    assert (tinted == tinted[:1, :1]).all() and 0 < float(tinted.max()) <= 0.3


def test_invert_twice_is_the_identity():
    invert = functools.partial(TRANSFORMS["invert"], key=KEY)
    np.testing.assert_allclose(invert(jnp.array([[[0.25]]])), [[[0.75]]])
    np.testing.assert_allclose(invert(invert(ramp())), ramp(), atol=1e-6)


def test_grey_and_rgb():
    # 0.299 · 1 + 0.587 · 0.5 + 0.114 · 0 = 0.5925
    one = TRANSFORMS["grey"](jnp.array([[[1.0, 0.5, 0.0]]]), KEY)
    np.testing.assert_allclose(one, [[[0.5925]]], rtol=1e-6)
    three = TRANSFORMS["rgb"](one, KEY)
    np.testing.assert_array_equal(three, one * np.ones((1, 1, 3), np.float32))
    np.testing.assert_array_equal(TRANSFORMS["rgb"](three, KEY), three)
    np.testing.assert_array_equal(TRANSFORMS["grey"](one, KEY), one)


def test_imagenet():
    """The mean of each channel becomes 0, and one deviation more 1; grey becomes coloured."""
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    image = jnp.asarray(np.stack([mean, mean + std])[None])
    out = TRANSFORMS["imagenet"](image, KEY)
    np.testing.assert_allclose(out, [[[0, 0, 0], [1, 1, 1]]], atol=1e-6)
    grey = TRANSFORMS["imagenet"](jnp.full((2, 2, 1), 0.485), KEY)
    np.testing.assert_allclose(grey[0, 0], [0, 0.029 / 0.224, 0.079 / 0.225], atol=1e-6)


def test_standardise():
    # (0.7 − 0.5) / 0.1 = 2
    out = TRANSFORMS["standardise"](jnp.array([[[0.7]]]), KEY, mean=0.5, std=0.1)
    np.testing.assert_allclose(out, [[[2.0]]], rtol=1e-5)


# Photographs.


def test_ink_covers_the_photograph_and_paper_shows_it():
    white, black = np.ones((4, 4, 1), np.float32), np.zeros((4, 4, 1), np.float32)
    np.testing.assert_array_equal(over_keys("photographs", white), np.ones((64, 4, 4, 3)))
    crop = over_keys("photographs", black, strength=1.0)
    np.testing.assert_allclose(over_keys("photographs", black, strength=0.4), 0.4 * crop, rtol=1e-6)
    # Grey ink of 0.25: 0.25 + 0.75 · 0.4 · crop
    np.testing.assert_allclose(
        over_keys("photographs", black + 0.25, strength=0.4), 0.25 + 0.3 * crop, rtol=1e-5
    )


def test_a_crop_is_a_window_of_one_of_the_two_photographs():
    black = np.zeros((6, 6, 1), np.float32)
    for held_out in (False, True):
        photos = transforms._photographs(held_out)
        windows = np.lib.stride_tricks.sliding_window_view(photos, (6, 6), axis=(1, 2))
        for crop in over_keys("photographs", black, KEYS[:3], strength=1.0, held_out=held_out):
            pixels = np.rint(crop * 255.0).astype(np.uint8)
            same = np.all(windows[:, :, :, :, 0, 0] == pixels[0, 0], axis=-1)
            assert np.any(np.all(windows[same] == np.moveaxis(pixels, -1, 0), axis=(1, 2, 3)))


def test_the_halves_are_the_left_and_the_right_of_the_photographs():
    datasets = pytest.importorskip("sklearn.datasets")
    whole = np.stack(datasets.load_sample_images().images)
    halves = [transforms._photographs(held_out) for held_out in (False, True)]
    np.testing.assert_array_equal(np.concatenate(halves, axis=2), whole)


def test_no_column_is_shared_between_training_and_held_out_crops(monkeypatch):
    # Photographs whose pixels spell their own column, 0..639, in base 256.
    column = np.broadcast_to(np.arange(640), (2, 427, 640))
    spelt = np.stack([column // 256, column % 256, 0 * column], axis=-1).astype(np.uint8)
    halves = np.split(spelt, 2, axis=2)
    monkeypatch.setattr(transforms, "_photographs", lambda held_out: halves[held_out])

    keys = jax.random.split(KEY, 2_000)
    black = jnp.zeros((2_000, 1, 16, 1))
    photographs = (transform("photographs", strength=1.0),)

    def columns(held_out):
        crops = np.rint(255 * apply(photographs, black, keys, held_out=held_out))
        return set((256 * crops[..., 0] + crops[..., 1]).astype(int).ravel())

    assert columns(held_out=False) == set(range(320))
    assert columns(held_out=True) == set(range(320, 640))


def test_an_image_larger_than_half_a_photograph_is_refused():
    TRANSFORMS["photographs"](jnp.zeros((427, 320, 1)), KEY)
    with pytest.raises(UserError, match=r"at most \(427, 320\) pixels"):
        TRANSFORMS["photographs"](jnp.zeros((16, 321, 1)), KEY)


# Views for self-supervised learning.


def affine_by(image, **amounts):
    """`affine` by exactly these amounts, and by none of what is not given."""
    drawn = jax.random.uniform(KEY, (5,), minval=-1.0)  # what it draws, each to be undone
    units = dict(zip(("degrees", "scale", "shear", "shift"), drawn[:4], strict=True))
    strengths = {name: amounts.get(name, 0.0) / unit for name, unit in units.items()}
    return JITTED["affine"](jnp.asarray(image), KEY, **strengths)


@pytest.mark.parametrize(
    "spec",
    [
        dict(name="crop", min_scale=1.0),
        dict(name="affine", degrees=0.0, scale=0.0, shear=0.0, shift=0.0),
        dict(name="blur", sigma=0.0),
        dict(name="cutout", size=0),
        dict(name="gamma", strength=0.0),
    ],
    ids=lambda spec: spec["name"],
)
@pytest.mark.parametrize("shape", [(3, 4, 3), (1, 1, 1)])
def test_a_view_of_no_strength_is_the_image(spec, shape):
    image = ramp(*shape)
    views = over_keys(image=image, **spec)
    np.testing.assert_allclose(views, np.broadcast_to(image, views.shape), atol=2e-6)


def test_affine_turns_about_the_centre():
    for degrees, turns in ((90.0, 1), (180.0, 2), (-90.0, 3)):
        turned = affine_by(ramp(5, 5), degrees=degrees)
        np.testing.assert_allclose(turned, np.rot90(ramp(5, 5), turns), atol=1e-5)


def test_affine_enlarges_about_the_centre():
    # Twice as large: what was 1 pixel from the centre of 5 is now 2 away.
    image = ramp(5, 5)
    large = affine_by(image, scale=1.0)
    np.testing.assert_allclose(large[::2, ::2], image[1:4, 1:4], atol=1e-5)
    # Half as large: the outermost pixels are now next to the centre, and zeros come in.
    small = affine_by(image, scale=-0.5)
    np.testing.assert_allclose(small[1:4, 1:4], image[::2, ::2], atol=1e-5)
    np.testing.assert_allclose(small[0], 0.0, atol=1e-5)


def test_affine_moves_by_a_share_of_the_image():
    image = ramp(5, 8)
    moved = affine_by(image, shift=0.2)
    # A fifth of five rows is one; the columns move by their own draw.
    *_, down, right = jax.random.uniform(KEY, (5,), minval=-1.0)
    by = (1.0, 8 * 0.2 * float(right / down), 0.0)
    expected = ndimage.shift(image, by, order=1, mode="grid-constant")
    np.testing.assert_allclose(moved, expected, atol=1e-5)
    assert np.abs(np.asarray(moved)[0]).max() < 1e-5, "zeros come in"


def test_affine_shears_then_turns():
    # A dot 2 below the middle is sheared by 1 to 2 below and 2 to the right; a quarter turn
    # anticlockwise then takes what is below to the right, and what is right to the top.
    image = np.zeros((7, 7, 1), np.float32)
    image[5, 3] = 1.0
    expected = np.zeros((7, 7, 1), np.float32)
    expected[1, 5] = 1.0
    np.testing.assert_allclose(affine_by(image, shear=1.0, degrees=90.0), expected, atol=1e-5)


def test_affine_shears_rows_sideways():
    image = np.zeros((5, 7, 1), np.float32)
    image[:, 3] = 1.0  # a vertical stroke becomes a diagonal
    sheared = affine_by(image, shear=1.0)
    expected = np.eye(7, dtype=np.float32)[1:6, :, None]
    np.testing.assert_allclose(sheared, expected, atol=1e-5)


def test_a_crop_is_a_window_enlarged():
    # On a plane of intensities y / 16 every window is a plane again, less steep: by how much is
    # the side of the window, and its mean value tells the place.
    y, x = np.mgrid[:16, :16].astype(np.float32) / 16.0
    image = np.stack([y, x], axis=-1)
    views = over_keys("crop", image, min_scale=0.25)[:, 1:-1, 1:-1]
    slopes = 16.0 * np.stack([np.diff(views[..., 0], axis=1)[:, :, 0].mean(1),
                              np.diff(views[..., 1], axis=2)[:, 0].mean(1)])  # fmt: skip
    np.testing.assert_allclose(slopes[0], slopes[1], atol=0.02)  # a square of a square image
    area = slopes[0] ** 2
    assert 0.25 - 0.02 < area.min() < 0.35 and 0.9 < area.max() <= 1.001
    # Uniform in (0.25, 1): mean 0.625, and its deviation is 0.75 / sqrt(12 · 64) < 0.028.
    assert abs(area.mean() - 0.625) < 4 * 0.028
    # The window stays within the image, and gets to both of its ends.
    centre = views.mean((1, 2)) * 16.0 + 0.5
    assert np.all(np.abs(centre - 8.0) <= 8.0 * (1.0 - slopes[0][:, None]) + 0.1)
    assert centre.min() < 6.5 and centre.max() > 9.5


def test_blur_is_a_gaussian_that_keeps_the_sum():
    # `blur` draws a deviation u · sigma; sigma = 0.8 / u makes it 0.8.
    u = jax.random.uniform(KEY)
    image = np.zeros((15, 13, 2), np.float32)
    image[7, 6] = [1.0, 0.5]
    blurred = JITTED["blur"](jnp.asarray(image), KEY, sigma=0.8 / u)
    y, x = np.mgrid[-7:8, -6:7]
    bell = np.exp(-(y**2 + x**2) / (2 * 0.8**2))
    expected = (bell / bell.sum())[..., None] * np.array([1.0, 0.5])
    np.testing.assert_allclose(blurred, expected, atol=1e-6)
    # A plain image stays as it is, up to its border.
    plain = JITTED["blur"](jnp.full((4, 6, 1), 0.7), KEY, sigma=3.0)
    np.testing.assert_allclose(plain, 0.7, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_cutout_blackens_one_square_anywhere(size):
    views = over_keys("cutout", np.ones((4, 5, 3), np.float32), size=size)
    assert set(np.unique(views)) == {0.0, 1.0}
    places = set()
    for view in views:
        black = np.argwhere(view[..., 0] == 0.0)
        assert np.all(view == view[..., :1]), "all channels alike"
        height, width = np.ptp(black, axis=0) + 1
        assert len(black) == height * width and 1 <= height <= size and 1 <= width <= size
        places.add(tuple(black[0]))
        if size == 1:
            assert len(black) == 1
    # 64 draws of 20 centres leave any one out in 4 cases of 100.
    assert len(places) >= 8
    blackened = (views[..., 0] == 0.0).any(axis=0)
    assert blackened.mean() > 0.8


def test_gamma_is_a_power_that_keeps_black_and_white():
    image = np.array([0.0, 0.25, 1.0], np.float32).reshape(1, 3, 1)
    views = over_keys("gamma", image, strength=np.log(2.0))
    np.testing.assert_array_equal(views[:, 0, 0], 0.0)
    np.testing.assert_array_equal(views[:, 0, 2], 1.0)
    # From 0.25 ** 2 to 0.25 ** 0.5, and the exponent's logarithm is uniform about 0.
    exponents = np.log(views[:, 0, 1, 0]) / np.log(0.25)
    assert 0.5 - 1e-5 <= exponents.min() < 0.6 and 1.7 < exponents.max() <= 2.0 + 1e-5
    assert abs(np.log2(exponents).mean()) < 4 / np.sqrt(3 * 64)


@pytest.mark.parametrize("name", ["crop", "affine", "blur", "cutout", "gamma"])
def test_no_view_is_a_convolution(name):
    traced = str(jax.make_jaxpr(TRANSFORMS[name])(jnp.asarray(ramp()), KEY))
    assert "conv_general" not in traced, "these are slow in loops on a CPU"


# The rules for all of them.


@pytest.mark.parametrize("name", RANDOM)
def test_the_key_decides(name):
    once, again = over_keys(name, ramp()), over_keys(name, ramp())
    np.testing.assert_array_equal(once, again)
    assert len(np.unique(once, axis=0)) > 1


WAVE, SPECTRUM = np.sin(np.arange(400, dtype=np.float32)), np.ones((30, 40), np.float32)
TOKENS = np.arange(30, dtype=np.int32)
OTHERS = {  # of inputs that are no images
    **dict.fromkeys(("time_shift", "speed", "gain", "white_noise", "log_mel"), WAVE),
    **dict.fromkeys(("mask_tokens", "sentence"), TOKENS),
    "spec_augment": SPECTRUM,
}


@pytest.mark.parametrize("name", sorted(TRANSFORMS.keys() - OTHERS.keys()))
def test_every_transform_stays_in_range(name):
    out = over_keys(name, ramp())
    assert out.dtype == np.float32 and out.ndim == 4
    channels = (-0.485 / 0.229, (1 - 0.406) / 0.225)
    ends = {"standardise": (-1.0, 1.0), "imagenet": channels, "standardise_channels": channels}
    low, high = ends.get(name, (0.0, 1.0))
    assert low - 1e-6 <= out.min() and out.max() <= high + 1e-6


def test_apply_scales_bytes_and_leaves_floats():
    images = np.array([0, 51, 255], np.uint8).reshape(3, 1, 1, 1)
    out = apply((), images, KEYS[:3])
    np.testing.assert_allclose(out.ravel(), [0.0, 0.2, 1.0], rtol=1e-6)
    np.testing.assert_array_equal(apply((), out, KEYS[:3]), out)


def test_apply_goes_in_order():
    images = jnp.full((1, 1, 1, 1), 0.25)
    specs = (dict(name="invert"), dict(name="standardise", mean=0.25, std=0.25))
    # (1 − 0.25 − 0.25) / 0.25 = 2, and the other way round 1 − (0.25 − 0.25) / 0.25 = 1
    assert apply(parse(specs, "f"), images, KEYS[:1]).item() == 2.0
    assert apply(parse(specs[::-1], "f"), images, KEYS[:1]).item() == 1.0


def test_apply_draws_anew_for_every_image_and_every_position():
    first = over_keys("noise", ramp(), std=0.01) - ramp()
    assert not np.allclose(first[0], first[1])
    noise = transform("noise", std=0.01)
    twice = RUN((noise, noise), jnp.broadcast_to(ramp(), first.shape), KEYS)
    assert not np.allclose(np.asarray(twice) - ramp(), 2.0 * first, atol=1e-4)


def test_evaluation_does_not_depend_on_the_batch_an_example_comes_in():
    both = (transform("photographs"), transform("shift"))
    images = jnp.zeros((4, 8, 8, 1))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(4))
    whole = RUN(both, images, keys, held_out=True)
    backwards = RUN(both, images[::-1], keys[::-1], held_out=True)
    np.testing.assert_array_equal(whole, backwards[::-1])
    assert not np.allclose(whole, RUN(both, images, keys, held_out=False))


def test_a_number_is_changed_without_tracing_again():
    traces = []

    @jax.jit
    def run(looks, images, keys):
        traces.append(looks)
        return apply(looks, images, keys)

    outs = []
    for strength in (0, 0.3, 1):
        specs = [dict(name="photographs", strength=strength), dict(name="shift", pixels=1)]
        outs.append(run(parse(specs, "f"), jnp.zeros((2, 8, 8, 1)), KEYS[:2]))
    assert len(traces) == 1
    np.testing.assert_allclose(outs[1], 0.3 * outs[2], rtol=1e-5)
    run(parse([dict(name="photographs"), dict(name="shift")], "f"), outs[0], KEYS[:2])
    assert len(traces) == 2


@pytest.mark.parametrize("name", [name for name in TRANSFORMS if transform(name).numbers])
def test_every_number_may_be_swept(name):
    look = transform(name)
    half = jax.tree.map(lambda number: number / 2, look)
    example = OTHERS.get(name, ramp())
    images = jnp.broadcast_to(example, (64, *example.shape))
    both = jax.tree.map(lambda *pair: jnp.array(pair), look, half)
    swept = jax.jit(jax.vmap(lambda each: apply((each,), images, KEYS)))(both)
    alone = [RUN((each,), images, KEYS) for each in (look, half)]
    both = jax.tree.map(lambda *leaves: np.stack(leaves), *alone)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), swept, both)


# What a config may say.


def test_parse_splits_and_completes():
    specs = (
        dict(name="photographs"),
        dict(name="shift", pixels=3),
        dict(name="flip", probability=1),
    )
    looks = parse(specs, "streams.target.transforms")
    assert [look.function for look in looks] == [TRANSFORMS[spec["name"]] for spec in specs]
    assert [look.static for look in looks] == [(), (("pixels", 3),), ()]
    assert [look.numbers for look in looks] == [{"strength": 0.7}, {}, {"probability": 1.0}]
    assert jax.tree.leaves(looks) == [0.7, 1.0]
    assert hash(jax.tree.structure(looks))
    assert parse((), "f") == ()


def test_a_transform_from_python_is_that_of_a_config():
    made = transform("shift", pixels=3)
    assert parse((dict(name="shift", pixels=3),), "f") == (made,)
    with pytest.raises(UserError, match=r"Did you mean 'pixels'\?"):
        transform("shift", pixel=3)

    def halve(image, key, *, held_out=False, by: float = 2.0):
        return image / by

    images = jnp.full((1, 1, 1, 1), 0.5)
    assert apply((transform(halve),), images, KEYS[:1]).item() == 0.25
    assert apply((transform(halve, by=4),), images, KEYS[:1]).item() == 0.125


@pytest.mark.parametrize(
    "specs, message",
    [
        ([dict(name="photograph")], r"f\[0\]\.name: .* Did you mean 'photographs'\?"),
        ([dict(name="rgb"), dict(name="shift", pixel=2)], r"f\[1\]: .* Did you mean 'pixels'\?"),
        ([dict(name="shift", held_out=True)], r"f\[0\]: unknown name 'held_out'"),
        ([dict(pixels=2)], r"f\[0\]: .* a name"),
        ([dict(name=2)], r"f\[0\]: .* a name"),
        (["shift"], r"f\[0\]: got 'shift'; expected a name"),
        (dict(name="shift"), r"f: .* a list"),
        (None, r"f: .* a list"),
        (
            [dict(name="shift", pixels=-1)],
            r"f\[0\]\.pixels: got -1; .* integer of at least 0",
        ),
        ([dict(name="shift", pixels=1.5)], r"f\[0\]\.pixels: got 1.5; expected an integer"),
        ([dict(name="noise", std=float("nan"))], r"f\[0\]\.std: got nan; expected a finite"),
        ([dict(name="noise", std="0.3")], r"f\[0\]\.std: got '0.3'; expected a finite"),
        ([dict(name="noise", std=True)], r"f\[0\]\.std: got True; expected a finite"),
        (
            [dict(name="noise", std=-0.1)],
            r"f\[0\]\.std: got -0.1; .* number of at least 0",
        ),
        ([dict(name="flip", probability=2)], r"f\[0\]\.probability: .* from 0 to 1"),
        ([dict(name="photographs", strength=1.1)], r"f\[0\]\.strength: .* from 0 to 1"),
        (
            [dict(name="crop", min_scale=0.0)],
            r"f\[0\]\.min_scale: got 0.0; expected a number from 0.01 to 1",
        ),
        (
            [dict(name="crop", min_scale=1.5)],
            r"f\[0\]\.min_scale: got 1.5; expected a number from 0.01 to 1",
        ),
        ([dict(name="affine", scale=1)], r"f\[0\]\.scale: .* from 0 to 0.9"),
        ([dict(name="affine", shift=2)], r"f\[0\]\.shift: .* from 0 to 1"),
        ([dict(name="affine", degrees=-5)], r"f\[0\]\.degrees: .* a number from 0 to 360"),
        ([dict(name="affine", rotate=5)], r"f\[0\]: unknown name 'rotate'"),
        ([dict(name="blur", sigma=-1)], r"f\[0\]\.sigma: .* at least 0"),
        ([dict(name="cutout", size=1.5)], r"f\[0\]\.size: got 1.5; expected an integer"),
        ([dict(name="gamma", strength=-1)], r"f\[0\]\.strength: .* at least 0"),
        (
            [dict(name="standardise", std=0.0)],
            r"f\[0\]\.std: got 0.0; .* at least 1e-06",
        ),
    ],
)
def test_parse_refuses(specs, message):
    with pytest.raises(UserError, match=f"^{message}"):
        parse(specs, "f")

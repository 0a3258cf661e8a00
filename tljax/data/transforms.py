"""Image transforms: pure functions of one image and one key, run inside the compiled step.

A transform is `transform(image, key, *, held_out=False, ...) -> image` on a float32 image
`[height, width, channels]` in [0, 1]. Its parameters follow the rule of `bind`: a float
default is traced and may be swept, any other is static. `held_out` is static too, and
matters only to a transform that brings material of its own: it then draws from a part that
training never sees. One that has a parameter `mask` is given the example's, `[length]` or None,
and returns `(input, mask)`. Those that make views for self-supervised learning are in `augment`.

In training the keys change with the step. To evaluate, pass `held_out=True` and keys that
depend on the example alone, `jax.vmap(jax.random.fold_in, (None, 0))(key, indices)`: every
example is then transformed in one fixed way, whatever batch it comes in.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from PIL import Image

from tljax.bind import Bound
from tljax.checks import Degrees, NotNegative, Range, Share, Whole
from tljax.data.augment import affine, blur, crop, cutout, gamma, sample
from tljax.data.bundled import of_sklearn
from tljax.data.hiding import mask_tokens, sentence
from tljax.data.jitter import colour, colour_jitter, luma, rand_augment
from tljax.data.specs import named
from tljax.data.waves import gain, spec_augment, speed, time_shift, white_noise
from tljax.errors import wrong
from tljax.masked import Masked, passed, reads_mask
from tljax.spectra import log_mel

Deviation = Annotated[float, Range(1e-6)]  # is divided by

# Where the ink is.


def shift(image: Array, key: Array, *, held_out: bool = False, pixels: Whole = 2) -> Array:
    """Moves the image by up to ±`pixels` along both axes, drawn uniformly; zeros come in."""
    if pixels > min(image.shape[:2]):
        raise wrong("pixels", pixels, f"at most {min(image.shape[:2])}, the image's size")
    padded = jnp.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)))
    top, left = jax.random.randint(key, (2,), 0, 2 * pixels + 1)
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def rotate(image: Array, key: Array, *, held_out: bool = False, degrees: Degrees = 15.0) -> Array:
    """Turns the image about its centre by an angle uniform in ±`degrees`; bilinear, zeros enter."""
    angle = jnp.deg2rad(degrees) * jax.random.uniform(key, minval=-1.0)
    middle_y, middle_x = ((size - 1) / 2 for size in image.shape[:2])
    y, x = jnp.mgrid[: image.shape[0], : image.shape[1]]
    y, x, cos, sin = y - middle_y, x - middle_x, jnp.cos(angle), jnp.sin(angle)
    return sample(image, middle_y + cos * y + sin * x, middle_x - sin * y + cos * x)


def flip(image: Array, key: Array, *, held_out: bool = False, probability: Share = 0.5) -> Array:
    """Mirrors the image left to right with the given `probability`."""
    return jnp.where(jax.random.bernoulli(key, probability), image[:, ::-1], image)


def transpose(image: Array, key: Array, *, held_out: bool = False) -> Array:
    """Exchanges rows and columns."""
    return image.swapaxes(0, 1)


# What the ink looks like.


def noise(image: Array, key: Array, *, held_out: bool = False, std: NotNegative = 0.3) -> Array:
    """Adds Gaussian noise of standard deviation `std`, then clips to [0, 1]."""
    return jnp.clip(image + std * jax.random.normal(key, image.shape), 0.0, 1.0)


def brightness_contrast(
    image: Array,
    key: Array,
    *,
    held_out: bool = False,
    brightness: NotNegative = 0.2,
    contrast: NotNegative = 0.2,
) -> Array:
    """A gain about mid grey in 1 ± `contrast`, an offset in ±`brightness`; clipped to [0, 1]."""
    gain, offset = jax.random.uniform(key, (2,), minval=-1.0)
    stretched = 0.5 + (1.0 + contrast * gain) * (image - 0.5)
    return jnp.clip(stretched + brightness * offset, 0.0, 1.0)


def invert(image: Array, key: Array, *, held_out: bool = False) -> Array:
    """1 − image: black for white."""
    return 1.0 - image


def random_invert(
    image: Array, key: Array, *, held_out: bool = False, probability: Share = 0.5
) -> Array:
    """`invert` with the given `probability`."""
    return jnp.where(jax.random.bernoulli(key, probability), 1.0 - image, image)


def photographs(
    image: Array, key: Array, *, held_out: bool = False, strength: Share = 0.7
) -> Array:
    """Pastes the image over a random crop of a photograph: image + (1 − image) · strength · crop.

    The image's own intensity is its opacity, so white ink covers the photograph and black paper
    shows it. Training crops come from the left halves of scikit-learn's two photographs, held-out
    crops from the right halves.

    Args:
      image: `[height, width, 1 or 3]`, at most 427 × 320 pixels.
      key: draws the photograph and the place.
      held_out: whether to crop the right halves.
      strength: the photograph's brightness, in [0, 1].

    Returns:
      `[height, width, 3]`, in [0, 1].

    Raises:
      UserError: the image is larger than half a photograph.
    """
    half = _photographs(held_out)
    size = (1, *image.shape[:2], 3)
    if any(part > whole for part, whole in zip(size, half.shape, strict=True)):
        raise wrong("photographs", image.shape, f"an image of at most {half.shape[1:3]} pixels")
    room = jnp.array([whole - part + 1 for whole, part in zip(half.shape, size, strict=True)])
    corner = jax.random.randint(key, (4,), 0, room)
    crop = jax.lax.dynamic_slice(half, list(corner), size)[0].astype(jnp.float32) / 255.0
    return image + (1.0 - image) * strength * crop


@functools.cache
def _photographs(held_out: bool) -> np.ndarray:
    """The left or the right halves of a temple and a flower, uint8 `[2, 427, 320, 3]`.

    They become a constant of the program that crops them: 0.8 MB, under 0.1 s of compilation.
    """
    names = ("china.jpg", "flower.jpg")
    both = np.stack([np.asarray(Image.open(of_sklearn("images", name))) for name in names])
    return np.split(both, 2, axis=2)[int(held_out)]


# How it is coded.


def grey(image: Array, key: Array, *, held_out: bool = False) -> Array:
    """Three channels to one, by the luma weights of ITU-R BT.601; one channel stays as it is."""
    return luma(image)


def rgb(image: Array, key: Array, *, held_out: bool = False) -> Array:
    """One channel to three equal ones; three channels stay as they are."""
    return jnp.broadcast_to(image, (*image.shape[:-1], 3))


def standardise(
    image: Array, key: Array, *, held_out: bool = False, mean: float = 0.5, std: Deviation = 0.5
) -> Array:
    """(image − mean) / std. It leaves [0, 1], which the others expect: put it last."""
    return (image - mean) / std


def standardise_channels(
    image: Array,
    key: Array,
    *,
    held_out: bool = False,
    mean: tuple[float, ...] = (0.485, 0.456, 0.406),
    std: tuple[Deviation, ...] = (0.229, 0.224, 0.225),
) -> Array:
    """`standardise` by a mean and std for each channel, or one; a grey image becomes coloured."""
    return (image - jnp.array(mean).reshape(1, 1, -1)) / jnp.array(std).reshape(1, 1, -1)


def imagenet(image: Array, key: Array, *, held_out: bool = False) -> Array:
    """`standardise_channels` by ImageNet's own, which weights of torchvision expect."""
    return standardise_channels(image, key)


TRANSFORMS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        *(shift, rotate, flip, transpose, noise, brightness_contrast, colour, invert),
        *(random_invert, photographs, crop, affine, blur, cutout, gamma, grey, rgb, standardise),
        *(standardise_channels, imagenet, colour_jitter, rand_augment, mask_tokens, sentence),
        *(time_shift, speed, gain, white_noise, log_mel, spec_augment),
    )
}


def transform(name: str | Callable[..., Array], **fields: Any) -> Bound:
    """A transform with its fields filled in, e.g. `transform("photographs", strength=0.5)`.

    Args:
      name: of `TRANSFORMS`, `package.module:function`, or a function `(image, key, *, held_out,
        ...)` itself.
      **fields: its parameters; those left out take their defaults.

    Raises:
      UserError: an unknown transform or parameter, or a value out of its kind or range.
    """
    return parse(({"name": name, **fields},), "transform")[0]


def parse(specs: Sequence[Mapping[str, Any]], field: str) -> tuple[Bound, ...]:
    """Reads transforms from a config, e.g. `(dict(name="shift", pixels=2), dict(name="invert"))`.

    `field` is where they were given, for error messages, which are those of `transform`.
    """
    if not isinstance(specs, Sequence) or isinstance(specs, str):
        raise wrong(field, specs, 'a list such as (dict(name="shift", pixels=2),)')
    call = dict(takes=("*", "key"), also=("held_out",), skip=("image", "key", "mask"))
    return tuple(named(spec, TRANSFORMS, f"{field}[{i}]", **call) for i, spec in enumerate(specs))


def _looked(transform: Bound, example: Any, key: Array, held_out: bool) -> Any:
    """An example through a transform, which gets its mask if it has a parameter for it."""
    return passed(reads_mask(transform.function), transform, example, key, held_out=held_out)


def alike(transforms: Sequence[Bound], inputs: Any) -> bool:
    """Whether an example looks the same whatever its key: no transform reads it.

    Args:
      transforms: see `apply`.
      inputs: one example or more, of which only the shape matters.
    """

    def chain(example: Any, keys: Array) -> Any:
        for i, transform in enumerate(transforms):
            example = _looked(transform, example, keys[i], False)
        return example

    example = as_float(inputs)[0]
    keys = [jax.random.key(0)] * len(transforms)
    traced = jax.make_jaxpr(chain)(example, keys).jaxpr
    unread = set(map(id, traced.invars[len(jax.tree.leaves(example)) :]))
    return not any(id(read) in unread for step in traced.eqns for read in step.invars)


def as_float(inputs: Any) -> Any:
    """Images of bytes as float32 in [0, 1], floats as float32; other integers as they are."""
    if isinstance(inputs, Masked):
        return dataclasses.replace(inputs, input=as_float(inputs.input))
    inputs = jnp.asarray(inputs)
    if inputs.dtype == jnp.uint8 and inputs.ndim == 4:
        return jnp.asarray(inputs, jnp.float32) / 255.0
    return inputs if jnp.issubdtype(inputs.dtype, jnp.integer) else inputs.astype(jnp.float32)


def apply(transforms: Sequence[Bound], inputs: Any, keys: Array, *, held_out: bool = False) -> Any:
    """Transforms a batch, every example by its own key.

    Args:
      transforms: from `parse`, their numbers possibly traced.
      inputs: `[batch, height, width, channels]` images, uint8 or float in [0, 1]; or inputs of
        another kind, `[batch, ...]`, and `Masked` ones.
      keys: `[batch]` typed keys; a transform sees its example's key folded with its position.
      held_out: whether transforms draw from the material kept for evaluation.

    Returns:
      `[batch, ...]` as the transforms leave it; images are float32, other integers stay integers.
    """
    inputs = as_float(inputs)

    if not transforms:
        return inputs

    def chain(example: Any, key: Array) -> Any:
        for position, transform in enumerate(transforms):
            example = _looked(transform, example, jax.random.fold_in(key, position), held_out)
        return example

    batch = keys.shape[0]  # a symbol in an export
    if jax.default_backend() != "cpu" or not isinstance(batch, int) or batch < 2:
        return jax.vmap(chain)(inputs, keys)
    # A loop over two halves, as XLA fuses no loop with what follows: on a CPU it would draw noise
    # again for every window that sees it, and an optimization barrier is gone before it fuses.
    return jax.lax.map(lambda pair: chain(*pair), (inputs, keys), batch_size=batch // 2)

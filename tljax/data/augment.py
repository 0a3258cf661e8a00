"""Transforms that make views of an image for self-supervised learning.

They follow the conventions of `transforms`, whose `TRANSFORMS` names them. At zero strength each
is the identity. None is a convolution, which XLA runs slowly inside loops on a CPU.
"""

import functools
from typing import Annotated

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.ndimage import map_coordinates

from tljax.checks import Degrees, NotNegative, Range, Share, Whole
from tljax.errors import wrong


def sample(image: Array, y: Array, x: Array, mode: str = "constant") -> Array:
    """The image at the places (y, x) in pixels, bilinear; beyond its border come zeros.

    Args:
      image: `[height, width, channels]`.
      y, x: `[rows, columns]`, the first pixel's centre being 0.
      mode: `nearest` repeats the border instead.

    Returns:
      `[rows, columns, channels]`.
    """
    look_up = functools.partial(map_coordinates, coordinates=[y, x], order=1, mode=mode)
    return jax.vmap(look_up, in_axes=-1, out_axes=-1)(image)


def crop(
    image: Array,
    key: Array,
    *,
    held_out: bool = False,
    min_scale: Annotated[float, Range(0.01, 1)] = 0.5,
) -> Array:
    """Enlarges a random window, of the image's own proportions, to the size of the image.

    The window's share of the area is uniform in [`min_scale`, 1], its place uniform within the
    image; bilinear. `min_scale` 1 is the identity.
    """
    share, *corner = jax.random.uniform(key, (3,))
    side = jnp.sqrt(1.0 - (1.0 - min_scale) * share)
    places = (
        (1.0 - side) * start * size + side * (jnp.arange(size) + 0.5) - 0.5
        for start, size in zip(corner, image.shape[:2], strict=True)
    )
    y, x = jnp.meshgrid(*places, indexing="ij")
    return sample(image, y, x, mode="nearest")


def affine(
    image: Array,
    key: Array,
    *,
    held_out: bool = False,
    degrees: Degrees = 10.0,
    scale: Annotated[float, Range(0, 0.9)] = 0.1,
    shear: NotNegative = 0.1,
    shift: Share = 0.1,
) -> Array:
    """Shears, enlarges, turns and moves the image in one bilinear resampling; zeros enter.

    A pixel at p from the centre goes to angle · gain · slant · p + offset, all four drawn
    uniformly.

    Args:
      image: `[height, width, channels]`.
      key: draws the five numbers.
      held_out: plays no part.
      degrees: the angle is within ±`degrees`, anticlockwise.
      scale: the gain is within 1 ± `scale`, below 2 in all.
      shear: rows are moved sideways by up to ±`shear` of their distance from the middle row.
      shift: the offset is within ±`shift` of the height and of the width.

    Returns:
      `[height, width, channels]`, in [0, 1].
    """
    turn, grow, slant, *move = jax.random.uniform(key, (5,), minval=-1.0)
    angle, gain = jnp.deg2rad(degrees) * turn, 1.0 + scale * grow
    y, x = jnp.mgrid[: image.shape[0], : image.shape[1]]
    middle_y, middle_x = ((size - 1) / 2 for size in image.shape[:2])
    y = y - middle_y - shift * image.shape[0] * move[0]
    x = x - middle_x - shift * image.shape[1] * move[1]
    # Each place of the outcome is asked where it comes from: the four steps undone, last first.
    cos, sin = jnp.cos(angle) / gain, jnp.sin(angle) / gain
    y, x = cos * y + sin * x, cos * x - sin * y
    return sample(image, middle_y + y, middle_x + x - shear * slant * y)


def blur(image: Array, key: Array, *, held_out: bool = False, sigma: NotNegative = 1.0) -> Array:
    """Smooths by a Gaussian whose deviation in pixels is uniform in [0, `sigma`].

    At the border the weights of what lies outside go to the rest.
    """
    # A deviation of 0.03 pixels is none: the next pixel's weight, exp(-556), is 0 in float32.
    deviation = jnp.maximum(sigma * jax.random.uniform(key), 0.03)

    def weights(size: int) -> Array:
        distance = jnp.arange(size)[:, None] - jnp.arange(size)[None, :]
        return jax.nn.softmax(-0.5 * (distance / deviation) ** 2, axis=-1)

    rows, columns = map(weights, image.shape[:2])
    smooth = functools.partial(jnp.einsum, precision="highest")  # a GPU's TF32 would coarsen it
    return smooth("ih,hwc->iwc", rows, smooth("jw,hwc->hjc", columns, image))


def cutout(image: Array, key: Array, *, held_out: bool = False, size: Whole = 4) -> Array:
    """Blackens a square of `size` pixels whose centre is anywhere in the image.

    Near the border part of the square falls outside (DeVries and Taylor 2017).
    """
    if size > max(image.shape[:2]):
        raise wrong("size", size, f"at most {max(image.shape[:2])}, the image's size")
    centre = jax.random.randint(key, (2,), 0, jnp.array(image.shape[:2]))
    row, column = (
        (jnp.arange(length) >= middle - size // 2) & (jnp.arange(length) < middle + (size + 1) // 2)
        for length, middle in zip(image.shape[:2], centre, strict=True)
    )
    return jnp.where((row[:, None] & column[None, :])[..., None], 0.0, image)


def gamma(
    image: Array, key: Array, *, held_out: bool = False, strength: NotNegative = 0.5
) -> Array:
    """image ** exp(u · `strength`), u uniform in ±1: mid tones lighter or darker, ends fixed."""
    exponent = jnp.exp(strength * jax.random.uniform(key, minval=-1.0))
    return jnp.clip(image, 0.0, 1.0) ** exponent

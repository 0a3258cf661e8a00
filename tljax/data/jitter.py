"""Transforms of colour, and RandAugment: what photographs are varied by in supervised training.

They follow the conventions of `transforms`, whose `TRANSFORMS` names them.
"""

from typing import Annotated

import jax
import jax.numpy as jnp
from jax import Array

from tljax.checks import Count, NotNegative, Range, Share
from tljax.data.augment import sample

Part = Annotated[float, Range(0, 0.5)]
Level = Annotated[float, Range(0, 30)]


def luma(image: Array) -> Array:
    """`[height, width, 1]`: by the weights of ITU-R BT.601 of three channels; one as it is."""
    if image.shape[-1] == 1:
        return image
    red, green, blue = jnp.split(image, 3, axis=-1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def blend(image: Array, other: Array, factor: Array) -> Array:
    """`factor` · image + (1 − `factor`) · other, clipped to [0, 1]; the image where it is 1."""
    return jnp.clip(factor * image + (1.0 - factor) * other, 0.0, 1.0)


def colour(
    image: Array,
    key: Array,
    *,
    held_out: bool = False,
    strength: Share = 0.5,
    offset: NotNegative = 0.0,
) -> Array:
    """Tints the image: for each channel a gain in 1 ± `strength` and an offset in ±`offset`.

    Both are uniform, and the result is clipped to [0, 1]. Black is tinted by the offset alone. A
    grey image has one channel to tint; `rgb` before it gives it three.
    """
    shape = (1, 1, image.shape[-1])
    gain = 1.0 + strength * jax.random.uniform(key, shape, minval=-1.0)
    added = offset * jax.random.uniform(jax.random.fold_in(key, 1), shape, minval=-1.0)
    return jnp.clip(gain * image + added, 0.0, 1.0)


def colour_jitter(
    image: Array,
    key: Array,
    *,
    held_out: bool = False,
    brightness: NotNegative = 0.4,
    contrast: NotNegative = 0.4,
    saturation: NotNegative = 0.4,
    hue: Part = 0.1,
) -> Array:
    """Brightness, contrast, saturation and hue at random, as torchvision has them, in this order.

    Args:
      image: `[height, width, 1 or 3]`; of one channel saturation and hue stay.
      key: draws the four.
      held_out: plays no part.
      brightness, contrast, saturation: x for a factor uniform in [max(0, 1 − x), 1 + x], with
        which the image is blended with black, with its mean grey, with its greys.
      hue: x for a turn uniform in ±x of the whole circle.

    Returns:
      `[height, width, channels]`, in [0, 1].
    """
    draws = jax.random.uniform(key, (4,))

    def factor(strength: Array | float, draw: Array) -> Array:
        least = jnp.maximum(0.0, 1.0 - strength)
        return least + (1.0 + strength - least) * draw

    image = blend(image, jnp.zeros(()), factor(brightness, draws[0]))
    image = blend(image, luma(image).mean(), factor(contrast, draws[1]))
    image = blend(image, luma(image), factor(saturation, draws[2]))
    return image if image.shape[-1] == 1 else _turned(image, hue * (2.0 * draws[3] - 1.0))


def _turned(image: Array, turn: Array) -> Array:
    """An image whose hues are turned by a part of the circle; HSV's value and saturation stay."""
    high, low = image.max(-1), image.min(-1)
    spread = high - low
    red, green, blue = jnp.moveaxis(image, -1, 0)
    safe = jnp.where(spread > 0, spread, 1.0)
    sector = jnp.where(
        high == red,
        (green - blue) / safe,
        jnp.where(high == green, 2.0 + (blue - red) / safe, 4.0 + (red - green) / safe),
    )
    hue = (sector / 6.0 + turn) * 6.0
    # Each channel of a hue is high − spread · max(0, min(k, 4 − k, 1)), k = (n + hue) mod 6.
    k = (jnp.array([5.0, 3.0, 1.0]).reshape(1, 1, 3) + hue[..., None]) % 6.0
    fall = jnp.clip(jnp.minimum(k, 4.0 - k), 0.0, 1.0)
    return jnp.where(turn == 0, image, high[..., None] - spread[..., None] * fall)


BLENDS = ("brightness", "contrast", "saturation", "sharpness")
OPS = (
    *("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate"),
    *BLENDS,
    *("posterize", "solarize", "auto_contrast"),
)


def rand_augment(
    image: Array,
    key: Array,
    *,
    held_out: bool = False,
    ops: Count = 2,
    magnitude: Level = 9.0,
) -> Array:
    """`ops` operations after one another, each drawn of `OPS`, of one `magnitude` of 30.

    Cubuk et al. 2020, with torchvision's ranges; without `equalize`, whose histogram is slow on an
    accelerator. Under `vmap` a choice costs all of its branches, so there is none: the operations
    are three families, a bilinear resampling, a blend and a curve of values, and one operation is
    all three with the others' parameters at rest. An operation thus costs one resampling and a few
    passes over the image, whichever it is. At magnitude 0 all are the identity but `auto_contrast`,
    which has none, and `solarize`, which then turns pure white.

    Args:
      image: `[height, width, 1 or 3]`.
      key: draws the operations, and signs.
      held_out: plays no part.
      ops: how many.
      magnitude: shears up to 0.3, moves by up to 150/331 of a side and turns up to 30°; blends by
        1 ± 0.9; keeps 8 to 4 bits of a value; inverts those above 1 to 0.

    Returns:
      `[height, width, channels]`, in [0, 1].
    """
    for place in range(ops):
        which, sign = jax.random.split(jax.random.fold_in(key, place))
        op = jax.random.randint(which, (), 0, len(OPS))
        level = magnitude / 30.0
        signed = jnp.where(jax.random.bernoulli(sign), level, -level)
        image = operation(image, op, level, signed)
    return image


def operation(image: Array, op: Array, level: Array | float, signed: Array) -> Array:
    """One of `OPS` by its number, of a level in [0, 1], `signed` where its direction is drawn."""

    def of(name: str, value: Array | float, rest: Array | float = 0.0) -> Array:
        return jnp.where(op == OPS.index(name), value, rest)

    rows, columns = image.shape[:2]
    angle, shear, move = jnp.deg2rad(30.0 * signed), 0.3 * signed, 150.0 / 331.0 * signed
    cos, sin = of("rotate", jnp.cos(angle), 1.0), of("rotate", jnp.sin(angle))
    y, x = jnp.mgrid[:rows, :columns]
    middle_y, middle_x = (rows - 1) / 2, (columns - 1) / 2
    y, x = y - middle_y, x - middle_x
    down = cos * y + (sin + of("shear_y", shear)) * x + of("translate_y", move * rows)
    right = cos * x + (of("shear_x", shear) - sin) * y + of("translate_x", move * columns)
    image = sample(image, middle_y + down, middle_x + right)

    greys, factor, other = luma(image), jnp.ones(()), jnp.zeros(())
    others = (jnp.zeros(()), greys.mean(), greys, _smoothed(image))
    for name, degenerate in zip(BLENDS, others, strict=True):
        factor, other = of(name, 1.0 + 0.9 * signed, factor), of(name, degenerate, other)
    image = blend(image, other, factor)

    step = 2.0 ** jnp.round(4.0 * level)
    coarse = jnp.floor(jnp.round(image * 255.0) / step) * step / 255.0
    image = of("posterize", coarse, image)
    image = jnp.where(image >= of("solarize", 1.0 - level, 2.0), 1.0 - image, image)
    low, high = image.min((0, 1), keepdims=True), image.max((0, 1), keepdims=True)
    stretched = (image - low) / jnp.where(high > low, high - low, 1.0)
    return of("auto_contrast", jnp.where(high > low, stretched, image), image)


def _smoothed(image: Array) -> Array:
    """The mean of 3 × 3 pixels, the middle one counting five times; the border stays (PIL's)."""
    rows, columns = image.shape[:2]
    if min(rows, columns) < 3:
        return image
    windows = (image[i : rows - 2 + i, j : columns - 2 + j] for i in range(3) for j in range(3))
    inner = image[1:-1, 1:-1]
    return image.at[1:-1, 1:-1].set((sum(windows, 4.0 * inner)) / 13.0)

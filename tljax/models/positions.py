"""Learned positions of one grid, for another."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Resize = Literal["smooth", "plain"]


def resized(table: Array, grid: tuple[int, int], resize: Resize) -> Array:
    """Positions of a square grid, bicubically interpolated for another, in float32.

    "smooth" is timm's: Keys' kernel with a = −½, widened where the grid becomes smaller. "plain" is
    torch's `interpolate(mode="bicubic")`, as DINOv2 and transformers have it: a = −¾, never
    widened. For DINOv2 (37 × 37) at 224 pixels (16 × 16) the two differ by some per cent.

    Args:
      table: `[1, side², width]`.
      grid: (rows, columns).
      resize: "smooth" or "plain".

    Returns:
      `[1, rows · columns, width]`.
    """
    side = math.isqrt(table.shape[1])
    if grid == (side, side):
        return table
    square = table.reshape(side, side, -1).astype("float32")
    if resize == "smooth":
        square = jax.image.resize(square, (*grid, square.shape[-1]), "cubic")
    else:
        rows, columns = (cubic(side, size) for size in grid)
        square = jnp.einsum("hi,wj,ijd->hwd", rows, columns, square)
    return square.reshape(1, -1, table.shape[-1]).astype(table.dtype)


def cubic(old: int, new: int) -> np.ndarray:
    """`[new, old]`: weights of old points in new ones, a = −¾, the ends repeated (Keys 1981)."""
    at, a = (np.arange(new) + 0.5) * old / new - 0.5, -0.75
    weights = np.zeros((new, old), np.float32)
    for offset in range(-1, 3):
        point = np.floor(at).astype(int) + offset
        d = np.abs(at - point)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        held = np.clip(point, 0, old - 1)
        np.add.at(weights, (np.arange(new), held), np.where(d <= 1, near, far))
    return weights

"""Float images in [0, 1], as networks and transforms take them: divided by a scale, or refused."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tljax.data.lazy import Lazy
from tljax.data.streams import check_finite
from tljax.data.table import Table
from tljax.errors import UserError, wrong

TOLERANCE = 1e-3  # of what resizing and rounding leave beyond the ends


def scaled(table: Table, scale: float | None, field: str) -> Table:
    """A table whose float images `[n, height, width, channels]` are divided by `scale`.

    Integer images are not touched, as transforms divide uint8 by 255 themselves, nor are inputs of
    another rank, which may hold any numbers.

    Args:
      table: of any inputs; those of lazy images are divided and checked as they are decoded.
      scale: above 0; None: images are in [0, 1] already.
      field: where the table was named, for error messages.

    Raises:
      UserError: images outside [0, 1] then, or a scale for inputs that are no float images.
    """
    images = table.input
    first, rank = (images.first, 3) if isinstance(images, Lazy) else (images, 4)
    if first.ndim != rank or not np.issubdtype(first.dtype, np.floating):
        if scale is not None:
            raise wrong(f"{field}.scale", scale, "None, as its inputs are no float images")
        return table
    divide = functools.partial(_divided, scale=scale, field=field)
    if isinstance(images, Lazy):
        decode = functools.partial(_decode_and_divide, decode=images.decode, divide=divide)
        return table.with_column("input", dataclasses.replace(images, decode=decode))
    check_finite(images, field)
    divided = divide(images)
    return table if divided is images else table.with_column("input", divided)


def _decode_and_divide(item: Any, decode: Callable, divide: Callable) -> np.ndarray:
    return divide(decode(item))


def _divided(images: np.ndarray, scale: float | None, field: str) -> np.ndarray:
    images = images if scale is None else images / np.float32(scale)
    low, high = images.min(initial=0), images.max(initial=0)
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        after = "" if scale is None else f" after division by {field}.scale={scale:g}"
        raise UserError(
            f"{field}: got float images from {low:g} to {high:g}{after}; expected them in [0, 1], "
            f"or in {field}.scale the number to divide them by, as 255.0"
        )
    return images

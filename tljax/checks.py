"""What host-side functions ask of their arrays; what does not fit is a `UserError` of one line."""

from typing import Any

import numpy as np

from tljax.errors import UserError, wrong


def shape(name: str, given: tuple[int, ...], expected: tuple[int | str, ...]) -> None:
    """Refuses a shape that differs from `expected`; a letter there stands for any length ≥ 1."""
    fits = len(given) == len(expected) and all(
        length >= 1 if isinstance(wanted, str) else length == wanted
        for length, wanted in zip(given, expected, strict=True)
    )
    if not fits:
        said = ", ".join(map(str, expected))
        raise UserError(f"{name}: got shape {list(given)}; expected [{said}]")


def numbers(name: str, value: Any, *expected: int | str) -> np.ndarray:
    """`value` as a float64 array of the expected shape, all of it finite."""
    array = np.asarray(value)
    shape(name, array.shape, expected)
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        first = np.argwhere(~np.isfinite(array))[0].tolist()
        raise UserError(f"{name}: got {array[tuple(first)]} at {first}; expected finite numbers")
    return array


def labels(name: str, value: Any, length: int | str, classes: int) -> np.ndarray:
    """`value` as an int64 vector of classes, each in [0, `classes`)."""
    array = np.asarray(value)
    shape(name, array.shape, (length,))
    if array.dtype.kind not in "iu":
        raise UserError(f"{name}: got {array.dtype} numbers; expected integers")
    outside = np.flatnonzero((array < 0) | (array >= classes))
    if len(outside):
        i = int(outside[0])
        raise UserError(f"{name}: got {array[i]} at [{i}]; expected classes in 0…{classes - 1}")
    return array.astype(np.int64)


def mask(name: str, value: Any, *expected: int | str) -> np.ndarray:
    """`value` as a Boolean array of the expected shape; 0 and 1 are not accepted for it."""
    array = np.asarray(value)
    shape(name, array.shape, expected)
    if array.dtype != bool:
        raise UserError(f"{name}: got {array.dtype} numbers; expected booleans")
    return array


def positive(name: str, value: Any) -> float:
    """`value` as a float, if it is a finite number above 0."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if isinstance(value, bool) or not 0 < number < np.inf:
        raise wrong(name, value, "a finite number above 0")
    return number


def count(name: str, value: Any, least: int, most: int, of: str) -> int:
    """`value` as an int, if it is an integer in [`least`, `most`]; `of` says what `most` counts."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise wrong(name, value, "an integer")
    if not least <= value <= most:
        raise wrong(name, value, f"an integer in {least}…{most} ({of})")
    return int(value)

"""What annotations cannot say of values; what does not fit is a `UserError` of one line."""

from typing import Any

import numpy as np

from tljax.errors import UserError, wrong


def finite(name: str, array: np.ndarray) -> None:
    """Refuses numbers that are not finite, by the first of them."""
    _all(name, array, np.isfinite(array), "finite numbers")


def within(name: str, labels: np.ndarray, classes: int) -> None:
    """Refuses labels that are no classes in [0, `classes`)."""
    _all(name, labels, (labels >= 0) & (labels < classes), f"classes in 0…{classes - 1}")


def bits(name: str, array: np.ndarray) -> None:
    """Refuses other numbers than 0 and 1."""
    _all(name, array, np.isin(array, (0, 1)), "0 and 1 only")


def _all(name: str, array: np.ndarray, right: np.ndarray, expected: str) -> None:
    if not right.all():
        first = np.argwhere(~right)[0].tolist()
        raise UserError(f"{name}: got {array[tuple(first)]} at {first}; expected {expected}")


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

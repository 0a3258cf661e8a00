"""What is asked of values; what does not fit is a `UserError` of one line."""

import dataclasses
from numbers import Integral, Real
from typing import Annotated, Any

import numpy as np

from tljax.errors import UserError, wrong

WIDEST = 1_000_000  # a layer; none of any use is wider, and few machines hold one
MOST = 2**31 - 1  # what an index of 32 bits holds


@dataclasses.dataclass(frozen=True)
class Range:
    """What a number may be, to stand in an annotation: `Annotated[float, Range(0, 1)]`.

    `ends` says as in mathematics whether `low` and `high` are numbers of the range. Real numbers
    are held against it as the step computes with them, in float32.
    """

    low: float = -np.inf
    high: float = np.inf
    ends: str = "[]"
    whole: bool = False

    def __str__(self) -> str:
        kind, start, end = "an integer" if self.whole else "a number", self.ends[0], self.ends[1]
        low, high = f"{self.low:.15g}", f"{self.high:.15g}"
        if self.high != (MOST if self.whole else np.inf):
            closed = f"from {low} to {high}"
            inner = closed if self.ends == "[]" else f"in {start}{low}, {high}{end}"
            return f"{kind} {inner}"
        kind = kind if self.whole else "a finite number"
        if self.low < -MOST:
            return kind
        return f"{kind} of at least {low}" if start == "[" else f"{kind} above {low}"

    def __get_pydantic_core_schema__(self, kind: Any, schema: Any) -> dict[str, Any]:
        """In a section of a config: after pydantic has seen that it is an int or a float."""
        check = {"type": "no-info", "function": lambda value: self.fit(value, "")}
        return {"type": "function-after", "function": check, "schema": schema(kind)}

    def told(self, value: Any) -> str:
        """The range, to someone who gave this value."""
        held = self.whole and isinstance(value, Integral) and abs(int(value)) > MOST
        return f"{self} that 32 bits hold" if held and self.high == MOST else str(self)

    def fit(self, value: Any, field: str) -> Any:
        """`value` as an int or a float of the range; raises `wrong` if it is none."""
        if isinstance(value, bool) or not isinstance(value, Integral if self.whole else Real):
            raise wrong(field, value, self.told(value))
        kind: Any = int if self.whole else _single
        number, low, high = (kind(x) for x in (value, self.low, self.high))
        above = low <= number if self.ends[0] == "[" else low < number
        below = number <= high if self.ends[1] == "]" else number < high
        if not (above and below and (self.whole or np.isfinite(number))):
            raise wrong(field, value, self.told(value))
        return number if self.whole else float(value)


def _single(number: Any) -> Any:
    """A number as float32, in which XLA takes the smallest of all for 0."""
    try:
        with np.errstate(over="ignore"):
            single = np.float32(float(number))
    except OverflowError:
        return np.float32(np.inf)
    return single if abs(single) >= np.finfo(np.float32).tiny or np.isnan(single) else np.float32(0)


Share = Annotated[float, Range(0, 1)]
Decay = Annotated[float, Range(0, 1, "[)")]
Positive = Annotated[float, Range(0, ends="(]")]
NotNegative = Annotated[float, Range(0)]
Degrees = Annotated[float, Range(0, 360)]
Count = Annotated[int, Range(1, MOST, whole=True)]
Whole = Annotated[int, Range(0, MOST, whole=True)]
Kernel = Annotated[int, Range(1, 31, whole=True)]  # pixels of a side
Width = Annotated[int, Range(1, WIDEST, whole=True)]
Outputs = Annotated[Any, Range(1, WIDEST, whole=True)]  # None: as many as a term asks for
REAL, INTEGER = Range(), Range(-MOST - 1, MOST, whole=True)  # where an annotation says nothing
NOT_NEGATIVE, SHARE = Range(0), Range(0, 1)


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

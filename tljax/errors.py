"""The one kind of error that a user's mistake raises: a single line, exit code 2."""

import contextlib
import difflib
import math
import os
from collections.abc import Iterable, Iterator
from numbers import Real
from typing import Any


class UserError(ValueError):
    """A mistake in a config, a file or a directory: one line, shown without a traceback.

    The line names the field, the value that was given, and what was expected.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(str(message).split()))


class Stopped(Exception):
    """A run was asked to stop by a signal, and its state has been saved."""

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal


def unknown(field: str, value: Any, choices: Iterable[str]) -> UserError:
    """The error for a name that is none of `choices`; it offers the nearest one.

    Args:
      field: where the name was given, e.g. `streams.source.data`.
      value: the name that was given.
      choices: the valid names.

    Returns:
      A `UserError`, to be raised by the caller.
    """
    choices = sorted(map(str, choices))
    near = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    expected = ", ".join(choices) if choices else "nothing (none is defined here)"
    return UserError(f"{field}: unknown name {value!r}; expected one of: {expected}.{hint}")


def wrong(field: str, value: Any, expected: str) -> UserError:
    """The error for a value that does not fit: `field: got value; expected …`."""
    return UserError(f"{field}: got {value!r}; expected {expected}")


@contextlib.contextmanager
def reading(
    field: str, path: str | os.PathLike, expected: str = "a file that can be read"
) -> Iterator[None]:
    """Within it an error of the system is a `UserError` of the field, the file and the reason."""
    try:
        yield
    except OSError as error:
        where = os.fsdecode(error.filename or path)
        raise wrong(field, where, f"{expected} ({error.strerror or error})") from None


def number(field: str, value: Any, expected: str = "a finite number of at least 0") -> float:
    """`value` as a float, if it is a finite number of at least 0; raises `wrong` otherwise."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise wrong(field, value, expected)
    if not 0 <= float(value) < math.inf:
        raise wrong(field, value, expected)
    return float(value)

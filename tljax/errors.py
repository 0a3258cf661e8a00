"""The one kind of error that a user's mistake raises: a single line, exit code 2."""

import contextlib
import difflib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

SHOWN = 300  # characters of a value in a line


class UserError(ValueError):
    """A mistake in a config, a file or a directory: one line, shown without a traceback.

    The line names the field, the value that was given, and what was expected.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(str(message).split()))


class Unsized(UserError):
    """A head whose number of outputs nothing has told yet."""


class Noticed(UserWarning):
    """What a user should know of and nothing else says: a line, shown as our errors are."""


def warn(message: str) -> None:
    """Says a line without stopping anything."""
    warnings.warn(" ".join(message.split()), Noticed, stacklevel=3)


class Stopped(Exception):
    """A run was asked to stop by a signal, and its state has been saved."""

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal


def failure(field: str, error: Exception) -> dict[str, str]:
    """`{"failed": "field: why"}`, in one line: what stands in the place of what was not reached."""
    reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    begins = "" if reason.startswith(field) else f"{field}: "
    return {"failed": " ".join(f"{begins}{reason}".split())}


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
    near = difflib.get_close_matches(
        value if isinstance(value, str) else "", choices, n=1, cutoff=0.5
    )
    hint = f" Did you mean {near[0]!r}?" if near else ""
    expected = ", ".join(choices) if choices else "nothing (none is defined here)"
    return UserError(f"{field}: unknown name {shown(value)}; expected one of: {expected}.{hint}")


def wrong(field: str, value: Any, expected: str, kind: type[UserError] = UserError) -> UserError:
    """The error for a value that does not fit: `field: got value; expected …`."""
    return kind(f"{field}: got {shown(value)}; expected {expected}")


def shown(value: Any) -> str:
    """A value as a line shows it: its repr, cut where it is long."""
    try:
        text = repr(value)
    except Exception:  # an integer of thousands of digits, an object with a fault of its own
        text = f"<{type(value).__name__}>"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


@contextlib.contextmanager
def calling(field: str) -> Iterator[None]:
    """Within it whatever goes wrong is a mistake of one line, named after `field`.

    For calls of functions that a user may have given: the exception is the cause of the line's.
    """
    try:
        yield
    except UserError as error:
        if not str(error).startswith(field):
            error.args = (f"{field}: {error}",)
        raise
    except Exception as error:
        raise UserError(f"{field}: {type(error).__name__}: {error}") from error


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


class Named(dict):
    """A dictionary whose missing keys are a user's mistake."""

    def __init__(self, values: Mapping[str, Any], explain: Callable[[str, Any], Exception]):
        super().__init__(values)
        self.explain = explain

    def __missing__(self, key: str) -> Any:
        raise self.explain(key, self)


def absent(kind: str) -> Callable[[str, Any], Exception]:
    """What explains a key that is missing among things of a kind."""
    return lambda key, known: unknown(kind, key, known)

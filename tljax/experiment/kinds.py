"""The kinds of fields: their types, what they say that they take, and how they are refused."""

from typing import Annotated, Any, Literal, get_args, get_origin

import pydantic
from pydantic import BeforeValidator, Field

from tljax.checks import Range


class Expected(str):
    """What a refusal says that a field takes."""


def _no_flag(value: Any) -> Any:
    if isinstance(value, bool):  # which is equal to 1
        raise ValueError("a flag")
    return value


def as_tuple(value: Any) -> Any:
    """A list as a tuple; anything else as it is."""
    return tuple(value) if isinstance(value, list) else value


def _pairs(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError("not a list")
    for pair in value:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ValueError("not pairs")
    return tuple((pattern, setting) for pattern, setting in value)


Channels = Annotated[Literal[1, 3], BeforeValidator(_no_flag), Expected("1 or 3")]
Workers = Annotated[int, Range(0, 256, whole=True)]
Dispatch = Annotated[int, Range(1, 10_000, whole=True)]
Size = Annotated[int, Range(1, 4096, whole=True)]
Seed = Annotated[int, Range(0, 2**32 - 1, whole=True)]
Flag = Annotated[bool, Expected("True or False")]
Text = Annotated[str, Expected("a string")]
Names = Annotated[tuple[str, ...], BeforeValidator(as_tuple), Expected("a list of names")]
Classes = Annotated[
    tuple[str | int, ...],
    BeforeValidator(as_tuple),
    Expected("a list of names or numbers of classes, at least one, or None"),
]
Rules = Annotated[
    tuple[tuple[str, Any], ...], BeforeValidator(_pairs), Expected("pairs ((pattern, value), ...)")
]
Section = Annotated[dict[str, Any], Expected("dict(...)")]
Sections = Annotated[dict[str, Any], Expected("dict(...) by name")]
Specs = Annotated[
    tuple[Any, ...], BeforeValidator(as_tuple), Expected("a list of dict(name=..., ...)")
]


def doc(default: Any, text: str) -> Any:
    """A field with its default and its meaning."""
    if isinstance(default, dict):
        return Field(default_factory=lambda: dict(default), description=text)
    return Field(default, description=text)


class Fields(pydantic.BaseModel):
    """A section of a config."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


def inner(annotation: Any) -> Any:
    """The section that a field holds, in a tuple if it holds several by name; else None."""
    if isinstance(annotation, type) and issubclass(annotation, Fields):
        return annotation
    for part in get_args(annotation):
        if isinstance(part, type) and issubclass(part, Fields):
            return (part,)
    return None


def expected(info: Any, value: Any = None) -> str:
    """What a field takes, in words, to someone who gave `value`."""
    kinds = (Expected, Range)
    found = [item for item in info.metadata if isinstance(item, kinds)]
    named = [choice for choice in choices(info.annotation) if choice]
    for part in get_args(info.annotation):
        found += [item for item in getattr(part, "__metadata__", ()) if isinstance(item, kinds)]
    optional = type(None) in get_args(info.annotation)
    if found:
        words = found[0].told(value) if isinstance(found[0], Range) else str(found[0])
    else:
        words = " or ".join(map(str, named)) or "dict(...)"
    return f"{words}, or None" if optional and "None" not in words else words


def choices(annotation: Any) -> list[Any]:
    """The values of a Literal, also of one that may be None."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [choice for part in get_args(annotation) for choice in choices(part)]

"""The points of a sweep: values of fields, every combination of them, and the runs they make."""

import ast
import hashlib
import itertools
import json
import os
import runpy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tljax.errors import UserError, wrong
from tljax.experiment.check import Checked, change, check, literal
from tljax.experiment.fields import CACHES, Config, ConfigFields, plain

Point = Mapping[str, Any]  # path of a field, "terms.domain.weight" -> value


class Member(NamedTuple):
    """One run of a sweep."""

    name: str  # of its directory; the same for the same resolved config, wherever its caches are
    point: Point
    config: Checked


def parse(over: Sequence[str]) -> list[Point]:
    """The grid of `PATH=VALUES` arguments: every combination of their values.

    Values are Python literals with commas between them, or `range(...)`; what is no literal is a
    string: `terms.domain.weight=0,0.1,1`, `seed=range(10)`, `optimizer.name=sgd,adam`.

    Raises:
      UserError: an argument without values, or a path that is given twice.
    """
    fields: dict[str, list[Any]] = {}
    for argument in over:
        path, equals, text = argument.partition("=")
        if not equals or not path or not text.strip():
            raise wrong("--over", argument, "PATH=VALUES, as terms.domain.weight=0,0.1,1")
        if path in fields:
            raise wrong("--over", argument, f"each field once; {path!r} is given twice")
        fields[path] = values(text, argument)
    return [
        dict(zip(fields, values, strict=True)) for values in itertools.product(*fields.values())
    ]


def values(text: str, argument: str) -> list[Any]:
    """What stands after the `=` of an argument, or in the brackets of a distribution."""
    text = text.strip()
    if text.startswith("range(") and text.endswith(")"):
        try:
            bounds = ast.literal_eval(f"({text[6:-1]},)")
            return list(range(*bounds))
        except (ValueError, SyntaxError, TypeError):
            raise wrong("--over", argument, "range(stop) or range(start, stop[, step])") from None
    try:
        listed = ast.literal_eval(f"[{text}]")
    except (ValueError, SyntaxError):
        listed = [literal(part) for part in text.split(",")]
    if not listed:
        raise wrong("--over", argument, "at least one value")
    return listed


def own(path: str | os.PathLike) -> list[Point]:
    """The points that a config file's own `sweep()` yields.

    Raises:
      UserError: a file without it.
    """
    scope = runpy.run_path(str(path))
    if "sweep" not in scope:
        raise wrong("--over", None, f"PATH=VALUES, or a sweep() in {path} that yields overrides")
    return [dict(point) for point in scope["sweep"]()]


def members(config: Config, points: Iterable[Point]) -> list[Member]:
    """The runs of a sweep, each once.

    Raises:
      UserError: a field that is not there, or a value of another kind than it has.
    """
    by_name: dict[str, Member] = {}
    unchanged = plain(config)
    usual = {field: ConfigFields.model_fields[field].default for field in CACHES}
    for point in points:
        changed = unchanged
        for path, value in point.items():
            changed = change(changed, path, value, "--over")
        try:
            checked = check(changed)
        except UserError as error:
            raise UserError(f"--over {dict(point)}: {error}") from None
        text = json.dumps(checked.plain | usual, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:12]
        by_name.setdefault(name, Member(name, dict(point), checked))
    if not by_name:
        raise wrong("--over", [], "at least one field to change, as seed=range(5)")
    return list(by_name.values())

"""What a source of data is understood as: `tljax data --data folder:DIR`."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as Drawn

from tljax.data import pictures
from tljax.data.formats import Rows
from tljax.data.lazy import Lazy
from tljax.data.sources import opened
from tljax.errors import UserError, unknown

LOOKED = 1000  # picture files of a split, evenly spaced, whose headers are read


def describe(data: str, split: str = "", root: str | None = None) -> dict[str, Any]:
    """The splits of a source, and what of it was skipped.

    Args:
      data: a source as in a config.
      split: one of its splits; "": all.
      root: the directory that relative paths start from.

    Returns:
      `splits`: name -> `examples`, `inputs` (their shapes or sizes and types, by how many have
      them), `labels` (class -> how many, or which columns there are instead), or `refused`, why it
      cannot be opened. `skipped`: path -> why.

    Raises:
      UserError: a source that is not there or not understood, or a split that is not.
    """
    request, splits = opened(data, "--data", root=root, limit_bytes=math.inf)
    if split and split not in splits:
        raise unknown("--split", split, splits)
    found = {name: _split(splits[name]) for name in ([split] if split else splits)}
    return {"splits": found, "skipped": dict(request.skipped)}


def _split(open_rows: Any) -> dict[str, Any]:
    try:
        rows: Rows = open_rows()
        table, labels = rows.table, rows.table.label
        if rows.label is not None:
            labels = rows.label[np.arange(len(table))]
        return {
            "examples": len(table),
            "inputs": _inputs(table.input),
            "labels": _labels(table, labels, rows.bare),
        }
    except UserError as error:
        return {"refused": str(error)}


def _inputs(inputs: Any) -> dict[str, int]:
    """How the inputs are kept -> how many are."""
    if not isinstance(inputs, Lazy):
        kept = f"{inputs.dtype} {' × '.join(map(str, inputs.shape[1:])) or 'number'}"
        return {kept: len(inputs)}
    if not isinstance(inputs.items[0], str):
        return {f"{inputs.first.dtype} {' × '.join(map(str, inputs.first.shape))}": len(inputs)}
    chosen = np.linspace(0, len(inputs) - 1, min(len(inputs), LOOKED)).astype(int)
    counts: Counter[str] = Counter()
    for place in chosen:
        try:
            (width, height), mode = pictures.header(inputs.items[place], "--data")
            counts[f"{width} × {height} pixels, {mode}"] += 1
        except UserError as error:
            counts[str(error)] += 1
    return dict(counts.most_common())


def _labels(table: Any, labels: Any, bare: str) -> dict[str, Any]:
    if labels is not None:
        counts = np.bincount(np.asarray(labels), minlength=len(table.classes))
        return {name: int(count) for name, count in zip(table.classes, counts, strict=True)}
    others = [name for name in table.columns if name not in ("input", "mask")]
    return {name: list(table.columns[name].shape) for name in others} or {"none": bare}


def show(data: str, split: str = "", root: str | None = None) -> None:
    """Prints what `describe` finds."""
    console, found = Console(highlight=False), describe(data, split, root)
    drawn = Drawn("split", "examples", "inputs", "labels", title=data)
    for name, each in found["splits"].items():
        if "refused" in each:
            drawn.add_row(name, "", "refused", each["refused"])
            continue
        drawn.add_row(
            name, f"{each['examples']:,}", _listed(each["inputs"]), _listed(each["labels"])
        )
    console.print(drawn)
    for path, why in sorted(found["skipped"].items()):
        console.print(f"skipped {path}: {why}", markup=False, soft_wrap=True)
    console.print(f"{len(found['skipped'])} skipped")


def _listed(counts: Mapping[str, Any], most: int = 12) -> str:
    lines = [f"{name}: {count}" if count != "" else name for name, count in counts.items()]
    more = [f"and {len(lines) - most} more"] if len(lines) > most else []
    return "\n".join([*lines[:most], *more])

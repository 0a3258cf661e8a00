"""Data that is at hand rather than named, and what tells the examples of a split apart."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tljax.data import pictures, sound
from tljax.data.formats import Request, Rows, Splits
from tljax.data.lazy import Lazy
from tljax.data.table import Table
from tljax.data.texts import is_text
from tljax.errors import wrong


def at_hand(data: Any, request: Request) -> tuple[Request, Splits]:
    """A table, an array or a list of files of pictures, or of sounds, as a source of one split."""
    if sound.is_sound(data):
        waves, mask = sound.files([str(Path(request.root or "", p)) for p in data], request)
        table = Table(input=waves, mask=mask, field=request.field)
        return request, {"train": lambda: Rows(table, image=False, sound=True)}
    if isinstance(data, list) and data and all(isinstance(p, str | os.PathLike) for p in data):
        images = pictures.files([str(Path(request.root or "", p)) for p in data], request)
        table = Table(input=images, field=request.field)
    elif isinstance(data, Table):
        table = data
    elif hasattr(data, "dtype"):
        table = Table(input=np.asarray(data), field=request.field)
    else:
        files = "a list of files of pictures or sounds"
        expected = f"a source such as 'folder:DIR', an array, a table or {files}"
        raise wrong(request.field, data, expected)
    return request, {
        "train": lambda: Rows(table, image=not is_text(table) and len(table.kind) == 4)
    }


def strata(
    request: Request, held: Mapping[str, Rows], name: str
) -> tuple[np.ndarray, Sequence[str]]:
    """The class of each example of a split, 0 where there are none; and the name of each: its path
    below the data's directory, or its number."""
    rows, table = held[name], held[name].table
    label = table.label if rows.label is None else rows.label[np.arange(len(table))]
    items = table.input.items if isinstance(table.input, Lazy) else ()
    if len(items) and isinstance(items[0], str):
        names = [os.path.relpath(item, request.path) for item in items]
    else:
        names = list(map(str, range(len(table))))
    return np.zeros(len(table), int) if label is None else np.asarray(label), names

"""What a source holds, in lines to read: `tljax data --data folder:DIR`."""

import collections
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from tljax.data import pictures, sound
from tljax.data.folders import QUIET
from tljax.data.formats import Request, Rows
from tljax.data.lazy import Lazy
from tljax.data.sources import opened
from tljax.data.texts import Words
from tljax.errors import UserError, unknown

SAMPLE = 1000  # pictures of a split that are opened for their sizes and modes
SHOWN = 20  # names of skipped files, a reason


def lines(data: str, split: str = "", root: str | None = None) -> Iterator[str]:
    """What was understood of a source: splits, classes, counts, sizes, modes, what was skipped.

    Args:
      data: as `tljax.data.load` takes it.
      split: this alone; all, if left out.
      root: the directory that relative paths start from.

    Raises:
      UserError: a source that cannot be read; of one split that cannot, its line says so.
    """
    request, splits = opened(data, "data", root=root, limit_bytes=0)
    if split and split not in splits:
        raise unknown("split", split, splits)
    for name in [split] if split else [name for name in splits if name not in request.aside]:
        try:
            yield from _of_split(name, splits[name](), request)
        except UserError as error:
            if split:
                raise
            yield f"{name}: cannot be opened: {error}"
    reasons = collections.defaultdict(list)
    for path, why in sorted(request.skipped.items(), key=lambda item: item[1].startswith(QUIET)):
        reasons[why].append(path)
    for why, paths in reasons.items():
        more = [f"and {len(paths) - SHOWN} more"] if len(paths) > SHOWN else []
        yield f"skipped: {len(paths)}, {why}: {', '.join([*map(repr, paths[:SHOWN]), *more])}"


def _of_split(name: str, rows: Rows, request: Request) -> Iterator[str]:
    table = rows.table
    label = table.label if rows.label is None else rows.label[np.arange(len(table))]
    columns = [*table.columns, *(["label"] if rows.label is not None else [])]
    bare = f" ({rows.bare})" if rows.bare else ""
    yield f"{name}: {len(table)} examples of {', '.join(columns)}{bare}"
    if rows.sound:
        for told in sound.described(table.input.items, rows.about, request.field):
            yield f"  {told}"
    for line, counted in {} if rows.sound else _inputs(table.input, request).items():
        yield f"  {line}: {counted}"
    if label is not None:
        counts = np.bincount(np.asarray(label), minlength=len(table.classes))
        yield f"  classes: {len(table.classes)}"
        for each, count in zip(table.classes, counts, strict=True):
            yield f"    {each}: {count}".encode(errors="backslashreplace").decode()


def _inputs(inputs: Any, request: Request) -> dict[str, str]:
    """The sizes and modes of pictures, most frequent first; else the shape and type of inputs."""
    if isinstance(inputs, Lazy) and isinstance(inputs.items[0], Words):
        longest = max(len(text) for words in inputs.items for text in words if text is not None)
        texts = "pairs of texts" if inputs.items[0].pair is not None else "texts"
        return {texts: f"of at most {longest} characters"}
    if not isinstance(inputs, Lazy) or not isinstance(inputs.items[0], str | pictures.Member):
        one = inputs[0] if isinstance(inputs, Lazy) else np.asarray(inputs[:1])[0]
        return {"shape": str(list(one.shape)), "type": str(one.dtype)}
    step = -(-len(inputs) // SAMPLE)
    headers, damaged = [], []
    for path in itertools.islice(inputs.items, 0, None, step):
        try:
            headers.append(pictures.header(path, request.field))
        except UserError as error:
            damaged.append(str(error))
    of = f" of {len(headers)} of them" if step > 1 else ""
    sizes = collections.Counter(f"{width} x {height}" for (width, height), _ in headers)
    modes = collections.Counter(mode for _, mode in headers)
    shown = {f"sizes{of}": _counted(sizes), f"modes{of}": _counted(modes)}
    return shown | ({f"damaged, {len(damaged)}": damaged[0]} if damaged else {})


def _counted(counts: collections.Counter) -> str:
    shown = ", ".join(f"{name} ({count})" for name, count in counts.most_common(5))
    return shown + (f" and {len(counts) - 5} more" if len(counts) > 5 else "")

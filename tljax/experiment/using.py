"""Tables of what a trained model says of new data: predictions and features, batch by batch."""

import contextlib
import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tljax.data.formats import in_order
from tljax.data.lazy import Lazy
from tljax.data.table import Table
from tljax.data.tokens import Encoded
from tljax.errors import UserError, reading, wrong
from tljax.experiment.check import check
from tljax.experiment.model import BLIND, Model, load
from tljax.experiment.opening import elsewhere
from tljax.phase.scoring import Split
from tljax.train.records import Display


def predict(
    run: str | os.PathLike,
    data: Any,
    out: str | os.PathLike = "",
    *,
    split: str = "all",
    like: str = "",
    top: int | None = None,
    force: bool = False,
    display: Display | None = None,
    **fields: Any,
) -> int:
    """Writes what a run says of data: a line an example, in their order.

    A line of CSV holds `path` (`index` where the inputs are no files), the `predicted` class, its
    `confidence`, then the probability of every class by its name; of the `top` most probable ones
    alone, `class_2`, `probability_2` and so on. A line of JSON holds them as `probabilities`.
    Where an example may have several classes, those of at least ½ are `predicted`; where a value is
    predicted, `value` (or `value_0`, …) is all there is, and where a span is, `start` and `end` in
    characters, and `span`, what stands there. Texts are written after their `index`.

    Args:
      run: its directory, or that of a member of a sweep.
      data: see `Model`.
      out: a `.csv` or `.jsonl` file; "": CSV on standard output.
      split: of the data.
      like: see `load`.
      top: how many classes are written; None: all.
      force: whether a file that is there is replaced.
      display: where progress is shown; nowhere if left out.
      **fields: of an evaluation, that differ from those of `like`.

    Returns:
      How many examples there were.

    Raises:
      UserError: no such run, data that do not fit, a file that is there.
    """
    suffix = checked(out, (".csv", ".jsonl"), force) if out else ".csv"
    model, table = _streaming(run, like), BLIND | {"split": split} | fields
    judged = model.split(data, **table)
    rows = _predictions(model, judged, top, display or Display(quiet=True))
    with written(out) as file:
        (_write_csv if suffix == ".csv" else _write_lines)(file, rows)
    return len(judged.table)


def features(
    run: str | os.PathLike,
    data: Any,
    out: str | os.PathLike,
    *,
    split: str = "all",
    like: str = "",
    force: bool = False,
    display: Display | None = None,
    **fields: Any,
) -> int:
    """Writes the trunk's features of data, `[n, features]`, with paths and labels, if any.

    An `.npz` holds `input`, the features; `path`, where inputs are files; `label` and `classes`:
    so it is data again, `npz:FILE`. A `.csv` holds `path` or `index`, `label`, then the numbers.
    Arguments are those of `predict`.
    """
    suffix = checked(out, (".npz", ".csv"), force)
    model, chosen = _streaming(run, like), {"head": "", "readout": "logits", "split": split}
    judged = model.split(data, **BLIND | chosen | fields)
    table, labels = judged.table, _labels(model, data, BLIND | chosen | fields)
    paths, batches = _paths(table), _shown(model, judged, display or Display(quiet=True))
    if suffix == ".csv":
        with written(out) as file:
            _write_csv(file, _feature_rows(paths, labels, (z for _, z in batches)))
        return len(table)
    arrays: dict[str, Any] = {"input": np.concatenate([z for _, z in batches])}
    arrays |= {"path": np.array(paths)} if paths else {}
    if labels is not None:
        numbers = {name: i for i, name in enumerate(in_order(set(labels)))}
        arrays["label"] = np.array([numbers[name] for name in labels], np.int32)
        arrays["classes"] = np.array(list(numbers))
    with written(out, "wb") as file:
        np.savez(file, **arrays)
    return len(table)


def checked(out: str | os.PathLike, suffixes: Sequence[str], force: bool) -> str:
    """The suffix of a file to be written, if it may be."""
    suffix = Path(out).suffix.lower()
    if suffix not in suffixes:
        raise wrong("--out", str(out), f"a file that ends in {' or '.join(suffixes)}")
    if Path(out).exists() and not force:
        raise wrong("--out", str(out), "a file that is not there yet, or --force to replace it")
    return suffix


@contextlib.contextmanager
def written(out: str | os.PathLike, mode: str = "w") -> Iterator[Any]:
    """A file that is there when it is whole; "": standard output."""
    if not out:
        yield sys.stdout
        return
    partial = Path(f"{out}.{os.getpid()}.partial")
    text = {} if "b" in mode else dict(newline="", encoding="utf-8", errors="surrogateescape")
    try:
        with reading("--out", out, "a file that can be written"):
            file: Any = open(partial, mode, **text)  # type: ignore[call-overload]
        with file:
            yield file
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _streaming(run: str | os.PathLike, like: str) -> Model:
    """A run's model, that keeps no more of what it is shown than a batch."""
    model = load(run, like=like)
    return model._replace(config=check({**model.config.plain, "resident_megabytes": 0.0}))


def _shown(model: Model, split: Split, display: Display) -> Iterator[tuple[Any, Any]]:
    """The batches of a split, and how many have passed."""
    display.begin(split.name, len(split.table), 0, "examples")
    done = 0
    try:
        for logits, features in model.batches(split):
            yield logits, features
            done += len(features)
            display.advance(done)
    finally:
        display.end()


def _paths(table: Table) -> list[str]:
    """The files that a table's inputs are, if they are."""
    items = table.input.items if isinstance(table.input, Lazy) else ()
    return list(items) if len(items) and isinstance(items[0], str) else []


def _labels(model: Model, data: Any, fields: dict[str, Any]) -> list[str] | None:
    """The names of the classes of data, where they are known; in no relation to the run's."""
    config = model.changed(**fields | {"labelled": True}).config
    try:
        table = elsewhere(config, model.like, data, ()).table
    except UserError:
        return None
    if table.label is None:
        return None
    return [table.classes[number] for number in np.asarray(table.label)]


def _predictions(
    model: Model, split: Split, top: int | None, display: Display
) -> Iterator[dict[str, Any]]:
    """A row an example."""
    paths, kind, at = _paths(split.table), model.kind(split), 0
    for logits, _ in _shown(model, split, display):
        shares = model.read(split, logits, at).reshape(len(logits), -1)
        names = model.names(split, shares.shape[-1])
        for row in shares:
            where: dict[str, Any] = {"path": paths[at]} if paths else {"index": at}
            item = split.table.input.items[at] if isinstance(split.table.input, Lazy) else None
            if isinstance(item, Encoded):
                where |= {n: x for n, x in zip(COLUMNS, item.words, strict=True) if x is not None}
            if kind == "span":
                yield where | _span(int(row[0]), int(row[1]), item)
            else:
                yield where | _predicted([round(float(x), 6) for x in row], names, kind, top)
            at += 1


COLUMNS = ("text", "text_pair")


def _span(first: int, last: int, item: Any) -> dict[str, Any]:
    """A span of characters, of a text; of places otherwise."""
    if not isinstance(item, Encoded):
        return {"first": first, "last": last}
    start, end = item.characters(first, last)
    return {"start": start, "end": end, "span": item.words.last[start:end]}


def _predicted(
    row: list[float], names: Sequence[str], kind: str, top: int | None
) -> dict[str, Any]:
    if kind == "value":
        return {"value": row[0]} if len(row) == 1 else {f"value_{i}": x for i, x in enumerate(row)}
    order = sorted(range(len(row)), key=lambda i: -row[i])
    first: dict[str, Any] = {"predicted": names[order[0]], "confidence": row[order[0]]}
    if kind == "labels":
        first = {"predicted": [name for name, x in zip(names, row, strict=True) if x >= 0.5]}
    shown = range(len(row)) if top is None else order[:top]
    return first | {"probabilities": {names[i]: row[i] for i in shown}, "top": top is not None}


def _write_csv(file: Any, rows: Iterable[dict[str, Any]]) -> None:
    writer, begun = csv.writer(file, lineterminator="\n"), False
    for row in rows:
        shares, top = row.pop("probabilities", {}), row.pop("top", False)
        cells = {k: ";".join(v) if isinstance(v, list) else v for k, v in row.items()}
        pairs = list(shares.items())
        if top:
            ranked = list(enumerate(pairs, 1))["confidence" in row :]
            pairs = [
                p for i, (n, x) in ranked for p in ((f"class_{i}", n), (f"probability_{i}", x))
            ]
        if not begun:
            writer.writerow([*cells, *(name for name, _ in pairs)])
        begun = True
        writer.writerow([*cells.values(), *(value for _, value in pairs)])


def _write_lines(file: Any, rows: Iterable[dict[str, Any]]) -> None:
    for row in rows:
        row.pop("top", None)
        file.write(json.dumps(row) + "\n")


def _feature_rows(
    paths: Sequence[str], labels: Sequence[str] | None, batches: Iterable[np.ndarray]
) -> Iterator[dict[str, Any]]:
    at = 0
    for batch in batches:
        for row in batch:
            where: dict[str, Any] = {"path": paths[at]} if paths else {"index": at}
            where |= {} if labels is None else {"label": labels[at]}
            yield where | {f"feature_{i}": float(x) for i, x in enumerate(row)}
            at += 1

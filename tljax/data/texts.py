"""Sentences and pairs of them in JSON lines, CSV, TSV or plain text: `text:FILE`, `text:DIR`.

A table of texts has `Words` in the place of inputs; `tokens.tokenised` makes numbers of them.
"""

import csv
import difflib
import functools
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tljax.data.formats import Request, Rows, Splits, check_file, in_order
from tljax.data.lazy import Lazy
from tljax.data.table import Table
from tljax.errors import UserError, reading, wrong

Record = Mapping[str, Any]
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt")
# Columns that hold texts, as GLUE, SQuAD and other sets name them; of a file the first that fits.
# A span is in the second text, where there are two.
PAIRS = (
    *(("question", "context"), ("question", "sentence"), ("question1", "question2")),
    *(("sentence1", "sentence2"), ("premise", "hypothesis"), ("text", "text_pair")),
)
SINGLE = ("text", "sentence")
NUMBERS = ("value", "score")


class Words(NamedTuple):
    """A text or two that are read as one input."""

    text: str
    pair: str | None = None

    @property
    def last(self) -> str:
        """The text that a span is in."""
        return self.text if self.pair is None else self.pair


def is_text(table: Table) -> bool:
    """Whether a table's inputs are texts, not yet tokens."""
    images = table.input
    return isinstance(images, Lazy) and isinstance(images.items[0], Words)


def of_list(texts: Sequence[str | tuple[str, str]], field: str) -> Table:
    """A table of texts at hand, or of pairs of them."""
    words = [Words(each) if isinstance(each, str) else Words(*each) for each in texts]
    return Table(input=Lazy(_untold, words, field), field=field)


def read_text(request: Request) -> Splits:
    """Texts, a line or a row each: FILE is the split `train`; of DIR every file is one, by name.

    Columns are those of `PAIRS` and `SINGLE`; `label` of names or numbers, of which −1 throughout
    says that there are none; `value` or `score`, or a `label` that has fractions, are values;
    `start` and `end`, or SQuAD's `answers`, say from which character up to which a span goes. All
    others are columns to choose by. Classes are the same for every split.
    """
    path = request.path
    files = {"train": path}
    if path.is_dir():
        listed = sorted(each for each in path.iterdir() if each.suffix.lower() in SUFFIXES)
        files = {each.stem: each for each in listed}
        if len(files) < len(listed):
            twice = next(each for each in listed if files[each.stem] != each)
            expected = f"one file of a split, not {files[twice.stem].name!r} beside it"
            raise wrong(request.field, str(twice), expected)
        others = [str(each) for each in path.iterdir() if each not in listed]
        request.skip(others, f"not one of {', '.join(SUFFIXES)}")
        if not files:
            expected = f"a directory of train{SUFFIXES[0]} and the like: {', '.join(SUFFIXES)}"
            raise wrong(request.field, str(path), expected)
    read = {name: functools.cache(functools.partial(_read, request, files[name])) for name in files}
    return splits_of(read, request)


def splits_of(
    read: Mapping[str, Callable[[], Sequence[Record]]],
    request: Request,
    classes: tuple[str, ...] = (),
) -> Splits:
    """Splits of records, name -> value, each read when it is opened; of labels that are `classes`,
    or, where these are not known, what labels there are in any."""

    def rows(name: str) -> Rows:
        names: tuple[str, ...] = ()
        if "label" in request.targets and names_of(read[name]()):
            of_splits = () if classes else (names_of(each()) for each in read.values())
            names = classes or in_order({label for labels in of_splits for label in labels})
        return _rows(read[name](), names, name, request)

    return {name: functools.partial(rows, name) for name in read}


def _read(request: Request, path: Path) -> list[Record]:
    """The records of a file."""
    field, suffix = request.field, path.suffix.lower()
    check_file(path, field, f"an existing file, one of {', '.join(SUFFIXES)}, or a directory")
    if suffix not in SUFFIXES:
        raise wrong(field, str(path), f"a file that ends in one of {', '.join(SUFFIXES)}")
    try:
        with reading(field, path):
            text = path.read_text("utf-8-sig")
        if suffix == ".txt":
            lines = text.removesuffix("\n").split("\n")
            records: list[Any] = [{"text": line.removesuffix("\r")} for line in lines]
        elif suffix in (".csv", ".tsv"):
            plain: Any = dict(delimiter="\t", quoting=csv.QUOTE_NONE) if suffix == ".tsv" else {}
            parsed = csv.DictReader(io.StringIO(text, newline=""), strict=True, **plain)
            records = list(parsed)
        else:
            whole = text.lstrip().startswith("[")
            lines = [line for line in text.split("\n") if line.strip()]
            records = json.loads(text) if whole else [json.loads(line) for line in lines]
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        kinds = {".csv": "comma-separated values", ".tsv": "tab-separated values", ".txt": "text"}
        expected = f"{kinds.get(suffix, 'an object of JSON in every line')} in UTF-8 ({error})"
        raise wrong(field, str(path), expected) from None
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict) or None in record:
            told = record.get(None) if isinstance(record, dict) else record
            raise wrong(field, told, f"no more than the columns named, in row {number} of {path}")
    if not records:
        raise wrong(field, str(path), "texts; it is empty")
    return records


def _columns(records: Sequence[Record], request: Request) -> tuple[str, str | None]:
    """The names of the columns that hold texts."""
    names = records[0]
    for first, second in PAIRS:
        if first in names and second in names:
            return first, second
    for name in SINGLE:
        if name in names:
            return name, None
    known = [*SINGLE, *dict.fromkeys(name for pair in PAIRS for name in pair)]
    near = [name for name in names if difflib.get_close_matches(str(name).lower(), known, 1, 0.6)]
    hint = f"; is it {near[0]!r}?" if near else ""
    pairs = ", ".join(f"{first!r} and {second!r}" for first, second in PAIRS)
    expected = f"a column of texts, {' or '.join(map(repr, SINGLE))}, or two: {pairs}{hint}"
    raise wrong(request.field, list(names), expected)


NONE = ("", "-1", "None")  # a label that is not told, as GLUE's tests have it


def names_of(records: Sequence[Record]) -> tuple[str, ...]:
    """The label of each record as the name of a class; () where there are none, or values."""
    labels = tuple(str(record.get("label", "")) for record in records)
    return () if all(label in NONE for label in labels) or _fractions(labels) else labels


def _fractions(labels: Iterable[str]) -> bool:
    """Whether labels are numbers, and not all whole."""
    labels = list(labels)
    if all(re.fullmatch(r"-?\d+", label, re.ASCII) for label in labels):
        return False
    try:
        return all(map(math.isfinite, map(float, labels)))
    except ValueError:
        return False


def _rows(
    records: Sequence[Record], classes: tuple[str, ...], split: str, request: Request
) -> Rows:
    field = request.field
    first, second = _columns(records, request)
    used = {first, second, "label", "start", "end", "answers", *NUMBERS}
    for number, record in enumerate(records, 1):
        for name in filter(None, (first, second)):
            if not isinstance(record.get(name), str):
                where = f"a text, {name!r} of row {number} of split {split!r}"
                raise wrong(field, record.get(name), where)
    words = [Words(r[first], r[second] if second else None) for r in records]
    columns: dict[str, Any] = {}
    if classes:
        places = {name: i for i, name in enumerate(classes)}
        labels = names_of(records)
        for number, label in enumerate(labels, 1):
            if label in NONE:
                raise wrong(field, label, f"a label in row {number} of split {split!r}, as others")
        columns["label"] = [places[label] for label in labels]
    scores = [name for name in NUMBERS if name in records[0]]
    if not scores and _fractions(str(record.get("label", "")) for record in records):
        scores = ["label"]
    if "value" in request.targets and scores:
        columns["value"] = np.array(_numbers(records, scores[0], split, request), np.float32)
    if "span" in request.targets and {"start", "answers"} & records[0].keys():
        columns["span"] = [
            _span(record, each.last, f"row {i} of split {split!r}", request)
            for i, (record, each) in enumerate(zip(records, words, strict=True), 1)
        ]
    table = Table(input=Lazy(_untold, words, field), **columns, classes=classes, field=field)
    others = [name for name in records[0] if name not in used]
    about = {name: np.array([str(r.get(name, "")) for r in records]) for name in others}
    bare = "" if columns else "no 'label', 'value' or 'start' and 'end'"
    return Rows(table, image=False, about=about, bare=bare)


def _numbers(records: Sequence[Record], name: str, split: str, request: Request) -> list[float]:
    """A column of finite numbers."""
    numbers = []
    for row, record in enumerate(records, 1):
        try:
            numbers.append(float(record[name]))
        except (KeyError, TypeError, ValueError):
            numbers.append(math.nan)
        if not math.isfinite(numbers[-1]):
            expected = f"a finite number, {name!r} of row {row} of split {split!r}"
            raise wrong(request.field, record.get(name), expected)
    return numbers


def _span(record: Record, text: str, where: str, request: Request) -> tuple[int, int]:
    """From which character up to which a span goes."""
    try:
        if "answers" in record:
            answer, start = record["answers"]["text"][0], record["answers"]["answer_start"][0]
            start, end = int(start), int(start) + len(answer)
        else:
            start, end = int(record["start"]), int(record["end"])
    except (KeyError, IndexError, TypeError, ValueError):
        raise wrong(request.field, record.get("answers"), f"'start' and 'end' in {where}") from None
    if not 0 <= start < end <= len(text):
        expected = f"0 ≤ start < end ≤ {len(text)}, the characters of its text, in {where}"
        raise wrong(request.field, (start, end), expected)
    return start, end


def _untold(words: Words) -> np.ndarray:
    raise UserError("texts: expected tokens; tljax.data.tokenised(table, tokenizer) makes them")

"""Lists of picture files: a split of `folder:DIR` is DIR/NAME.txt."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tljax.data import pictures
from tljax.data.formats import Request, Rows, check_file, in_order
from tljax.data.table import Table
from tljax.errors import UserError, reading, wrong


def texts(base: Path) -> list[str]:
    """The texts in a directory of data that may be lists."""
    return sorted(str(path) for path in (*base.glob("*.txt"), *base.glob("image_list/*.txt")))


def _lines(path: str, request: Request) -> Iterator[tuple[int, str]]:
    """The lines of a list that are not blank, with their numbers."""
    check_file(path, request.field)
    with reading(request.field, path), open(path, "rb") as file:
        raw = file.read()
    wide = raw[:2] in (b"\xff\xfe", b"\xfe\xff")  # as Windows calls Unicode
    text = raw.decode("utf-16" if wide else "utf-8-sig", "replace" if wide else "surrogateescape")
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, line.strip()


def _places(path: str, base: Path) -> tuple[str, ...]:
    """Where the paths of a list may start from."""
    return str(base), os.path.dirname(path)


def begins(path: str, base: Path, request: Request) -> bool:
    """Whether a text's first line that is no comment names a file."""
    first = next((line for _, line in _lines(path, request) if line[0] != "#"), "")
    return any(_parted(line=first, home=home) for home in _places(path, base))


def _parted(line: str, home: str) -> tuple[str, str] | None:
    """The path of a file with which a line begins, and what follows; spaces may be in both."""
    ends = [len(line), *(m.start() for m in reversed([*re.finditer(r"[\s,;]+", line)]))]
    for end in ends:
        path = os.path.join(home, line[:end].strip("\"'"))
        if os.path.lexists(path) and not os.path.isdir(path):
            return path, line[end:].strip(" \t,;\"'")
    return None


def read(path: str, base: Path, request: Request) -> tuple[list[str], list[str] | None]:
    """The files of a list and their labels: whole numbers, names of classes, or None for none.

    A line is `relative/path label`, relative to DIR, else to the list's own directory, with
    spaces, a comma or a semicolon between; or `relative/path` in all lines. Blank lines and those
    that begin with `#` say nothing, nor does a byte-order mark.
    """
    paths: list[str] = []
    labels: list[str] = []
    homes = _places(path, base)
    for number, line in _lines(path, request):
        entry = next(filter(None, (_parted(line, home) for home in homes)), None)
        if entry is None and line[0] == "#":
            continue
        if entry is None:
            given = re.sub(r"[\s,;]+-?\d+$", "", line)
            expected = (
                f"an image in {base}, as in 'relative/path label', in line {number} of {path}"
            )
            raise wrong(request.field, given, expected)
        homes = homes if paths else tuple(h for h in homes if _parted(line, h))[:1]
        file, label = entry
        check_file(file, request.field)
        kind, before = _kind(label), _kind(labels[0]) if labels else _kind(label)
        if kind != before or kind == "neither":
            expected = "all labels whole numbers, or all names of classes, or none"
            where = f"'relative/path label' in line {number} of {path}; {expected}"
            raise wrong(request.field, line, where)
        paths.append(file)
        labels.append(label)
    if not paths:
        raise wrong(request.field, path, "lines 'relative/path label'; it is empty")
    return paths, labels if any(labels) else None


def _kind(label: str) -> str:
    if not label:
        return "none"
    if re.fullmatch(r"-?\d+", label, re.ASCII):
        return "number"
    return "name" if re.search(r"[^\W\d_]", label) else "neither"


def rows(
    path: str, texts: list[str], read: Any, classes: tuple[str, ...], request: Request
) -> Rows:
    paths, labels = read(path)
    images = pictures.files(paths, request)
    if labels is None or not request.labelled:
        bare = "" if labels else f"{path} lists paths without labels"
        return Rows(Table(input=images, field=request.field), bare=bare)
    numbers, names = labels, None
    if _kind(labels[0]) == "name":
        names = classes if set(labels) <= set(classes) else _names(texts, read)
        places = {name: place for place, name in enumerate(names)}
        numbers = [places[label] for label in labels]
    label = [int(number) for number in numbers]
    return Rows(Table(input=images, label=label, classes=names, field=request.field))


def _names(texts: list[str], read: Any) -> tuple[str, ...]:
    """The names of classes in all lists that have such, so that they are the same for each."""
    names: set[str] = set()
    for path in texts:
        with contextlib.suppress(UserError):  # a text that is no list, unless it is asked for
            labels = read(path)[1] or [""]
            names |= set(labels) if _kind(labels[0]) == "name" else set()
    return in_order(names)

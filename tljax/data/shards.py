"""Shards of pictures: `tar:PATTERN`, in the convention of webdataset; nothing is unpacked."""

import contextlib
import functools
import glob
import itertools
import json
import os
import re
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

from tljax.data import pictures
from tljax.data.folders import SPLIT, UNREAD
from tljax.data.formats import Request, Rows, Splits, check_file, in_order
from tljax.data.pictures import Member
from tljax.data.table import Table
from tljax.errors import reading, wrong

_KINDS = ("cls", "json", "txt")  # of labels, of which the first that is there counts
_WORDS = ("label", "class", "cls", "class_name")  # under which a .json has one


def read_tar(request: Request) -> Splits:
    """Shards PATTERN, by `*` and `{000..127}`: pictures KEY.jpg beside labels KEY.cls, .json, .txt.

    A shard is of the split that its name ends with before its number, `photos-train-0001.tar`, else
    of `train`. KEY is all before the first dot of a name. A `.cls` holds a number, a `.txt` the
    name of a class, a `.json` either, as "label", "class", "cls" or "class_name". Classes that are
    named are sorted by name, and the same for every split.
    """
    shards = _shards(request)
    splits: dict[str, list[str]] = {}
    for path in shards:
        stem = re.sub(r"[-_.]?\d+$", "", Path(path).name.removesuffix(".tar"))
        last = re.split(r"[-_.]", stem)[-1]
        splits.setdefault(last if SPLIT.fullmatch(last) else "train", []).append(path)
    read = functools.cache(functools.partial(_index, request=request))
    return {name: functools.partial(_rows, paths, shards, read, request)
            for name, paths in splits.items()}  # fmt: skip


def _shards(request: Request) -> list[str]:
    pattern = str(request.path)
    parts = re.split(r"\{(\d+)\.\.(\d+)\}", pattern)
    runs = [
        [f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1)]
        for first, last in zip(parts[1::3], parts[2::3], strict=True)
    ]
    paths = []
    for numbers in itertools.product(*runs):
        texts = itertools.zip_longest(parts[::3], numbers, fillvalue="")
        path = "".join(itertools.chain(*texts))
        paths += sorted(glob.glob(path)) if glob.has_magic(path) else [path]
    if not paths:
        raise wrong(request.field, pattern, "a pattern of shards, as 'photos-{000..127}.tar'")
    for path in paths:
        check_file(path, request.field, "an existing tar file")
    return paths


class _Sample(NamedTuple):
    """What lies under one key."""

    picture: Member
    label: int | str | None


def _index(path: str, request: Request) -> list[_Sample]:
    """The samples of a shard in its order; of pictures their places alone are read."""
    found: dict[str, dict[str, Any]] = {}
    try:
        with reading(request.field, path), tarfile.open(path, "r:") as archive:
            for entry in archive:
                directory, name = os.path.split(entry.name)
                key, _, end = name.partition(".")
                if not entry.isreg() or not key:
                    continue
                files = found.setdefault(os.path.join(directory, key), {})
                if f".{end.lower()}" in pictures.suffixes():
                    if "picture" in files:
                        twice = f"one picture of a key; {entry.name!r} is the second"
                        raise wrong(request.field, path, twice)
                    files["picture"] = Member(path, entry.name, entry.offset_data, entry.size)
                elif end in _KINDS and request.labelled:
                    text = archive.extractfile(entry).read()  # type: ignore[union-attr]
                    files[end] = _label(end, text, f"{path}/{entry.name}", request)
            archive.fileobj.seek(archive.offset)
            if any(archive.fileobj.read(512)):
                raise tarfile.ReadError("it ends within a header")  # of which tarfile says nothing
    except tarfile.TarError as error:
        raise wrong(
            request.field, path, f"an undamaged tar file, not compressed ({error})"
        ) from None
    request.skip(
        (f"{path}/{key}" for key, files in found.items() if "picture" not in files), UNREAD
    )
    return [
        _Sample(
            files["picture"], next((files[k] for k in _KINDS if files.get(k) is not None), None)
        )
        for files in found.values()
        if "picture" in files
    ]


def _label(kind: str, content: bytes, name: str, request: Request) -> int | str | None:
    """What a label's file says; None of a .json that says nothing of a class."""
    label: Any = content.decode("utf-8", "surrogateescape").strip()
    if kind == "json":
        with contextlib.suppress(json.JSONDecodeError):
            fields = json.loads(label)
            known = fields if isinstance(fields, dict) else {}
            label = next((known[word] for word in _WORDS if word in known), None)
        if label is not None and type(label) not in (int, str):
            raise wrong(request.field, name, "the number or the name of a class")
    elif kind == "cls":
        if not re.fullmatch(r"-?\d+", label, re.ASCII):
            raise wrong(request.field, name, f"the number of a class; it holds {label[:50]!r}")
        label = int(label)
    return label


def _rows(paths: list[str], shards: list[str], read: Any, request: Request) -> Rows:
    samples = [sample for path in paths for sample in read(path)]
    if not samples:
        raise wrong(request.field, paths[0], "pictures, *.png, *.jpg and what else PIL reads")
    images = pictures.files([sample.picture for sample in samples], request)
    labels = [sample.label for sample in samples]
    if all(label is None for label in labels):
        bare = f"{paths[0]} holds no KEY.cls, KEY.txt or KEY.json of classes"
        return Rows(Table(input=images, field=request.field), bare=bare)
    kind = type(next(label for label in labels if label is not None))
    for sample in samples:
        if type(sample.label) is not kind:
            of = "the name of its class" if kind is str else "the number of its class"
            raise wrong(request.field, str(sample.picture), f"{of} beside it, as others have")
    names = None
    if kind is str:
        others = (sample.label for path in shards for sample in read(path))
        names = in_order({label for label in others if isinstance(label, str)})
        places = {name: place for place, name in enumerate(names)}
        labels = [places[label] for label in labels]
    return Rows(Table(input=images, label=labels, classes=names, field=request.field))

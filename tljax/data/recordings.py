"""Recordings: `wav:DIR` and `wav:FILE.csv`, by what names of files, directories or a list say."""

import csv
import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tljax.data.folders import SPLIT, walk
from tljax.data.formats import Request, Rows, Splits, in_order
from tljax.data.sound import SUFFIXES, Waves
from tljax.data.table import Table
from tljax.errors import reading, wrong

_DIGITS = re.compile(r"(?P<label>.+)_(?P<speaker>[^_]+)_(?P<take>[^_]+)")  # Free Spoken Digits
_COMMANDS = re.compile(r"(?P<speaker>.+)_nohash_(?P<take>\d+)")  # Speech Commands
LAYOUTS = "LABEL_SPEAKER_TAKE.wav, SPEAKER/LABEL/TAKE.wav or LABEL/TAKE.wav, or these in SPLIT/"


class Recording(NamedTuple):
    """A file, and what is known of it."""

    path: str
    split: str
    label: str  # "": none
    about: Mapping[str, str]


def read_wav(request: Request) -> Splits:
    """Recordings in a directory, by the names of its files or of directories, or in a list.

    In DIR they are LABEL_SPEAKER_TAKE.wav, SPEAKER/LABEL/TAKE.wav or LABEL/TAKE.wav; of the split
    `train`, or each split in a directory of its own (train, test, …). Those straight in it whose
    names do not say so are unlabelled. FILE.csv (.tsv) has a column path, from the file's own
    directory, and may have label, split, speaker and others. Speaker, take and those others are
    columns to choose by. Classes are sorted by name, the same for every split.
    """
    listed = request.path.suffix.lower() in (".csv", ".tsv")
    of = _of_list(request) if listed else _of_directory(request)
    recordings: dict[str, list[Recording]] = {}
    for each in of:
        recordings.setdefault(each.split, []).append(each)
    labels = {each.label for each in of if each.label} if request.labelled else ()
    waves = Waves([each.path for each in of], request)
    return {
        name: functools.partial(_rows, name, each, in_order(labels), waves, request)
        for name, each in recordings.items()
    }


def _of_directory(request: Request) -> list[Recording]:
    base = request.directory()
    paths: list[str] = []
    for shown in walk(str(base), dataclasses.replace(request, suffixes=SUFFIXES)):
        request.skip(shown.others, "beside the sounds, and none by its name")
        paths += shown.files
    if not paths:
        raise wrong(request.field, str(base), f"sounds in it, {', '.join(sorted(SUFFIXES))}")
    parts = {path: Path(path).relative_to(base).parts for path in sorted(paths)}
    tops = {each[0]: len(each) > 1 for each in parts.values()}  # name -> whether it is a directory
    named = [name for name, folder in tops.items() if folder and SPLIT.fullmatch(name)]
    other = next((name for name in tops if name not in named), None)
    if named and other:
        expected = f"splits alone or none; {named[0]!r} looks like one, {other!r} does not. Put all"
        raise wrong(request.field, str(base), f"{expected} into {base / 'train'}, or rename")
    found: list[Recording] = []
    ways: dict[tuple[int, bool], str] = {}  # how deep and whether labelled -> the first such
    for path, each in parts.items():
        split, inner = (each[0], each[1:]) if named else ("train", each)
        label, about = _told(path, inner, request)
        found.append(Recording(path, split, label, about))
        ways.setdefault((len(inner), request.labelled and bool(label)), path)
    if len(ways) > 1:
        one, other = list(ways.values())[:2]
        raise wrong(request.field, other, f"sounds in one way, {LAYOUTS}; {one!r} is in another")
    return found


def _told(path: str, parts: Sequence[str], request: Request) -> tuple[str, dict[str, str]]:
    """The label and the columns that a path tells."""
    *folders, name = parts
    digits, commands = (each.fullmatch(Path(name).stem) for each in (_DIGITS, _COMMANDS))
    if len(folders) > 2:
        raise wrong(request.field, path, f"sounds as {LAYOUTS}, no deeper")
    if len(folders) == 2:
        return folders[1], {"speaker": folders[0], "take": Path(name).stem}
    if folders and commands:
        return folders[0], commands.groupdict()
    if digits and (not folders or folders[0] in (digits["label"], digits["speaker"])):
        return digits["label"], {name: digits[name] for name in ("speaker", "take")}
    return (folders[0], {"take": Path(name).stem}) if folders else ("", {})


def _of_list(request: Request) -> list[Recording]:
    path = request.file("an existing CSV file")
    with reading(request.field, path), path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
    header = rows[0] if rows else []
    if "path" not in header or len(set(header)) < len(header):
        expected = f"{path} to begin with names of columns, path and label, speaker or others"
        raise wrong(request.field, header, expected)
    found = []
    for number, row in enumerate(rows[1:], 2):
        cells = dict(zip(header, row, strict=False))
        if len(row) != len(header) or not cells["path"]:
            raise wrong(request.field, row, f"{len(header)} cells in line {number} of {path}")
        about = {k: v for k, v in cells.items() if k not in ("path", "label", "split")}
        where = str(path.parent / cells["path"])
        found.append(Recording(where, cells.get("split") or "train", cells.get("label", ""), about))
    if not found:
        raise wrong(request.field, str(path), "a recording in a line after the first")
    return found


def _rows(
    split: str,
    recordings: Sequence[Recording],
    classes: tuple[str, ...],
    waves: Waves,
    request: Request,
) -> Rows:
    inputs, mask = waves([each.path for each in recordings])
    labels = [each.label for each in recordings] if request.labelled else []
    if any(labels) and not all(labels):
        lacking = recordings[labels.index("")].path
        raise wrong(request.field, lacking, f"a label, as others of {split!r} have, or none of all")
    place = {name: i for i, name in enumerate(classes)}
    columns = set.intersection(*(set(each.about) for each in recordings))
    table = Table(
        input=inputs,
        mask=mask,
        label=[place[name] for name in labels] if any(labels) else None,
        classes=classes,
        field=request.field,
    )
    about = {name: np.array([each.about[name] for each in recordings]) for name in sorted(columns)}
    bare = "" if any(labels) else f"sounds with labels are {LAYOUTS}"
    return Rows(table, image=False, bare=bare, about=about, sound=True)

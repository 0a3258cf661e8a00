"""Readers of the formats that hold images on disk.

A reader takes a `Request` and gives, for each split, a function that opens it as `Rows`. A split
that nobody asks for is not opened, and the images of files are not decoded here.
"""

import dataclasses
import functools
import gzip
import math
import os
import re
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tljax.data.lazy import Lazy
from tljax.data.table import TARGETS, Table
from tljax.errors import wrong


@dataclasses.dataclass(frozen=True)
class Request:
    """What a reader is asked for."""

    where: str  # what follows the colon: a directory, a file or a name
    field: str  # where it was given, for error messages
    targets: tuple[str, ...] = TARGETS  # others are not read, and need not be readable
    root: str | None = None  # what relative paths start from; TFDS's data directory

    @property
    def labelled(self) -> bool:
        return "label" in self.targets

    @property
    def path(self) -> Path:
        return Path(self.root or "", Path(self.where).expanduser())

    def directory(self) -> Path:
        if not self.path.is_dir():
            raise wrong(self.field, str(self.path), "an existing directory")
        return self.path


class Rows(NamedTuple):
    """One whole split, as its format holds it."""

    table: Table
    image: bool = True  # whether its inputs are images, which can be resized
    label: Any = None  # label[indices] is an array of integers; for labels that are slow to read


Splits = Mapping[str, Callable[[], Rows]]


def read_idx(request: Request) -> Splits:
    """The files of MNIST and its family in one directory, gzipped or not; `train`, `test`."""
    folder = request.directory()

    def find(kind: str, rank: int) -> Path | None:
        names = (f"{kind}{dot}idx{rank}-ubyte{gz}" for dot in "-." for gz in ("", ".gz"))
        return next((folder / name for name in names if (folder / name).is_file()), None)

    def rows(image_file: Path, label_file: Path | None) -> Rows:
        images = _idx_array(image_file, 3, request.field)[..., None]
        label = None
        if label_file is not None and request.labelled:
            label = _idx_array(label_file, 1, request.field)
        return Rows(Table(input=images, label=label, field=request.field))

    splits = {}
    for name, prefix in (("train", "train"), ("test", "t10k")):
        if image_file := find(f"{prefix}-images", 3):
            splits[name] = functools.partial(rows, image_file, find(f"{prefix}-labels", 1))
    if not splits:
        expected = "a directory with train-images-idx3-ubyte or t10k-images-idx3-ubyte (or .gz)"
        raise wrong(request.field, str(folder), expected)
    return splits


def _idx_array(path: Path, rank: int, field: str) -> np.ndarray:
    """The unsigned bytes of an IDX file: 0, 0, 8, rank, big-endian int32 dimensions, values."""
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise wrong(field, str(path), f"an undamaged gzip file ({error})") from None
    start = 4 + 4 * rank
    if raw[:4] != bytes([0, 0, 8, rank]) or len(raw) < start:
        expected = f"an IDX file of unsigned bytes in {rank} dimensions, magic 0000080{rank}"
        raise wrong(field, str(path), f"{expected}; it begins with {raw[:4].hex()}")
    shape = [int(n) for n in np.frombuffer(raw, ">u4", rank, offset=4)]
    if len(raw) - start != math.prod(shape):
        expected = f"{math.prod(shape)} bytes of data as its header says, {shape}"
        raise wrong(field, str(path), f"{expected}; it holds {len(raw) - start}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")


def read_folder(request: Request) -> Splits:
    """Image files: DIR/<split>/<class>/*, or DIR/<class>/* as the split `train`, or lists of files.

    A list DIR/NAME.txt or DIR/image_list/NAME.txt is the split NAME; its lines are
    `relative/path label`, relative to DIR, else to the list's own directory. Classes of
    directories are sorted by name, and the same for every split; those of lists have numbers.
    """
    base = request.directory()
    inner = {child.name: child for child in _children(base) if _children(child)}
    homes = inner or ({"train": base} if _children(base) else {})
    classes = tuple(sorted({child.name for home in homes.values() for child in _children(home)}))
    splits = {
        name: functools.partial(_class_rows, home, classes, request.field)
        for name, home in homes.items()
    }
    for path in sorted([*base.glob("*.txt"), *base.glob("image_list/*.txt")]):
        splits[path.stem] = functools.partial(_list_rows, path, base, request)
    if not splits:
        expected = "images in DIR/<split>/<class>/ or DIR/<class>/, or lists of them DIR/NAME.txt"
        raise wrong(request.field, str(base), expected)
    return splits


def _children(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        shown = (entry for entry in entries if entry.name[0] != "." and entry.name != "image_list")
        return [Path(entry.path) for entry in shown if entry.is_dir()]


def _class_rows(home: Path, classes: tuple[str, ...], field: str) -> Rows:
    paths, labels = [], []
    for label, name in enumerate(classes):
        files = (home / name).glob("[!.]*")
        images = sorted(str(path) for path in files if path.suffix.lower() in _SUFFIXES)
        paths += images
        labels += [label] * len(images)
    if not paths:
        raise wrong(field, str(home), f"images in its directories, *{', *'.join(_SUFFIXES)}")
    return Rows(Table(input=_files(paths, field), label=labels, classes=classes, field=field))


def _list_rows(path: Path, base: Path, request: Request) -> Rows:
    field = request.field
    names, labels = [], []
    with path.open(encoding="utf-8", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                match = re.fullmatch(r"(.+?)\s+(-?\d+)", line.strip())
                if match is None:
                    expected = f"'relative/path label' in line {number} of {path}"
                    raise wrong(field, line.strip(), expected)
                names.append(match[1])
                labels.append(int(match[2]))
    if not names:
        raise wrong(field, str(path), "lines 'relative/path label'; it is empty")
    home = next((home for home in (base, path.parent) if (home / names[0]).is_file()), None)
    if home is None:
        raise wrong(field, names[0], f"an image in {base}, as {path} lists it")
    images = _files([str(home / name) for name in names], field)
    return Rows(Table(input=images, label=labels if request.labelled else None, field=field))


def _files(paths: list[str], field: str) -> Lazy:
    return Lazy(functools.partial(_decode_file, field=field), paths, field)


def _decode_file(path: str, field: str) -> np.ndarray:
    """An image file as uint8 [H, W, 3]."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            mode, pixels = image.mode, np.asarray(image.convert("RGB"))
    except Exception as error:  # each of PIL's decoders fails in its own way
        raise wrong(field, path, f"a readable image ({error})") from None
    if mode.startswith(("I", "F")):  # PIL would clip these at 255
        raise wrong(field, path, f"an image of 8 bits a channel, not of PIL's mode {mode!r}")
    return pixels

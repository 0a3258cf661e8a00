"""What readers of formats have in common, and the reader of IDX files.

A reader takes a `Request` and gives, for each split, a function that opens it as `Rows`. A split
that nobody asks for is not opened, and the images of files are not decoded here.
"""

import dataclasses
import functools
import gzip
import math
import os
import re
import stat
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tljax.data.lazy import Stored, rows_of
from tljax.data.table import TARGETS, Table
from tljax.errors import wrong


@dataclasses.dataclass(frozen=True)
class Request:
    """What a reader is asked for."""

    where: str  # what follows the colon: a directory, a file or a name
    field: str  # where it was given, for error messages
    targets: tuple[str, ...] = TARGETS  # others are not read, and need not be readable
    root: str | None = None  # what relative paths start from; TFDS's data directory
    background: tuple[int, int, int] = (255, 255, 255)  # red, green, blue behind transparency
    limit_bytes: float = math.inf  # inputs of more bytes stay in their file, where they can
    rate: int | None = None  # of sounds, samples a second; None: as stored
    seconds: float | None = None  # of sounds; None: as long as the longest
    suffixes: Collection[str] = ()  # of files that are listed; (): of pictures
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)  # path -> why; readers add
    aside: dict[str, Any] = dataclasses.field(default_factory=dict)  # splits that `all` leaves out

    @property
    def labelled(self) -> bool:
        return "label" in self.targets

    @property
    def path(self) -> Path:
        return Path(self.root or "", os.path.expanduser(self.where))

    def skip(self, paths: Iterable[str], why: str) -> None:
        self.skipped.update(dict.fromkeys(paths, why))

    def directory(self) -> Path:
        if not stat.S_ISDIR(_mode(self.path, self.field, "an existing directory")):
            raise wrong(self.field, str(self.path), "an existing directory, not a file")
        return self.path

    def file(self, expected: str) -> Path:
        check_file(self.path, self.field, expected)
        return self.path


def check_file(path: str | Path, field: str, expected: str = "an existing file") -> None:
    """Refuses what is no ordinary file: it is missing, or a pipe on which a reader would wait."""
    mode = _mode(path, field, expected)
    if not stat.S_ISREG(mode):
        raise wrong(
            field, str(path), f"{expected}, not {_KINDS.get(stat.S_IFMT(mode), 'a device')}"
        )


_KINDS = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}


def _mode(path: str | Path, field: str, expected: str) -> int:
    try:
        return os.stat(path).st_mode
    except (OSError, ValueError) as error:  # the latter of a path that no file system has
        reason = getattr(error, "strerror", error)
        raise wrong(field, str(path), f"{expected} ({reason})") from None


class Rows(NamedTuple):
    """One whole split, as its format holds it."""

    table: Table
    image: bool = True  # whether its inputs are images, which can be resized
    bare: str = ""  # why it holds no labels, where there is more to say
    about: Mapping[str, Any] = {}  # name -> [n] of strings or integers, to choose examples by
    sound: bool = False  # whether they are recordings, which have a rate
    label: Any = None  # label[indices] is an array of integers; for labels that are slow to read


Splits = Mapping[str, Callable[[], Rows]]


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Names sorted; as numbers, if all of them are."""
    names = sorted(names)
    if all(re.fullmatch(r"\d+", name, re.ASCII) for name in names):
        names.sort(key=int)
    return tuple(names)


def read_idx(request: Request) -> Splits:
    """The files of MNIST and its family in one directory, gzipped or not; `train`, `test`."""
    folder = request.directory()

    def find(kind: str, rank: int) -> Path | None:
        names = (f"{kind}{dot}idx{rank}-ubyte{gz}" for dot in "-." for gz in ("", ".gz"))
        return next((folder / name for name in names if os.path.lexists(folder / name)), None)

    def rows(image_file: Path, label_file: Path | None) -> Rows:
        images: Any = _idx_array(image_file, 3, request)
        if isinstance(images, Stored):
            images = rows_of(images, first, request.field)
        label = None
        if label_file is not None and request.labelled:
            label = _idx_array(label_file, 1, request)
        return Rows(Table(input=images, label=label, field=request.field))

    splits = {}
    for name, prefix in (("train", "train"), ("test", "t10k")):
        if image_file := find(f"{prefix}-images", 3):
            splits[name] = functools.partial(rows, image_file, find(f"{prefix}-labels", 1))
    if not splits:
        expected = "a directory with train-images-idx3-ubyte or t10k-images-idx3-ubyte (or .gz)"
        raise wrong(request.field, str(folder), expected)
    return splits


def first(rows: np.ndarray, row: int) -> np.ndarray:
    """A row `[...]` of rows `[1, ...]`, as it is."""
    return np.asarray(rows)[0]


def _idx_array(path: Path, rank: int, request: Request) -> np.ndarray | Stored:
    """The unsigned bytes of an IDX file: 0, 0, 8, rank, big-endian int32 dimensions, values.

    Images are `[n, height, width, 1]`. Nothing is allocated by what the header alone says.
    """
    field, start = request.field, 4 + 4 * rank
    check_file(path, field)
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        values: Any = gzip.open(file) if zipped else file
        try:
            head = values.read(start)
            if head[:4] != bytes([0, 0, 8, rank]) or len(head) < start:
                expected = (
                    f"an IDX file of unsigned bytes in {rank} dimensions, magic 0000080{rank}"
                )
                raise wrong(field, str(path), f"{expected}; it begins with {head[:4].hex()}")
            shape = [int(n) for n in np.frombuffer(head, ">u4", rank, offset=4)]
            size, whole = math.prod(shape), (*shape, 1) if rank == 3 else tuple(shape)
            held = size if zipped else os.fstat(file.fileno()).st_size - start
            if not zipped and held == size > request.limit_bytes:
                return Stored(path, start, np.dtype(np.uint8), whole)
            content = bytearray()
            while held == size and (piece := values.read(min(2**20, size + 1 - len(content)))):
                content += piece
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise wrong(field, str(path), f"an undamaged gzip file ({error})") from None
    held = len(content) if held == size else held
    if held != size:
        expected = f"{size} bytes of data as its header says, {shape}"
        raise wrong(field, str(path), f"{expected}; it holds {held}")
    return np.array(memoryview(content), np.uint8).reshape(whole)

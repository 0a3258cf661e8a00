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
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tljax.errors import wrong


@dataclasses.dataclass(frozen=True)
class Request:
    """What a reader is asked for."""

    where: str  # what follows the colon: a directory, a file or a name
    field: str  # where it was given, for error messages
    labelled: bool = True  # otherwise labels are not read, and need not be readable
    root: str | None = None  # what relative paths start from; TFDS's data directory

    @property
    def path(self) -> Path:
        return Path(self.root or "", Path(self.where).expanduser())

    def directory(self) -> Path:
        if not self.path.is_dir():
            raise wrong(self.field, str(self.path), "an existing directory")
        return self.path


@dataclasses.dataclass(frozen=True)
class Lazy:
    """Images of one shape, each decoded when it is asked for."""

    decode: Callable[[Any], np.ndarray]  # the image [H, W, C] of an item
    items: Sequence[Any]  # what stands for an image: its path, or its split and row
    field: str

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> np.ndarray:
        item = self.items[index]
        image = self.decode(item)
        if image.shape != self.first.shape:
            expected = f"{self.first.shape}, the shape of {self.items[0]}; size= resizes them all"
            raise wrong(self.field, image.shape, f"{item} to have {expected}")
        return image

    @functools.cached_property
    def first(self) -> np.ndarray:
        return self.decode(self.items[0])

    @property
    def nbytes(self) -> int:
        return len(self) * self.first.nbytes

    def take(self, indices: np.ndarray) -> "Lazy":
        return dataclasses.replace(self, items=[self.items[i] for i in indices])

    @staticmethod
    def concatenate(parts: Sequence["Lazy"]) -> "Lazy":
        """One sequence of several that decode alike."""
        return dataclasses.replace(parts[0], items=[item for part in parts for item in part.items])


class Rows(NamedTuple):
    """One whole split, as its format holds it."""

    images: np.ndarray | Lazy  # [N, H, W, C]
    labels: Any  # labels[indices] is an array of integers; None where there are none
    classes: tuple[str, ...]


Splits = Mapping[str, Callable[[], Rows]]


def read_idx(request: Request) -> Splits:
    """The files of MNIST and its family in one directory, gzipped or not; `train`, `test`."""
    folder = request.directory()

    def find(kind: str, rank: int) -> Path | None:
        names = (f"{kind}{dot}idx{rank}-ubyte{gz}" for dot in "-." for gz in ("", ".gz"))
        return next((folder / name for name in names if (folder / name).is_file()), None)

    def rows(image_file: Path, label_file: Path | None) -> Rows:
        images = _idx_array(image_file, 3, request.field)[..., None]
        if label_file is None or not request.labelled:
            return Rows(images, None, ())
        return _numbered(images, _idx_array(label_file, 1, request.field), request.field)

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


def read_npz(request: Request) -> Splits:
    """Arrays of one `.npz` file: `image`, `test_images` or `x_test`, with labels named likewise.

    Without a split in its name an array is of `train`. Images are uint8 or floats, [N, H, W] or
    [N, H, W, C].
    """
    field, path = request.field, request.path
    try:
        with zipfile.ZipFile(path) as archive:
            keys = [name.removesuffix(".npy") for name in archive.namelist()]
    except zipfile.BadZipFile:
        raise wrong(field, str(path), "an archive that np.savez wrote") from None
    except OSError:
        raise wrong(field, str(path), "an existing .npz file") from None

    def array(key: str) -> np.ndarray:
        try:
            with np.load(path) as archive:
                return archive[key]
        except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
            expected = f"an undamaged array {key!r} without pickled objects ({error})"
            raise wrong(field, str(path), expected) from None

    def rows(image_key: str, label_key: str | None) -> Rows:
        images = _pixels(array(image_key), field)
        if label_key is None or not request.labelled:
            return Rows(images, None, ())
        return _numbered(images, array(label_key), field)

    splits = {}
    for key in keys:
        if match := re.fullmatch(r"x_(.+)|(?:(.+)_)?images?", key):
            label = re.sub(r"images?$", "label", re.sub("^x_", "y_", key))
            label_key = next((k for k in (label, label + "s") if k in keys), None)
            splits[match[1] or match[2] or "train"] = functools.partial(rows, key, label_key)
    if not splits:
        expected = f"arrays 'image', '<split>_images' or 'x_<split>' among {keys}"
        raise wrong(field, str(path), expected)
    return splits


def _pixels(images: np.ndarray, field: str) -> np.ndarray:
    """Images as uint8 or finite float32, [N, H, W, C]."""
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise wrong(field, str(images.dtype), "images of uint8, or of a float type")
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4 or (images.shape[1] in (1, 3) and images.shape[3] > 4):
        raise wrong(field, images.shape, "images [N, H, W] or [N, H, W, C], channels last")
    if images.dtype.kind == "f":
        images = images.astype(np.float32)
        finite = np.isfinite(images).all(axis=(1, 2, 3))
        if not finite.all():
            raise wrong(field, f"image {finite.argmin()}", "finite values; it holds NaN or inf")
    return images


def _numbered(images: np.ndarray | Lazy, labels: np.ndarray, field: str) -> Rows:
    """Rows whose classes have numbers only; the highest label says how many there are."""
    if labels.dtype.kind not in "iu":
        raise wrong(field, str(labels.dtype), "labels of an integer type")
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.shape != (len(images),):
        raise wrong(field, labels.shape, f"one label for each of {len(images)} images")
    top = int(labels.max(initial=0))
    if top >= 100_000:
        raise wrong(field, top, "labels that count classes from 0, at most 100,000 of them")
    return Rows(images, labels, tuple(map(str, range(top + 1))))


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
        splits[path.stem] = functools.partial(_list_rows, path, base, request.field)
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
        found = sorted(str(path) for path in files if path.suffix.lower() in _SUFFIXES)
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise wrong(field, str(home), f"images in its directories, *{', *'.join(_SUFFIXES)}")
    return Rows(_files(paths, field), np.array(labels), classes)


def _list_rows(path: Path, base: Path, field: str) -> Rows:
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
    return _numbered(images, np.array(labels), field)


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

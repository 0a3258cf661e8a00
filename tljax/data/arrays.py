"""Arrays of one `.npz` file: images, feature vectors, tokens or waveforms, and what is known."""

import contextlib
import dataclasses
import functools
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tljax.data.formats import Request, Rows, Splits
from tljax.data.lazy import Stored, rows_of
from tljax.data.table import Table
from tljax.errors import reading, wrong

_KEY = re.compile(r"(?:(.+)_)?(input|images?|x|mask|labels?|y|value|span)|([xy])_(.+)")
_INPUTS = ("input", "image", "images", "x")
# Which column an array becomes, by the last word of its name; of two, what it holds decides.
_MEANS = {
    **{word: ("input",) for word in _INPUTS},
    **{word: (word,) for word in ("mask", "label", "value", "span")},
    "labels": ("label", "labels"),
    "y": ("label", "value"),
}


def read_npz(request: Request) -> Splits:
    """Arrays named `<split>_<word>`, or `x_<split>` and `y_<split>`; without a split, `train`.

    The words are `image`, `images`, `x`, `input`, `mask`, `label`, `labels`, `y`, `value` and
    `span`. Images are uint8 or floats, [N, H, W] or [N, H, W, C]. An `x` of rank 2 is no image: it
    and `input` are taken as they are, integers or floats [N, ...]. Integers `label`, `labels` and
    `y` [N] are labels, 0 and 1 in `labels` [N, K] are several of each example, and floats `y` are
    values. An array `classes` of strings holds the names of classes, for every split; others of a
    string or an integer an example are columns to choose by.
    """
    field, path = request.field, request.file("an existing .npz file")
    try:
        with reading(field, path, "an existing .npz file"), zipfile.ZipFile(path) as archive:
            keys = [name.removesuffix(".npy") for name in archive.namelist()]
    except zipfile.BadZipFile:
        raise wrong(field, str(path), "an archive that np.savez wrote") from None
    splits: dict[str, dict[str, str]] = {}
    for key in keys:
        if match := _KEY.fullmatch(key):
            split = match[1] or match[4] or "train"
            splits.setdefault(split, {})[key] = match[2] or match[3]
    splits = {n: words for n, words in splits.items() if set(words.values()) & set(_INPUTS)}
    if not splits:
        expected = f"arrays 'input', '<split>_images' or 'x_<split>' among {keys}"
        raise wrong(field, str(path), expected)
    return {n: functools.partial(_rows, request, n, words, keys) for n, words in splits.items()}


def _rows(request: Request, split: str, words: Mapping[str, str], keys: Sequence[str]) -> Rows:
    """One split, of the arrays whose names end in `words`, name -> word, among all `keys`."""
    field = request.field
    columns: dict[str, Any] = {}
    names: dict[str, str] = {}  # of the array that each column is
    image = False
    for name, word in words.items():
        if not {"input", "mask", *request.targets}.intersection(_MEANS[word]):
            continue
        array = _array(request, name, word in _INPUTS)
        column = _column(word, array)
        if column in columns:
            both = f"{names[column]!r} and {name!r}"
            raise wrong(field, str(request.path), f"one array for its {column!r}, not {both}")
        if column == "input":
            image = word != "input" and not (word == "x" and array.ndim == 2)
            array = _pixels(array, field) if image else array
        if isinstance(array, Stored):
            array = rows_of(array, functools.partial(_typed, name=name, field=field), field)
        elif array.dtype.kind == "f" and column in ("input", "value"):
            array = _finite(array, "image" if image else name, field)
        columns[column], names[column] = array, name
    columns = {n: c for n, c in columns.items() if n in ("input", "mask", *request.targets)}
    classes = None
    if "classes" in keys:
        strings = _array(request, "classes")
        if strings.ndim != 1 or strings.dtype.kind not in "US":
            expected = "'classes' to be strings, the names of classes"
            raise wrong(field, f"{strings.dtype}{list(strings.shape)}", expected)
        classes = strings.astype(str).tolist()
    table = Table(**columns, classes=classes, field=field)
    return Rows(table, image, about=_about(request, split, keys, len(table)))


def _about(request: Request, split: str, keys: Sequence[str], length: int) -> dict[str, Any]:
    """The further arrays `<split>_<name>`, or `<name>`, of a string or an integer an example."""
    about = {}
    for key in keys:
        with contextlib.suppress(*_DAMAGE):
            stored, _ = _stored(request.path, key)
            if (
                not _KEY.fullmatch(key)
                and stored.shape == (length,)
                and stored.dtype.kind in "USiu"
            ):
                about[key.removeprefix(f"{split}_")] = _array(request, key)
    return about


def _array(request: Request, name: str, mapped: bool = False) -> Any:
    """An array of the archive, or where it lies, if it may be mapped and is beyond the limit.

    An array that is compressed cannot be mapped. One whose header promises more than the archive
    holds is refused before it is allocated.
    """
    try:
        stored, inflated = _stored(request.path, name)
        if mapped and not inflated and stored.nbytes > request.limit_bytes:
            return stored
        with np.load(request.path) as archive:
            return archive[name]
    except (*_DAMAGE, OSError, zipfile.BadZipFile, zlib.error) as error:
        expected = f"an undamaged array {name!r} without pickled objects ({error})"
        raise wrong(request.field, str(request.path), expected) from None


# Of what is read: no .npy, too short, closed by a password or packed in a way of its own.
_DAMAGE = (ValueError, EOFError, KeyError, RuntimeError)


def _stored(path: Path, name: str) -> tuple[Stored, bool]:
    """Where an array lies within an archive, by its headers; and whether it is compressed."""
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(f"{name}.npy")
        with archive.open(entry) as member:
            version = np.lib.format.read_magic(member)
            readers = (np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0)
            shape, fortran, dtype = readers[version > (1, 0)](member)
            start = member.tell()
    with path.open("rb") as file:
        file.seek(entry.header_offset + 26)  # two lengths end the fixed part of a member's header
        lengths = np.frombuffer(file.read(4), "<u2").astype(int)
    offset = entry.header_offset + 30 + int(lengths.sum()) + start
    stored = Stored(path, offset, dtype, shape, "F" if fortran else "C")
    if dtype.hasobject:
        raise ValueError("it holds Python's objects")
    packed, size = entry.compress_size, entry.file_size
    # Deflate makes 1032 bytes of one at most.
    believable = size <= 1032 * packed + 1032 if entry.compress_type else size == packed
    if min(shape, default=0) < 0 or start + stored.nbytes != size or not believable:
        raise ValueError(f"its header promises {list(shape)} of {dtype}; {size - start} bytes")
    return stored, entry.compress_type != zipfile.ZIP_STORED


def _typed(rows: np.ndarray, row: int, name: str, field: str) -> np.ndarray:
    """A row `[...]` of rows `[1, ...]` in the type that a table's inputs have."""
    rows = _finite(rows, name, field, row) if rows.dtype.kind == "f" else rows
    return Table(input=rows, field=field).input[0]


def _column(word: str, array: Any) -> str:
    """The column that an array of this word is."""
    first, *second = _MEANS[word]
    several = array.ndim == 2 and (array.shape[1] > 1 or array.dtype == bool)
    other = several if word == "labels" else array.dtype.kind == "f"
    return second[0] if second and other else first


def _pixels(images: Any, field: str) -> Any:
    """Images as uint8 or floats, [N, H, W, C]."""
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise wrong(field, str(images.dtype), "images of uint8, or of a float type")
    if images.ndim == 3 and isinstance(images, Stored):
        images = dataclasses.replace(images, shape=(*images.shape, 1))
    elif images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or (images.shape[1] in (1, 3) and images.shape[3] > 4):
        expected = "images [N, H, W] or [N, H, W, C], channels last; else name the array 'input'"
        raise wrong(field, images.shape, expected)
    return images


def _finite(array: np.ndarray, name: str, field: str, start: int = 0) -> np.ndarray:
    """The numbers of an array `[n, ...]`, rows from `start` on, as float32, all finite."""
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    finite = np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
    if not finite.all():
        raise wrong(
            field, f"{name} {start + finite.argmin()}", "finite values; it holds NaN or inf"
        )
    return array

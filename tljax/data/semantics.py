"""What is known of classes beforehand: `load_semantics("garments", classes)` and the like.

Zero-shot learning recognises classes without examples by such rows: of attributes, or vectors of
the words in their names.
"""

import csv
import difflib
import functools
import importlib.resources
import io
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tljax.data.formats import Request
from tljax.data.words import number, numbered, read_vectors
from tljax.errors import UserError, reading, unknown, wrong

_Table = tuple[np.ndarray, Sequence[str]]  # [classes, attributes], and names of attributes


class Semantics(NamedTuple):
    """A row of numbers for every class."""

    values: np.ndarray  # float32 [classes, attributes], in the order of the classes asked for
    names: tuple[str, ...]  # of the attributes


def load_semantics(
    data: str,
    classes: Sequence[str],
    *,
    field: str = "tables.NAME.data",
    root: str | None = None,
    standardise: bool = False,
    normalise: bool = False,
    permute: int | None = None,
) -> Semantics:
    """Reads the rows of `classes`; other rows of a file are ignored.

    A row belongs to the class of its own name, else of the same name in other case. Classes that
    are plain numbers, 0 to n − 1 as in IDX files, take the rows of a file of n rows by position
    if no row has one of them for its name. In files of word vectors a class has the mean of the
    words that its name splits into at spaces, `/`, `_` and `-`; each is looked up as it is
    written, else in lower case.

    Args:
      data: `csv:FILE` (a header of attribute names; then class, numbers), `npz:FILE` (arrays
        `classes` [C], `attributes` [C, A] and perhaps `names` [A]), `glove:FILE` or
        `word2vec:FILE` (their text formats, gzipped or not), or one that needs no file:
        `garments` (Fashion-MNIST's classes, 18 attributes), `segments` (digits, the seven
        segments that show them), `pair_digits` (00 to 99, one-hot of both digits), `one_hot`.
      classes: names of classes.
      field: where `data` was given, for error messages; its siblings are named after it.
      root: the directory that relative paths start from.
      standardise: whether every attribute is given mean 0 and deviation 1 (1/N) over `classes`; a
        constant one becomes 0.
      normalise: whether every row is then scaled to unit Euclidean norm.
      permute: the seed of a permutation that gives every class the row of another: the control,
        which keeps the table and loses its meaning.

    Returns:
      The rows and the names of their columns.

    Raises:
      UserError: an unknown source, a file missing or damaged, a class without a row or with two,
        a value that is no finite number, a row of zeros to be normalised.
    """
    beside = f"{field.rpartition('.')[0]}.".lstrip(".")
    if not len(classes):
        raise wrong(field, classes, "at least one class to describe")
    if permute is not None and len(classes) < 2:
        raise wrong(beside + "permute", permute, f"None for a single class, {classes[0]!r}")
    scheme, _, where = data.partition(":")
    if scheme not in SCHEMES:
        raise unknown(field, scheme, SCHEMES)
    if bool(where) != (scheme in _FILES):
        expected = f"{scheme!r} alone" if where else f"'{scheme}:' and its file"
        raise wrong(field, data, expected)
    values, names = SCHEMES[scheme](Request(where, field, root=root), classes)
    if standardise:
        constant = np.ptp(values, axis=0) == 0.0
        deviation = np.where(constant, 1.0, values.std(axis=0))
        values = np.where(constant, 0.0, (values - values.mean(axis=0)) / deviation)
    if normalise:
        norms = np.linalg.norm(values, axis=1, keepdims=True)
        if not norms.all():
            zero = classes[int(norms.argmin())]
            raise wrong(beside + "normalise", True, f"False, as the row of {zero!r} is all zeros")
        values = values / norms
    if permute is not None:
        cycle = np.random.default_rng(permute).permutation(len(classes))
        moved = np.empty_like(values)
        moved[cycle] = values[np.roll(cycle, 1)]  # one cycle through all: none stays in its place
        values = moved
    return Semantics(values.astype(np.float32), tuple(names))


# Tables of a row for each class.


def _matched(
    rows: Sequence[str], values: np.ndarray, classes: Sequence[str], source: str, field: str
) -> np.ndarray:
    """The rows of `values`, named by `rows`, that belong to `classes`."""
    if not values.size:
        raise wrong(field, source, "at least one row and one attribute; it has none")
    places: dict[str, list[int]] = {}
    folded: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        places.setdefault(row, []).append(i)
        folded.setdefault(row.casefold(), []).append(i)
    for row, at in places.items():
        if len(at) > 1:
            raise wrong(field, row, f"one row of each class in {source}, not {len(at)}")
    matches = [places.get(name) or folded.get(name.casefold(), []) for name in classes]
    for name, at in zip(classes, matches, strict=True):
        if len(at) > 1:
            both = " and ".join(repr(rows[i]) for i in at)
            raise wrong(field, name, f"one row in {source} that this may mean, not {both}")
    if not any(matches) and len(rows) == len(classes) and _are_numbers(classes):
        return values
    missing = [name for name, at in zip(classes, matches, strict=True) if not at]
    if missing:
        near = [difflib.get_close_matches(name, rows, n=1, cutoff=0.5) for name in missing]
        listed = ", ".join(
            f"{name!r} (nearest: {names[0]!r})" if names else repr(name)
            for name, names in zip(missing, near, strict=True)
        )
        raise UserError(f"{field}: no row in {source} for {listed}; expected one for every class")
    return values[[i for (i,) in matches]]


def _are_numbers(classes: Sequence[str]) -> bool:
    """Whether these are the names that classes have in files that only number them."""
    return list(classes) == [str(i) for i in range(len(classes))]


def _read_csv(request: Request, classes: Sequence[str]) -> _Table:
    path = request.file("an existing CSV file")
    try:
        with reading(request.field, path):
            text = path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise wrong(request.field, str(path), "a CSV file in UTF-8") from None
    return _parsed(text, str(request.path), classes, request.field)


def _read_garments(request: Request, classes: Sequence[str]) -> _Table:
    file = importlib.resources.files("tljax.data") / "garments.csv"
    return _parsed(file.read_text("utf-8"), "garments", classes, request.field)


_OTHERS = {";": "semicolons", "\t": "tabs", "|": "bars"}  # what others put between cells


def _parsed(text: str, source: str, classes: Sequence[str], field: str) -> _Table:
    """The table that the text of a CSV file holds: a header, then class and numbers."""
    reader = csv.reader(io.StringIO(text), skipinitialspace=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise wrong(field, source, f"a CSV file ({error})") from None
    names = [cell.strip() for _, header in lines[:1] for cell in header[1:]]
    for sign, other in _OTHERS.items():
        if lines and not names and sign in lines[0][1][0]:
            expected = f"commas between the cells of line 1 of {source}, not {other}"
            raise wrong(field, lines[0][1][0][:80], expected)
    rows, values = [], []
    for line, cells in lines[1:]:
        if len(cells) != len(names) + 1:
            expected = f"{len(names) + 1} cells in line {line} of {source}"
            raise wrong(field, len(cells), f"{expected}, as many as its header has")
        rows.append(cells[0].strip())
        for name, cell in zip(names, cells[1:], strict=True):
            values.append(value := number(cell))
            if np.isnan(value):
                expected = f"a finite number in line {line}, column {name!r} of {source}"
                raise wrong(field, cell, expected)
    table = np.array(values).reshape(len(rows), len(names))
    return _matched(rows, table, classes, source, field), names


_ARRAYS = ("classes", "attributes", "names")
_DAMAGE = (ValueError, EOFError, AttributeError, TypeError)  # the last two of other files' arrays


def _read_npz(request: Request, classes: Sequence[str]) -> _Table:
    field, path = request.field, str(request.file("an existing .npz file"))
    with reading(field, path):
        try:
            with np.load(path) as archive:
                arrays = {key: np.asarray(archive[key]) for key in archive if key in _ARRAYS}
        except (*_DAMAGE, zipfile.BadZipFile, zlib.error) as error:
            expected = "an undamaged archive that np.savez wrote, without pickled objects"
            raise wrong(field, path, f"{expected} ({error})") from None
    for key in _ARRAYS[:2]:
        if key not in arrays:
            raise wrong(field, path, f"arrays 'classes' and 'attributes', not without {key!r}")
    values = arrays["attributes"]
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise wrong(field, f"{values.dtype}{list(values.shape)}", "numbers [classes, attributes]")
    rows = _strings(arrays["classes"], "classes", len(values), field)
    names = numbered("attribute", values.shape[1])
    if "names" in arrays:
        names = _strings(arrays["names"], "names", len(names), field)
    values = values.astype(np.float64)
    unfit = np.argwhere(~(np.abs(values) <= np.finfo(np.float32).max))
    if len(unfit):
        row, column = unfit[0]
        expected = f"a finite number for class {rows[row]!r}, attribute {names[column]!r}"
        raise wrong(field, float(values[row, column]), f"{expected} of {path}")
    return _matched(rows, values, classes, path, field), names


def _strings(array: np.ndarray, key: str, count: int, field: str) -> list[str]:
    if array.shape != (count,) or array.dtype.kind not in "US":
        expected = f"{count} strings in the array {key!r}, as 'attributes' has it"
        raise wrong(field, f"{array.dtype}{list(array.shape)}", expected)
    return [text.decode() if isinstance(text, bytes) else text for text in array.tolist()]


# Tables that need no file.

_SEGMENTS = "abcdef bc abdeg abcdg bcfg acdfg acdefg abc abcdefg abcdfg".split()  # of 0 to 9


def _read_segments(request: Request, classes: Sequence[str]) -> _Table:
    values = np.array([[float(s in lit) for s in "abcdefg"] for lit in _SEGMENTS])
    rows = [str(digit) for digit in range(10)]
    return _matched(rows, values, classes, "segments", request.field), list("abcdefg")


def _read_pair_digits(request: Request, classes: Sequence[str]) -> _Table:
    both = np.arange(100)
    values = np.concatenate([np.eye(10)[both // 10], np.eye(10)[both % 10]], axis=1)
    numbers = len(classes) == 100 and _are_numbers(classes)
    rows = list(classes) if numbers else [f"{n:02d}" for n in both]
    names = numbered("first", 10) + numbered("second", 10)
    return _matched(rows, values, classes, "pair_digits", request.field), names


def _read_one_hot(request: Request, classes: Sequence[str]) -> _Table:
    return np.eye(len(classes)), list(classes)


_FILES: dict[str, Callable[[Request, Sequence[str]], _Table]] = {
    "csv": _read_csv,
    "npz": _read_npz,
    "glove": functools.partial(read_vectors, header=False),
    "word2vec": functools.partial(read_vectors, header=True),
}
SCHEMES = _FILES | {
    "garments": _read_garments,
    "segments": _read_segments,
    "pair_digits": _read_pair_digits,
    "one_hot": _read_one_hot,
}

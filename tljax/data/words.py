"""Vectors of the words in the names of classes, from the text files of GloVe and word2vec."""

import gzip
import itertools
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tljax.data.formats import Request, check_file
from tljax.errors import UserError, reading, wrong


def read_vectors(
    request: Request, classes: Sequence[str], header: bool
) -> tuple[np.ndarray, list[str]]:
    """The mean of the vectors of each class's words, float64 [classes, size], and column names.

    The file is read line by line, to the end only if a word is looked for that long. Of a word
    that comes twice the first vector counts.

    Args:
      request: the file, gzipped or not.
      classes: split into words at spaces, `/`, `_` and `-`; a word that the file lacks is looked
        up in lower case.
      header: whether line 1 is word2vec's `count size`.
    """
    field, path = request.field, request.path
    words = list(map(words_of, classes))
    for name, split in zip(classes, words, strict=True):
        if not split:
            raise wrong(field, name, "a class with a word in its name")
    vectors, size = vectors_of(path, {word for split in words for word in split}, header, field)
    used = [[word if word in vectors else word.lower() for word in split] for split in words]
    pairs = zip(itertools.chain(*words), itertools.chain(*used), strict=True)
    missing = dict.fromkeys(word for word, form in pairs if form not in vectors)
    if missing:
        listed = ", ".join(map(repr, missing))
        expected = "expected one for every word in the names of the classes"
        raise UserError(f"{field}: no vector in {path} for {listed}; {expected}")
    means = [np.mean([vectors[form] for form in forms], axis=0) for forms in used]
    return np.array(means), numbered("dimension", size)


def words_of(name: str) -> list[str]:
    """The words of a name."""
    return [word for word in re.split(r"[\s/_-]+", name) if word]


def vectors_of(
    path: Path, words: set[str], header: bool, field: str
) -> tuple[dict[str, np.ndarray], int]:
    """The vectors that a file has of `words`, as written or in lower case, and the size of each."""
    lines = _lines(path, field)
    _, first = next(lines, (1, b""))
    size = _size(first, header, path, field)
    wanted = {word.encode(): word for word in words | {word.lower() for word in words}}
    vectors: dict[str, np.ndarray] = {}
    start = 2 if header else 1
    for at, line in lines if header else itertools.chain([(1, first)], lines):
        word = line.partition(b" ")[0]
        # Nearly every line ends here, its numbers unread; but one line shows the format.
        if at > start and (word not in wanted or wanted[word] in vectors):
            continue
        cells = line.split()[1:]
        if len(cells) > size and np.isnan(number(cells[0])):
            continue  # a few of GloVe's words hold spaces: this is not the word before them
        vector = np.array([number(cell) for cell in cells])
        if len(vector) != size or np.isnan(vector).any():
            expected = f"a word and {size} finite numbers in line {at} of {path}"
            raise wrong(field, line[:40].decode(errors="replace").strip(), expected)
        if word in wanted:
            vectors[wanted[word]] = vector
            if words <= vectors.keys():
                break
    return vectors, size


def _size(first: bytes, header: bool, path: Path, field: str) -> int:
    """The length of the vectors, by the first line of the file."""
    cells = first.split()
    counts = len(cells) == 2 and all(map(bytes.isdigit, cells))
    if header != counts or len(cells) < 2:
        here = "'count size', or 'glove:'" if header else "a word and numbers, or 'word2vec:'"
        expected = f"line 1 of {path} to be {here}"
        raise wrong(field, first[:40].decode(errors="replace").strip(), expected)
    return int(cells[1]) if header else len(cells) - 1


def _lines(path: Path, field: str) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, gzipped or not, with their numbers from 1; one at a time."""
    check_file(path, field, "an existing file of word vectors")
    with reading(field, path), path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            yield from enumerate(gzip.open(raw) if zipped else raw, 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise wrong(field, str(path), f"an undamaged gzip file ({error})") from None


def number(text: str | bytes) -> float:
    """A number that float32 holds; NaN for anything else."""
    try:
        value = float(text)
    except ValueError:
        return np.nan
    return value if abs(value) <= float(np.finfo(np.float32).max) else np.nan


def numbered(name: str, count: int) -> list[str]:
    """Names of columns that have none: `name_0` and so on."""
    return [f"{name}_{i}" for i in range(count)]

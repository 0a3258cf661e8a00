"""Real images that come with scikit-learn: digits, and pairs of them side by side.

Nothing has to be downloaded, and the order of the examples is the same every time.
"""

import functools
import importlib.util
from pathlib import Path

import numpy as np

from tljax.data.formats import Request, Rows, Splits
from tljax.data.table import Table

BUNDLED = ("digits", "pairs")  # what these are called as sources; they have no place


def read_digits(request: Request) -> Splits:
    """scikit-learn's 1,797 handwritten digits, uint8 of 8 x 8 x 1, as two splits.

    Of `train` the order is a fixed shuffled one, so that its slices are samples of the same
    writers, and differ in what a config does to them alone. `writers` has the order of the file,
    which goes through its thirteen writers: two slices share at most the one at their border.
    """
    return {"train": _digits, "writers": functools.partial(_digits, shuffled=False)}


def read_pairs(request: Request) -> Splits:
    """Two of the digits side by side, uint8 of 8 x 16 x 1, in 100 classes `00` to `99`.

    The split `train` has 60 pairs a class, of the digits `train[:1200]`; `test` has 20, of the
    others, so that the two share no image of a digit. No pair comes twice.
    """
    return {
        "train": functools.partial(_pairs, 0, 1200, 60),
        "test": functools.partial(_pairs, 1200, 1797, 20),
    }


def of_sklearn(*place: str) -> Path:
    """A file of scikit-learn's data sets, which takes two seconds to import."""
    found = importlib.util.find_spec("sklearn")
    assert found and found.origin
    return Path(found.origin).parent.joinpath("datasets", *place)


@functools.cache
def _digits(shuffled: bool = True) -> Rows:
    lines = np.loadtxt(of_sklearn("data", "digits.csv.gz"), delimiter=",")
    if shuffled:
        lines = lines[np.random.default_rng(0).permutation(len(lines))]
    images = np.rint(lines[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    names = tuple(map(str, range(10)))
    return Rows(Table(input=images, label=lines[:, -1].astype(int), classes=names))


@functools.cache
def _pairs(start: int, stop: int, per_class: int) -> Rows:
    """`per_class` pairs a class of the digits from `start` to `stop`, in a shuffled order."""
    images, labels = _digits().table.input, _digits().table.label
    members = [start + np.flatnonzero(labels[start:stop] == digit) for digit in range(10)]
    rng = np.random.default_rng(start)
    lefts, rights = [], []
    for label in range(100):
        left, right = members[label // 10], members[label % 10]
        drawn = rng.choice(len(left) * len(right), per_class, replace=False)
        lefts.append(left[drawn // len(right)])
        rights.append(right[drawn % len(right)])
    order = rng.permutation(100 * per_class)
    halves = [images[np.concatenate(side)[order]] for side in (lefts, rights)]
    numbers = np.repeat(np.arange(100), per_class)[order]
    names = tuple(f"{n:02d}" for n in range(100))
    return Rows(Table(input=np.concatenate(halves, axis=2), label=numbers, classes=names))

"""Splits of a data set in TFDS's grammar, which so means the same for every source."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace

import numpy as np

from tljax.data.table import Table
from tljax.errors import unknown, wrong


def resolve(split: str, sizes: Mapping[str, int], field: str) -> list[tuple[str, int, int]]:
    """Turns `train[80%:]+test` into the ranges of examples that it stands for.

    Slices are read by TFDS's own parser: `[:50%]`, `[100:200]`, `[-20:]`; a percentage is
    rounded to the closest example. Slices by shard are refused, for other sources have none.

    Args:
      split: names of splits, each perhaps sliced, joined by `+`; or `all`.
      sizes: number of examples of each split. Names may hold spaces, as folders do.
      field: where the split was given, for error messages.

    Returns:
      A triple (name, start, stop) for each part, in order, with 0 <= start < stop <= size.

    Raises:
      UserError: an unknown name, or a slice that is malformed, out of range or empty.
    """
    ranges = []
    for part, name, selector in _parts(split, sizes, field):
        size, start, stop = sizes[name], 0, sizes[name]
        if selector:
            start, stop = _bounds(selector, size, field, part)
        if start >= stop:
            raise wrong(field, part, f"at least one example of the {size} in {name!r}, not none")
        ranges.append((name, start, stop))
    return ranges


Strata = Callable[[str], tuple[np.ndarray, Sequence[str]]]
"""Of a split: the class `[n]` and the name of each example."""


def stratified(
    split: str, sizes: Mapping[str, int], strata: Strata, field: str
) -> list[tuple[str, np.ndarray]]:
    """The same grammar, each slice of every class, in an order that names alone decide.

    The examples of a class stand in the order of a hash of their names. So [:80%] and [80%:] part
    a class wherever its files were added or found, another file moves few of the others, and a
    class of two or more examples has one on either side of every cut.

    Args:
      split, sizes, field: see `resolve`; slices are by percent.
      strata: what tells the examples of a split.

    Returns:
      A pair (name, rows ascending) for each part.

    Raises:
      UserError: see `resolve`; a slice that is not by percent.
    """
    chosen = []
    for part, name, selector in _parts(split, sizes, field):
        rows = np.arange(sizes[name])
        if selector:
            match = _PERCENT.fullmatch(selector)
            ends = [float(end) for end in match.groups() if end] if match else []
            if match is None or not ends or max(map(abs, ends)) > 100:
                raise wrong(field, part, "a slice by percent, as every class has its own: [:80%]")
            low, high = float(match[1] or 0), float(match[2] or 100)
            rows = _of_every_class(*strata(name), low, high)
        if not len(rows):
            expected = f"at least one example of the {sizes[name]} in {name!r}, not none"
            raise wrong(field, part, expected)
        chosen.append((name, rows))
    return chosen


_PERCENT = re.compile(r"\[(?:(-?\d+(?:\.\d+)?)%)?:(?:(-?\d+(?:\.\d+)?)%)?\]")


def _of_every_class(
    labels: np.ndarray, names: Sequence[str], low: float, high: float
) -> np.ndarray:
    """The rows, ascending, of every class from one percentage to another."""
    sums = [hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest() for name in names]
    order = np.argsort(np.array(sums), kind="stable")
    kept = []
    for label in np.unique(labels):
        members = order[labels[order] == label]
        kept.append(members[_cut(low, len(members)) : _cut(high, len(members))])
    return np.sort(np.concatenate(kept))


def _cut(percent: float, size: int) -> int:
    """How many of a class come before a percentage: 0, all, or else neither where it has two."""
    percent = percent + 100 if percent < 0 else percent
    cut = round(size * percent / 100)
    return min(max(cut, 1), size - 1) if size > 1 and 0 < percent < 100 else cut


def _parts(split: str, sizes: Mapping[str, int], field: str) -> list[tuple[str, str, str]]:
    """(part, the name of its split, its slice) of each part."""
    if not isinstance(split, str):
        raise wrong(field, split, "a split such as 'train[:80%]+test'")
    parts = list(sizes) if split == "all" and "all" not in sizes else split.split("+")
    found = []
    for part in (part.strip() for part in parts):
        name, bracket, rest = part.partition("[")
        if name not in sizes:
            raise unknown(field, name, sizes)
        found.append((part, name, bracket + rest))
    return found


def _bounds(selector: str, size: int, field: str, part: str) -> tuple[int, int]:
    """The absolute bounds of a slice such as `[:50%]` of `size` examples."""
    import tensorflow_datasets as tfds

    if "shard" in selector:
        raise wrong(field, part, "a slice by examples or percent; shards are TFDS's own")
    try:
        instruction = tfds.core.ReadInstruction.from_spec("part" + selector)
    except ValueError:
        expected = "a slice such as [:50%], [100:200] or [-20:], percentages from -100 to 100"
        raise wrong(field, part, expected) from None
    try:
        info = SimpleNamespace(num_examples=size, shard_lengths=[size])
        [absolute] = instruction.to_absolute({"part": info})
    except ValueError:
        raise wrong(field, part, f"bounds within its {size} examples") from None
    return absolute.from_ or 0, size if absolute.to is None else absolute.to


def drawn(
    table: Table, kept: Sequence[int], count: int, skip: int, seed: int, field: str
) -> np.ndarray:
    """The indices, ascending, of `count` examples of each class that is `kept`, but the first."""
    rng = np.random.default_rng(seed)
    chosen = []
    for label, name in enumerate(table.classes):
        members = rng.permutation(np.flatnonzero(table.label == label))
        if label not in kept:
            continue
        if len(members) < count:
            raise wrong(field, count, f"at most {len(members)}, all that class {name!r} has")
        chosen.append(members[skip:count])
    return np.sort(np.concatenate(chosen))

"""Splits of a data set in TFDS's grammar, which so means the same for every source."""

from collections.abc import Mapping
from types import SimpleNamespace

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
    if not isinstance(split, str):
        raise wrong(field, split, "a split such as 'train[:80%]+test'")
    parts = list(sizes) if split == "all" and "all" not in sizes else split.split("+")
    return [_range(part.strip(), sizes, field) for part in parts]


def _range(part: str, sizes: Mapping[str, int], field: str) -> tuple[str, int, int]:
    name, bracket, rest = part.partition("[")
    if name not in sizes:
        raise unknown(field, name, sizes)
    size, start, stop = sizes[name], 0, sizes[name]
    if bracket:
        start, stop = _bounds(bracket + rest, size, field, part)
    if start >= stop:
        raise wrong(field, part, f"at least one example of the {size} in {name!r}, not none")
    return name, start, stop


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

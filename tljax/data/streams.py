"""Streams: what flows into a step, from a table that lives on the device or is read from disk.

The batch of a step is a function of the stream's seed and the step alone, for both kinds: a
resident table is sampled inside the compiled step, a streamed one is read through grain by its
position. So the step number of a checkpoint is the stream's position, and a run that resumes
reads exactly what it would have read.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import grain
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import Array

from tljax.data.sources import Table
from tljax.data.transforms import Transform, apply
from tljax.errors import UserError, wrong

Examples = dict[str, Any]  # "image" [batch, ...], and "label" [batch] of a labelled stream


class Stream(NamedTuple):
    """What is static of a stream; hashable, part of the compiled step's identity."""

    name: str
    batch: int
    transforms: tuple[Transform, ...] = ()
    stem: str = ""
    of: str = ""  # another stream, whose examples it shows through transforms of its own
    neighbour: bool = False  # shows, for each of them, a random one of its nearest neighbours
    classes: tuple[int, ...] = ()  # the labels that it may hold; () of an unlabelled stream


def resident(table: Table, field: str) -> dict[str, np.ndarray]:
    """The arrays of a decoded table: "image" `[n, ...]`, and "label" `[n]` if it has labels.

    Raises:
      UserError: NaN or infinity in the images.
    """
    check_finite(table.images, field)
    arrays = {"image": table.images}
    return arrays if table.labels is None else {**arrays, "label": table.labels}


def check_finite(images: np.ndarray, field: str) -> None:
    """Refuses images `[n, ...]` with NaN or infinity, naming the first."""
    if np.issubdtype(images.dtype, np.floating) and not np.isfinite(images).all():
        bad = int(np.argmin(np.isfinite(images).reshape(len(images), -1).all(axis=1)))
        raise UserError(f"{field}: image {bad} holds NaN or infinity; expected finite numbers")


def check_batch(batch: Any, length: int, field: str) -> None:
    """Refuses a batch that is no positive integer or larger than the data."""
    if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= length:
        raise wrong(field, batch, f"an integer from 1 to {length}, the number of examples")


def identity(name: str) -> int:
    """A number for a name, the same in every process, to fold into a key."""
    return zlib.crc32(name.encode()) & 0x7FFFFFFF


NEIGHBOURS = "neighbours"  # a resident array [n, k]: the rows of each row's nearest neighbours


def batch_of(
    streams: Sequence[Stream],
    numbers: Mapping[str, Any],
    resident: Mapping[str, Any],
    fed: Mapping[str, Any],
    step: Array,
    key: Array,
) -> dict[str, Examples]:
    """The batches of a step, sampled on the device or fed, and transformed.

    Args:
      streams: what is static of them.
      numbers: stream -> numbers of its transforms.
      resident: stream -> arrays that live on the device.
      fed: stream -> this step's examples, for streams that are read from disk.
      step: the step's number.
      key: the phase's key.
    """
    keys = {s.name: jax.random.split(jax.random.fold_in(key, identity(s.name))) for s in streams}
    drawn = {}
    for name in dict.fromkeys(stream.of or stream.name for stream in streams):
        batch = next(s.batch for s in streams if name in (s.name, s.of))
        order = jax.random.split(jax.random.fold_in(key, identity(name)))[0]
        drawn[name] = fed[name] if name in fed else draw(resident[name], batch, step, order)
    batches = {}
    for stream in streams:
        examples = dict(drawn[stream.of or stream.name])
        nearest = examples.pop(NEIGHBOURS, None)
        order, looks = keys[stream.name]
        if stream.neighbour:
            if nearest is None:
                raise UserError(
                    f"streams.{stream.name}: {stream.of!r} has no neighbours; expected a "
                    f'preparation: prepare=dict(neighbours=dict(stream="{stream.of}"))'
                )
            at = jax.random.randint(
                jax.random.fold_in(order, step), (stream.batch,), 0, nearest.shape[1]
            )
            rows = jnp.take_along_axis(nearest, at[:, None], axis=1)[:, 0]
            examples = {"image": resident[stream.of]["image"][rows]}
        batches[stream.name] = transform(
            stream, numbers[stream.name], examples, jax.random.fold_in(looks, step)
        )
    return batches


def draw(arrays: Mapping[str, Array], batch: int, step: Array, key: Array) -> Examples:
    """A step's batch from resident arrays: every epoch a new order, the remainder dropped.

    Args:
      arrays: arrays `[n, ...]`, n ≥ `batch`.
      batch: the number of examples.
      step: the step's number, a scalar integer.
      key: the stream's key, the same in every step.
    """
    length = next(iter(arrays.values())).shape[0]
    batches = length // batch
    slots = (step % batches) * batch + jnp.arange(batch)
    indices = shuffled(slots, length, jax.random.fold_in(key, step // batches))
    return {name: array[indices] for name, array in arrays.items()}


def shuffled(slots: Array, length: int, key: Array) -> Array:
    """Places `slots` of a random order of `range(length)`, without building the whole order.

    A Feistel network permutes the smallest even number of bits that holds `length`; what falls
    outside walks on until it is inside (cycle walking: Black & Rogaway 2002, "Ciphers with
    arbitrary finite domains"). The cost grows with the number of slots, not with `length`.

    Args:
      slots: `[batch]` integers in `range(length)`.
      length: at most 2³⁰.
      key: names the order.

    Returns:
      `[batch]` int32; all slots together give every number of `range(length)` once.
    """
    half = max(1, (max(length - 1, 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    round_keys = jax.random.bits(key, (4,), jnp.uint32)

    def permute(x: Array) -> Array:
        left, right = x >> half, x & mask
        for round_key in round_keys:
            mixed = (right ^ round_key) * jnp.uint32(0x9E3779B1)
            mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(0x85EBCA6B)
            left, right = right, left ^ ((mixed ^ (mixed >> 13)) & mask)
        return (left << half) | right

    walked = jax.lax.while_loop(
        lambda x: (x >= length).any(),
        lambda x: jnp.where(x >= length, permute(x), x),
        permute(slots.astype(jnp.uint32)),
    )
    return walked.astype(jnp.int32)


def transform(stream: Stream, numbers: Any, examples: Examples, key: Array) -> Examples:
    """The batch as the terms see it: images transformed, float32, every one by a key of its own."""
    keys = jax.random.split(key, stream.batch)
    images = apply(stream.transforms, numbers, examples["image"], keys)
    return {**examples, "image": images}


def reader(table: Table, batch: int, seed: int, part: int = 0, parts: int = 1) -> grain.MapDataset:
    """A table's batches by position: `reader[i]` is the batch of step i, of numpy arrays.

    Of several parts, `batch / parts` examples each, it reads its own alone.
    """
    rows = grain.MapDataset.source(_Rows(table)).seed(seed).shuffle().repeat()
    if parts > 1:
        rows = grain.MapDataset.source(_Part(rows, batch, part, parts))
    return rows.batch(batch // parts, drop_remainder=True)


class _Part:
    """The rows that a part of every batch holds."""

    def __init__(self, rows: grain.MapDataset, batch: int, part: int, parts: int):
        self.rows, self.batch, self.size = rows, batch, batch // parts
        self.first, self.length = part * self.size, len(rows) // parts

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Examples:
        step, within = divmod(index, self.size)
        return self.rows[step * self.batch + self.first + within]


class _Rows:
    """A table as grain reads it."""

    def __init__(self, table: Table):
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Examples:
        row: Examples = {"image": self.table.images[index]}
        if self.table.labels is not None:
            row["label"] = self.table.labels[index]
        return row


class Feed:
    """The batches of all streamed streams from a step on, several steps at a time."""

    def __init__(self, readers: Mapping[str, grain.MapDataset], start: int, workers: int = 0):
        """Begins reading ahead at step `start`: in threads, or in `workers` processes."""
        self._iterators = {
            name: _iterate(reader, start, workers) for name, reader in readers.items()
        }

    def take(self, count: int, length: int) -> dict[str, Examples]:
        """The next `count` batches of each stream, stacked: `[length, batch, ...]`.

        The places from `count` to `length` repeat the last batch, so that the compiled program
        sees one shape; they are not used.
        """
        fed = {}
        for name, iterator in self._iterators.items():
            batches = [next(iterator) for _ in range(count)]
            for batch in batches:
                check_finite(batch["image"], f"streams.{name}")
            batches += batches[-1:] * (length - count)
            fed[name] = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
        return fed


def _iterate(reader: grain.MapDataset, start: int, workers: int) -> Iterator[Examples]:
    dataset = reader[start:].to_iter_dataset()
    if workers:
        if not flags.FLAGS.is_parsed():  # grain's processes read absl's flags
            flags.FLAGS.mark_as_parsed()
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    return iter(dataset)

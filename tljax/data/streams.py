"""Streams: what flows into a step, from a table that lives on the device or is read from disk.

The batch of a step is a function of the stream's seed and the step alone, for both kinds: a
resident table is sampled inside the compiled step, a streamed one is read through grain by its
position, and seen through random views by that position. So the step number of a checkpoint is the
stream's position, and a run that resumes reads exactly what it would have read.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import grain
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import Array

from tljax.data.lazy import Damaged, Lazy, too_many
from tljax.data.mixing import mixed
from tljax.data.order import ByClass, balanced_draw, draw
from tljax.data.table import Table
from tljax.data.transforms import apply
from tljax.errors import UserError, calling, unknown, warn, wrong
from tljax.masked import columns_of, inputs_of
from tljax.memory import cores

Examples = dict[str, Any]  # "input" [batch, ...], and "label" [batch] of a labelled stream


def check_finite(inputs: np.ndarray, field: str) -> None:
    """Refuses inputs `[n, ...]` with NaN or infinity, naming the first."""
    if np.issubdtype(inputs.dtype, np.floating) and not np.isfinite(inputs).all():
        bad = int(np.argmin(np.isfinite(inputs).reshape(len(inputs), -1).all(axis=1)))
        raise UserError(f"{field}: input {bad} holds NaN or infinity; expected finite numbers")


def check_batch(batch: int, length: int, field: str) -> None:
    """Refuses a batch that is larger than the data."""
    if batch > length:
        raise wrong(field, batch, f"an integer from 1 to {length}, the number of examples")


def identity(name: str) -> int:
    """A number for a name, the same in every process, to fold into a key."""
    return zlib.crc32(name.encode()) & 0x7FFFFFFF


BY_CLASS = "by_class"  # of a stream whose classes come equally often: where each one's rows are
NEIGHBOURS = "neighbours"  # a resident array [n, k]: the rows of each row's nearest neighbours


def batch_of(
    streams: Mapping[str, Any],
    data: Mapping[str, Table],
    rows: Mapping[str, Any],
    fed: Mapping[str, Table],
    step: Array,
    key: Array,
) -> dict[str, Examples]:
    """The batches of a step, sampled on the device or fed, and transformed.

    Args:
      streams: name -> `phase.Stream`, those with data of their own among them.
      data: stream -> its whole table, of streams that live on the device.
      rows: stream -> further columns of its table, which a preparation found.
      fed: stream -> this step's examples, of streams that are read from disk.
      step: the step's number.
      key: the phase's key.

    Returns:
      stream -> column -> `[batch, ...]`, inputs transformed.
    """
    keys = {name: jax.random.split(jax.random.fold_in(key, identity(name))) for name in streams}
    drawn: dict[str, Examples] = {}
    for base in dict.fromkeys(stream.base for stream in streams.values()):
        if base in fed:
            drawn[base] = dict(fed[base].columns)
            continue
        if base not in data:
            raise unknown("data", base, (*data, *fed))
        stream = next(s for s in streams.values() if s.base == base)
        order = jax.random.split(jax.random.fold_in(key, identity(base)))[0]
        columns = {**data[base].columns, **rows.get(base, {})}
        places = columns.pop(BY_CLASS, None)
        if places is None:
            drawn[base] = draw(columns, stream.batch, step, order)
        else:
            drawn[base] = balanced_draw(columns, stream.batch, step, order, ByClass(**places))
    batches = {}
    for name, stream in streams.items():
        examples = dict(fed[name].columns if name in fed else drawn[stream.base])
        nearest = examples.pop(NEIGHBOURS, None)
        order, looks = keys[name]
        if stream.neighbour:
            if nearest is None:
                raise UserError(
                    f"streams.{name}: {stream.of!r} has no neighbours; expected a "
                    f'preparation: prepare=dict(neighbours=dict(stream="{stream.of}"))'
                )
            at = jax.random.randint(
                jax.random.fold_in(order, step), (len(nearest),), 0, nearest.shape[1]
            )
            chosen = jnp.take_along_axis(nearest, at[:, None], axis=1)[:, 0]
            examples = columns_of(inputs_of(data[stream.of].columns)[chosen])
        looks = jax.random.split(jax.random.fold_in(looks, step), len(examples["input"]))
        with calling(f"streams.{name}.transforms"):
            inputs = apply(stream.transforms, inputs_of(examples), looks)
        batches[name] = {**examples, **columns_of(inputs)}
        if stream.mix is not None:
            mixes = jax.random.fold_in(key, identity(f"{name}/mix"))
            with calling(f"streams.{name}.mix"):
                batches[name] = mixed(batches[name], stream.mix, jax.random.fold_in(mixes, step))
    return batches


class Reader(NamedTuple):
    """A stream that is read from disk."""

    table: Table
    batches: grain.MapDataset  # by step
    size: int  # examples in one
    order: "_Order"

    def blank(self, *steps: int) -> Table:
        """One batch of zeros, or `steps` of them, as a feed has them; nothing is read for it."""
        columns = {
            n: c.first[None] if isinstance(c, Lazy) else c for n, c in self.table.columns.items()
        }
        size = (*steps, self.size)
        return self.table.like(
            {n: np.zeros((*size, *c.shape[1:]), c.dtype) for n, c in columns.items()}
        )


def reader(
    table: Table, batch: int, seed: int, part: int = 0, parts: int = 1, looks: int = 0
) -> Reader:
    """A table's batches by position: `batches[i]` is the batch of step i, of numpy arrays.

    Of several parts, `batch / parts` examples each, it reads its own alone. A random view draws by
    `seed`, `looks` and the example's place in the order, and by nothing else.
    """
    order = _Order(table, batch, seed, part, parts, looks)
    return Reader(table, grain.MapDataset.source(order), order.size, order)


SKIPPED = "skipped"  # [batch], of a table that may be damaged: how many places were passed over


class _Order:
    """The batches of a part, or of all, in the endless order of examples, as grain reads them.

    In the place of a damaged picture stands the next of the order that is not.
    """

    def __init__(self, table: Table, batch: int, seed: int, part: int, parts: int, looks: int):
        self.table, self.batch, self.size = table, batch, batch // parts
        self.first, self.seed = part * self.size, (seed, looks)
        self.rows = grain.MapDataset.range(len(table)).seed(seed).shuffle().repeat()

    def __len__(self) -> int:
        return len(self.rows) // self.batch

    def places(self, step: int) -> range:
        """Where the examples of a step stand in the order."""
        start = step * self.batch + self.first
        return range(start, start + self.size)

    def __getitem__(self, step: int) -> Examples:
        images, places = self.table.input, self.places(step)
        if not isinstance(images, Lazy):
            rows = [self.rows[place] for place in places]
            return {name: column[rows] for name, column in self.table.columns.items()}
        inputs = np.empty((self.size, *images.shape[1:]), images.first.dtype)
        rows, skipped = [], np.zeros(self.size, np.int32)
        for i, place in enumerate(places):
            inputs[i], row, skipped[i] = self._shown(images, place)
            rows.append(row)
        rest = {name: column for name, column in self.table.columns.items() if name != "input"}
        batch = {"input": inputs}
        for name, column in rest.items():  # a mask is lazy where inputs are of differing lengths
            lazy = isinstance(column, Lazy)
            batch[name] = np.stack([column[row] for row in rows]) if lazy else column[rows]
        return {**batch, SKIPPED: skipped} if images.damaged else batch

    def _shown(self, images: Lazy, place: int) -> tuple[np.ndarray, int, int]:
        """The picture at a place, its row, and how many damaged ones were passed over."""
        rng = np.random.default_rng((*self.seed, place)) if images.random else None
        for skipped in range(images.tolerated):
            row = self.rows[place + skipped]
            with contextlib.suppress(Damaged):
                return images.seen(row, rng), row, skipped
        row = self.rows[place + images.tolerated]
        return images.seen(row, rng), row, images.tolerated

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        _end_with_parent()


def _end_with_parent() -> None:
    """In a loader process: it ends when the run does, however that ends; signals are the run's."""
    parent = multiprocessing.parent_process()
    if parent is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: Any) -> None:
    parent.join()
    os._exit(1)


class Feed:
    """The batches of all streamed streams from a step on, several steps at a time."""

    def __init__(self, readers: Mapping[str, Reader], start: int, workers: int = 0):
        """Begins reading ahead at step `start`: in threads, or in `workers` processes."""
        self._readers, self._step = readers, start
        self._lost: dict[str, dict[int, str]] = {name: {} for name in readers}  # by rows
        self._iterators = {
            name: _iterate(reader, start, workers) for name, reader in readers.items()
        }

    def take(self, count: int, length: int) -> dict[str, Table]:
        """The next `count` batches of each stream, stacked: `[length, batch, ...]`.

        The places from `count` to `length` repeat the last batch, so that the compiled program
        sees one shape; they are not used.
        """
        fed = {}
        for name, iterator in self._iterators.items():
            batches = [next(iterator) for _ in range(count)]
            for step, batch in enumerate(batches, self._step):
                check_finite(batch["input"], f"streams.{name}")
                self._note(name, step, batch.pop(SKIPPED, np.zeros(0, np.int32)))
            batches += batches[-1:] * (length - count)
            stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
            fed[name] = self._readers[name].table.like(stacked)
        self._step += count
        return fed

    def _note(self, name: str, step: int, skipped: np.ndarray) -> None:
        """Names what was skipped in a batch, each once; refuses more than may be."""
        reader, lost = self._readers[name], self._lost[name]
        order, images = reader.order, reader.table.input
        for within in np.flatnonzero(skipped):
            place = order.places(step)[within]
            for row in (order.rows[place + i] for i in range(skipped[within])):
                if row in lost:
                    continue
                lost[row] = str(images.items[row])
                if len(lost) > images.tolerated:
                    raise too_many(list(lost.values()), images, f"streams.{name}.data")
                warn(f"streams.{name}: {lost[row]} is damaged; another is shown in its place")


AHEAD = 2**28  # bytes that a stream reads ahead at most, if two batches are not more


def _iterate(reader: Reader, start: int, workers: int) -> Iterator[Examples]:
    batch = reader.size * reader.table.nbytes // max(len(reader.table), 1)
    count = max(2, min(500, AHEAD // max(batch * max(workers, 1), 1)))  # 500 is grain's own
    # Each thread makes a batch. More than the cores wait for Python's lock; one of them may read.
    threads = min(16, count, cores() + 1)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=count)
    dataset = reader.batches[start:].to_iter_dataset(options)
    if workers:
        if not flags.FLAGS.is_parsed():  # grain's processes read absl's flags
            flags.FLAGS.mark_as_parsed()
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    return iter(dataset)

"""Features of a trunk that stands still: computed once, kept beside the run, trained on.

Where a phase moves nothing below its heads and shows every example in one look, the trunk gives the
same features at every step. They take the place of the inputs, and the phase is the same one on a
network without its trunk. A file of features is named after all that they depend on: weights and
statistics, precision, transforms, data.
"""

import dataclasses
import functools
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import jax
import numpy as np

from tljax import __version__, trees
from tljax.data import transforms
from tljax.data.decoded import materialise
from tljax.data.fingerprints import fingerprint
from tljax.data.formats import first
from tljax.data.lazy import Lazy, Stored, rows_of
from tljax.data.table import Table
from tljax.errors import UserError
from tljax.experiment.build import Built, flowing, readers_of
from tljax.models.network import above, trains_as_it_judges
from tljax.phase import transfer
from tljax.phase.evaluate import Computed, check_fit, outputs
from tljax.phase.phase import Phase, numbers
from tljax.phase.scoring import Split
from tljax.train import files, hosts, starting
from tljax.train.lanes import Lane
from tljax.train.records import Display
from tljax.train.step import State

ABOVE = ("heads", "scalars")  # what may move


class Cache:
    """The features that all runs of one directory share."""

    def __init__(self, folder: Path, display: Display):
        """Keeps them in `folder`, and tells `display` of those that it computes."""
        self.folder, self.display = folder, display
        # One table for all lanes and evaluations that read it, as long as one does.
        # They are found by what they hold: an id is another table's as soon as the first is gone.
        self._tables: WeakValueDictionary[Any, Table] = WeakValueDictionary()
        self._placed: WeakValueDictionary[Any, Table] = WeakValueDictionary()

    def of(self, built: Built, name: str) -> Computed | None:
        """What puts features in the place of a split's inputs; None where none are kept."""
        if built.phases[name].mesh is not None or hosts.several():
            return None
        limit = built.config.fields.resident_megabytes * 2**20
        return functools.partial(self.computed, limit=limit)

    def lane(self, built: Built, name: str, state: State) -> tuple[Lane, dict[str, Split]]:
        """What a phase steps: the whole of it, or its heads alone on features.

        Args:
          built: the run.
          name: of the phase.
          state: that it starts from.

        Returns:
          The lane, and the phase's evaluations on features; of the whole none.
        """
        phase, compute = built.phases[name], self.of(built, name)
        whole = Lane(phase, state, flowing(built, name), built.readers[name])
        splits = [split for split in built.splits.values() if split.phase == name]
        variables = phase.network, state.params, state.batch_stats
        if compute is None or any(split.layer for split in splits):
            return whole, {}
        if not built.config.phases[name].steps:
            return whole, {s.name: compute(s, *variables) for s in splits if phase.prepare}
        bare = {n: dataclasses.replace(s, transforms=(), stem="") for n, s in phase.streams.items()}
        heads = phase.changed(network=above(phase.network), streams=bare)
        bases = {
            n: Split(n, built.tables[n], s, "", n if phase.separate else None, held_out=False)
            for n, s in phase.streams.items()
            if not s.of
        }
        if not (_stands(phase, state, built.tables) and _fed(heads, phase, state, bases)):
            return whole, {}
        tables = {n: compute(split, *variables).table for n, split in bases.items()}
        data = {n: self._on_device(table) for n, table in tables.items() if table.resident}
        shown = {n: tables[s.base] for n, s in phase.streams.items()}
        readers = readers_of(heads, list(built.phases).index(name), shown, built.config.fields)
        return Lane(heads, state, data, readers), {s.name: compute(s, *variables) for s in splits}

    def computed(
        self, split: Split, network: Any, params: Any, batch_stats: Any, *, limit: float
    ) -> Split:
        """A split on features: of the file that holds them, or computed and written there.

        Args:
          split: on inputs.
          network, params, batch_stats: what computes them.
          limit: the bytes that may lie in memory.
        """
        if isinstance(split.table.input, Lazy) and split.table.input.damaged:
            return split  # which of its pictures are left out is found as they are read
        path = self.folder / _name(split, network, params, batch_stats)
        key = (path, split.table.classes, split.table.seen)
        table = self._tables.get(key)
        if table is None:
            try:
                features = np.load(path, mmap_mode="r")
            except (OSError, ValueError):  # none, or cut short: it is made again
                bare = split._replace(head="", stream=numbers(split.stream))
                features = outputs(network, params, batch_stats, bare).features
                self._keep(path, features)
            size = features.dtype.itemsize * features.size
            stored = Stored(path, path.stat().st_size - size, features.dtype, features.shape)
            rows = rows_of(stored, first, split.name)
            table = materialise(_table(split, rows), limit)
            self._tables[key] = table
        stream = dataclasses.replace(split.stream, transforms=(), stem="")
        return split._replace(table=table, stream=stream, computed=True)

    def _keep(self, path: Path, features: np.ndarray) -> None:
        content = io.BytesIO()
        np.save(content, features)
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write(path, content.getvalue())
        shape = " × ".join(map(str, features.shape))
        self.display.say(f"features of {shape} are kept in {self.folder}")

    def _on_device(self, table: Table) -> Table:
        key = (fingerprint(table), table.classes, table.seen)
        placed = self._placed.get(key)
        if placed is None:
            placed = self._placed[key] = jax.device_put(table)
        return placed


def _table(split: Split, features: Any) -> Table:
    """A split's table with features in the place of its inputs."""
    columns = {name: column for name, column in split.table.columns.items() if name != "mask"}
    return split.table.like({**columns, "input": features})


def _name(split: Split, network: Any, params: Any, batch_stats: Any) -> str:
    """The name of the file of a split's features: a hash of all that they depend on."""
    looks = [
        (getattr(look.function, "__module__", ""), getattr(look.function, "__qualname__", ""))
        + (look.static, dict(look.numbers))
        for look in numbers(split.stream.transforms)
    ]
    of_network = (network.trunk, network.stems, network.adapters, network.precision)
    parts = (__version__, of_network, looks)
    of_split = (split.stream.stem, split.statistics, split.held_out, fingerprint(split.table))
    digest = hashlib.sha256(repr((parts, of_split)).encode())
    below = {kind: tree for kind, tree in params.items() if kind not in ABOVE}
    for path, leaf in trees.flatten({"params": below, "batch_stats": batch_stats}).items():
        digest.update(path.encode())
        digest.update(np.asarray(leaf).tobytes())
    return f"{digest.hexdigest()[:16]}.npy"


def _stands(phase: Phase, state: State, tables: Mapping[str, Table]) -> bool:
    """Whether the trunk gives every example of a phase the same features at every step, and is
    more than its inputs laid out as vectors."""
    moves = trees.flatten(transfer.moving(state.params, phase.train))
    stems = any(stream.stem for stream in phase.streams.values())
    if not stems and all(path.split("/")[0] in ABOVE for path in moves):
        return False
    still = transfer.still(phase, state.params, state.batch_stats)
    statistics = {path.rpartition("/")[0] for path in trees.flatten(state.batch_stats)}
    below = {path for path, moved in moves.items() if moved} | (statistics - still)
    if any(path.split("/")[0] not in ABOVE for path in below):
        return False
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    staying = None if phase.freeze_statistics else still
    for name, stream in phase.streams.items():
        base = phase.streams.get(stream.base)
        if base is None or (stream.transforms, stream.stem) != (base.transforms, base.stem):
            return False
        images = tables[name].input
        drawn = isinstance(images, Lazy) and (images.random or images.damaged)
        if drawn or stream.mix is not None:
            return False
        example = jax.tree.map(np.asarray, tables[name].inputs(slice(1)))
        if not transforms.alike(stream.transforms, example):
            return False
        # A batch of two, whose statistics could be asked for.
        two = jax.tree.map(lambda leaf: np.repeat(leaf, 2, axis=0), example)
        seen = transforms.apply(stream.transforms, two, jax.random.split(jax.random.key(0)))
        passed = dict(stem=stream.stem, stream=stream.base if phase.separate else None)
        if not trains_as_it_judges(phase.network, variables, seen, still=staying, **passed):
            return False
    return True


def _fed(heads: Phase, phase: Phase, state: State, bases: Mapping[str, Split]) -> bool:
    """Whether the terms of a phase read features, and no inputs or maps."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    tables = {}
    for name, split in bases.items():
        width = check_fit(phase.network, variables, split)[1:]
        features = np.broadcast_to(np.float32(0), (len(split.table), *width))
        tables[name] = _table(split, features)
    prepared = {**phase.tables, **state.start["tables"]}
    alone = heads.changed(start=(), prepare={}, train={"**": 1.0}, balance=None, tables=prepared)
    try:
        starting.check(alone, tables, {}, jax.random.key(0), {})
    except UserError:
        return False
    return True

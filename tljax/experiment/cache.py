"""Features of a trunk that stands still: computed once, kept beside the run, trained on.

Where a phase moves nothing below its heads and shows every example in one look, the trunk gives the
same features at every step. They take the place of the inputs, and the phase is the same one on a
network without its trunk. A file of features is named after all that they depend on: weights and
statistics, precision, transforms, data.
"""

import dataclasses
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from tljax import __version__, trees
from tljax.data import transforms
from tljax.data.fingerprints import fingerprint
from tljax.data.formats import first
from tljax.data.lazy import Stored, rows_of
from tljax.data.sources import materialise
from tljax.data.table import Table
from tljax.errors import UserError
from tljax.experiment.build import Built, flowing, readers_of
from tljax.models.network import above, trains_as_it_judges
from tljax.phase import transfer
from tljax.phase.evaluate import Split, check_fit, outputs
from tljax.phase.phase import Phase, numbers
from tljax.train import files, hosts, starting
from tljax.train.lanes import Lane
from tljax.train.records import Display
from tljax.train.step import State

ABOVE = ("heads", "scalars")  # what may move


class Trunk(NamedTuple):
    """What gives features: a phase's network with the variables that it starts from."""

    network: Any
    params: Any
    batch_stats: Any
    digest: str  # of all that is not of the data

    @staticmethod
    def of(phase: Phase, state: State) -> "Trunk":
        """The trunk of a state, with everything else that inputs pass."""
        variables: dict[str, Any] = {"params": dict(state.params), "batch_stats": state.batch_stats}
        for kind in ABOVE:
            variables["params"].pop(kind, None)
        net, digest = phase.network, hashlib.sha256()
        parts = (__version__, net.trunk, net.stems, net.precision)
        digest.update(repr(parts).encode())
        for path, leaf in trees.flatten(variables).items():
            digest.update(path.encode())
            digest.update(np.asarray(leaf).tobytes())
        return Trunk(net, state.params, state.batch_stats, digest.hexdigest())

    def place(self, split: Split) -> str:
        """The name of the file that holds the features of a split."""
        looks = [
            (look.function.__module__, look.function.__qualname__, look.static, look.numbers)
            for look in split.stream.transforms
        ]
        parts = (self.digest, looks, split.stream.stem, split.statistics, split.held_out)
        told = f"{parts}{fingerprint(split.table)}"
        return f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.npy"


class Cache:
    """The features that all runs of one directory share."""

    def __init__(self, folder: Path, display: Display):
        """Keeps them in `folder`, and tells `display` of those that it computes."""
        self.folder, self.display = folder, display
        self._placed: dict[tuple[str, int], Table] = {}  # on the device, one for all lanes

    def lane(self, built: Built, name: str, state: State) -> tuple[Lane, dict[str, Split]]:
        """What a phase steps: the whole of it, or its heads alone on features.

        Args:
          built: the run.
          name: of the phase.
          state: that it starts from.

        Returns:
          The lane, and the phase's evaluations on features; of the whole none.
        """
        phase, limit = built.phases[name], built.config.fields.resident_megabytes * 2**20
        whole = Lane(phase, state, flowing(built, name), built.readers[name])
        if not built.config.phases[name].steps or not _stands(phase, state, built.tables):
            return whole, {}
        bare = {n: dataclasses.replace(s, transforms=(), stem="") for n, s in phase.streams.items()}
        heads = phase.changed(network=above(phase.network), streams=bare)
        bases = {
            n: Split(n, built.tables[n], s, "", n if phase.separate else None, held_out=False)
            for n, s in phase.streams.items()
            if not s.of
        }
        if not _fed_by_features(heads, phase, state, bases):
            return whole, {}
        trunk, data, tables = Trunk.of(phase, state), {}, {}
        for n, split in bases.items():
            table = tables[n] = self.computed(split, trunk, limit).table
            if table.resident:
                same = trunk.place(split), id(split.table)
                data[n] = self._placed.setdefault(same, jax.device_put(table))
        judged = {
            n: self.computed(split, trunk, limit)
            for n, split in built.splits.items()
            if split.phase == name
        }
        shown = {n: tables[s.base] for n, s in phase.streams.items()}
        readers = readers_of(heads, list(built.phases).index(name), shown, built.config)
        return Lane(heads, state, data, readers), judged

    def computed(self, split: Split, trunk: Trunk, limit: float) -> Split:
        """A split on features: of the file that holds them, or computed and written there.

        Args:
          split: on inputs.
          trunk: what computes them.
          limit: the bytes that may lie in memory.
        """
        path = self.folder / trunk.place(split)
        try:
            features = np.load(path, mmap_mode="r")
        except (OSError, ValueError):  # none, or cut short: it is made again
            bare = split._replace(head="", stream=numbers(split.stream))
            features = outputs(trunk.network, trunk.params, trunk.batch_stats, bare).features
            self._keep(path, features)
            shape = " × ".join(map(str, features.shape))
            self.display.say(f"features of {split.name}: {shape}, kept in {self.folder}")
        size = features.dtype.itemsize * features.size
        stored = Stored(path, path.stat().st_size - size, features.dtype, features.shape)
        rows = rows_of(stored, first, split.name)
        table = materialise(split.table.like({**split.table.columns, "input": rows}), limit)
        stream = dataclasses.replace(split.stream, transforms=(), stem="")
        return split._replace(table=table, stream=stream, computed=True)

    def _keep(self, path: Path, features: np.ndarray) -> None:
        content = io.BytesIO()
        np.save(content, features)
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write(path, content.getvalue())


def _stands(phase: Phase, state: State, tables: Mapping[str, Table]) -> bool:
    """Whether the trunk gives every example of a phase the same features at every step."""
    if phase.mesh is not None or hosts.several():
        return False
    moves = trees.flatten(transfer.moving(state.params, phase.train))
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
        example = np.asarray(images[:1] if tables[name].resident else images[0][None])
        if not transforms.alike(stream.transforms, example):
            return False
        seen = transforms.apply(stream.transforms, example, jax.random.key(0)[None])
        passed = dict(stem=stream.stem, stream=stream.base if phase.separate else None)
        if not trains_as_it_judges(phase.network, variables, seen, still=staying, **passed):
            return False
    return True


def _fed_by_features(heads: Phase, phase: Phase, state: State, bases: Mapping[str, Split]) -> bool:
    """Whether the terms of a phase read features, and no inputs or maps."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    tables = {}
    for name, split in bases.items():
        width = check_fit(phase.network, variables, split)[1:]
        features = np.broadcast_to(np.float32(0), (len(split.table), *width))
        tables[name] = split.table.like({**split.table.columns, "input": features})
    prepared = {**phase.tables, **state.start["tables"]}
    alone = heads.changed(start=(), prepare={}, train={"**": 1.0}, balance=None, tables=prepared)
    try:
        starting.check(alone, tables, {}, jax.random.key(0), {})
    except UserError:
        return False
    return True

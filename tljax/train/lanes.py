"""Lanes of one program: the runs, or restarts of a run, whose phases have one structure.

A single lane is stepped as it is, on one device or over a mesh, from memory or from disk. Several
are stacked along a leading axis that is split over the devices. On a CPU the lanes of a device are
taken in turn, which is faster there than batched products and leaves every lane bit for bit as it
would be alone, but where XLA fuses sums of the two programs differently (layer normalisation); on
an accelerator they are batched (`vmap`).
"""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding

from tljax.data.streams import Feed, Reader
from tljax.data.table import Table
from tljax.phase.phase import Phase, numbers
from tljax.train import placing
from tljax.train import step as stepping
from tljax.train.step import Report, State, beginning, changing, with_constants

AXIS = "lanes"
LONGEST = 10_000  # steps of a dispatch; the loop keeps it to about a second
# A convolution whose axes are not those of one forward, of channels last.
BACKWARD = re.compile(
    r"stablehlo\.convolution.*dim_numbers = (?!\[b, [0-9, ]+f\]x\[[0-9, ]+i, o\]->\[b, )"
)


class Lane(NamedTuple):
    """What one lane steps."""

    phase: Phase
    state: State
    data: Mapping[str, Table]  # of streams that live on the device
    readers: Mapping[str, Reader] = {}  # of streams that are read from disk


def batched() -> bool:
    """Whether the lanes of a device are batched, rather than taken in turn."""
    return jax.default_backend() != "cpu"


class Single:
    """One lane."""

    def __init__(self, lane: Lane, dispatch: int | None, workers: int = 0):
        mesh = lane.phase.mesh
        self.state = placing.split(lane.state, mesh)
        self.phase, self.data = placing.everywhere((numbers(lane.phase), dict(lane.data)), mesh)
        self.readers, self.workers = lane.readers, workers
        self._feed: Feed | None = None
        self.looped, self.longest = self._dispatch(dispatch)

    def _dispatch(self, longest: int | None) -> tuple[bool, int]:
        """(whether steps run in a loop on the device, the most steps a dispatch).

        A loop saves the cost of a dispatch; but on a CPU XLA runs in a loop tens of times slower
        what differentiation makes of its convolutions. A program that holds one of other axes than
        a forward one's, as they stand in the text, is dispatched step by step there.
        """
        if longest is None:
            longest = 8 if self.readers else LONGEST
            if jax.default_backend() == "cpu":
                blank = {name: reader.blank(longest) for name, reader in self.readers.items()}
                fed = placing.split_fed(blank, self.phase.mesh)
                counted = placing.everywhere((np.int32(1), np.bool_(True)), self.phase.mesh)
                arguments = (self.phase, self.state, self.data, fed, *counted)
                program = stepping.train_steps.lower(*arguments).as_text()
                longest = 1 if BACKWARD.search(program) else longest
        return longest > 1, longest

    def advance(self, step: int, count: int, fresh: bool) -> Report:
        """Dispatches `count` steps from `step` on."""
        mesh = self.phase.mesh
        self._feed = self._feed or Feed(self.readers, step, self.workers)
        fed = placing.split_fed(self._feed.take(count, self.longest), mesh)
        counted, begins = placing.everywhere((np.int32(count), np.bool_(fresh)), mesh)
        with jax.transfer_guard("disallow"):
            arguments = (self.phase, self.state, self.data, fed)
            if self.looped:
                self.state, report = stepping.train_steps(*arguments, counted, begins)
            else:
                self.state, report = stepping.single_step(*arguments, begins)
        return report

    def reports(self, report: Report) -> list[Report]:
        """What the host reads of a dispatch, a lane each."""
        return [jax.device_get(report)]

    def states(self) -> list[State]:
        """The state of each lane."""
        return [self.state]

    def starts(self) -> list[Any]:
        """Where each lane started."""
        return [beginning(self.state)]


class Stacked:
    """Several lanes. A lane that is not finite stays as it was before that step; others go on."""

    def __init__(self, lanes: Sequence[Lane], dispatch: int | None):
        self.over, self.count = mesh(), len(lanes)
        missing = -len(lanes) % self.over.size  # the last lane stands in where devices are left
        filled = [*lanes, *([lanes[-1]] * missing)]
        data = lanes[0].data
        shared = {n: t for n, t in data.items() if all(lane.data[n] is t for lane in lanes)}
        apart = [{n: t for n, t in lane.data.items() if n not in shared} for lane in filled]
        self.phase = stack([numbers(lane.phase) for lane in filled], self.over)
        self.state = stack([lane.state for lane in filled], self.over)
        self.apart = stack(apart, self.over)
        self.shared = share(shared, self.over)
        self.longest = dispatch or LONGEST

    def advance(self, step: int, count: int, fresh: bool) -> Report:
        """Dispatches `count` steps from `step` on."""
        counted = share((np.int32(count), np.bool_(fresh)), self.over)
        arguments = (self.phase, self.state, self.apart, self.shared, *counted)
        self.state = steps(self.over, batched(), *arguments)
        # A copy, as the state is donated to the next dispatch before this is read.
        return _copied(Report(self.state.totals, self.state.faults))

    def reports(self, report: Report) -> list[Report]:
        """What the host reads of a dispatch, a lane each."""
        return self._members(report)

    def states(self) -> list[State]:
        """The state of each lane, on the host: all devices would evaluate a slice of theirs."""
        return self._members(changing(self.state))

    def starts(self) -> list[Any]:
        """Where each lane started."""
        return self._members(beginning(self.state))

    def _members(self, tree: Any) -> list[Any]:
        held = jax.device_get(tree)
        return [member(held, lane) for lane in range(self.count)]


@jax.jit
def _copied(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)


def mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The devices, all of them if left out, along the axis of lanes."""
    devices = list(devices or jax.local_devices())
    return Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))


def stack(trees: Sequence[Any], over: Mesh) -> Any:
    """Trees of one structure as one, with a leading axis of lanes, split over the devices."""
    stacked = jax.tree.map(_stacked, *trees)
    return jax.device_put(stacked, NamedSharding(over, jax.P(AXIS)))


def _stacked(*leaves: Any) -> Any:
    if jax.dtypes.issubdtype(leaves[0].dtype, jax.dtypes.prng_key):
        return jnp.stack(leaves)
    return np.stack([np.asarray(leaf) for leaf in leaves])


def share(tree: Any, over: Mesh) -> Any:
    """A tree that all lanes read, on every device."""
    return jax.device_put(tree, NamedSharding(over, jax.P()))


def member(tree: Any, index: int) -> Any:
    """One lane's part of a stacked tree."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


@functools.partial(jax.jit, static_argnames=("over", "batched"), donate_argnames="state")
def steps(
    over: Mesh,
    batched: bool,
    phase: Phase,
    state: State,
    apart: Mapping[str, Table],
    shared: Mapping[str, Table],
    count: Array,
    fresh: Array,
) -> State:
    """`count` steps of every lane.

    Args:
      over: the devices.
      batched: whether the lanes of a device are batched, or taken in turn.
      phase, state: of all lanes, stacked.
      apart: stream -> tables that differ between lanes, stacked.
      shared: stream -> tables that all lanes sample.
      count: of steps, traced.
      fresh: whether sums begin anew.
    """

    def one(lane: Any, shared: Any, count: Array, fresh: Array) -> State:
        phase, first, apart = lane

        def body(_: Array, state: State) -> State:
            new = stepping.train_step(phase, state, {**shared, **apart}, {})
            failed = jnp.stack([fault >= 0 for fault in new.faults.values()]).any()
            held = state._replace(faults=new.faults)
            # A branch, not a choice by element, which would be fused with what it chooses from.
            kept = jax.lax.cond(
                failed, lambda held, new: held, lambda held, new: new, changing(held), changing(new)
            )
            return with_constants(kept, state)

        return jax.lax.fori_loop(0, count, body, stepping.begun(first, fresh))

    def several(lanes: Any, shared: Any, count: Array, fresh: Array) -> State:
        of_lane = functools.partial(one, shared=shared, count=count, fresh=fresh)
        return jax.vmap(of_lane)(lanes) if batched else jax.lax.map(of_lane, lanes)

    along, whole = jax.P(AXIS), jax.P()
    specs: Any = dict(in_specs=(along, whole, whole, whole), out_specs=along)
    spread = jax.shard_map(several, mesh=over, check_vma=False, **specs)
    return spread((phase, state, apart), shared, count, fresh)


def fitting(lane: Lane, limit: int | None, wanted: int) -> int:
    """How many lanes a device can hold, by the compiled program's own account of its memory.

    Where all that are wanted fit, their program is the only one that is compiled.

    Args:
      lane: one of them.
      limit: bytes of a device's memory; None where it does not say, which fits any number.
      wanted: the most that a device is to hold.
    """
    if limit is None:
        return wanted
    over = mesh()
    parts: list[Any] = [numbers(lane.phase), lane.state, {}]
    stacked = [stack([part] * over.size, over) for part in parts]
    shared = share(dict(lane.data), over)
    counted = share((np.int32(1), np.bool_(True)), over)

    def size(lanes: int) -> int:
        def widened(leaf: Any) -> jax.ShapeDtypeStruct:
            shape = (lanes * leaf.shape[0], *leaf.shape[1:])
            return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=leaf.sharding)

        wide = jax.tree.map(widened, stacked)
        arguments = (*wide, shared, *counted)
        memory: Any = steps.lower(over, batched(), *arguments).compile().memory_analysis()
        return memory.argument_size_in_bytes + memory.temp_size_in_bytes

    room = 0.9 * limit
    if size(wanted) <= room:
        return wanted
    one, two = size(1), size(2)
    return min(wanted, max(1, int((room - one) / max(two - one, 1)) + 1))

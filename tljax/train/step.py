"""The step: a pure function of a phase, a state and data. Every method, every phase, this one."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from tljax import trees
from tljax.data import streams
from tljax.data.table import Table
from tljax.phase import objective, optimizers, transfer
from tljax.phase.phase import Phase, numbers
from tljax.train import gradients, placing


class State(NamedTuple):
    """All that changes from step to step, all that a checkpoint holds; and where it started."""

    step: Array  # int32
    params: Any
    batch_stats: Any
    optimizer: Any  # of the moving parameters only
    average: Any  # of the moving parameters; None if none is kept
    balance: Any  # what the balancer remembers
    totals: dict[str, Array]  # sums of the steps' scalars since the last report
    faults: dict[str, Array]  # scalar -> the first step at which it was not finite, or -1
    key: Any  # of all the phase's randomness; it does not change
    start: Any  # {"params", "batch_stats", "tables", "rows"}: the anchor, but for frozen parameters


class Report(NamedTuple):
    """What the host reads of a dispatch."""

    totals: dict[str, Array]
    faults: dict[str, Array]


def initialise(phase: Phase, start: Mapping[str, Any], key: Array) -> State:
    """The state before the first step, from `{"params", "batch_stats", "tables", "rows"}`."""
    params = start["params"]
    moving, _ = trees.partition(params, transfer.moving(params, phase.train))
    optimizer = optimizers.partitioned(phase.optimizer, phase.train)
    balancer = gradients.weigher(phase)
    names = [*phase.terms, "loss", "gradient_norm"]
    return State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=start["batch_stats"],
        optimizer=optimizer.init(params),
        average=jax.tree.map(jnp.copy, moving) if phase.average is not None else None,
        balance=balancer.initial(len(phase.balance.tasks)) if balancer and phase.balance else (),
        totals={name: jnp.zeros(()) for name in (*names, *_rated(phase))},
        faults={name: jnp.full((), -1, jnp.int32) for name in (*names, "parameters")},
        key=key,
        start={**start, "params": moving},
    )


def train_step(
    phase: Phase, state: State, data: Mapping[str, Table], fed: Mapping[str, Table]
) -> State:
    """One step: the state after it.

    Args:
      phase: what is done; its numbers may be traced.
      state: before the step.
      data: stream -> its whole table, of streams that live on the device.
      fed: stream -> this step's examples, of streams that are read from disk.
    """
    batch = streams.batch_of(phase.streams, data, state.start["rows"], fed, state.step, state.key)
    batch = placing.split_batch(batch, phase.mesh)
    mask = transfer.moving(state.params, phase.train)
    moving, frozen = trees.partition(state.params, mask)
    progress = state.step / phase.steps
    key = jax.random.fold_in(jax.random.fold_in(state.key, 0), state.step)

    def losses(moving: Any, batch_stats: Any, batch: Any, key: Array):
        params = placing.whole(trees.combine(moving, frozen), phase.mesh)
        weighted, (scalars, batch_stats) = objective.apply(
            phase, params, batch_stats, batch, {**data, **fed}, beginning(state), progress, key
        )
        return gradients.uncertain(phase, params, weighted), (scalars, batch_stats)

    weighted, pull, (scalars, batch_stats) = gradients.differentiated(
        losses, moving, state.batch_stats, batch, key, phase.accumulate, phase.mesh
    )
    gradient, balance = gradients.combined(phase, state.balance, weighted, pull, key)
    total = weighted.sum()
    optimizer = optimizers.partitioned(phase.optimizer, phase.train)
    still = jax.tree.map(jnp.zeros_like, frozen)
    updates, optimizer_state = optimizer.update(
        trees.combine(gradient, still), state.optimizer, state.params, progress=progress
    )
    moving = optax.apply_updates(moving, trees.partition(updates, mask)[0])

    average = state.average
    if phase.average is not None:
        average = optax.incremental_update(moving, average, 1 - phase.average)
    scalars = {**scalars, "loss": total, "gradient_norm": optax.tree.norm(gradient)}
    checked = {**scalars, "parameters": optax.tree.norm(moving)}
    faults = {
        name: jnp.where((fault < 0) & ~jnp.isfinite(checked[name]), state.step, fault)
        for name, fault in state.faults.items()
    }
    scalars |= {name: phase.optimizer.rate(progress) for name in _rated(phase)}
    changed = changing(state)._replace(
        step=state.step + 1,
        params=trees.combine(moving, frozen),
        batch_stats=batch_stats,
        optimizer=optimizer_state,
        average=average,
        balance=balance,
        totals={name: state.totals[name] + scalars[name] for name in scalars},
        faults=faults,
    )
    return with_constants(placing.keep_split(changed, phase.mesh), state)


def _rated(phase: Phase) -> tuple[str, ...]:
    """What is told of the learning rate; nothing of a transformation with a rate of its own."""
    return () if phase.optimizer.learning_rate is None else ("learning_rate",)


def beginning(state: State) -> dict[str, Any]:
    """All that a phase started from, the anchor; what is frozen is where it was."""
    return {**state.start, "params": trees.combine(state.start["params"], state.params)}


def changing(state: State) -> State:
    """A state without what does not change."""
    return state._replace(key=None, start=None)


def with_constants(state: State, other: State) -> State:
    """A state with what does not change of another."""
    return state._replace(key=other.key, start=other.start)


def begun(state: State, fresh: Array) -> State:
    """A state whose sums begin anew where it is `fresh`."""
    totals = {name: jnp.where(fresh, 0.0, total) for name, total in state.totals.items()}
    return state._replace(totals=totals)


@functools.partial(jax.jit, donate_argnames="state")
def train_steps(
    phase: Phase,
    state: State,
    data: Mapping[str, Table],
    fed: Mapping[str, Table],
    count: Array,
    fresh: Array,
) -> tuple[State, Report]:
    """`count` steps in one dispatch; `fed` has a leading axis of at least `count` steps.

    The count is traced: one program serves a dispatch of any length, and the numbers do not
    depend on how a run is cut into dispatches. Sums begin anew where it is `fresh`.
    """

    def body(i: Array, state: State) -> State:
        return train_step(phase, state, data, jax.tree.map(lambda leaf: leaf[i], fed))

    state = jax.lax.fori_loop(0, count, body, begun(state, fresh))
    return state, Report(state.totals, state.faults)


@functools.partial(jax.jit, donate_argnames="state")
def single_step(
    phase: Phase, state: State, data: Mapping[str, Table], fed: Mapping[str, Table], fresh: Array
) -> tuple[State, Report]:
    """One step in one dispatch; `fed` has a leading axis of one."""
    examples = jax.tree.map(lambda leaf: leaf[0], fed)
    state = train_step(phase, begun(state, fresh), data, examples)
    return state, Report(state.totals, state.faults)


def step(phase: Phase, state: State, data: Mapping[str, Table]) -> tuple[State, Report]:
    """One compiled step, from Python: `state, report = step(phase, state, data)`.

    Args:
      phase: what is done. Phases of one structure share the program, whatever their numbers.
      state: from `start` or the step before; donated, that is used up.
      data: stream -> its table, in memory.

    Returns:
      The state after the step; its scalars, `report.totals`, and whether they were finite.
    """
    phase = numbers(phase)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((phase, state, data))):
        data = jax.tree.map(jnp.asarray, dict(data))  # a traced row of numpy's is not to be had
        state = train_step(phase, begun(state, jnp.bool_(True)), data, {})  # in a gradient or vmap
        return state, Report(state.totals, state.faults)
    return single_step(phase, state, data, {}, np.bool_(True))


def evaluated(state: State) -> dict[str, Any]:
    """The variables to judge a state by: the average where one is kept."""
    params = state.params
    if state.average is not None:
        params = trees.combine(state.average, params)
    return {"params": params, "batch_stats": state.batch_stats}

"""The step: a pure function of state, numbers and data. Every method, every phase, this one."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh

from tljax import objective as objectives
from tljax import transfer, trees
from tljax.data import streams
from tljax.train import gradients, optimizers, placing


class Plan(NamedTuple):
    """All that is static of a phase; hashable. Phases with equal plans share compiled programs."""

    objective: objectives.Objective
    optimizer: optimizers.Optimizer
    train: tuple[tuple[str, bool], ...]  # pattern -> whether it moves
    averaged: bool = False  # whether an exponential moving average of the parameters is kept
    balance: gradients.Balance | None = (
        None  # how tasks are weighed against each other; None: added
    )
    mesh: Mesh | None = None  # the devices of one run; None: one
    parts: int = 1  # of a batch, whose gradients are accumulated


class State(NamedTuple):
    """All that changes from step to step, and all that a checkpoint holds."""

    step: Array  # int32
    params: Any
    batch_stats: Any
    optimizer: Any  # of the moving parameters only
    average: Any  # of the moving parameters; None if none is kept
    balance: Any  # what the balancer remembers
    totals: dict[str, Array]  # sums of the step's scalars since the last log
    faults: dict[str, Array]  # scalar -> the first step at which it was not finite, or -1


class Report(NamedTuple):
    """What the host reads of a dispatch."""

    totals: dict[str, Array]
    faults: dict[str, Array]


Hyper = Mapping[str, Any]
"""The numbers of a phase, traced: `key`, `steps`, `log_every`, `decay` of the average, `factors`
of the learning rate in the order of `Plan.train`, those of `terms`, `streams`, `optimizer` and
`balance`, and `tables`, the arrays that terms may read."""


def initialise(plan: Plan, params: Any, batch_stats: Any) -> State:
    """The state before the first step, from the parameters that the phase starts from."""
    moving, _ = trees.partition(params, transfer.moving(params, plan.train))
    optimizer = optimizers.initialise(plan.optimizer, moving)
    balancer = gradients.balancer(plan.balance)
    names = [*(term.name for term in plan.objective.terms), "loss", "gradient_norm"]
    return State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        optimizer=optimizer,
        average=jax.tree.map(jnp.copy, moving) if plan.averaged else None,
        balance=balancer.initial(len(plan.balance.tasks)) if balancer and plan.balance else (),
        totals={name: jnp.zeros(()) for name in (*names, "learning_rate")},
        faults={name: jnp.full((), -1, jnp.int32) for name in names},
    )


def train_step(
    plan: Plan,
    state: State,
    hyper: Hyper,
    anchor: Any,
    resident: Mapping[str, Any],
    fed: Mapping[str, Any],
) -> State:
    """One step.

    Args:
      plan: what is static.
      state: before the step.
      hyper: the numbers.
      anchor: the variables `{"params", "batch_stats"}` that the phase started from.
      resident: stream -> arrays that live on the device.
      fed: stream -> this step's examples, for streams that are read from disk.

    Returns:
      The state after the step.
    """
    batch = streams.batch_of(
        plan.objective.streams, hyper["streams"], resident, fed, state.step, hyper["key"]
    )
    batch = placing.split_batch(batch, plan.mesh)
    mask = transfer.moving(state.params, plan.train)
    moving, frozen = trees.partition(state.params, mask)
    progress = state.step / hyper["steps"]
    key = jax.random.fold_in(jax.random.fold_in(hyper["key"], 0), state.step)

    def losses(moving: Any, batch_stats: Any, batch: Any, key: Array):
        params = placing.whole(trees.combine(moving, frozen), plan.mesh)
        weighted, (scalars, batch_stats) = objectives.apply(
            _of_part(plan),
            hyper["terms"],
            params,
            batch_stats,
            batch,
            anchor,
            progress,
            key,
            hyper["tables"],
        )
        return gradients.uncertain(plan.balance, params, weighted), (scalars, batch_stats)

    weighted, pull, (scalars, batch_stats) = gradients.differentiated(
        losses, moving, state.batch_stats, batch, key, plan.parts, plan.mesh
    )
    gradient, balance = gradients.combined(
        plan.balance, hyper["balance"], state.balance, weighted, pull, key
    )
    total = weighted.sum()
    rules = [(p, f) for (p, _), f in zip(plan.train, hyper["factors"], strict=True)]
    factors, _ = trees.partition(trees.label(state.params, rules, "train"), mask)
    optimizer = optimizers.build(plan.optimizer, hyper["optimizer"], progress, factors)
    updates, optimizer_state = optimizer.update(gradient, state.optimizer, moving)
    moving = optax.apply_updates(moving, updates)

    average = state.average
    if plan.averaged:
        average = optax.incremental_update(moving, average, 1 - hyper["decay"])
    scalars = {**scalars, "loss": total, "gradient_norm": optax.tree.norm(gradient)}
    faults = {
        name: jnp.where((fault < 0) & ~jnp.isfinite(scalars[name]), state.step, fault)
        for name, fault in state.faults.items()
    }
    scalars["learning_rate"] = optimizers.rate(plan.optimizer, hyper["optimizer"], progress)
    fresh = state.step % hyper["log_every"] == 0
    totals = {name: jnp.where(fresh, 0.0, state.totals[name]) + scalars[name] for name in scalars}
    new = State(
        step=state.step + 1,
        params=trees.combine(moving, frozen),
        batch_stats=batch_stats,
        optimizer=optimizer_state,
        average=average,
        balance=balance,
        totals=totals,
        faults=faults,
    )
    return placing.keep_split(new, plan.mesh)


@functools.partial(jax.jit, static_argnames="plan", donate_argnames="state")
def train_steps(
    plan: Plan,
    state: State,
    hyper: Hyper,
    anchor: Any,
    resident: Mapping[str, Any],
    fed: Mapping[str, Any],
    count: Array,
) -> tuple[State, Report]:
    """`count` steps in one dispatch; `fed` has a leading axis of at least `count` steps.

    The count is traced: one program serves a dispatch of any length, and the numbers do not
    depend on how a run is cut into dispatches.
    """

    def body(i: Array, state: State) -> State:
        examples = jax.tree.map(lambda leaf: leaf[i], fed)
        return train_step(plan, state, hyper, anchor, resident, examples)

    state = jax.lax.fori_loop(0, count, body, state)
    return state, Report(state.totals, state.faults)


@functools.partial(jax.jit, static_argnames="plan", donate_argnames="state")
def single_step(
    plan: Plan,
    state: State,
    hyper: Hyper,
    anchor: Any,
    resident: Mapping[str, Any],
    fed: Mapping[str, Any],
) -> tuple[State, Report]:
    """One step in one dispatch; `fed` has a leading axis of one."""
    examples = jax.tree.map(lambda leaf: leaf[0], fed)
    state = train_step(plan, state, hyper, anchor, resident, examples)
    return state, Report(state.totals, state.faults)


def _of_part(plan: Plan) -> objectives.Objective:
    """The objective of a part of a batch."""
    specs = (s._replace(batch=s.batch // plan.parts) for s in plan.objective.streams)
    return plan.objective._replace(streams=tuple(specs))


def evaluated(state: State) -> tuple[Any, Any]:
    """(parameters, batch statistics) to judge a state by: the average where one is kept."""
    if state.average is None:
        return state.params, state.batch_stats
    return trees.combine(state.average, state.params), state.batch_stats

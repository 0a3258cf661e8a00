"""The step: a pure function of state, numbers and data. Every method, every phase, this one."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh

from tljax import balance as balances
from tljax import objective as objectives
from tljax import transfer, trees
from tljax.data import streams
from tljax.losses.multitask import uncertainty_weighted
from tljax.train import optimizers, placing


class Balance(NamedTuple):
    """What is static of how the gradients of several tasks are combined; hashable."""

    name: str  # of balance.BALANCERS, or "uncertainty"
    tasks: tuple[int, ...]  # places of the tasks among the terms; the others are simply added
    shared: tuple[tuple[str, bool], ...]  # pattern -> whether all tasks share the parameter
    static: tuple[tuple[str, Any], ...] = ()

    @property
    def scalars(self) -> tuple[tuple[str, float], ...]:
        """The log variances that are learned with the network (Kendall et al. 2018)."""
        learned = self.name == "uncertainty"
        return tuple((f"log_variance_{task}", -0.5) for task in self.tasks if learned)


class Plan(NamedTuple):
    """All that is static of a phase; hashable. Phases with equal plans share compiled programs."""

    objective: objectives.Objective
    optimizer: optimizers.Optimizer
    train: tuple[tuple[str, bool], ...]  # pattern -> whether it moves
    averaged: bool = False  # whether an exponential moving average of the parameters is kept
    balance: Balance | None = None  # how tasks are weighed against each other; None: added
    mesh: Mesh | None = None  # the devices of one run; None: one


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
    balancer = _balancer(plan)
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

    def losses(moving: Any):
        params = trees.combine(moving, frozen)
        weighted, (scalars, batch_stats) = objectives.apply(
            plan.objective,
            hyper["terms"],
            params,
            state.batch_stats,
            batch,
            anchor,
            progress,
            key,
            hyper["tables"],
        )
        return _uncertain(plan, params, weighted), (scalars, batch_stats)

    weighted, pull, (scalars, batch_stats) = jax.vjp(losses, moving, has_aux=True)
    gradients, balance = _combined(plan, state, hyper, weighted, lambda c: pull(c)[0], key)
    total = weighted.sum()
    rules = [(p, f) for (p, _), f in zip(plan.train, hyper["factors"], strict=True)]
    factors, _ = trees.partition(trees.label(state.params, rules, "train"), mask)
    optimizer = optimizers.build(plan.optimizer, hyper["optimizer"], progress, factors)
    updates, optimizer_state = optimizer.update(gradients, state.optimizer, moving)
    moving = optax.apply_updates(moving, updates)

    average = state.average
    if plan.averaged:
        average = optax.incremental_update(moving, average, 1 - hyper["decay"])
    scalars = {**scalars, "loss": total, "gradient_norm": optax.tree.norm(gradients)}
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


def _balancer(plan: Plan) -> balances.Balancer | None:
    return balances.BALANCERS.get(plan.balance.name) if plan.balance else None


def _uncertain(plan: Plan, params: Any, weighted: Array) -> Array:
    """The weighted losses, where the tasks' are divided by their learned variances if asked for."""
    if plan.balance is None or not plan.balance.scalars:
        return weighted
    tasks = jnp.array(plan.balance.tasks)
    learned = jnp.stack([params["scalars"][name] for name, _ in plan.balance.scalars])
    each = jax.vmap(lambda loss, s: uncertainty_weighted(loss[None], s[None]))
    return weighted.at[tasks].set(each(weighted[tasks], learned))


def _combined(
    plan: Plan,
    state: State,
    hyper: Hyper,
    weighted: Array,
    pull: Callable[[Array], Any],
    key: Array,
) -> tuple[Any, Any]:
    """The gradient to follow, and what the balancer remembers.

    Args:
      weighted: the weighted losses `[terms]`.
      pull: coefficients `[terms]` -> the gradient of the sum of losses with these coefficients.
    """
    ones, balancer = jnp.ones_like(weighted), _balancer(plan)
    if plan.balance is None or balancer is None:
        return pull(ones), state.balance
    tasks = jnp.array(plan.balance.tasks)
    rest = ones.at[tasks].set(0.0)
    arguments = dict(plan.balance.static) | dict(hyper["balance"])
    key = jax.random.fold_in(key, streams.identity("balance"))
    if not balancer.gramian:
        weights, memory = balancer.weigh(state.balance, weighted[tasks], None, key, **arguments)
        return pull(rest.at[tasks].set(weights)), memory
    each = [pull(jnp.zeros_like(ones).at[task].set(1.0)) for task in plan.balance.tasks]
    common = trees.label(each[0], plan.balance.shared, "balance.shared")
    shared = [jax.tree.leaves(trees.partition(gradient, common)[0]) for gradient in each]
    rows = jnp.stack([jnp.concatenate([leaf.ravel() for leaf in leaves]) for leaves in shared])
    weights, memory = balancer.weigh(
        state.balance, weighted[tasks], rows @ rows.T, key, **arguments
    )

    def combine(shared: bool, *leaves: Array) -> Array:
        parts = [w * leaf if shared else leaf for w, leaf in zip(weights, leaves, strict=True)]
        return sum(parts[1:], parts[0])

    gradients = jax.tree.map(combine, common, *each)
    if len(plan.balance.tasks) < len(plan.objective.terms):
        gradients = jax.tree.map(jnp.add, gradients, pull(rest))
    return gradients, memory


def evaluated(state: State) -> tuple[Any, Any]:
    """(parameters, batch statistics) to judge a state by: the average where one is kept."""
    if state.average is None:
        return state.params, state.batch_stats
    return trees.combine(state.average, state.params), state.batch_stats

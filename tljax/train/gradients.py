"""The gradient that a step follows: of a batch or its parts, of one task or several."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

from tljax import balance as balances
from tljax import trees
from tljax.data.streams import identity
from tljax.losses.multitask import uncertainty_weighted
from tljax.phase.phase import Phase
from tljax.train import placing

Pull = Callable[..., Any]
"""Coefficients `[terms]` -> the gradient of the sum of losses with them; of 1 each if left out."""


def differentiated(
    losses: Callable,
    moving: Any,
    batch_stats: Any,
    batch: Any,
    key: Array,
    parts: int = 1,
    mesh: Mesh | None = None,
) -> tuple[Array, Pull, tuple[dict[str, Array], Any]]:
    """The losses of a batch and how to differentiate them.

    Of several parts of a batch all are means, and batch statistics move from part to part. A part's
    memory is free for the next; coefficients other than 1 cost the forward passes again.

    Args:
      losses: (moving, batch_stats, batch, key) -> (losses `[terms]`, (scalars, batch_stats)).
      moving: the parameters to differentiate by.
      batch_stats, batch, key: of the step; every part has a key of its own.
      parts: into which every stream's batch is divided, each spread over all devices.
      mesh: the devices, if there are several.

    Returns:
      The losses `[terms]`, their gradient, and (scalars, moved batch statistics).
    """
    if parts == 1:
        rest = (batch_stats, batch, key)
        weighted, back, aux = jax.vjp(lambda m: losses(m, *rest), moving, has_aux=True)

        def pull(coefficients: Array | None = None) -> Any:
            return back(jnp.ones_like(weighted) if coefficients is None else coefficients)[0]

        return weighted, pull, aux
    # Every n-th example is of a part, so that each part is spread over all devices.
    taken = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)

    def over(coefficients: Array | None) -> tuple[Any, Any]:
        def one(carried: Any, part: Any) -> tuple[Any, None]:
            total, batch_stats = carried
            number, examples = part
            examples = placing.split_batch(examples, mesh)
            rest = (batch_stats, examples, jax.random.fold_in(key, number))
            weighted, back, aux = jax.vjp(lambda m: losses(m, *rest), moving, has_aux=True)
            scalars, moved = aux
            by = jnp.ones_like(weighted) if coefficients is None else coefficients
            now = (back(by)[0], weighted, scalars)
            return (jax.tree.map(lambda t, n: t + n / parts, total, now), moved), None

        numbers = jnp.arange(parts)
        first = jax.tree.map(lambda leaf: leaf[0], taken)
        shapes = jax.eval_shape(losses, moving, batch_stats, first, key)
        total = (moving, shapes[0], shapes[1][0])
        total = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), total)
        return jax.lax.scan(one, (total, batch_stats), (numbers, taken))[0]

    (gradient, weighted, scalars), moved = over(None)

    def pull_parts(coefficients: Array | None = None) -> Any:
        return gradient if coefficients is None else over(coefficients)[0][0]

    return weighted, pull_parts, (scalars, moved)


def learned(phase: Phase) -> tuple[tuple[str, float], ...]:
    """The log variances that are learned (Kendall et al. 2018), with their first values."""
    tasks = phase.balance.tasks if phase.balance and not weigher(phase) else ()
    return tuple((f"log_variance_{_places(phase)[task]}", -0.5) for task in tasks)


def weigher(phase: Phase) -> balances.Balancer | None:
    """What weighs the gradients of tasks; None where the losses alone say how they are added."""
    method = phase.balance.method.function if phase.balance else None
    return method if isinstance(method, balances.Balancer) else None


def _places(phase: Phase) -> dict[str, int]:
    return {name: i for i, name in enumerate(phase.terms)}


def _tasks(phase: Phase) -> list[int]:
    assert phase.balance
    return [place for name, place in _places(phase).items() if name in phase.balance.tasks]


def uncertain(phase: Phase, params: Any, weighted: Array) -> Array:
    """The weighted losses, where the tasks' are divided by their learned variances if asked for."""
    scalars = learned(phase)
    if not scalars:
        return weighted
    tasks = jnp.array(_tasks(phase))
    variances = jnp.stack([params["scalars"][name] for name, _ in scalars])
    of_task = jax.vmap(lambda loss, s: uncertainty_weighted(loss[None], s[None]))
    return weighted.at[tasks].set(of_task(weighted[tasks], variances))


def combined(phase: Phase, memory: Any, weighted: Array, pull: Pull, key: Array) -> tuple[Any, Any]:
    """The gradient to follow, and what the balancer remembers.

    Args:
      phase: whose `balance` says how tasks are weighed; None: losses are added.
      memory: what the balancer remembers of the steps before.
      weighted: the weighted losses `[terms]`.
      pull: their gradient.
      key: of the step.
    """
    ones, balancer = jnp.ones_like(weighted), weigher(phase)
    if phase.balance is None or balancer is None:
        return pull(), memory
    places = _tasks(phase)
    tasks = jnp.array(places)
    rest = ones.at[tasks].set(0.0)
    method = phase.balance.method
    arguments = {**dict(method.static), **method.numbers}
    key = jax.random.fold_in(key, identity("balance"))
    if not balancer.gramian:
        weights, memory = balancer.weigh(memory, weighted[tasks], None, key, **arguments)
        return pull(rest.at[tasks].set(weights)), memory
    pulled = [pull(jnp.zeros_like(ones).at[task].set(1.0)) for task in places]
    rules = (*((pattern, True) for pattern in phase.balance.shared), ("**", False))
    common = trees.label(pulled[0], rules, "balance.shared")
    shared = [jax.tree.leaves(trees.partition(gradient, common)[0]) for gradient in pulled]
    rows = jnp.stack([jnp.concatenate([leaf.ravel() for leaf in leaves]) for leaves in shared])
    weights, memory = balancer.weigh(memory, weighted[tasks], rows @ rows.T, key, **arguments)

    def combine(shared: bool, *leaves: Array) -> Array:
        parts = [w * leaf if shared else leaf for w, leaf in zip(weights, leaves, strict=True)]
        return sum(parts[1:], parts[0])

    gradients = jax.tree.map(combine, common, *pulled)
    if len(places) < len(weighted):
        gradients = jax.tree.map(jnp.add, gradients, pull(rest))
    return gradients, memory

"""Multitask gradients combined: weights of the tasks' gradients, from their Gramian alone.

The Gramian is A_ij = ⟨g_i, g_j⟩ over the shared parameters, g_i the gradient of task i's loss.
Weights w mean that the combined gradient is Σ_i w_i g_i. `tljax.balance` offers these with the
methods that need no Gramian.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Integer, Scalar

from tljax.errors import UserError
from tljax.typed import shaped

Tasks = Float[Array, "tasks"]
Gramian = Float[Array, "tasks tasks"]

FLOOR = 1e-8
"""Keeps a squared norm that is divided by, or whose root is taken, above 0."""
NEWTON_STEPS = 25
"""Each divides the duality gap by up to 10: float64 has converged after 20, float32 after 12."""


@shaped
def pcgrad(gramian: Gramian, order: Integer[Array, "tasks others"]) -> Tasks:
    """Each task's gradient loses what conflicts with the others', one after another; then a sum.

    The running g_i meets the original g_j of every other task; if their product is negative,
    (g_i·g_j / (‖g_j‖² + 1e-8)) g_j is subtracted. The tasks' results are summed, not averaged.

    Args:
      gramian: `[tasks, tasks]`.
      order: `[tasks, tasks]` or `[tasks, tasks − 1]`, integers: row i names the tasks in the order
        in which task i meets them; i itself is skipped.

    Returns:
      Weights `[tasks]`, each ≥ 1; all are 1 where nothing conflicts.

    Raises:
      UserError: an order of another shape.

    Yu et al. 2020, "Gradient Surgery for Multi-Task Learning", algorithm 1.
    """
    gramian, tasks = _wide(gramian), len(gramian)
    if order.shape[1] not in (tasks, tasks - 1):
        raise UserError(
            f"pcgrad: order: got {list(order.shape)}; expected [tasks, tasks] or "
            f"[tasks, tasks - 1] of {tasks} tasks"
        )

    def operated(task, others):
        def meet(coefficients, other):
            product = coefficients @ gramian[:, other]
            share = product / (gramian[other, other] + FLOOR)
            conflict = (product < 0) & (other != task)
            return coefficients.at[other].add(jnp.where(conflict, -share, 0)), None

        start = jnp.zeros(tasks, gramian.dtype).at[task].set(1)
        return jax.lax.scan(meet, start, others)[0]

    return jax.vmap(operated)(jnp.arange(tasks), order).sum(axis=0)


@shaped
def mgda(gramian: Gramian) -> Tasks:
    """The shortest vector in the convex hull of the gradients: min over the simplex of wᵀAw.

    Following it descends on every task, or it is 0 and the point is Pareto-stationary. Solved
    by an interior-point method instead of the paper's Frank-Wolfe, which needs many more steps.

    Args:
      gramian: A, `[tasks, tasks]`.

    Returns:
      Weights `[tasks]` ≥ 0 that sum to 1: of gradients of similar size, so about 1/tasks of the
      length of a sum.

    Sener & Koltun 2018, "Multi-Task Learning as Multi-Objective Optimization", eq. 3.
    """
    gramian, _ = _scaled(_wide(gramian))

    def newton(_, point):
        return _newton(point, gramian @ point.weights, gramian)[0]

    start = _start(gramian.mean(axis=-1))
    return jax.lax.fori_loop(0, NEWTON_STEPS, newton, start).weights


@shaped
def cagrad(gramian: Gramian, c: float | Scalar = 0.5, rescale: bool = True) -> Tasks:
    """The direction near the mean gradient ḡ along which the worst task gains most.

    ḡ + (c‖ḡ‖/‖g_w‖) g_w, where w minimises wᵀAb + c‖ḡ‖ √(wᵀAw + 1e-8) over the simplex, with
    b = 1/tasks, ‖ḡ‖ = √(mean A + 1e-8) and g_w = Σ w_i g_i. At c = 0 it is the mean gradient,
    and it nears `mgda` as c grows.

    Args:
      gramian: A, `[tasks, tasks]`.
      c: in [0, 1), how far from ḡ it may be, in parts of ‖ḡ‖; the authors ran 0.4.
      rescale: divide by 1 + c², as the authors' code does.

    Returns:
      Weights `[tasks]` > 0, on the scale of a mean of gradients, not of a sum.

    Liu et al. 2021, "Conflict-Averse Gradient Descent for Multi-task Learning", algorithm 1.
    """
    gramian, scale = _scaled(_wide(gramian))
    tasks, floor, c = len(gramian), FLOOR / scale, jnp.asarray(c, gramian.dtype)
    # Below its rounding error the square root's argument says nothing.
    smoothing = jnp.maximum(floor, jnp.finfo(gramian.dtype).eps)
    mean = gramian.mean(axis=-1)
    radius = c * _root(mean.mean(), floor)

    # The slope jumps where g_w = 0, and Newton fails there, unless its curvature is taken at a
    # dual vector that follows g_w/‖g_w‖ without being it (Chan, Golub & Mulet 1999).
    def newton(_, state):
        point, dual = state
        product = gramian @ point.weights
        length = _root(point.weights @ product, smoothing)
        cross = jnp.outer(gramian @ dual, product) / length**2
        curvature = radius * (gramian / length - 0.5 * (cross + cross.T))
        after, change, size = _newton(point, mean + radius * product / length, curvature)
        target = (point.weights + change) / length - dual * (product @ change) / length**2
        dual = dual + size * (target - dual)
        dual = dual / jnp.maximum(1, _root(dual @ gramian @ dual, 0))
        return after, jnp.where(jnp.isfinite(dual), dual, state[1])

    uniform = jnp.full(tasks, 1 / tasks, gramian.dtype)
    dual = uniform / _root(mean.mean(), smoothing)
    start = _start(mean + radius * (gramian @ dual)), dual
    weights = jax.lax.fori_loop(0, NEWTON_STEPS, newton, start)[0].weights
    combined = uniform + radius / _root(weights @ gramian @ weights, floor) * weights
    return combined / (1 + c**2) if rescale else combined


class _Point(NamedTuple):
    """Where an interior-point method is: on the simplex, with the multipliers of its faces."""

    weights: Array
    multipliers: Array  # of weights ≥ 0
    level: Array  # of Σ weights = 1; at the optimum, slope = level + multipliers


def _start(slope: Array) -> _Point:
    """The middle of the simplex, where the objective has `slope`."""
    level = slope.min() - 1
    return _Point(jnp.full_like(slope, 1 / len(slope)), slope - level, level)


def _newton(point: _Point, slope: Array, curvature: Array) -> tuple[_Point, Array, Array]:
    """A primal-dual step towards a tenth of the gap; also its direction in weights and its size."""
    weights, multipliers, level = point
    target = 0.1 * weights @ multipliers / len(weights)
    root = jnp.sqrt(weights)
    # Scaled by the root on both sides it stays well conditioned next to the faces.
    matrix = root[:, None] * curvature * root[None, :] + jnp.diag(multipliers)
    matrix = matrix + jnp.finfo(slope.dtype).eps * jnp.eye(len(slope), dtype=slope.dtype)
    sides = jnp.stack([root * (target / weights + level - slope), root], axis=-1)
    solved = root[:, None] * jnp.linalg.solve(matrix, sides)
    raised = -solved[:, 0].sum() / solved[:, 1].sum()
    change = solved[:, 0] + raised * solved[:, 1]
    changed = (target - multipliers * change) / weights - multipliers
    both = jnp.concatenate([weights, multipliers]), jnp.concatenate([change, changed])
    shrinks = both[1] < 0
    room = jnp.where(shrinks, -both[0] / jnp.where(shrinks, both[1], -1), jnp.inf)
    size = jnp.minimum(1, 0.95 * room.min())
    after = jnp.maximum(weights + size * change, 1e-12)
    multipliers = jnp.maximum(multipliers + size * changed, 1e-12)
    moved = _Point(after / after.sum(), multipliers, level + size * raised)
    # Once the gap is rounding error, further steps only wander.
    unfinished = weights @ multipliers > 1e-3 * jnp.finfo(slope.dtype).eps
    moves = unfinished & jnp.isfinite(moved.weights).all() & jnp.isfinite(moved.multipliers).all()
    return jax.tree.map(lambda new, old: jnp.where(moves, new, old), moved, point), change, size


def _root(square: Array, floor: float | Array) -> Array:
    """√(square + floor), of a square that rounding may have made negative."""
    return jnp.sqrt(jnp.maximum(square, 0) + floor)


def _scaled(gramian: Array) -> tuple[Array, Array]:
    """The Gramian over its mean squared norm, and that norm."""
    scale = jnp.maximum(jnp.diagonal(gramian).mean(), 1e-12)
    return gramian / scale, scale


def _wide(gramian: Array) -> Array:
    """The Gramian in at least float32."""
    return gramian.astype(jnp.promote_types(gramian.dtype, jnp.float32))

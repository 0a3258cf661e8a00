"""Multitask balance: how much each task's gradient counts in a step, by six methods.

Each is a pure function; `BALANCERS` holds them behind one interface, with the state that some
keep from step to step. Weights w mean that the combined gradient is Σ_i w_i g_i, g_i the
gradient of task i's loss; the Gramian is A_ij = ⟨g_i, g_j⟩ over the shared parameters.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from tljax.gramian import cagrad, mgda, pcgrad

FLOOR = 1e-8
"""Losses are ≥ 0; one that is divided by, or whose logarithm is taken, is kept above 0 by this."""


def dynamic_weight_average(
    previous: Array, before_previous: Array, temperature: float | Array = 2.0
) -> Array:
    """The tasks whose loss fell least of late weigh most: K · softmax(r/T), r the losses' ratio.

    Args:
      previous: `[tasks]`, mean losses ≥ 0 of the last epoch.
      before_previous: `[tasks]`, those of the epoch before it; r = previous / before_previous.
      temperature: T > 0; the larger, the more equal.

    Returns:
      Weights `[tasks]` that sum to K, the number of tasks.

    Raises:
      ValueError: shapes that differ, or that are not vectors.

    Liu, Johns & Davison 2019, "End-to-End Multi-Task Learning with Attention", eq. 7.
    """
    _vectors("dynamic_weight_average", previous, before_previous)
    ratios = jnp.maximum(previous, FLOOR) / jnp.maximum(before_previous, FLOOR)
    return len(ratios) * jax.nn.softmax(ratios / temperature)


def gradnorm(
    theta: Array,
    losses: Array,
    initial_losses: Array,
    gradient_norms: Array,
    alpha: float | Array = 1.5,
) -> Array:
    """How far the weighted gradients' norms are from where they should be: Σ |G_i − Ḡ r_i^α|.

    w = K · softmax(θ), G_i = w_i ‖g_i‖, Ḡ its mean; r_i is the loss over its initial value,
    divided by the tasks' mean of that. The target Ḡ r_i^α is a constant: only θ through G_i gets
    a gradient.

    Args:
      theta: θ, `[tasks]`; the softmax stands for the paper's renormalisation to a sum of K.
      losses: `[tasks]`, ≥ 0.
      initial_losses: `[tasks]`, those of the first step.
      gradient_norms: `[tasks]`, ‖g_i‖ of the unweighted losses on the shared parameters.
      alpha: α ≥ 0, how strongly the tasks are pulled to the same pace.

    Returns:
      A scalar ≥ 0.

    Raises:
      ValueError: shapes that differ, or that are not vectors.

    Chen et al. 2018, "GradNorm: Gradient Normalization for Adaptive Loss Balancing", eq. 2.
    """
    _vectors("gradnorm", theta, losses, initial_losses, gradient_norms)
    constants = jax.lax.stop_gradient((losses, initial_losses, gradient_norms))
    losses, initial_losses, gradient_norms = constants
    ratios = jnp.maximum(losses, FLOOR) / jnp.maximum(initial_losses, FLOOR)
    norms = len(theta) * jax.nn.softmax(theta) * gradient_norms
    targets = norms.mean() * (ratios / ratios.mean()) ** alpha
    return jnp.abs(norms - jax.lax.stop_gradient(targets)).sum()


def famo(theta: Array, losses: Array) -> Array:
    """Weights with which all losses fall at a like rate: w_i = (z_i/D_i) / Σ (z/D).

    z = softmax(θ) and D = L + 1e-8. The gradient of Σ w_i L_i, w held constant, is that of the
    paper's Σ z log D / Σ (z/D).

    Args:
      theta: θ, `[tasks]`, moved by `famo_gradient`.
      losses: L, `[tasks]`, ≥ 0.

    Returns:
      Weights `[tasks]` ≥ 0 that sum to 1; they carry no gradient.

    Raises:
      ValueError: shapes that differ, or that are not vectors.

    Liu et al. 2023, "FAMO: Fast Adaptive Multitask Optimization", algorithm 1.
    """
    _vectors("famo", theta, losses)
    # A softmax of logs, which is the same and cannot overflow.
    logs = jax.nn.log_softmax(theta) - jnp.log(jnp.maximum(losses, 0) + FLOOR)
    return jax.lax.stop_gradient(jax.nn.softmax(logs))


def famo_gradient(theta: Array, previous_losses: Array, losses: Array) -> Array:
    """What FAMO's θ descends along: the losses' log decrease through the softmax's Jacobian.

    δ = log D_previous − log D_now gives z ∘ (δ − zᵀδ): the tasks that fell most lose weight.

    Args:
      theta: θ, `[tasks]`, from which z = softmax(θ).
      previous_losses: `[tasks]`, ≥ 0, before the step.
      losses: `[tasks]`, ≥ 0, after it.

    Returns:
      `[tasks]`, which sums to 0.

    Raises:
      ValueError: shapes that differ, or that are not vectors.

    Liu et al. 2023, "FAMO: Fast Adaptive Multitask Optimization", algorithm 1.
    """
    _vectors("famo_gradient", theta, previous_losses, losses)
    before, now = (jnp.log(jnp.maximum(x, 0) + FLOOR) for x in (previous_losses, losses))
    z, decrease = jax.nn.softmax(theta), before - now
    return z * (decrease - z @ decrease)


def _vectors(name: str, *arrays: Array) -> None:
    """Refuses arrays that are not vectors of one length."""
    shapes = [array.shape for array in arrays]
    if len(shapes[0]) != 1 or len(set(shapes)) != 1:
        got = ", ".join(map(str, shapes))
        raise ValueError(f"{name}: got shapes {got}; expected all to be the same [tasks]")


class Balancer(NamedTuple):
    """A way to weigh tasks from step to step."""

    initial: Callable[[int], Any]
    """The number of tasks -> a state: a pytree of float32 arrays, whose shapes never change."""
    weigh: Callable[..., tuple[Array, Any]]
    """(state, losses `[tasks]`, Gramian or None, key, **parameters) -> (weights `[tasks]`, the
    next state). Nothing that comes out carries a gradient."""
    gramian: bool
    """Whether it reads the Gramian, which costs a backward pass per task."""


def _stateless(tasks: int) -> tuple[()]:
    return ()


def _weigh_pcgrad(state, losses, gramian, key):
    """`pcgrad` in an order drawn from the key, for each task its own."""
    gramian = jax.lax.stop_gradient(gramian)
    tasks = jnp.arange(len(gramian))
    order = jax.vmap(jax.random.permutation, (0, None))(jax.random.split(key, len(gramian)), tasks)
    return pcgrad(gramian, order), state


def _weigh_mgda(state, losses, gramian, key):
    return mgda(jax.lax.stop_gradient(gramian)), state


def _weigh_cagrad(state, losses, gramian, key, *, c: float = 0.5, rescale: bool = True):
    return cagrad(jax.lax.stop_gradient(gramian), c, rescale), state


def _zeros(shape: int | tuple[()], names: tuple[str, ...]) -> dict[str, Array]:
    return {name: jnp.zeros(shape, jnp.float32) for name in names}


def _start_dwa(tasks: int) -> dict[str, Array]:
    names = ("previous", "before_previous", "sum")
    return _zeros(tasks, names) | _zeros((), ("steps", "epochs"))


def _weigh_dwa(state, losses, gramian, key, *, epoch: int = 100, temperature: float = 2.0):
    """`dynamic_weight_average` of means over `epoch` steps; ones until there are two such means."""
    if epoch < 1:
        raise ValueError(f"dwa: got an epoch of {epoch} steps; expected at least 1")
    weights = dynamic_weight_average(state["previous"], state["before_previous"], temperature)
    weights = jnp.where(state["epochs"] >= 2, weights, 1)
    state = state | {"sum": state["sum"] + _constant(losses), "steps": state["steps"] + 1}
    ended = {
        "previous": state["sum"] / epoch,
        "before_previous": state["previous"],
        "sum": jnp.zeros_like(state["sum"]),
        "steps": jnp.zeros_like(state["steps"]),
        "epochs": state["epochs"] + 1,
    }
    return weights, _where(state["steps"] >= epoch, ended, state)


def _start_moving(tasks: int) -> dict[str, Array]:
    """θ with Adam's moments and count, and the losses that are compared with."""
    names = ("theta", "mean", "square", "losses")
    return _zeros(tasks, names) | _zeros((), ("steps", "started"))


def _weigh_gradnorm(state, losses, gramian, key, *, alpha: float = 1.5, rate: float = 0.025):
    """K · softmax(θ), and a step of Adam on `gradnorm` for the next; the first losses are kept."""
    losses = _constant(losses)
    first = jnp.where(state["started"] > 0, state["losses"], losses)
    norms = jnp.sqrt(jnp.maximum(jnp.diagonal(_constant(gramian)), 0))
    gradient = jax.grad(gradnorm)(state["theta"], losses, first, norms, alpha)
    weights = len(losses) * jax.nn.softmax(state["theta"])
    return weights, _started(_adam(state, gradient, rate), first)


def _weigh_famo(state, losses, gramian, key, *, rate: float = 0.025, decay: float = 1e-3):
    """`famo`, after a step of Adam on θ from how the losses changed since the step before.

    The authors compare the losses of one batch before and after the step, which takes a second
    forward pass; here those of this step are compared with those of the step before, on its
    own batch. The first step has nothing to compare with and moves nothing.
    """
    losses = _constant(losses)
    gradient = famo_gradient(state["theta"], state["losses"], losses) + decay * state["theta"]
    state = _where(state["started"] > 0, _adam(state, gradient, rate), state)
    return famo(state["theta"], losses), _started(state, losses)


def _started(state, losses):
    """The state with the losses that the next step compares with."""
    return state | {"losses": losses, "started": jnp.ones_like(state["started"])}


def _adam(state, gradient, rate):
    """The state after a step of Adam on its θ."""
    inner = optax.ScaleByAdamState(state["steps"].astype(jnp.int32), state["mean"], state["square"])
    update, inner = optax.scale_by_adam().update(gradient, inner)
    theta = state["theta"] - rate * update
    moved = {"theta": theta, "mean": inner.mu, "square": inner.nu, "steps": state["steps"] + 1}
    return state | jax.tree.map(lambda x: x.astype(jnp.float32), moved)


def _constant(x: Array) -> Array:
    """`x` as the state holds it: float32, without gradient."""
    return jax.lax.stop_gradient(x).astype(jnp.float32)


def _where(condition, one, other):
    """One tree where the condition, a scalar, holds, and the other where not."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), one, other)


BALANCERS: dict[str, Balancer] = {
    "pcgrad": Balancer(_stateless, _weigh_pcgrad, gramian=True),
    "mgda": Balancer(_stateless, _weigh_mgda, gramian=True),
    "cagrad": Balancer(_stateless, _weigh_cagrad, gramian=True),
    "dwa": Balancer(_start_dwa, _weigh_dwa, gramian=False),
    "gradnorm": Balancer(_start_moving, _weigh_gradnorm, gramian=True),
    "famo": Balancer(_start_moving, _weigh_famo, gramian=False),
}
"""The methods by their config names."""

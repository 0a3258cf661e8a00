"""The six methods behind one interface, with the state that some keep from step to step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from tljax.balance.gramian import cagrad, mgda, pcgrad
from tljax.balance.pace import dynamic_weight_average, famo, famo_gradient, gradnorm
from tljax.checks import Count, Decay, NotNegative, Positive


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
    """`mgda` of the gradients as they are."""
    return mgda(jax.lax.stop_gradient(gramian)), state


def _weigh_cagrad(state, losses, gramian, key, *, c: Decay = 0.5, rescale: bool = True):
    """`cagrad`, `c` from the mean gradient."""
    return cagrad(jax.lax.stop_gradient(gramian), c, rescale), state


def _zeros(shape: int | tuple[()], names: tuple[str, ...]) -> dict[str, Array]:
    return {name: jnp.zeros(shape, jnp.float32) for name in names}


def _start_dwa(tasks: int) -> dict[str, Array]:
    names = ("previous", "before_previous", "sum")
    return _zeros(tasks, names) | _zeros((), ("steps", "epochs"))


def _weigh_dwa(state, losses, gramian, key, *, epoch: Count = 100, temperature: Positive = 2.0):
    """`dynamic_weight_average` of means over `epoch` steps; ones until there are two such means."""
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


def _weigh_gradnorm(
    state, losses, gramian, key, *, alpha: NotNegative = 1.5, rate: NotNegative = 0.025
):
    """K · softmax(θ), and a step of Adam on `gradnorm` for the next; the first losses are kept."""
    losses = _constant(losses)
    first = jnp.where(state["started"] > 0, state["losses"], losses)
    norms = jnp.sqrt(jnp.maximum(jnp.diagonal(_constant(gramian)), 0))
    gradient = jax.grad(gradnorm)(state["theta"], losses, first, norms, alpha)
    weights = len(losses) * jax.nn.softmax(state["theta"])
    return weights, _started(_adam(state, gradient, rate), first)


def _weigh_famo(
    state, losses, gramian, key, *, rate: NotNegative = 0.025, decay: NotNegative = 1e-3
):
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

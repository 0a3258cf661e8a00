"""Optimisers from a config, built inside the step so that every number in them is traced."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from tljax.errors import number, unknown
from tljax.signature import defaults, split


def sgd(rate: Array, *, momentum: float = 0.9, nesterov: bool = False):
    """Stochastic gradient descent with momentum."""
    return optax.sgd(rate, momentum, nesterov)


def adam(rate: Array, *, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8):
    """Adam (Kingma & Ba 2015)."""
    return optax.adam(rate, b1, b2, eps)


def adamw(
    rate: Array, *, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, decay: float = 1e-4
):
    """AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""
    return optax.adamw(rate, b1, b2, eps, weight_decay=decay)


def lion(rate: Array, *, b1: float = 0.9, b2: float = 0.99, decay: float = 1e-3):
    """Lion (Chen et al. 2023)."""
    return optax.lion(rate, b1, b2, weight_decay=decay)


OPTIMIZERS: dict[str, Callable] = {each.__name__: each for each in (sgd, adam, adamw, lion)}


def constant(progress: Array) -> Array:
    """1 throughout."""
    return jnp.ones_like(progress)


def cosine(progress: Array, *, final: float = 0.0) -> Array:
    """Half a cosine from 1 to `final`."""
    return final + (1 - final) * optax.schedules.cosine_decay_schedule(1.0, 1)(progress)


def linear(progress: Array, *, final: float = 0.0) -> Array:
    """A straight line from 1 to `final`."""
    return 1.0 + (final - 1.0) * progress


def inverse(progress: Array, *, gamma: float = 10.0, power: float = 0.75) -> Array:
    """(1 + γ·p)^−power: Ganin & Lempitsky 2015, section 4."""
    return (1.0 + gamma * progress) ** -power


SCHEDULES: dict[str, Callable] = {
    each.__name__: each for each in (constant, cosine, linear, inverse)
}


class Optimizer(NamedTuple):
    """What is static of an optimiser; hashable, part of the compiled step's identity."""

    name: str
    static: tuple[tuple[str, Any], ...]
    schedule: str
    clipped: bool
    decayed: bool


_PARTS = ("name", "learning_rate", "schedule", "warmup", "clip", "weight_decay")


def parse(config: Mapping[str, Any], field: str) -> tuple[Optimizer, dict[str, Any]]:
    """Reads `dict(name="sgd", learning_rate=0.1, schedule=dict(name="cosine"), clip=1.0, ...)`.

    Args:
      config: `name`; `learning_rate`; `schedule`, a name or a dict of a name and its numbers;
        `warmup`, the part of the phase over which the rate rises from 0; `clip`, the largest
        norm of the gradient of what moves (None: any); `weight_decay`, added to the gradient as
        in L2 regularisation; and the optimiser's own fields.
      field: where it was given, for error messages.

    Returns:
      The static parts, and the numbers to be traced.
    """
    usual = {"name": "sgd", "learning_rate": None, "schedule": "constant", "warmup": 0.0}
    config = {**usual, "clip": None, "weight_decay": 0.0, **config}
    name = config["name"]
    if name not in OPTIMIZERS:
        raise unknown(f"{field}.name", name, OPTIMIZERS)
    own = {key: value for key, value in config.items() if key not in _PARTS}
    for key in own:
        if key not in defaults(OPTIMIZERS[name]):
            raise unknown(field, key, (*_PARTS, *defaults(OPTIMIZERS[name])))
    static, numbers = split(OPTIMIZERS[name], own, field)
    schedule = config["schedule"]
    schedule = {"name": schedule} if isinstance(schedule, str) else dict(schedule)
    kind = schedule.pop("name", None)
    if kind not in SCHEDULES:
        raise unknown(f"{field}.schedule.name", kind, SCHEDULES)
    _, shape = split(SCHEDULES[kind], schedule, f"{field}.schedule")
    parts = {"learning_rate": config["learning_rate"], "warmup": config["warmup"]}
    clip, decay = config["clip"], config["weight_decay"]
    if clip is not None:
        parts["clip"] = clip
    if decay:
        parts["weight_decay"] = decay
    parts = {part: number(f"{field}.{part}", value) for part, value in parts.items()}
    optimizer = Optimizer(name, static, kind, clip is not None, bool(decay))
    return optimizer, {"own": numbers, "schedule": shape, **parts}


def rate(optimizer: Optimizer, numbers: Mapping[str, Any], progress: Array) -> Array:
    """The learning rate at `progress`, a scalar."""
    warm = jnp.minimum(1.0, progress / jnp.maximum(numbers["warmup"], 1e-9))
    warm = jnp.where(numbers["warmup"] > 0, warm, 1.0)
    shape = SCHEDULES[optimizer.schedule](progress, **numbers["schedule"])
    return numbers["learning_rate"] * warm * shape


def build(
    optimizer: Optimizer, numbers: Mapping[str, Any], progress: Array, factors: Any
) -> optax.GradientTransformation:
    """The optax transformation of one step; its state holds no number of the config.

    Args:
      optimizer, numbers: from `parse`, the numbers possibly traced.
      progress: 0 to 1.
      factors: a tree like the moving parameters: the factor on each leaf's learning rate.
    """
    chain = []
    if optimizer.clipped:
        chain.append(optax.clip_by_global_norm(numbers["clip"]))
    if optimizer.decayed:
        chain.append(optax.add_decayed_weights(numbers["weight_decay"]))
    make = OPTIMIZERS[optimizer.name]
    chain.append(
        make(rate(optimizer, numbers, progress), **dict(optimizer.static), **numbers["own"])
    )
    chain.append(
        optax.stateless(lambda updates, _: jax.tree.map(lambda u, f: u * f, updates, factors))
    )
    return optax.chain(*chain)


def initialise(optimizer: Optimizer, moving: Any) -> Any:
    """The first state of the transformation, for the parameters that move."""
    # Numbers do not reach it, so that any will do.
    numbers = {"own": {}, "schedule": {}, "learning_rate": 1.0, "warmup": 0.0}
    numbers |= {"clip": 1.0, "weight_decay": 0.0}
    return build(optimizer, numbers, jnp.zeros(()), moving).init(moving)

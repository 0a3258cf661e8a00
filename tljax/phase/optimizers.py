"""Optimisers: ordinary optax transformations that are also trees of their numbers.

Since the numbers are leaves, a step that is given an optimiser traces them: another rate compiles
nothing anew. `partitioned` makes layer transfer of one, by labels on the paths of parameters.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from tljax import trees
from tljax.bind import Bound, bind, defaults, find, node, scalar, static
from tljax.checks import Decay, NotNegative, Positive, Range
from tljax.errors import UserError, calling, unknown, wrong


def sgd(rate: Array, *, momentum: Decay = 0.9, nesterov: bool = False):
    """Stochastic gradient descent with momentum."""
    return optax.sgd(rate, momentum, nesterov)


def adam(rate: Array, *, b1: Decay = 0.9, b2: Decay = 0.999, eps: Positive = 1e-8):
    """Adam (Kingma & Ba 2015)."""
    return optax.adam(rate, b1, b2, eps)


def adamw(
    rate: Array,
    *,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: Positive = 1e-8,
    decay: NotNegative = 1e-4,
):
    """AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""
    return optax.adamw(rate, b1, b2, eps, weight_decay=decay)


def lion(rate: Array, *, b1: Decay = 0.9, b2: Decay = 0.99, decay: NotNegative = 1e-3):
    """Lion (Chen et al. 2023)."""
    return optax.lion(rate, b1, b2, weight_decay=decay)


OPTIMIZERS: dict[str, Callable] = {rule.__name__: rule for rule in (sgd, adam, adamw, lion)}


def constant(progress: Array) -> Array:
    """1 throughout."""
    return jnp.ones_like(progress)


def cosine(progress: Array, *, final: NotNegative = 0.0) -> Array:
    """Half a cosine from 1 to `final`."""
    return final + (1 - final) * optax.schedules.cosine_decay_schedule(1.0, 1)(progress)


def linear(progress: Array, *, final: NotNegative = 0.0) -> Array:
    """A straight line from 1 to `final`."""
    return 1.0 + (final - 1.0) * progress


def inverse(progress: Array, *, gamma: NotNegative = 10.0, power: NotNegative = 0.75) -> Array:
    """(1 + γ·p)^−power: Ganin & Lempitsky 2015, section 4."""
    return (1.0 + gamma * progress) ** -power


SCHEDULES: dict[str, Callable] = {f.__name__: f for f in (constant, cosine, linear, inverse)}


def fixed(rate: Any, *, transformation: Any):
    """A transformation with a rate of its own."""
    return transformation


@node
@dataclasses.dataclass(frozen=True)
class Recipe:
    """The numbers and the structure of an optimiser."""

    rule: Bound  # (learning rate) -> optax transformation
    learning_rate: Any
    schedule: Bound
    warmup: Any = 0.0
    clip: Any = None
    weight_decay: Any = None
    decayed: tuple[str, ...] = static(("**",))  # patterns of the parameters that decay

    def rate(self, progress: Array) -> Array | None:
        """The learning rate at `progress`, a scalar; None of a transformation with its own."""
        if self.learning_rate is None:
            return None
        warm = jnp.minimum(1.0, progress / jnp.maximum(self.warmup, 1e-9))
        warm = jnp.where(self.warmup > 0, warm, 1.0)
        with calling("optimizer.schedule"):
            return self.learning_rate * warm * self.schedule(progress)

    def build(self, progress: Array) -> optax.GradientTransformationExtraArgs:
        """The transformation of one step; its state holds no number of the config."""
        mask = None if self.decayed == ("**",) else self._decays
        chain = []
        if self.clip is not None:
            chain.append(optax.clip_by_global_norm(self.clip))
        if self.weight_decay is not None:
            chain.append(optax.add_decayed_weights(self.weight_decay, mask))
        masked = mask and "mask" in inspect.signature(self.rule.function).parameters
        with calling("optimizer"):
            chain.append(self.rule(self.rate(progress), **({"mask": mask} if masked else {})))
            chained = optax.chain(*chain)
        return chained

    def _decays(self, params: Any) -> Any:
        return trees.named(params, lambda path: any(trees.match(p, path) for p in self.decayed))


class Optimizer(optax.GradientTransformationExtraArgs):
    """An optax transformation, clipping and decay of weights included, and a tree of its numbers.

    `update` takes `progress`, the part of the phase that is done, for the schedule and the warm-up;
    in a loop of one's own `over(steps)` counts it. Numbers are read as attributes.
    """

    recipe: Recipe

    def __new__(cls, recipe: Recipe) -> "Optimizer":
        def init(params: Any) -> Any:
            # Numbers do not reach the state, so that any will do.
            return recipe.build(jnp.zeros(())).init(params)

        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
            progress = extra.pop("progress", None)
            if progress is None and (recipe.schedule.function is not constant or recipe.warmup):
                raise UserError(
                    "optimizer: its schedule needs the progress; expected "
                    "update(..., progress=0…1), or optimizer.over(steps)"
                )
            progress = jnp.zeros(()) if progress is None else progress
            return recipe.build(progress).update(updates, state, params, **extra)

        self = super().__new__(cls, init, update)
        self.recipe = recipe
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "recipe":
            raise AttributeError(name)
        return getattr(self.recipe if hasattr(self.recipe, name) else self.recipe.rule, name)

    def over(self, steps: int) -> optax.GradientTransformationExtraArgs:
        """The transformation with a count of its own, of which `steps` make the whole schedule."""

        def init(params: Any) -> Any:
            return jnp.zeros((), jnp.int32), self.init(params)

        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
            count, inner = state
            extra = {**extra, "progress": count / steps}
            updates, inner = self.update(updates, inner, params, **extra)
            return updates, (count + 1, inner)

        return optax.GradientTransformationExtraArgs(init, update)


jax.tree_util.register_pytree_with_keys(
    Optimizer,
    lambda self: (_children(self), jax.tree.structure(self.recipe)),
    lambda structure, leaves: Optimizer(jax.tree.unflatten(structure, leaves)),
)


def _children(optimizer: Optimizer) -> list[Any]:
    """The numbers, each by a key that is its whole name: `learning_rate`, `momentum`, `gamma`."""
    leaves = trees.flatten(optimizer.recipe).items()  # the rule's stand beside the recipe's own
    return [(jax.tree_util.GetAttrKey(path.removeprefix("rule/")), leaf) for path, leaf in leaves]


def optimizer(name: str | Callable[..., Any] = "sgd", **fields: Any) -> Optimizer:
    """An optimiser: `optimizer("adamw", learning_rate=1e-3, schedule="cosine", clip=1.0)`.

    Args:
      name: of `OPTIMIZERS`, an importable `module:function` as "optax:lamb", or a function of the
        learning rate that gives an optax transformation.
      **fields: `learning_rate`; `schedule`, a name or a dict of a name and its numbers; `warmup`,
        the part of the phase over which the rate rises from 0; `clip`, the largest norm of the
        gradient of what moves (None: any); `weight_decay`, added to the gradient as in L2
        regularisation; `decayed`, patterns of the parameters that either kind of decay acts on;
        and the function's own fields.

    Raises:
      UserError: an unknown name or field, or a value out of its range.
    """
    return parse({"name": name, **fields}, "optimizer")


_PARTS = ("name", "learning_rate", "schedule", "warmup", "clip", "weight_decay", "decayed")
RANGES = {
    "learning_rate": Range(0),
    "warmup": Range(0, 1),
    "clip": Range(0, ends="(]"),
    "weight_decay": Range(0),
}
_SKIPPED = ("rate", "learning_rate", "mask")  # what is filled in by us


def parse(config: Mapping[str, Any], field: str) -> Optimizer:
    """Reads the fields of `optimizer` as a config gives them, `name` among them."""
    usual = {"name": "sgd", "learning_rate": None, "schedule": "constant", "warmup": 0.0}
    config = {**usual, "clip": None, "weight_decay": 0.0, "decayed": ("**",), **config}
    function = find(config["name"], OPTIMIZERS, f"{field}.name", ("rate|learning_rate",))
    fields = {key: value for key, value in config.items() if key not in _PARTS}
    for key in fields:
        if key not in defaults(function, _SKIPPED):
            raise unknown(field, key, (*_PARTS, *defaults(function, _SKIPPED)))
    schedule = config["schedule"]
    if not isinstance(schedule, str | Mapping):
        raise wrong(f"{field}.schedule", schedule, f"one of {sorted(SCHEDULES)}, or dict(name=...)")
    schedule = {"name": schedule} if isinstance(schedule, str) else dict(schedule)
    named = schedule.pop("name", None)
    kind = find(named, SCHEDULES, f"{field}.schedule.name", ("progress",))
    parts = {part: config[part] for part in RANGES}
    if type(parts["weight_decay"]) in (int, float) and not parts["weight_decay"]:
        parts["weight_decay"] = None  # there is less to compute
    for part in ("clip", "weight_decay"):
        if parts[part] is None:
            del parts[part]
    decayed = config["decayed"]
    if not isinstance(decayed, list | tuple) or not all(isinstance(p, str) for p in decayed):
        raise wrong(f"{field}.decayed", decayed, "a list of patterns")
    recipe = Recipe(
        rule=bind(function, fields, field, skip=_SKIPPED),
        schedule=bind(kind, schedule, f"{field}.schedule"),
        decayed=tuple(decayed),
        **{part: scalar(f"{field}.{part}", value, RANGES[part]) for part, value in parts.items()},
    )
    return Optimizer(recipe)


def of(transformation: Any) -> Optimizer:
    """An optimiser of ours, or any optax transformation as one, with a rate of its own."""
    if isinstance(transformation, Optimizer):
        return transformation
    if not isinstance(transformation, optax.GradientTransformation):
        raise wrong("optimizer", transformation, "tljax.optimizer(...), or an optax transformation")
    rule = Bound(fixed, (("transformation", transformation),))
    return Optimizer(Recipe(rule, None, Bound(constant)))


def partitioned(
    optimizer: optax.GradientTransformation, train: Mapping[str, Any]
) -> optax.GradientTransformationExtraArgs:
    """An optimiser for the parameters that move: layer transfer, as an optax transformation.

    What is frozen gets zero updates and has no state; a norm that clips is of what moves alone.

    Args:
      optimizer: any transformation.
      train: pattern -> factor on its updates, in order; None or 0 freezes.
    """
    rules = tuple(train.items())

    def kinds(params: Any) -> Any:
        def kind(path: str) -> str:
            return "frozen" if _frozen(trees.first(path, rules)[1]) else "moving"

        return trees.named(params, kind)

    def patterns(params: Any) -> Any:
        return trees.named(params, lambda path: trees.first(path, rules)[0])

    scales = {p: optax.set_to_zero() if _frozen(f) else optax.scale(f) for p, f in rules}
    moving = optax.chain(optimizer, optax.partition(scales, patterns))
    return optax.partition({"moving": moving, "frozen": optax.set_to_zero()}, kinds)


def _frozen(factor: Any) -> bool:
    return factor is None or (isinstance(factor, int | float) and factor == 0)

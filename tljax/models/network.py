"""A network: a stem for each kind of input, one trunk, and heads by name."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
from jax import Array

from tljax.errors import UserError, unknown, wrong
from tljax.models.heads import HEADS
from tljax.models.stems import STEMS
from tljax.models.trunks import TRUNKS
from tljax.signature import find, split

NORMS = ("none", "batch", "layer")
PRECISIONS = ("float32", "bfloat16")
REMAT = {
    "none": None,  # everything is kept
    "products": jax.checkpoint_policies.dots_saveable,
    "all": jax.checkpoint_policies.nothing_saveable,
}
"""What a backward pass keeps of stems and trunk, and does not compute again: the outputs of matrix
products and convolutions alone, or nothing (Chen et al. 2016)."""


class Bank(nn.Module):
    """Modules by name, created when they are first called."""

    modules: tuple[tuple[str, nn.Module], ...]
    kind: str

    @nn.compact
    def __call__(self, name: str, x: Array) -> Array:
        modules = dict(self.modules)
        if name not in modules:
            raise unknown(f"network.{self.kind}", name, modules)
        return modules[name].clone(parent=self, name=name)(x)


class Scalars(nn.Module):
    """Learned numbers by name, created when they are first asked for."""

    @nn.compact
    def __call__(self, name: str, value: float) -> Array:
        return self.param(name, nn.initializers.constant(value), ())


class Network(nn.Module):
    """Stems, trunk and heads, with parameters under `stems/NAME`, `trunk` and `heads/NAME`.

    Every head is created with the input width that the terms feed it, so a head that no term
    calls has no parameters. Learned numbers of terms are under `scalars/NAME`.
    """

    stems: Bank
    trunk: nn.Module
    heads: Bank
    scalars: Scalars = Scalars()
    precision: str = "float32"
    remat: str = "none"

    def features(
        self, x: Array, *, stem: str = "", train: bool = False, stream: str | None = None
    ) -> Array:
        """`[batch, ...]` inputs → `[batch, features]`.

        Args:
          x: the inputs of one stream, or of several whose inputs are alike.
          stem: the stem's name; empty for none.
          train: whether batch statistics are those of this batch (and move the running ones).
          stream: whose batch statistics are used; None for those that all streams share.
        """

        def run(net: "Network", x: Array) -> Array:
            x = net.stems(stem, x) if stem else x
            return net.trunk(x, train=train, stream=stream)

        if self.remat != "none":
            run = nn.remat(run, policy=REMAT[self.remat])
        return run(self, x.astype(self.precision)).astype("float32")

    def rounded(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Parameters as stems and trunk compute with them; a gradient passes to what was given."""
        if self.precision == "float32":
            return params
        cast = jax.tree.map(lambda leaf: leaf.astype(self.precision), dict(params))
        return {**params, **{part: cast[part] for part in ("stems", "trunk") if part in params}}

    def head(self, name: str, z: Array) -> Array:
        """`[batch, features]` → `[batch, outputs]` of the head called `name`."""
        return self.heads(name, z)

    def scalar(self, name: str, value: float) -> Array:
        """The learned number called `name`, a scalar that starts at `value`."""
        return self.scalars(name, value)


def build(
    config: Mapping[str, Any],
    classes: int,
    field: str = "network",
    precision: str = "float32",
    remat: str = "none",
) -> Network:
    """The network of a config `dict(stems={...}, trunk=dict(name=...), heads={...})`.

    Args:
      config: every module is `dict(name=..., **its own fields)`.
      classes: the number of outputs of a head that gives none.
      field: where the config stands, for error messages.
      precision: of PRECISIONS, in which stems and trunk compute.
      remat: of REMAT.

    Returns:
      An unbound network; equal configs give equal and equally hashed networks.

    Raises:
      UserError: an unknown module or field, or a value that does not fit.
    """
    for name in config:
        if name not in ("stems", "trunk", "heads"):
            raise unknown(field, name, ("stems", "trunk", "heads"))
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if remat not in REMAT:
        raise unknown("remat", remat, REMAT)
    heads = {
        name: {"outputs": classes, **head} if isinstance(head, Mapping) else head
        for name, head in config["heads"].items()
    }
    return Network(
        stems=_bank("stems", STEMS, config["stems"], field),
        trunk=_module(TRUNKS, config["trunk"], f"{field}.trunk"),
        heads=_bank("heads", HEADS, heads, field),
        precision=precision,
        remat=remat,
    )


def _bank(kind: str, registry: Mapping[str, type], configs: Mapping, field: str) -> Bank:
    modules = {n: _module(registry, c, f"{field}.{kind}.{n}") for n, c in configs.items()}
    return Bank(tuple(sorted(modules.items())), kind)


def _module(registry: Mapping[str, type], config: Any, field: str) -> nn.Module:
    if not isinstance(config, Mapping) or "name" not in config:
        raise wrong(field, config, f"dict(name=..., ...) with a name among {sorted(registry)}")
    kind = find(config["name"], registry, f"{field}.name")
    given = {key: value for key, value in config.items() if key != "name"}
    static, numbers = split(kind, given, field, skip={"parent", "name"})
    values = {**dict(static), **numbers}
    if values.get("norm", "none") not in NORMS:
        raise unknown(f"{field}.norm", values["norm"], NORMS)
    for name, value in values.items():
        sizes = value if isinstance(value, tuple) else (value,)
        if any(isinstance(size, int) and not isinstance(size, bool) and size < 1 for size in sizes):
            raise UserError(f"{field}.{name}: got {value!r}; expected sizes of at least 1")
    return kind(**values)

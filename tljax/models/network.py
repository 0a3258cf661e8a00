"""A network: a stem for each kind of input, one trunk, and heads by name."""

import inspect
import math
import os
from collections.abc import Collection, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from tljax import masked, trees
from tljax.bind import find, split
from tljax.errors import Unsized, UserError, calling, unknown, wrong
from tljax.models import adapters as adapting
from tljax.models.adapters import Adaptation
from tljax.models.heads import HEADS
from tljax.models.statistics import staying
from tljax.models.stems import STEMS
from tljax.models.trunks import TRUNKS

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
    def __call__(
        self, name: str, x: Any, outputs: int | None = None, default: int | None = None
    ) -> Any:
        modules = dict(self.modules)
        if name not in modules:
            raise unknown(f"network.{self.kind}", name, modules)
        module, field = modules[name], f"network.{self.kind}.{name}.outputs"
        if getattr(module, "outputs", 0) is None:
            stored = outputs_of(self.variables.get("params", {}).get(name))
            if not (stored or default or outputs):
                raise wrong(field, None, "a number of outputs", Unsized)
            module = module.clone(outputs=stored or default or outputs)
        width = getattr(module, "outputs", None)
        if outputs and width and width < outputs:
            raise wrong(field, width, f"at least {outputs}, an output for each label")
        call = masked.passed if self.kind == "stems" else masked.call
        reads = masked.reads_mask(type(module).__call__)
        return call(reads, module.clone(parent=self, name=name), x)


def outputs_of(params: Any) -> int | None:
    """The number of outputs of a head, as its parameters have it; None where they do not tell."""
    if params is None:
        return None
    if "centroids" in params:
        return params["centroids"].shape[0]
    kernel = params.get("output", {}).get("kernel")
    return None if kernel is None else kernel.shape[-1]


def check_memory(params: Any) -> None:
    """Refuses parameters of which this machine does not hold three: they, a start, a gradient."""
    sizes = {path: math.prod(leaf.shape) for path, leaf in trees.flatten(params).items()}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 3 * 4 * sum(sizes.values()) > memory:
        path = max(sizes, key=lambda path: sizes[path])
        raise UserError(
            f"network: got {sum(sizes.values()):,} parameters, most of them in {path}; expected at "
            f"most {memory // 12:,}, of which this machine's memory holds three"
        )


class Scalars(nn.Module):
    """Learned numbers by name, created when they are first asked for."""

    @nn.compact
    def __call__(self, name: str, value: float) -> Array:
        return self.param(name, nn.initializers.constant(value), ())


class Network(nn.Module):
    """Stems, trunk and heads, with parameters under `stems/NAME`, `trunk` and `heads/NAME`.

    Every head is created with the input width that the terms feed it and the outputs that they ask
    for, so a head that no term calls has no parameters. Learned numbers of terms are under
    `scalars/NAME`. `heads` and `stems` are given as dictionaries of modules, `adapters` of
    `models.adapters`, whose parameters are under `adapters/NAME`.
    """

    trunk: nn.Module
    heads: Any = ()
    stems: Any = ()
    scalars: Scalars = Scalars()
    precision: str = "float32"
    remat: str = "none"
    adapters: Any = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "adapters", tuple(sorted(dict(self.adapters).items())))
        for kind in ("heads", "stems"):
            modules = getattr(self, kind)
            if not isinstance(modules, Bank):
                modules = Bank(tuple(sorted(dict(modules).items())), kind, parent=None)
                object.__setattr__(self, kind, modules)
        super().__post_init__()

    def features(
        self, x: Any, *, stem: str = "", train: bool = False, stream: str | None = None
    ) -> Array:
        """`[batch, ...]` inputs → `[batch, features]`; see `features_and_maps`."""
        return self.features_and_maps(x, stem=stem, train=train, stream=stream)[0]

    def features_and_maps(
        self, x: Any, *, stem: str = "", train: bool = False, stream: str | None = None
    ) -> tuple[Array, Mapping[str, Array]]:
        """`[batch, ...]` inputs → `[batch, features]`, and the maps that the trunk names, if any.

        Args:
          x: the inputs of one stream, or of several whose inputs are alike; integers stay integers.
            The mask of `Masked` ones goes to a stem and a trunk with a parameter `mask`; such a
            stem returns (x, mask).
          stem: the stem's name; empty for none.
          train: whether batch statistics are those of this batch (and move the running ones).
          stream: whose batch statistics are used; None for those that all streams share.
        """

        def run(net: "Network", x: Any) -> Any:
            x = net.stems(stem, x) if stem else x
            own = net.variables.get("params", {}).get("adapters", {})
            reads = masked.reads_mask(type(net.trunk).__call__)
            with adapting.inserted(net.adapters, own):
                return masked.call(reads, net.trunk, x, train=train, stream=stream)

        if self.remat != "none":
            run = nn.remat(run, policy=REMAT[self.remat])
        integers = jnp.issubdtype(x.dtype, jnp.integer)
        outcome = run(self, x if integers else x.astype(self.precision))
        z, maps = outcome if isinstance(outcome, tuple) else (outcome, {})
        return z.astype("float32"), maps

    def adapted(self, adapters: Mapping[str, Adaptation]) -> "Network":
        """The network with these adapters in the place of its own."""
        return self.clone(adapters=tuple(adapters.items()))

    def effective(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Parameters as they are computed with, adapters merged into the trunk; see `adapters`."""
        return adapting.effective(self.adapters, params)

    def rounded(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Parameters as stems and trunk compute with them; a gradient passes to what was given."""
        if self.precision == "float32":
            return params
        cast = jax.tree.map(lambda leaf: leaf.astype(self.precision), dict(params))
        parts = ("stems", "trunk", "adapters")
        return {**params, **{part: cast[part] for part in parts if part in params}}

    def head(
        self, name: str, z: Array, outputs: int | None = None, *, default: int | None = None
    ) -> Array:
        """`[batch, features]` → `[batch, outputs]` of the head called `name`.

        Args:
          name: of the head.
          z: what it reads.
          outputs: how many are needed at least.
          default: how many a head has that gives no number itself; `outputs` if left out.

        Raises:
          UserError: a head that is not there, or that has fewer outputs.
        """
        return self.heads(name, z, outputs, default)

    def scalar(self, name: str, value: float) -> Array:
        """The learned number called `name`, a scalar that starts at `value`."""
        return self.scalars(name, value)


class Computed(nn.Module):
    """A trunk whose features have been computed: they are what comes in."""

    @nn.compact
    def __call__(self, x: Array, *, train: bool, stream: str | None = None) -> Array:
        return x


def above(network: Network) -> Network:
    """A network of which only heads are left; its inputs are the features of the whole one."""
    return network.clone(trunk=Computed(), stems={})


def head_shapes(network: Any, head: str, width: int, outputs: int | None = None) -> Any:
    """The shapes of the parameters of a head, of `outputs` if it gives none itself, on features."""
    init = nn.init(lambda net: net.head(head, jnp.zeros((1, width)), default=outputs), network)
    return jax.eval_shape(init, jax.random.key(0))["params"]["heads"][head]


def trains_as_it_judges(
    network: Network,
    variables: Mapping[str, Any],
    inputs: Array,
    *,
    stem: str = "",
    stream: str | None = None,
    still: Collection[str] | None = None,
) -> bool:
    """Whether the features of inputs are the same in a step as in an evaluation.

    It compares the two programs: a step's neither draws at random, nor reads the batch's
    statistics.

    Args:
      network: unbound, of these `variables`, `{"params", "batch_stats"}`.
      variables, inputs, stem, stream: see `Network.features_and_maps`.
      still: paths of the modules whose running statistics stay in training; None: all.
    """

    def traced(train: bool) -> str:
        def features(variables: Mapping[str, Any], inputs: Array) -> Array:
            def run(net: Any) -> Array:
                return net.features(inputs, stem=stem, train=train, stream=stream)

            variables = {**variables, "params": network.rounded(variables["params"])}
            return nn.apply(run, network, mutable=["batch_stats"])(variables)[0]

        with staying(still or () if train else ()):
            return str(jax.make_jaxpr(features)(variables, inputs))

    return traced(train=still is not None) == traced(train=False)


def build(
    stems: Mapping[str, Any],
    trunk: Any,
    heads: Mapping[str, Any],
    field: str = "network",
    precision: str = "float32",
    remat: str = "none",
) -> Network:
    """The network of a config, in which every module is `dict(name=..., **its own fields)`.

    Args:
      stems, trunk, heads: the modules.
      field: where they stand, for error messages.
      precision: "float32" or "bfloat16", in which stems and trunk compute.
      remat: of REMAT.

    Returns:
      An unbound network; equal configs give equal and equally hashed networks.

    Raises:
      UserError: an unknown module or field, or a value that does not fit.
    """
    return Network(
        trunk=module(TRUNKS, trunk, f"{field}.trunk"),
        heads={n: module(HEADS, head, f"{field}.heads.{n}") for n, head in heads.items()},
        stems={n: module(STEMS, stem, f"{field}.stems.{n}") for n, stem in stems.items()},
        precision=precision,
        remat=remat,
    )


def module(registry: Mapping[str, type], config: Any, field: str) -> nn.Module:
    """The module of `dict(name=..., **its own fields)`."""
    if not isinstance(config, Mapping) or "name" not in config:
        raise wrong(field, config, f"dict(name=..., ...) with a name among {sorted(registry)}")
    kind = find(config["name"], registry, f"{field}.name")
    takes = dict(train=True, stream=None) if registry is TRUNKS else {}
    if not _is_module(kind, takes):
        call = "self, x, *, train, stream" if takes else "self, x"
        raise wrong(f"{field}.name", config["name"], f"a flax.linen.Module of __call__({call})")
    fields = {key: value for key, value in config.items() if key != "name"}
    static, numbers = split(kind, fields, field, skip={"parent", "name"})
    with calling(field):
        return kind(**dict(static), **numbers)


def _is_module(kind: Any, takes: Mapping[str, Any]) -> bool:
    """Whether it is a class of modules that can be called with one input and the keywords."""
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        return False
    try:
        inspect.signature(kind.__call__).bind(None, None, **takes)
    except TypeError:
        return False
    return True

"""Adapters: a few parameters of their own, under `adapters/NAME/…`, beside what they adapt.

LoRA, DoRA and IA³ are transforms of the tree of parameters: a network computes with what
`effective` merges, and what was merged is a tree without them. A bottleneck and LHUC's scales are
put behind modules, and stay. All begin as the network is without them. A kernel is seen as the
matrix `[in, out]` that it is: its last axis is `out`, but of linen's query, key and value its last
two.
"""

import contextlib
import dataclasses
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from tljax import trees
from tljax.bind import find, split
from tljax.checks import Count, Positive
from tljax.errors import UserError, calling, wrong
from tljax.models.behind import LHUC, Adaptation, Bottleneck, Leaves


@dataclasses.dataclass(frozen=True)
class LoRA(Adaptation):
    """W + s·A·B of a low rank, s = α/rank, or α/√rank (`rslora`); B starts at 0.

    Hu et al. 2021, section 4.1; Kalajdzievski 2023. A `[in, rank]` starts normal with variance
    1/in. Queries, keys and values that are one product have one pair.
    """

    rank: Count = 8
    alpha: Positive = 16.0
    rslora: bool = False

    def begin(self, path: str, shape: Sequence[int], key: Array) -> Any:
        inputs, outputs = _matrix(path, shape)
        a = jax.random.normal(key, (inputs, self.rank)) / math.sqrt(inputs)
        return {"a": a, "b": jnp.zeros((self.rank, outputs))}

    def merge(self, path: str, leaves: Leaves, own: Any) -> Leaves:
        return {path: leaves[path] + self._added(own).reshape(leaves[path].shape)}

    def _added(self, own: Any) -> Array:
        scale = self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)
        return scale * jnp.matmul(own["a"], own["b"], precision="highest")


@dataclasses.dataclass(frozen=True)
class DoRA(LoRA):
    """The same direction as LoRA's sum, with a length of its own for each output.

    m·V/‖V‖ by column, V = W + s·A·B, without a gradient through ‖V‖ (Liu et al. 2024, eq. 5 and
    section 4.3). The parameter is what m has moved from ‖W‖, from 0 on: the same steps.
    """

    def begin(self, path: str, shape: Sequence[int], key: Array) -> Any:
        magnitude = jnp.zeros(_matrix(path, shape)[1])
        return {**super().begin(path, shape, key), "magnitude": magnitude}

    def merge(self, path: str, leaves: Leaves, own: Any) -> Leaves:
        kernel = leaves[path].reshape(_matrix(path, leaves[path].shape))
        whole = kernel + self._added(own)
        before, now = (jax.lax.stop_gradient(_lengths(each)) for each in (kernel, whole))
        scale = ((before + own["magnitude"]) / jnp.where(now > 0, now, 1.0))[None]
        return {path: (whole * scale).reshape(leaves[path].shape)}


@dataclasses.dataclass(frozen=True)
class IA3(Adaptation):
    """Learned scales, from 1 on, of what modules give (`outputs`) or read (`inputs`).

    Liu et al. 2022, section 3.3: of keys and values, and of the hidden layer of an MLP, which are
    the inputs of the one after it. Scales of queries, where one product makes all three, are those
    of keys once more. The scale of an output is that of its bias, too.
    """

    of: Literal["outputs", "inputs"] = "outputs"

    def begin(self, path: str, shape: Sequence[int], key: Array) -> Any:
        _matrix(path, shape)
        return {"scale": jnp.ones(self._axes(path, shape))}

    def merge(self, path: str, leaves: Leaves, own: Any) -> Leaves:
        scale, kernel, bias = own["scale"], leaves[path], f"{path.rpartition('/')[0]}/bias"
        scale = scale[..., None] if self.of == "inputs" else scale
        scaled = {path: kernel * scale.reshape((1,) * (kernel.ndim - scale.ndim) + scale.shape)}
        if self.of == "outputs" and bias in leaves:
            scaled[bias] = leaves[bias] * own["scale"]
        return scaled

    def _axes(self, path: str, shape: Sequence[int]) -> Sequence[int]:
        """The shape of the scales: of channels, which the places of a convolution share."""
        inputs = _inputs(path, shape)
        if self.of == "outputs":
            return shape[inputs:]
        whole = inputs == 1 or path.split("/")[-2] == "out"
        return shape[:inputs] if whole else shape[inputs - 1 : inputs]


ADAPTERS: dict[str, type[Adaptation]] = {
    "lora": LoRA,
    "dora": DoRA,
    "ia3": IA3,
    "bottleneck": Bottleneck,
    "lhuc": LHUC,
}
Named = Sequence[tuple[str, Adaptation]]


def parse(specs: Mapping[str, Any], field: str) -> dict[str, Adaptation]:
    """Reads `dict(NAME=dict(name="lora", only=("trunk/**/kernel",), rank=8))`."""
    found = {}
    for name, config in specs.items():
        here = f"{field}.{name}"
        if not isinstance(config, Mapping) or "name" not in config:
            expected = f"dict(name=..., only=...) with a name among {sorted(ADAPTERS)}"
            raise wrong(here, config, expected)
        kind = find(config["name"], ADAPTERS, f"{here}.name")
        if not (isinstance(kind, type) and issubclass(kind, Adaptation)):
            raise wrong(
                f"{here}.name", config["name"], f"one of {sorted(ADAPTERS)}, or an Adaptation"
            )
        fields = {key: value for key, value in config.items() if key != "name"}
        static, numbers = split(kind, fields, here)
        found[name] = kind(**{**dict(static), **numbers})
    return found


def begin(adapters: Named, params: Any, outputs: Mapping[str, Sequence[int]], key: Array) -> Any:
    """The first parameters of adapters, by name.

    Args:
      adapters: by name.
      params: of the network.
      outputs: path of a module -> the shape of its output.
      key: of this initialisation; every place has one of its own.

    Raises:
      UserError: a pattern that matches nothing, or what is no matrix.
    """
    kernels = {path: leaf.shape for path, leaf in trees.flatten(params).items()}
    made: dict[str, Any] = {}
    for name, adapter in adapters:
        places = {
            path: shape
            for path, shape in (kernels if adapter.merges else outputs).items()
            if path.startswith("trunk/")
        }
        matched = {p: [each for each in places if trees.match(p, each)] for p in adapter.only}
        for pattern, paths in matched.items() or [("", [])]:
            if not paths:
                raise UserError(
                    f"adapters.{name}.only: {pattern!r} matches nothing of the trunk; the paths "
                    f"are: {', '.join(places)}"
                )
        tree: dict[str, Any] = {}
        for path in dict.fromkeys(path for paths in matched.values() for path in paths):
            with calling(f"adapters.{name}.only"):
                own = jax.random.fold_in(key, zlib.crc32(f"{name}/{path}".encode()))
                _put(tree, path, adapter.begin(path, places[path], own))
        made[name] = tree
    return made


def effective(adapters: Named, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters with adapters merged into what they adapt, and those adapters gone."""
    held = dict(params.get("adapters", {}))
    ours = [(name, each) for name, each in adapters if each.merges and name in held]
    if not ours:
        return params
    rest = {part: tree for part, tree in params.items() if part != "adapters"}
    leaves = trees.flatten(rest)
    for name, adapter in ours:
        places: dict[str, dict[str, Any]] = {}
        for path, leaf in trees.flatten(held.pop(name)).items():
            places.setdefault(path.rpartition("/")[0], {})[path.rpartition("/")[2]] = leaf
        for path, own in places.items():
            leaves |= adapter.merge(path, leaves, own)
    merged = jax.tree.unflatten(jax.tree.structure(rest), list(leaves.values()))
    return {**merged, **({"adapters": held} if held else {})}


@contextlib.contextmanager
def inserted(adapters: Named, params: Mapping[str, Any]) -> Iterator[None]:
    """Within it modules give what the adapters behind them make of it; `params` are by name."""
    ours = [(each, params[name]) for name, each in adapters if not each.merges and name in params]

    def intercept(call: Callable, args: Any, kwargs: Any, context: Any) -> Any:
        y = call(*args, **kwargs)
        for adapter, tree in ours if context.method_name == "__call__" else ():
            if (own := _at(tree, context.module.path, adapter.part)) is not None:
                y = adapter.behind(y, own)
        return y

    with nn.intercept_methods(intercept) if ours else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def watched() -> Iterator[dict[str, Sequence[int]]]:
    """Within it the shapes of what modules give are noted, by path: of arrays alone."""
    shapes: dict[str, Sequence[int]] = {}

    def intercept(call: Callable, args: Any, kwargs: Any, context: Any) -> Any:
        y = call(*args, **kwargs)
        if context.method_name == "__call__" and hasattr(y, "shape"):
            shapes["/".join(context.module.path)] = y.shape
        return y

    with nn.intercept_methods(intercept):
        yield shapes


def _inputs(path: str, shape: Sequence[int]) -> int:
    """How many axes of a kernel are its inputs."""
    apart = len(shape) == 3 and path.split("/")[-2] in ("query", "key", "value")
    return 1 if apart else len(shape) - 1


def _matrix(path: str, shape: Sequence[int]) -> tuple[int, int]:
    """A kernel's shape as a matrix, [in, out]."""
    if len(shape) < 2:
        raise wrong(path, tuple(shape), "a matrix, as kernels are")
    inputs = _inputs(path, shape)
    return math.prod(shape[:inputs]), math.prod(shape[inputs:])


def _lengths(matrix: Array) -> Array:
    return jnp.sqrt(jnp.square(matrix).sum(0))


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *above, last = path.split("/")
    for key in above:
        tree = tree.setdefault(key, {})
    tree[last] = {**tree.get(last, {}), **value}


def _at(tree: Any, path: Sequence[str], part: str) -> Any:
    """What was put at a path, which has this part; None if nothing was."""
    for key in path:
        if key not in tree:
            return None
        tree = tree[key]
    return tree if part in tree else None

"""Public weights: which tensors of a file are which leaves of ours, and the way back.

A trunk's own file says so, in two names beside its class: `NAMINGS`, naming -> the entries of a
trunk, and `IGNORED`, patterns of what a file may hold beside them. `EXAMPLE`, where it is there,
makes an input of a trunk that takes no images.
"""

import fnmatch
import functools
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from tljax import trees
from tljax.checks import finite
from tljax.errors import UserError, unknown, wrong
from tljax.models import files


class Entry(NamedTuple):
    """One leaf of ours, and the tensors of a public file that it is made of."""

    path: str  # "params/trunk/layer1_0/conv1/kernel", "params/heads/HEAD/output/kernel"
    names: tuple[str, ...]  # in the file
    load: Callable[..., np.ndarray]  # the tensors -> our leaf
    save: Callable[[np.ndarray], tuple[np.ndarray, ...]]  # and back


HEAD = "HEAD"  # stands in the paths of a classifier for the head that it is brought to


def same(path: str, name: str) -> list[Entry]:
    """A leaf that is as it is in the file."""
    return [Entry(path, (name,), np.asarray, lambda leaf: (leaf,))]


def linear(path: str, name: str, bias: bool = True) -> list[Entry]:
    """`name.weight` `[out, in]` and `name.bias` as a dense layer's `kernel` `[in, out]`, `bias`."""
    kernel = Entry(f"{path}/kernel", (f"{name}.weight",), np.transpose, lambda leaf: (leaf.T,))
    return [kernel, *(same(f"{path}/bias", f"{name}.bias") if bias else [])]


def conv(path: str, name: str, bias: bool = False) -> list[Entry]:
    """`name.weight` `[out, in, h, w]` as a convolution's `kernel` `[h, w, in, out]`."""
    kernel = Entry(
        f"{path}/kernel",
        (f"{name}.weight",),
        lambda weight: weight.transpose(2, 3, 1, 0),
        lambda leaf: (leaf.transpose(3, 2, 0, 1),),
    )
    return [kernel, *(same(f"{path}/bias", f"{name}.bias") if bias else [])]


def norm(path: str, name: str) -> list[Entry]:
    """A batch normalisation, at `path` below "params/" and "batch_stats/"."""
    return [
        *same(f"params/{path}/scale", f"{name}.weight"),
        *same(f"params/{path}/bias", f"{name}.bias"),
        *same(f"batch_stats/{path}/statistics/mean", f"{name}.running_mean"),
        *same(f"batch_stats/{path}/statistics/var", f"{name}.running_var"),
    ]


def load(
    trunk: nn.Module,
    path: str | os.PathLike,
    *,
    naming: str = "",
    streams: Sequence[str] = (),
) -> dict[str, Any]:
    """The variables that a file of public weights holds for a trunk, and for its classifier.

    Args:
      trunk: whose leaves the file must hold, all of them and nothing else but the classifier.
      path: see `files.read`.
      naming: of the tensors; "": recognised.
      streams: that keep batch statistics of their own, and get the file's; (): all share them.

    Returns:
      `{"params": {"trunk", "heads"}, "batch_stats": {"trunk"}}` in float32, the classifier under
      `heads/HEAD`, where the file has one.

    Raises:
      UserError: a file that cannot be read, or of another architecture: what is missing (-), too
        much (+) or of another shape (!), in at most 20 items.
    """
    tensors = files.read(path)
    naming = naming or recognise(trunk, tensors)
    entries = namings(trunk)[naming](trunk)
    expected = {n for entry in entries if not _of_head(entry) for n in entry.names}
    known = expected | {name for entry in entries for name in entry.names}
    ignored = _of(trunk, "IGNORED", ())
    tensors = {
        name: each
        for name, each in tensors.items()
        if name in known or not any(fnmatch.fnmatchcase(name, pattern) for pattern in ignored)
    }
    lines = [f"- {name}" for name in sorted(expected - set(tensors))]
    lines += [f"+ {name}" for name in tensors if name not in known]
    leaves = {}
    for entry in entries:
        if set(entry.names) <= set(tensors):
            leaves[entry.path] = _leaf(entry, tensors)
    for leaf, shape in shapes(trunk).items():
        there = leaves.get(leaf)
        if there is not None and there.shape != shape:
            lines.append(f"! {leaf} {shape} against {there.shape}")
    if lines:
        more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
        raise UserError(
            f"weights: got {str(path)!r}, which does not hold a {type(trunk).__name__} by the "
            f"names of {naming} (- missing, + too much, ! other shape): "
            f"{'; '.join(lines[:SHOWN])}{more}"
        )
    for leaf, array in leaves.items():
        finite(f"weights: {str(path)!r}: {leaf}", array)
    return _nested(_by_stream(leaves, streams))


SHOWN = 20  # items of a mismatch


def recognise(trunk: nn.Module, tensors: Iterable[str]) -> str:
    """The naming of which the most names are among those of a file.

    Raises:
      UserError: a trunk without names, see `namings`, or with fields that no naming expresses.
    """
    there, known, refused = set(tensors), dict[str, int](), []
    for naming, entries in namings(trunk).items():
        try:
            known[naming] = sum(name in there for entry in entries(trunk) for name in entry.names)
        except UserError as error:
            refused.append(error)
    if not known:
        raise refused[0]
    return max(known, key=lambda naming: known[naming])


def namings(trunk: nn.Module) -> Mapping[str, Callable[[Any], list[Entry]]]:
    """Naming -> what makes the entries of this trunk, as the file of its class says.

    Raises:
      UserError: a trunk whose file says nothing.
    """
    found = _of(trunk, "NAMINGS", {})
    if not found:
        expected = "a trunk whose module has NAMINGS, such as resnet or mobilenet_v2"
        raise wrong("weights: network.trunk", type(trunk).__name__, expected)
    return found


def save(
    trunk: nn.Module,
    variables: Mapping[str, Any],
    path: str | os.PathLike,
    naming: str = "",
    *,
    head: str = "",
    stream: str = "",
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes a trunk, and a head, as safetensors under public names; the inverse of `load`.

    Args:
      trunk: whose leaves are written.
      variables: `{"params", "batch_stats"}` of a network.
      path: of the file.
      naming: of `namings(trunk)`; "": the first.
      head: that is written as the classifier; "": none.
      stream: whose batch statistics are written, where each keeps its own.
      metadata: kept in the header; {"format": "pt"} is what transformers expects.

    Raises:
      UserError: an unknown naming, a leaf that is not there, or adapters that are not merged.
    """
    known, leaves = namings(trunk), trees.flatten(dict(variables))
    if variables["params"].get("adapters"):
        raise wrong("weights: params", "adapters", "merged parameters: network.effective(params)")
    naming, tensors = naming or next(iter(known)), dict[str, np.ndarray]()
    if naming not in known:
        raise unknown("weights: naming", naming, known)
    for entry in known[naming](trunk):
        if _of_head(entry) and not head:
            continue
        leaf = entry.path.replace(f"/{HEAD}/", f"/{head}/")
        leaf = leaf.replace("/statistics/", f"/statistics_{stream}/") if stream else leaf
        if leaf not in leaves:
            near = [each for each in leaves if each.startswith(leaf.split("/")[0])]
            raise unknown("weights: variables", leaf, near[:SHOWN])
        tensors |= dict(zip(entry.names, entry.save(np.asarray(leaves[leaf])), strict=True))
    files.write_safetensors(path, tensors, metadata)


def _of(trunk: nn.Module, name: str, default: Any) -> Any:
    """What the file of a trunk's class, or of one that it inherits from, says under a name."""
    modules = [vars(sys.modules[kind.__module__]) for kind in type(trunk).__mro__]
    return next((module[name] for module in modules if name in module), default)


def _of_head(entry: Entry) -> bool:
    return entry.path.startswith(f"params/heads/{HEAD}/")


def _leaf(entry: Entry, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    """A leaf of ours; tensors that cannot be made one stay, for their shape to be told."""
    arrays = [np.asarray(tensors[name], np.float32) for name in entry.names]
    try:
        return np.ascontiguousarray(entry.load(*arrays))
    except ValueError:
        return arrays[0]


def shapes(trunk: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shapes of a trunk's leaves; the classifier's are those of the head it is brought to."""
    example = _of(trunk, "EXAMPLE", lambda trunk: np.zeros((1, 224, 224, 3), np.float32))(trunk)
    init = functools.partial(trunk.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), example)
    flat = trees.flatten({kind: {"trunk": tree} for kind, tree in variables.items()})
    return {path: leaf.shape for path, leaf in flat.items()}


def _by_stream(leaves: Mapping[str, Any], streams: Sequence[str]) -> dict[str, Any]:
    """The leaves with the statistics of each stream, where there are any."""
    names = [f"statistics_{stream}" for stream in streams] or ["statistics"]
    return {
        path.replace("/statistics/", f"/{name}/"): leaf
        for path, leaf in leaves.items()
        for name in names
    }


def _nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for path, leaf in leaves.items():
        *above, name = path.split("/")
        functools.reduce(lambda inner, key: inner.setdefault(key, {}), above, tree)[name] = leaf
    return tree

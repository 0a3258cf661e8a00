"""Public weights: which tensors of a file are which leaves of ours, and the way back.

A trunk's own file says so, in two names beside its class: `NAMINGS`, naming -> the entries of a
trunk, and `IGNORED`, patterns of what a file may hold beside them. `EXAMPLE`, where it is there,
makes an input of a trunk that takes no images.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


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

"""How leaves of ours are made of the tensors of public files: the moves that families share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tljax.errors import wrong
from tljax.models.weights import Entry

Move = Callable[[np.ndarray], np.ndarray]
TRUNK, HEAD = "params/trunk", "params/heads/HEAD/output"


def same(tensor: np.ndarray) -> np.ndarray:
    """The tensor as it is."""
    return tensor


def turned(tensor: np.ndarray) -> np.ndarray:
    """`[out, in]` → `[in, out]`, and back."""
    return np.ascontiguousarray(tensor.T)


def leaf(path: str, name: str, there: Move = same, back: Move = same) -> Entry:
    """A leaf made of one tensor by `there`, which `back` undoes."""
    return Entry(path, (name,), there, lambda leaf: (back(leaf),))


def dense(path: str, name: str, bias: bool = True) -> list[Entry]:
    """A torch `Linear`."""
    kernel = leaf(f"{path}/kernel", f"{name}.weight", turned, turned)
    return [kernel, leaf(f"{path}/bias", f"{name}.bias")] if bias else [kernel]


def norm(path: str, name: str) -> list[Entry]:
    """A torch `LayerNorm`."""
    return [leaf(f"{path}/scale", f"{name}.weight"), leaf(f"{path}/bias", f"{name}.bias")]


def convolution(path: str, name: str, bias: bool = True) -> list[Entry]:
    """A torch convolution, `[out, in, height, width]` there and `[height, width, in, out]` here."""
    kernel = leaf(
        f"{path}/kernel",
        f"{name}.weight",
        lambda w: np.ascontiguousarray(w.transpose(2, 3, 1, 0)),
        lambda w: np.ascontiguousarray(w.transpose(3, 2, 0, 1)),
    )
    return [kernel, leaf(f"{path}/bias", f"{name}.bias")] if bias else [kernel]


def embedding(path: str, name: str) -> Entry:
    """A torch `Embedding`."""
    return leaf(f"{path}/embedding", f"{name}.weight")


def qkv(path: str, names: Sequence[str], bias: bool = True, end: str = ".") -> list[Entry]:
    """Queries, keys and values: three torch `Linear`s, two (q, kv) or one, side by side here."""

    def split(array: np.ndarray) -> list[np.ndarray]:
        width = array.shape[-1] // 3
        return np.split(array, [width * i for i in range(1, len(names))], axis=-1)

    kernel = Entry(
        f"{path}/kernel",
        tuple(f"{name}{end}weight" for name in names),
        lambda *weights: np.concatenate([turned(weight) for weight in weights], axis=1),
        lambda kernel: tuple(turned(part) for part in split(kernel)),
    )
    vector = Entry(
        f"{path}/bias",
        tuple(f"{name}{end}bias" for name in names),
        lambda *biases: np.concatenate(biases),
        lambda bias: tuple(split(bias)),
    )
    return [kernel, vector] if bias else [kernel]


def block(
    path: str, prefix: str, parts: Mapping[str, str], bias: bool = True, scale: bool = False
) -> list[Entry]:
    """A block of `attention.Block` in torch's layout.

    Args:
      path: of the block.
      prefix: of its names in the file.
      parts: our part -> its name; that of `qkv` may be several, parted by spaces.
      bias: whether queries, keys and values have one.
      scale: whether there is a LayerScale.
    """
    names = {part: prefix + name for part, name in parts.items()}
    inputs = [prefix + name for name in parts["qkv"].split()]
    entries = qkv(f"{path}/attention/qkv", inputs, bias)
    entries += dense(f"{path}/attention/output", names["output"])
    entries += dense(f"{path}/mlp/expand", names["expand"])
    entries += dense(f"{path}/mlp/contract", names["contract"])
    for part in ("attention", "mlp"):
        entries += norm(f"{path}/norm_{part}", names[f"norm_{part}"])
        entries += [leaf(f"{path}/scale_{part}", names[f"scale_{part}"])] if scale else []
    return entries


def linen(path: str, name: str, leaves: str = "kernel bias") -> list[Entry]:
    """A linen layer in an npz file of vision_transformer or big_vision."""
    return [leaf(f"{path}/{part}", f"{name}/{part}") for part in leaves.split()]


def linen_attention(path: str, name: str, heads: int) -> list[Entry]:
    """linen's attention, `[width, heads, width / heads]` and back, as `attention.Attention`."""
    names = [f"{name}/{part}" for part in ("query", "key", "value")]

    def apart(kernel: np.ndarray) -> tuple[np.ndarray, ...]:
        parts = np.split(kernel, 3, axis=-1)
        return tuple(part.reshape(*part.shape[:-1], heads, -1) for part in parts)

    def together(*tensors: np.ndarray) -> np.ndarray:
        return np.concatenate([t.reshape(*t.shape[:-2], -1) for t in tensors], axis=-1)

    def from_heads(kernel: np.ndarray) -> np.ndarray:
        return kernel.reshape(-1, kernel.shape[-1])

    def to_heads(kernel: np.ndarray) -> np.ndarray:
        return kernel.reshape(heads, -1, kernel.shape[-1])

    return [
        Entry(f"{path}/qkv/kernel", tuple(f"{n}/kernel" for n in names), together, apart),
        Entry(f"{path}/qkv/bias", tuple(f"{n}/bias" for n in names), together, apart),
        leaf(f"{path}/output/kernel", f"{name}/out/kernel", from_heads, to_heads),
        leaf(f"{path}/output/bias", f"{name}/out/bias"),
    ]


def only(module: Any, naming: str, **values: Any) -> None:
    """Refuses a module with fields that the names do not express."""
    for field, value in values.items():
        if getattr(module, field) != value:
            kind = type(module).__name__
            expected = f"{value!r}: names of {naming} express no other"
            raise wrong(f"{kind}.{field}", getattr(module, field), expected)

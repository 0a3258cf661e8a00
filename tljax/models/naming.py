"""How leaves of ours are made of the tensors of public files: the moves that families share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tljax.errors import wrong
from tljax.models.weights import HEAD, Entry, linear, same

Move = Callable[[np.ndarray], np.ndarray]
TRUNK, CLASSIFIER = "params/trunk", f"params/heads/{HEAD}/output"


def moved(path: str, name: str, there: Move, back: Move) -> list[Entry]:
    """A leaf made of one tensor by `there`, which `back` undoes."""
    return [Entry(path, (name,), there, lambda leaf: (back(leaf),))]


def layer_norm(path: str, name: str) -> list[Entry]:
    """A torch `LayerNorm`."""
    return same(f"{path}/scale", f"{name}.weight") + same(f"{path}/bias", f"{name}.bias")


def embedding(path: str, name: str) -> list[Entry]:
    """A torch `Embedding`."""
    return same(f"{path}/embedding", f"{name}.weight")


def qkv(path: str, names: Sequence[str], bias: bool = True, end: str = ".") -> list[Entry]:
    """Queries, keys and values: three torch `Linear`s, two (q, kv) or one, side by side here."""

    def split(array: np.ndarray) -> list[np.ndarray]:
        width = array.shape[-1] // 3
        return np.split(array, [width * i for i in range(1, len(names))], axis=-1)

    kernel = Entry(
        f"{path}/kernel",
        tuple(f"{name}{end}weight" for name in names),
        lambda *weights: np.concatenate([weight.T for weight in weights], axis=1),
        lambda kernel: tuple(part.T for part in split(kernel)),
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
    entries += linear(f"{path}/attention/output", names["output"])
    entries += linear(f"{path}/mlp/expand", names["expand"])
    entries += linear(f"{path}/mlp/contract", names["contract"])
    for part in ("attention", "mlp"):
        entries += layer_norm(f"{path}/norm_{part}", names[f"norm_{part}"])
        entries += same(f"{path}/scale_{part}", names[f"scale_{part}"]) if scale else []
    return entries


def linen(path: str, name: str, leaves: str = "kernel bias") -> list[Entry]:
    """A linen layer in an npz file of vision_transformer or big_vision."""
    each = [same(f"{path}/{part}", f"{name}/{part}") for part in leaves.split()]
    return sum(each, [])


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
        *moved(f"{path}/output/kernel", f"{name}/out/kernel", from_heads, to_heads),
        *same(f"{path}/output/bias", f"{name}/out/bias"),
    ]


def only(module: Any, naming: str, **values: Any) -> None:
    """Refuses a module with fields that the names do not express."""
    for field, value in values.items():
        if getattr(module, field) != value:
            kind = type(module).__name__
            expected = f"{value!r}: names of {naming} express no other"
            raise wrong(f"{kind}.{field}", getattr(module, field), expected)

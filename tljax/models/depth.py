"""The layers of a trunk from the input on, and rules of `train` that go by their depth."""

from typing import Any

import flax.linen as nn

from tljax.bind import scalar
from tljax.checks import Range
from tljax.models.adapters import watched
from tljax.models.network import module
from tljax.models.trunks import TRUNKS
from tljax.models.weights import shapes

Rules = tuple[tuple[str, float], ...]


def by_depth(trunk: Any) -> list[tuple[str, ...]]:
    """The patterns of the parameters of each layer, from the input on.

    Layers are the modules that a trunk calls, in that order: its blocks (modules that have such
    with kernels themselves), or else its modules with a kernel, each with the norm after it. What
    comes before the first block (a stem, embeddings and positions) is a layer, what comes between
    two belongs to the later, and what comes after the last (a norm) to none: it moves as heads do.

    Args:
      trunk: a linen module, or `dict(name=..., ...)` as a config has it.
    """
    fields = dict(trunk) if hasattr(trunk, "keys") else trunk  # of ml_collections' kind as well
    made = trunk if isinstance(trunk, nn.Module) else module(TRUNKS, fields, "network.trunk")
    with watched() as outputs:
        params = [
            (path.split("/")[2:], shape)
            for path, shape in shapes(made).items()
            if path.startswith("params/")
        ]
    owners = {path[0] for path, _ in params if len(path) > 1}
    called = [n for n in dict.fromkeys(path.split("/")[0] for path in outputs) if n in owners]
    blocks = {path[0] for path, shape in params if len(path) > 2 and len(shape) > 1}
    opening = blocks or {path[0] for path, shape in params if len(path) > 1 and len(shape) > 1}
    found: list[list[str]] = []
    waiting = [f"trunk/{path[0]}" for path, _ in params if len(path) == 1]
    for name in called:
        pattern = f"trunk/{name}/**"
        if name in opening:
            if blocks and not found and waiting:
                found, waiting = [waiting], []
            found.append([*waiting, pattern])
            waiting = []
        elif found and not blocks:
            found[-1].append(pattern)
        else:
            waiting.append(pattern)
    return [tuple(layer) for layer in found]


def layerwise(trunk: Any, decay: float = 0.75) -> Rules:
    """Rules of `train` by which the rate falls from layer to layer towards the input.

    Layer i of n moves by decay^(n − i + 1), heads and all others by 1: as BEiT's fine-tuning has
    it (Bao et al. 2022), after Howard & Ruder 2018, section 3.2.

    Args:
      trunk: see `layers`.
      decay: above 0, at most 1.
    """
    decay, found = scalar("decay", decay, Range(0, 1, "(]")), by_depth(trunk)
    factors = [
        (pattern, decay ** (len(found) - i)) for i, each in enumerate(found) for pattern in each
    ]
    return (*factors, ("**", 1.0))


def unfreezing(trunk: Any) -> list[Rules]:
    """Rules of `train` for phase after phase: first heads alone, then one layer more in each.

    Gradual unfreezing (Howard & Ruder 2018, section 3.3), from the last layer down.

    Args:
      trunk: see `layers`.
    """
    found = by_depth(trunk)
    frozen = [
        [(p, 0.0) for each in found[:kept] for p in each] for kept in range(len(found), -1, -1)
    ]
    return [(*rules, ("**", 1.0)) for rules in frozen]

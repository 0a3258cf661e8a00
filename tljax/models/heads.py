"""Heads: features to outputs `[batch, outputs]`. Each learns its input width when it is called."""

import flax.linen as nn
from jax import Array


class Linear(nn.Module, kw_only=True):
    """One dense layer."""

    outputs: int = 1

    @nn.compact
    def __call__(self, z: Array) -> Array:
        return nn.Dense(self.outputs, name="output")(z)


class MLPHead(nn.Module, kw_only=True):
    """Dense layers of width `hidden` with ReLU, then one of `outputs`."""

    outputs: int = 1
    hidden: tuple[int, ...] = (128,)

    @nn.compact
    def __call__(self, z: Array) -> Array:
        for i, width in enumerate(self.hidden):
            z = nn.relu(nn.Dense(width, name=f"dense_{i}")(z))
        return nn.Dense(self.outputs, name="output")(z)


HEADS: dict[str, type[nn.Module]] = {"linear": Linear, "mlp": MLPHead}

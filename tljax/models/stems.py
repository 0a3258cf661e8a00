"""Stems: what a stream's input passes before the shared trunk, where inputs differ."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from tljax.checks import Width
from tljax.models.sound import InputLayer, LogMel


class Identity(nn.Module, kw_only=True):
    """The input as it is: the stem of a stream that names none."""

    def __call__(self, x: Array) -> Array:
        return x


class Adapter(nn.Module, kw_only=True):
    """A 1×1 convolution to `features` channels: `[..., channels]` → `[..., features]`."""

    features: Width = 3

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.Dense(self.features, name="mix")(jnp.asarray(x))


STEMS: dict[str, type[nn.Module]] = {
    "identity": Identity,
    "adapter": Adapter,
    "log_mel": LogMel,
    "input_layer": InputLayer,
}

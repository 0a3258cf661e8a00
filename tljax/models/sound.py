"""Stems of sounds: the log-mel front end, and a linear layer of a speaker's own behind it."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from tljax import spectra
from tljax.checks import Count, Positive, Whole


def _identity(key: Array, shape: Sequence[int], dtype: Any = jnp.float32, **_: Any) -> Array:
    return jnp.eye(shape[0], dtype=dtype)


class InputLayer(nn.Module, kw_only=True):
    """A square dense layer over the last axis that begins as the identity, as fMLLR transforms.

    Gales 1998 ("Maximum likelihood linear transformations"), as a layer of a network: Neto et al.
    1995, Seide et al. 2011.
    """

    @nn.compact
    def __call__(self, x: Array, mask: Array | None = None) -> tuple[Array, Array | None]:
        y = nn.Dense(x.shape[-1], kernel_init=_identity, name="linear")(x)
        there = None if mask is None else mask.reshape(*mask.shape, *(1,) * (y.ndim - 2))
        return (y if there is None else jnp.where(there, y, 0.0)), mask


class LogMel(nn.Module, kw_only=True):
    """Waves `[batch, samples]` to `[batch, frames, mels]`, and their masks; `spectra.log_mel`.

    With `input_layer` an `InputLayer` of that name follows, before `channel` adds an axis.
    """

    rate: Count = 16000
    window: Count = 400
    hop: Count = 160
    n_fft: Count = 512
    mels: Count = 40
    low: Whole = 0
    high: Whole = 0
    filters: spectra.Filters = "slaney"
    padding: spectra.Padding = "constant"
    floor: Positive = 1e-10
    normalise: spectra.Normalise = "none"
    channel: bool = False
    input_layer: bool = False

    @nn.compact
    def __call__(self, x: Array, mask: Array | None = None) -> tuple[Array, Array | None]:
        y, mask = spectra.log_mel(
            x,
            mask=mask,
            rate=self.rate,
            window=self.window,
            hop=self.hop,
            n_fft=self.n_fft,
            mels=self.mels,
            low=self.low,
            high=self.high,
            filters=self.filters,
            padding=self.padding,
            floor=self.floor,
            normalise=self.normalise,
        )
        if self.input_layer:
            y, mask = InputLayer(name="input_layer")(y, mask)
        return (y[..., None] if self.channel else y), mask

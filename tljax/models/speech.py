"""Trunks of spectrograms `[batch, frames, mels]`, for which frames that are not there are none.

How far an utterance is padded changes nothing: before each convolution what is not there is 0, and
the features are means over the frames that are there. The blocks of each are `block_i`.
"""

import functools
import operator
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tljax.checks import Count, Whole, Width
from tljax.errors import wrong
from tljax.models.attention import MLP, Attention, Block, Depth, LayerNorm, Size
from tljax.models.layers import Conv, max_pool

FrameNorm = Literal["none", "layer"]  # statistics of a batch would hold what is not there


def EXAMPLE(trunk: Any = None) -> Array:
    """A short one."""
    return jnp.zeros((1, 16, 8))


class Conv1D(nn.Module):
    """A convolution over frames: `[batch, frames, in]` → `[…, features]`.

    "symmetric" pads by `kernel // 2` zeros at both ends, "valid" not at all. On a CPU it is
    computed as shifted slices and products, as `layers.Conv` is and for its reason. Parameters are
    `kernel` `[k, in/groups, out]` and `bias`; groups are 1, or as many as channels.
    """

    features: int
    kernel: int = 5
    stride: int = 1
    groups: int = 1
    padding: Literal["symmetric", "valid"] = "symmetric"
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[batch, frames, in]` → `[batch, ⌈frames/stride⌉, features]`, of "valid" fewer."""
        size, inputs = self.kernel, x.shape[-1]
        pad = size // 2 if self.padding == "symmetric" else 0
        if pad and size % 2 == 0:
            raise wrong("kernel", size, "an odd size, which can be padded alike on both sides")
        shape = (size, inputs // self.groups, self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        y = self._convolved(x, kernel, pad)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,)).reshape(1, 1, -1)
        return y

    def _convolved(self, x: Array, kernel: Array, pad: int) -> Array:
        if jax.default_backend() != "cpu":
            return jax.lax.conv_general_dilated(
                x,
                kernel.astype(x.dtype),
                (self.stride,),
                [(pad, pad)],
                dimension_numbers=("NWC", "WIO", "NWC"),
                feature_group_count=self.groups,
            )
        padded = jnp.pad(x, ((0, 0), (pad, pad), (0, 0)))
        span = padded.shape[1] - self.kernel + 1
        slices = [padded[:, i : i + span : self.stride] for i in range(self.kernel)]
        if self.groups > 1:
            return functools.reduce(operator.add, map(operator.mul, slices, kernel[:, None]))
        columns = jax.lax.optimization_barrier(jnp.concatenate(slices, axis=-1))
        return columns @ kernel.reshape(-1, self.features)


def there(x: Array, mask: Array | None) -> Array:
    """`[batch, frames, ...]` with zeros in the place of frames that are not there."""
    return x if mask is None else jnp.where(mask.reshape(*mask.shape, *(1,) * (x.ndim - 2)), x, 0.0)


def mean_over(x: Array, mask: Array | None) -> Array:
    """`[batch, frames, features]` → `[batch, features]`: the mean over frames that are there.

    As a product: a sum XLA fuses with what is around it, otherwise in another program, and a member
    of a sweep differed from a run of its own in the last digit.
    """
    if mask is None:
        return x.mean(axis=1)
    weights = mask.astype(x.dtype)
    weights = weights / jnp.maximum(weights.sum(axis=1, keepdims=True), 1.0)
    return jnp.matmul(weights[:, None], x, precision="highest")[:, 0]


def _frames(x: Array) -> Array:
    if x.ndim != 3 or not jnp.issubdtype(x.dtype, jnp.floating):
        expected = "floats (batch, frames, mels), as the stem 'log_mel' gives"
        raise wrong("input", f"{x.dtype} {x.shape}", expected)
    return x


class ConvBlock1D(nn.Module):
    """Convolution, norm and ReLU."""

    features: int
    kernel: int
    stride: int
    norm: FrameNorm

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = Conv1D(self.features, self.kernel, self.stride, name="conv")(x)
        return nn.relu(LayerNorm(name="norm")(y) if self.norm == "layer" else y)


class CNN1D(nn.Module, kw_only=True):
    """Convolutions over frames, mels being channels; the masked mean of the last over time.

    Its maps are `block_i`, `[batch, frames, channels]`.
    """

    channels: tuple[Width, ...] = (64, 64, 128, 128)
    strides: tuple[Count, ...] = (1, 2, 2, 1)
    kernel: Count = 5
    norm: FrameNorm = "layer"

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, stream: str | None = None, mask: Array | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """`[batch, frames, mels]` → (`[batch, channels]`, maps)."""
        if len(self.strides) != len(self.channels):
            raise wrong("strides", self.strides, f"one for each of {len(self.channels)} channels")
        x, maps = _frames(x), {}
        for i, (width, stride) in enumerate(zip(self.channels, self.strides, strict=True)):
            block = ConvBlock1D(width, self.kernel, stride, self.norm, name=f"block_{i}")
            x = maps[f"block_{i}"] = block(there(x, mask))
            mask = None if mask is None else mask[:, ::stride]
        return mean_over(x, mask), maps


class ConvBlock2D(nn.Module):
    """3 × 3 convolution, norm, 2 × 2 maximum and ReLU."""

    features: int
    norm: FrameNorm

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = Conv(self.features, name="conv")(x)
        return nn.relu(max_pool(LayerNorm(name="norm")(y) if self.norm == "layer" else y))


class CNN2D(nn.Module, kw_only=True):
    """3 × 3 convolutions over frames and mels, each halving both; the masked mean over time.

    Its maps are `block_i`, `[batch, frames, mels, channels]`; the features are of every band that
    is left, `[batch, mels · channels]`.
    """

    channels: tuple[Width, ...] = (16, 32, 64)
    norm: FrameNorm = "layer"

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, stream: str | None = None, mask: Array | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """`[batch, frames, mels]`, or one channel more → (`[batch, features]`, maps)."""
        x, maps = x if x.ndim == 4 else _frames(x)[..., None], {}
        if min(x.shape[1:3]) < 2 ** len(self.channels):
            expected = f"at most as many blocks as halve {x.shape[1]} frames and {x.shape[2]} mels"
            raise wrong("channels", self.channels, expected)
        for i, width in enumerate(self.channels):
            block = ConvBlock2D(width, self.norm, name=f"block_{i}")
            x = maps[f"block_{i}"] = block(there(x, mask))
            if mask is not None:  # a half of what is there is as good as nothing
                mask = mask[:, : mask.shape[1] // 2 * 2].reshape(len(mask), -1, 2).all(-1)
        return mean_over(x.reshape(*x.shape[:2], -1), mask), maps


class ConvModule(nn.Module):
    """Gated product, depthwise convolution, norm, swish, product (Gulati et al. 2020, fig. 2)."""

    kernel: int

    @nn.compact
    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        width = x.shape[-1]
        y = nn.glu(nn.Dense(2 * width, name="gate")(x))
        y = Conv1D(width, self.kernel, groups=width, name="depthwise")(there(y, mask))
        return nn.Dense(width, name="output")(nn.swish(LayerNorm(name="norm")(y)))


class ConformerBlock(nn.Module):
    """Half an MLP, attention, convolution, half an MLP, each added to what it reads; a norm.

    Gulati et al. 2020, section 2, with LayerNorm in the place of BatchNorm.
    """

    heads: int
    hidden: int
    kernel: int

    @nn.compact
    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        seen = None if mask is None else mask[:, None, None, :]
        norms = {n: LayerNorm(name=f"norm_{n}") for n in ("first", "attention", "conv", "last")}
        x = x + 0.5 * MLP(self.hidden, name="mlp_first")(norms["first"](x))
        x = x + Attention(self.heads, name="attention")(norms["attention"](x), seen)
        x = x + ConvModule(self.kernel, name="conv")(norms["conv"](x), mask)
        x = x + 0.5 * MLP(self.hidden, name="mlp_last")(norms["last"](x))
        return LayerNorm(name="norm")(x)


class Conformer(nn.Module, kw_only=True):
    """A small conformer, or transformer; the masked mean of its last block over time.

    `halvings` convolutions of stride 2 come first, then fixed sines tell the places (Vaswani et al.
    2017; the paper's own are relative). With `kernel` 0 its blocks are a transformer's, normalised
    before. Its maps are `block_i`, `[batch, frames, width]`.
    """

    width: Width = 96
    depth: Depth = 3
    heads: Count = 4
    mlp: Size = 0  # the width within the MLPs; 0: four times the width
    kernel: Whole = 15
    halvings: Whole = 2

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, stream: str | None = None, mask: Array | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """`[batch, frames, mels]` → (`[batch, width]`, maps)."""
        x, maps = _frames(x), {}
        for i in range(self.halvings):
            x = nn.relu(Conv1D(self.width, 3, 2, name=f"halving_{i}")(there(x, mask)))
            mask = None if mask is None else mask[:, ::2]
        x = nn.Dense(self.width, name="embedding")(x)
        x = x + sines(x.shape[1], self.width)[None].astype(x.dtype)
        hidden = self.mlp or 4 * self.width
        for i in range(self.depth):
            name = f"block_{i}"
            if self.kernel:
                x = ConformerBlock(self.heads, hidden, self.kernel, name=name)(x, mask)
            else:
                seen = None if mask is None else mask[:, None, None, :]
                x = Block(self.heads, hidden, name=name)(x, seen)
            maps[name] = x
        return mean_over(x, mask), maps


@functools.cache
def sines(length: int, width: int) -> np.ndarray:
    """Sines, then cosines, of places 0, 1, … by wavelengths from 2π to 20,000π.

    `[length, width]`; Vaswani et al. 2017, section 3.5, the halves one behind the other.
    """
    rates = 10_000.0 ** -(np.arange(-(-width // 2)) / max(width // 2, 1))
    angles = np.arange(length)[:, None] * rates
    both = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    return both[:, :width].astype(np.float32)

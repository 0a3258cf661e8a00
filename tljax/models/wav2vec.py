"""wav2vec 2.0 (Baevski et al. 2020), HuBERT (Hsu et al. 2021), and their names in public files."""

import functools
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tljax.checks import Count, Positive, Width
from tljax.errors import wrong
from tljax.models.attention import GELU, Depth, LayerNorm, Size, stacked
from tljax.models.naming import TRUNK, block, layer_norm, moved
from tljax.models.speech import Conv1D, mean_over, there
from tljax.models.weights import Entry, linear, same

gelu = GELU["exact"]
FrameNorm = Literal["none", "group", "layer"]
over_time = partial(nn.InstanceNorm, use_fast_variance=False)


def _heard(mask: Array | None) -> Array | None:
    """A mask `[batch, length, 1]` for statistics over time, of which an empty one has none."""
    return None if mask is None else (mask | ~mask.any(axis=1, keepdims=True))[..., None]


class Frames(nn.Module):
    """A convolution of waves or frames without padding, a norm and GELU.

    "group" normalises each channel of an utterance over the frames that are there, "layer" each
    frame over its channels.
    """

    features: int
    kernel: int
    stride: int
    norm: FrameNorm
    bias: bool

    @nn.compact
    def __call__(self, x: Array, mask: Array | None) -> tuple[Array, Array | None]:
        """`[batch, length, in]` → `[batch, frames, features]`, and which frames read no padding."""
        sizes = (self.features, self.kernel, self.stride)
        conv = Conv1D(*sizes, padding="valid", use_bias=self.bias, name="conv")
        x, length = conv(x), x.shape[1]
        if mask is not None:
            ends = length - self.kernel + 1
            mask = functools.reduce(
                jnp.logical_and,
                (mask[:, i : ends + i : self.stride] for i in range(self.kernel)),
            )
        if self.norm == "layer":
            x = LayerNorm(1e-5, name="norm")(x)
        elif self.norm == "group":
            x = over_time(1e-5, name="norm")(x, mask=_heard(mask))
        return gelu(x), mask


class Positions(nn.Module):
    """A wide grouped convolution that tells where frames are, and GELU: `[batch, frames, width]`.

    Its kernel `[k, width/groups, width]` is divided by the length of each of its k slices, and
    multiplied by `gain` `[k]` (weight normalisation, Salimans & Kingma 2016).
    """

    kernel: int
    groups: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        size, width = self.kernel, x.shape[-1]
        if width % self.groups:
            raise wrong("groups", self.groups, f"a divisor of the width, {width}")
        shape = (size, width // self.groups, width)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        gain = self.param("gain", nn.initializers.ones, (size,)).reshape(-1, 1, 1)
        kernel = gain * kernel / jnp.sqrt(jnp.sum(kernel**2, axis=(1, 2), keepdims=True))
        bias = self.param("bias", nn.initializers.zeros, (width,)).reshape(1, 1, -1)
        pads = (size // 2, size - 1 - size // 2)
        if jax.default_backend() == "cpu":
            return gelu(_by_groups(x, kernel, self.groups, pads) + bias)
        y = jax.lax.conv_general_dilated(
            x,
            kernel.astype(x.dtype),
            (1,),
            [pads],
            dimension_numbers=("NWC", "WIO", "NWC"),
            feature_group_count=self.groups,
        )
        return gelu(y + bias)


def _by_groups(x: Array, kernel: Array, groups: int, pads: tuple[int, int]) -> Array:
    """The convolution as a product a group: on a CPU XLA's gradient takes ten times as long."""
    length, size = x.shape[1], len(kernel)
    apart = jnp.pad(x, ((0, 0), pads, (0, 0)))
    apart = jnp.moveaxis(apart.reshape(*apart.shape[:2], groups, -1), 2, 0)
    own = jnp.moveaxis(kernel.reshape(*kernel.shape[:2], groups, -1), 2, 0)

    @jax.checkpoint  # the windows of all groups would be k times the map
    def one(both: tuple[Array, Array]) -> Array:
        seen, taps = both
        windows = jnp.concatenate([seen[:, i : i + length] for i in range(size)], axis=-1)
        return jax.lax.optimization_barrier(windows) @ taps.reshape(-1, taps.shape[-1])

    y = jax.lax.map(one, (apart, own.astype(x.dtype)))
    return jnp.moveaxis(y, 0, 2).reshape(*x.shape[:2], -1)


class Wav2Vec2(nn.Module, kw_only=True):
    """Convolutions of a wave at 16 kHz, then a transformer; the masked mean of its last block.

    It reads waves themselves, without a stem, 20 ms a frame. Its maps are `block_i`, `[batch,
    frames, width]`. What stands here is wav2vec2-base and hubert-base; of the large ones, but
    wav2vec2-large without -lv60, `norm` is "layer", with `conv_bias` and `before`.
    """

    channels: tuple[Width, ...] = (512,) * 7
    kernels: tuple[Count, ...] = (10, 3, 3, 3, 3, 2, 2)
    strides: tuple[Count, ...] = (5, 2, 2, 2, 2, 2, 2)
    norm: Literal["group", "layer"] = "group"  # of the first convolution; of all of them
    conv_bias: bool = False
    width: Width = 768
    depth: Depth = 12
    heads: Count = 12
    mlp: Size = 0  # the width within the MLPs; 0: four times the width
    before: bool = False  # whether blocks normalise what they read, or their sums
    positions: Count = 128  # frames that the convolution of positions reads
    groups: Count = 16  # of it
    epsilon: Positive = 1e-5
    normalise: bool = True  # an utterance to mean 0 and variance 1, as the published models expect

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, stream: str | None = None, mask: Array | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Waves `[batch, samples]` → (`[batch, width]`, maps).

        Args:
          x: floats.
          train, stream: as of every trunk; nothing here depends on them.
          mask: `[batch, samples]`, which are there; None: all.

        Returns:
          The features and the maps; of an utterance too short for a frame the features are 0.

        Raises:
          UserError: inputs that are no waves, or are shorter than a frame; fields that do not fit.
        """
        self._check(x)
        x, mask = x[..., None], None if mask is None else mask.astype(bool)
        if self.normalise:
            plain = over_time(1e-7, use_scale=False, use_bias=False, name="normalise")
            x = there(plain(x, mask=_heard(mask)), mask)
        for i, layer in enumerate(zip(self.channels, self.kernels, self.strides, strict=True)):
            kind: FrameNorm = "none" if self.norm == "group" and i else self.norm
            x, mask = Frames(*layer, kind, self.conv_bias, name=f"conv_{i}")(x, mask)
        x = LayerNorm(self.epsilon, name="norm_frames")(x)
        x = there(nn.Dense(self.width, name="embedding")(x), mask)
        x = x + Positions(self.positions, self.groups, name="positions")(x)
        norm = LayerNorm(self.epsilon, name="norm")
        fields: dict[str, Any] = dict(heads=self.heads, hidden=self.mlp or 4 * self.width)
        fields |= dict(epsilon=self.epsilon, post=not self.before)
        seen = None if mask is None else mask[:, None, None, :]
        x, maps = stacked(x if self.before else norm(x), self.depth, seen, **fields)
        return mean_over(norm(x) if self.before else x, mask), maps

    def _check(self, x: Array) -> None:
        sizes = {len(self.channels), len(self.kernels), len(self.strides)}
        if len(sizes) > 1:
            expected = f"one for each of {len(self.channels)} channels, as strides have"
            raise wrong("kernels", self.kernels, expected)
        if x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.floating):
            raise wrong("input", f"{x.dtype} {x.shape}", "waves: floats (batch, samples), no stem")
        if x.shape[1] < shortest(self):
            expected = f"at least {shortest(self)} samples, one frame; a stream's seconds say more"
            raise wrong("input", f"{x.shape[1]} samples", expected)


def shortest(trunk: Wav2Vec2) -> int:
    """The samples that one frame reads."""
    pairs = list(zip(trunk.kernels, trunk.strides, strict=True))
    return functools.reduce(lambda frames, at: (frames - 1) * at[1] + at[0], reversed(pairs), 1)


def EXAMPLE(trunk: Wav2Vec2) -> Array:
    """One frame."""
    return jnp.zeros((1, shortest(trunk)))


PARTS = dict(
    qkv="attention.q_proj attention.k_proj attention.v_proj",
    output="attention.out_proj",
    expand="feed_forward.intermediate_dense",
    contract="feed_forward.output_dense",
    norm_attention="layer_norm",
    norm_mlp="final_layer_norm",
)


def transformers(trunk: Wav2Vec2, prefix: str = "wav2vec2.", old: bool = False) -> list[Entry]:
    """The names of Wav2Vec2ForCTC, of Hubert… by its prefix; without one of Wav2Vec2Model.

    `old`: files of before torch 2 call length and direction of a kernel weight_g and weight_v.
    """
    entries: list[Entry] = []
    for i in range(len(trunk.channels)):
        ours, theirs = f"{TRUNK}/conv_{i}", f"{prefix}feature_extractor.conv_layers.{i}."
        entries += _conv(f"{ours}/conv/kernel", f"{theirs}conv.weight")
        entries += same(f"{ours}/conv/bias", f"{theirs}conv.bias") if trunk.conv_bias else []
        if trunk.norm == "layer" or i == 0:
            entries += layer_norm(f"{ours}/norm", f"{theirs}layer_norm")
    entries += layer_norm(f"{TRUNK}/norm_frames", f"{prefix}feature_projection.layer_norm")
    entries += linear(f"{TRUNK}/embedding", f"{prefix}feature_projection.projection")
    ours, theirs = f"{TRUNK}/positions", f"{prefix}encoder.pos_conv_embed.conv."
    length, direction = (
        ("weight_g", "weight_v")
        if old
        else ("parametrizations.weight.original0", "parametrizations.weight.original1")
    )
    entries += moved(f"{ours}/gain", theirs + length, np.ravel, lambda gain: gain[None, None])
    entries += _conv(f"{ours}/kernel", theirs + direction)
    entries += same(f"{ours}/bias", f"{theirs}bias")
    entries += layer_norm(f"{TRUNK}/norm", f"{prefix}encoder.layer_norm")
    for i in range(trunk.depth):
        entries += block(f"{TRUNK}/block_{i}", f"{prefix}encoder.layers.{i}.", PARTS)
    return entries


def _conv(path: str, name: str) -> list[Entry]:
    """A torch kernel `[out, in, k]` as `[k, in, out]`."""
    return moved(path, name, lambda weight: weight.transpose(2, 1, 0), lambda leaf: leaf.T)


PREFIXES = {"wav2vec2": "wav2vec2.", "hubert": "hubert.", "bare": ""}
NAMINGS: dict[str, Callable[[Wav2Vec2], list[Entry]]] = {
    f"transformers, {name}{', old' * old}": partial(transformers, prefix=prefix, old=old)
    for old, (name, prefix) in itertools.product((False, True), PREFIXES.items())
}
IGNORED = ("*masked_spec_embed", "quantizer.*", "project_q.*", "project_hid.*", "lm_head.*",
           "projector.*", "classifier.*", "layer_weights")  # fmt: skip
"""Globs of tensors that no module here has: those of masked training, and heads, which read other
features than ours."""

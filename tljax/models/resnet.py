"""ResNet (He et al. 2016) in the form of which public weights are: version 1.5, and their names."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from tljax.models.layers import Conv, Norm, max_pool_3, relu
from tljax.models.weights import HEAD, Entry, conv, linear, norm

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_WIDTHS = (64, 128, 256, 512)


class _Layout(NamedTuple):
    """A block of a stage: what its convolutions are, and whether its input is projected."""

    name: str
    stage: int
    block: int
    kernels: tuple[int, ...]  # of its convolutions
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    projected: bool


def _layouts(depth: int) -> Iterator[_Layout]:
    """The blocks of a network; of three convolutions from 50 layers on, which widen fourfold."""
    wide = depth >= 50
    for stage, (blocks, width) in enumerate(zip(_BLOCKS[depth], _WIDTHS, strict=True)):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            name, projected = f"layer{stage + 1}_{block}", not block and (wide or stage > 0)
            if wide:  # version 1.5: the stride is that of the 3 × 3
                kernels, widths, strides = (1, 3, 1), (width, width, 4 * width), (1, stride, 1)
                yield _Layout(name, stage, block, kernels, widths, strides, projected)
            else:
                yield _Layout(name, stage, block, (3, 3), (width, width), (stride, 1), projected)


class Block(nn.Module):
    """Convolutions with batch normalisation and ReLU, added to what they are given."""

    layout: _Layout

    @nn.compact
    def __call__(self, x: Array, *, train: bool, stream: str | None) -> Array:
        _, _, _, kernels, widths, strides, projected = self.layout
        y = x
        for i, fields in enumerate(zip(widths, kernels, strides, strict=True)):
            conv = Conv(*fields, use_bias=False, name=f"conv{i + 1}")
            bn = Norm("batch", momentum=0.9, name=f"bn{i + 1}")
            y = bn(relu(y) if i else y, train=train, stream=stream, conv=conv)
        if projected:
            conv = Conv(widths[-1], 1, max(strides), use_bias=False, name="downsample_conv")
            bn = Norm("batch", momentum=0.9, name="downsample_bn")
            x = bn(x, train=train, stream=stream, conv=conv)
        return relu(x + y)


class ResNet(nn.Module, kw_only=True):
    """ResNet of 18, 34, 50 or 101 layers: `[batch, h, w, 3]` → `[batch, 512 or 2048]`.

    The features are the mean over the last map, which a 32nd of the image's sides has. Padding is
    explicit on both sides, as in PyTorch; the maps are those after each stage, layer1 to layer4.
    """

    depth: Literal[18, 34, 50, 101] = 50

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, stream: str | None = None
    ) -> tuple[Array, Mapping[str, Array]]:
        conv = Conv(64, 7, 2, use_bias=False, name="conv1")
        x = Norm("batch", momentum=0.9, name="bn1")(x, train=train, stream=stream, conv=conv)
        x, maps = max_pool_3(relu(x)), {}
        for layout in _layouts(self.depth):
            x = Block(layout, name=layout.name)(x, train=train, stream=stream)
            maps[f"layer{layout.stage + 1}"] = x
        return jnp.mean(x, axis=(1, 2)), maps


def _torchvision(trunk: ResNet) -> list[Entry]:
    """Also timm's names."""

    def names(block: _Layout) -> Iterator[tuple[str, str, str]]:
        there = f"layer{block.stage + 1}.{block.block}"
        for i in range(1, len(block.widths) + 1):
            yield str(i), f"{there}.conv{i}", f"{there}.bn{i}"
        if block.projected:
            yield "downsample", f"{there}.downsample.0", f"{there}.downsample.1"

    return _entries(trunk, "conv1", "bn1", names, "fc")


def _transformers(trunk: ResNet, prefix: str = "resnet.") -> list[Entry]:
    def names(block: _Layout) -> Iterator[tuple[str, str, str]]:
        there = f"{prefix}encoder.stages.{block.stage}.layers.{block.block}"
        for i in range(len(block.widths)):
            layer = f"{there}.layer.{i}"
            yield str(i + 1), f"{layer}.convolution", f"{layer}.normalization"
        if block.projected:
            yield "downsample", f"{there}.shortcut.convolution", f"{there}.shortcut.normalization"

    stem = f"{prefix}embedder.embedder"
    return _entries(trunk, f"{stem}.convolution", f"{stem}.normalization", names, "classifier.1")


def _entries(
    trunk: ResNet, stem: str, stem_norm: str, names: Callable, classifier: str
) -> list[Entry]:
    """All entries, from the names of a block's layers: (which of ours, convolution, norm)."""
    entries = conv("params/trunk/conv1", stem) + norm("trunk/bn1", stem_norm)
    for block in _layouts(trunk.depth):
        for which, convolution, normalisation in names(block):
            down = which == "downsample"
            mine = ("downsample_conv", "downsample_bn") if down else (f"conv{which}", f"bn{which}")
            entries += conv(f"params/trunk/{block.name}/{mine[0]}", convolution)
            entries += norm(f"trunk/{block.name}/{mine[1]}", normalisation)
    return entries + linear(f"params/heads/{HEAD}/output", classifier)


NAMINGS = {
    "torchvision": _torchvision,
    "transformers": _transformers,
    "transformers, bare": functools.partial(_transformers, prefix=""),
}
IGNORED = ("*.num_batches_tracked",)

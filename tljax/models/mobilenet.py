"""MobileNetV2 (Sandler et al. 2018), its blocks, and the names of its public weights."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from tljax.models.layers import Conv, Norm, Padding, relu
from tljax.models.weights import HEAD, Entry, conv, linear, norm


class Layout(NamedTuple):
    """An inverted residual block."""

    stage: int
    block: int  # of its stage
    widening: int  # how many times as wide the depthwise convolution is as the input
    width: int
    stride: int
    kernel: int = 3


def layouts(stages: Sequence[tuple[int, ...]]) -> list[Layout]:
    """The blocks of stages (widening, width, blocks, stride, kernel); the stride is the first's."""
    return [
        Layout(stage, block, widening, width, 1 if block else stride, *kernel)
        for stage, (widening, width, blocks, stride, *kernel) in enumerate(stages)
        for block in range(blocks)
    ]


# Table 2 of the paper.
STAGES = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)


class Rules(NamedTuple):
    """What differs between implementations of the same layers."""

    padding: Padding
    epsilon: float


class InvertedResidual(nn.Module):
    """1 × 1 to a wider map, a depthwise convolution, 1 × 1 back without a nonlinearity."""

    layout: Layout
    rules: Rules

    @nn.compact
    def __call__(self, x: Array, *, train: bool, stream: str | None) -> Array:
        layout, inputs = self.layout, x.shape[-1]
        wide = inputs * layout.widening
        y = x
        if layout.widening > 1:
            y = Unit(wide, 1, rules=self.rules, name="expand")(y, train, stream)
        depthwise = Unit(wide, layout.kernel, layout.stride, wide, self.rules, name="depthwise")
        y = depthwise(y, train, stream)
        y = Unit(layout.width, 1, rules=self.rules, act=False, name="project")(y, train, stream)
        return x + y if layout.stride == 1 and inputs == layout.width else y


class Unit(nn.Module):
    """A convolution with batch normalisation and ReLU6."""

    features: int
    kernel: int
    stride: int = 1
    groups: int = 1
    rules: Rules = Rules("symmetric", 1e-5)
    act: bool = True

    @nn.compact
    def __call__(self, x: Array, train: bool, stream: str | None) -> Array:
        fields = (self.features, self.kernel, self.stride, False, self.groups, self.rules.padding)
        conv = Conv(*fields, name="conv")
        bn = Norm("batch", self.rules.epsilon, 0.9, name="bn")
        x = bn(x, train=train, stream=stream, conv=conv)
        return relu(x, 6.0) if self.act else x


def features(
    x: Array, blocks: Sequence[Layout], rules: Rules, train: bool, stream: str | None
) -> tuple[Array, Mapping[str, Array]]:
    """The layers of a trunk, named within the module that calls this: `stem`, `blockS_B`, `last`.

    Returns:
      The mean over the last map, `[batch, 1280]`, and the maps after each stage of blocks, layer1
      onwards.
    """
    maps = {}
    x = Unit(32, 3, 2, rules=rules, name="stem")(x, train, stream)
    for layout in blocks:
        block = InvertedResidual(layout, rules, name=f"block{layout.stage + 1}_{layout.block}")
        x = maps[f"layer{layout.stage + 1}"] = block(x, train=train, stream=stream)
    x = Unit(1280, 1, rules=rules, name="last")(x, train, stream)
    return jnp.mean(x, axis=(1, 2)), maps


class MobileNetV2(nn.Module, kw_only=True):
    """MobileNetV2 of width 1: `[batch, h, w, 3]` → `[batch, 1280]`, and maps layer1 to layer7.

    As in PyTorch: padding alike on both sides, ε = 1e-5.
    """

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, stream: str | None = None
    ) -> tuple[Array, Mapping[str, Array]]:
        return features(x, layouts(STAGES), Rules("symmetric", 1e-5), train, stream)


Named = tuple[str, str, str]  # the unit within a trunk of ours, its convolution, its normalisation


def entries(units: Iterator[Named], classifier: str) -> list[Entry]:
    """The entries of a trunk's units and of its classifier."""
    every: list[Entry] = []
    for unit, convolution, normalisation in units:
        every += conv(f"params/trunk/{unit}/conv", convolution)
        every += norm(f"trunk/{unit}/bn", normalisation)
    return every + linear(f"params/heads/{HEAD}/output", classifier)


def _torchvision(trunk: nn.Module) -> list[Entry]:
    def units() -> Iterator[Named]:
        yield "stem", "features.0.0", "features.0.1"
        for i, layout in enumerate(layouts(STAGES), 1):
            mine, there = f"block{layout.stage + 1}_{layout.block}", f"features.{i}.conv"
            k = int(layout.widening > 1)  # the depthwise layer's place
            if k:
                yield f"{mine}/expand", f"{there}.0.0", f"{there}.0.1"
            yield f"{mine}/depthwise", f"{there}.{k}.0", f"{there}.{k}.1"
            yield f"{mine}/project", f"{there}.{k + 1}", f"{there}.{k + 2}"
        yield "last", "features.18.0", "features.18.1"

    return entries(units(), "classifier.1")


def timm(blocks: Sequence[Layout]) -> list[Entry]:
    """timm's names, of all networks of such blocks."""

    def units() -> Iterator[Named]:
        yield "stem", "conv_stem", "bn1"
        for layout in blocks:
            mine = f"block{layout.stage + 1}_{layout.block}"
            there = f"blocks.{layout.stage}.{layout.block}"
            if layout.widening > 1:
                yield f"{mine}/expand", f"{there}.conv_pw", f"{there}.bn1"
                yield f"{mine}/depthwise", f"{there}.conv_dw", f"{there}.bn2"
                yield f"{mine}/project", f"{there}.conv_pwl", f"{there}.bn3"
            else:
                yield f"{mine}/depthwise", f"{there}.conv_dw", f"{there}.bn1"
                yield f"{mine}/project", f"{there}.conv_pw", f"{there}.bn2"
        yield "last", "conv_head", "bn2"

    return entries(units(), "classifier")


NAMINGS = {"torchvision": _torchvision, "timm": lambda trunk: timm(layouts(STAGES))}
IGNORED = ("*.num_batches_tracked",)

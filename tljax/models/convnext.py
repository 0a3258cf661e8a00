"""ConvNeXt (Liu et al. 2022), and its names in public files."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import flax.linen as nn
from jax import Array

from tljax.checks import NotNegative, Positive, Width
from tljax.errors import wrong
from tljax.models.attention import MLP, Depth, LayerNorm, Patches
from tljax.models.layers import Conv
from tljax.models.naming import CLASSIFIER, TRUNK, layer_norm
from tljax.models.weights import Entry, conv, linear, same

SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {  # widths and depths of the stages
    "tiny": ((96, 192, 384, 768), (3, 3, 9, 3)),
    "small": ((96, 192, 384, 768), (3, 3, 27, 3)),
    "base": ((128, 256, 512, 1024), (3, 3, 27, 3)),
    "large": ((192, 384, 768, 1536), (3, 3, 27, 3)),
}


class ConvBlock(nn.Module):
    """7×7 convolution of each channel, norm, MLP, LayerScale; added to what it reads."""

    epsilon: float
    scale: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[batch, height, width, channels]` → the same shape."""
        width = x.shape[-1]
        y = Conv(width, 7, groups=width, name="depthwise")(x)
        y = MLP(4 * width, name="mlp")(LayerNorm(self.epsilon, name="norm")(y))
        if self.scale:
            scale = self.param("scale", nn.initializers.constant(self.scale), (width,))
            y = y * scale.reshape(1, 1, 1, -1)
        return x + y


class ConvNeXt(nn.Module, kw_only=True):
    """A ConvNeXt for images of 32 pixels or more; its maps are `stage_i`.

    The maps are `[batch, height, width, channels]` at 1/4, 1/8, 1/16 and 1/32 of the image's size;
    what does not fill a patch at the right and the bottom is dropped. Features are the mean of the
    last map, normalised.
    """

    variant: Literal["tiny", "small", "base", "large"] = "tiny"
    widths: tuple[Width, ...] = ()  # of the stages; (): the variant's, as the depths
    depths: tuple[Depth, ...] = ()
    epsilon: Positive = 1e-6
    layer_scale: NotNegative = 1e-6  # where it starts; 0: there is none

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, stream: str | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """`[batch, height, width, channels]` → (`[batch, last width]`, maps)."""
        maps = {}
        for i, (width, depth) in enumerate(zip(*sizes(self), strict=True)):
            if i:
                x = LayerNorm(self.epsilon, name=f"norm_{i}")(x)
            x = Patches(width, 2 if i else 4, name=f"patches_{i}")(x)
            if not i:
                x = LayerNorm(self.epsilon, name="norm_0")(x)
            for j in range(depth):
                x = ConvBlock(self.epsilon, self.layer_scale, name=f"block_{i}_{j}")(x)
            maps[f"stage_{i}"] = x
        return LayerNorm(self.epsilon, name="norm")(x.mean(axis=(1, 2))), maps


def sizes(net: ConvNeXt) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(widths, depths) of the stages."""
    widths, depths = SIZES[net.variant]
    widths, depths = net.widths or widths, net.depths or depths
    if len(widths) != len(depths):
        raise wrong("depths", depths, f"one for each of the widths {widths}")
    return widths, depths


TIMM = dict(depthwise="conv_dw", norm="norm", expand="mlp.fc1", contract="mlp.fc2", scale="gamma")
HF = dict(
    depthwise="dwconv",
    norm="layernorm",
    expand="pwconv1",
    contract="pwconv2",
    scale="layer_scale_parameter",
)


def stages(net: ConvNeXt, prefix: str, blocks: str, parts: dict[str, str]) -> list[Entry]:
    """All blocks; `prefix` ends before a stage's number, `blocks` names those of a stage."""
    entries = []
    for i, depth in enumerate(sizes(net)[1]):
        for j in range(depth):
            path, name = f"{TRUNK}/block_{i}_{j}", f"{prefix}{i}.{blocks}.{j}"
            entries += conv(f"{path}/depthwise", f"{name}.{parts['depthwise']}", bias=True)
            entries += layer_norm(f"{path}/norm", f"{name}.{parts['norm']}")
            entries += linear(f"{path}/mlp/expand", f"{name}.{parts['expand']}")
            entries += linear(f"{path}/mlp/contract", f"{name}.{parts['contract']}")
            if net.layer_scale:
                entries += same(f"{path}/scale", f"{name}.{parts['scale']}")
    return entries


def timm(net: ConvNeXt) -> list[Entry]:
    """The names of timm."""
    entries = conv(f"{TRUNK}/patches_0", "stem.0", bias=True)
    entries += layer_norm(f"{TRUNK}/norm_0", "stem.1")
    for i in range(1, len(sizes(net)[0])):
        entries += layer_norm(f"{TRUNK}/norm_{i}", f"stages.{i}.downsample.0")
        entries += conv(f"{TRUNK}/patches_{i}", f"stages.{i}.downsample.1", bias=True)
    entries += stages(net, "stages.", "blocks", TIMM) + layer_norm(f"{TRUNK}/norm", "head.norm")
    return entries + linear(CLASSIFIER, "head.fc")


def transformers(net: ConvNeXt, prefix: str = "convnext.") -> list[Entry]:
    """The names of ConvNextForImageClassification; without a prefix of ConvNextModel."""
    entries = conv(f"{TRUNK}/patches_0", f"{prefix}embeddings.patch_embeddings", bias=True)
    entries += layer_norm(f"{TRUNK}/norm_0", f"{prefix}embeddings.layernorm")
    for i in range(1, len(sizes(net)[0])):
        name = f"{prefix}encoder.stages.{i}.downsampling_layer"
        entries += layer_norm(f"{TRUNK}/norm_{i}", f"{name}.0")
        entries += conv(f"{TRUNK}/patches_{i}", f"{name}.1", bias=True)
    entries += stages(net, f"{prefix}encoder.stages.", "layers", HF)
    entries += layer_norm(f"{TRUNK}/norm", f"{prefix}layernorm")
    return entries + linear(CLASSIFIER, "classifier")


NAMINGS: dict[str, Callable[[ConvNeXt], list[Entry]]] = {
    "timm": timm,
    "transformers": transformers,
    "transformers, bare": partial(transformers, prefix=""),
}
IGNORED: tuple[str, ...] = ()

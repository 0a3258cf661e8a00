"""EfficientNet-Lite0 (Tan & Le 2019, without squeeze-and-excitation), and its public names."""

from collections.abc import Iterator, Mapping

import flax.linen as nn
from jax import Array

from tljax.models.mobilenet import Named, Rules, entries, features, layouts, timm
from tljax.models.weights import Entry

# Table 1 of the paper (B0), the kernel last. Lite is without its gates, and with ReLU6.
STAGES = (
    *((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3)),
    *((6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)),
)


class EfficientNetLite0(nn.Module, kw_only=True):
    """EfficientNet-Lite0: `[batch, h, w, 3]` → `[batch, 1280]`, and maps layer1 to layer7.

    As in TensorFlow: padding "same", ε = 1e-3.
    """

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, stream: str | None = None
    ) -> tuple[Array, Mapping[str, Array]]:
        return features(x, layouts(STAGES), Rules("same", 1e-3), train, stream)


def _lite(trunk: nn.Module) -> list[Entry]:
    """The names of efficientnet_lite_pytorch, which counts normalisations within a block."""

    def units() -> Iterator[Named]:
        yield "stem", "_conv_stem", "_bn0"
        for i, layout in enumerate(layouts(STAGES)):
            mine, there = f"block{layout.stage + 1}_{layout.block}", f"_blocks.{i}"
            if layout.widening > 1:
                yield f"{mine}/expand", f"{there}._expand_conv", f"{there}._bn0"
            yield f"{mine}/depthwise", f"{there}._depthwise_conv", f"{there}._bn1"
            yield f"{mine}/project", f"{there}._project_conv", f"{there}._bn2"
        yield "last", "_conv_head", "_bn1"

    return entries(units(), "_fc")


NAMINGS = {"efficientnet_lite_pytorch": _lite, "timm": lambda trunk: timm(layouts(STAGES))}
IGNORED = ("*.num_batches_tracked",)

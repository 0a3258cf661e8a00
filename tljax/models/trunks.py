"""Trunks: inputs to features `[batch, features]`, shared by every stream."""

import flax.linen as nn
from jax import Array

from tljax.checks import Kernel, Width
from tljax.models.bert import BERT
from tljax.models.clip import TextTower
from tljax.models.convnext import ConvNeXt
from tljax.models.efficientnet import EfficientNetLite0
from tljax.models.layers import Conv, Norm, NormKind, max_pool
from tljax.models.mobilenet import MobileNetV2
from tljax.models.resnet import ResNet
from tljax.models.speech import CNN1D, CNN2D, Conformer
from tljax.models.vit import ViT
from tljax.models.wav2vec import Wav2Vec2


class MLP(nn.Module, kw_only=True):
    """Dense layers with ReLU on the flattened image."""

    features: tuple[Width, ...] = (256, 256)
    norm: NormKind = "none"

    @nn.compact
    def __call__(self, x: Array, *, train: bool, stream: str | None = None) -> Array:
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.features):
            x = nn.Dense(width, name=f"dense_{i}")(x)
            x = nn.relu(Norm(self.norm, name=f"norm_{i}")(x, train=train, stream=stream))
        return x


class CNN(nn.Module, kw_only=True):
    """Convolutions with ReLU, each halving the image; the flattened last map.

    The image is halved by a 2×2 maximum (`pool`) or by a stride of 2. The features are the
    flattened convolution output, where DANN's discriminator for small digit networks hangs
    (Ganin & Lempitsky 2015, fig. 4); dense layers belong to the heads.
    """

    channels: tuple[Width, ...] = (32, 48)
    kernel: Kernel = 3
    pool: bool = True
    norm: NormKind = "none"

    @nn.compact
    def __call__(self, x: Array, *, train: bool, stream: str | None = None) -> Array:
        for i, width in enumerate(self.channels):
            stride = 1 if self.pool else 2
            bias = self.norm == "none"
            x = Conv(width, self.kernel, stride, use_bias=bias, name=f"conv_{i}")(x)
            # The maximum commutes with ReLU, which then has a quarter of the work.
            x = max_pool(x) if self.pool else x
            x = nn.relu(Norm(self.norm, name=f"norm_{i}")(x, train=train, stream=stream))
        return x.reshape(x.shape[0], -1)


TRUNKS: dict[str, type[nn.Module]] = {
    "mlp": MLP,
    "cnn": CNN,
    "vit": ViT,
    "convnext": ConvNeXt,
    "bert": BERT,
    "text_tower": TextTower,
    "resnet": ResNet,
    "mobilenet_v2": MobileNetV2,
    "efficientnet_lite0": EfficientNetLite0,
    "cnn1d": CNN1D,
    "cnn2d": CNN2D,
    "conformer": Conformer,
    "wav2vec2": Wav2Vec2,
}

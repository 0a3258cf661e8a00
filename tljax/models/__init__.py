"""Networks in flax.linen: stems, a trunk and heads; backbones with public weights."""

from tljax.models.efficientnet import EfficientNetLite0
from tljax.models.heads import Linear, MLPHead, Neighbours, Prototypes
from tljax.models.mobilenet import MobileNetV2
from tljax.models.network import Network, build
from tljax.models.resnet import ResNet
from tljax.models.stems import Adapter, Identity
from tljax.models.trunks import CNN, MLP

__all__ = ["Adapter", "CNN", "EfficientNetLite0", "Identity", "Linear", "MLP", "MLPHead"]
__all__ += ["MobileNetV2", "Neighbours", "Network", "Prototypes", "ResNet", "build"]

"""Networks in flax.linen: stems, a trunk and heads; backbones with public weights."""

from tljax.models.adapters import IA3, LHUC, Bottleneck, DoRA, LoRA
from tljax.models.bert import BERT
from tljax.models.clip import TextTower
from tljax.models.convnext import ConvNeXt
from tljax.models.depth import by_depth, layerwise, unfreezing
from tljax.models.efficientnet import EfficientNetLite0
from tljax.models.heads import Linear, MLPHead, Neighbours, Prototypes
from tljax.models.mobilenet import MobileNetV2
from tljax.models.network import Network, build
from tljax.models.resnet import ResNet
from tljax.models.sound import InputLayer, LogMel
from tljax.models.speech import CNN1D, CNN2D, Conformer
from tljax.models.stems import Adapter, Identity
from tljax.models.trunks import CNN, MLP
from tljax.models.vit import ViT
from tljax.models.wav2vec import Wav2Vec2

__all__ = ["Adapter", "BERT", "CNN", "ConvNeXt", "EfficientNetLite0", "Identity", "Linear"]
__all__ += ["MLP", "MLPHead", "MobileNetV2", "Neighbours", "Network", "Prototypes", "ResNet"]
__all__ += ["TextTower", "ViT", "build", "Bottleneck", "DoRA", "IA3", "LHUC", "LoRA"]
__all__ += ["CNN1D", "CNN2D", "Conformer", "InputLayer", "LogMel", "Wav2Vec2"]
__all__ += ["by_depth", "layerwise", "unfreezing"]

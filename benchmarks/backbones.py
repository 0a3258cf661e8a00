"""A pass of public backbones in tljax beside the same in PyTorch: python -m benchmarks.backbones.

PyTorch's are those of transformers, with random weights that are loaded into ours; features must
agree before anything is timed.
"""

import argparse
import importlib.metadata
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from tljax.models import weights
from tljax.models.network import module
from tljax.models.trunks import TRUNKS

FILE = Path(__file__).parent / "results" / "backbones.json"


class Backbone(NamedTuple):
    """The same network twice."""

    trunk: dict[str, Any]
    theirs: Callable[[], Any]  # transformers' model, with a classifier
    features: Callable[[Any, Any], Any]  # of it and images


RESNET = dict(layer_type="basic", depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512])
VIT = dict(hidden_size=384, num_attention_heads=6, intermediate_size=1536, layer_norm_eps=1e-6)
BACKBONES = {
    "ResNet-18": Backbone(
        dict(name="resnet", depth=18),
        lambda: transformers.ResNetForImageClassification(transformers.ResNetConfig(**RESNET)),
        lambda model, y: model.resnet(y).pooler_output.flatten(1),
    ),
    "ResNet-50": Backbone(
        dict(name="resnet", depth=50),
        lambda: transformers.ResNetForImageClassification(transformers.ResNetConfig()),
        lambda model, y: model.resnet(y).pooler_output.flatten(1),
    ),
    "ViT-S/16": Backbone(
        dict(name="vit", variant="small"),
        lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**VIT)),
        lambda model, y: model.vit(y).last_hidden_state[:, 0],
    ),
    "ConvNeXt-T": Backbone(
        dict(name="convnext"),
        lambda: transformers.ConvNextForImageClassification(transformers.ConvNextConfig()),
        lambda model, y: model.convnext(y).pooler_output,
    ),
}
# (backbone, pixels, batch) of a CPU, and of an accelerator.
SIZES = [("ResNet-18", 64, 16), ("ResNet-18", 224, 8), ("ViT-S/16", 224, 4), ("ConvNeXt-T", 224, 2)]
LARGE = [("ResNet-50", 224, 128), ("ViT-S/16", 224, 128), ("ConvNeXt-T", 224, 64)]


def pair(name: str, pixels: int, batch: int, device: str) -> dict[str, tuple[Any, Any]]:
    """Pass -> our function and PyTorch's, of no argument, each of which waits for its end.

    Raises:
      SystemExit: features that differ by more than 1e-3 of their size.
    """
    torch.manual_seed(0)
    backbone = BACKBONES[name]
    theirs = backbone.theirs()
    ours = module(TRUNKS, backbone.trunk, "trunk")
    with tempfile.TemporaryDirectory() as there:
        theirs.save_pretrained(there)
        loaded = weights.load(ours, Path(there, "model.safetensors"))
    variables = jax.device_put({k: tree["trunk"] for k, tree in loaded.items() if "trunk" in tree})
    images = np.random.default_rng(0).normal(size=(batch, pixels, pixels, 3)).astype(np.float32)
    x = jnp.asarray(images)
    y = torch.tensor(images.transpose(0, 3, 1, 2)).to(device)
    y = y.contiguous(memory_format=torch.channels_last)
    theirs = theirs.to(device, memory_format=torch.channels_last)

    @jax.jit
    def forward(variables: Any, x: Any) -> Any:
        return ours.apply(variables, x, train=False)[0]

    @jax.jit
    def backward(params: Any, x: Any) -> Any:
        def loss(params: Any) -> Any:
            rest = {**variables, "params": params}
            (z, _), moved = ours.apply(rest, x, train=True, mutable=["batch_stats"])
            return jnp.square(z).mean(), moved

        return jax.grad(loss, has_aux=True)(params)

    def waited() -> None:
        if device != "cpu":
            torch.cuda.synchronize()

    def torch_forward() -> Any:
        theirs.eval()
        with torch.inference_mode():
            z = backbone.features(theirs, y)
        waited()
        return z

    def torch_backward() -> None:
        theirs.train().zero_grad(set_to_none=True)
        backbone.features(theirs, y).square().mean().backward()
        waited()

    a, b = np.asarray(forward(variables, x)), torch_forward().cpu().numpy()
    apart = float(np.abs(a - b).max() / np.abs(b).max())
    if apart > (1e-3 if device == "cpu" else 3e-2):  # TF32 has ten bits
        raise SystemExit(f"{name}: features differ by {apart:.1e} of their size")
    return {
        "forward": (lambda: forward(variables, x).block_until_ready(), torch_forward),
        "and backward": (
            lambda: jax.block_until_ready(backward(variables["params"], x)),
            torch_backward,
        ),
    }


def timed(functions: tuple[Callable, Callable], rounds: int) -> list[tuple[float, float]]:
    """Milliseconds of each, in turn."""

    def once(function: Callable) -> float:
        began = time.perf_counter()
        function()
        return 1e3 * (time.perf_counter() - began)

    for function in functions:
        function()
    return [tuple(once(function) for function in functions) for _ in range(rounds)]  # type: ignore[misc]


def main() -> None:
    """Times everything and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="to benchmarks/results/backbones.json")
    options = parser.parse_args()
    large = jax.default_backend() != "cpu"
    device = "cuda" if large and torch.cuda.is_available() else "cpu"
    if large:  # as jax multiplies by default
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    transformers.utils.logging.disable_progress_bar()
    found = []
    print("| backbone | pixels, batch | pass | tljax: ms | torch: ms | torch / tljax |")
    print("|---|---|---|---|---|---|")
    for name, pixels, batch in LARGE if large else SIZES:
        for kind, functions in pair(name, pixels, batch, device).items():
            times = timed(functions, options.rounds)
            ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
            ratio = statistics.median(b / a for a, b in times)
            row = (name, f"{pixels}, {batch}", kind, f"{ours:.1f}", f"{theirs:.1f}", f"{ratio:.2f}")
            print("| " + " | ".join(row) + " |", flush=True)
            found.append(dict(zip(("name", "size", "pass"), row, strict=False), times=times))
    if options.write:
        made = {p: importlib.metadata.version(p) for p in ("jax", "torch", "transformers")}
        made["device"] = jax.devices()[0].device_kind
        before = json.loads(FILE.read_text()) if FILE.exists() else {}
        before[made["device"]] = {"made": made, "rows": found}
        FILE.write_text(json.dumps(before, indent=1) + "\n")


if __name__ == "__main__":
    main()

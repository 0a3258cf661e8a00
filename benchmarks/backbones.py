"""A pass of public backbones in tljax beside the same in PyTorch: python -m benchmarks.backbones.

PyTorch's have random weights that are loaded into ours; features must agree before anything is
timed. It is given the best of its settings: channels last, eager or compiled, each of `--threads`.
"""

import functools
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from benchmarks import frame
from benchmarks.mobilenet_torch import MobileNetV2
from tljax.memory import cores, keep_freed
from tljax.models import weights
from tljax.models.network import module
from tljax.models.trunks import TRUNKS


class Backbone(NamedTuple):
    """The same network twice."""

    trunk: dict[str, Any]
    theirs: Callable[[], Any]  # PyTorch's model, with a classifier
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
    "MobileNetV2": Backbone(
        dict(name="mobilenet_v2"),
        MobileNetV2,
        lambda model, y: model.features(y).mean((2, 3)),
    ),
}
# (backbone, pixels, batch) of a CPU, and of an accelerator.
SIZES = [
    *(("ResNet-18", 64, 16), ("ResNet-18", 224, 8), ("MobileNetV2", 96, 32)),
    *(("ViT-S/16", 224, 4), ("ConvNeXt-T", 224, 2)),
]
LARGE = [("ResNet-50", 224, 128), ("ViT-S/16", 224, 128), ("ConvNeXt-T", 224, 64)]
Pass = dict[str, Callable[[], Any]]  # contestant -> a function that waits for its end


def both(name: str, device: str) -> tuple[Any, Any, Any]:
    """Our trunk and its variables, and PyTorch's model, whose weights they are."""
    torch.manual_seed(0)
    theirs = BACKBONES[name].theirs()
    ours = module(TRUNKS, BACKBONES[name].trunk, "trunk")
    with tempfile.TemporaryDirectory() as there:
        if isinstance(theirs, transformers.PreTrainedModel):
            theirs.save_pretrained(there)
        else:
            torch.save(theirs.state_dict(), Path(there, "model.pth"))
        loaded = weights.load(ours, next(Path(there).glob("model.*")))
    variables = jax.device_put({k: tree["trunk"] for k, tree in loaded.items() if "trunk" in tree})
    return ours, variables, theirs.to(device, memory_format=torch.channels_last)


def passes(
    name: str, pixels: int, batch: int, device: str, compiled: bool
) -> tuple[float, dict[str, Pass]]:
    """How far the features are apart, of their size; pass -> contestants that take turns."""
    ours, variables, theirs = both(name, device)
    images = np.random.default_rng(0).normal(size=(batch, pixels, pixels, 3)).astype(np.float32)
    x, y = jnp.asarray(images), torch.tensor(images).movedim(-1, 1).to(device)  # channels last

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

    def torch_forward(features: Callable[[Any, Any], Any]) -> Any:
        theirs.eval()
        with torch.inference_mode():
            z = features(theirs, y)
        waited()
        return z

    def torch_backward(features: Callable[[Any, Any], Any]) -> None:
        theirs.train().zero_grad(set_to_none=True)
        features(theirs, y).square().mean().backward()
        waited()

    eager = BACKBONES[name].features
    a, b = np.asarray(forward(variables, x)), torch_forward(eager).cpu().numpy()
    torch._dynamo.reset()  # else one program for all sizes that it has seen
    ways = {"eager": eager}
    ways |= {"compiled": torch.compile(eager, dynamic=False)} if compiled else {}
    return float(np.abs(a - b).max() / np.abs(b).max()), {
        "forward": {
            "tljax": lambda: forward(variables, x).block_until_ready(),
            **{way: functools.partial(torch_forward, each) for way, each in ways.items()},
        },
        "and backward": {
            "tljax": lambda: jax.block_until_ready(backward(variables["params"], x)),
            **{way: functools.partial(torch_backward, each) for way, each in ways.items()},
        },
    }


def compiles(device: str) -> bool:
    """Whether torch.compile works here; a line where it does not."""
    try:
        torch.compile(lambda x: (x + 1).relu())(torch.ones(8, device=device))
    except Exception as error:  # of whatever it lacks
        print(f"PyTorch is eager alone, as torch.compile fails: {str(error).splitlines()[0]}")
        return False
    return True


def threaded(contestants: Pass, threads: list[int]) -> Pass:
    """The same, PyTorch with each number of threads."""

    def run(count: int, function: Callable[[], Any]) -> None:
        torch.set_num_threads(count)
        function()

    made: Pass = {"tljax": contestants["tljax"]}
    for name, function in contestants.items():
        for count in threads if name != "tljax" else ():
            made[f"{name}, {count}"] = functools.partial(run, count, function)
    return made


def main() -> None:
    """Times everything and prints a table."""
    keep_freed()
    parser = frame.flags(__doc__, rounds=7)
    parser.add_argument("--only", nargs="+", choices=list(BACKBONES), default=list(BACKBONES))
    own = dict(nargs="+", default=sorted({1, cores()}), help="of torch")
    parser.add_argument("--threads", type=frame.positive, **own)
    options = parser.parse_args()
    with frame.measured("backbones", options, lambda: jax.devices()[0].device_kind) as record:
        large = jax.default_backend() != "cpu"
        device = "cuda" if large and torch.cuda.is_available() else "cpu"
        if large:  # as jax multiplies by default
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
            torch.backends.cudnn.benchmark = True
        transformers.utils.logging.disable_progress_bar()
        record["threads"] = threads = options.threads[-1:] if large else options.threads
        compiled, record["rows"] = compiles(device), []
        columns = ("tljax: ms", "torch: ms", "its way, threads", "torch / tljax")
        record.head("backbone", "pixels, batch", "pass", *columns)
        for name, pixels, batch in LARGE if large else SIZES:
            if name not in options.only:
                continue
            apart, of_passes = passes(name, pixels, batch, device, compiled)
            if not apart <= (1e-3 if device == "cpu" else 3e-2):  # TF32 has ten bits
                raise SystemExit(f"{name}: features differ by {apart:.1e} of their size")
            for kind, contestants in of_passes.items():
                times = frame.rounds(threaded(contestants, threads), options.rounds, scale=1e3)
                best = frame.fastest(times, [each for each in times if each != "tljax"])
                pair = [f"{statistics.median(times[each]):.1f}" for each in ("tljax", best)]
                ratio = frame.spread(frame.ratios(times[best], times["tljax"]))
                record.row(name, f"{pixels}, {batch}", kind, *pair, best, ratio)
                row = dict(name=name, pixels=pixels, batch=batch, ms=times)
                record["rows"].append({**row, "pass": kind})


if __name__ == "__main__":
    main()

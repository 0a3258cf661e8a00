"""What one accelerator does, in one command: python -m benchmarks.accelerator.

Whether a run that was stopped ends bit for bit as one that was not, with XLA's deterministic
operations, and what these cost; a sweep of 64 members, batched and in turn, beside one run;
ResNet-50 and ViT-B/16 trained in bfloat16, beside a bare jitted step of the same trunk and, where
torch has CUDA and transformers is there, beside PyTorch compiled, with channels last. Each part is
kept when it ends, and `--only` takes some; `--shrink` shows on a CPU that it runs.
"""

import functools
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax

import tljax
from benchmarks import dann_mlp, frame
from benchmarks.growth import block, config_of
from tljax.memory import keep_freed
from tljax.models import ResNet, ViT
from tljax.train import lanes
from tljax.train.lanes import Lane, Single

FLAG = "--xla_gpu_deterministic_ops=true"
# name -> (trunk, pixels, batch, transformers' name)
NETWORKS: dict[str, tuple[Any, int, int, str]] = {
    "ResNet-50": (ResNet(depth=50), 224, 256, "ResNet"),
    "ViT-B/16": (ViT(variant="base"), 224, 128, "ViT"),
}
SMALL: dict[str, tuple[Any, int, int, str]] = {
    "ResNet-50": (ResNet(depth=18), 32, 4, ""),
    "ViT-B/16": (ViT(variant="tiny", depth=2), 32, 4, ""),
}
RATE, MOMENTUM = 1e-3, 0.9


def images_of(pixels: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch of noise `[batch, pixels, pixels, 3]` in bytes, and labels of ten classes."""
    images = np.random.default_rng(0).integers(256, size=(batch, pixels, pixels, 3), dtype=np.uint8)
    return images, np.arange(batch, dtype=np.int32) % 10


def ours(trunk: Any, pixels: int, batch: int, steps: int) -> Callable[[], None]:
    """Steps of tljax, as a run dispatches them."""
    images, labels = images_of(pixels, 2 * batch)
    data = {"target": tljax.Table(input=images, label=labels, classes=tuple("0123456789"))}
    heads = {"label": tljax.models.Linear()}
    phase = tljax.Phase(
        network=tljax.Network(trunk=trunk, heads=heads, precision="bfloat16"),
        streams=[tljax.Stream("target", batch=batch)],
        terms={"label": tljax.term("cross_entropy", stream="target")},
        optimizer=tljax.optimizer("sgd", learning_rate=RATE, momentum=MOMENTUM),
        train={"**": 1.0},
        steps=10**6,
    )
    program = Single(Lane(phase, tljax.start(phase, data, jax.random.key(0)), data), None)

    def run() -> None:
        for _ in range(0, steps, program.longest):
            program.advance(0, min(steps, program.longest), fresh=False)
        jax.block_until_ready(program.state)

    return run


def bare(trunk: Any, pixels: int, batch: int, steps: int) -> Callable[[], None]:
    """A jitted step of the same trunk with nothing around it, on one batch that stays."""
    images, labels = (jnp.asarray(each) for each in images_of(pixels, batch))
    first = jnp.zeros((1, pixels, pixels, 3))
    variables = jax.jit(lambda key: trunk.init(key, first, train=False))(jax.random.key(0))
    width = jax.eval_shape(lambda v: trunk.apply(v, first, train=False)[0], variables).shape[-1]
    params = {"trunk": variables["params"], "head": jnp.zeros((width, 10))}
    optimizer = optax.sgd(RATE, momentum=MOMENTUM)

    def loss(params: Any, stats: Any) -> Any:
        half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params["trunk"])
        x = (images / 255.0).astype(jnp.bfloat16)
        (z, _), moved = trunk.apply(
            {"params": half, "batch_stats": stats}, x, train=True, mutable=["batch_stats"]
        )
        logits = z.astype(jnp.float32) @ params["head"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), moved.get("batch_stats", {})

    def step(state: Any) -> Any:
        params, stats, momentum = state
        gradient, stats = jax.grad(loss, has_aux=True)(params, stats)
        updates, momentum = optimizer.update(gradient, momentum)
        return optax.apply_updates(params, updates), stats, momentum

    program = jax.jit(step, donate_argnums=0)
    state = (params, variables.get("batch_stats", {}), optimizer.init(params))

    def run() -> None:
        nonlocal state
        for _ in range(steps):
            state = program(state)
        jax.block_until_ready(state)

    return run


def theirs(kind: str, pixels: int, batch: int, steps: int) -> Callable[[], None]:
    """The same in PyTorch, compiled, with channels last and a fused optimiser."""
    import torch
    import transformers

    config = getattr(transformers, f"{kind}Config")(num_labels=10)
    model = getattr(transformers, f"{kind}ForImageClassification")(config)
    model = model.to("cuda", memory_format=torch.channels_last).train()
    torch.backends.cudnn.benchmark = True
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=MOMENTUM, fused=True)
    images, labels = (torch.from_numpy(each).cuda() for each in images_of(pixels, batch))
    images, labels = images.movedim(-1, 1), labels.long()

    @torch.compile(dynamic=False)
    def loss() -> Any:
        with torch.autocast("cuda", torch.bfloat16):
            logits = model(images / 255.0).logits
        return torch.nn.functional.cross_entropy(logits.float(), labels)

    def run() -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            loss().backward()
            optimizer.step()
        torch.cuda.synchronize()

    return run


def has_cuda() -> bool:
    """Whether PyTorch can take part; a line where it cannot."""
    if all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        import torch

        if torch.cuda.is_available():
            return True
    print("no PyTorch: it takes torch with CUDA, and transformers")
    return False


def deterministic(on: bool = True) -> dict[str, str]:
    """The environment of a child, which shares the device's memory with this process."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {FLAG * on}".strip()
    return {**os.environ, "XLA_FLAGS": flags, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def demo(workdir: Path, steps: int, stopped: bool) -> bool:
    """A run of the demo, of which one is stopped at its first checkpoint and goes on.

    Returns:
      Whether it was stopped.
    """
    script = [sys.executable, "-c", "from tljax.main import script; script()"]
    flags = [f"--config.steps={steps}", "--config.figures=False", "--quiet"]
    flags += [f"--config.{each}_every={max(1, steps // 10)}" for each in ("log", "checkpoint")]
    command = [*script, "--config=configs/dann.py", f"--workdir={workdir}", *flags]
    metrics, code = workdir / "metrics.jsonl", 0
    if stopped:
        process = subprocess.Popen(
            command, cwd=frame.ROOT, env=deterministic(), stderr=subprocess.DEVNULL
        )
        while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
            time.sleep(0.002)
        process.send_signal(signal.SIGTERM)
        code = process.wait()
    if code in (0, 128 + signal.SIGTERM):
        subprocess.run(command, cwd=frame.ROOT, env=deterministic(), check=True)
    else:
        sys.exit(f"the demo ended with exit code {code}")
    return code != 0


def resumed(steps: int) -> str:
    """How a run that was stopped compares with one that was not."""
    with tempfile.TemporaryDirectory() as there:
        runs = [Path(there, name) for name in ("whole", "stopped")]
        was = [demo(run, steps, run.name == "stopped") for run in runs][1]
        if not was:
            return "it ended before it could be stopped"
        files = ("metrics.jsonl", "result.json")
        unlike = [n for n in files if len({(run / n).read_bytes() for run in runs}) > 1]
    return f"{' and '.join(unlike)} differ" if unlike else "bit for bit the same"


def child(name: str, options: Any, on: bool) -> list[float]:
    """Milliseconds a step of every round, with or without deterministic operations, in a process
    of its own: XLA reads the flag once."""
    command = [sys.executable, "-m", "benchmarks.accelerator", f"--child={name}"]
    command += [f"--{each}={getattr(options, each)}" for each in ("steps", "rounds")]
    command += ["--shrink"] * options.shrink
    printed = subprocess.check_output(command, cwd=frame.ROOT, env=deterministic(on), text=True)
    return json.loads(printed.splitlines()[-1])


def taken(batched: bool, run: Callable[[], None]) -> Callable[[], None]:
    """Steps of a sweep whose members are batched, or taken in turn, whatever the platform."""

    def turn() -> None:
        with mock.patch.object(lanes, "batched", lambda: batched):
            run()

    return turn


def sweeps(options: Any) -> dict[str, dict[str, list[float]]]:
    """Of the demo's two networks: one run, and members both ways -> ms a member-step."""
    found = {}
    for name, config in {"CNN": config_of(), "MLP": dann_mlp.get_config()}.items():
        blocks = {"one run": block(config, options.steps)}
        for way in ("batched", "in turn"):
            members = block(config, options.steps, options.members)
            blocks[f"{options.members} {way}"] = taken(way == "batched", members)
        times = frame.rounds(blocks, options.rounds, scale=1e3 / options.steps)
        alone = times.pop("one run")
        shared = {way: [t / options.members for t in each] for way, each in times.items()}
        found[name] = {"one run": alone, **shared}
    return found


# The parts, of which the first two leave the device to children.


def resuming(record: frame.Record, options: Any) -> None:
    record["resume"] = resumed(20 if options.shrink else 2500)
    print(f"a run that was stopped, with {FLAG}: {record['resume']}", flush=True)


def costing(record: frame.Record, options: Any) -> None:
    record["ms a step, deterministic or not"] = costs = {}
    record.head("deterministic operations", "ms a step", "without: ms", "with / without")
    for name in ("the demo", "ResNet-50"):
        on, off = costs[name] = [child(name, options, each) for each in (True, False)]
        record.row(name, frame.spread(on), frame.spread(off), frame.spread(frame.ratios(on, off)))


def sweeping(record: frame.Record, options: Any) -> None:
    record["ms a member-step"] = sweeps(options)
    record.head("a sweep of configs/dann.py", "", "ms a member-step", "one run / this")
    for name, times in record["ms a member-step"].items():
        for way, each in times.items():
            ratio = frame.spread(frame.ratios(times["one run"], each))
            record.row(name, way, frame.spread(each, 4), ratio)


def feeding(name: str, record: frame.Record, options: Any) -> None:
    trunk, pixels, batch, kind_of = networks_of(options)[name]
    made = {"tljax": ours(trunk, pixels, batch, options.steps)}
    made["bare step"] = bare(trunk, pixels, batch, options.steps)
    if kind_of and has_cuda():
        made["torch, compiled"] = theirs(kind_of, pixels, batch, options.steps)
    spent = frame.rounds(made, options.rounds)
    rates = {way: [options.steps * batch / each for each in s] for way, s in spent.items()}
    record.setdefault("images/s", {})[name] = rates
    record.head("bfloat16", "images/s", "", "of the bare step")
    for way, each in rates.items():
        share = f"{statistics.median(each) / max(rates['bare step']):.0%}"
        record.row(f"{name}, {batch} × {pixels}²", frame.spread(each, 0), way, share)


PARTS = {"resume": resuming, "deterministic": costing, "sweeps": sweeping}


def networks_of(options: Any) -> dict[str, tuple[Any, int, int, str]]:
    return SMALL if options.shrink else NETWORKS


def main() -> None:
    parser = frame.flags(__doc__, rounds=5)
    parser.add_argument("--shrink", action="store_true", help="small sizes, which mean nothing")
    parser.add_argument("--steps", type=frame.positive, help="of a block; 50, or 2 of small sizes")
    parser.add_argument("--members", type=frame.positive, help="64, or 2 of small sizes")
    parts = (*PARTS, *NETWORKS)
    parser.add_argument("--only", nargs="+", choices=parts, help="some of it")
    parser.add_argument("--child", choices=("the demo", *NETWORKS), help="one block's seconds")
    options = parser.parse_args()
    keep_freed()
    # PyTorch and children have some of the device's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    options.steps = steps = options.steps or (2 if options.shrink else 50)
    options.members = options.members or (2 if options.shrink else 64)
    networks = networks_of(options)
    if options.child:
        of_network = options.child in networks
        trunk = networks[options.child][:3] if of_network else ()
        run = ours(*trunk, steps) if of_network else block(config_of(), steps)
        [times] = frame.rounds({"": run}, options.rounds, scale=1e3 / steps).values()
        print(json.dumps(times))
        return

    only = options.only or parts

    def kind() -> str:
        shrunk = ", shrunk" * options.shrink
        return jax.devices()[0].device_kind + shrunk + (f": {', '.join(only)}" * bool(options.only))

    with frame.measured("accelerator", options, kind) as record:
        for name in only:
            PARTS.get(name, functools.partial(feeding, name))(record, options)
            record.keep()


if __name__ == "__main__":
    main()

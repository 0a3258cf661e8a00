"""Times configs/dann.py in tljax beside benchmarks/dann_torch.py: python -m benchmarks.dann."""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import dann_torch
from configs import dann
from tljax import assembly, experiment, trees
from tljax.train import step as steps

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 1e-4
DISPATCH = 50  # what the loop dispatches at once under the shipped config, which logs every 50


def prepare(config: Any) -> tuple[Any, Callable[[], steps.State]]:
    """The phase of a config, and what makes its first state (a step takes the state's memory)."""
    _, (phase,), (fields,) = experiment.build(experiment.resolve(config))
    return phase, lambda: assembly.first_state(phase, fields, {})


def to_torch(params: Any, size: int) -> dict[str, torch.Tensor]:
    """tljax's parameters under the names and in the layouts of `dann_torch.DANN`."""
    flat = {path: np.asarray(leaf) for path, leaf in trees.flatten(params).items()}
    convolutions = sum(path.startswith("trunk/") for path in flat) // 2
    side = size // 2**convolutions
    moved = {}
    for path, leaf in flat.items():
        *module, kind = path.split("/")
        first = {"conv": 3, "dense": 2}  # convolution, pool, ReLU; dense, ReLU
        layer, _, index = module[-1].partition("_")
        index = int(index) * first[layer] if index else 2
        if leaf.ndim == 4:
            leaf = leaf.transpose(3, 2, 0, 1)
        elif leaf.ndim == 2 and index == 0:
            # The features are flattened channels last there and channels first here.
            channels = leaf.shape[0] // side**2
            leaf = leaf.reshape(side, side, channels, -1).transpose(3, 2, 0, 1)
            leaf = leaf.reshape(leaf.shape[0], -1)
        elif leaf.ndim == 2:
            leaf = leaf.T
        part = "trunk" if module[0] == "trunk" else module[1]
        moved[f"{part}.{index}.{'weight' if kind == 'kernel' else 'bias'}"] = torch.tensor(leaf)
    return moved


def differences(config: Any, at: int = 500, count: int = 2) -> dict[str, float]:
    """How far the two are apart: the largest difference over the largest value, by quantity.

    Args:
      config: configs/dann.py, possibly with a smaller network and batch.
      at: the step whose learning rate and λ are taken. At step 0 λ is 0, which hides a mistake.
      count: steps after which losses and parameters are compared; at the second momentum counts.

    Returns:
      `features` and both `logits` of a batch, and the mean `loss`, the change of the `parameters`
      and that of their `average` over `count` steps.
    """
    phase, fresh = prepare(config)
    size, batch = config.streams.source.size, config.streams.source.batch
    heads = config.network.heads
    state = fresh()._replace(step=jnp.int32(at))
    net, params = phase.plan.objective.network, jax.tree.map(jnp.copy, state.params)
    start = to_torch(params, size)
    assert heads.label.hidden == heads.domain.hidden and len(heads.label.hidden) == 1
    model = dann_torch.DANN(config.network.trunk.channels, heads.label.hidden[0], size)
    model.load_state_dict(start)
    training = dann_torch.Training(model, config.steps, batch)
    training.step = at

    def heard(net: Any, images: jax.Array) -> tuple[jax.Array, ...]:
        z = net.features(images, train=False)
        return z, net.head("label", z), net.head("domain", z)

    draw = jax.jit(steps.batch_of, static_argnums=0)
    loss, found = 0.0, {}
    for i in range(count):
        seen = draw(phase.plan, phase.hyper, phase.resident, {}, state.step)
        pair = [
            torch.tensor(np.asarray(seen[name]["image"])).movedim(-1, 1)
            for name in ("source", "target")
        ]
        if i == 0:
            images = jnp.concatenate([seen["source"]["image"], seen["target"]["image"]])
            z, *logits = nn.apply(heard, net)({"params": params}, images)
            with torch.no_grad():
                own = model.trunk(torch.cat(pair))
                said = [model.label(own), model.domain(own)]
            side = size // 2 ** len(config.network.trunk.channels)
            own = own.reshape(len(own), -1, side, side).movedim(1, -1).flatten(1)
            found["features"] = _apart(z, own)
            found |= {f"{n} logits": _apart(*p) for n, *p in zip("ld", logits, said, strict=True)}
        labels = torch.tensor(np.asarray(seen["source"]["label"])).long()
        training.update(pair[0], labels, pair[1])
        before = {} if state.step % config.log_every == 0 else state.totals
        before = float(before.get("loss", 0.0))
        state, report = steps.single_step(
            phase.plan, state, phase.hyper, params, phase.resident, {}
        )
        loss += float(report.totals["loss"]) - before
    found["loss"] = _apart(loss, training.total)
    ends = {"parameters": (state.params, model), "average": (state.average, training.averaged)}
    for name, (ours, theirs) in ends.items():
        ours, theirs = to_torch(ours, size), theirs.state_dict()
        found[name] = max(_apart(ours[n] - start[n], theirs[n] - start[n]) for n in start)
    return found


def _apart(ours: Any, theirs: Any) -> float:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(ours - theirs).max() / np.abs(ours).max())


def blocks(count: int, repeats: int) -> dict[str, list[float]]:
    """Milliseconds a step, by contestant, of `repeats` blocks of `count` steps in turn: A B C A …"""
    phase, fresh = prepare(dann.get_config())
    anchor = fresh().params
    states = {"looped": fresh(), "single": fresh()}
    several = jax.device_put(np.int32(DISPATCH))
    digits, training = dann_torch.Digits(), dann_torch.Training(dann_torch.DANN())

    def looped() -> None:
        for _ in range(count // DISPATCH):
            arguments = (phase.plan, states["looped"], phase.hyper, anchor, phase.resident, {})
            states["looped"], _ = steps.train_steps(*arguments, several)
        jax.block_until_ready(states["looped"])

    def single() -> None:
        for _ in range(count):
            arguments = (phase.plan, states["single"], phase.hyper, anchor, phase.resident, {})
            states["single"], _ = steps.single_step(*arguments)
        jax.block_until_ready(states["single"])

    def eager() -> None:
        for _ in range(count):
            training.update(*digits.batch(training.step))

    contestants = {"tljax, looped": looped, "tljax, step by step": single, "torch": eager}
    for each in contestants.values():
        each()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, each in contestants.items():
            began = time.perf_counter()
            each()
            times[name].append((time.perf_counter() - began) / count * 1e3)
    return times


def whole_runs(repeats: int, threads: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds and target accuracies of whole trainings in new processes, in turn.

    Both train 2,500 steps and evaluate once; tljax's also compiles, logs and saves the result.
    """
    hidden = ("JAX_COMPILATION_CACHE_DIR",)  # every run compiles
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    seconds: dict[str, list[float]] = {"tljax": [], "torch": []}
    accuracies: dict[str, list[float]] = {"tljax": [], "torch": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as workdir:
            once = [f"--config.{each}_every=2500" for each in ("evaluate", "checkpoint")]
            ours = ["-c", "from tljax.main import script; script()", "--quiet", *once]
            ours += ["--config=configs/dann.py", f"--workdir={workdir}", "--config.figures=False"]
            theirs = ["-m", "benchmarks.dann_torch", f"--threads={threads}"]
            for name, command in (("tljax", ours), ("torch", theirs)):
                began = time.perf_counter()
                ran = subprocess.run(
                    [sys.executable, *command],
                    cwd=ROOT,
                    env=environment,
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                seconds[name].append(time.perf_counter() - began)
                if name == "tljax":
                    result = json.loads((Path(workdir) / "result.json").read_text())
                    accuracies[name].append(result["evaluations"]["target"]["accuracy"])
                else:
                    accuracies[name].append(json.loads(ran.stdout)["accuracy"])
    return seconds, accuracies


def spread(values: list[float], digits: int = 2) -> str:
    """Median (least–most)."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def show(times: Mapping[str, list[float]], unit: str) -> None:
    """Prints a row of a table for each: time and, by the pairs of one round, torch's over it."""
    for name, values in times.items():
        ratios = [t / v for t, v in zip(times["torch"], values, strict=True)]
        print(f"| {name} | {spread(values)} {unit} | {spread(ratios)} |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200, help=f"a block; multiple of {DISPATCH}")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch")
    parser.add_argument("--whole-run", action="store_true")
    parser.add_argument("--write", action="store_true", help="benchmarks/results/dann.json")
    options = parser.parse_args()
    if options.steps < 1 or options.steps % DISPATCH or options.repeats < 1:
        parser.error(f"--steps is a multiple of {DISPATCH}, --repeats at least 1")
    torch.set_num_threads(options.threads)
    names = ("jax", "jaxlib", "torch", "numpy")
    about = {
        "device": jax.devices()[0].device_kind,
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }
    print(json.dumps(about))
    found = differences(dann.get_config())
    print("largest relative differences:", {n: float(f"{d:.1g}") for n, d in found.items()})
    if max(found.values()) > TOLERANCE:
        print(f"the two differ by more than {TOLERANCE}; nothing is timed", file=sys.stderr)
        return 1
    results: dict[str, Any] = {"about": about, "differences": found, "steps": options.steps}
    print("| | median (least–most) | torch / this |\n|---|---|---|")
    if options.whole_run:
        seconds, accuracies = whole_runs(options.repeats, options.threads)
        show(seconds, "s")
        print({name: spread(each, 4) for name, each in accuracies.items()})
        results |= {"whole_run_seconds": seconds, "target_accuracies": accuracies}
    else:
        times = blocks(options.steps, options.repeats)
        show(times, "ms")
        results["milliseconds_a_step"] = times
    print("load average after:", os.getloadavg())
    if options.write:
        file = ROOT / "benchmarks" / "results" / "dann.json"
        file.parent.mkdir(exist_ok=True)
        before = json.loads(file.read_text()) if file.exists() else {}
        kind = "whole_run" if options.whole_run else "steps"
        file.write_text(json.dumps({**before, kind: results}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

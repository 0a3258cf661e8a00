"""Times configs/dann.py in tljax beside benchmarks/dann_torch.py: python -m benchmarks.dann."""

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch

import tljax as library
from benchmarks import dann_mlp, frame
from benchmarks.dann_torch import LAYOUTS, Digits, Numbers, Training
from benchmarks.frame import ROOT
from configs import dann
from tljax import experiment, trees
from tljax.data import streams
from tljax.memory import cores, keep_freed
from tljax.phase.phase import numbers as numbers_of
from tljax.train import step as steps

NETWORKS = {"cnn": dann, "mlp": dann_mlp}
DISPATCH = 50  # steps that the loop dispatches at once under this config, which logs every 50


def numbers(config: Any) -> Numbers:
    """What the PyTorch side takes from the config."""
    optimizer, network, stream = config.optimizer, config.network, config.streams.target
    trunk = network.trunk
    assert network.heads.label.hidden == network.heads.domain.hidden
    assert config.terms.domain.gamma == optimizer.schedule.gamma
    return Numbers(
        config.seed,
        config.steps,
        stream.batch,
        tuple(trunk.channels) if trunk.name == "cnn" else (),
        tuple(trunk.features) if trunk.name == "mlp" else (),
        *network.heads.label.hidden,
        stream.size,
        optimizer.learning_rate,
        optimizer.momentum,
        config.terms.domain.weight,
        optimizer.schedule.gamma,
        optimizer.schedule.power,
        config.average,
        stream.transforms[0]["strength"],
    )


def prepare(config: Any) -> tuple[Any, Any, steps.State, steps.State]:
    """The phase of a config, its data, and its first state, twice: a step takes its memory."""
    built = experiment.build(experiment.check(config))
    [(name, phase)] = built.phases.items()
    states = [library.start(phase, built.data, built.key(name)) for _ in range(2)]
    return phase, built.data, *states


def to_torch(params: Any, side: int) -> dict[str, torch.Tensor]:
    """Parameters under the names and layouts of `dann_torch.DANN`; `side` of the last map, or 1."""
    moved = {}
    for path, leaf in trees.flatten(params).items():
        module, layer, kind = path.removeprefix("heads/").split("/")
        name, _, index = layer.partition("_")
        place = {"conv": 3, "dense": 2, "output": 2}[name] * int(index or 1)
        place += path.startswith("trunk/dense")  # after `Pixels`
        leaf = np.asarray(leaf)
        if layer == "dense_0":  # it may read a map, whose channels come last here, first there
            if leaf.ndim == 2:
                leaf = leaf.reshape(side, side, -1, leaf.shape[-1]).transpose(2, 0, 1, 3)
                leaf = leaf.reshape(-1, leaf.shape[-1])
        leaf = leaf.transpose(3, 2, 0, 1) if leaf.ndim == 4 else leaf.T
        kind = "weight" if kind == "kernel" else kind
        moved[f"{module}.{place}.{kind}"] = torch.tensor(leaf)
    return moved


def differences(config: Any, at: int = 500, count: int = 2) -> dict[str, float]:
    """The largest difference between the two over the largest value, by quantity.

    Args:
      config: configs/dann.py, possibly with another network and a smaller batch.
      at: the step to start from, a multiple of `log_every`. At 0 λ is 0, which hides mistakes.
      count: steps after which losses and parameters are compared; at the second momentum counts.

    Returns:
      Those of the first batch's features and logits, of the losses' sum, and of how far the
      parameters and their average have moved.
    """
    config = config.copy_and_resolve_references()
    config.average = 0.5  # at 0.998 two steps move it by little more than float32 resolves
    phase, data, state, other = prepare(config)
    params, state = other.params, state._replace(step=jnp.int32(at))
    told = numbers(config)
    side = told.size // 2 ** len(told.channels) if told.channels else 1
    start, training, found = to_torch(params, side), Training(told, at), {}
    for model in (training.model, training.averaged):
        model.load_state_dict(start)

    def heard(net: Any, images: jax.Array) -> tuple[jax.Array, ...]:
        z = net.features(images)
        return z, net.head("label", z), net.head("domain", z)

    draw, total = jax.jit(streams.batch_of), 0.0
    for _ in range(count):
        seen = draw(numbers_of(phase.streams), data, {}, {}, state.step, state.key)
        images = [np.asarray(seen[name]["input"]) for name in ("source", "target")]
        pair = [torch.tensor(each).movedim(-1, 1) for each in images]
        if not found:
            net = nn.apply(heard, phase.network)
            ours = net({"params": params}, jnp.concatenate(images))
            with torch.no_grad():
                map_ = training.model.trunk[:-1](torch.cat(pair))
                z = map_.flatten(1)
                theirs = (
                    map_.movedim(1, -1).flatten(1),
                    *(head(z) for head in (training.model.label, training.model.domain)),
                )
            kinds = ("features", "label logits", "domain logits")
            found = {k: _apart(*both) for k, *both in zip(kinds, ours, theirs, strict=True)}
        training.update(pair[0], torch.tensor(np.asarray(seen["source"]["label"])).long(), pair[1])
        state, report = library.step(phase, state, data)
        total += report.totals["loss"]  # of this step alone
    found["loss"] = _apart(total, training.total)
    moved = {"parameters": (state.params, training.model)}
    moved["average"] = (state.average, training.averaged)
    for name, (ours, model) in moved.items():
        ours, theirs = to_torch(ours, side), model.state_dict()
        changes = [
            np.concatenate([(t[n] - start[n]).ravel() for n in start]) for t in (ours, theirs)
        ]
        found[name] = _apart(*changes)
    return found


def _apart(ours: Any, theirs: Any) -> float:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(ours - theirs).max() / np.abs(ours).max())


def blocks(config: Any, count: int) -> dict[str, Callable[[], None]]:
    """Name -> a block of `count` steps of each, which goes on from the last one."""
    phase, data, *states = prepare(config)
    phase = jax.device_put(numbers_of(phase))
    several, fresh = jax.device_put((np.int32(DISPATCH), np.bool_(False)))
    told = numbers(config)
    digits = Digits(told)
    for name, images in (("source", digits.source), ("target", digits.target)):
        np.testing.assert_allclose(data[name].input / 255.0, images, atol=1e-6)

    def jitted(which: int, program: Any, dispatches: int, *counts: Any) -> None:
        for _ in range(dispatches):
            states[which], _ = program(phase, states[which], data, {}, *counts, fresh)
        jax.block_until_ready(states[which])

    def eager(training: Training) -> None:
        for _ in range(count):
            training.update(*digits.draw(training.step))

    trainings = {name: Training(told, layout=name) for name in LAYOUTS}
    return {
        "tljax, looped": lambda: jitted(0, steps.train_steps, count // DISPATCH, several),
        "tljax, step by step": lambda: jitted(1, steps.single_step, count),
        **{f"torch, {n}": functools.partial(eager, each) for n, each in trainings.items()},
    }


def in_new_process(*arguments: str) -> str:
    """What a Python process of its own prints, which finds nothing compiled."""
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    command = [sys.executable, *arguments]
    return subprocess.check_output(command, cwd=ROOT, env=environment, text=True)


def tljax(*arguments: str) -> None:
    """The command line in a process of its own, which evaluates and saves once, at the end."""
    once = [f"--config.{each}_every=1000000" for each in ("evaluate", "checkpoint")]
    script = ["-c", "from tljax.main import script; script()"]
    in_new_process(*script, *arguments, *once, "--config.figures=False", "--quiet")


def accuracy(workdir: Path) -> float:
    """On the target, of a run that has ended."""
    return json.loads((workdir / "result.json").read_text())["evaluations"]["target"]["accuracy"]


def run_torch(config: Any, threads: int, layout: str = "channels last") -> float:
    """The accuracy that a process of `dann_torch` prints."""
    told = json.dumps(numbers(config)._asdict())
    printed = in_new_process("-m", "benchmarks.dann_torch", told, str(threads), layout)
    return json.loads(printed)["accuracy"]


def whole_runs(
    module: Any, threads: int
) -> tuple[dict[str, Callable[[], None]], dict[str, list[float]]]:
    """Whole trainings, each a new process, and where they leave their accuracies.

    Both train and evaluate once; tljax's also compiles, logs and saves its state and result.
    """
    reached: dict[str, list[float]] = {"tljax": [], **{f"torch, {name}": [] for name in LAYOUTS}}

    def ours() -> None:
        with tempfile.TemporaryDirectory() as workdir:
            tljax(f"--config={module.__file__}", f"--workdir={workdir}")
            reached["tljax"].append(accuracy(Path(workdir)))

    def theirs(layout: str) -> None:
        reached[f"torch, {layout}"].append(run_torch(module.get_config(), threads, layout))

    runs = {f"torch, {name}": functools.partial(theirs, name) for name in LAYOUTS}
    return {"tljax": ours, **runs}, reached


def agree(config: Any) -> dict[str, float]:
    """The differences of the two sides, or the end of a benchmark that would compare two things."""
    found = differences(config)
    print("differences:", {name: f"{value:.1e}" for name, value in found.items()})
    if max(found.values()) > 1e-4:
        sys.exit("the two sides do not compute the same; nothing was timed")
    return found


def main() -> None:
    parser = frame.flags(__doc__, rounds=7)
    parser.add_argument("--steps", type=int, default=200, help=f"a block; multiple of {DISPATCH}")
    parser.add_argument("--threads", type=frame.positive, default=cores(), help="of torch")
    parser.add_argument("--whole-run", action="store_true")
    parser.add_argument("--network", choices=NETWORKS, default="cnn")
    options = parser.parse_args()
    if options.steps < 1 or options.steps % DISPATCH:
        parser.error(f"--steps must be a multiple of {DISPATCH}")
    keep_freed()
    torch.set_num_threads(options.threads)
    whole, module = options.whole_run, NETWORKS[options.network]
    unit, digits = ("s", 1) if whole else ("ms", 2)
    kind = f"{'whole run' if whole else 'a step'}, {options.threads} threads of torch"
    kind += "" if options.network == "cnn" else f", {options.network}"
    with frame.measured("dann", options, lambda: kind) as record:
        record["differences"] = agree(module.get_config())
        if whole:
            contestants, reached = whole_runs(module, options.threads)
            times = frame.rounds(contestants, options.rounds, warm=0)
            record["target accuracy"] = reached
            print("target accuracy:", {n: frame.spread(each, 4) for n, each in reached.items()})
        else:
            scale = 1e3 / options.steps
            made = blocks(module.get_config(), options.steps)
            times = frame.rounds(made, options.rounds, scale=scale)
        record[unit] = times
        best = frame.fastest(times, [f"torch, {name}" for name in LAYOUTS])
        record.head(kind, f"{unit}: median (least–most)", f"{best} / this")
        for name, values in times.items():
            ratios = frame.ratios(times[best], values)
            record.row(name, frame.spread(values, digits), frame.spread(ratios))


if __name__ == "__main__":
    main()

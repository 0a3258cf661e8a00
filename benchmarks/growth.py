"""What a step of the demo costs as it grows: python -m benchmarks.growth.

Over the batch, the width of its network, the members of a sweep, and simulated devices, each in a
process of its own; these share the cores of the host, so that they show what splitting costs, and
no speed. `--write` draws `results/growth.png` too.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax

import tljax
from benchmarks import frame
from configs import dann
from tljax import experiment
from tljax.memory import keep_freed
from tljax.report.canvas import canvas, save
from tljax.report.figures import PALETTE
from tljax.train.lanes import Lane, Single, Stacked

# panel -> its sizes, and what is measured: the name of an axis and of its numbers
PANELS: dict[str, tuple[tuple[int, ...], str]] = {
    "batch of a stream": ((16, 32, 64, 128, 256, 512, 1024), "images/s"),
    "width of the network": ((1, 2, 4), "ms a step"),
    "members of a sweep": ((1, 2, 4, 8, 16), "ms a member-step"),
    "simulated devices": ((1, 2, 4), "ms a step"),
}


def config_of(batch: int = 0, width: int = 1, devices: int = 1) -> Any:
    """The demo with another batch, a wider network, or over several devices."""
    config = dann.get_config()
    for stream in config.streams.values():
        if batch:  # of more digits than the demo's 600, which the largest exceeds
            stream.batch, stream.split = batch, "train[:1200]"
    trunk, heads = config.network.trunk, config.network.heads
    trunk.channels = tuple(width * each for each in trunk.channels)
    for head in heads.values():
        head.hidden = tuple(width * each for each in head.hidden)
    config.mesh.data = devices
    return config


def block(config: Any, steps: int, members: int = 0) -> Callable[[], None]:
    """`steps` steps of a run, or of so many members of a sweep, from where the last call ended."""
    built = experiment.build(experiment.check(config))
    [(name, phase)] = built.phases.items()
    keys = [built.key(name, restart) for restart in range(max(1, members))]
    made = [Lane(phase, tljax.start(phase, built.data, key), built.data) for key in keys]
    program = Stacked(made, None) if members else Single(made[0], None)

    def run() -> None:
        for _ in range(0, steps, program.longest):
            program.advance(0, min(steps, program.longest), fresh=False)
        jax.block_until_ready(program.state)

    return run


def apart(devices: int, steps: int) -> float:
    """Seconds of the same over simulated devices, in a process of its own, once it is warm."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    command = [sys.executable, "-m", "benchmarks.growth", f"--devices={devices}"]
    command += [f"--steps={steps}"]
    printed = subprocess.check_output(command, cwd=frame.ROOT, env=environment, text=True)
    return json.loads(printed.splitlines()[-1])


def measured(panel: str, sizes: list[int], steps: int, rounds: int) -> dict[int, list[float]]:
    """Size -> seconds a step of every round."""

    def taking_turns(made: dict[str, Callable], **how: Any) -> dict[int, list[float]]:
        times = frame.rounds(made, rounds, scale=1 / steps, **how)
        return {int(size): each for size, each in times.items()}

    if panel == "simulated devices":
        # Each warms itself, so that none is dropped.
        children = {str(size): lambda size=size: apart(size, steps) for size in sizes}
        return taking_turns(children, measure=lambda child: child(), warm=0)
    blocks = {
        "batch of a stream": lambda size: block(config_of(batch=size), steps),
        "width of the network": lambda size: block(config_of(width=size), steps),
        "members of a sweep": lambda size: block(config_of(), steps, members=size),
    }[panel]
    return taking_turns({str(size): blocks(size) for size in sizes})


def shown(panel: str, size: int, times: list[float]) -> list[float]:
    """Seconds a step in the panel's unit."""
    if panel == "batch of a stream":
        return [2 * size / each for each in times]  # of source and target
    return [1e3 * each / (size if panel == "members of a sweep" else 1) for each in times]


def draw(found: dict[str, dict[int, list[float]]], title: str) -> None:
    """Four panels: medians, and least to most as bars."""
    figure = canvas(12, 3.2)
    for axes, (panel, values) in zip(figure.subplots(1, len(PANELS)), found.items(), strict=False):
        middle = [statistics.median(each) for each in values.values()]
        bars = zip(middle, values.values(), strict=True)
        low, high = zip(*((m - min(each), max(each) - m) for m, each in bars), strict=True)
        axes.errorbar([*values], middle, yerr=(low, high), fmt="o-", capsize=4, color=PALETTE[0])
        axes.set_xscale("log", base=2)
        axes.set_xticks([*values], [f"{size:,}" for size in values], fontsize=8)
        axes.minorticks_off()
        axes.set(xlabel=panel, ylabel=PANELS[panel][1], ylim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=9)
    save(figure, frame.RESULTS / "growth.png")


def main() -> None:
    parser = frame.flags(__doc__, rounds=5)
    parser.add_argument("--steps", type=frame.positive, default=100, help="of a block")
    parser.add_argument("--largest", type=frame.positive, default=1024, help="leaves out the rest")
    parser.add_argument("--devices", type=int, help="of a child: prints the seconds of a block")
    options = parser.parse_args()
    keep_freed()
    if options.devices:
        run = block(config_of(devices=options.devices), options.steps)
        run()
        print(json.dumps(frame.seconds(run)))
        return
    with frame.measured("growth", options) as record:
        found: dict[str, dict[int, list[float]]] = {}
        for panel, (sizes, unit) in PANELS.items():
            kept = [size for size in sizes if size <= options.largest]
            times = measured(panel, kept, options.steps, options.rounds)
            found[panel] = {size: shown(panel, size, each) for size, each in times.items()}
            record.head(panel, unit)
            for size, values in found[panel].items():
                record.row(f"{size:,}", frame.spread(values, 0 if unit == "images/s" else 2))
            print()
        record |= {"steps": options.steps, "panels": found}
    if options.write:
        busy = ", the machine being busy" * bool(record.busy)
        draw(found, f"A step of configs/dann.py; {frame.processor() or 'a CPU'}{busy}")


if __name__ == "__main__":
    main()

"""A step of three tasks of text beside the three steps of each alone: python -m benchmarks.text.

`configs/text_tasks` on made-up sentences of its lengths. All take turns, so that a busy machine
slows all: read the ratio, the median over rounds of the joint step by the sum of the single ones.
"""

import argparse
import importlib.metadata
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax

import tljax
from configs import text_tasks
from tljax.experiment.build import build
from tljax.experiment.check import check

FILE = Path(__file__).parent / "results" / "text.json"
TASKS = ("pair", "single", "span")


def write(folder: Path, examples: int, words: int = 20) -> None:
    """Sentences of made-up words."""
    draw = random.Random(0)
    known = ["".join(draw.choices("aeioubdgklmnprst", k=draw.randint(2, 8))) for _ in range(2000)]
    for task in TASKS:
        (folder / task).mkdir()
        for split in ("train", "test"):
            rows = []
            for _ in range(examples):
                first, second = (" ".join(draw.choices(known, k=words)) for _ in range(2))
                row: dict[str, Any] = dict(text=first)
                row |= {} if task == "single" else dict(text_pair=second)
                label = dict(label=draw.choice(("yes", "no")))
                row |= dict(start=0, end=second.index(" ")) if task == "span" else label
                rows.append(json.dumps(row))
            (folder / task / f"{split}.jsonl").write_text("\n".join(rows))


def phases(folder: Path, trunk: str, balance: str, batch: int) -> dict[str, Any]:
    """Name -> (phase, data), of all three tasks and of each alone."""
    config = text_tasks.get_config("scratch")
    config.data_dir = str(folder)
    if trunk == "minilm":  # its size, at random
        config.network.trunk.update(width=384, depth=6, heads=12, vocabulary=30522)
    made = {}
    for name, tasks in {"all": TASKS, **{task: (task,) for task in TASKS}}.items():
        own = config.copy_and_resolve_references()
        own.flow, own.terms = tasks, {task: config.terms[task].to_dict() for task in tasks}
        own.evaluate = {task: config.evaluate[task].to_dict() for task in tasks}
        own.balance = dict(name=balance if len(tasks) > 1 else "sum")
        for stream in own.streams.values():
            stream.batch = batch
        built = build(check(own))
        made[name] = (built.phases["train"], {task: built.data[task] for task in tasks})
    return made


def rounds(made: dict[str, Any], repeats: int, steps: int) -> dict[str, list[float]]:
    """Milliseconds a step of each, round by round."""
    states = {n: tljax.start(phase, data, jax.random.key(0)) for n, (phase, data) in made.items()}
    times: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(repeats + 1):
        for name, (phase, data) in made.items():
            began = time.perf_counter()
            for _ in range(steps if turn else 2):
                states[name], _ = tljax.step(phase, states[name], data)
            jax.block_until_ready(states[name])
            if turn:  # the first compiles
                times[name].append(1e3 * (time.perf_counter() - began) / steps)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trunk", choices=("small", "minilm"), default="small")
    parser.add_argument("--balance", default="sum")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="keep the raw times")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), 200)
        made = phases(Path(folder), flags.trunk, flags.balance, flags.batch)
        times = rounds(made, flags.repeats, flags.steps)
    for name, each in times.items():
        print(f"{name}: {statistics.median(each):.1f} ms ({min(each):.1f} to {max(each):.1f})")
    pairs = zip(times["all"], *(times[task] for task in TASKS), strict=True)
    ratios = sorted(together / sum(alone) for together, *alone in pairs)
    middle = statistics.median(ratios)
    print(f"joint / sum of single: {middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    if flags.write:
        kept = json.loads(FILE.read_text()) if FILE.exists() else {}
        device, jax_version = jax.devices()[0].device_kind, importlib.metadata.version("jax")
        own = dict(milliseconds=times, ratios=ratios, device=device, jax=jax_version)
        kept[f"{flags.trunk}, {flags.balance}, batches of {flags.batch}"] = own
        FILE.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()

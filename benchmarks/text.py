"""A step of three tasks of text beside the three steps of each alone: python -m benchmarks.text.

`configs/text_tasks` on made-up sentences of its lengths. The ratio is that of the joint step by the
sum of the single ones.
"""

import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

import tljax
from benchmarks import frame
from configs import text_tasks
from tljax.experiment.build import build
from tljax.experiment.check import check
from tljax.memory import keep_freed

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


def block(phase: Any, data: Any, steps: int) -> Callable[[], None]:
    """So many steps, each call going on from where the last one ended."""
    state = tljax.start(phase, data, jax.random.key(0))

    def run() -> None:
        nonlocal state
        for _ in range(steps):
            state, _ = tljax.step(phase, state, data)
        jax.block_until_ready(state)

    return run


def main() -> None:
    parser = frame.flags(__doc__, rounds=7)
    parser.add_argument("--trunk", choices=("small", "minilm"), default="small")
    parser.add_argument("--balance", default="sum")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=frame.positive, default=5)
    options = parser.parse_args()
    keep_freed()
    kind = f"{options.trunk}, {options.balance}, batches of {options.batch}"
    with frame.measured("text", options, lambda: kind) as record:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), 200)
            made = phases(Path(folder), options.trunk, options.balance, options.batch)
            blocks = {name: block(*each, options.steps) for name, each in made.items()}
            times = frame.rounds(blocks, options.rounds, scale=1e3 / options.steps)
        record["ms"] = times
        record.head("a step", "ms: median (least–most)")
        for name, each in times.items():
            record.row(name, frame.spread(each, 1))
        alone = [sum(each) for each in zip(*(times[task] for task in TASKS), strict=True)]
        record.row("joint / sum of single", frame.spread(frame.ratios(times["all"], alone)))


if __name__ == "__main__":
    main()

"""Does the combined objective of configs/combination.py beat its parts?

    python experiments/adaptation/together.py [--workdir runs/adaptation]

tunes the learning rate of every variant, from the same values, by the accuracy on labelled target
digits that no result uses, and writes together.csv; run.py makes the table.
"""

import csv
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from experiments import report  # noqa: E402

HERE = Path(__file__).parent
SEEDS = 5
TUNING_SEEDS = (100, 101)
RATES = (0.005, 0.02)
VARIANTS = {  # variant -> the terms of the combined phase that it keeps
    "fine-tuning": ("few",),
    "+ L2-SP": ("few", "near"),
    "+ DANN": ("few", "source", "domain"),
    "+ multitask": ("few", "source", "segments"),
    "all": ("few", "source", "near", "domain", "segments"),
}
FLOWS = {"domain": "target", "few": "few", "source": "source"}  # term -> the stream it brings


def pretraining(seed: int) -> Any:
    """The first phase of combination.py alone; every variant of a seed starts from it."""
    config = importlib.import_module("configs.combination").get_config()
    config.seed, config.phases = seed, ("pretrain",)
    del config.combined, config.evaluate.segments
    config.evaluate_every = config.checkpoint_every = config.pretrain.steps
    return config


def variant(name: str, seed: int, rate: float, start: Path) -> Any:
    """The second phase of combination.py with some of its terms."""
    config = importlib.import_module("configs.combination").get_config()
    config.seed, config.phases = seed, ("combined",)
    del config.pretrain
    kept = VARIANTS[name]
    combined = config.combined
    for term in [term for term in combined.terms if term not in kept]:
        del combined.terms[term]
    combined.flow = tuple(stream for term, stream in FLOWS.items() if term in kept)
    new = [("heads/domain/**", "domain"), ("heads/segments/**", "segments")]
    fresh = [(pattern, "fresh") for pattern, term in new if term in kept]
    combined.start = (*fresh, ("**", f"run:{start}"))
    combined.optimizer.learning_rate = rate
    if "segments" not in kept:
        del config.evaluate.segments
    config.evaluate_every = config.checkpoint_every = combined.steps
    return config


def judge(
    name: str, seed: int, rate: float, workdir: Path, shrink: report.Shrink, split: str
) -> report.Row:
    """A variant on a seed, judged on target digits of this split."""
    start = workdir / "together" / "pretrain" / str(seed) / "run"
    before = report.run(pretraining(seed), start, shrink)
    config = variant(name, seed, rate, start)
    config.evaluate.target.split = split
    place = workdir / "together" / f"{name.removeprefix('+ ')}-{rate:g}-{split}" / str(seed)
    judged = report.run(config, place / "run", shrink)
    row = dict(task="together", method=name, value=rate, seed=seed)
    row |= {domain: judged[domain]["accuracy"] for domain in ("target", "source")}
    print(*row.values(), flush=True)
    return {**row, "seconds": judged["seconds"], "start": before["target"]["accuracy"]}


def tune(
    seeds: Sequence[int], workdir: Path, shrink: report.Shrink = lambda config: None
) -> list[report.Row]:
    """Every variant at every rate, judged on the validation digits."""
    return [
        judge(name, seed, rate, workdir, shrink, "train[1200:1400]")
        for name in VARIANTS
        for rate in RATES
        for seed in seeds
    ]


def chosen(rows: Sequence[report.Row]) -> dict[str, float]:
    """variant -> the rate of the best mean accuracy."""
    return {
        name: max(RATES, key=lambda r: np.mean(report.values(rows, "target", method=name, value=r)))
        for name in VARIANTS
    }


def collect(
    seeds: int,
    workdir: Path,
    shrink: report.Shrink = lambda config: None,
    tuned: Sequence[report.Row] | None = None,
) -> list[report.Row]:
    """Every variant at its chosen rate on every seed; finished runs are only read."""
    rates = chosen(read() if tuned is None else tuned)
    return [
        judge(name, seed, rates[name], workdir, shrink, "train[1400:]")
        for name in VARIANTS
        for seed in range(seeds)
    ]


def table(rows: Sequence[report.Row]) -> str:
    """A row a variant, with its difference from fine-tuning and of `all` from it, by seed."""
    reached = {name: report.values(rows, "target", method=name) for name in VARIANTS}
    lines = []
    for name, target in reached.items():
        rate = next(row["value"] for row in rows if row["method"] == name)
        source = report.values(rows, "source", method=name)
        seconds = report.values(rows, "seconds", method=name)
        lines.append(
            [
                name,
                f"{rate:g}",
                report.cell(target),
                "–" if name == "fine-tuning" else report.gain(target, reached["fine-tuning"]),
                "–" if name == "all" else report.gain(reached["all"], target),
                report.cell(source),
                f"{np.median(seconds):.0f}",
            ]
        )
    columns = ["terms", "rate", "target accuracy", "− fine-tuning", "all − this"]
    return report.table([*columns, "source accuracy", "seconds a run"], lines)


def read() -> list[report.Row]:
    """The rows of together.csv."""
    with open(HERE / "together.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    texts = ("task", "method")
    return [{k: v if k in texts else float(v) for k, v in row.items()} for row in rows]


def main() -> None:
    given = report.arguments(__doc__, "adaptation", len(TUNING_SEEDS))
    rows = tune(TUNING_SEEDS[: given.seeds], given.workdir)
    report.save(rows, HERE / "together.csv")
    print(chosen(rows))


if __name__ == "__main__":
    main()

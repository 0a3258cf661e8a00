"""Trains every method's grid and scores each run with validators that read no target label.

    python experiments/adaptation/tune.py [--workdir runs/adaptation]

Writes tuning.csv beside this file: a row a run, with the validators' scores. The validation
accuracy in it reads target labels; `chosen` uses it only under the name "oracle". Started again,
it goes on where it was.
"""

import csv
import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from experiments import report  # noqa: E402
from tljax import experiment  # noqa: E402
from tljax.metrics import validators  # noqa: E402

HERE = Path(__file__).parent
SEEDS = (100, 102)  # no result uses them; a third did not fit into the budget
STEPS = 800  # of every run here and in run.py, so that all of it fits into an hour of one core
AVERAGE = 0.994  # about a fifth of a run, as in dann.py

# What each method's grid varies: three points a factor of about three apart, the middle one the
# paper's or, for CORAL, whose loss is divided by 4·D², one that makes it as large as the label's.
GRID: dict[str, tuple[str, tuple[float, ...]]] = {
    "source_only": ("optimizer.learning_rate", (0.02, 0.05, 0.1)),
    "dann": ("terms.domain.scale", (0.3, 1.0, 3.0)),
    "cdan": ("terms.domain.scale", (0.3, 1.0, 3.0)),
    "mk_mmd": ("terms.discrepancy.weight", (0.3, 1.0, 3.0)),
    "coral": ("terms.covariance.weight", (300.0, 1000.0, 3000.0)),
    "mcc": ("terms.confusion.weight", (0.3, 1.0, 3.0)),
    "mdd": ("terms.disparity.scale", (0.03, 0.1, 0.3)),
}

MAIN = "information_maximisation"  # fixed before anything was trained
VALIDATORS = {  # a column of tuning.csv -> 1 where higher is better, −1 where lower is
    "information_maximisation": 1,
    "entropy": -1,
    "soft_neighbourhood_density": 1,
    "importance_weighted": -1,
    "dev": -1,
    "reverse_validation": 1,
    "oracle": 1,
}


def candidate(method: str, value: float, seed: int) -> Any:
    """The shipped config of a method at a point of its grid, for a seed."""
    config = importlib.import_module(f"configs.{method}").get_config()
    config.seed = seed
    config.steps = config.evaluate_every = config.checkpoint_every = STEPS
    config.average = AVERAGE
    config.update_from_flattened_dict({GRID[method][0]: value})
    return config


def evaluate_for_validators(config: Any) -> None:
    """Adds what validators read: source examples, held-out ones, and the unlabelled target."""
    digits = dict(data="digits", size=16, channels=3)
    photographs = (dict(name="photographs", strength=0.7),)
    config.evaluate.source_train = dict(digits, split="train[:600]")
    config.evaluate.source_validation = dict(digits, split="train[1200:1400]")
    config.evaluate.unlabelled = dict(
        digits, split="train[600:1200]", labelled=False, transforms=photographs
    )
    # Read by the oracle alone.
    config.evaluate.oracle = dict(digits, split="train[1200:1400]", transforms=photographs)


def scores(said: Mapping[str, Any], judged: Mapping[str, Any]) -> dict[str, float]:
    """The validators' scores of a run, from its outputs and its evaluations."""
    train, held, target = (
        said[name] for name in ("source_train", "source_validation", "unlabelled")
    )
    shifted = held.logits - held.logits.max(-1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(len(held.labels)), held.labels]
    weights = validators.density_ratio(train.features, target.features, held.features)
    pseudo = target.logits.argmax(-1)
    return {
        **{name: judged["unlabelled"][name] for name in list(VALIDATORS)[:3]},
        "importance_weighted": validators.importance_weighted_validation(losses, weights),
        "dev": validators.dev(losses, weights),
        "reverse_validation": validators.reverse_validation(
            train.features, train.labels, target.features, pseudo, train.logits.shape[-1]
        ),
        "oracle": judged["oracle"]["accuracy"],
    }


def collect(
    seeds: Sequence[int], workdir: Path, shrink: report.Shrink = lambda config: None
) -> list[report.Row]:
    """Every point of every grid on these seeds; finished runs are only read."""
    rows = []
    for seed in seeds:
        for method, (_, values) in GRID.items():
            for value in values:
                config = candidate(method, value, seed)
                evaluate_for_validators(config)
                place = workdir / "tune" / method / f"{value:g}" / str(seed)
                judged = report.run(config, place / "run", shrink)
                found = place / "scores.json"
                if not found.exists():
                    said = experiment.outputs(config, place / "run")
                    found.write_text(json.dumps(scores(said, judged)))
                row = dict(method=method, value=value, seed=seed, **json.loads(found.read_text()))
                row |= dict(test=judged["target"]["accuracy"], seconds=judged["seconds"])
                rows.append(row)
                print(
                    *(f"{v:.3f}" if isinstance(v, float) else v for v in row.values()), flush=True
                )
    return rows


def chosen(rows: Sequence[report.Row], validator: str) -> dict[str, float]:
    """method -> the value whose mean score over the seeds this validator finds best."""
    best = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        values = dict.fromkeys(row["value"] for row in rows if row["method"] == method)
        means = {
            value: np.mean(report.values(rows, validator, method=method, value=value))
            for value in values
        }
        best[method] = max(means, key=lambda value: VALIDATORS[validator] * means[value])
    return best


def read() -> list[report.Row]:
    """The rows of tuning.csv."""
    with open(HERE / "tuning.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v if k == "method" else float(v) for k, v in row.items()} for row in rows]


def main() -> None:
    given = report.arguments(__doc__, "adaptation", len(SEEDS))
    rows = collect(SEEDS[: given.seeds], given.workdir)
    report.save(rows, HERE / "tuning.csv")
    for validator in VALIDATORS:
        print(validator, chosen(rows, validator))


if __name__ == "__main__":
    main()

"""Trains every method's grid and scores each run with validators that read no target label.

    python -m experiments.adaptation.tune [--workdir runs/adaptation_tuning]

Writes tuning.csv beside this file: a line a run, with the validators' scores. The validation
accuracy in it reads target labels; `chosen` uses it only under the name "oracle". Started again,
it goes on where it was.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments import frame
from experiments.frame import Experiment, Row, Run
from experiments.report import Results
from tljax.configs import tasks
from tljax.metrics import validators

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


def candidate(method: str, value: float, **columns: Any) -> Row:
    """The shipped config of a method at a point of its grid."""
    budget = {"steps": STEPS, "evaluate_every": STEPS, "checkpoint_every": STEPS}
    overrides = {**budget, "average": AVERAGE, GRID[method][0]: value}
    return Row(method, overrides, columns=dict(columns, method=method, value=value))


def evaluate_for_validators(config: Any, run: Run) -> None:
    """Adds what validators read: source examples, held-out ones, and the unlabelled target."""
    target = dict(tasks.COLOUR_DIGITS, transforms=tasks.PHOTOGRAPHS)
    config.evaluate.source_train = dict(tasks.COLOUR_DIGITS, split="train[:600]")
    config.evaluate.source_validation = dict(tasks.COLOUR_DIGITS, split="train[1200:1400]")
    config.evaluate.unlabelled = dict(target, split="train[600:1200]", labelled=False)
    config.evaluate.oracle = dict(target, split="train[1200:1400]")  # read by the oracle alone


def scores(outputs: Mapping[str, Any]) -> dict[str, float]:
    """The scores of the validators that compare evaluations, from a run's outputs."""
    train, held, target = (
        outputs[name] for name in ("source_train", "source_validation", "unlabelled")
    )
    shifted = held.logits - held.logits.max(-1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(len(held.labels)), held.labels]
    weights = validators.density_ratio(train.features, target.features, held.features)
    pseudo = target.logits.argmax(-1)
    return {
        "importance_weighted": validators.importance_weighted_validation(losses, weights),
        "dev": validators.dev(losses, weights),
        "reverse_validation": validators.reverse_validation(
            train.features, train.labels, target.features, pseudo, train.logits.shape[-1]
        ),
    }


def rows() -> dict[str, Row]:
    return {
        f"{method}-{value:g}": candidate(method, value)._replace(
            edit=evaluate_for_validators, alone=True, measure=scores
        )
        for method, (_, values) in GRID.items()
        for value in values
    }


def chosen(results: Results, validator: str) -> dict[str, float]:
    """method -> the value whose mean score over the seeds this validator finds best."""
    best = {}
    for method in results.of("method"):
        means = results.where(method=method).means(validator, "value")
        [best[method]] = max(means, key=lambda value: VALIDATORS[validator] * means[value])
    return best


TUNING = Experiment(
    folder=HERE,
    seeds=SEEDS,
    reads={
        **{name: f"unlabelled/{name}" for name in list(VALIDATORS)[:3]},
        **{name: name for name in list(VALIDATORS)[3:6]},
        "oracle": "oracle/accuracy",
        "test": "target/accuracy",
    },
    rows=rows,
    file="tuning.csv",
)

if __name__ == "__main__":
    frame.main(TUNING, __doc__)
    for validator in VALIDATORS:
        print(validator, chosen(TUNING.read(), validator))

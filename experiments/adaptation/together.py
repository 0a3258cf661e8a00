"""Does the combined objective of configs/combination.py beat its parts?

    python -m experiments.adaptation.together [--workdir runs/adaptation_together]

tunes the learning rate of every variant, from the same values, by the accuracy on labelled target
digits that no result uses, and writes together.csv; run.py makes the table.
"""

from pathlib import Path
from typing import Any

import numpy as np

from experiments import frame, report
from experiments.frame import Experiment, Row, Run
from experiments.report import Column, Results

HERE = Path(__file__).parent
SEEDS = range(5)
RATES = (0.005, 0.02)
VARIANTS = {  # variant -> the terms of the combined phase that it keeps
    "fine-tuning": ("few",),
    "+ L2-SP": ("few", "near"),
    "+ DANN": ("few", "source", "domain"),
    "+ multitask": ("few", "source", "segments"),
    "all": ("few", "source", "near", "domain", "segments"),
}
FLOWS = {"domain": "target", "few": "few", "source": "source"}  # term -> the stream it brings


def pretrain(config: Any, run: Run) -> None:
    """The first phase of combination.py alone; every variant of a seed starts from it."""
    config.phases = ("pretrain",)
    del config.combined, config.evaluate.segments
    frame.judge_at_the_end(config, config.pretrain.steps)


PRETRAINED = Row(
    "combination",
    edit=pretrain,
    columns=dict(task="together", method="pretrained"),
    seeds=SEEDS,
    alone=True,
)


def variant(name: str, rate: float, split: str) -> Row:
    """The second phase of combination.py with some of its terms, judged on target digits."""
    kept = VARIANTS[name]

    def edit(config: Any, run: Run) -> None:
        config.phases = ("combined",)
        del config.pretrain
        for term in [term for term in config.combined.terms if term not in kept]:
            del config.combined.terms[term]
        config.combined.flow = tuple(stream for term, stream in FLOWS.items() if term in kept)
        fresh = [(f"heads/{t}/**", "fresh") for t in ("domain", "segments") if t in kept]
        config.combined.start = (*fresh, ("**", run.origin("pretrained")))
        if "segments" not in kept:
            del config.evaluate.segments
        frame.judge_at_the_end(config, config.combined.steps)

    overrides = {"combined.optimizer.learning_rate": rate, "evaluate.target.split": split}
    columns = dict(task="together", method=name, value=rate)
    return Row("combination", overrides, edit, columns, seeds=SEEDS)


def candidates() -> dict[str, Row]:
    """Every variant at every rate, judged on the validation digits."""
    rows = {"pretrained": PRETRAINED} | {
        f"{name}-{rate:g}": variant(name, rate, "train[1200:1400]")
        for name in VARIANTS
        for rate in RATES
    }
    return {name: row._replace(seeds=()) for name, row in rows.items()}


def rows(tuned: Results) -> dict[str, Row]:
    """Every variant at its best rate, judged on the test digits."""
    rates = {name: tuned.where(method=name).best("target", "value")[0] for name in VARIANTS}
    return {"pretrained": PRETRAINED} | {
        f"together-{name}": variant(name, rate, "train[1400:]") for name, rate in rates.items()
    }


def table(results: Results) -> str:
    """A row a variant, with its difference from fine-tuning and of `all` from it, by seed."""
    at = {name: results.where(method=name) for name in VARIANTS}
    columns: list[Column] = [
        ("terms", str),
        ("rate", lambda name: f"{at[name][0]['value']:g}"),
        ("target accuracy", lambda name: at[name].cell("target")),
        ("− fine-tuning", lambda name: at[name].gain("target", at["fine-tuning"])),
        ("all − this", lambda name: at["all"].gain("target", at[name])),
        ("source accuracy", lambda name: at[name].cell("source")),
        ("seconds a run", lambda name: f"{np.median(at[name].values('seconds')):.0f}"),
    ]
    return report.table(columns, VARIANTS)


TUNING = Experiment(
    folder=HERE,
    seeds=(100, 101),
    reads={"target": "target/accuracy", "source": "source/accuracy"},
    rows=candidates,
    file="together.csv",
)

if __name__ == "__main__":
    frame.main(TUNING, __doc__)

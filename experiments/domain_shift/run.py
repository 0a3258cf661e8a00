"""What does DANN win back of the loss under a domain shift, beside plain augmentation?

python -m experiments.domain_shift.run [--tune] [--seeds 10] [--workdir runs/domain_shift]
"""

from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import frame, report
from experiments.frame import Experiment, Row, Run
from experiments.mnist_m.run import augmented
from experiments.report import Comparison, Results

HERE = Path(__file__).parent


class Method(NamedTuple):
    """A shipped config, and whether the images of its streams are augmented."""

    config: str
    augmented: bool = False
    simple: bool = False  # one that knows nothing of the target
    by: str = "validator"  # the column of tuning.csv that chooses its rate


METHODS = {
    "source only": Method("source_only", simple=True),
    "source only + augmentation": Method("source_only", augmented=True, simple=True),
    "DANN": Method("dann"),
    "DANN + augmentation": Method("dann", augmented=True),
    "target supervised": Method("target_supervised", by="target"),
}
RATES = (0.01, 0.02, 0.03, 0.05, 0.1)


def row(name: str, rate: float, tuning: bool = False) -> Row:
    """A method at a rate."""
    method = METHODS[name]

    def edit(config: Any, _: Run) -> None:
        config.optimizer.learning_rate = rate
        if method.augmented:
            augmented(config)
        if tuning:
            target = dict(config.evaluate.target, split="train[1200:1400]")
            config.evaluate = dict(target=target, blind=dict(target, labelled=False))
            frame.judge_at_the_end(config)

    return Row(method.config, edit=edit, columns=dict(method=name, learning_rate=rate))


def candidates() -> dict[str, Row]:
    pairs = product(METHODS, RATES)
    return {f"{name}-{rate:g}": row(name, rate, tuning=True) for name, rate in pairs}


def chosen(tuned: Results, name: str) -> float:
    """A method's rate of the highest mean of what may choose it."""
    [rate] = tuned.where(method=name).best(METHODS[name].by, "learning_rate")
    return rate


def strongest(tuned: Results) -> str:
    """The simple method that the validator puts first."""
    simple = [name for name, method in METHODS.items() if method.simple]
    return report.strongest(tuned.at("method", simple), "validator", "learning_rate")


def rows() -> dict[str, Row]:
    tuned = TUNING.read()
    return {name: row(name, chosen(tuned, name)) for name in METHODS}


def tables(results: Results) -> dict[str, Any]:
    lines, best = results.at("method", METHODS), strongest(TUNING.read())
    floor, ours, ceiling = (
        lines[name].values("target_accuracy")
        for name in ("source only", "DANN", "target supervised")
    )
    low, middle, high = (np.mean(values) for values in (floor, ours, ceiling))

    def link(runs: Results) -> str:
        name = runs[0]["method"]
        return f"[{name}](configs/{METHODS[name].config}.py)"

    columns = [("method", link), report.text("rate", "learning_rate", "{:g}")]
    columns += [report.mean("target accuracy", "target_accuracy")]
    columns += [report.gained(f"− {best}", "target_accuracy", lines[best])]
    columns += [report.lowest("target_accuracy"), report.mean("source accuracy", "source_accuracy")]
    return {
        "table": report.table(columns, lines.values()),
        "best": best,
        "gain": lines["DANN"].gain("target_accuracy", lines["source only"]),
        "closed": (middle - low) / (high - low),
        "below": sum(value < min(floor) for value in ours),
    }


TUNING = Experiment(
    HERE,
    range(100, 105),
    {"validator": "blind/information_maximisation", "target": "target/accuracy"},
    candidates,
    file="tuning.csv",
)
BEST, SHIFT = strongest(TUNING.read()), "domain shift, digits over photographs"
EXPERIMENT = Experiment(
    HERE,
    seeds=range(10),
    reads={"target_accuracy": "target/accuracy", "source_accuracy": "source/accuracy"},
    rows=rows,
    tables=tables,
    figure=report.dots("{method}", "target_accuracy", "target accuracy"),
    comparisons=[
        Comparison(f"{SHIFT}: {ours} against {base}", "target_accuracy", ours, base, {}, why)
        for ours, base, why in (
            ("DANN", "source only", "features that hide the domain are better than none that do"),
            (
                "DANN",
                BEST,
                "the shift is one of colours and clutter: augmentation imitates it unseen",
            ),
            ("DANN + augmentation", BEST, "what augmentation leaves of the shift is little"),
        )
    ],
)

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT, tune=TUNING)

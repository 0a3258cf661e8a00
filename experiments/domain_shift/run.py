"""How much of the loss under a domain shift does DANN win back without target labels?

python -m experiments.domain_shift.run [--tune] [--seeds 10] [--workdir runs/domain_shift]
"""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from experiments import frame, report
from experiments.frame import Experiment, Row
from experiments.report import Comparison, Results

HERE = Path(__file__).parent
METHODS = ("source_only", "dann", "target_supervised")
RATES = (0.01, 0.02, 0.03, 0.05)


def rows() -> dict[str, Row]:
    return {method: Row(method, columns=dict(method=method)) for method in METHODS}


def candidates() -> dict[str, Row]:
    judged, rows = {"evaluate.target.split": "train[1200:1400]", "evaluate_every": 2500}, {}
    for method, rate in product(METHODS, RATES):
        fields, columns = {"optimizer.learning_rate": rate}, dict(method=method, learning_rate=rate)
        rows[f"{method}-{rate:g}"] = Row(method, fields | judged, columns=columns)
    return rows


def tables(results: Results) -> dict[str, Any]:
    lines = results.at("method", METHODS).values()
    floor, ours, ceiling = (line.values("target_accuracy") for line in lines)
    low, middle, high = (np.mean(values) for values in (floor, ours, ceiling))
    columns = [report.text("method", "method", "[{0}](configs/{0}.py)")]
    columns += [report.mean("target accuracy", "target_accuracy")]
    columns += [report.lowest("target_accuracy"), report.mean("source accuracy", "source_accuracy")]
    return {
        "table": report.table(columns, lines),
        "gain": report.cell(np.subtract(ours, floor)),
        "closed": (middle - low) / (high - low),
        "below": sum(value < min(floor) for value in ours),
    }


QUESTION = "domain shift, digits over photographs: DANN against source only"
EXPERIMENT = Experiment(
    HERE,
    seeds=range(10),
    reads={"target_accuracy": "target/accuracy", "source_accuracy": "source/accuracy"},
    rows=rows,
    tables=tables,
    figure=report.dots("{method}", "target_accuracy", "target accuracy"),
    comparisons=[Comparison(QUESTION, "target_accuracy", "dann", "source_only")],
)
TARGET = {"target": "target/accuracy"}
TUNING = Experiment(HERE, range(100, 103), TARGET, candidates, file="tuning.csv")

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT, tune=TUNING)

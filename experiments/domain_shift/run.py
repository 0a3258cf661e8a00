"""How much of the loss under a domain shift does DANN win back without target labels?

python -m experiments.domain_shift.run [--seeds 10] [--workdir runs/domain_shift]
"""

from pathlib import Path
from typing import Any

import numpy as np

from experiments import frame, report
from experiments.frame import Experiment, Row
from experiments.report import Column, Comparison, Results

METHODS = ("source_only", "dann", "target_supervised")


def rows() -> dict[str, Row]:
    return {method: Row(method, columns=dict(method=method)) for method in METHODS}


def tables(results: Results) -> dict[str, Any]:
    lines = [results.where(method=method) for method in METHODS]
    floor, ours, ceiling = (line.values("target_accuracy") for line in lines)
    low, middle, high = (np.mean(values) for values in (floor, ours, ceiling))
    columns: list[Column] = [
        ("method", lambda line: "[{0}](configs/{0}.py)".format(line[0]["method"])),
        ("target accuracy", lambda line: line.cell("target_accuracy")),
        ("lowest seed", lambda line: line.lowest("target_accuracy")),
        ("source accuracy", lambda line: line.cell("source_accuracy")),
    ]
    return {
        "table": report.table(columns, lines),
        "gain": report.cell(np.subtract(ours, floor)),
        "closed": (middle - low) / (high - low),
        "below": sum(value < min(floor) for value in ours),
    }


def figure(results: Results, path: Path) -> None:
    reached = [(m, results.where(method=m).values("target_accuracy")) for m in METHODS]
    report.intervals(reached, path, "target accuracy")


QUESTION = "domain shift, digits over photographs: DANN against source only"
EXPERIMENT = Experiment(
    folder=Path(__file__).parent,
    seeds=range(10),
    reads={"target_accuracy": "target/accuracy", "source_accuracy": "source/accuracy"},
    rows=rows,
    tables=tables,
    figure=figure,
    comparisons=[Comparison(QUESTION, "target_accuracy", "dann", "source_only")],
)

if __name__ == "__main__":
    frame.main(EXPERIMENT, __doc__)

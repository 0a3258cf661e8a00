"""How much of the loss under a domain shift does DANN win back without target labels?

    python -m experiments.domain_shift.run [--seeds 10] [--workdir runs/domain_shift]

Runs the three configs over the seeds, prints the table, and writes it into RESULTS.md with the
figure beside this file. Started again, it goes on where it was.
"""

from pathlib import Path

import numpy as np

from experiments import frame
from experiments.frame import Comparison, Experiment, Results, Row

METHODS = ("source_only", "dann", "target_supervised")


def rows() -> dict[str, Row]:
    return {method: Row(method, columns=dict(method=method)) for method in METHODS}


def section(results: Results) -> str:
    """The markdown of RESULTS.md."""
    lines = [results.where(method=method) for method in METHODS]
    floor, ours, ceiling = (line.values("target_accuracy") for line in lines)
    low, middle, high = (np.mean(values) for values in (floor, ours, ceiling))
    gains = frame.cell(np.subtract(ours, floor))
    below = sum(value < min(floor) for value in ours)
    table = frame.table(
        [
            ("method", lambda line: "[{0}](configs/{0}.py)".format(line[0]["method"])),
            ("target accuracy", lambda line: line.cell("target_accuracy")),
            ("lowest seed", lambda line: line.lowest("target_accuracy")),
            ("source accuracy", lambda line: line.cell("source_accuracy")),
        ],
        lines,
    )
    return (
        f"{table}\n\nMeans over {len(ours)} seeds with 95 % t intervals. DANN − source only, paired "
        f"by seed: **{gains}**. Part of the gap to target supervised that is closed: "
        f"**{(middle - low) / (high - low):.0%}**. Seeds of DANN below the worst of source only: "
        f"{below}."
    )


def figure(results: Results, path: Path) -> None:
    """Every seed's target accuracy."""
    reached = [(m, results.where(method=m).values("target_accuracy")) for m in METHODS]
    frame.intervals(reached, path, "target accuracy")


EXPERIMENT = Experiment(
    folder=Path(__file__).parent,
    seeds=range(10),
    reads={"target_accuracy": "target/accuracy", "source_accuracy": "source/accuracy"},
    rows=rows,
    section=section,
    figure=figure,
    comparisons=[
        Comparison(
            "domain shift, digits over photographs: DANN against source only",
            "target_accuracy",
            {"method": "dann"},
            {"method": "source_only"},
        )
    ],
)

if __name__ == "__main__":
    frame.main(EXPERIMENT, __doc__)

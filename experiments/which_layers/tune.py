"""Chooses the learning rate of every variant of run.py, on digits and seeds that no result uses.

    python -m experiments.which_layers.tune [--workdir runs/which_layers_tuning]

The same four rates for every variant and pair; target accuracy on digits train[1200:1400], which no
stream and no test split holds; a run that diverges counts 0. Writes tuning.csv beside it.
"""

from experiments import frame
from experiments.frame import Row
from experiments.which_layers import run

RATES = (0.005, 0.02, 0.05, 0.1)


def rows() -> dict[str, Row]:
    return {f"{pair}-source": run.source(pair) for pair in run.PAIRS} | {
        f"{pair}-{name}-{rate:g}": run.row(pair, name, rate)._replace(split="train[1200:1400]")
        for pair in run.PAIRS
        for name in run.VARIANTS
        for rate in RATES
    }


TUNING = run.EXPERIMENT.tuning(range(100, 102), rows=rows)

if __name__ == "__main__":
    frame.main(TUNING, __doc__)

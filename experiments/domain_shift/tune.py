"""Chooses the learning rate of each of the three configs, on digits and seeds that no result uses.

    python -m experiments.domain_shift.tune [--workdir runs/domain_shift_tuning]

The criterion is the accuracy on target digits train[1200:1400], which no stream and no test split
holds; the same rates for all three methods. Writes tuning.csv beside it; what is best stands in the
configs.
"""

from experiments import frame
from experiments.domain_shift.run import EXPERIMENT, METHODS
from experiments.frame import Row

RATES = (0.01, 0.02, 0.03, 0.05)


def rows() -> dict[str, Row]:
    return {
        f"{method}-{rate:g}": Row(
            method,
            {
                "optimizer.learning_rate": rate,
                "evaluate.target.split": "train[1200:1400]",
                "evaluate_every": 2500,
            },
            columns=dict(method=method, learning_rate=rate),
        )
        for method in METHODS
        for rate in RATES
    }


TUNING = EXPERIMENT.tuning(range(100, 103), rows=rows, reads={"target": "target/accuracy"})

if __name__ == "__main__":
    frame.main(TUNING, __doc__)

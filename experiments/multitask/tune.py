"""Chooses each method's learning rate, on digits and seeds that no result uses.

    python -m experiments.multitask.tune [--workdir runs/multitask_tuning]

The criterion is the accuracy on validation digits train[1200:1400], which no stream and no test
split holds: of the few-label digits at two labels a class (of what a method is trained on, where it
reads no few-label digits). The same three rates for every method; a run that diverges counts 0.
Writes tuning.csv beside it.
"""

from experiments import frame
from experiments.frame import Row
from experiments.multitask import run

RATES = (0.01, 0.03, 0.1)
# Grey digits alone are chosen by what they are trained on: no tinted label.
JUDGED = {"bits alone": "segments", "grey alone": "source"}


def rows() -> dict[str, Row]:
    return {
        f"{setting}-{method}-{rate:g}": run.row(setting, method, 2, rate)._replace(
            split="train[1200:1400]",
            reads=[({}, {"accuracy": f"{JUDGED.get(method, 'target')}/accuracy"})],
        )
        for setting, methods in run.SETTINGS.items()
        for method in methods
        for rate in RATES
    }


TUNING = run.EXPERIMENT.tuning(range(100, 103), rows=rows)

if __name__ == "__main__":
    frame.main(TUNING, __doc__)

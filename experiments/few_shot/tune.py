"""Chooses rate and weight of every method of run.py, on digits and seeds that no result uses.

    python -m experiments.few_shot.tune [--workdir runs/few_shot_tuning]

Eight candidates a method, five labels a class, accuracy on digits train[1200:1400], which no stream
and no test split holds, in both inks; a run that diverges counts 0. Writes tuning.csv beside it;
what is chosen from it, and by which criterion, is in run.py.
"""

from experiments import frame
from experiments.few_shot import run
from experiments.frame import Row

RATES = tuple((rate, 0.0) for rate in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5))
CANDIDATES = {  # knob -> (rate, weight); 0 where there is no weight
    "L2-SP": tuple(
        (rate, weight) for weight in (0.003, 0.005, 0.01, 0.03) for rate in (0.02, 0.05)
    ),
    **dict.fromkeys(
        ("fine-tuning", "from scratch", "head only", "first layer only", "new head"), RATES
    ),
    "new head, LwF": tuple(
        (rate, weight) for weight in (0.1, 0.3, 1.0, 3.0) for rate in (0.01, 0.05)
    ),
}


def rows() -> dict[str, Row]:
    methods = {method.knob: method for method in run.METHODS.values()}
    source = run.SOURCE._replace(columns=dict(knob="source model"))
    return {"source": source} | {
        f"{knob}-{rate:g}-{weight:g}": run.row(
            methods[knob], rate, weight, run.FIRST, knob=knob
        )._replace(split="train[1200:1400]")
        for knob, candidates in CANDIDATES.items()
        for rate, weight in candidates
    }


TUNING = run.EXPERIMENT.tuning(range(100, 103), rows=rows)

if __name__ == "__main__":
    frame.main(TUNING, __doc__)

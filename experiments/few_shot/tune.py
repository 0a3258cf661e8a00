"""Chooses rate and weight of every method of run.py, on digits and seeds that no result uses.

    python experiments/few_shot/tune.py [--workdir runs/few_shot_tune]

Eight candidates a method, seeds 100 to 102, five labels a class, accuracy on digits
train[1200:1400], which no stream and no test split holds, in both inks. Writes tuning.csv beside
it; what is chosen from it, and by which criterion, is in run.py.
"""

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from experiments import report  # noqa: E402
from experiments.few_shot import run  # noqa: E402
from tljax.errors import UserError  # noqa: E402

SEEDS = (100, 101, 102)
VALIDATION = "train[1200:1400]"
RATES = tuple((rate, 0.0) for rate in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5))
CANDIDATES = {  # (rate, weight); 0 where there is no weight
    "L2-SP": tuple(
        (rate, weight) for weight in (0.003, 0.005, 0.01, 0.03) for rate in (0.02, 0.05)
    ),
    "fine-tuning": RATES,
    "from scratch": RATES,
    "head only": RATES,
    "first layer only": RATES,
    "new head": RATES,
    "new head, LwF": tuple(
        (rate, weight) for weight in (0.1, 0.3, 1.0, 3.0) for rate in (0.01, 0.05)
    ),
}


def main() -> None:
    given = report.arguments(__doc__, "few_shot_tune", len(SEEDS))
    methods = {method.knob: method for method in run.METHODS.values()}
    rows = []
    for seed in SEEDS:
        run.pretrain(
            run.load("finetune"), seed, given.workdir / f"source-{seed}", lambda config: None
        )
    for knob, candidates in CANDIDATES.items():
        for rate, weight in candidates:
            reached = []
            for seed in SEEDS:
                try:
                    row = run.adapt(
                        methods[knob],
                        dict(rate=rate, weight=weight),
                        run.COUNTS[0],
                        seed,
                        given.workdir,
                        lambda config: None,
                        VALIDATION,
                    )
                except UserError as error:  # it diverged
                    print(error)
                    row = dict(target=0.0, source=0.0)
                reached.append((row["target"], row["source"]))
            target, source = np.mean(reached, axis=0)
            rows.append(dict(knob=knob, rate=rate, weight=weight, target=target, source=source))
            each = {f"target_{s}": pair[0] for s, pair in zip(SEEDS, reached, strict=True)}
            rows[-1] |= each | {
                f"source_{s}": pair[1] for s, pair in zip(SEEDS, reached, strict=True)
            }
            print(*rows[-1].values(), flush=True)
    report.save(rows, Path(__file__).with_name("tuning.csv"))


if __name__ == "__main__":
    main()

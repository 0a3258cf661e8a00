"""Chooses the learning rate of every variant of run.py, on digits and seeds that no result uses.

    python experiments/which_layers/tune.py [--workdir runs/which_layers_tune]

The same four rates for every variant and pair; seeds 100 and 101; target accuracy on digits
train[1200:1400], which no stream and no test split holds. Writes tuning.csv beside it.
"""

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from experiments import report  # noqa: E402
from experiments.which_layers import run  # noqa: E402
from tljax.errors import UserError  # noqa: E402

SEEDS = (100, 101)
VALIDATION = "train[1200:1400]"
RATES = (0.005, 0.02, 0.05, 0.1)


def _as_it_is(config) -> None:
    pass


def main() -> None:
    given = report.arguments(__doc__, "which_layers_tune", len(SEEDS))
    rows = []
    for pair in run.PAIRS:
        for seed in SEEDS:
            run.source(pair, seed, given.workdir, _as_it_is)
        for name in run.VARIANTS:
            for rate in RATES:
                reached = []
                for seed in SEEDS:
                    arguments = (pair, name, rate, seed, given.workdir, _as_it_is, VALIDATION)
                    try:
                        reached.append(run.adapt(*arguments)["target"])
                    except UserError as error:  # it diverged
                        print(error)
                        reached.append(0.0)
                each = {f"seed_{s}": value for s, value in zip(SEEDS, reached, strict=True)}
                row = dict(pair=pair, variant=name, rate=rate, target=np.mean(reached), **each)
                rows.append(row)
                print(*row.values(), flush=True)
    report.save(rows, Path(__file__).with_name("tuning.csv"))


if __name__ == "__main__":
    main()

"""Chooses each method's learning rate, on digits and seeds that no result uses.

The criterion is the accuracy on validation digits train[1200:1400], which no stream and no test
split holds: of the few-label digits at two labels a class (of what a method is trained on, where it
reads no few-label digits), over seeds 100 to 102. The same three rates for every method; a run that
diverges counts 0. Writes tuning.csv beside it.
"""

import csv
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from experiments import report  # noqa: E402
from experiments.multitask.run import SETTINGS, configured  # noqa: E402
from tljax.errors import UserError  # noqa: E402

RATES = (0.01, 0.03, 0.1)
SEEDS = (100, 101, 102)


def main() -> None:
    rows = []
    for setting, method in ((s, m) for s, methods in SETTINGS.items() for m in methods):
        for rate in RATES:
            reached = []
            for seed in SEEDS:
                # Grey digits alone are chosen by what they are trained on: no tinted label.
                by = {"bits alone": "segments", "grey alone": "source"}.get(method, "target")
                with tempfile.TemporaryDirectory() as workdir:
                    config = configured(setting, method, 2, seed, rate, Path(workdir))
                    for evaluation in config.evaluate.values():
                        evaluation.split = "train[1200:1400]"
                    try:
                        judged = report.run(config, Path(workdir) / "run")
                    except UserError as error:
                        if "not finite" not in str(error):
                            raise
                        judged = {by: {"accuracy": 0.0}}
                reached.append(judged[by]["accuracy"])
            rows.append([setting, method, rate, *reached, float(np.mean(reached))])
            print(*rows[-1], flush=True)
    with open(Path(__file__).with_name("tuning.csv"), "w", newline="") as file:
        writer = csv.writer(file)
        seeds = (f"seed_{seed}" for seed in SEEDS)
        writer.writerow(["setting", "method", "learning_rate", *seeds, "mean"])
        writer.writerows(rows)


if __name__ == "__main__":
    main()

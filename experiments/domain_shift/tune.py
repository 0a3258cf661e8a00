"""Chooses the learning rate of each of the three configs, on digits and seeds that no result uses.

The criterion is the accuracy on target digits train[1200:1400], which no stream and no test split
holds, over seeds 100 to 102; the same rates for all three methods. Writes tuning.csv beside it.
"""

import csv
import importlib
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from tljax import experiment  # noqa: E402

METHODS = ("source_only", "dann", "target_supervised")
RATES = (0.01, 0.02, 0.03, 0.05)
SEEDS = (100, 101, 102)


def main() -> None:
    rows = []
    for method in METHODS:
        for rate in RATES:
            reached = []
            for seed in SEEDS:
                config = importlib.import_module(f"configs.{method}").get_config()
                config.seed, config.figures, config.evaluate_every = seed, False, config.steps
                config.optimizer.learning_rate = rate
                config.evaluate.target.split = "train[1200:1400]"
                with tempfile.TemporaryDirectory() as workdir:
                    result = experiment.run(config, Path(workdir) / "run")
                reached.append(result["evaluations"]["target"]["accuracy"])
            rows.append([method, rate, *reached, float(np.mean(reached))])
            print(*rows[-1], flush=True)
    with open(Path(__file__).with_name("tuning.csv"), "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "learning_rate", *(f"seed_{seed}" for seed in SEEDS), "mean"])
        writer.writerows(rows)


if __name__ == "__main__":
    main()

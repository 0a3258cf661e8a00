"""Chooses the settings of each method, on digits and seeds that no result uses.

The criterion is the accuracy on `train[1200:1400]` with 1 and with 5 labels a class, averaged over
both and over seeds 100 and 101. The softmax regression has twelve penalties on pixels; on features
four, with each of the method's own numbers. Writes tuning.csv beside it.
"""

import sys
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from experiments import report  # noqa: E402
from experiments.self_taught import run  # noqa: E402

SPLIT, SHOTS, SEEDS = "train[1200:1400]", (1, 5), (100, 101)
PENALTIES = (0.01, 0.1, 1.0, 10.0)
MANY = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
OWN = {
    "SimCLR": (0.5, 0.2, 1.0),
    "Barlow Twins": (5e-3, 2e-2, 5e-2),
    "VICReg": (1.0,),
    "denoising autoencoder": (0.3, 0.15, 0.5),
    "autoencoder": (1e-3, 3e-4, 3e-3),
}
RATES = (1e-3, 3e-3, 1e-2)  # from scratch
TUNED = (1e-5, 1e-4, 1e-3)  # from SimCLR's features


def softmaxes(penalties: tuple, solver: str = "softmax") -> run.Readouts:
    """One readout for each penalty."""
    return {f"{solver}{i}": (solver, penalty) for i, penalty in enumerate(penalties)}


def main() -> None:
    given = report.arguments(__doc__, f"{run.NAME}_tuning", len(SEEDS))
    rows: list[dict] = []

    def add(method: str, value: float, penalty: float, reached: dict) -> None:
        names = {f"seed_{seed}_{n}": accuracy for (seed, n), accuracy in reached.items()}
        mean = sum(reached.values()) / len(reached)
        rows.append(dict(method=method, value=value, second=penalty, **names, mean=mean))

    def best(method: str) -> tuple[float, float]:
        """The best candidate; the first among equals."""
        report.save(rows, Path(__file__).with_name("tuning.csv"))
        own = [row for row in rows if row["method"] == method]
        row = max(own, key=lambda row: row["mean"])
        print(method, row["value"], row["second"], f"{row['mean']:.3f}", flush=True)
        return row["value"], row["second"]

    def place(*parts) -> Path:
        return given.workdir / "-".join(str(part).replace(" ", "_") for part in parts)

    def readouts(method: str, value: float, penalties: tuple) -> None:
        given_to = softmaxes(penalties)
        if method == "SimCLR":
            given_to = {**given_to, **softmaxes(PENALTIES, "ridge")}
        results = {}
        for seed in SEEDS:
            config = run.represented(method, seed, value) if value else run.pixels(seed)
            config = run.read(config, given_to, SPLIT, SHOTS)
            results[seed] = report.run(config, place(method, value, seed))
        for name, (solver, penalty) in given_to.items():
            reached = {
                (s, n): results[s][f"{name}_{n}"]["accuracy"] for s, n in product(SEEDS, SHOTS)
            }
            add(method if solver == "softmax" else f"{method}, ridge", value, penalty, reached)

    readouts("pixels", 0.0, MANY)
    best("pixels")
    chosen = {}
    for method, values in OWN.items():
        for value in values:
            readouts(method, value, PENALTIES)
        chosen[method] = best(method)
    # The ridge regression is chosen for the features that the softmax regression chose.
    rows[:] = [
        row
        for row in rows
        if row["method"] != "SimCLR, ridge" or row["value"] == chosen["SimCLR"][0]
    ]
    best("SimCLR, ridge")

    value, penalty = chosen["SimCLR"]
    for rate in TUNED:
        reached = {}
        for seed, n in product(SEEDS, SHOTS):
            features = (place("SimCLR", value, seed), penalty)
            config = run.trained(seed, n, rate, True, features, SPLIT)
            result = report.run(config, place("fine-tuned", rate, seed, n))
            reached[seed, n] = result[f"few_{n}"]["accuracy"]
        add("fine-tuned", rate, penalty, reached)
    best("fine-tuned")
    for augmented in (False, True):
        method = run.BASELINES[1 + augmented]
        for rate in RATES:
            reached = {}
            for seed, n in product(SEEDS, SHOTS):
                config = run.trained(seed, n, rate, augmented, split=SPLIT)
                result = report.run(config, place("scratch", augmented, rate, seed, n))
                reached[seed, n] = result[f"few_{n}"]["accuracy"]
            add(method, rate, 0.0, reached)
        best(method)


if __name__ == "__main__":
    main()

"""Chooses the settings of each method, by the labels of digits that no result clusters.

The criterion is the clustering accuracy of `train[:900]`, over seeds 100 and 101; `run.py` clusters
`train[900:]` over seeds 0 to 9. Stage by stage, the best value is kept for the stages after it.
Writes tuning.csv beside it.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from experiments import report  # noqa: E402
from experiments.self_taught_clustering import run  # noqa: E402

TARGET = "train[:900]"
SEEDS = (100, 101)
WEAK = (dict(name="affine", degrees=15.0, scale=0.15, shear=0.15, shift=0.1),)
STRONG = (dict(name="affine", degrees=20.0, scale=0.25, shear=0.3, shift=0.125),)
FEATURES = {
    f"{name} views, temperature {temperature}": (views, temperature)
    for name, views in (("weak", WEAK), ("strong", STRONG))
    for temperature in (0.5, 0.2)
}

Judge = Callable[[Any, int], dict]


def main() -> None:
    given = report.arguments(__doc__, f"{run.NAME}_tuning", len(SEEDS))
    rows: list[dict] = []

    def stage(name: str, candidates: dict[str, Any], judge: Judge, metric: str = "target") -> Any:
        """The candidate of the highest mean accuracy; the first among equals."""
        means = {}
        for label, candidate in candidates.items():
            judged = [judge(candidate, seed) for seed in SEEDS]
            for kind in {"target", metric}:
                reached = [each[kind]["accuracy"] for each in judged]
                seeds = {f"seed_{s}": value for s, value in zip(SEEDS, reached, strict=True)}
                mean = sum(reached) / len(reached)
                what = "before self-labels" if kind == "first" else ""
                rows.append(dict(stage=name, candidate=label, judged=what, **seeds, mean=mean))
                print(*rows[-1].values(), flush=True)
                means[label] = mean if kind == metric else means.get(label, 0.0)
        report.save(rows, Path(__file__).with_name("tuning.csv"))
        return candidates[max(means, key=means.__getitem__)]

    def place(*parts: Any) -> Path:
        return given.workdir / "-".join(str(part).replace(" ", "_") for part in parts)

    def pixels(size: int, seed: int) -> dict:
        return report.run(run.pixels(seed, TARGET, size), place("pixels", size, 10, seed))

    def features(candidate: tuple, seed: int) -> tuple[dict, Path]:
        views, temperature = candidate
        config = run.simclr(seed, TARGET)
        config.streams.both.transforms = config.streams.view.transforms = views
        config.represent.terms.agree.temperature = temperature
        where = place("features", views[0]["degrees"], temperature, seed)
        return report.run(config, where), where

    def scan(candidate: tuple, seed: int) -> dict:
        chosen, k, threshold = candidate
        config = run.scan(seed, features(chosen, seed)[1], TARGET)
        config.streams.augmented.transforms = chosen[0]
        config.scan.prepare.neighbours.k = k
        config.label.terms.label.threshold = threshold
        return report.run(
            config, place("scan", chosen[0][0]["degrees"], *candidate[1:], chosen[1], seed)
        )

    def dec(candidate: tuple, seed: int) -> dict:
        chosen, rate = candidate
        config = run.dec(seed, features(chosen, seed)[1], TARGET)
        config.cluster.optimizer.learning_rate = rate
        return report.run(config, place("dec", rate, seed))

    sizes = {f"size {size}": size for size in (8, 16, 12, 24)}
    stage("k-means of pixels", sizes, pixels)
    stage("k-means of features", FEATURES, lambda candidate, seed: features(candidate, seed)[0])
    every = {label: (candidate, 10, 0.9) for label, candidate in FEATURES.items()}
    chosen = stage("SCAN: features", every, scan, "first")[0]
    k = stage("SCAN: k", {str(k): (chosen, k, 0.8) for k in (10, 20, 5)}, scan)[1]
    stage("SCAN: threshold", {str(t): (chosen, k, t) for t in (0.8, 0.6, 0.9, 0.99)}, scan)
    rates = {str(rate): (chosen, rate) for rate in (1e-5, 1e-4, 1e-3)}
    stage("DEC: learning rate", rates, dec)


if __name__ == "__main__":
    main()

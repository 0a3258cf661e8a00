"""Chooses the settings of each method, by the labels of digits that no result clusters.

    python -m experiments.self_taught_clustering.tune [--workdir runs/self_taught_clustering_tuning]

The criterion is the clustering accuracy of `train[:900]`, over seeds 100 and 101; `run.py` clusters
`train[900:]` over seeds 0 to 9. Stage by stage, the best value is kept for the stages after it.
Writes tuning.csv beside it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from experiments import frame
from experiments.frame import Collect, Row
from experiments.report import Results
from experiments.self_taught_clustering import run
from tljax.configs import tasks

TARGET = "train[:900]"
STRONG = (dict(name="affine", degrees=20.0, scale=0.25, shear=0.3, shift=0.125),)
FEATURES = {
    f"{name} views, temperature {temperature}": (views, temperature)
    for name, views in (("weak", tasks.VIEWS), ("strong", STRONG))
    for temperature in (0.5, 0.2)
}


def features(name: str) -> Row:
    """SimCLR with some views and temperature."""
    views, temperature = FEATURES[name]
    overrides = {
        "streams.both.transforms": views,
        "streams.view.transforms": views,
        "represent.terms.agree.temperature": temperature,
    }
    return run.simclr(TARGET)._replace(overrides=overrides)


def scan(name: str, k: int, threshold: float) -> Row:
    """SCAN of such features, with k neighbours and a threshold of self-labels."""
    overrides = {
        "streams.augmented.transforms": FEATURES[name][0],
        "scan.prepare.neighbours.k": k,
        "label.terms.label.threshold": threshold,
    }
    return run.scan(name, TARGET)._replace(overrides=overrides, after="")


def dec(name: str, rate: float) -> Row:
    overrides = {"cluster.optimizer.learning_rate": rate}
    return run.dec(name, TARGET)._replace(overrides=overrides, after="")


def stages(collect: Collect) -> Results:
    """Stage by stage; of several best candidates the first."""
    results = Results()

    def stage(
        name: str,
        candidates: Mapping[str, Any],
        row: Callable[[Any], Row],
        judged: str | None = None,
    ) -> Any:
        """The best of candidates, by the column `judged` of what is read of a row."""
        lines = Results()
        for label, candidate in candidates.items():
            made = row(candidate)
            reads = [(dict(judged=None), {"accuracy": "target/accuracy"})]
            if judged:
                reads.append((dict(judged=judged), {"accuracy": "first/accuracy"}))
            columns = dict(stage=name, candidate=label)
            directory = label if made.alone else f"{name} {label}"
            lines += collect({directory: made._replace(columns=columns, reads=reads)})
        results.extend(lines)
        [best] = lines.where(judged=judged).best("accuracy", "candidate")
        return candidates[best]

    sizes = {f"size {size}": size for size in (8, 16, 12, 24)}
    stage("k-means of pixels", sizes, lambda size: run.pixels(TARGET, size))
    stage("k-means of features", {name: name for name in FEATURES}, features)
    every = {name: name for name in FEATURES}
    first = "before self-labels"
    name = stage("SCAN: features", every, lambda name: scan(name, 10, 0.9), first)
    k = stage("SCAN: k", {str(k): k for k in (10, 20, 5)}, lambda k: scan(name, k, 0.8))
    thresholds = {str(t): t for t in (0.8, 0.6, 0.9, 0.99)}
    stage("SCAN: threshold", thresholds, lambda threshold: scan(name, k, threshold))
    rates = {str(rate): rate for rate in (1e-5, 1e-4, 1e-3)}
    stage("DEC: learning rate", rates, lambda rate: dec(name, rate))
    return results


TUNING = run.EXPERIMENT.tuning((100, 101), stages=stages, reads={"accuracy": "target/accuracy"})

if __name__ == "__main__":
    frame.main(TUNING, __doc__)

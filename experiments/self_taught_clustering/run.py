"""Do features learned without labels cluster better than pixels, and does SCAN better than k-means?

python -m experiments.self_taught_clustering.run [--seeds 10] [--workdir runs/…]
"""

from pathlib import Path
from typing import Any

import numpy as np

from experiments import frame, report
from experiments.frame import Experiment, Row, Run
from experiments.report import Column, Comparison, Results

TARGET = "train[900:]"
PIXELS, ALONE, BOTH = "k-means of pixels", "SimCLR of the target, k-means", "SimCLR, k-means"
DEC, FIRST, SCAN = "SimCLR, DEC", "SimCLR, SCAN without self-labels", "SimCLR, SCAN"
METHODS = (PIXELS, ALONE, BOTH, DEC, FIRST, SCAN)


def reads(evaluation: str) -> dict[str, str]:
    return {metric: f"{evaluation}/{metric}" for metric in ("accuracy", "nmi", "ari")}


def clustered(config: Any, target: str) -> None:
    """A shipped config that clusters `target`, judged at its end alone."""
    frame.judge_at_the_end(config, 10_000)
    config.streams.target.split = config.evaluate.target.split = target


def unrepresented(config: Any, *phases: str) -> None:
    config.phases = phases
    del config.represent


def pixels(target: str = TARGET, size: int = 16) -> Row:
    """k-means of the images themselves, enlarged to `size`."""

    def edit(config: Any, run: Run) -> None:
        clustered(config, target)
        unrepresented(config, "cluster")
        config.network.trunk = dict(name="mlp", features=())  # no layer: it flattens
        config.streams.target["size"] = config.evaluate.target["size"] = size

    return Row("cluster_kmeans", edit=edit, columns=dict(method=PIXELS))


def simclr(target: str = TARGET, alone: bool = False) -> Row:
    """k-means of features of source and target; or, learned on the target alone."""

    def edit(config: Any, run: Run) -> None:
        clustered(config, target)
        if alone:
            config.streams.both.split = target

    method = ALONE if alone else BOTH
    return Row("cluster_kmeans", edit=edit, columns=dict(method=method), alone=not alone)


def scan(origin: str, target: str = TARGET) -> Row:
    """SCAN from features that a row has learned; judged before the self-labels, too."""

    def edit(config: Any, run: Run) -> None:
        clustered(config, target)
        unrepresented(config, "scan", "label")
        config.scan.start = (("trunk/**", run.origin(origin)), ("**", "fresh"))
        config.evaluate.first = dict(config.evaluate.target, phase="scan")

    lines = [(dict(method=FIRST), reads("first")), (dict(method=SCAN), reads("target"))]
    return Row("cluster_scan", edit=edit, reads=lines, after=origin)


def dec(origin: str, target: str = TARGET) -> Row:
    """DEC: k-means of features that a row has learned, then both sharpen each other."""

    def edit(config: Any, run: Run) -> None:
        clustered(config, target)
        unrepresented(config, "cluster")
        config.cluster.start = (("trunk/**", run.origin(origin)), ("**", "fresh"))
        config.cluster.terms = dict(sharpen=dict(term="embedded_clustering", stream="target"))
        config.cluster.optimizer = dict(name="adam", learning_rate=1e-4)
        config.cluster.steps = 200

    return Row("cluster_kmeans", edit=edit, columns=dict(method=DEC), after=origin)


def rows() -> dict[str, Row]:
    return {
        "pixels": pixels(),
        "alone": simclr(alone=True),
        "both": simclr(),
        "dec": dec("both"),
        "scan": scan("both"),
    }


def tables(results: Results) -> dict[str, str]:
    at = {method: results.where(method=method) for method in METHODS}
    columns: list[Column] = [
        ("method", str),
        ("accuracy", lambda method: at[method].cell("accuracy")),
        ("lowest seed", lambda method: at[method].lowest("accuracy")),
        ("NMI", lambda method: at[method].cell("nmi")),
        ("ARI", lambda method: at[method].cell("ari")),
        ("over pixels", lambda method: at[method].gain("accuracy", at[PIXELS], itself="")),
        ("seconds", lambda method: f"{np.mean(at[method].values('seconds')):.0f}"),
    ]
    return {
        "table": report.table(columns, METHODS),
        "scan": at[SCAN].gain("accuracy", at[BOTH]),
        "labels": at[SCAN].gain("accuracy", at[FIRST]),
        "source": at[BOTH].gain("accuracy", at[ALONE]),
    }


def figure(results: Results, path: Path) -> None:
    reached = [(method, results.where(method=method).values("accuracy")) for method in METHODS]
    report.intervals(reached, path, "clustering accuracy of the target")


QUESTION = "self-taught clustering: SCAN against k-means on pixels"
EXPERIMENT = Experiment(
    folder=Path(__file__).parent,
    seeds=range(10),
    reads=reads("target"),
    rows=rows,
    tables=tables,
    figure=figure,
    comparisons=[Comparison(QUESTION, "accuracy", SCAN, PIXELS)],
)

if __name__ == "__main__":
    frame.main(EXPERIMENT, __doc__)

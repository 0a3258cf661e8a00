"""Do features learned without labels cluster better than pixels, and does SCAN better than k-means?

    python experiments/self_taught_clustering/run.py [--seeds 10] [--workdir runs/…]

Runs every method over the seeds, prints the table, and writes it into RESULTS.md with the figure
beside this file. Started again, it goes on where it was.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from experiments import report  # noqa: E402
from tljax import plots  # noqa: E402

HERE = Path(__file__).parent
NAME = HERE.name
TARGET = "train[900:]"
PIXELS, ALONE, BOTH = "k-means of pixels", "SimCLR of the target, k-means", "SimCLR, k-means"
DEC, FIRST, SCAN = "SimCLR, DEC", "SimCLR, SCAN without self-labels", "SimCLR, SCAN"
METHODS = (PIXELS, ALONE, BOTH, DEC, FIRST, SCAN)


def shipped(name: str, seed: int, target: str) -> Any:
    """A shipped config that clusters `target`, judged at its end alone."""
    config = importlib.import_module(f"configs.{name}").get_config()
    config.update(seed=seed, evaluate_every=10_000, checkpoint_every=10_000)
    config.streams.target.split = config.evaluate.target.split = target
    return config


def pixels(seed: int, target: str = TARGET, size: int = 16) -> Any:
    """k-means of the images themselves, enlarged to `size`."""
    config = shipped("cluster_kmeans", seed, target)
    config.phases = ("cluster",)
    del config.represent
    config.network.trunk = dict(name="mlp", features=())  # no layer: it flattens
    config.streams.target["size"] = config.evaluate.target["size"] = size
    return config


def simclr(seed: int, target: str = TARGET, alone: bool = False) -> Any:
    """k-means of features of source and target; or, learned on the target alone."""
    config = shipped("cluster_kmeans", seed, target)
    if alone:
        config.streams.both.split = target
    return config


def scan(seed: int, represented: Path, target: str = TARGET) -> Any:
    """SCAN from features that a run has learned; judged before the self-labels, too."""
    config = shipped("cluster_scan", seed, target)
    config.phases = ("scan", "label")
    del config.represent
    config.scan.start = (("trunk/**", f"run:{represented}"), ("**", "fresh"))
    config.evaluate.first = dict(config.evaluate.target, phase="scan")
    return config


def dec(seed: int, represented: Path, target: str = TARGET) -> Any:
    """DEC: k-means of features that a run has learned, then both sharpen each other."""
    config = shipped("cluster_kmeans", seed, target)
    config.phases = ("cluster",)
    del config.represent
    config.cluster.start = (("trunk/**", f"run:{represented}"), ("**", "fresh"))
    config.cluster.terms = dict(sharpen=dict(term="embedded_clustering", stream="target"))
    config.cluster.optimizer = dict(name="adam", learning_rate=1e-4)
    config.cluster.steps = 200
    return config


def collect(seeds: int, workdir: Path, shrink: report.Shrink = lambda config: None) -> list:
    """A row for every method and seed; finished runs are only read."""
    rows = []
    for seed in range(seeds):
        places = {name: workdir / name / str(seed) for name in ("pixels", "alone", "both")}
        plain = report.run(pixels(seed), places["pixels"], shrink)
        alone = report.run(simclr(seed, alone=True), places["alone"], shrink)
        both = report.run(simclr(seed), places["both"], shrink)
        sharp = report.run(dec(seed, places["both"]), workdir / "dec" / str(seed), shrink)
        scanned = report.run(scan(seed, places["both"]), workdir / "scan" / str(seed), shrink)
        before = both["seconds"]  # of the features that three methods share
        reached = {
            PIXELS: (plain["target"], plain["seconds"]),
            ALONE: (alone["target"], alone["seconds"]),
            BOTH: (both["target"], before),
            DEC: (sharp["target"], before + sharp["seconds"]),
            FIRST: (scanned["first"], before + scanned["seconds"]),
            SCAN: (scanned["target"], before + scanned["seconds"]),
        }
        for method, (judged, seconds) in reached.items():
            numbers = {metric: judged[metric] for metric in ("accuracy", "nmi", "ari")}
            rows.append(dict(method=method, seed=seed, **numbers, seconds=seconds))
            print(*rows[-1].values(), flush=True)
    return rows


def table(rows: list) -> str:
    """The markdown of RESULTS.md."""

    def values(method: str, metric: str = "accuracy") -> list[float]:
        return report.values(rows, metric, method=method)

    lines = []
    for method in METHODS:
        accuracy, seconds = values(method), values(method, "seconds")
        lines.append(
            [
                method,
                report.cell(accuracy),
                f"{min(accuracy):.3f}",
                report.cell(values(method, "nmi")),
                report.cell(values(method, "ari")),
                "" if method == PIXELS else report.gain(accuracy, values(PIXELS)),
                f"{sum(seconds) / len(seconds):.0f}",
            ]
        )
    columns = ("method", "accuracy", "lowest seed", "NMI", "ARI", "over pixels", "seconds")
    return "\n".join(
        [
            f"897 unlabelled digits `{TARGET}` are clustered; features are learned on them and 900 "
            "other digits, or on them alone; restarts are chosen by loss. Tuned with the labels of "
            "`train[:900]` over seeds 100 and 101. Means over "
            f"{len(values(PIXELS))} seeds with 95 % t intervals; differences are paired by seed, "
            "bold where the interval excludes 0.",
            "",
            report.table(columns, lines),
            "",
            f"SCAN − k-means of the same features: {report.gain(values(SCAN), values(BOTH))}. "
            f"Self-labels change SCAN by {report.gain(values(SCAN), values(FIRST))}, the source's "
            f"digits change k-means by {report.gain(values(BOTH), values(ALONE))}.",
        ]
    )


def main() -> None:
    given = report.arguments(__doc__, NAME, 10)
    rows = collect(given.seeds, given.workdir)
    section = table(rows)
    print(section)
    report.save(rows, HERE / "results.csv")
    drawn = [(method, report.values(rows, "accuracy", method=method)) for method in METHODS]
    plots.intervals(drawn, HERE / "results.png", "clustering accuracy of the target")
    report.write(section, NAME, ROOT / "RESULTS.md")


if __name__ == "__main__":
    main()

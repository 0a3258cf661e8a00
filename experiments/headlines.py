"""One line a family for the README, from the results.csv that the experiments have written.

    python experiments/headlines.py

Each line holds a method against the strongest simple baseline of its experiment, paired by seed.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments import report  # noqa: E402


class Line(NamedTuple):
    """What is compared."""

    question: str
    folder: str  # of the experiment
    metric: str  # a column of its results.csv
    ours: dict[str, str]  # column -> value, of our rows
    baseline: dict[str, str]


LINES = (
    Line(
        "domain shift, digits over photographs: DANN against source only",
        "domain_shift",
        "target_accuracy",
        {"method": "dann"},
        {"method": "source_only"},
    ),
    Line(
        "the same in 800 steps, chosen without target labels: MK-MMD against source only",
        "adaptation",
        "target",
        {"method": "mk_mmd", "task": "digits"},
        {"method": "source_only", "task": "digits"},
    ),
    Line(
        "the same: DANN against source only",
        "adaptation",
        "target",
        {"method": "dann", "task": "digits"},
        {"method": "source_only", "task": "digits"},
    ),
    Line(
        "fine-tuning on inverted digits, 5 a class, source kept: L2-SP against fine-tuning",
        "few_shot",
        "source",
        {"method": "L2-SP", "labels": "5"},
        {"method": "fine-tuning", "labels": "5"},
    ),
    Line(
        "the same: L2-SP against fine-tuning whose rate was chosen to keep the source",
        "few_shot",
        "source",
        {"method": "L2-SP", "labels": "5"},
        {"method": "fine-tuning, for both", "labels": "5"},
    ),
    Line(
        "the same, accuracy on the target: moving the first layer against fine-tuning",
        "few_shot",
        "target",
        {"method": "first layer only", "labels": "5"},
        {"method": "fine-tuning", "labels": "5"},
    ),
    Line(
        "multitask, 2 labels a class: with seven segments against digits alone",
        "multitask",
        "target",
        {"setting": "multitask_digits", "method": "sum", "per_class": "2"},
        {"setting": "multitask_digits", "method": "digits alone", "per_class": "2"},
    ),
    Line(
        "the same: with seven segments against with another digit's segments",
        "multitask",
        "target",
        {"setting": "multitask_digits", "method": "sum", "per_class": "2"},
        {"setting": "multitask_digits", "method": "wrong bits", "per_class": "2"},
    ),
    Line(
        "self-taught, 1 label a class: SimCLR against logistic regression on pixels",
        "self_taught",
        "accuracy",
        {"method": "SimCLR, softmax", "shots": "1"},
        {"method": "pixels, softmax", "shots": "1"},
    ),
    Line(
        "the same: SimCLR against the network from scratch with the same augmentation",
        "self_taught",
        "accuracy",
        {"method": "SimCLR, softmax", "shots": "1"},
        {"method": "CNN from scratch, augmented", "shots": "1"},
    ),
    Line(
        "self-taught clustering: SCAN against k-means on pixels",
        "self_taught_clustering",
        "accuracy",
        {"method": "SimCLR, SCAN"},
        {"method": "k-means of pixels"},
    ),
    Line(
        "zero-shot, Fashion-MNIST, 2 unseen of 10: compatibility against ESZSL on pixels",
        "zero_shot",
        "accuracy",
        {"data": "fashion", "method": "softmax"},
        {"data": "fashion", "method": "eszsl"},
    ),
    Line(
        "zero-shot, 20 unseen pairs of digits: compatibility against ESZSL on pixels",
        "zero_shot",
        "accuracy",
        {"data": "digits", "method": "softmax"},
        {"data": "digits", "method": "eszsl"},
    ),
)


def numbers(line: Line, wanted: dict[str, str]) -> dict[int, float]:
    """seed -> the metric of the rows with these values, the mean where a seed has several."""
    with open(ROOT / "experiments" / line.folder / "results.csv", newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if all(row[column] == value for column, value in wanted.items())
        ]
    seeds: dict[int, list[float]] = {}
    for row in rows:
        seeds.setdefault(int(row["seed"]), []).append(float(row[line.metric]))
    return {seed: sum(found) / len(found) for seed, found in seeds.items()}


def table(lines: Sequence[Line] = LINES) -> str:
    """The markdown of the README."""
    rows = []
    for line in lines:
        ours, baseline = (numbers(line, each) for each in (line.ours, line.baseline))
        if len(baseline) == 1:  # without randomness: the same for every seed
            baseline = dict.fromkeys(ours, next(iter(baseline.values())))
        seeds = sorted(ours.keys() & baseline.keys())
        pair = [[each[seed] for seed in seeds] for each in (ours, baseline)]
        rows.append(
            [
                f"[{line.question}](experiments/{line.folder}/README.md)",
                report.cell(pair[1]),
                report.cell(pair[0]),
                report.gain(*pair),
                str(len(seeds)),
            ]
        )
    return report.table(["question", "baseline", "method", "difference", "seeds"], rows)


if __name__ == "__main__":
    print(table())
    report.write(table(), "headlines", ROOT / "README.md")

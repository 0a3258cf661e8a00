"""Unsupervised domain adaptation, with hyperparameters that no target label has chosen.

    python experiments/adaptation/run.py [--seeds 10] [--workdir runs/adaptation]

Reads the choices from tuning.csv and together.csv, runs every method over the seeds, prints the
tables, and writes them into RESULTS.md, with results.csv and the figure beside this file. Started
again, it goes on where it was.
"""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from experiments import report  # noqa: E402
from experiments.adaptation import together, tune  # noqa: E402
from tljax import metrics, plots  # noqa: E402

HERE = Path(__file__).parent
SEEDS = {"digits": 10, "garments": 3}
METHODS = {"digits": tuple(tune.GRID), "garments": ("source_only", "dann", "mk_mmd", "mcc")}

COLLAPSED = 0.5  # far below source only


def garments(method: str, value: float, seed: int) -> Any:
    """A method on the garments of dann_fashion.py at 16×16, at the point chosen on digits."""
    config = tune.candidate(method, value, seed)
    fashion = importlib.import_module("configs.dann_fashion").get_config()
    for name in config.streams:
        config.streams[name] = fashion.streams[name]
    config.evaluate = fashion.evaluate
    for fields in (*config.streams.values(), *config.evaluate.values()):
        fields["size"] = 16
    return config


MAKE = {"digits": tune.candidate, "garments": garments}


def collect(
    seeds: int,
    workdir: Path,
    shrink: report.Shrink = lambda config: None,
    tasks: Sequence[str] = ("digits", "garments"),
) -> list[report.Row]:
    """Every method at its chosen point on every seed; finished runs are only read."""
    values = tune.chosen(tune.read(), tune.MAIN)
    rows = []
    for task in tasks:
        for seed in range(min(seeds, SEEDS[task])):
            for method in METHODS[task]:
                config = MAKE[task](method, values[method], seed)
                judged = report.run(config, workdir / task / method / str(seed), shrink)
                row = dict(task=task, method=method, value=values[method], seed=seed)
                row |= {domain: judged[domain]["accuracy"] for domain in ("target", "source")}
                rows.append({**row, "seconds": judged["seconds"]})
                print(*rows[-1].values(), flush=True)
    return rows


def table(rows: Sequence[report.Row], task: str = "digits") -> str:
    """A row a method: what was chosen, its accuracies, its difference from source only by seed."""
    rows = [row for row in rows if row["task"] == task]
    floor = report.values(rows, "target", method="source_only")
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        target, source, seconds, value = (
            report.values(rows, metric, method=method)
            for metric in ("target", "source", "seconds", "value")
        )
        field = tune.GRID[method][0].split(".")[-1]
        lines.append(
            [
                f"[{method}](configs/{method}.py)",
                f"{field.replace('_', ' ')} {value[0]:g}",
                report.cell(target),
                "–" if method == "source_only" else report.gain(target, floor),
                f"{min(target):.3f}",
                report.cell(source),
                f"{np.median(seconds):.0f}",
            ]
        )
    columns = ["method", "chosen", "target accuracy", "− source only", "lowest seed"]
    return report.table([*columns, "source accuracy", "seconds a run"], lines)


def validators_table(rows: Sequence[report.Row]) -> str:
    """What each validator's choice within a method, and among all, reaches on the test digits."""
    points = [(m, v) for m, (_, values) in tune.GRID.items() for v in values]
    means = {
        name: {p: np.mean(report.values(rows, name, method=p[0], value=p[1])) for p in points}
        for name in (*tune.VALIDATORS, "test")
    }
    choices = {name: tune.chosen(rows, name) for name in tune.VALIDATORS}
    reached = {
        name: [means["test"][method, value] for method, value in choice.items()]
        for name, choice in choices.items()
    }
    lines = []
    for name, sign in tune.VALIDATORS.items():
        label = "*oracle: target labels*" if name == "oracle" else name.replace("_", " ")
        best, value = max(points, key=lambda point, name=name, sign=sign: sign * means[name][point])
        lines.append(
            [
                label + (" (the one used)" if name == tune.MAIN else ""),
                *(f"{each:.3f}" for each in reached[name]),
                f"{np.mean(reached[name]) - np.mean(reached['oracle']):+.3f}",
                f"{means['test'][best, value]:.3f} ({best} {value:g})",
                f"{_rank_correlation(rows, name, sign):+.2f}",
            ]
        )
    columns = ["chosen by", *tune.GRID, "mean − oracle", "among all methods", "rank correlation"]
    return report.table(columns, lines)


def _rank_correlation(rows: Sequence[report.Row], name: str, sign: int) -> float:
    from scipy.stats import spearmanr  # slow to import

    scores = [sign * row[name] for row in rows]
    return float(spearmanr(scores, [row["test"] for row in rows]).statistic)


def figure(rows: Sequence[report.Row], tuned: Sequence[report.Row], path: Path) -> None:
    """Left: the accuracy of every seed on digits. Right: what the validator knew of the grid."""
    from matplotlib.figure import Figure  # slow to import

    drawn = Figure(figsize=(11, 4.2), dpi=150, layout="constrained")
    left, right = drawn.subplots(1, 2, width_ratios=(1, 1.1))
    for y, (method, colour) in enumerate(zip(tune.GRID, plots.PALETTE, strict=False)):
        target = report.values(rows, "target", task="digits", method=method)
        if not target:
            continue
        mean, half = metrics.interval(target)
        bar = dict(fmt="o", ms=6, lw=2, capsize=4, color=colour)
        left.plot(target, [y + 0.22] * len(target), "o", ms=4, mew=0, color="0.6", alpha=0.7)
        left.errorbar(mean, y - 0.08, xerr=half if len(target) > 1 else None, **bar)
        mine = [row for row in tuned if row["method"] == method]
        scores, accuracies = ([row[k] for row in mine] for k in (tune.MAIN, "test"))
        right.plot(scores, accuracies, "o", ms=5, alpha=0.8, color=colour, label=method)
    left.set(
        xlabel="target accuracy: mean, 95 % interval, seeds", ylim=(len(tune.GRID) - 0.5, -0.5)
    )
    left.set_yticks(range(len(tune.GRID)), list(tune.GRID))
    right.set(xlabel="information maximisation on the unlabelled target (nats)")
    right.set_ylabel("target accuracy of the grid's runs")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.9")
    drawn.savefig(path, format="png", metadata={"Software": None})


PROTOCOL = f"""Every value was chosen from three by information maximisation on unlabelled target \
digits, a validator fixed before anything was trained, over seeds {tune.SEEDS[0]} and \
{tune.SEEDS[-1]}; no target label took part, except that the rate 0.02 of the adapting methods is \
dann.py's. {tune.STEPS} steps for all (dann.py itself has 2,500 and is better for it); judged at \
the last step. Means with 95 % t intervals, differences paired by seed; bold where the interval \
excludes 0. Seconds are of a busy, shared core.

Digits over photographs, {SEEDS["digits"]} seeds:"""

VALIDATORS = """What each validator would have chosen: accuracy on test digits, mean over the \
selection seeds. Within a method; among all methods and values; and the rank correlation, over all \
runs, of score and accuracy. The oracle reads the labels of held-out target digits and chose \
nothing above."""

GARMENTS = f"""Fashion-MNIST at 16×16, the target under noise, {SEEDS["garments"]} seeds, at the \
values chosen on digits (nothing was tuned on garments):"""

TOGETHER = f"""[combination](configs/combination.py) against its parts: a source model is tuned \
with two labelled target digits a class and 600 unlabelled ones, {together.SEEDS} seeds; each \
variant's rate is from the same two, by labelled target digits that no result uses."""


def section(rows: Sequence[report.Row], tuned: Sequence[report.Row]) -> str:
    """The markdown of RESULTS.md, of the tasks that have rows."""
    lost = [
        f"{method} {sum(t < COLLAPSED for t in report.values(rows, 'target', **which))}"
        for method in METHODS["digits"]
        for which in [dict(task="digits", method=method)]
        if min(report.values(rows, "target", **which), default=1.0) < COLLAPSED
    ]
    collapsed = f"Seeds that ended below {COLLAPSED}: {', '.join(lost) or 'none'}."
    parts = [
        f"{PROTOCOL}\n\n{table(rows)}\n\n{collapsed}",
        f"{VALIDATORS}\n\n{validators_table(tuned)}",
    ]
    tasks = {row["task"] for row in rows}
    if "garments" in tasks:
        parts.append(f"{GARMENTS}\n\n{table(rows, 'garments')}")
    if "together" in tasks:
        mixed = [row for row in rows if row["task"] == "together"]
        parts.append(f"{TOGETHER}\n\n{together.table(mixed)}")
    return "\n\n".join(parts)


def main() -> None:
    given = report.arguments(__doc__, "adaptation", SEEDS["digits"])
    rows = collect(given.seeds, given.workdir)
    if (HERE / "together.csv").exists():
        rows += together.collect(min(given.seeds, together.SEEDS), given.workdir)
    tuned = tune.read()
    text = section(rows, tuned)
    print(text)
    report.save(rows, HERE / "results.csv")
    figure(rows, tuned, HERE / "results.png")
    report.write(text, "adaptation", ROOT / "RESULTS.md")


if __name__ == "__main__":
    main()

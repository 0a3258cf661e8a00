"""Where does DANN adapt, and where is its game lost? λ × ramp × learning rate × seeds.

python -m experiments.ablation_dann.run [--seeds 5] [--workdir runs/ablation_dann]
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import frame, report
from experiments.ablation_dann import config
from experiments.frame import Experiment, Row
from experiments.report import Column, Results

SLOW, FAST = config.RAMPS
NAMES = {SLOW: f"γ {SLOW:g}", FAST: "at once"}
COLLAPSED = 0.5  # far below source only
FAILED = 0.0  # accuracy of a run whose numbers were not finite: it leaves no classifier


def rows() -> dict[str, Row]:
    rows = {}
    for cell in config.cells():
        fields = {config.FIELDS[name]: value for name, value in cell.items()}
        name = "-".join(f"{name}={value:g}" for name, value in cell.items())
        rows[name] = Row(config.get_config, fields, columns=cell)
    return rows


def counted(results: Results) -> Results:
    """The lines, with the accuracies of a failed run as `FAILED`."""
    accuracies = ("target", "source")
    return Results({**line, **{m: line[m] or FAILED for m in accuracies}} for line in results)


def cells(results: Results) -> list[Results]:
    """The runs of each cell, in order."""
    names = ("rate", "scale", "gamma")
    return sorted(results.by(*names), key=lambda cell: [cell[0][name] for name in names])


def mean(cell: Results) -> float:
    return float(np.mean(cell.values("target")))


def worth(cell: Results) -> float:
    """The mean of what a choice may read; −∞ where a run failed, as in `tljax report`."""
    return -np.inf if failures(cell) else float(np.mean(cell.values("validator")))


def failures(cell: Results) -> int:
    """How many runs were not finite."""
    return cell.values("validator").count(None)


def lost(cell: Results) -> int:
    """How many runs collapsed or failed."""
    return sum(value < COLLAPSED for value in cell.values("target"))


def shipped() -> dict[str, float]:
    """The cell of configs/dann.py."""
    dann = frame.shipped("dann")
    domain = dann.terms.domain
    return dict(rate=dann.optimizer.learning_rate, scale=domain.scale, gamma=domain.gamma)


SETTING: list[Column] = [report.text("rate", "rate", "{:g}"), report.text("λ", "scale", "{:g}")]
SETTING += [("ramp", lambda cell: NAMES[cell[0]["gamma"]] if cell[0]["scale"] else "–")]


def table(results: Results) -> str:
    """A row a cell: accuracies, the difference from λ = 0 at its rate, what was lost."""

    def gain(cell: Results) -> str:
        return cell.gain("target", results.where(rate=cell[0]["rate"], scale=0.0))

    columns = [*SETTING, report.mean("target accuracy", "target")]
    columns += [("− λ = 0", gain), report.lowest("target")]
    columns += [("collapsed", lambda cell: str(lost(cell) - failures(cell)))]
    columns += [("failed", lambda cell: str(failures(cell)))]
    columns += [report.mean("source accuracy", "source")]
    columns += [("validator", lambda cell: "–" if failures(cell) else f"{worth(cell):.3f}")]
    return report.table(columns, cells(results))


def ramps(results: Results) -> str:
    """λ at once, less λ by the ramp: a row a λ, a column a rate; lost runs of both."""

    def column(rate: float) -> Column:
        def write(scale: float) -> str:
            slow, fast = (results.where(rate=rate, scale=scale, gamma=g) for g in config.RAMPS)
            return f"{fast.gain('target', slow)} ({lost(slow)} → {lost(fast)})"

        return f"rate {rate:g}", write

    columns = [("λ", "{:g}".format), *map(column, sorted(results.of("rate")))]
    return report.table(columns, sorted(set(results.of("scale")) - {0.0}))


def chosen(results: Results) -> dict[str, Results]:
    """Who chooses -> the cell."""
    every = cells(results)
    return {
        "information maximisation": max(every, key=worth),
        "[dann.py](configs/dann.py)": results.where(**shipped()),
        "*oracle: test accuracy*": max(every, key=mean),
    }


def choices(results: Results) -> str:
    """What each choice among all cells reaches, and its difference from the shipped one."""
    gain = report.gained("− dann.py", "target", results.where(**shipped()))
    columns = [*SETTING, report.mean("target accuracy", "target"), gain, report.lowest("target")]
    return report.named("chosen by", columns, chosen(results))


def correlations(results: Results) -> str:
    """Of validator and accuracy, over all cells and within a rate; with and without lost runs."""
    every = cells(results)

    def rank(among: Sequence[Results]) -> str:
        if len(among) < 3:
            return f"– ({len(among)})"
        correlation = report.rank_correlation([*map(worth, among)], [*map(mean, among)])
        return f"{correlation:+.2f} ({len(among)})"

    def within(rate: float) -> Column:
        return f"rate {rate:g}", lambda among: rank([c for c in among if c[0]["rate"] == rate])

    columns = [("all rates", rank), *map(within, sorted(results.of("rate")))]
    kept = [cell for cell in every if not lost(cell)]
    return report.named("cells", columns, {"every cell": every, "that lost no run": kept})


def best(results: Results) -> str:
    """The cell of the highest test accuracy at every rate, for a description."""
    texts = []
    for rate in sorted(results.of("rate")):
        cell = max(cells(results.where(rate=rate)), key=mean)
        rate_text, scale, ramp = (write(cell) for _, write in SETTING)
        texts.append(f"rate {rate_text}: λ {scale}, ramp {ramp}, {mean(cell):.3f}")
    return f"The highest mean at each rate: {'; '.join(texts)}."


def losses(results: Results) -> str:
    """Which runs were lost: on both domains or on one, and from which λ · rate on."""
    finished = [line for line in results if line["validator"] is not None]
    gone = [line for line in finished if line["target"] < COLLAPSED]
    both = sum(line["source"] < COLLAPSED for line in gone)
    text = (
        f"{len(gone)} of {len(results)} runs collapsed, {both} of them on the source as well, and "
        f"{len(results) - len(finished)} failed."
    )
    for gamma, name in NAMES.items():
        products: dict[bool, list[float]] = {False: [], True: []}  # lost? -> λ · rate
        for cell in cells(results.where(gamma=gamma)):
            if cell[0]["scale"]:
                products[lost(cell) > 0].append(cell[0]["scale"] * cell[0]["rate"])
        largest, smallest = (
            f"{edge(values):.3g}" if values else "–"
            for edge, values in zip((max, min), products.values(), strict=True)
        )
        text += f" Ramp {name}: the largest λ · rate that lost no run is {largest}, "
        text += f"the smallest that lost one {smallest}."
    return text


def tables(results: Results) -> dict[str, Any]:
    results = counted(results)
    made = {f.__name__: f(results) for f in (table, best, losses, ramps, choices, correlations)}
    return {"cells": len(cells(results)), "collapsed": COLLAPSED, "failed": FAILED, **made}


def figure(results: Results, path: Path) -> None:
    """A panel a rate: target accuracy over λ, a line a ramp; a failed run counts 0."""
    panels = {}
    for rate, lines in counted(results).at("rate", sorted(results.of("rate"))).items():
        floor, panel = lines.where(scale=0.0).over("scale", "target"), {}
        for gamma, name in NAMES.items():
            panel[name] = floor | lines.where(gamma=gamma).over("scale", "target")
        panels[f"rate {rate:g}"] = panel
    report.curves(panels, path, "λ")


READS = {"target": "target/accuracy", "source": "source/accuracy"}
READS |= {"validator": "unlabelled/information_maximisation"}
EXPERIMENT = Experiment(Path(__file__).parent, config.SEEDS, READS, rows, tables, figure)

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT)

"""The tables of the ablation: cells of λ × ramp × rate, what they reach and what they lose."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments import report
from experiments.ablation_dann.config import RAMPS
from experiments.report import Column, Results
from tljax.configs.dann import get_config as dann

SLOW, FAST = RAMPS
NAMES = {SLOW: f"γ {SLOW:g}", FAST: "at once"}

COLLAPSED = 0.5  # far below source only
FAILED = 0.0  # accuracy of a run whose numbers were not finite: it leaves no classifier

Cell = dict[str, float]  # rate, scale and gamma


def cells(results: Results) -> list[Cell]:
    """What differs beside the seed, in order."""
    names = ("rate", "scale", "gamma")
    return [dict(zip(names, cell, strict=True)) for cell in sorted(results.means("target", *names))]


def reached(results: Results, cell: Cell, metric: str = "target") -> list[float]:
    """An accuracy of a cell's runs, by seed; a failed run's is `FAILED`."""
    return [FAILED if v is None else v for v in results.where(**cell).values(metric)]


def mean(results: Results, cell: Cell) -> float:
    return float(np.mean(reached(results, cell)))


def worth(results: Results, cell: Cell) -> float:
    """The mean of what a choice may read; −∞ where a run failed, as in `tljax report`."""
    values = results.where(**cell).values("validator")
    return -np.inf if None in values else float(np.mean(values))


def failures(results: Results, cell: Cell) -> int:
    """How many runs of a cell were not finite."""
    return results.where(**cell).values("target").count(None)


def lost(results: Results, cell: Cell) -> int:
    """How many runs of a cell collapsed or failed."""
    return sum(value < COLLAPSED for value in reached(results, cell))


def shipped() -> Cell:
    """The cell of configs/dann.py."""
    config = dann()
    domain = config.terms.domain
    return dict(rate=config.optimizer.learning_rate, scale=domain.scale, gamma=domain.gamma)


RATE: Column = ("rate", lambda cell: f"{cell['rate']:g}")
SCALE: Column = ("λ", lambda cell: f"{cell['scale']:g}")
RAMP: Column = ("ramp", lambda cell: NAMES[cell["gamma"]] if cell["scale"] else "–")
SETTING = (RATE, SCALE, RAMP)


def table(results: Results) -> str:
    """A row a cell: accuracies, the difference from λ = 0 at its rate, what was lost."""

    def gain(cell: Cell) -> str:
        floor = dict(rate=cell["rate"], scale=0.0)
        ours, theirs = reached(results, cell), reached(results, floor)
        return report.gain(ours, theirs) if cell["scale"] else "–"

    def validator(cell: Cell) -> str:
        return "–" if failures(results, cell) else f"{worth(results, cell):.3f}"

    columns: list[Column] = [
        *SETTING,
        ("target accuracy", lambda cell: report.cell(reached(results, cell))),
        ("− λ = 0", gain),
        ("lowest seed", lambda cell: f"{min(reached(results, cell)):.3f}"),
        ("collapsed", lambda cell: str(lost(results, cell) - failures(results, cell))),
        ("failed", lambda cell: str(failures(results, cell))),
        ("source accuracy", lambda cell: report.cell(reached(results, cell, "source"))),
        ("validator", validator),
    ]
    return report.table(columns, cells(results))


def ramps(results: Results) -> str:
    """λ at once, less λ by the ramp: a row a λ, a column a rate; lost runs of both."""

    def column(rate: float) -> Column:
        def write(scale: float) -> str:
            slow, fast = (dict(rate=rate, scale=scale, gamma=gamma) for gamma in RAMPS)
            gain = report.gain(reached(results, fast), reached(results, slow))
            return f"{gain} ({lost(results, slow)} → {lost(results, fast)})"

        return f"rate {rate:g}", write

    columns = [("λ", lambda scale: f"{scale:g}"), *map(column, sorted(results.of("rate")))]
    return report.table(columns, sorted(set(results.of("scale")) - {0.0}))


def chosen(results: Results) -> dict[str, Cell]:
    """Who chooses -> the cell."""
    every = cells(results)
    return {
        "information maximisation": max(every, key=lambda cell: worth(results, cell)),
        "[dann.py](configs/dann.py)": shipped(),
        "*oracle: test accuracy*": max(every, key=lambda cell: mean(results, cell)),
    }


def choices(results: Results) -> str:
    """What each choice among all cells reaches, and its difference from the shipped one."""
    ours, choice = reached(results, shipped()), chosen(results)

    def setting(column: Column) -> Column:
        return column[0], lambda who: column[1](choice[who])

    def gain(who: str) -> str:
        other = choice[who] != shipped()
        return report.gain(reached(results, choice[who]), ours) if other else "–"

    columns: list[Column] = [
        ("chosen by", str),
        *map(setting, SETTING),
        ("target accuracy", lambda who: report.cell(reached(results, choice[who]))),
        ("− dann.py", gain),
        ("lowest seed", lambda who: f"{min(reached(results, choice[who])):.3f}"),
    ]
    return report.table(columns, choice)


def correlations(results: Results) -> str:
    """Of validator and accuracy, over all cells and within a rate; with and without lost runs."""
    every = cells(results)
    kept = [cell for cell in every if not lost(results, cell)]

    def rank(among: Sequence[Cell]) -> str:
        if len(among) < 3:
            return f"– ({len(among)})"
        scores, accuracies = ([f(results, cell) for cell in among] for f in (worth, mean))
        return f"{report.rank_correlation(scores, accuracies):+.2f} ({len(among)})"

    def within(rate: float) -> Column:
        return f"rate {rate:g}", lambda line: rank([c for c in line[1] if c["rate"] == rate])

    columns: list[Column] = [
        ("cells", lambda line: line[0]),
        ("all rates", lambda line: rank(line[1])),
        *map(within, sorted(results.of("rate"))),
    ]
    return report.table(columns, [("every cell", every), ("that lost no run", kept)])


def best(results: Results) -> str:
    """The cell of the highest test accuracy at every rate, for a description."""
    texts = []
    for rate in sorted(results.of("rate")):
        cell = max(cells(results.where(rate=rate)), key=lambda cell: mean(results, cell))
        rate_text, scale, ramp = (write(cell) for _, write in SETTING)
        texts.append(f"rate {rate_text}: λ {scale}, ramp {ramp}, {mean(results, cell):.3f}")
    return f"The highest mean at each rate: {'; '.join(texts)}."


def losses(results: Results) -> str:
    """Which runs were lost: on both domains or on one, and from which λ · rate on."""
    finished = [line for line in results if line["target"] is not None]
    gone = [line for line in finished if line["target"] < COLLAPSED]
    both = sum(line["source"] < COLLAPSED for line in gone)
    parts = [
        f"{len(gone)} of {len(results)} runs collapsed, {both} of them on the source as well, and "
        f"{len(results) - len(finished)} failed."
    ]
    for gamma, name in NAMES.items():
        ramped = [cell for cell in cells(results.where(gamma=gamma)) if cell["scale"]]
        safe = [c["scale"] * c["rate"] for c in ramped if not lost(results, c)]
        broken = [c["scale"] * c["rate"] for c in ramped if lost(results, c)]
        largest, smallest = (
            f"{edge(values):.3g}" if values else "–"
            for edge, values in ((max, safe), (min, broken))
        )
        parts.append(
            f"Ramp {name}: the largest λ · rate that lost no run is {largest}, the smallest that "
            f"lost one {smallest}."
        )
    return " ".join(parts)


def tables(results: Results) -> dict[str, Any]:
    return {
        "cells": len(cells(results)),
        "collapsed": COLLAPSED,
        "failed": FAILED,
        "table": table(results),
        "best": best(results),
        "losses": losses(results),
        "ramps": ramps(results),
        "choices": choices(results),
        "correlations": correlations(results),
    }

"""The tables of the ablation: cells of λ × ramp × rate, what they reach and what they lose."""

from collections.abc import Sequence

import numpy as np

from configs.dann import get_config as dann
from experiments import report
from experiments.ablation_dann.config import RAMPS

SLOW, FAST = RAMPS
NAMES = {SLOW: f"γ {SLOW:g}", FAST: "at once"}

COLLAPSED = 0.5  # far below source only
FAILED = 0.0  # accuracy of a run whose numbers were not finite: it leaves no classifier

Cell = dict[str, float]  # rate, scale and gamma


def cells(rows: Sequence[report.Row]) -> list[Cell]:
    """What differs beside the seed, in order."""
    names = ("rate", "scale", "gamma")
    found = sorted({tuple(row[name] for name in names) for row in rows})
    return [dict(zip(names, values, strict=True)) for values in found]


def reached(rows: Sequence[report.Row], metric: str = "target", **cell: float) -> list[float]:
    """An accuracy of a cell's runs, by seed; a failed run's is `FAILED`."""
    return [FAILED if v is None else v for v in report.values(rows, metric, **cell)]


def worth(rows: Sequence[report.Row], cell: Cell) -> float:
    """The mean of what a choice may read; −∞ where a run failed, as in `tljax report`."""
    found = report.values(rows, "validator", **cell)
    return -np.inf if None in found else float(np.mean(found))


def failures(rows: Sequence[report.Row], cell: Cell) -> int:
    """How many runs of a cell were not finite."""
    return report.values(rows, "target", **cell).count(None)


def lost(rows: Sequence[report.Row], cell: Cell) -> int:
    """How many runs of a cell collapsed or failed."""
    return sum(value < COLLAPSED for value in reached(rows, **cell))


def shipped() -> Cell:
    """The cell of configs/dann.py."""
    config = dann()
    domain = config.terms.domain
    return dict(rate=config.optimizer.learning_rate, scale=domain.scale, gamma=domain.gamma)


def _name(cell: Cell) -> list[str]:
    ramp = NAMES[cell["gamma"]] if cell["scale"] else "–"
    return [f"{cell['rate']:g}", f"{cell['scale']:g}", ramp]


def table(rows: Sequence[report.Row]) -> str:
    """A row a cell: accuracies, the difference from λ = 0 at its rate, what was lost."""
    lines = []
    for cell in cells(rows):
        target, failed = reached(rows, **cell), failures(rows, cell)
        floor = reached(rows, rate=cell["rate"], scale=0.0)
        lines.append(
            [
                *_name(cell),
                report.cell(target),
                report.gain(target, floor) if cell["scale"] else "–",
                f"{min(target):.3f}",
                str(lost(rows, cell) - failed),
                str(failed),
                report.cell(reached(rows, "source", **cell)),
                "–" if failed else f"{worth(rows, cell):.3f}",
            ]
        )
    columns = ["rate", "λ", "ramp", "target accuracy", "− λ = 0", "lowest seed", "collapsed"]
    return report.table([*columns, "failed", "source accuracy", "validator"], lines)


def ramps(rows: Sequence[report.Row]) -> str:
    """λ at once, less λ by the ramp: a row a λ, a column a rate; lost runs of both."""
    rates = sorted({row["rate"] for row in rows})
    lines = []
    for scale in sorted({row["scale"] for row in rows} - {0.0}):
        line = [f"{scale:g}"]
        for rate in rates:
            slow, fast = (dict(rate=rate, scale=scale, gamma=gamma) for gamma in (SLOW, FAST))
            gain = report.gain(reached(rows, **fast), reached(rows, **slow))
            line.append(f"{gain} ({lost(rows, slow)} → {lost(rows, fast)})")
        lines.append(line)
    return report.table(["λ", *(f"rate {rate:g}" for rate in rates)], lines)


def chosen(rows: Sequence[report.Row]) -> dict[str, Cell]:
    """Who chooses -> the cell."""
    every = cells(rows)
    return {
        "information maximisation": max(every, key=lambda cell: worth(rows, cell)),
        "[dann.py](configs/dann.py)": shipped(),
        "*oracle: test accuracy*": max(every, key=lambda cell: np.mean(reached(rows, **cell))),
    }


def choices(rows: Sequence[report.Row]) -> str:
    """What each choice among all cells reaches, and its difference from the shipped one."""
    ours = reached(rows, **shipped())
    lines = []
    for who, cell in chosen(rows).items():
        target = reached(rows, **cell)
        gain = "–" if cell == shipped() else report.gain(target, ours)
        lines.append([who, *_name(cell), report.cell(target), gain, f"{min(target):.3f}"])
    columns = ["chosen by", "rate", "λ", "ramp", "target accuracy", "− dann.py", "lowest seed"]
    return report.table(columns, lines)


def rank_correlation(rows: Sequence[report.Row], among: Sequence[Cell]) -> str:
    """Spearman's, of validator and accuracy over cells, with their number."""
    from scipy.stats import spearmanr  # slow to import

    if len(among) < 3:
        return f"– ({len(among)})"
    accuracies = [np.mean(reached(rows, **cell)) for cell in among]
    found = spearmanr([worth(rows, cell) for cell in among], accuracies).statistic
    return f"{found:+.2f} ({len(among)})"


def correlations(rows: Sequence[report.Row]) -> str:
    """Over all cells and within each rate; with and without the cells that lost a run."""
    rates = sorted({row["rate"] for row in rows})
    groups = [cells(rows), *([c for c in cells(rows) if c["rate"] == rate] for rate in rates)]
    kept = [[cell for cell in group if not lost(rows, cell)] for group in groups]
    lines = [
        ["every cell", *(rank_correlation(rows, group) for group in groups)],
        ["that lost no run", *(rank_correlation(rows, group) for group in kept)],
    ]
    return report.table(["cells", "all rates", *(f"rate {rate:g}" for rate in rates)], lines)


def best(rows: Sequence[report.Row]) -> str:
    """The cell of the highest test accuracy at every rate, for a description."""
    said = []
    for rate in sorted({row["rate"] for row in rows}):
        at = [cell for cell in cells(rows) if cell["rate"] == rate]
        cell = max(at, key=lambda cell: np.mean(reached(rows, **cell)))
        _, scale, ramp = _name(cell)
        mean = np.mean(reached(rows, **cell))
        said.append(f"rate {rate:g}: λ {scale}, ramp {ramp}, {mean:.3f}")
    return f"The highest mean at each rate: {'; '.join(said)}."


def losses(rows: Sequence[report.Row]) -> str:
    """Which runs were lost: on both domains or on one, and from which λ · rate on."""
    gone = [row for row in rows if row["target"] is not None and row["target"] < COLLAPSED]
    both = sum(row["source"] < COLLAPSED for row in gone)
    failed = sum(row["target"] is None for row in rows)
    parts = [
        f"{len(gone)} of {len(rows)} runs collapsed, {both} of them on the source as well, and "
        f"{failed} failed."
    ]
    for gamma, name in NAMES.items():
        mine = [cell for cell in cells(rows) if cell["scale"] and cell["gamma"] == gamma]
        safe = [c["scale"] * c["rate"] for c in mine if not lost(rows, c)]
        broken = [c["scale"] * c["rate"] for c in mine if lost(rows, c)]
        largest, smallest = (
            f"{edge(values):.3g}" if values else "–"
            for edge, values in ((max, safe), (min, broken))
        )
        parts.append(
            f"Ramp {name}: the largest λ · rate that lost no run is {largest}, the smallest that "
            f"lost one {smallest}."
        )
    return " ".join(parts)


PROTOCOL = f"""The task of domain_shift and everything of [dann.py](configs/dann.py), but λ, its \
ramp and the learning rate; judged at the last step. At λ = 0 the discriminator only watches: \
source only. Means with 95 % t intervals; differences are paired by seed, bold where the \
interval excludes 0, uncorrected for their number. Collapsed: a target accuracy below \
{COLLAPSED}. Failed: numbers that were not finite; such a run leaves no classifier and counts as \
accuracy {FAILED:g} in every mean, difference and lowest seed. Where some seeds are lost, the \
accuracies fall into two heaps: read the counts, not the interval. Validator: information \
maximisation on the unlabelled target (nats), mean over the seeds. One data set and one network; \
test accuracy only describes: no setting is recommended by it."""

RAMP = f"""λ at full strength at once (γ {FAST:g}) − by the ramp (γ {SLOW:g}), paired by seed; \
in brackets the runs lost, which collapsed or failed, by the ramp → at once:"""

CHOICES = """What would be chosen among all cells by the validator, which reads no label (a cell \
with a failed run comes last), beside dann.py's own cell and the cell with the best of the test \
accuracies that are reported, which are flattered by it:"""

CORRELATIONS = """Rank correlation, over cells (their number in brackets), of the validator with \
target accuracy:"""


def section(rows: Sequence[report.Row]) -> str:
    """The markdown of RESULTS.md."""
    seeds = len({row["seed"] for row in rows})
    return "\n\n".join(
        [
            f"{len(cells(rows))} cells, {seeds} seeds. {PROTOCOL}",
            table(rows),
            f"{best(rows)} {losses(rows)}",
            *(RAMP, ramps(rows)),
            *(CHOICES, choices(rows)),
            *(CORRELATIONS, correlations(rows)),
        ]
    )

"""Where does DANN adapt, and where is its game lost? λ × ramp × learning rate × seeds.

    python -m experiments.ablation_dann.run [--seeds 5] [--workdir runs/ablation_dann]

Runs the cells of config.py over the seeds, prints the tables, and writes them into RESULTS.md, with
results.csv and the figure beside this file. Started again, it goes on where it was.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import frame
from experiments.ablation_dann import config, tables
from experiments.frame import Experiment, Results, Row
from tljax import metrics


def rows() -> dict[str, Row]:
    return {
        "-".join(f"{name}={value:g}" for name, value in cell.items()): Row(
            config.get_config,
            {config.FIELDS[name]: value for name, value in cell.items()},
            columns=cell,
        )
        for cell in config.cells()
    }


def figure(results: Results, path: Path) -> None:
    """A panel a rate: target accuracy over λ, a line a ramp, every seed as a dot."""
    scales, rates = (sorted(results.of(name)) for name in ("scale", "rate"))
    drawn = frame.blank_figure(11, 4.3)
    panels = drawn.subplots(1, len(rates), sharey=True, squeeze=False)[0]
    looks = {
        gamma: dict(color=colour, label=tables.NAMES[gamma], shift=shift)
        for gamma, colour, shift in zip(config.RAMPS, frame.PALETTE, (-0.08, 0.08), strict=False)
    }
    for panel, rate in zip(panels, rates, strict=True):
        nothing = dict(rate=rate, scale=0.0, gamma=tables.SLOW)
        floor = metrics.interval(tables.reached(results, nothing)).mean
        panel.axhline(floor, color="0.6", lw=1, ls=":", label="mean at λ = 0")
        _runs(panel, results, [nothing], [0.0], color="0.3", label="λ = 0")
        for gamma, look in looks.items():
            cells = tables.cells(results.where(rate=rate, gamma=gamma))
            cells = [cell for cell in cells if cell["scale"]]
            xs = [float(scales.index(cell["scale"])) for cell in cells]
            _runs(panel, results, cells, xs, **look)
        panel.set(title=f"rate {rate:g}", xlabel="λ", ylim=(-0.12, 1.04))
        panel.margins(x=0.1)
        panel.set_xticks(range(len(scales)), [f"{scale:g}" for scale in scales])
    panels[0].set_ylabel("target accuracy: mean, 95 % interval, seeds")
    panels[0].plot([], [], "x", color="0.3", label="failed run")
    below = dict(loc="outside lower center", ncols=5, frameon=False)
    drawn.legend(*panels[0].get_legend_handles_labels(), **below)
    frame.draw(drawn, path, grid="y")


def _runs(
    panel: Any,
    results: Results,
    cells: Sequence[tables.Cell],
    xs: Sequence[float],
    color: str,
    label: str,
    shift: float = 0.04,
) -> None:
    """Means with their intervals on one side of `xs`, the runs of each cell on the other."""
    intervals = [metrics.interval(tables.reached(results, cell)) for cell in cells]
    means, halves = zip(*intervals, strict=True)
    bars = None if math.inf in halves else halves
    look = dict(color=color, marker="o", ms=5, capsize=3, label=label)
    panel.errorbar([x + shift for x in xs], means, bars, **look)
    for x, cell in zip(xs, cells, strict=True):
        for value in results.where(**cell).values("target"):
            y, marker = (tables.FAILED, "x") if value is None else (value, "o")
            panel.plot(x + 2 * shift, y, marker, ms=4, mew=value is None, color=color, alpha=0.5)
        gone = tables.lost(results, cell)
        if gone:
            panel.text(x + 3.7 * shift, -0.09, f"{gone} lost", color=color, fontsize=8, ha="center")


EXPERIMENT = Experiment(
    folder=Path(__file__).parent,
    seeds=config.SEEDS,
    reads={
        "target": "target/accuracy",
        "source": "source/accuracy",
        "validator": "unlabelled/information_maximisation",
    },
    rows=rows,
    section=tables.section,
    figure=figure,
)

if __name__ == "__main__":
    frame.main(EXPERIMENT, __doc__)

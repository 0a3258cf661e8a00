"""Where does DANN adapt, and where is its game lost? λ × ramp × learning rate × seeds.

    python experiments/ablation_dann/run.py [--seeds 5] [--workdir runs/ablation_dann]

Runs the sweep of config.py, or reads its table where that holds every point; prints the tables, and
writes them into RESULTS.md, with results.csv and the figure beside this file. Started again, it
goes on where it was.
"""

import csv
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from experiments import report  # noqa: E402
from experiments.ablation_dann import config as ablation  # noqa: E402
from experiments.ablation_dann import tables  # noqa: E402
from tljax import experiment, metrics, plots, sweep  # noqa: E402
from tljax.errors import UserError  # noqa: E402
from tljax.report import load  # noqa: E402
from tljax.train.records import Display  # noqa: E402

HERE = Path(__file__).parent
FIELDS = {
    "rate": "optimizer.learning_rate",
    "scale": "terms.domain.scale",
    "gamma": "terms.domain.gamma",
    "seed": "seed",
}
METRICS = {
    "target": "target/accuracy",
    "source": "source/accuracy",
    "validator": "unlabelled/information_maximisation",
}


def collect(
    points: Sequence[Mapping[str, Any]],
    workdir: Path,
    shrink: report.Shrink = lambda config: None,
    display: Display | None = None,
) -> list[report.Row]:
    """Every point's run; a finished sweep, or what is finished of one, is only read."""
    config = ablation.get_config()
    shrink(config)
    places = {path for point in points for path in point}
    wanted = {_place(point, places) for point in points}
    rows = _finished(config, workdir)
    if not wanted <= {_place(row, places) for row in rows}:
        rows = sweep.run(config, points, workdir, display)
    rows = [row for row in rows if _place(row, places) in wanted]
    return [
        {
            **{name: row[path] for name, path in FIELDS.items()},
            "status": row["status"],
            **{name: row.get(path) for name, path in METRICS.items()},
        }
        for row in rows
    ]


def _place(row: Mapping[str, Any], paths: set[str]) -> tuple[Any, ...]:
    return tuple(row.get(path) for path in sorted(paths))


def _finished(config: Any, workdir: Path) -> list[dict[str, Any]]:
    """A sweep's table, if there is one of this config; fields it has gained since may be new."""
    try:
        swept, rows = load(workdir)
    except UserError:
        return []
    now = json.loads(json.dumps(experiment.resolve(config)))
    return rows if all(now.get(name) == value for name, value in swept.items()) else []


def read(path: Path = HERE / "results.csv") -> list[report.Row]:
    """The rows of results.csv."""
    with open(path, newline="") as file:
        return [
            {key: _value(key, text) for key, text in row.items()} for row in csv.DictReader(file)
        ]


def _value(key: str, text: str) -> Any:
    if key == "status":
        return text
    return None if text == "" else int(text) if key == "seed" else float(text)


def figure(rows: Sequence[report.Row], path: Path) -> None:
    """A panel a rate: target accuracy over λ, a line a ramp, every seed as a dot."""
    from matplotlib.figure import Figure  # slow to import

    scales, rates = (sorted({row[name] for row in rows}) for name in ("scale", "rate"))
    drawn = Figure(figsize=(11, 4.3), dpi=150, layout="constrained")
    grid = drawn.subplots(1, len(rates), sharey=True, squeeze=False)[0]
    looks = {
        gamma: dict(color=colour, label=tables.NAMES[gamma], shift=shift)
        for gamma, colour, shift in zip(ablation.RAMPS, plots.PALETTE, (-0.08, 0.08), strict=False)
    }
    for panel, rate in zip(grid, rates, strict=True):
        nothing = dict(rate=rate, scale=0.0, gamma=tables.SLOW)
        floor = metrics.interval(tables.reached(rows, **nothing)).mean
        panel.axhline(floor, color="0.6", lw=1, ls=":", label="mean at λ = 0")
        _runs(panel, rows, [nothing], [0.0], color="0.3", label="λ = 0")
        for gamma, look in looks.items():
            cells = [
                cell
                for cell in tables.cells(rows)
                if cell["scale"] and (cell["rate"], cell["gamma"]) == (rate, gamma)
            ]
            xs = [float(scales.index(cell["scale"])) for cell in cells]
            _runs(panel, rows, cells, xs, **look)
        panel.set(title=f"rate {rate:g}", xlabel="λ", ylim=(-0.12, 1.04))
        panel.margins(x=0.1)
        panel.set_xticks(range(len(scales)), [f"{scale:g}" for scale in scales])
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color="0.92")
    grid[0].set_ylabel("target accuracy: mean, 95 % interval, seeds")
    grid[0].plot([], [], "x", color="0.3", label="failed run")
    below = dict(loc="outside lower center", ncols=5, frameon=False)
    drawn.legend(*grid[0].get_legend_handles_labels(), **below)
    drawn.savefig(path, format="png", metadata={"Software": None})


def _runs(
    panel: Any,
    rows: Sequence[report.Row],
    cells: Sequence[tables.Cell],
    xs: Sequence[float],
    color: str,
    label: str,
    shift: float = 0.04,
) -> None:
    """Means with their intervals on one side of `xs`, the runs of each cell on the other."""
    found = [metrics.interval(tables.reached(rows, **cell)) for cell in cells]
    means, halves = zip(*found, strict=True)
    bars = None if math.inf in halves else halves
    look = dict(color=color, marker="o", ms=5, capsize=3, label=label)
    panel.errorbar([x + shift for x in xs], means, bars, **look)
    for x, cell in zip(xs, cells, strict=True):
        values = report.values(rows, "target", **cell)
        for value in values:
            y, marker = (tables.FAILED, "x") if value is None else (value, "o")
            panel.plot(x + 2 * shift, y, marker, ms=4, mew=value is None, color=color, alpha=0.5)
        gone = tables.lost(rows, cell)
        if gone:
            panel.text(x + 3.7 * shift, -0.09, f"{gone} lost", color=color, fontsize=8, ha="center")


def main() -> None:
    given = report.arguments(__doc__, "ablation_dann", len(ablation.SEEDS))
    sweep.use_all_cores()
    points = [point for point in ablation.sweep() if point["seed"] < given.seeds]
    rows = collect(points, given.workdir, display=Display())
    text = tables.section(rows)
    print(text)
    report.save(rows, HERE / "results.csv")
    figure(rows, HERE / "results.png")
    report.write(text, "ablation_dann", ROOT / "RESULTS.md")


if __name__ == "__main__":
    main()

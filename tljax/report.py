"""What a sweep says: curves with bands, the effect of every swept field, the best by validation."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tljax import metrics, plots
from tljax.errors import unknown, wrong
from tljax.opening import EVALUATION
from tljax.train.records import read

Row = Mapping[str, Any]
LOWER = ("loss", "entropy")  # metrics of which less is better
USUAL = ("information_maximisation", "accuracy")  # chosen by: without labels, for validation


def choices(config: Mapping[str, Any]) -> list[str]:
    """The evaluations that a choice may read: those without labels, and those for validation."""
    evaluations = {name: {**EVALUATION, **own} for name, own in config["evaluate"].items()}
    blind = [name for name in evaluations if not labelled(name, config)]
    return [*blind, *(name for name, own in evaluations.items() if own["validation"])]


def labelled(evaluation: str, config: Mapping[str, Any]) -> bool:
    """Whether an evaluation reads labels."""
    return {**EVALUATION, **config["evaluate"][evaluation]}["labelled"]


def load(workdir: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(the swept config, the rows of the table).

    Raises:
      UserError: a directory that holds no sweep, or one that has not ended yet.
    """
    try:
        config = json.loads((workdir / "config.json").read_text())["sweep"]
        with open(workdir / "results.csv", newline="") as file:
            rows = [
                # A name such as 12e4 is no number.
                {k: v if k == "member" else _value(v) for k, v in row.items()}
                for row in csv.DictReader(file)
            ]
    except (OSError, KeyError, ValueError):
        raise wrong("report", str(workdir), "the directory of a sweep that has ended") from None
    return config, rows


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return None if text == "" else text


def swept(rows: Sequence[Row]) -> list[str]:
    """The fields that were swept: the columns between the status and the metrics."""
    columns = [key for key in rows[0] if key not in ("member", "status") and "/" not in key]
    return columns


def grouped(rows: Sequence[Row]) -> dict[tuple[Any, ...], list[Row]]:
    """Rows that differ in the seed alone, by the values of the other swept fields."""
    fields = [field for field in swept(rows) if field != "seed"]
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[field] for field in fields), []).append(row)
    return found


def readable(select: str, config: Mapping[str, Any]) -> str:
    """The evaluation of "EVALUATION/METRIC", if a choice may read it.

    Raises:
      UserError: one that is not there, or that reads labels which no choice may read.
    """
    evaluation = select.partition("/")[0]
    allowed = choices(config)
    if evaluation not in allowed:
        if evaluation in config["evaluate"]:
            raise wrong(
                "--select", select, "an evaluation without labels, or one with validation=True: "
                "what is chosen by test labels is no result"
            )  # fmt: skip
        raise unknown("--select", evaluation, allowed)
    return evaluation


def lower(select: str) -> bool:
    """Whether less of the metric is better."""
    return select.partition("/")[2] in LOWER


def best(rows: Sequence[Row], select: str, config: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """The points by the mean of what is selected by, the best first; failed runs count as worst.

    Raises:
      UserError: a metric that is not there, or one that reads labels which no choice may read.
    """
    evaluation = readable(select, config)
    if select not in rows[0]:
        known = [key for key in rows[0] if key.startswith(f"{evaluation}/")]
        raise unknown("--select", select, known)
    sign = -1 if lower(select) else 1

    def worth(group: Sequence[Row]) -> float:
        values = [row[select] for row in group]
        if any(value is None for value in values):
            return -float("inf")
        return sign * sum(values) / len(values)

    groups = grouped(rows)
    return sorted(groups, key=lambda point: worth(groups[point]), reverse=True)


def default(config: Mapping[str, Any]) -> str:
    """What is selected by where nothing is said; "" where nothing may be."""
    for evaluation in choices(config):
        return f"{evaluation}/{USUAL[labelled(evaluation, config)]}"
    return ""


def show(directory: str | Path, select: str = "") -> None:
    """Prints the table of a sweep, the best point first, and draws its figures into `report/`.

    Args:
      directory: of the sweep.
      select: "EVALUATION/METRIC" to choose by; the first label-free evaluation's if left out.

    Raises:
      UserError: no sweep there, or a selection that may not be made.
    """
    workdir, console = Path(directory), Console()
    config, rows = load(workdir)
    failed = all(row["status"] != "finished" for row in rows)
    select = "" if failed else select or default(config)
    groups = grouped(rows)
    order = best(rows, select, config) if select else list(groups)
    fields = [field for field in swept(rows) if field != "seed"]
    shown = [key for key in rows[0] if key.endswith("/accuracy")]
    shown = [*([select] if select else []), *(key for key in shown if key != select)]
    table = Table(title=f"{config['method']}: by {select}" if select else str(config["method"]))
    for column in (*fields, "runs", *shown):
        table.add_column(column)
    lines = ["| " + " | ".join((*fields, "runs", *shown)) + " |"]
    lines.append("|" + "---|" * (len(fields) + 1 + len(shown)))
    for point in order:
        group = groups[point]
        cells = [*map(short, point), str(len(group)), *(_cell(group, key) for key in shown)]
        table.add_row(*cells)
        lines.append("| " + " | ".join(cells) + " |")
    console.print(table)
    if failed:
        console.print("No choice is made: every run failed")
    elif not select:
        console.print(
            "No choice is made: no evaluation is without labels (labelled=False) or for "
            "validation (validation=True)"
        )
    folder = workdir / "report"
    folder.mkdir(exist_ok=True)
    (folder / "report.md").write_text("\n".join(lines) + "\n")
    draw(workdir, rows, folder)
    console.print(f"Figures and the table as markdown: {folder}")


def _cell(group: Sequence[Row], key: str) -> str:
    return cell([row[key] for row in group if row[key] is not None])


def cell(values: Sequence[float]) -> str:
    """The mean of runs, with its 95 % interval where there are several."""
    if not values:
        return "failed"
    mean, half = metrics.interval(values)
    return f"{mean:.3f}" if len(values) < 2 else f"{mean:.3f} ± {half:.3f}"


def short(value: Any) -> str:
    """A value for a person to read: a number as it was drawn has too many digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def draw(workdir: Path, rows: Sequence[Row], folder: Path) -> None:
    """`curves_EVALUATION.png` and `effects_EVALUATION.png` of every evaluation's accuracy."""
    fields = [field for field in swept(rows) if field != "seed"]
    for key in [key for key in rows[0] if key.endswith("/accuracy")]:
        evaluation = key.partition("/")[0]
        curves: dict[str, list[dict[int, float]]] = {}
        for point, group in grouped(rows).items():
            said = (f"{f} {short(v)}" for f, v in zip(fields, point, strict=True))
            label = ", ".join(said) or "all runs"
            curves[label] = [
                _curve(workdir / "members" / row["member"], evaluation) for row in group
            ]
        plots.bands(curves, folder / f"curves_{evaluation}.png", f"accuracy on {evaluation}")
        effects = {
            field: [
                (
                    float(short(value)) if isinstance(value, float) else value,
                    [r[key] for r in rows if r[field] == value and r[key] is not None],
                )
                for value in sorted({row[field] for row in rows}, key=lambda v: (str(type(v)), v))
            ]
            for field in fields
        }
        plots.effects(effects, folder / f"effects_{evaluation}.png", f"accuracy on {evaluation}")


def _curve(member: Path, evaluation: str) -> dict[int, float]:
    """Step -> accuracy, of the last phase that was evaluated."""
    records = [r for r in read(member) if r["kind"] == evaluation and "accuracy" in r]
    last = records[-1]["phase"] if records else ""
    return {r["step"]: r["accuracy"] for r in records if r["phase"] == last}

"""What a sweep says: curves with bands, the effect of every swept field, the best by validation."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tljax.errors import warn, wrong
from tljax.experiment.choice import Row, best, cell, default, grouped, short, swept
from tljax.experiment.workdir import recorded
from tljax.report import figures
from tljax.train import files
from tljax.train.records import read


def load(workdir: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(the swept config, the rows of the table).

    Raises:
      UserError: a directory that holds no sweep, or one that has not ended yet.
    """
    config, path = recorded(workdir), workdir / "results.csv"
    if not config.sweep:
        raise wrong("report", str(workdir), "the directory of a sweep, not of one run")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise wrong("report", str(workdir), "the directory of a sweep that has ended") from None
    except (OSError, ValueError) as error:
        raise wrong("report", str(path), f"a table of ours ({error})") from None
    lines = list(csv.reader(text.splitlines()))
    whole = text.endswith("\n") and len({len(line) for line in lines}) == 1 and len(lines) > 1
    if not whole or lines[0][:2] != ["member", "status"]:
        expected = "a whole table; it is empty, cut short or damaged: the sweep's own command, run "
        raise wrong("report", str(path), expected + "again, makes it anew from its members")
    ended = {path.parent.name for path in workdir.glob("members/*/result.json")}
    if missing := len(ended - {line[0] for line in lines}):
        warn(f"{path} lacks {missing} members that have ended")
    # A name such as 12e4 is no number.
    return config.config, [
        {k: v if k == "member" else _value(v) for k, v in zip(lines[0], line, strict=True)}
        for line in lines[1:]
    ]


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return None if text == "" else text


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
    columns = (*fields, "runs", *shown)
    title = f"{config['method']}: by {select}" if select else str(config["method"])
    table = Table(*columns, title=title)
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for point in order:
        group = groups[point]
        cells = [*map(short, point), str(len(group)), *(_cell(group, key) for key in shown)]
        table.add_row(*cells)
        lines.append("| " + " | ".join(cells) + " |")
    console.print(table)
    if failed:
        console.print("No choice is made: every run failed")
    elif not select:
        without = "no evaluation is without labels (labelled=False) or for validation"
        console.print(f"No choice is made: {without} (validation=True)")
    folder = workdir / "report"
    try:
        folder.mkdir(exist_ok=True)
        files.write(folder / "report.md", "\n".join(lines) + "\n")
        draw(workdir, rows, folder)
    except OSError as error:
        console.print(f"Nothing is drawn: {folder} cannot be written ({error.strerror})")
    else:
        console.print(f"Figures and the table as markdown: {folder}")


def _cell(group: Sequence[Row], key: str) -> str:
    return cell([row[key] for row in group if row[key] is not None])


def draw(workdir: Path, rows: Sequence[Row], folder: Path) -> None:
    """`curves_EVALUATION.png` and `effects_EVALUATION.png` of every evaluation's accuracy."""
    fields = [field for field in swept(rows) if field != "seed"]
    for key in [key for key in rows[0] if key.endswith("/accuracy")]:
        evaluation = key.partition("/")[0]
        curves: dict[str, list[dict[int, float]]] = {}
        for point, group in grouped(rows).items():
            values = (f"{f} {short(v)}" for f, v in zip(fields, point, strict=True))
            members = [workdir / "members" / row["member"] for row in group]
            label = ", ".join(values) or "all runs"
            curves[label] = [_curve(member, evaluation) for member in members]
        figures.bands(curves, folder / f"curves_{evaluation}.png", f"accuracy on {evaluation}")
        effects: dict[str, list[tuple[Any, list[float]]]] = {field: [] for field in fields}
        for field in fields:
            for value in sorted({row[field] for row in rows}, key=lambda v: (str(type(v)), v)):
                results = [r[key] for r in rows if r[field] == value and r[key] is not None]
                shown = float(short(value)) if isinstance(value, float) else value
                effects[field].append((shown, results))
        figures.effects(effects, folder / f"effects_{evaluation}.png", f"accuracy on {evaluation}")


def _curve(member: Path, evaluation: str) -> dict[int, float]:
    """Step -> accuracy, of the last phase that was evaluated."""
    try:
        records = [r for r in read(member) if r["kind"] == evaluation and "accuracy" in r]
    except OSError as error:
        warn(f"{error.filename}: {error.strerror}; its curve is left out")
        return {}
    last = records[-1]["phase"] if records else ""
    return {r["step"]: r["accuracy"] for r in records if r["phase"] == last}

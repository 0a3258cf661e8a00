"""What the experiments share: arguments, runs that go on where they were, tables, sections.

An experiment is a folder with a README (the question and the protocol), `tune.py` (its choices, on
seeds and splits that no result uses), `run.py` (the result, over fresh seeds) and what they wrote.
"""

import argparse
import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tljax import experiment, metrics

ROOT = Path(__file__).resolve().parents[1]

Row = dict[str, Any]  # one run: its method, seed and settings, what it reached, its seconds
Shrink = Callable[[Any], None]  # makes a config small, for the tests


def arguments(doc: str | None, name: str, seeds: int) -> argparse.Namespace:
    """`--seeds` and `--workdir` of an experiment."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--workdir", type=Path, default=ROOT / "runs" / name)
    return parser.parse_args()


def run(config: Any, workdir: Path, shrink: Shrink = lambda config: None) -> Row:
    """Runs a config without figures, or reads what it reached before.

    Returns:
      evaluation name -> its metrics, and `seconds`, the wall time of the process that ended it.
    """
    config.figures = False
    shrink(config)
    result = experiment.run(config, workdir)
    seconds = json.loads((workdir / "timing.json").read_text())["seconds"]
    return {**result["evaluations"], "seconds": seconds}


def values(rows: Sequence[Row], metric: str, **settings: Any) -> list[float]:
    """A metric of the rows with these settings, by seed."""
    chosen = [row for row in rows if all(row[key] == value for key, value in settings.items())]
    return [row[metric] for row in sorted(chosen, key=lambda row: row["seed"])]


def cell(numbers: Sequence[float]) -> str:
    """Mean and 95 % t interval over seeds."""
    return str(metrics.interval(numbers))


def gain(ours: Sequence[float], baseline: Sequence[float]) -> str:
    """The difference paired by seed, with its interval; bold where the interval excludes 0."""
    found = metrics.interval([a - b for a, b in zip(ours, baseline, strict=True)])
    text = f"{found.mean:+.3f} ± {found.half_width:.3f}"
    return f"**{text}**" if abs(found.mean) > found.half_width else text


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def save(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes rows as CSV, a column a field."""
    fields = list(dict.fromkeys(key for row in rows for key in row))
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(rows)


def write(section: str, name: str, path: Path) -> None:
    """Puts a section between the markers of `name` in a markdown file."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = path.read_text().partition(begin)
    if not rest:
        raise SystemExit(f"{path} has no line {begin}")
    after = rest.partition(end)[2]
    path.write_text(f"{before}{begin}\n\n{section}\n\n{end}{after}")

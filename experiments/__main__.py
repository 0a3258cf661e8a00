"""Runs experiments one after another, and says beforehand how long what is written took.

python -m experiments [NAME ...] [--say]

What has finished in `runs/` is only read, so that what runs is what has changed. A table that was
run in parts takes longer than its lines did; a line of before there was a frame does not tell.
"""

import argparse
import importlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments import frame
from experiments.report import Results
from tljax.errors import unknown

LONG = 180  # minutes, from which on a table is better run in parts


def names() -> list[str]:
    """All experiments, those of the README's table first."""
    there = {path.parent.name for path in Path(__file__).parent.glob("*/run.py")}
    return [*frame.HEADLINES, *sorted(there - {*frame.HEADLINES})]


def minutes(lines: Results) -> float | None:
    """What the lines took; None where they do not tell, or nothing has been run."""
    took = [line["seconds"] for line in lines if line.get("seconds") is not None]
    return sum(took) / 60 if took else None


def said(found: Mapping[str, Results]) -> list[str]:
    """A line an experiment, and one for all."""
    told = []
    for name, lines in found.items():
        took = minutes(lines)
        time = "an unknown time" if took is None else f"{took:.0f} min"
        long = ", better in parts (--only)" if took is not None and took > LONG else ""
        told.append(f"{name}: the {len(lines)} lines that are written took {time}{long}")
    total = sum(minutes(lines) or 0.0 for lines in found.values()) / 60
    return [*told, f"all: {total:.1f} h where it is known"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Says it and runs them; the number of those that failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--say", action="store_true", help="run nothing")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in names():
            print(unknown("NAME", name, names()), file=sys.stderr)
            raise SystemExit(2)
    found = {}
    for name in options.names or names():
        declared = importlib.import_module(f"experiments.{name}.run").EXPERIMENT
        written = (declared.folder / declared.file).exists()
        found[name] = declared.read() if written else Results()
    print(*said(found), sep="\n", flush=True)
    failed = []
    for name in () if options.say else found:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"experiments.{name}.run"]).returncode:
            failed.append(name)
    if failed:
        print(f"failed, and left as they were: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())

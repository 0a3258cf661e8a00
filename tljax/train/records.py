"""What a run writes as it goes: one JSON line a record, and what a terminal shows."""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tljax.errors import UserError


class Records:
    """`metrics.jsonl`, append-only, and TensorBoard events if asked for.

    A record holds `phase`, `step`, `kind` ("train" or the name of an evaluation) and numbers; no
    times, so that an interrupted run leaves the same lines as an uninterrupted one.
    """

    def __init__(self, workdir: Path, tensorboard: bool = False):
        self.path = workdir / "metrics.jsonl"
        self._events = _event_writer(workdir) if tensorboard else None
        self._file = open(self.path, "a")

    def write(self, phase: str, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Appends a record."""
        record = {"phase": phase, "step": step, "kind": kind, **values}
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        if self._events:
            for name, value in values.items():
                self._events.add_scalar(f"{phase}/{kind}/{name}", value, step)

    def flush(self) -> None:
        """Puts all records on disk; before a checkpoint, so that none of its past can be lost."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def rewind(self, phases: list[str], step: int) -> None:
        """Drops the records after `step` of the last of `phases`, and of any other phase.

        A line cut short by a kill is dropped as well.
        """
        self._file.close()
        kept = [
            line
            for line, record in _lines(self.path)
            if record["phase"] in phases[:-1]
            or (phases and record["phase"] == phases[-1] and record["step"] <= step)
        ]
        partial = self.path.with_name("metrics.partial")
        partial.write_text("".join(kept))
        partial.replace(self.path)
        self._file = open(self.path, "a")

    def close(self) -> None:
        """Flushes and lets the files go."""
        self.flush()
        self._file.close()
        if self._events:
            self._events.close()


class Muted(Records):
    """The records of a process that is not the leader: none."""

    def _nothing(self, *args: Any, **fields: Any) -> None:
        pass

    __init__ = write = flush = rewind = close = _nothing


class Kept(Muted):
    """Records in a list, of a phase that is run from Python."""

    def __init__(self, records: list[dict[str, Any]]):
        self.records = records

    def write(self, phase: str, step: int, kind: str, values: Mapping[str, float]) -> None:
        self.records.append({"phase": phase, "step": step, "kind": kind, **values})


def read(workdir: Path) -> list[dict[str, Any]]:
    """All whole records of a run, in order."""
    return [record for _, record in _lines(workdir / "metrics.jsonl")]


def _lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    lines = []
    for line in path.read_text().splitlines(keepends=True):
        try:
            lines.append((line, json.loads(line)))
        except json.JSONDecodeError:
            break
    return lines


def _event_writer(workdir: Path) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise UserError(
            "tensorboard: got True, but tensorboardX is not installed; pip install 'tljax[tb]'"
        ) from None
    return SummaryWriter(str(workdir / "events"))


class Display:
    """Progress and tables for a person: rich on a terminal, plain lines elsewhere."""

    def __init__(self, quiet: bool = False):
        self.console = Console(stderr=True, quiet=quiet)
        self._bar: Progress | None = None
        self._began = (time.monotonic(), 0)

    def begin(self, phase: str, steps: int, step: int) -> None:
        """A phase begins, or goes on, at `step` of `steps`."""
        self.end()
        self._began = (time.monotonic(), step)
        if self.console.is_terminal and not self.console.quiet:
            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self.console,
            )
            self._bar.start()
            self._task = self._bar.add_task(phase, total=steps, completed=step, rate="", note="")
        else:
            self.console.print(f"phase {phase}: from step {step} to {steps}")

    def advance(self, step: int) -> None:
        """`step` steps of the phase have been dispatched."""
        if self._bar:
            began, first = self._began
            rate = (step - first) / max(time.monotonic() - began, 1e-6)
            self._bar.update(self._task, completed=step, rate=f"{rate:.0f} steps/s")

    def note(self, step: int, values: Mapping[str, float]) -> None:
        """An evaluation at `step`."""
        text = "  ".join(f"{name} {value:.3f}" for name, value in values.items())
        if self._bar:
            self._bar.update(self._task, note=text)
        else:
            self.console.print(f"  step {step}: {text}", highlight=False)

    def say(self, text: str) -> None:
        """A line."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def table(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        """A table on standard output: drawn on a terminal, separated by tabs elsewhere."""
        if self.console.quiet:
            return
        if not sys.stdout.isatty():
            print("\n".join("\t".join(row) for row in [columns, *rows]), flush=True)
            return
        table = Table(*columns, title=title)
        for row in rows:
            table.add_row(*row)
        Console().print(table)

    def end(self) -> None:
        """Takes the progress bar down."""
        if self._bar:
            self._bar.stop()
            self._bar = None

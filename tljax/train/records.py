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

from tljax.errors import UserError, warn
from tljax.train import files


class Records:
    """`metrics.jsonl`, append-only, and TensorBoard events if asked for.

    A record holds `phase`, `step`, `kind` ("train" or the name of an evaluation) and numbers; no
    times, so that an interrupted run leaves the same lines as an uninterrupted one. Lines that are
    no records are taken out when the file is opened, with a warning that counts them.
    """

    def __init__(self, workdir: Path, tensorboard: bool = False):
        self.path = workdir / "metrics.jsonl"
        self._events = _event_writer(workdir) if tensorboard else None
        self._file: Any = None  # opened by the first record: a finished run may lie read-only
        if self.path.exists():
            self._keep(_lines(self.path))

    def write(self, phase: str, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Appends a record."""
        record = {"phase": phase, "step": step, "kind": kind, **values}
        self._file = self._file or open(self.path, "a")
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        if self._events:
            for name, value in values.items():
                self._events.add_scalar(f"{phase}/{kind}/{name}", value, step)

    def flush(self) -> None:
        """Puts all records on disk; before a checkpoint, so that none of its past can be lost."""
        if self._file:
            self._file.flush()
            os.fsync(self._file.fileno())

    def rewind(self, phases: list[str], step: int) -> None:
        """Drops the records after `step` of the last of `phases`, and of any other phase."""
        self._close()
        lines = _lines(self.path) if self.path.exists() else []
        kept = [
            (line, record)
            for line, record in lines
            if record["phase"] in phases[:-1]
            or (phases and record["phase"] == phases[-1] and record["step"] <= step)
        ]
        self._keep(kept)

    def all(self) -> list[dict[str, Any]]:
        """The records that are there."""
        self.flush()
        return [record for _, record in _lines(self.path)] if self.path.exists() else []

    def _keep(self, lines: list[tuple[str, dict[str, Any]]]) -> None:
        """Leaves these lines alone in the file."""
        text = "".join(line for line, _ in lines)
        if not self.path.exists() or self.path.read_bytes() != text.encode():
            files.write(self.path, text)

    def _close(self) -> None:
        self.flush()
        if self._file:
            self._file.close()
            self._file = None

    def close(self) -> None:
        """Flushes and lets the files go."""
        self._close()
        if self._events:
            self._events.close()


class Muted(Records):
    """The records of a process that is not the leader: none."""

    def _nothing(self, *args: Any, **fields: Any) -> None:
        pass

    __init__ = write = flush = rewind = close = _nothing

    def all(self) -> list[dict[str, Any]]:
        return []


class Kept(Muted):
    """Records in a list, of a phase that is run from Python."""

    def __init__(self, records: list[dict[str, Any]]):
        self.records = records

    def write(self, phase: str, step: int, kind: str, values: Mapping[str, float]) -> None:
        self.records.append({"phase": phase, "step": step, "kind": kind, **values})


def read(workdir: Path) -> list[dict[str, Any]]:
    """All whole records of a run, in order; what else is in the file is counted in a warning."""
    return [record for _, record in _lines(workdir / "metrics.jsonl")]


def _lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The lines that are records, each with its record."""
    kept, damaged = [], []
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:  # of JSON or of UTF-8
            record = None
        if isinstance(record, dict) and _KINDS.items() <= _kinds(record).items():
            kept.append((line.decode().rstrip("\r\n") + "\n", record))
        elif number < len(lines) or line.endswith(b"\n"):  # else a kill has cut it short
            damaged.append(number)
    if damaged:
        warn(
            f"{path}: {len(damaged)} of {len(lines)} lines are no records of ours, or damaged "
            f"(line {', '.join(map(str, damaged[:5]))}{', …' if damaged[5:] else ''}): left out"
        )
    return kept


_KINDS = {"phase": str, "step": int, "kind": str}


def _kinds(record: dict[str, Any]) -> dict[str, type]:
    return {name: type(value) for name, value in record.items()}


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

    def begin(self, phase: str, steps: int, step: int, unit: str = "steps") -> None:
        """A phase begins, or goes on, at `step` of `steps`; or what counts in another unit."""
        self.end()
        self._unit = unit
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
        elif unit == "steps":
            self.console.print(f"phase {phase}: from step {step} to {steps}")

    def advance(self, step: int) -> None:
        """`step` steps of the phase have been dispatched."""
        if self._bar:
            began, first = self._began
            rate = (step - first) / max(time.monotonic() - began, 1e-6)
            self._bar.update(self._task, completed=step, rate=f"{rate:.0f} {self._unit}/s")

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

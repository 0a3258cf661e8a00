"""Many runs of a config, with some fields changed, as few programs: a grid, a directory, a table.

Runs that differ in numbers alone (seeds, weights, rates, ramps) share one compiled program and its
calls (`run.py`). Every member leaves what a run of its own would leave, in `members/NAME/`.
"""

import ast
import csv
import hashlib
import itertools
import json
import os
import runpy
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from tljax.errors import UserError, wrong
from tljax.experiment import results
from tljax.experiment.build import build
from tljax.experiment.check import Checked, change, check, literal, resolve
from tljax.experiment.fields import Config, blank, plain
from tljax.experiment.group import Unit, finish, fitting, structure
from tljax.experiment.opening import Opened
from tljax.train import lanes, loop
from tljax.train.checkpoint import write_json
from tljax.train.records import Display

Point = Mapping[str, Any]  # path of a field, "terms.domain.weight" -> value


class Member(NamedTuple):
    """One run of a sweep."""

    name: str  # of its directory; the same for the same resolved config
    point: Point
    config: Checked


def parse(over: Sequence[str]) -> list[Point]:
    """The grid of `PATH=VALUES` arguments: every combination of their values.

    Values are Python literals with commas between them, or `range(...)`; what is no literal is a
    string: `terms.domain.weight=0,0.1,1`, `seed=range(10)`, `optimizer.name=sgd,adam`.

    Raises:
      UserError: an argument without values, or a path that is given twice.
    """
    fields: dict[str, list[Any]] = {}
    for argument in over:
        path, equals, text = argument.partition("=")
        if not equals or not path or not text.strip():
            raise wrong("--over", argument, "PATH=VALUES, as terms.domain.weight=0,0.1,1")
        if path in fields:
            raise wrong("--over", argument, f"each field once; {path!r} is given twice")
        fields[path] = values(text, argument)
    return [
        dict(zip(fields, values, strict=True)) for values in itertools.product(*fields.values())
    ]


def values(text: str, argument: str) -> list[Any]:
    """What stands after the `=` of an argument, or in the brackets of a distribution."""
    text = text.strip()
    if text.startswith("range(") and text.endswith(")"):
        try:
            bounds = ast.literal_eval(f"({text[6:-1]},)")
            return list(range(*bounds))
        except (ValueError, SyntaxError, TypeError):
            raise wrong("--over", argument, "range(stop) or range(start, stop[, step])") from None
    try:
        listed = ast.literal_eval(f"[{text}]")
    except (ValueError, SyntaxError):
        listed = [literal(part) for part in text.split(",")]
    if not listed:
        raise wrong("--over", argument, "at least one value")
    return listed


def own(path: str | os.PathLike) -> list[Point]:
    """The points that a config file's own `sweep()` yields.

    Raises:
      UserError: a file without it.
    """
    scope = runpy.run_path(str(path))
    if "sweep" not in scope:
        raise wrong("--over", None, f"PATH=VALUES, or a sweep() in {path} that yields overrides")
    return [dict(point) for point in scope["sweep"]()]


def use_all_cores() -> None:
    """Makes every core of a CPU a device, so that members run side by side.

    To be called before anything is computed; without effect on an accelerator, or where
    JAX_NUM_CPU_DEVICES says otherwise.
    """
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))


def members(config: Config, points: Iterable[Point]) -> list[Member]:
    """The runs of a sweep, each once.

    Raises:
      UserError: a field that is not there, or a value of another kind than it has.
    """
    by_name: dict[str, Member] = {}
    unchanged = plain(config)
    for point in points:
        changed = unchanged
        for path, value in point.items():
            changed = change(changed, path, value, "--over")
        try:
            checked = check(changed)
        except UserError as error:
            raise UserError(f"--over {dict(point)}: {error}") from None
        text = json.dumps(checked.plain, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:12]
        by_name.setdefault(name, Member(name, dict(point), checked))
    if not by_name:
        raise wrong("--over", [], "at least one field to change, as seed=range(5)")
    return list(by_name.values())


def run(
    config: Config,
    points: Iterable[Point],
    workdir: str | os.PathLike,
    display: Display | None = None,
    together: int | None = None,
    part: int = 0,
    parts: int = 1,
) -> list[dict[str, Any]]:
    """Runs a config at every point, or what is left of it, and returns the table's rows.

    Args:
      config: from a config file, or `blank()` filled in.
      points: what is changed: field -> value, for every run.
      workdir: gets `members/NAME/` of every run, `results.csv` and `results.parquet`. Members that
        have finished are not run again, however the sweep has been widened since.
      display: where progress is shown; nowhere if left out.
      together: the most members of a program; as many as fit in memory if left out.
      part, parts: which members this process runs, every `parts`-th from `part` on; other
        processes of the same sweep, with the same workdir, run the others.

    Returns:
      A row a member that has finished: its name, status, swept fields and metrics.

    Raises:
      UserError: a mistake in the config or a point.
      Stopped: SIGTERM or SIGINT came; what was done has been saved.
    """
    display, workdir, began = display or Display(quiet=True), Path(workdir), time.monotonic()
    chosen = members(config, points)
    _claim(workdir, config)
    if not 0 <= part < parts:
        raise wrong("--process_id", part, f"a number from 0 to {parts - 1}")
    ours = chosen[part::parts]
    left = [member for member in ours if not _done(member, workdir).exists()]
    done = len(ours) - len(left)
    display.say(f"{len(ours)} of {len(chosen)} runs are ours, of which {done} have finished")
    units = built(left, workdir)
    for unit in units:
        results.claim(unit.workdir, unit.built.config.plain, blank().to_dict())
    groups: dict[Any, list[Unit]] = {}
    for unit in units:
        groups.setdefault(structure(unit), []).append(unit)
    with loop.stop_on_signals() as stop:
        for group in groups.values():
            size = together or fitting(group[0]) * lanes.mesh().size
            for first in range(0, len(group), size):
                _run(group[first : first + size], workdir / "batches", display, stop)
    rows = collect([member for member in chosen if _done(member, workdir).exists()], workdir)
    write(rows, workdir)
    if len(rows) < len(chosen):
        display.say(f"the table has {len(rows)} of {len(chosen)} runs; other processes have others")
    write_json(workdir / "timing.json", results.timing(began))
    failed = [row for row in rows if row["status"] != "finished"]
    for row in failed:
        display.say(f"{row['member']} {row['status']}")
    return rows


def _done(member: Member, workdir: Path) -> Path:
    """The file that a member leaves last."""
    return workdir / "members" / member.name / "result.json"


def _run(units: Sequence[Unit], directory: Path, display: Display, stop: loop.Stop) -> None:
    """Runs units of one structure, and leaves `result.json` in each one's directory."""
    name = hashlib.sha256("".join(unit.name for unit in units).encode()).hexdigest()[:12]
    finals, failed = finish(units, directory / name, display, stop, loop.leave)
    for unit, variables, fault in zip(units, finals, failed, strict=True):
        built, judged = unit.built, {}
        if not fault:
            judged = results.judge(built.network, variables, built.splits.values())
        last = list(variables.values())[-1]
        result = results.assemble(built.config, last, judged, built.splits)
        write_json(unit.workdir / "result.json", {**result, **({"failed": fault} if fault else {})})


def built(chosen: Iterable[Member], workdir: Path) -> list[Unit]:
    """Members ready to run, their data shared; nothing is written.

    Raises:
      UserError: a mistake that only a built run shows, with the point where it is.
    """
    opened, units = Opened({}, {}), []
    for member in chosen:
        try:
            ready = build(member.config, opened)
        except UserError as error:
            raise UserError(f"at {dict(member.point)}: {error}") from None
        units.append(Unit(member.name, ready, workdir / "members" / member.name))
    return units


def _claim(workdir: Path, config: Config) -> None:
    """Makes the directory this config's sweep, or refuses it."""
    results.claim(workdir, {"sweep": resolve(config)})


def collect(chosen: Iterable[Member], workdir: Path) -> list[dict[str, Any]]:
    """A row a member: its name, its status, the swept fields, and every metric it reached."""
    rows = []
    for member in chosen:
        result = json.loads(_done(member, workdir).read_text())
        metrics = {
            f"{evaluation}/{metric}": value
            for evaluation, values in result["evaluations"].items()
            for metric, value in values.items()
            if metric not in ("classes", "confusion", "confused", "failed")
        }
        status = result.get("failed", "finished")
        rows.append({"member": member.name, "status": status, **member.point, **metrics})
    return rows


def write(rows: Sequence[Mapping[str, Any]], workdir: Path) -> None:
    """Writes the rows as `results.csv` and `results.parquet`, each whole or not at all."""
    import pyarrow
    from pyarrow import parquet

    plain = write_csv(rows, workdir / "results.csv")
    partial = workdir / f"results.parquet.{os.getpid()}.partial"
    columns = {field: [row[field] for row in plain] for field in (plain[0] if plain else ())}
    parquet.write_table(pyarrow.table({k: _column(v) for k, v in columns.items()}), partial)
    partial.replace(workdir / "results.parquet")


def _column(values: Sequence[Any]) -> Any:
    """Values as a column of parquet: of one kind, or else all as text."""
    import pyarrow

    try:
        return pyarrow.array(values)
    except (ValueError, TypeError, OverflowError):
        return pyarrow.array([None if value is None else str(value) for value in values])


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> list[dict[str, Any]]:
    """Writes the rows, whole or not at all, and returns them as they stand in the cells."""
    fields = list(dict.fromkeys(key for row in rows for key in row))
    plain = [{key: _plain(row.get(key)) for key in fields} for row in rows]
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with open(partial, "w", newline="") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(plain)
    partial.replace(path)
    return plain


def _plain(value: Any) -> Any:
    """A value as a cell of a table holds it."""
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)

"""Many runs of a config, with some fields changed, as few programs: a grid, a directory, a table.

Runs that differ in numbers alone (seeds, weights, rates, ramps) share one compiled program and its
calls (`run.py`). Every member leaves what a run of its own would leave, in `members/NAME/`.
"""

import contextlib
import csv
import hashlib
import io
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from tljax.errors import UserError, wrong
from tljax.experiment import results, start
from tljax.experiment.build import build
from tljax.experiment.cache import Cache
from tljax.experiment.card import write_card
from tljax.experiment.check import resolve
from tljax.experiment.fields import Config
from tljax.experiment.grid import Member, Point, members
from tljax.experiment.group import Unit, finish, fitting, keep_data, structure
from tljax.experiment.opening import Opened
from tljax.experiment.workdir import Held, claim, claimed, result
from tljax.memory import cores
from tljax.train import files, lanes, loop
from tljax.train.checkpoint import Unsaved
from tljax.train.files import write_json
from tljax.train.records import Display


def use_all_cores() -> None:
    """Makes every core of a CPU a device, so that members run side by side.

    To be called before anything is computed; without effect on an accelerator, or where
    JAX_NUM_CPU_DEVICES says otherwise.
    """
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update("jax_num_cpu_devices", cores())


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
    resolved = resolve(config)
    claim(workdir, resolved, sweep=True)
    if not 0 <= part < parts:
        raise wrong("--process_id", part, f"a number from 0 to {parts - 1}")
    ours = chosen[part::parts]
    left = [member for member in ours if _result(member.name, workdir) is None]
    done = len(ours) - len(left)
    display.say(f"{len(ours)} of {len(chosen)} runs are ours, of which {done} have finished")
    groups: dict[Any, list[Unit]] = {}
    for unit in built(left, workdir):
        groups.setdefault(structure(unit), []).append(unit)
    lost: dict[str, UserError] = {}
    cache = Cache(Path(resolved["features_dir"] or workdir / "features"), display)
    with loop.stop_on_signals() as stop:
        for group in groups.values():
            devices = lanes.mesh().size
            size = together or devices * fitting(group[0], -(-len(group) // devices))
            for first in range(0, len(group), size):
                lost |= _run(group[first : first + size], workdir / "batches", cache, stop)
    rows = collect(chosen, workdir, lost)
    if lost and len(lost) == len(rows):
        raise next(iter(lost.values()))
    write(rows, workdir)
    if len(rows) < len(chosen):
        display.say(f"the table has {len(rows)} of {len(chosen)} runs; other processes have others")
    write_json(workdir / "timing.json", results.timing(began))
    failed = [row for row in rows if row["status"] != "finished"]
    for row in failed:
        display.say(f"{row['member']} {row['status']}")
    return rows


def _result(name: str, workdir: Path) -> dict[str, Any] | None:
    """What a member has reached; None if it has not ended, or its result cannot be read."""
    try:
        return result(workdir / "members" / name)
    except OSError:
        return None


def _run(
    units: Sequence[Unit], directory: Path, cache: Cache, stop: loop.Stop
) -> dict[str, UserError]:
    """Runs units of one structure, and leaves `result.json` in each one's directory.

    Returns:
      Of each unit that cannot be run, whose directory is damaged say, its name and why.

    Raises:
      UserError: what is not one unit's alone: a unit that another process runs, a full disk, a
        mistake that they share.
    """
    lost: dict[str, UserError] = {}
    with contextlib.ExitStack() as held:
        ready = []
        for unit in units:
            try:
                held.enter_context(claimed(unit.workdir, unit.built.config.plain))
                if _result(unit.name, directory.parent) is None:
                    keep_data(unit)
                    ready.append(unit)
            except Held:
                raise
            except UserError as error:
                lost[unit.name] = error
        try:
            _finish(ready, directory, cache, stop)
        except Unsaved:
            raise
        except UserError as error:
            lost |= _apart(ready, directory, cache, stop, error)
    return lost


def _apart(
    units: Sequence[Unit], directory: Path, cache: Cache, stop: loop.Stop, error: UserError
) -> dict[str, UserError]:
    """Runs one after another units of which one has failed, by an error that is not known to be
    its own; `_run` has the rest."""
    if len(units) == 1:
        return {units[0].name: error}
    lost: dict[str, UserError] = {}
    for unit in units:
        try:
            _finish([unit], directory, cache, stop)
        except Unsaved:
            raise
        except UserError as own:
            if str(own) in map(str, lost.values()):
                raise
            lost[unit.name] = own
    return lost


def _finish(units: Sequence[Unit], directory: Path, cache: Cache, stop: loop.Stop) -> None:
    if not units:
        return
    name = hashlib.sha256("".join(unit.name for unit in units).encode()).hexdigest()[:12]
    finished = finish(units, directory / name, cache, stop, loop.leave)
    for unit, (variables, fault, splits, said) in zip(units, finished, strict=True):
        built, judged = unit.built, {}
        if not fault:
            judged = results.judge(built.network, variables, splits.values(), said)
        last = list(variables.values())[-1]
        result = results.assemble(built.config, last, judged, built.splits)
        result |= start.selected(unit.workdir, variables) | ({"failed": fault} if fault else {})
        write_card(unit.workdir, result)
        results.keep_predictions(unit.workdir, judged, splits)
        write_json(unit.workdir / "result.json", result)


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


def collect(
    chosen: Iterable[Member], workdir: Path, lost: Mapping[str, UserError] | None = None
) -> list[dict[str, Any]]:
    """A row a member that has ended, or is among the `lost`, name -> why: its name, its status, the
    swept fields, and every metric it reached."""
    rows = []
    for member in chosen:
        reached = _result(member.name, workdir)
        if reached is None and member.name in (lost or {}):
            reached = {"evaluations": {}, "failed": f"failed: {(lost or {})[member.name]}"}
        if reached is None:
            continue
        metrics = {
            f"{evaluation}/{metric}": value
            for evaluation, values in reached["evaluations"].items()
            for metric, value in values.items()
            if metric not in ("classes", "confusion", "confused", "failed")
        }
        status = reached.get("failed", "finished")
        rows.append({"member": member.name, "status": status, **member.point, **metrics})
    return rows


def write(rows: Sequence[Mapping[str, Any]], workdir: Path) -> None:
    """Writes the rows as `results.csv` and `results.parquet`, each whole or not at all."""
    import pyarrow
    from pyarrow import parquet

    plain, buffer = write_csv(rows, workdir / "results.csv"), io.BytesIO()
    columns = {field: [row[field] for row in plain] for field in (plain[0] if plain else ())}
    parquet.write_table(pyarrow.table({k: _column(v) for k, v in columns.items()}), buffer)
    files.write(workdir / "results.parquet", buffer.getvalue())


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
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fields)
    writer.writeheader()
    writer.writerows(plain)
    files.write(path, text.getvalue())
    return plain


def _plain(value: Any) -> Any:
    """A value as a cell of a table holds it."""
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)

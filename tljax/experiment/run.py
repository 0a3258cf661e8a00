"""The story of runs: their phases one after another, each going on where it was killed.

A run is a sweep of one. Runs whose phases have one structure are a group; its lanes are its runs
times the restarts of the phase.
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from tljax.errors import wrong
from tljax.experiment import results, start
from tljax.experiment.build import Built, build, flowing
from tljax.experiment.check import Checked, check
from tljax.experiment.fields import Config, blank
from tljax.experiment.results import Variables
from tljax.phase.evaluate import Outputs
from tljax.report import figures
from tljax.train import hosts, lanes, loop, placing
from tljax.train.checkpoint import Checkpoints, write_json
from tljax.train.loop import Stop, Writer
from tljax.train.records import Display, Muted, Records, read
from tljax.train.step import State, evaluated


def run(
    config: Config, workdir: str | os.PathLike, display: Display | None = None
) -> dict[str, Any]:
    """Runs a config, or goes on where a killed run stood, and returns what `result.json` holds.

    Args:
      config: from a config file, or `blank()` filled in.
      workdir: gets config.json, metrics.jsonl, phases/, checkpoints/, figures/, timing.json and,
        last, result.json. A directory of the same config is resumed; one that is finished is only
        read. Processes of one run share it.
      display: where progress is shown; nowhere if left out.

    Raises:
      UserError: a mistake in the config, its data or the workdir; a loss that is not finite; a
        checkpoint that could not be saved.
      Stopped: SIGTERM or SIGINT came; the state has been saved.
    """
    display = display or Display(quiet=True)
    checked, workdir, began = check(config), Path(workdir), time.monotonic()
    _claim(workdir, checked)
    finished = workdir / "result.json"
    if finished.exists():
        result = json.loads(finished.read_text())
        display.say(f"{workdir} is finished; this is its result")
        results.show(display, result)
        return result
    unit = Unit("", build(checked), workdir)
    with loop.stop_on_signals() as stop:
        [finals], _ = finish([unit], workdir / "checkpoints", display, stop)
    if hosts.leader():
        judged = results.judge(unit.built.network, finals, unit.built.splits.values())
        if checked.fields.figures:
            draw(workdir, unit.built)
        write_json(workdir / "timing.json", results.timing(began))
        result = results.assemble(checked, list(finals.values())[-1], judged, unit.built.splits)
        write_json(finished, result)
    hosts.wait("the result")
    result = json.loads(finished.read_text())
    results.show(display, result)
    return result


def outputs(config: Config, workdir: str | os.PathLike) -> dict[str, Outputs]:
    """What the networks of a run give of every evaluation: logits, features and labels.

    A run that has not ended is run to its end first.
    """
    checked, workdir = check(config), Path(workdir)
    _claim(workdir, checked)
    unit = Unit("", build(checked), workdir)
    with loop.stop_on_signals() as stop:
        [finals], _ = finish([unit], workdir / "checkpoints", Display(quiet=True), stop)
    judged = results.judge(unit.built.network, finals, unit.built.splits.values())
    return {name: found for name, (found, _) in judged.items()}


def draw(workdir: str | os.PathLike, built: Built | None = None) -> None:
    """Draws the figures of a run that has ended from what lies in its directory.

    Args:
      workdir: of the run.
      built: of its config.json, if that has been done.
    """
    workdir = Path(workdir)
    if built is None:
        built = build(check(json.loads((workdir / "config.json").read_text())))
    finals: dict[str, Variables] = {}
    for name in built.phases:
        ended = start.final(workdir, name)
        if ended is None:
            raise wrong("workdir", str(workdir), "a run that has ended")
        finals[name] = results.with_heads(results.carried(finals), ended[0])
    first = start.first(workdir, next(iter(finals)))
    figures.draw(workdir, built.network, first, finals, built.splits, read(workdir))


def _claim(workdir: Path, config: Checked) -> None:
    """Makes the workdir this config's, of all processes alike, or refuses it."""
    hosts.agree(config.plain)
    if hosts.leader():
        results.claim(workdir, config.plain, blank().to_dict())
    hosts.wait("the workdir")
    if not (workdir / "config.json").exists():
        expected = (
            "a directory that all processes share; this one does not see what process 0 wrote"
        )
        raise wrong("workdir", str(workdir), expected)


class Unit(NamedTuple):
    """A run of a group."""

    name: str
    built: Built
    workdir: Path


class Begun(NamedTuple):
    """A lane of a phase: one restart of a unit."""

    unit: int
    phase: str  # its name in the records
    lane: lanes.Lane


def finish(
    units: Sequence[Unit],
    directory: Path,
    display: Display,
    stop: Stop,
    not_finite: Any = loop.refuse,
) -> tuple[list[dict[str, Variables]], list[str | None]]:
    """Runs what is left of a group of runs.

    Args:
      units: whose phases have one structure.
      directory: of the checkpoints of their lanes.
      display, stop, not_finite: see `loop.train`.

    Returns:
      Of each unit: phase -> the variables of its end, and what was not finite, if anything was.
    """
    finals: list[dict[str, Variables]] = [{} for _ in units]
    failed: list[str | None] = [None for _ in units]
    records = [
        Records(unit.workdir, unit.built.config.fields.tensorboard) if hosts.leader() else Muted()
        for unit in units
    ]
    passed: list[list[str]] = [[] for _ in units]
    for name in units[0].built.phases:
        kept = [start.final(unit.workdir, name) for unit in units]
        restarts = units[0].built.config.phases[name].restarts
        names = [f"{name}@{restart}" if restart else name for restart in range(restarts)]
        ended = [each for each in kept if each is not None]
        if len(ended) < len(units):
            ended = []
            begun = [
                _begin(unit, i, name, restart, finals[i])
                for i, unit in enumerate(units)
                for restart in range(restarts)
            ]
            writers = [
                _writer(units[each.unit], name, each, finals[each.unit], records, passed)
                for each in begun
            ]
            states = _trained(
                units[0].built, name, begun, writers, directory, display, stop, not_finite
            )
            for i, unit in enumerate(units):
                own = [state for each, state in zip(begun, states, strict=True) if each.unit == i]
                best = min(own, key=lambda state: float(state.totals["loss"]))
                broken = loop.faults_of(jax.device_get(best.faults))
                fault = _fault(name, broken) if broken else ""
                mesh = unit.built.phases[name].mesh
                ended.append(start.keep(unit.workdir, name, evaluated(best), mesh, fault))
        for i, (variables, fault) in enumerate(ended):
            finals[i][name] = results.with_heads(results.carried(finals[i]), variables)
            failed[i] = failed[i] or fault
            passed[i] += names
    for record in records:
        record.close()
    return finals, failed


def _fault(phase: str, broken: Mapping[str, int]) -> str:
    step, names = loop.culprits(broken)
    return f"failed: phase {phase}: {' and '.join(names)} not finite at step {step}"


def _begin(
    unit: Unit, index: int, name: str, restart: int, earlier: Mapping[str, Variables]
) -> Begun:
    """A lane, from where its phase starts."""
    built, own = unit.built, f"{name}@{restart}" if restart else name
    phase = built.phases[name]
    state = start.begin(built, name, restart, earlier, unit.workdir)
    carried = results.with_heads(results.carried(earlier), start.gathered(state, phase.mesh))
    splits = [split for split in built.splits.values() if split.phase == name]
    results.check_splits(built.network, splits, carried)
    lane = lanes.Lane(phase, state, flowing(built, name), built.readers[name])
    return Begun(index, own, lane)


def _writer(
    unit: Unit,
    name: str,
    begun: Begun,
    earlier: Mapping[str, Variables],
    records: Sequence[Records],
    passed: Sequence[Sequence[str]],
) -> Writer:
    """Where a lane writes, and how it is judged: by the leader of several processes."""
    built, carried = unit.built, results.carried(earlier)
    splits = [split for split in built.splits.values() if split.phase == name]

    def evaluate(state: State) -> dict[str, dict[str, float]]:
        variables = placing.gathered(evaluated(state), built.phases[name].mesh)
        if not hosts.leader():
            return {}
        now = {name: results.with_heads(carried, variables)}
        judged = results.judge(built.network, now, splits)
        return {split: values for split, (_, values) in judged.items()}

    # Restarts share a file: each rewinds its own records, and leaves those of the others.
    restarts = built.config.phases[name].restarts
    siblings = [f"{name}@{i}" if i else name for i in range(restarts)]
    others = [sibling for sibling in siblings if sibling != begun.phase]
    return Writer(begun.phase, records[begun.unit], evaluate, [*passed[begun.unit], *others])


def _trained(
    built: Built,
    name: str,
    begun: Sequence[Begun],
    writers: Sequence[Writer],
    directory: Path,
    display: Display,
    stop: Stop,
    not_finite: Any,
) -> list[State]:
    """The states of all lanes at the end of a phase. Lanes that read from disk, or that want
    several devices each, go one after another."""
    steps, own = built.config.phases[name].steps, built.config.fields
    if not steps:
        return [each.lane.state for each in begun]
    alone = bool(built.readers[name]) or built.phases[name].mesh is not None
    states: list[State] = []
    for group in [[i] for i in range(len(begun))] if alone else [range(len(begun))]:
        chosen = [begun[i] for i in group]
        dispatch = built.cadence.dispatch
        program: lanes.Single | lanes.Stacked
        if len(chosen) == 1 and not_finite is loop.refuse:
            program = lanes.Single(chosen[0].lane, dispatch, own.workers)
        else:
            program = lanes.Stacked([each.lane for each in chosen], dispatch)
        title = chosen[0].phase if alone or len(begun) == 1 else f"{name} × {len(begun)}"
        checkpoints = Checkpoints(directory / (chosen[0].phase if alone else name), own.keep)
        states += loop.train(
            title,
            program,
            [writers[i] for i in group],
            steps,
            built.cadence,
            checkpoints,
            display,
            stop,
            not_finite,
        )
        checkpoints.close()
    return states


def structure(unit: Unit) -> Any:
    """What decides whether runs can be lanes of one program; equal for those that can."""
    built, parts = unit.built, []
    for name, phase in built.phases.items():
        shapes = jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), flowing(built, name))
        given = built.config.phases[name]
        own = (given.steps, given.restarts, built.cadence)
        alone = unit.name if built.readers[name] else ""  # what is read from disk is run by itself
        parts.append((jax.tree.structure(phase), repr(shapes), own, alone))
    return tuple(parts)


def fitting(unit: Unit) -> int:
    """How many runs like this a device holds: the least over the phases.

    On a CPU lanes are taken in turn, so that one of them computes at a time.
    """
    if not lanes.batched():
        return 64
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    count = 2**20
    finals: dict[str, Variables] = {}
    for name in unit.built.phases:
        state = start.fresh(unit.built, name, 0, finals)
        finals[name] = results.with_heads(results.carried(finals), evaluated(state))
        given = unit.built.config.phases[name]
        if given.steps:
            lane = lanes.Lane(unit.built.phases[name], state, flowing(unit.built, name))
            count = min(count, max(1, lanes.fitting(lane, limit) // given.restarts))
    return count

"""The story of runs: their phases one after another, each going on where it was killed.

Runs whose phases have one structure are a group; its lanes are its runs times the restarts of the
phase.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from tljax.data.fingerprints import fingerprint
from tljax.experiment import results, start, workdir
from tljax.experiment.build import Built, flowing
from tljax.experiment.cache import Cache
from tljax.experiment.results import Variables
from tljax.phase.scoring import Outputs, Split
from tljax.train import hosts, lanes, loop, placing
from tljax.train.best import Best
from tljax.train.checkpoint import Checkpoints
from tljax.train.files import write
from tljax.train.loop import Stop, Writer
from tljax.train.records import Display, Muted, Records
from tljax.train.step import State, beginning, evaluated


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
    keep: Callable[[Any], None]  # saves where it started
    judged: Mapping[str, Split]  # evaluations of the phase, on features where those are kept
    said: dict[str, Outputs]  # what its network gave of them when it was last judged


class Finished(NamedTuple):
    """What a run ended as."""

    finals: dict[str, Variables]  # of its phases
    failed: str | None  # what was not finite
    splits: dict[str, Split]  # its evaluations, on features where those are kept
    said: dict[str, Outputs]  # what the final networks have given of some of them already


def keep_data(unit: Unit) -> None:
    """Keeps what tells a run's data and origins from others, or refuses others than it had."""
    built, found = unit.built, {}
    streams = {n: t for n, t in built.tables.items() if not built.config.fields.streams[n].of}
    for kind, tables in (
        ("streams", streams),
        ("evaluate", {name: split.table for name, split in built.splits.items()}),
    ):
        for name, table in tables.items():
            found[f"{kind}.{name}"] = {
                "examples": len(table),
                "classes": table.classes if len(table.classes) <= 1000 else len(table.classes),
                "fingerprint": fingerprint(table),
                "columns": list(table.columns),
                "input": table.kind,
            }
    found |= {f"heads.{head}": {"classes": names} for head, names in built.classes.items()}
    workdir.keep_data(unit.workdir, {**found, **start.identities(built, unit.workdir)})
    if built.tokenizer:
        write(unit.workdir / workdir.TOKENIZER, built.tokenizer)


def finish(
    units: Sequence[Unit],
    directory: Path,
    cache: Cache,
    stop: Stop,
    not_finite: Any = loop.refuse,
) -> list[Finished]:
    """Runs what is left of a group of runs.

    Args:
      units: whose phases have one structure.
      directory: of the checkpoints of their lanes.
      cache: of features; its display shows progress.
      stop, not_finite: see `loop.train`.

    Returns:
      Of each unit what it ended as.
    """
    display = cache.display
    finals: list[dict[str, Variables]] = [{} for _ in units]
    failed: list[str | None] = [None for _ in units]
    splits = [dict(unit.built.splits) for unit in units]
    said: list[dict[str, Outputs]] = [{} for _ in units]
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
                _begin(unit, i, name, restart, finals[i], cache)
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
            for each in begun:
                splits[each.unit] |= each.judged if restarts == 1 else {}
            for i, unit in enumerate(units):
                lanes_of = zip(begun, writers, states, strict=True)
                own = [(state, writer.best) for each, writer, state in lanes_of if each.unit == i]
                at = min(range(len(own)), key=lambda i: _worth(own[i]))
                state, best = own[hosts.largest(at if hosts.leader() else 0)]
                broken = loop.faults_of(jax.device_get(state.faults))
                if best and best.stopped:  # what came later is not of the lane
                    broken = {n: step for n, step in broken.items() if step <= best.stopped}
                fault = _fault(name, broken) if broken else ""
                mesh, told = unit.built.phases[name].mesh, best.told() if best else None
                variables = evaluated(state)
                variables = best.variables(variables) if best and not fault else variables
                if restarts == 1 and not best and not fault:  # it was judged as it ended
                    [each] = [each for each in begun if each.unit == i]
                    said[i] |= each.said
                ended.append(start.keep(unit.workdir, name, variables, mesh, fault, told))
        for i, (variables, fault) in enumerate(ended):
            finals[i][name] = results.with_heads(results.carried(finals[i]), variables)
            failed[i] = failed[i] or fault
            passed[i] += names
    for record in records:
        record.close()
    return [Finished(*ended) for ended in zip(finals, failed, splits, said, strict=True)]


def _worth(lane: tuple[State, Best | None]) -> tuple[bool, float]:
    """What a restart is kept for, less being better: what is selected by, or else the loss."""
    state, best = lane
    value = best.told()["value"] if best else None
    if best is None or value is None:  # nothing chooses, or it had collapsed whenever it was judged
        return True, float(state.totals["loss"])
    return False, value if best.select.lower else -value


def _fault(phase: str, broken: Mapping[str, int]) -> str:
    step, names = loop.culprits(broken)
    return f"failed: phase {phase}: {' and '.join(names)} not finite at step {step}"


def _begin(
    unit: Unit,
    index: int,
    name: str,
    restart: int,
    earlier: Mapping[str, Variables],
    cache: Cache,
) -> Begun:
    """A lane, from where its phase starts."""
    built, own = unit.built, f"{name}@{restart}" if restart else name
    phase = built.phases[name]
    computed = cache.of(built, name)
    state, keep = start.begin(built, name, restart, earlier, unit.workdir, computed)
    carried = results.with_heads(results.carried(earlier), start.gathered(state, phase.mesh))
    splits = [split for split in built.splits.values() if split.phase == name]
    results.check_splits(built.network, splits, carried)
    lane, judged = cache.lane(built, name, state)
    return Begun(index, own, lane, keep, judged, {})


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
    splits = [begun.judged.get(s.name, s) for s in built.splits.values() if s.phase == name]

    def evaluate(state: State) -> loop.Values:
        variables = placing.gathered(evaluated(state), built.phases[name].mesh)
        if not hosts.leader():
            return {}
        now = {name: results.with_heads(carried, variables)}
        judged = results.judge(built.network, now, splits)
        begun.said.clear()
        begun.said.update({split: found for split, (found, _) in judged.items() if found})
        return {split: values for split, (_, values) in judged.items()}

    # Restarts share a file: each rewinds its own records, and leaves those of the others.
    restarts = range(built.config.phases[name].restarts)
    others = [f"{name}@{i}" if i else name for i in restarts]
    others.remove(begun.phase)
    before = [*passed[begun.unit], *others]
    select, folder = built.selects.get(name), unit.workdir / "phases" / begun.phase / "best"
    best = Best(folder, select, built.config.fields.keep) if select else None
    return Writer(begun.phase, records[begun.unit], evaluate, before, begun.keep, best)


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
        for each in begun:
            each.keep(beginning(each.lane.state))
        return [each.lane.state for each in begun]
    alone = any(each.lane.readers or each.lane.phase.mesh is not None for each in begun)
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
        tables = flowing(built, name)
        shapes = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tables)]
        of_phase = built.config.phases[name]
        own = (of_phase.steps, of_phase.restarts, built.cadence)
        alone = unit.name if built.readers[name] else ""  # what is read from disk is run by itself
        both = (jax.tree.structure(phase), jax.tree.structure(tables))
        parts.append((both, tuple(shapes), own, alone))
    return tuple(parts)


def fitting(unit: Unit, wanted: int) -> int:
    """How many runs like this a device holds, of those wanted: the least over the phases.

    On a CPU lanes are taken in turn, so that one of them computes at a time.
    """
    if not lanes.batched():
        return 64
    limit = bytes_of_device()
    count = wanted
    finals: dict[str, Variables] = {}
    for name in unit.built.phases:
        state = start.fresh(unit.built, name, 0, finals)
        finals[name] = results.with_heads(results.carried(finals), evaluated(state))
        of_phase = unit.built.config.phases[name]
        if of_phase.steps:
            lane = lanes.Lane(unit.built.phases[name], state, flowing(unit.built, name))
            restarts = of_phase.restarts
            count = min(count, max(1, lanes.fitting(lane, limit, count * restarts) // restarts))
    return count


def bytes_of_device() -> int | None:
    """What a device may hold, where it says so."""
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")

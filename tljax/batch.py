"""A group of runs that share their programs, phase by phase: what `running.py` does, for many."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from tljax import results, running, starting
from tljax.errors import Stopped
from tljax.train import loop, step
from tljax.train import members as many
from tljax.train.checkpoint import Checkpoints, write_json
from tljax.train.records import Display, Records


class Unit(NamedTuple):
    """A run of a group."""

    name: str
    built: running.Built
    workdir: Path


class Lane(NamedTuple):
    """A run of one phase of a unit: one of its restarts."""

    unit: int
    phase: loop.Phase
    state: step.State
    anchor: Any
    records: Records


def program(unit: Unit) -> Any:
    """What decides whether two runs can share their programs; equal for those that can."""
    built = unit.built
    parts: list[Any] = []
    for index, fields in enumerate(built.fields):
        phase = built.phase(index)
        shapes = jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), phase.resident)
        numbers = jax.tree.structure(phase.hyper)
        static = repr((fields["start"], fields["prepare"], fields["restarts"], phase.steps))
        alone = unit.name if phase.readers else ""  # what is read from disk is run by itself
        parts.append((phase.plan, phase.cadence, numbers, repr(shapes), static, alone))
    return tuple(parts)


def run(
    units: Sequence[Unit],
    directory: Path,
    display: Display,
    stop: loop.Stop,
    together: int | None = None,
) -> None:
    """Runs units of one program, some at a time, and leaves `result.json` in each one's directory.

    Args:
      units: of equal `program`.
      directory: of the checkpoints of batches.
      display, stop: as in `loop.train`.
      together: the most units of a batch; as many as fit in memory if left out.
    """
    phases = [units[0].built.phase(i) for i in range(len(units[0].built.names))]
    if any(phase.readers or phase.plan.mesh for phase in phases):
        _apart(units, display, stop)
        return
    over = many.mesh()
    size = together or _fitting(units[0], over) * over.size
    for start in range(0, len(units), size):
        batch = list(units[start : start + size])
        name = hashlib.sha256("".join(unit.name for unit in batch).encode()).hexdigest()[:12]
        _batch(batch, directory / name, over, display, stop)


def _apart(units: Sequence[Unit], display: Display, stop: loop.Stop) -> None:
    """Units whose data is read from disk, or that want several devices each, one by one."""
    for unit in units:
        _, finals = running.phases(unit.built, unit.workdir, display, stop)
        _finish(unit, finals, None)


def _finish(unit: Unit, finals: dict[str, results.Variables], failed: str | None) -> None:
    built = unit.built
    judged = results.judge(built.network, finals, built.data.splits.values()) if not failed else {}
    result = results.assemble(built.config, finals[built.names[-1]], judged, built.data.splits)
    if failed:
        result["failed"] = failed
    write_json(unit.workdir / "result.json", result)


def _fitting(unit: Unit, over: jax.sharding.Mesh) -> int:
    """How many units a device holds: the least over the phases.

    On a CPU members are taken in turn, so that one of them computes at a time.
    """
    if not _batched():
        return 64
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    found = 2**20
    earlier: dict[str, results.Variables] = {}
    for index, name in enumerate(unit.built.names):
        fields = unit.built.fields[index]
        phase, state = starting.begin(
            unit.built.phase(index), fields, earlier, unit.built.data, unit.built.config["seed"]
        )
        earlier[name] = results.with_heads(results.carried(earlier), results.variables(state))
        if phase.steps:
            one: tuple[Any, ...] = (state, phase.hyper, results.start(state), {})
            parts = tuple(many.stack([part] * over.size, over) for part in one)
            arguments = (*parts, many.share(phase.resident, over), np.int32(1))
            fits = many.fitting(phase.plan, over, _batched(), arguments, limit)
            found = min(found, max(1, fits // fields["restarts"]))
    return found


def _batched() -> bool:
    return jax.default_backend() != "cpu"


def _batch(
    units: list[Unit],
    directory: Path,
    over: jax.sharding.Mesh,
    display: Display,
    stop: loop.Stop,
) -> None:
    """All phases of a batch of units."""
    earlier: list[dict[str, results.Variables]] = [{} for _ in units]
    failed: list[str | None] = [None for _ in units]
    passed: list[list[str]] = [[] for _ in units]
    records = [Records(unit.workdir, unit.built.config["tensorboard"]) for unit in units]
    for index, name in enumerate(units[0].built.names):
        lanes = []
        for i, unit in enumerate(units):
            for restart in range(unit.built.fields[index]["restarts"]):
                phase, state = starting.begin(
                    unit.built.phase(index, restart),
                    unit.built.fields[index],
                    earlier[i],
                    unit.built.data,
                    unit.built.config["seed"],
                )
                anchor = results.start(state)
                carried = results.with_heads(results.carried(earlier[i]), anchor)
                results.check_splits(unit.built.network, unit.built.data.splits, name, carried)
                passed[i].append(phase.name)
                lanes.append(Lane(i, phase, state, anchor, records[i]))
        ends = [lane.state for lane in lanes]
        if lanes[0].phase.steps:
            ends = _trained(units, lanes, earlier, passed, directory / name, over, display, stop)
        for i, _ in enumerate(units):
            own = [end for lane, end in zip(lanes, ends, strict=True) if lane.unit == i]
            best = min(own, key=lambda end: float(end.totals["loss"]))
            failed[i] = failed[i] or _fault(best, name)
            now = results.variables(best)
            earlier[i][name] = results.with_heads(results.carried(earlier[i]), now)
    for unit, finals, record, fault in zip(units, earlier, records, failed, strict=True):
        record.close()
        _finish(unit, finals, fault)


def _fault(state: step.State, phase: str) -> str | None:
    """What of a state was not finite, and when; None if nothing was."""
    broken = {name: int(fault) for name, fault in state.faults.items() if fault >= 0}
    if not broken:
        return None
    return (
        f"failed: phase {phase}: {' and '.join(broken)} not finite at step {min(broken.values())}"
    )


def _trained(
    units: list[Unit],
    lanes: list[Lane],
    earlier: list[dict[str, results.Variables]],
    passed: list[list[str]],
    directory: Path,
    over: jax.sharding.Mesh,
    display: Display,
    stop: loop.Stop,
) -> list[step.State]:
    """The states of all lanes at the end of a phase, from where the last checkpoint stands."""
    first = lanes[0].phase
    missing = -len(lanes) % over.size  # the last lane stands in where devices are left over
    filled = [*lanes, *lanes[-1:] * missing]
    state = many.stack([lane.state for lane in filled], over)
    anchor = many.stack([lane.anchor for lane in filled], over)
    hyper = many.stack([lane.phase.hyper for lane in filled], over)
    common = {
        name: arrays
        for name, arrays in first.resident.items()
        if all(lane.phase.resident[name] is arrays for lane in lanes)
    }
    shared = many.share(common, over)
    apart = [
        {name: value for name, value in lane.phase.resident.items() if name not in common}
        for lane in filled
    ]
    own = many.stack(apart, over)

    checkpoints = Checkpoints(directory, units[0].built.config["keep"])
    saved = checkpoints.restore(state)
    at = 0
    if saved is not None:
        state = saved
        at = int(np.max(np.asarray(state.step)))
    for lane in lanes:
        lane.records.rewind(passed[lane.unit], at)
    cadence, name = first.cadence, units[0].built.names[len(earlier[0])]
    longest = cadence.dispatch or max(4, 64 * over.size // len(filled))
    display.begin(f"{name} × {len(lanes)}", first.steps, at)
    try:
        while at < first.steps:
            count = min(longest, loop.to_next(at, first.steps, cadence))
            counted = many.share(np.int32(count), over)
            state = many.steps(
                first.plan, over, _batched(), state, hyper, anchor, own, shared, counted
            )
            at += count
            display.advance(at)
            last, stopping = at == first.steps, stop.signal is not None
            due = last or not at % cadence.evaluate
            if due or not at % cadence.log:
                _record(units, lanes, state, at, earlier, due, display, name)
            if last or stopping or not at % cadence.checkpoint:
                for lane in lanes:
                    lane.records.flush()
                checkpoints.save(at, state)
            if stop.signal and stopping and not last:
                checkpoints.wait()
                raise Stopped(f"phase {name} stopped at step {at} of {first.steps}", stop.signal)
    finally:
        display.end()
        checkpoints.wait()
    checkpoints.close()
    host = jax.device_get(state)
    return [many.member(host, i) for i in range(len(lanes))]


def _record(
    units: list[Unit],
    lanes: list[Lane],
    state: step.State,
    at: int,
    earlier: list[dict[str, results.Variables]],
    due: bool,
    display: Display,
    name: str,
) -> None:
    """Writes what every lane that goes on has to say at a step."""
    # On the host: a slice of what is split over devices would be evaluated by all of them.
    state = jax.device_get(state if due else state._replace(params=(), optimizer=(), average=()))
    shown: dict[str, list[float]] = {}
    for i, lane in enumerate(lanes):
        totals, faults = many.member((state.totals, state.faults), i)
        if any(fault >= 0 for fault in faults.values()):
            continue
        cadence = lane.phase.cadence
        if at % cadence.log == 0 or at == lane.phase.steps:
            window = (at - 1) % cadence.log + 1
            means = {key: float(total) / window for key, total in totals.items()}
            lane.records.write(lane.phase.name, at, "train", means)
        if due:
            built = units[lane.unit].built
            carried = results.carried(earlier[lane.unit])
            own = results.variables(many.member(state, i))
            judged = running.judge(built, name, carried, own)
            for split, values in judged.items():
                lane.records.write(lane.phase.name, at, split, values)
                if "accuracy" in values:
                    shown.setdefault(split, []).append(values["accuracy"])
    if due:
        display.note(at, {split: float(np.mean(each)) for split, each in shown.items()})

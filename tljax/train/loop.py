"""The loop: dispatches steps, and between them logs, evaluates and saves."""

import math
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import grain
import jax
import numpy as np

from tljax.data.streams import Feed
from tljax.errors import Stopped, UserError
from tljax.train import hosts, placing
from tljax.train.checkpoint import Checkpoints
from tljax.train.records import Display, Records
from tljax.train.step import Hyper, Plan, Report, State, single_step, train_steps


class Cadence(NamedTuple):
    """How often, in steps. Each happens at its multiples and at the end."""

    log: int
    evaluate: int
    checkpoint: int
    dispatch: int | None = None  # steps a dispatch; None: as many as is fastest


class Phase(NamedTuple):
    """A phase, ready to run."""

    name: str
    plan: Plan
    hyper: Hyper  # on the device
    steps: int
    cadence: Cadence
    resident: Mapping[str, Any]  # stream -> arrays on the device
    readers: Mapping[str, grain.MapDataset]  # stream -> batches by step
    workers: int = 0


class Stop:
    """Whether a signal has asked the run to stop."""

    signal: int | None = None


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Within it SIGTERM and SIGINT ask for a stop between two dispatches; a second SIGINT kills."""
    stop = Stop()

    def handle(number: int, frame: Any) -> None:
        stop.signal = number
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {n: signal.signal(n, handle) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(
    phase: Phase,
    state: State,
    anchor: Any,
    evaluate: Callable[[State], Mapping[str, Mapping[str, float]]],
    checkpoints: Checkpoints,
    records: Records,
    display: Display,
    stop: Stop,
) -> State:
    """Runs a phase from `state` to its end.

    Args:
      phase: what to run.
      state: where it stands; donated.
      anchor: the parameters that the phase started from.
      evaluate: a state -> evaluation name -> metrics.
      checkpoints, records, display: where its results go.
      stop: asked between two dispatches.

    Returns:
      The state after `phase.steps` steps, which has been saved.

    Raises:
      UserError: a loss that is not finite (the last checkpoint stays as it is), or a save that
        failed.
      Stopped: `stop` was set; the state has been saved.
    """
    step, cadence = int(state.step), phase.cadence
    looped, longest = _dispatch(phase, state, anchor)
    feed = Feed(phase.readers, step, phase.workers)
    pending: tuple[int, Report] | None = None
    display.begin(phase.name, phase.steps, step)
    try:
        while step < phase.steps:
            count = min(longest, to_next(step, phase.steps, cadence))
            fed = placing.split_fed(feed.take(count, longest), phase.plan.mesh)
            counted = placing.everywhere(np.int32(count), phase.plan.mesh) if looped else None
            with jax.transfer_guard("disallow"):
                arguments = (phase.plan, state, phase.hyper, anchor, phase.resident, fed)
                if looped:
                    state, report = train_steps(*arguments, counted)
                else:
                    state, report = single_step(*arguments)
            # The dispatch before is read only now that the next one is under way.
            _log(phase, pending, records)
            step, pending = step + count, (step + count, report)
            display.advance(step)
            last, signalled = step == phase.steps, stop.signal or 0
            if hosts.several():  # a signal may have reached some of the processes
                signalled = 0 if step % cadence.log else hosts.largest(signalled)
            if last or signalled or not step % cadence.evaluate or not step % cadence.checkpoint:
                _log(phase, pending, records)
                pending = None
            if last or not step % cadence.evaluate:
                results = evaluate(state)
                for name, values in results.items():
                    records.write(phase.name, step, name, values)
                shown = {name: v["accuracy"] for name, v in results.items() if "accuracy" in v}
                display.note(step, shown)
            if last or signalled or not step % cadence.checkpoint:
                records.flush()
                checkpoints.save(step, state)
            if signalled and not last:
                checkpoints.wait()
                where = f"phase {phase.name} stopped at step {step} of {phase.steps}"
                raise Stopped(where, signalled)
    finally:
        display.end()
    checkpoints.wait()
    return state


def _dispatch(phase: Phase, state: State, anchor: Any) -> tuple[bool, int]:
    """(whether steps run in a loop on the device, the most steps a dispatch).

    A loop saves the cost of a dispatch; but XLA runs its own convolutions in a loop on a CPU tens
    of times slower, so a program that holds one is dispatched step by step there.
    """
    longest = phase.cadence.dispatch
    if longest is None:
        longest = 8 if phase.readers else 64
        if jax.default_backend() == "cpu":
            fed = placing.split_fed(Feed(phase.readers, 0).take(1, longest), phase.plan.mesh)
            arguments = (phase.plan, state, phase.hyper, anchor, phase.resident, fed)
            counted = placing.everywhere(np.int32(1), phase.plan.mesh)
            program = train_steps.lower(*arguments, counted)
            longest = 1 if "stablehlo.convolution" in program.as_text() else longest
    return longest > 1, longest


def to_next(step: int, steps: int, cadence: Cadence) -> int:
    """The number of steps to the next thing to do."""
    every = (cadence.log, cadence.evaluate, cadence.checkpoint)
    return min(steps - step, *(each - step % each for each in every))


def _log(phase: Phase, pending: tuple[int, Report] | None, records: Records) -> None:
    """Reads a report: stops if something was not finite, and writes a record if one is due."""
    if pending is None:
        return
    step, report = pending
    totals, faults = jax.device_get((report.totals, report.faults))
    broken = {name: int(fault) for name, fault in faults.items() if fault >= 0}
    if broken:
        first = min(broken.values())
        names = [name for name, fault in broken.items() if fault == first]
        culprits = [name for name in names if name not in ("loss", "gradient_norm")] or names
        raise UserError(
            f"phase {phase.name}: {' and '.join(culprits)} was not finite at step {first}; "
            "stopped, and the last checkpoint is kept. Try a smaller optimizer.learning_rate, "
            "or optimizer.clip"
        )
    if step % phase.cadence.log == 0 or step == phase.steps:
        window = (step - 1) % phase.cadence.log + 1
        means = {name: float(total) / window for name, total in totals.items()}
        assert all(map(math.isfinite, means.values()))
        records.write(phase.name, step, "train", means)

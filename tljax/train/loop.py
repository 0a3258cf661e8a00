"""The loop: dispatches steps of lanes, and between them logs, evaluates and saves."""

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from tljax.errors import Stopped, UserError
from tljax.train import hosts
from tljax.train.best import Best
from tljax.train.checkpoint import Checkpoints
from tljax.train.lanes import Single, Stacked
from tljax.train.records import Display, Records
from tljax.train.step import Report, State, changing, evaluated, with_constants

Values = Mapping[str, Mapping[str, Any]]  # evaluation -> metric -> value, or "failed" -> why


class Cadence(NamedTuple):
    """How often, in steps. Each happens at its multiples and at the end."""

    log: int = 50
    evaluate: int = 250
    checkpoint: int = 250
    dispatch: int | None = None  # steps a dispatch; None: as many as is fastest


class Writer(NamedTuple):
    """Where what a lane does is written, and how it is judged."""

    phase: str  # its name in the records
    records: Records
    evaluate: Callable[[State], Values]
    before: Sequence[str] = ()  # the phases whose records stay
    keep: Callable[[Any], None] = lambda start: None  # saves where the lane started
    best: Best | None = None  # its best step, where one is chosen

    def rewind(self, step: int) -> None:
        """Drops the records of what is done again."""
        self.records.rewind([*self.before, self.phase], step)
        if self.best:
            self.best.resume(self.phase, self.records.all())

    def waits(self) -> bool:
        """Whether the lane has ended before its phase, and waits for the others."""
        return bool(self.best and self.best.stopped)


class Stop:
    """Whether a signal has asked the run to stop."""

    signal: int | None = None


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Within it SIGTERM and SIGINT ask for a stop between two dispatches; a second SIGINT does what
    it did before."""
    stop = Stop()

    def handle(number: int, frame: Any) -> None:
        stop.signal = number
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    before = {n: signal.signal(n, handle) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def refuse(phase: str, step: int, names: Sequence[str]) -> None:
    """The policy of a run: a lane that is not finite ends it."""
    raise UserError(
        f"phase {phase}: {' and '.join(names)} was not finite at step {step}; "
        "stopped, and the last checkpoint is kept. Try a smaller optimizer.learning_rate, "
        "or optimizer.clip"
    )


def leave(phase: str, step: int, names: Sequence[str]) -> None:
    """The policy of a sweep: the lane stays as it was before, and the others go on."""


def train(
    name: str,
    program: Single | Stacked,
    writers: Sequence[Writer],
    steps: int,
    cadence: Cadence,
    checkpoints: Checkpoints | None,
    display: Display,
    stop: Stop,
    not_finite: Callable[[str, int, Sequence[str]], None] = refuse,
    begun: int = 0,
) -> list[State]:
    """Steps lanes from where they stand, or from their last checkpoint, to the end of a phase.

    Args:
      name: of the phase, for the display.
      program: the lanes.
      writers: of each lane.
      steps: of the phase.
      cadence: how often what is done.
      checkpoints: where the lanes are saved; nowhere if None.
      display: where progress is shown.
      stop: asked between two dispatches.
      not_finite: told of a lane whose losses or parameters are not finite.
      begun: the step at which the lanes stand.

    Returns:
      The state of each lane after `steps` steps, or where all had stopped, which has been saved.

    Raises:
      UserError: what `not_finite` raises, the last checkpoint staying as it is; a failed save.
      Stopped: `stop` was set; the state has been saved.
    """
    step, saved = checkpoints.restore(changing(program.state)) if checkpoints else (begun, None)
    if saved is not None:
        program.state = with_constants(saved, program.state)
        display.say(f"phase {name}: resuming at step {step}")
    for writer in writers:
        writer.rewind(step)
    pending: tuple[int, Report] | None = None
    kept = False
    display.begin(name, steps, step)
    paced = 64 if hosts.several() else 16
    try:
        while step < steps and not _ended(writers):
            began, waits = time.monotonic(), pending is not None and not hosts.several()
            count = min(paced, program.longest, to_next(step, steps, cadence))
            report = program.advance(step, count, fresh=step % cadence.log == 0)
            if not kept:  # now that the program is made, nothing of the config is refused any more
                for writer, origin in zip(writers, program.starts(), strict=True):
                    writer.keep(origin)
                kept = True
            # The dispatch before is read only now that the next one is under way.
            _log(program, pending, writers, steps, cadence, not_finite)
            step, pending = step + count, (step + count, report)
            display.advance(step)
            if waits and (took := time.monotonic() - began) < 0.5:
                paced = max(paced, 2 * count)
            elif waits and took > 1.0:  # a signal and the display wait for the end of a dispatch
                paced = max(1, round(count / took))
            last, signalled = step == steps, stop.signal or 0
            if hosts.several():  # a signal may have reached some of the processes
                signalled = 0 if step % cadence.log else hosts.largest(signalled)
            saving = last or bool(signalled) or not step % cadence.checkpoint
            judging = last or not step % cadence.evaluate
            if saving or judging:
                finite = _log(program, pending, writers, steps, cadence, not_finite)
                pending = None
            if judging:
                _judge(program, writers, finite, step, display)
            last = last or _ended(writers)
            if saving or last:
                for writer in writers:
                    writer.records.flush()
                if checkpoints:
                    checkpoints.save(step, changing(program.state))
                for writer in writers:
                    if writer.best:
                        writer.best.prune()
            if signalled and not last:
                if checkpoints:
                    checkpoints.wait()
                raise Stopped(f"phase {name} stopped at step {step} of {steps}", signalled)
    finally:
        display.end()
        if checkpoints:
            checkpoints.wait()
    return program.states()


def _ended(writers: Sequence[Writer]) -> bool:
    """Whether every lane has ended before the phase does."""
    return all(writer.waits() for writer in writers)


def to_next(step: int, steps: int, cadence: Cadence) -> int:
    """The number of steps to the next thing to do."""
    every = (cadence.log, cadence.evaluate, cadence.checkpoint)
    return min(steps - step, *(interval - step % interval for interval in every))


def _log(
    program: Single | Stacked,
    pending: tuple[int, Report] | None,
    writers: Sequence[Writer],
    steps: int,
    cadence: Cadence,
    not_finite: Callable[[str, int, Sequence[str]], None],
) -> list[bool]:
    """Reads a report and writes the records that are due; which lanes are finite."""
    if pending is None:
        return []
    step, report = pending
    finite = []
    for writer, (totals, faults) in zip(writers, program.reports(report), strict=True):
        broken = faults_of(faults)
        finite.append(not broken and not writer.waits())
        if writer.waits():
            continue
        if broken:
            not_finite(writer.phase, *culprits(broken))
        elif step % cadence.log == 0 or step == steps:
            window = (step - 1) % cadence.log + 1
            means = {name: float(total) / window for name, total in totals.items()}
            assert all(map(math.isfinite, means.values()))
            writer.records.write(writer.phase, step, "train", means)
    return finite


def faults_of(faults: Mapping[str, Any]) -> dict[str, int]:
    """What of a lane was not finite -> the first step at which."""
    return {name: int(fault) for name, fault in faults.items() if fault >= 0}


def culprits(broken: Mapping[str, int]) -> tuple[int, list[str]]:
    """The first step at which something was not finite, and what it was, terms before sums."""
    first = min(broken.values())
    names = [name for name, fault in broken.items() if fault == first]
    return first, [n for n in names if n not in ("loss", "gradient_norm", "parameters")] or names


def collapsed(classes: Sequence[float], runs: int = 1) -> str:
    """The line of runs that give every example one class, `constant_class` of each."""
    which = f"class {classes[0]:g}" if len({*classes}) == 1 else "one class"
    of = f" in {len(classes)} of {runs} runs" if runs > 1 else ""
    return f"collapsed: every example is given {which}{of}"


def _judge(
    program: Single | Stacked,
    writers: Sequence[Writer],
    finite: Sequence[bool],
    step: int,
    display: Display,
) -> None:
    """Evaluates every lane that is finite, writes what it reaches and shows the mean."""
    shown: dict[str, list[float]] = {}
    constant: dict[str, list[float]] = {}
    for writer, state, judged in zip(writers, program.states(), finite, strict=True):
        reached = writer.evaluate(state) if judged else {}
        for name, values in reached.items():
            if "failed" in values:  # it may be better at the end, which alone decides
                display.say(f"  step {step}: {values['failed']}")
                continue
            writer.records.write(writer.phase, step, name, values)
            if "constant_class" in values:
                constant.setdefault(name, []).append(values["constant_class"])
            if "accuracy" in values:
                shown.setdefault(name, []).append(values["accuracy"])
        if writer.best and judged:
            writer.best.judge(step, reached, evaluated(state))
    for name, classes in constant.items():
        display.say(f"  step {step}: {name}: {collapsed(classes, len(writers))}")
    display.note(step, {name: float(np.mean(values)) for name, values in shown.items()})

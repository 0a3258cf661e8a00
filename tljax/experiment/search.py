"""A search over fields of a config by Optuna's TPE, its trials run as members of a sweep.

No study is stored: the same answers to the same questions lead to the same trials, and members that
have finished are only read. So a killed search goes on, and one of more trials begins the same.
"""

import math
import os
import shlex
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from tljax import metrics
from tljax.errors import UserError, unknown, wrong
from tljax.experiment import choice, grid, results, sweep
from tljax.experiment.check import resolve
from tljax.experiment.fields import Config
from tljax.experiment.grid import Point
from tljax.train.files import write_json
from tljax.train.records import Display

SEED = 0  # of the sampler
SHOWN = 10  # trials of the printed table
KINDS = ("uniform", "log", "integer", "choice")
EXPECTED = "PATH=uniform(low, high), log(low, high), integer(low, high) or choice(value, value, …)"


class Distribution(NamedTuple):
    """What a field is drawn from."""

    kind: str  # of KINDS
    values: tuple[Any, ...]  # (low, high), both included; of a choice, what it is among


Space = Mapping[str, Distribution]  # path of a field, "terms.domain.weight" -> its distribution


class Trial(NamedTuple):
    """A point, and what its runs reached."""

    number: int
    point: Point
    values: tuple[float, ...]  # of what is selected by, one a seed; () where a run failed


def parse(over: Sequence[str]) -> dict[str, Distribution]:
    """The space of `PATH=DISTRIBUTION` arguments.

    `terms.domain.weight=log(0.01, 10)`, `optimizer.learning_rate=uniform(0.001, 0.1)`,
    `steps=integer(100, 1000)`, `optimizer.name=choice(sgd, adam)`.

    Raises:
      UserError: an argument that is none of these, or a field that is given twice.
    """
    space: dict[str, Distribution] = {}
    for argument in over:
        path, equals, text = argument.partition("=")
        kind, bracket, inner = text.strip().partition("(")
        kind = kind.strip()
        if not (path and equals and kind and bracket and inner.endswith(")") and inner[:-1]):
            raise wrong("--over", argument, EXPECTED)
        if kind not in KINDS:
            raise unknown(f"--over {path}", kind, KINDS)
        if path in space:
            raise wrong("--over", argument, f"each field once; {path!r} is given twice")
        if path == "seed":
            raise wrong("--over", argument, "another field: the best seed is luck; see --seeds")
        values = grid.values(inner[:-1], argument)
        _check(kind, values, argument)
        real = kind in ("uniform", "log")
        space[path] = Distribution(kind, tuple(map(float, values) if real else values))
    return space


def _check(kind: str, values: Sequence[Any], argument: str) -> None:
    """Refuses values that a distribution of this kind cannot have."""
    if kind == "choice":
        if len(values) < 2 or any(values.count(value) > 1 for value in values):
            raise wrong("--over", argument, "two or more values to choose from, each once")
        return
    kinds, limit = ((int,), 2**53) if kind == "integer" else ((int, float), 1e300)
    numbers = all(
        isinstance(value, kinds) and not isinstance(value, bool) and -limit <= value <= limit
        for value in values
    )
    if len(values) != 2 or not numbers or values[0] >= values[1]:
        whole = "two integers" if kind == "integer" else "two finite numbers"
        raise wrong("--over", argument, f"{kind}(low, high), {whole} of which low is the lower")
    if kind == "log" and values[0] <= 0:
        raise wrong("--over", argument, "log(low, high) with a low above 0")


def edges(space: Space) -> list[Point]:
    """Points that change one field each, to each of its bounds or choices."""
    return [{path: value} for path, each in space.items() for value in each.values]


def run(
    config: Config,
    space: Space,
    workdir: str | os.PathLike,
    *,
    trials: int = 32,
    batch: int = 8,
    seeds: int = 1,
    select: str = "",
    display: Display | None = None,
    together: int | None = None,
) -> list[Trial]:
    """Searches a space, or what is left of the search, and returns its trials, the best first.

    Args:
      config: from a config file, or `blank()` filled in.
      space: what is searched.
      workdir: gets what a sweep leaves, of all trials, and `search.csv`.
      trials: how many points are tried, those of an earlier call among them.
      batch: how many are drawn before the next ones learn from them; they run as one sweep.
      seeds: how many runs a trial has, from the config's seed on.
      select: "EVALUATION/METRIC", whose mean over seeds makes the better trial; a report's if left
        out.
      display, together: as in `sweep.run`.

    Raises:
      UserError: a mistake in the config or the space, a choice by test labels, no Optuna.
      Stopped: SIGTERM or SIGINT came; what was done has been saved.
    """
    display, workdir, began = display or Display(quiet=True), Path(workdir), time.monotonic()
    for name, count in (("trials", trials), ("batch", batch), ("seeds", seeds)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise wrong(f"--{name}", count, "an integer of at least 1")
    if not space:
        raise wrong("--over", [], EXPECTED)
    resolved = resolve(config)
    bounds = grid.members(config, edges(space))
    select = _selected(select, resolved, [each.config.plain for each in bounds])
    optuna = _optuna()
    sweep.built(bounds, workdir)
    study, drawn = _study(optuna, select), _distributions(optuna, space)
    done: list[Trial] = []
    points: list[Point] = []
    while len(done) < trials:
        asked = [study.ask(drawn) for _ in range(min(batch, trials - len(done)))]
        new = [_point(space, each.params) for each in asked]
        runs = [[{**point, "seed": resolved["seed"] + i} for i in range(seeds)] for point in new]
        points += [point for own in runs for point in own]
        display.say(f"trials {len(done)} to {len(done) + len(asked) - 1} of {trials}")
        rows = {row["member"]: row for row in sweep.run(config, points, workdir, display, together)}
        for each, point, own in zip(asked, new, runs, strict=True):
            names = [member.name for member in grid.members(config, own)]
            values = _values([rows[name] for name in names], select)
            if values:
                study.tell(each, fmean(values))
            else:
                study.tell(each, state=optuna.trial.TrialState.FAIL)
            done.append(Trial(each.number, point, values))
    order = sorted(done, key=lambda trial: _worth(trial, select), reverse=True)
    sweep.write_csv([_row(trial, select) for trial in order], workdir / "search.csv")
    write_json(workdir / "timing.json", results.timing(began))
    _show(display, order, select, resolved)
    return order


def _selected(select: str, config: Mapping[str, Any], bounds: Sequence[Mapping[str, Any]]) -> str:
    """What is selected by, if neither the config nor a field that is searched forbids it."""
    select = select or choice.default(config)
    if not select:
        raise wrong(
            "--select", select, "an evaluation without labels or for validation; the config has "
            "neither: config.evaluate.blind = dict(config.evaluate.NAME, labelled=False) is one"
        )  # fmt: skip
    for each in (config, *bounds):
        choice.readable(select, each)
    return select


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UserError("search: Optuna is not installed; pip install 'tljax[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _study(optuna: Any, select: str) -> Any:
    with warnings.catch_warnings():  # Optuna 4 calls two of these arguments experimental
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=SEED, multivariate=True, constant_liar=True)
    direction = "minimize" if choice.lower(select) else "maximize"
    return optuna.create_study(
        sampler=sampler, pruner=optuna.pruners.NopPruner(), direction=direction
    )


def _distributions(optuna: Any, space: Space) -> dict[str, Any]:
    """A space as Optuna has it; of a choice, whose values may be tuples, the place is drawn."""
    found: dict[str, Any] = {}
    for path, (kind, values) in space.items():
        if kind == "choice":
            found[path] = optuna.distributions.CategoricalDistribution(range(len(values)))
        elif kind == "integer":
            found[path] = optuna.distributions.IntDistribution(*values)
        else:
            found[path] = optuna.distributions.FloatDistribution(*values, log=kind == "log")
    return found


def _point(space: Space, drawn: Mapping[str, Any]) -> dict[str, Any]:
    return {
        path: each.values[drawn[path]] if each.kind == "choice" else drawn[path]
        for path, each in space.items()
    }


def _values(rows: Sequence[choice.Row], select: str) -> tuple[float, ...]:
    """What a trial's runs reached; () if one failed, collapsed, or reached nothing finite."""
    if any(row["status"] != "finished" or choice.collapsed(row, select) for row in rows):
        return ()
    for row in rows:
        if select not in row:
            evaluation = select.partition("/")[0]
            raise unknown("--select", select, [k for k in row if k.startswith(f"{evaluation}/")])
    values = tuple(row[select] for row in rows)
    return values if all(math.isfinite(value) for value in values) else ()


def _worth(trial: Trial, select: str) -> float:
    if not trial.values:
        return -math.inf
    return -fmean(trial.values) if choice.lower(select) else fmean(trial.values)


def _row(trial: Trial, select: str) -> dict[str, Any]:
    """A line of `search.csv`; a failed trial has no mean, and a single run no interval."""
    mean, half = metrics.interval(trial.values) if trial.values else (None, None)
    return {
        "trial": trial.number,
        **trial.point,
        "status": "finished" if trial.values else "failed",
        select: mean,
        "half_width": half if len(trial.values) > 1 else None,
    }


def _show(
    display: Display, order: Sequence[Trial], select: str, resolved: Mapping[str, Any]
) -> None:
    """Prints the best trials, and what they were chosen by."""
    best = order[0]
    cells = [
        [
            str(trial.number),
            *map(choice.short, trial.point.values()),
            choice.cell(trial.values),
        ]
        for trial in order[:SHOWN]
    ]
    display.table(f"The best of {len(order)} trials", ["trial", *best.point, select], cells)
    failed = sum(not trial.values for trial in order)
    if failed:
        display.say(f"{failed} of {len(order)} trials failed")
    if not best.values:
        display.say("No choice is made: every trial failed")
        return
    evaluation = select.partition("/")[0]
    kind = "is marked validation=True" if choice.labelled(evaluation, resolved) else "has no labels"
    less = "lowest" if choice.lower(select) else "highest"
    seeds = f", mean over {len(best.values)} seeds" if len(best.values) > 1 else ""
    display.say(f"Chosen by the {less} {select}{seeds}: evaluation {evaluation!r} {kind}")
    flags = " ".join(shlex.quote(f"--config.{path}={v}") for path, v in best.point.items())
    display.say(f"Trial {best.number}: {flags}")

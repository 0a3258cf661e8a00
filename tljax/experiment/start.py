"""Where the phases of a run start and end, kept in its directory.

`phases/NAME/start` holds what a phase started from (its anchor, what `run:` brought in, what was
prepared) and `phases/NAME/final` what it ended as; both are saved once and verified when read, so
that a run resumes to the same numbers whatever has become of the run it began from.
"""

import functools
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tljax import trees
from tljax.errors import UserError
from tljax.experiment import results
from tljax.experiment.build import Built, flowing, place_errors
from tljax.experiment.results import Variables
from tljax.train import checkpoint, hosts, placing, starting
from tljax.train.step import State

RUN = "run:"
KINDS = ("params", "batch_stats")


def begin(
    built: Built, name: str, restart: int, earlier: Mapping[str, Variables], workdir: Path
) -> tuple[State, Callable[[Any], None]]:
    """The state that a phase, or a restart of it, starts from; as it was saved, if it was.

    Returns:
      The state, and what saves its `start`: to be called after the first dispatch, when nothing
      in the config can be refused any more.
    """
    path = workdir / "phases" / (f"{name}@{restart}" if restart else name) / "start"
    phase = built.phases[name]
    if path.exists():
        origin: dict[str, Any] = {"params": {}, "batch_stats": {}, "tables": {}, "rows": {}}
        origin |= {k: v for k, v in checkpoint.load(path).items() if v is not None}
        return starting.resumed(phase, origin, built.key(name, restart)), lambda _: None
    state = fresh(built, name, restart, earlier)
    hosts.check_same(
        (state.params, state.batch_stats), f"the parameters that phase {name} starts from"
    )
    for stream, table in flowing(built, name).items():
        hosts.check_same(table, f"the data of streams.{stream}")
    return state, functools.partial(checkpoint.save, path)


def fresh(built: Built, name: str, restart: int, earlier: Mapping[str, Variables]) -> State:
    """The state that a phase starts from, made anew."""
    phase = built.phases[name]
    with place_errors(name):
        return starting.start(
            phase,
            flowing(built, name),
            built.key(name, restart),
            earlier={**_runs(phase.start), **earlier},
            readers=built.readers[name],
            seed=built.config.fields.seed,
        )


def gathered(state: State, mesh: Any) -> Variables:
    """What a state started from, on the host's side of a mesh."""
    return placing.gathered({kind: state.start[kind] for kind in KINDS}, mesh)


def first(workdir: Path, phase: str) -> Variables:
    """The variables that a run started from."""
    origin = checkpoint.load(workdir / "phases" / phase / "start")
    return {kind: origin.get(kind) or {} for kind in KINDS}


def keep(
    workdir: Path, phase: str, variables: Variables, mesh: Any, fault: str = ""
) -> tuple[Variables, str]:
    """Saves what a phase ended as, and what was not finite in it, if anything was."""
    folder = workdir / "phases" / phase
    checkpoint.save(folder / "final", variables)
    if hosts.leader():
        checkpoint.write_json(folder / "ended.json", {"failed": fault})
    hosts.wait(f"the end of {phase}")
    return placing.gathered(variables, mesh), fault


def final(workdir: Path, phase: str) -> tuple[Variables, str] | None:
    """What a phase ended as, and its fault; None if it has not ended."""
    folder = workdir / "phases" / phase
    if not (folder / "ended.json").exists():
        return None
    saved = checkpoint.load(folder / "final")
    fault = json.loads((folder / "ended.json").read_text())["failed"]
    return {kind: saved.get(kind) or {} for kind in KINDS}, fault


def finals(workdir: Path, phases: Iterable[str]) -> dict[str, Variables]:
    """The variables of every phase's end, with what each lacks of the one before.

    Raises:
      UserError: a phase that has not ended.
    """
    ended: dict[str, Variables] = {}
    for name in phases:
        saved = final(workdir, name)
        if saved is None:
            raise UserError(f"workdir: got {str(workdir)!r}; expected the end of phase {name!r}")
        ended[name] = results.with_heads(results.carried(ended), saved[0])
    return ended


def _runs(start: trees.Rules) -> dict[str, Variables]:
    """The variables of the runs that rules name as `run:WORKDIR` or `run:WORKDIR@STEP`."""
    found = {}
    for i, (_, origin) in enumerate(start):
        if origin.startswith(RUN) and origin not in found:
            try:
                found[origin] = _origin(origin)
            except UserError as error:
                raise UserError(f"start[{i}]: got {origin!r}; {error}") from None
    return found


def _origin(origin: str) -> Variables:
    """The variables of another run: of its end, or at a step of its last phase that has it."""
    where, _, step = origin.removeprefix(RUN).rpartition("@")
    if not step.isdigit():
        where, step = origin.removeprefix(RUN), ""
    workdir = Path(where)
    try:
        names = json.loads((workdir / "config.json").read_text())["phases"] or ["train"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError("expected run:WORKDIR of a run that has a checkpoint") from None
    if step:
        for name in reversed(names):
            states = _states(workdir / "checkpoints", name, step)
            if states:
                return _judged(min(states, key=lambda state: float(state["totals"]["loss"])))
        raise UserError(f"expected a step that {where!r} has a checkpoint of")
    if not (workdir / "result.json").exists():
        raise UserError(
            "expected run:WORKDIR of a run that has ended, or run:WORKDIR@STEP of a checkpoint"
        )
    return finals(workdir, names)[names[-1]]


def _states(folder: Path, phase: str, step: str) -> list[Any]:
    """The states of a phase at a step: of each restart, saved apart or as lanes of one program."""
    states = []
    for path in (folder / phase / step, *folder.glob(f"{phase}@*/{step}")):
        if path.exists():
            state = checkpoint.load(path)
            lanes = np.size(state["step"]) if np.ndim(state["step"]) else 0
            apart = [jax.tree.map(lambda leaf, i=i: leaf[i], state) for i in range(lanes)]
            states += apart or [state]
    return states


def _judged(state: Any) -> Variables:
    """The variables to judge a saved state by: the average, where one is kept."""
    params, average = state["params"], state["average"]
    params = params if average is None else _over(params, average)
    return {"params": params, "batch_stats": state["batch_stats"] or {}}


def _over(tree: Any, other: Any) -> Any:
    """The leaves of `other` over those of `tree`, where it has any."""
    if not isinstance(tree, dict):
        return tree if other is None else other
    return {key: _over(value, (other or {}).get(key)) for key, value in tree.items()}

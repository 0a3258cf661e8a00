"""Where the phases of a run start and end, kept in its directory.

`phases/NAME/start` holds what a phase started from (its anchor, what `run:` brought in, what was
prepared) and `phases/NAME/final` what it ended as; both are saved once and verified when read, so
that a run resumes to the same numbers whatever has become of the run it began from.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tljax import trees
from tljax.errors import UserError, warn
from tljax.experiment import results
from tljax.experiment.build import Built, flowing, place_errors
from tljax.experiment.results import Variables
from tljax.experiment.workdir import classes, recorded
from tljax.train import checkpoint, hosts, placing, starting
from tljax.train.files import read_json, write_json
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
    if (saved := _whole(path)) is not None:
        origin: dict[str, Any] = {"params": {}, "batch_stats": {}, "tables": {}, "rows": {}}
        origin |= {k: v for k, v in saved.items() if v is not None}
        return starting.resumed(phase, origin, built.key(name, restart)), lambda _: None
    state = fresh(built, name, restart, earlier)
    hosts.check_same(
        (state.params, state.batch_stats), f"the parameters that phase {name} starts from"
    )
    for stream, table in flowing(built, name).items():
        hosts.check_same(table, f"the data of streams.{stream}")
    return state, functools.partial(checkpoint.save, path)


def _whole(path: Path) -> Any:
    """What was saved at a path; None if nothing was, or it is damaged: then it is made again."""
    if not path.exists():
        return None
    try:
        return checkpoint.load(path)
    except UserError as error:
        warn(f"{error}; it is made again")
        return None


def fresh(built: Built, name: str, restart: int, earlier: Mapping[str, Variables]) -> State:
    """The state that a phase starts from, made anew."""
    phase = built.phases[name]
    with place_errors(name):
        state = starting.start(
            phase,
            flowing(built, name),
            built.key(name, restart),
            earlier={**_runs(phase.start), **earlier},
            readers=built.readers[name],
            seed=built.config.fields.seed,
        )
        _check_classes(built, phase.start, state.params)
    return state


def _check_classes(built: Built, rules: trees.Rules, params: Any) -> None:
    """Refuses a head that is copied from another run, where its outputs are other classes."""
    for head, names in built.classes.items():
        leaves = trees.flatten(params.get("heads", {}).get(head, {}))
        origins = {trees.first(f"heads/{head}/{path}", rules)[1] for path in leaves if rules}
        for origin in origins:
            where, _, step = origin.removeprefix(RUN).rpartition("@")
            where = where if step.isdigit() else origin.removeprefix(RUN)
            theirs = classes(Path(where)).get(head, names) if origin.startswith(RUN) else names
            if theirs != names:
                raise UserError(
                    f"start: head {head!r} of {origin!r} has outputs for {_listed(theirs)}; "
                    f"expected {_listed(names)}, the classes of this run. Start it fresh "
                    f'(("heads/{head}/**", "fresh") before the others), or name it otherwise'
                )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:20])) + (", …" if len(names) > 20 else "")


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
        write_json(folder / "ended.json", {"failed": fault})
    hosts.wait(f"the end of {phase}")
    return placing.gathered(variables, mesh), fault


def final(workdir: Path, phase: str) -> tuple[Variables, str] | None:
    """What a phase ended as, and its fault; None if it has not ended, or is to end again."""
    try:
        return _final(workdir, phase)
    except UserError as error:
        warn(f"{error}; the phase ends again")
        return None


def _final(workdir: Path, phase: str) -> tuple[Variables, str] | None:
    """The same, but for damage, which is an error."""
    folder = workdir / "phases" / phase
    try:
        fault = read_json(folder / "ended.json", "failed")["failed"]
    except OSError:
        return None
    saved = checkpoint.load(folder / "final")
    return {kind: saved.get(kind) or {} for kind in KINDS}, fault


def finals(workdir: Path, phases: Iterable[str]) -> dict[str, Variables]:
    """The variables of every phase's end, with what each lacks of the one before.

    Raises:
      UserError: a phase that has not ended.
    """
    ended: dict[str, Variables] = {}
    for name in phases:
        saved = _final(workdir, name)
        if saved is None:
            raise UserError(f"workdir: got {str(workdir)!r}; expected the end of phase {name!r}")
        ended[name] = results.with_heads(results.carried(ended), saved[0])
    return ended


def _runs(start: trees.Rules) -> dict[str, Variables]:
    """The variables of the runs that rules name as `run:WORKDIR` or `run:WORKDIR@STEP`."""
    found = {}
    for i, (_, origin) in enumerate(start):
        if origin.startswith(RUN) and origin not in found:
            with _of_rule(i, origin):
                found[origin] = _origin(origin)
    return found


def identities(built: Built, workdir: Path) -> dict[str, dict[str, str]]:
    """What tells the runs that phases still have to start from, from any others."""
    found = {}
    for name, phase in built.phases.items():
        begun = (workdir / "phases" / name / "start").exists()
        for i, (_, origin) in enumerate(() if begun else phase.start):
            if origin.startswith(RUN):
                with place_errors(name), _of_rule(i, origin):
                    sums = "+".join(map(checkpoint.identity, _places(origin)[0]))
                found[f"start {origin}"] = {"fingerprint": sums}
    return found


@contextlib.contextmanager
def _of_rule(place: int, origin: str) -> Iterator[None]:
    """Within it a mistake in an origin is named with its rule."""
    try:
        yield
    except UserError as error:
        raise UserError(f"start[{place}]: got {origin!r}; {error}") from None


def _origin(origin: str) -> Variables:
    """The variables of another run: of its end, or at a step of its last phase that has it."""
    paths, names = _places(origin)
    if names:
        return finals(Path(paths[0]).parents[2], names)[names[-1]]
    states = [state for path in paths for state in _lanes(checkpoint.load(path))]
    return _judged(min(states, key=lambda state: float(state["totals"]["loss"])))


def _places(origin: str) -> tuple[list[Path], list[str]]:
    """Where the variables of another run lie: its phases' ends, with the phases' names; or the
    checkpoints of a step, of each restart one, or all of them as lanes of one program."""
    where, _, step = origin.removeprefix(RUN).rpartition("@")
    if not step.isdigit():
        where, step = origin.removeprefix(RUN), ""
    workdir = Path(where)
    try:
        names = list(recorded(workdir).config["phases"]) or ["train"]
    except (UserError, KeyError, TypeError):
        raise UserError("expected run:WORKDIR of a run that has a checkpoint") from None
    if step:
        folder = workdir / "checkpoints"
        for name in reversed(names):
            paths = [folder / name / step, *folder.glob(f"{name}@*/{step}")]
            if any(path.exists() for path in paths):
                return [path for path in paths if path.exists()], []
        raise UserError(f"expected a step that {where!r} has a checkpoint of")
    if not (workdir / "result.json").exists():
        raise UserError(
            "expected run:WORKDIR of a run that has ended, or run:WORKDIR@STEP of a checkpoint"
        )
    return [workdir / "phases" / name / "final" for name in names], names


def _lanes(state: Any) -> list[Any]:
    """The states that a checkpoint holds: one, or the lanes of one program."""
    lanes = np.size(state["step"]) if np.ndim(state["step"]) else 0
    return [jax.tree.map(lambda leaf, i=i: leaf[i], state) for i in range(lanes)] or [state]


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

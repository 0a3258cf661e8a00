"""Where the phases of a run start and end, kept in its directory.

`phases/NAME/start` holds what a phase started from (its anchor, what an origin brought in, what was
prepared) and `phases/NAME/final` what it ended as; both are saved once and verified when read, so
that a run resumes to the same numbers whatever has become of the run it began from.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tljax import trees
from tljax.errors import UserError, warn
from tljax.experiment import origins
from tljax.experiment.build import Built, flowing, handed, place_errors
from tljax.experiment.origins import KINDS, ended
from tljax.experiment.results import Variables
from tljax.phase.evaluate import Computed
from tljax.train import checkpoint, hosts, placing, starting
from tljax.train.files import read_json, write_json
from tljax.train.step import State, beginning


def begin(
    built: Built,
    name: str,
    restart: int,
    earlier: Mapping[str, Variables],
    workdir: Path,
    computed: Computed | None = None,
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
    state = fresh(built, name, restart, earlier, computed)
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


def fresh(
    built: Built,
    name: str,
    restart: int,
    earlier: Mapping[str, Variables],
    computed: Computed | None = None,
) -> State:
    """The state that a phase starts from, made anew."""
    phase = built.phases[name]
    with place_errors(name):
        state = starting.start(
            phase,
            flowing(built, name),
            built.key(name, restart),
            earlier={**origins.variables(phase), **handed(built, name, earlier)},
            readers=built.readers[name],
            seed=built.config.fields.seed,
            computed=computed,
        )
        _check_classes(built, phase.start, state.params)
    return state


def _check_classes(built: Built, rules: trees.Rules, params: Any) -> None:
    """Refuses a head that is copied from another run, where its outputs are other classes."""
    for head, names in built.classes.items():
        leaves = trees.flatten(params.get("heads", {}).get(head, {}))
        for origin in {trees.first(f"heads/{head}/{path}", rules)[1] for path in leaves if rules}:
            theirs = origins.classes_of(origin).get(head, names)
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
    return placing.gathered({kind: beginning(state)[kind] for kind in KINDS}, mesh)


def first(workdir: Path, phase: str) -> Variables:
    """The variables that a run started from."""
    origin = checkpoint.load(workdir / "phases" / phase / "start")
    return {kind: origin.get(kind) or {} for kind in KINDS}


def keep(
    workdir: Path, phase: str, variables: Variables, mesh: Any, fault: str = "", best: Any = None
) -> tuple[Variables, str]:
    """Saves what a phase ended as, what was not finite in it, if anything was, and which step that
    is, where the best was chosen."""
    folder = workdir / "phases" / phase
    checkpoint.save(folder / "final", variables)
    if hosts.leader():
        selected = {"selected": best} if best else {}
        write_json(folder / "ended.json", {"failed": fault, **selected})
    hosts.wait(f"the end of {phase}")
    return placing.gathered(variables, mesh), fault


def selected(workdir: Path, phases: Iterable[str]) -> dict[str, Any]:
    """`{"selected": {phase: which step it ended as}}` of those whose best step was chosen."""
    ended = {name: read_json(workdir / "phases" / name / "ended.json") for name in phases}
    found = {name: each["selected"] for name, each in ended.items() if "selected" in each}
    return {"selected": found} if found else {}


def identities(built: Built, workdir: Path) -> dict[str, dict[str, str]]:
    """What tells the origins that phases still have to start from, from any others."""
    found: dict[str, dict[str, str]] = {}
    for name, phase in built.phases.items():
        if not (workdir / "phases" / name / "start").exists():
            with place_errors(name):
                found |= {f"start {origin}": each for origin, each in origins.identities(phase)}
    return found


def final(workdir: Path, phase: str) -> tuple[Variables, str] | None:
    """What a phase ended as, and its fault; None if it has not ended, or is to end again."""
    try:
        return ended(workdir, phase)
    except UserError as error:
        warn(f"{error}; the phase ends again")
        return None

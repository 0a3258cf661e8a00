"""Where a phase may start from outside its own run: another run, or public weights.

An origin is `KIND:WHERE`; `ORIGINS` has the kinds.
"""

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from tljax.errors import UserError, unknown, warn
from tljax.experiment import hub, results
from tljax.experiment.build import network_of
from tljax.experiment.check import check
from tljax.experiment.results import Variables
from tljax.experiment.workdir import classes, recorded
from tljax.models import weights
from tljax.models.checkpoints import known
from tljax.models.heads import Linear
from tljax.phase.phase import Phase
from tljax.phase.transfer import FRESH, outside
from tljax.train import checkpoint
from tljax.train.files import read_json

KINDS = ("params", "batch_stats")


class Origin(NamedTuple):
    """A kind of origin: what is read of a place, and what tells the place from any other."""

    read: Callable[[str, Phase], Variables]
    identity: Callable[[str], dict[str, str]]
    usage: str


def variables(phase: Phase) -> dict[str, Variables]:
    """The variables of each origin outside the run that a phase's rules name.

    Raises:
      UserError: a kind that is not there, or a place that does not hold what is expected.
    """
    found: dict[str, Variables] = {}
    for i, (_, origin) in enumerate(phase.start):
        if outside(origin) and origin not in found:
            kind, _, where = origin.partition(":")
            if kind not in ORIGINS:
                raise unknown(f"start[{i}]", origin, (FRESH, *(o.usage for o in ORIGINS.values())))
            try:
                found[origin] = ORIGINS[kind].read(where, phase)
            except UserError as error:
                raise UserError(f"start[{i}]: got {origin!r}; {error}") from None
    return found


def identities(phase: Phase) -> Iterator[tuple[str, dict[str, str]]]:
    """Each origin outside the run that a phase's rules name, with what tells it from others."""
    for i, (_, origin) in enumerate(phase.start):
        kind, _, where = origin.partition(":")
        if kind in ORIGINS:
            try:
                yield origin, ORIGINS[kind].identity(where)
            except UserError as error:
                raise UserError(f"start[{i}]: got {origin!r}; {error}") from None


def classes_of(origin: str) -> Mapping[str, tuple[str, ...]]:
    """Head -> the names of its outputs, as another run has kept them."""
    kind, _, where = origin.partition(":")
    return classes(Path(_step(where)[0])) if kind == "run" else {}


def _weights(where: str, phase: Phase) -> Variables:
    """A file of public weights, its classifier for each linear head."""
    trunk, heads = phase.network.trunk, dict(phase.network.heads.modules)
    streams = tuple(phase.streams) if phase.statistics == "separate" else ()
    found = _loaded(trunk, where, _weights_identity(where)["sha256"], streams)
    params = dict(found["params"])
    classifier = params.pop("heads", {}).get(weights.HEAD)
    linear = [name for name, head in heads.items() if isinstance(head, Linear)]
    if classifier and linear:
        params["heads"] = {name: classifier for name in linear}
    return {**found, "params": params}


@functools.lru_cache(maxsize=1)  # the members of a sweep start from one file
def _loaded(trunk: Any, where: str, sha256: str, streams: tuple[str, ...]) -> Variables:
    if there := known(sha256):
        warn(f"weights:{where}: {there.told()}")
    return weights.load(trunk, where, streams=streams)


def _hub(where: str, phase: Phase) -> Variables:
    """The weights of a repository of the hub."""
    fetched = hub.fetch(where)
    warn(f"{where}: {fetched.told()}")
    return _weights(str(fetched.path), phase)


def _hub_identity(where: str) -> dict[str, str]:
    fetched = hub.fetch(where)
    told = {"revision": fetched.revision, "licence": fetched.licence}
    return {**_weights_identity(str(fetched.path)), **told}


def _weights_identity(where: str) -> dict[str, str]:
    try:
        with open(where, "rb") as file:
            return {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    except OSError as error:
        raise UserError(f"expected a file that can be read ({error.strerror})") from None


def _run_identity(where: str) -> dict[str, str]:
    return {"fingerprint": "+".join(checkpoint.identity(path) for path in _places(where)[0])}


def _step(where: str) -> tuple[str, str]:
    """(WORKDIR, STEP) of `WORKDIR@STEP`; without a step ""."""
    workdir, _, step = where.rpartition("@")
    return (workdir, step) if step.isdigit() else (where, "")


def ended(workdir: Path, phase: str) -> tuple[Variables, str] | None:
    """What a phase ended as, and its fault; None if it has not ended. Damage is an error."""
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
    found: dict[str, Variables] = {}
    for name in phases:
        saved = ended(workdir, name)
        if saved is None:
            raise UserError(f"workdir: got {str(workdir)!r}; expected the end of phase {name!r}")
        found[name] = results.with_heads(results.carried(found), saved[0])
    return found


def _run(where: str, phase: Phase) -> Variables:
    """The variables of another run: of its end, or at a step of its last phase that has it."""
    paths, names = _places(where)
    if names:
        return _merged(where, finals(Path(paths[0]).parents[2], names)[names[-1]])
    states = [state for path in paths for state in _lanes(checkpoint.load(path))]
    return _merged(where, _judged(min(states, key=lambda state: float(state["totals"]["loss"]))))


def _merged(where: str, variables: Variables) -> Variables:
    """The variables of another run, its adapters merged."""
    if not variables["params"].get("adapters"):
        return variables
    network = network_of(check(recorded(Path(_step(where)[0])).config), 1)
    return {**variables, "params": network.effective(variables["params"])}


def _places(where: str) -> tuple[list[Path], list[str]]:
    """Where the variables of another run lie: its phases' ends, with the phases' names; or the
    checkpoints of a step, of each restart one, or all of them as lanes of one program."""
    where, step = _step(where)
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


ORIGINS: dict[str, Origin] = {
    "run": Origin(_run, _run_identity, "run:WORKDIR"),
    "weights": Origin(_weights, _weights_identity, "weights:FILE"),
    "hf": Origin(_hub, _hub_identity, "hf:REPO@REVISION"),
    "timm": Origin(
        lambda name, phase: _hub(f"timm/{name}", phase),
        lambda name: _hub_identity(f"timm/{name}"),
        "timm:NAME@REVISION",
    ),
}

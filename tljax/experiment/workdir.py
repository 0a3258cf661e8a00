"""The directory of a run or a sweep: whose it is, who holds it, what version wrote it."""

import contextlib
import fcntl
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tljax import __version__, trees
from tljax.errors import UserError, warn, wrong
from tljax.experiment.check import check, place
from tljax.experiment.fields import CACHES, PHASE_FIELDS
from tljax.train.files import read_json, write_json

LOCK, DATA, TOKENIZER = ".lock", "data.json", "tokenizer.json"


class Held(UserError):
    """A directory that another run holds."""


class Another(UserError):
    """A directory that holds a run of another config."""


class Recorded(NamedTuple):
    """What `config.json` says."""

    config: dict[str, Any]
    sweep: bool
    version: str


def recorded(workdir: Path) -> Recorded:
    """The config that a directory was begun with.

    Raises:
      UserError: no config.json there, a damaged one, or one of something else.
    """
    try:
        there = read_json(workdir / "config.json")
    except OSError as error:
        expected = f"the directory of a run or a sweep, with its config.json ({error.strerror})"
        raise wrong("workdir", str(workdir), expected) from None
    version = str(there.pop("version", "an earlier version"))
    sweep = "sweep" in there
    config = there["sweep"] if sweep else there
    if not isinstance(config, dict) or "streams" not in config:
        raise wrong("workdir", str(workdir), "a run of ours; its config.json is of something else")
    return Recorded(config, sweep, version)


def claim(workdir: Path, config: Mapping[str, Any], sweep: bool = False) -> None:
    """Makes a directory this config's, or refuses it.

    A run that has ended is taken up again where this config has more steps for its last phase.

    Args:
      workdir: of a run or a sweep.
      config: resolved.
      sweep: whether it is of a sweep.

    Raises:
      UserError: a directory of another config or of something else, or one that cannot be written.
    """
    if more := _differing(workdir, config, sweep):
        _reopen(workdir, *more)
    _writable(workdir)
    record = {"version": __version__, **({"sweep": config} if sweep else config)}
    write_json(workdir / "config.json", record)


@contextlib.contextmanager
def claimed(workdir: Path, config: Mapping[str, Any]) -> Iterator[None]:
    """Makes a directory this run's, and holds it; or refuses it.

    Raises:
      Held: one that another process holds.
      UserError: see `claim`.
    """
    _differing(workdir, config, sweep=False)  # before anything is written there
    _writable(workdir)
    with _held(workdir):
        claim(workdir, config)  # now that nobody else changes it
        yield


def _writable(workdir: Path) -> None:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if not os.access(workdir, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise _unusable(workdir, error) from None


def _unusable(workdir: Path, error: OSError) -> UserError:
    return wrong("workdir", str(workdir), f"a directory to write in ({error.strerror})")


def _differing(workdir: Path, config: Mapping[str, Any], sweep: bool) -> tuple[str, int] | None:
    """Refuses a directory that is not this config's; the phase with more steps, and how many it
    has had, if that is all that differs in a run that has ended."""
    try:
        names = {path.name for path in workdir.iterdir()}
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(workdir, error) from None
    others = [n for n in names if n != LOCK and not re.fullmatch(r"config\.json\.\d+\.partial", n)]
    if not others:
        return None
    if "config.json" not in others:
        expected = f"an empty directory or a run of ours; it holds {min(others)}"
        raise wrong("workdir", str(workdir), expected)
    try:
        there = recorded(workdir)
    except UserError as error:
        if not (workdir / "config.json").stat().st_size and not _begun(workdir):  # cut off at once
            return None
        raise UserError(f"workdir: {error}; put it back, or take another workdir") from None
    written = f"it was written by tljax {there.version}, this is {__version__}"
    if there.sweep != sweep:
        kinds = ("a run", "a sweep")
        expected = f"a directory of {kinds[sweep]}, not of {kinds[there.sweep]}"
        raise wrong("workdir", str(workdir), expected)
    now = _canonical(config)
    try:
        before = _canonical(there.config)
    except UserError as error:
        if not _begun(workdir):
            return None
        raise UserError(f"workdir: got {str(workdir)!r}; {error} ({written})") from None
    # What lies elsewhere now is the same: of data `keep_data` sees to it. A sweep names its runs by
    # where their data are.
    places = CACHES if sweep else (*CACHES, "data_dir")
    paths = [path for path in {**before, **now} if before.get(path) != now.get(path)]
    paths = [path for path in paths if path not in places]
    if not paths or not _begun(workdir):  # a config that was refused, and has been put right
        return None
    phase = (config["phases"] or ["train"])[-1]
    field = place(phase, "steps")
    if paths == [field] and int(now[field]) > int(before[field]) and not sweep:
        if (workdir / "phases" / phase / "ended.json").exists():
            return phase, int(before[field])
        expected = f"the end of its {before[field]} steps first, and then more of them"
        raise wrong(field, int(now[field]), expected)
    listed = ", ".join(
        f"{path} ({before.get(path, 'nothing')} there, {now.get(path, 'nothing')} here)"
        for path in paths
    )
    hint = "" if there.version == __version__ else f" ({written})"
    expected = f"a run of the same config; these differ: {listed}{hint}"
    raise wrong("workdir", str(workdir), expected, Another)


def _canonical(config: Mapping[str, Any]) -> dict[str, str]:
    """Every field of a config by path, those that it leaves out with their defaults."""
    checked = check(config)
    fields = checked.fields.model_dump()
    if checked.fields.phases:
        fields = {name: value for name, value in fields.items() if name not in PHASE_FIELDS}
        fields |= {name: phase.model_dump() for name, phase in checked.phases.items()}
    # JSON has lists where a config may have tuples.
    leaves = trees.flatten(json.loads(json.dumps(fields)))
    return {path.replace("/", "."): json.dumps(leaf) for path, leaf in leaves.items()}


def _begun(workdir: Path) -> bool:
    """Whether a run has left anything beside its config and features of whatever config; the first
    file that is found tells."""
    ours = {workdir / name for name in ("config.json", DATA, LOCK, TOKENIZER)}
    own = (p for p in workdir.rglob("*") if workdir / "features" not in p.parents)
    return any(p not in ours and p.is_file() and p.stat().st_size for p in own)


def _reopen(workdir: Path, phase: str, steps: int) -> None:
    """Makes the end of a run's last phase a step among others; what it reached is kept."""
    result, ended = workdir / "result.json", workdir / "phases" / phase / "ended.json"
    if result.exists():
        result.rename(workdir / f"result@{steps}.json")
    ended.unlink()


_ours: set[str] = set()  # directories that this process holds: its own locks do not stop it


@contextlib.contextmanager
def _held(workdir: Path) -> Iterator[None]:
    """Holds a directory as long as this process lives, or refuses it.

    The lock is POSIX's, on a byte of a file: the system lets go of it when the process ends,
    however that comes about, and it holds between hosts where the file system is NFS. Where there
    are no locks a warning says so.
    """
    path, name = workdir / LOCK, os.path.realpath(workdir)
    if name in _ours:
        raise _taken(workdir, "this process")
    with open(path, "a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise _taken(workdir, " ".join(file.read().split()) or "another process") from None
        except OSError as error:
            warn(
                f"workdir {str(workdir)!r}: its file system has no locks ({error.strerror}); take "
                "care that no second run is started in it"
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        _ours.add(name)
        try:
            yield
        finally:
            _ours.discard(name)
            file.truncate(0)


def _taken(workdir: Path, holder: str) -> UserError:
    expected = f"a directory that nothing else runs in; {holder} holds it"
    return wrong("workdir", str(workdir), expected, Held)


def finished(workdir: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result of a run of this config that has ended; it is only read.

    Raises:
      UserError: a directory of another config, or of something else.
    """
    if not (workdir / "result.json").exists() or _differing(workdir, config, sweep=False):
        return None
    return result(workdir)


def result(workdir: Path) -> dict[str, Any] | None:
    """What `result.json` holds; None without one, or if it is damaged, which a warning says."""
    try:
        return read_json(workdir / "result.json", "evaluations")
    except FileNotFoundError:
        return None
    except UserError as error:
        warn(f"{error}; it is made again from what the phases ended as")
        return None


def keep_data(workdir: Path, found: Mapping[str, Any]) -> None:
    """Keeps what the data and origins of a run are, or refuses others than it began with.

    Args:
      workdir: of the run, held.
      found: "streams.NAME", "evaluate.NAME" or an origin -> what tells it from any other.

    Raises:
      UserError: naming the first that differs, and how.
    """
    path, before = workdir / DATA, {}
    if path.exists() and _begun(workdir):
        try:
            before = read_json(path)
        except UserError as error:
            warn(f"{error}; whether the data are still the same is not known")
    found = json.loads(json.dumps(found))
    for name, now in found.items():
        there = before.get(name, {})  # an earlier version may have kept less
        if keys := [key for key in now if key in there and now[key] != there[key]]:
            was, is_now = ({key: each.get(key) for key in keys} for each in (there, now))
            expected = f"what the run began with, {was}; take another workdir for other data"
            raise wrong(name, is_now, expected)
    if before != {**before, **found}:
        write_json(path, {**before, **found})


def kept(workdir: Path) -> dict[str, Any]:
    """What `keep_data` has kept; nothing where that is not to be read."""
    try:
        return read_json(workdir / DATA)
    except (OSError, UserError):
        return {}


def classes(workdir: Path) -> dict[str, tuple[str, ...]]:
    """Head -> the names of its outputs, of those that a run has taught with labels."""
    heads = {n: each for n, each in kept(workdir).items() if n.startswith("heads.")}
    return {name.removeprefix("heads."): tuple(each["classes"]) for name, each in heads.items()}

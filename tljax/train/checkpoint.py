"""Checkpoints of a phase through orbax: asynchronous, checked, falling back when damaged."""

import hashlib
import shutil
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1 as ocp

from tljax import programs, trees
from tljax.errors import UserError, warn
from tljax.train import hosts

SMALL = 2**16  # elements, whose checksum takes numpy about a millisecond
_STATE = "state"


class Unsaved(UserError):
    """What could not be saved: a full disk, say."""


class Unlike(UserError):
    """A checkpoint that is whole, of other parameters than those that are expected."""


class Checkpoints:
    """The checkpoints of one phase, by step. The newest `keep` are kept."""

    def __init__(self, directory: Path, keep: int = 2):
        policies = ocp.training.preservation_policies
        self.directory = directory
        self._pending: tuple[int, Any] | None = None
        try:
            self._orbax = ocp.training.Checkpointer(
                directory.absolute(),
                # The default skips a save while another is under way, so that the steps would vary.
                save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
                preservation_policy=policies.LatestN(keep),
                cleanup_tmp_directories=True,
            )
        except OSError as error:
            raise Unsaved(f"workdir: cannot write {str(directory)!r}: {error}") from None

    def save(self, step: int, state: Any) -> None:
        """Begins to save; returns once the state has been copied, so that it may be donated.

        Raises:
          UserError: this save, or the one before it, failed (a full disk, say).
        """
        self.wait()
        sums, kept = _sums(state), _copied(state)
        try:
            response = self._orbax.save_checkpointables_async(
                step, {_STATE: kept}, custom_metadata={"checksums": sums}, overwrite=True
            )
            self._pending = step, response
        except Exception as error:
            raise self._failed(step, error) from error

    def wait(self) -> None:
        """Waits until what was begun is on disk; a save that failed in the background raises."""
        if self._pending is None:
            return
        (step, response), self._pending = self._pending, None
        try:
            if response is not None:
                response.result()
            self._orbax.wait()
        except Exception as error:
            raise self._failed(step, error) from error

    def _failed(self, step: int, error: Exception) -> Exception:
        system = _of_the_system(error)
        if hosts.several() and system is None:
            return error  # another process may be lost
        newest = max(self.steps(), default=None)
        good = "there is none yet" if newest is None else f"the newest good one is step {newest}"
        where = f"step {step} in {str(self.directory)!r}"
        return Unsaved(
            f"workdir: cannot save {where}: {_reason(error)}; {good}. "
            "Make room, then run the same command again to resume"
        )

    def steps(self) -> list[int]:
        """The saved steps, oldest first, as the directory shows them."""
        return sorted(int(path.name) for path in self.directory.glob("*") if path.name.isdigit())

    def restore(self, like: Any) -> tuple[int, Any | None]:
        """The newest state that can be read whole, and its step; (0, None) if there is none.

        A checkpoint that is damaged is put aside with a warning, and the one before it is read.

        Args:
          like: a state of the structure, shapes, types and devices that are expected.

        Raises:
          Unlike: a whole checkpoint of another structure, or of other shapes; it stays.
        """
        for step in reversed(self.steps()):
            state, reason = None, ""
            try:
                state = load(self.directory / str(step), like)
            except Unlike:
                raise
            except UserError as error:
                reason = str(error)
            if not hosts.largest(state is None):
                return step, state
            if hosts.leader():
                warn(f"{reason}; put aside, falling back to the one before")
                aside = self.directory.parent / f"damaged-{self.directory.name}-{step}"
                shutil.rmtree(aside, ignore_errors=True)
                (self.directory / str(step)).rename(aside)
            hosts.wait(f"aside {step}")
            self._orbax.reload()
        return 0, None

    def close(self) -> None:
        """Waits for what is under way and lets the directory go."""
        self.wait()
        self._orbax.close()


def _reason(error: Exception) -> str:
    """Why a save failed, in words."""
    return _of_the_system(error) or f"{type(error).__name__}: {error}".splitlines()[0][:300]


def _of_the_system(error: BaseException | None) -> str | None:
    """What the operating system said, where it is behind an error."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error.strerror if error else None


@jax.jit
def _copied(state: Any) -> Any:
    """What is written in the background, while the next step is free to overwrite the state."""
    return jax.tree.map(jnp.copy, state)


def _checksum(leaf: Any, xp: Any = jnp) -> Any:
    """The sum of every element's bits mixed with its place: a single element that differs changes
    it, which tensorstore does not notice. The same on any devices, by jax or by numpy (`xp`)."""
    bits = leaf.view({1: xp.uint8, 2: xp.uint16}.get(leaf.dtype.itemsize, xp.uint32))
    bits = bits.astype(xp.uint32)
    for axis, length in enumerate(bits.shape):
        shape = [length if i == axis else 1 for i in range(bits.ndim)]
        place = xp.arange(length, dtype=xp.uint32).reshape(shape)
        bits = (bits ^ place) * xp.uint32(0x9E3779B1)
        bits = bits ^ (bits >> xp.uint32(15))
    return xp.sum(bits * xp.uint32(0x85EBCA6B), dtype=xp.uint32)


@programs.once
def _checksums(leaves: Any) -> Any:
    return jax.tree.map(_checksum, leaves)


def save(path: Path, tree: Any) -> None:
    """Saves a tree at a path, whole or not at all; what is there already is replaced.

    Raises:
      UserError: it could not be written.
    """
    tree = jax.tree.map(jnp.asarray, tree)  # of the types that are written
    sums = _sums(tree)
    try:
        ocp.save_checkpointables(
            path.absolute(), {_STATE: tree}, custom_metadata={"checksums": sums}, overwrite=True
        )
    except Exception as error:
        if hosts.several() and _of_the_system(error) is None:
            raise
        raise Unsaved(
            f"workdir: cannot save {str(path)!r}: {_reason(error)}. "
            "Make room, then run the same command again to resume"
        ) from error


def load(path: Path, like: Any = None) -> Any:
    """The one reader of checkpoints: a tree, every leaf of which has its checksum.

    Args:
      path: of one saved tree.
      like: its structure, shapes, types and devices; without it nested dictionaries of numpy arrays
        are read.

    Raises:
      Unlike: one of another structure, or of other shapes, than `like`.
      UserError: a checkpoint that is not there, not whole, or damaged.
    """
    try:
        metadata = ocp.checkpointables_metadata(path.absolute())
        held = metadata.metadata[_STATE]
        if like is None:
            like = jax.tree.map(_on_the_host, held)
        else:
            _check_alike(path, like, held)
        abstract = jax.tree.map(_abstract, like)
        with warnings.catch_warnings():  # orbax's, of reading where nothing is sharded
            warnings.filterwarnings("ignore", "Sharding info not provided")
            tree = ocp.load_checkpointables(path.absolute(), {_STATE: abstract})[_STATE]
        sums = dict(metadata.custom_metadata["checksums"])
    except Unlike:
        raise
    except Exception as error:  # orbax and tensorstore have no kind of their own for damage
        reason = str(error).strip().splitlines()[0][:200] if str(error) else repr(error)
        raise UserError(f"checkpoint {str(path)!r} cannot be read ({reason})") from None
    for name, number in _sums(tree).items():
        if sums.pop(name, None) != number:
            raise UserError(f"checkpoint {str(path)!r} is damaged: {name} has another checksum")
    if sums:
        raise UserError(f"checkpoint {str(path)!r} is damaged: {', '.join(sums)} are missing")
    return jax.tree.map(_as, like, tree)


def _check_alike(path: Path, like: Any, held: Any) -> None:
    lines = trees.differences(trees.flatten(like), trees.flatten(held))
    if lines:
        raise Unlike(
            f"checkpoint {str(path)!r} holds other parameters than this run has (- missing there, "
            f"+ there alone, ! shape here against there): {'; '.join(lines[:20])}. It was written "
            "by other code or another version: go on with that, or take another workdir"
        )


def identity(path: Path) -> str:
    """What tells a saved tree from any other: its checksums; nothing else of it is read.

    Raises:
      UserError: see `load`.
    """
    try:
        sums = ocp.checkpointables_metadata(path.absolute()).custom_metadata["checksums"]
    except Exception as error:  # as in `load`
        raise UserError(f"checkpoint {str(path)!r} cannot be read ({error})") from None
    return hashlib.sha256(repr(sorted(sums.items())).encode()).hexdigest()[:16]


def _abstract(leaf: Any) -> Any:
    """What a leaf is read into; what is bound to no device, on the host."""
    if isinstance(leaf, np.ndarray):
        return leaf
    if not leaf.committed:
        return _on_the_host(leaf)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def _on_the_host(leaf: Any) -> np.ndarray:
    return np.empty(leaf.shape, leaf.dtype)


def _as(leaf: Any, read: Any) -> Any:
    """What was read, where `leaf` is. It is bound to a device only where that was, as the programs
    of a bound state are others: a run that resumes would compile them all again."""
    bound = not isinstance(leaf, jax.Array) or leaf.committed
    return read if bound else jax.device_put(read, may_alias=False)


def _sums(tree: Any) -> dict[str, int]:
    """Path -> checksum. Of small leaves by numpy, which compiles nothing; of large ones a program a
    shape, as one of all leaves takes several times as long to compile. But one of all where devices
    add up, as a swarm of such programs may wait for ever."""
    arrays = (leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array))
    if any(len(leaf.sharding.device_set) > 1 for leaf in arrays):
        sums = _checksums(tree)
    else:
        sums = jax.tree.map(_alone, tree)
    return {path: int(value) for path, value in trees.flatten(jax.device_get(sums)).items()}


def _alone(leaf: Any) -> Any:
    if leaf.size > SMALL:
        return _checksums(leaf)
    with np.errstate(over="ignore"):  # of numbers without an axis
        return _checksum(np.asarray(leaf), np)

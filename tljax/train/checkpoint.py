"""Checkpoints of a phase through orbax: asynchronous, checked, falling back when damaged."""

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1 as ocp

from tljax import trees
from tljax.errors import UserError
from tljax.train import hosts

_STATE = "state"


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
            raise UserError(f"workdir: cannot write {str(directory)!r}: {error}") from None

    def save(self, step: int, state: Any) -> None:
        """Begins to save; returns once the state has been copied, so that it may be donated.

        Raises:
          UserError: this save, or the one before it, failed (a full disk, say).
        """
        self.wait()
        sums, kept = jax.device_get(_checksums(state)), _copied(state)
        sums = {path: int(value) for path, value in trees.flatten(sums).items()}
        try:
            self._pending = (
                step,
                self._orbax.save_checkpointables_async(
                    step, {_STATE: kept}, custom_metadata={"checksums": sums}, overwrite=True
                ),
            )
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
        reason = system or f"{type(error).__name__}: {error}".splitlines()[0]
        return UserError(
            f"workdir: cannot save step {step} in {str(self.directory)!r}: {reason}; {good}. "
            "Make room, then run the same command again to resume"
        )

    def steps(self) -> list[int]:
        """The saved steps, oldest first, as the directory shows them."""
        return sorted(int(path.name) for path in self.directory.glob("*") if path.name.isdigit())

    def restore(self, like: Any) -> Any | None:
        """The newest state that can be read whole; None if there is none.

        A checkpoint that is damaged is put aside with a warning, and the one before it is read.

        Args:
          like: a state of the structure, shapes, types and devices that are expected.
        """
        for step in reversed(self.steps()):
            state, reason = None, ""
            try:
                state = self._load(step, like)
            except Exception as error:
                reason = str(error).strip().splitlines()[0][:200] if str(error) else repr(error)
            if not hosts.largest(state is None):
                return state
            if hosts.leader():
                warnings.warn(
                    f"checkpoint {self.directory / str(step)} is damaged and was put aside "
                    f"({reason}); falling back to the one before",
                    stacklevel=2,
                )
                aside = self.directory.parent / f"damaged-{self.directory.name}-{step}"
                shutil.rmtree(aside, ignore_errors=True)
                (self.directory / str(step)).rename(aside)
            hosts.wait(f"aside {step}")
            self._orbax.reload()
        return None

    def _load(self, step: int, like: Any) -> Any:
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), like
        )
        state = self._orbax.load_checkpointables(step, {_STATE: abstract})[_STATE]
        sums = dict(self._orbax.metadata(step).custom_metadata["checksums"])
        for path, found in trees.flatten(jax.device_get(_checksums(state))).items():
            if sums.pop(path) != int(found):
                raise OSError(f"the contents of {path} do not have their checksum")
        return state

    def close(self) -> None:
        """Waits for what is under way and lets the directory go."""
        self.wait()
        self._orbax.close()


def _of_the_system(error: BaseException | None) -> str | None:
    """What the operating system said, where it is behind an error."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error.strerror if error else None


@jax.jit
def _copied(state: Any) -> Any:
    """What is written in the background, while the next step is free to overwrite the state."""
    return jax.tree.map(jnp.copy, state)


@jax.jit
def _checksums(state: Any) -> Any:
    """A number a leaf, the same on any devices: tensorstore does not notice flipped bits.

    The sum of every element's bits mixed with its place: a single element that differs changes it.
    """
    return jax.tree.map(_checksum, state)


def _checksum(leaf: jax.Array) -> jax.Array:
    size = leaf.dtype.itemsize
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}.get(size, jnp.uint32)
    bits = jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)
    mixed = bits
    for axis in range(bits.ndim):
        mixed = (mixed ^ jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)) * jnp.uint32(
            0x9E3779B1
        )
        mixed = mixed ^ (mixed >> 15)
    return jnp.sum(mixed * jnp.uint32(0x85EBCA6B), dtype=jnp.uint32)


def final(workdir: Path) -> dict[str, Any] | None:
    """The newest variables `{"params", "batch_stats"}` of a run's last phase that has been trained.

    The average of the parameters, where one is kept; of restarts, the one of the lowest loss. None
    where there is no run or no checkpoint.

    Raises:
      UserError: a checkpoint that cannot be read.
    """
    try:
        phases = json.loads((workdir / "config.json").read_text())["phases"] or ["train"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    for phase in reversed(phases):
        folders = [workdir / "checkpoints" / phase]
        while (again := folders[0].with_name(f"{phase}@{len(folders)}")).exists():
            folders.append(again)
        states = [state for state in map(_newest, folders) if state is not None]
        if states:
            state = min(states, key=lambda each: float(each["totals"]["loss"]))
            params, average = state["params"], state["average"]
            params = params if average is None else _over(params, average)
            return {"params": params, "batch_stats": state["batch_stats"] or {}}
    return None


def _newest(folder: Path) -> Any | None:
    """The newest state in a phase's checkpoints, whatever its structure; None if there is none."""
    steps = sorted(int(each.name) for each in folder.glob("*") if each.name.isdigit())
    if not steps:
        return None
    path = (folder / str(steps[-1])).absolute()
    try:
        shapes = ocp.checkpointables_metadata(path).metadata[_STATE]
        whole = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), shapes)
        return ocp.load_checkpointables(path, {_STATE: whole})[_STATE]
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error) else repr(error)
        raise UserError(f"start: checkpoint {str(path)!r} cannot be read ({reason})") from None


def _over(tree: Any, other: Any) -> Any:
    """The leaves of `other` over those of `tree`, where it has any."""
    if not isinstance(tree, dict):
        return tree if other is None else other
    return {key: _over(value, (other or {}).get(key)) for key, value in tree.items()}


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(value, indent=2) + "\n")
    partial.replace(path)

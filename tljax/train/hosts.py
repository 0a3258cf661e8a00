"""Several processes, on one host or many, as one run: they meet, agree, wait, and end together.

Every process runs the same program on the same config and its own part of the devices. The first,
the leader, writes records and results. All share the workdir.
"""

import contextlib
import json
import os
import socket
import sys
import time
import traceback
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from tljax import trees
from tljax.errors import Stopped, UserError, wrong

connected = False  # whether this process has joined others
AGAIN = 75  # the exit code of a process that may have lost another; sysexits.h: try again later
HEARTBEAT = 20  # seconds without a sign of life, after which a process counts as dead


def connect(
    coordinator: str | None, process: int | None, count: int | None, timeout: int = 300
) -> None:
    """Joins the processes of a run; to be called before anything is computed.

    Args:
      coordinator: "HOST:PORT" where the first process listens; None where the cluster (Slurm, Open
        MPI, Kubernetes, Cloud TPU) says all three.
      process, count: this process's number, and how many there are.
      timeout: seconds to wait for the others.

    Raises:
      UserError: an address that is none, a number out of range, a coordinator that does not answer.
    """
    if coordinator is not None:
        _check(coordinator, process, count)
        if process:
            _reach(coordinator, timeout)
    elif process is not None or count is not None:
        raise wrong("--coordinator", None, "HOST:PORT of process 0, with the other two flags")
    meeting = "the cluster" if coordinator is None else coordinator
    try:
        jax.distributed.initialize(
            coordinator,
            count,
            process,
            initialization_timeout=timeout,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=600,
        )
    except (ValueError, RuntimeError) as error:
        expected = f"processes that can meet ({error}); or give --coordinator, --process_id"
        raise wrong("--distributed", meeting, f"{expected} and --num_processes") from None
    global connected
    connected = True


def _check(coordinator: str, process: int | None, count: int | None) -> None:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise wrong("--coordinator", coordinator, "HOST:PORT, as 10.0.0.1:4000")
    if count is None or count < 1:
        raise wrong("--num_processes", count, "the number of processes, at least 1")
    if process is None or not 0 <= process < count:
        raise wrong("--process_id", process, f"a number from 0 to {count - 1}")


def _reach(coordinator: str, timeout: int) -> None:
    """Waits until the coordinator listens."""
    host, _, port = coordinator.rpartition(":")
    deadline, reason = time.monotonic() + timeout, None
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=5):
                return
        except OSError as error:
            reason = error.strerror or str(error)
            time.sleep(0.5)
    expected = f"process 0 to answer there within {timeout} s ({reason})"
    raise wrong("--coordinator", coordinator, expected)


def several() -> bool:
    """Whether this run has several processes."""
    return jax.process_count() > 1


def leader() -> bool:
    """Whether this process writes what a run leaves."""
    return jax.process_index() == 0


def wait(name: str) -> None:
    """Waits until all processes are here."""
    if several():
        multihost_utils.sync_global_devices(name)


def largest(number: int) -> int:
    """The largest of the processes' numbers, the same for all."""
    if not several():
        return number
    return int(np.max(multihost_utils.process_allgather(np.int32(number))))


def agree(config: Mapping[str, Any]) -> None:
    """Refuses configs that differ between processes.

    Raises:
      UserError: in every process, naming the fields.
    """
    if not several():
        return
    text = json.dumps(config, sort_keys=True).encode()
    padded = np.frombuffer(text.ljust(largest(len(text))), np.uint8)
    texts = multihost_utils.process_allgather(padded)
    first, *others = (trees.flatten(json.loads(bytes(text))) for text in texts)
    for number, other in enumerate(others, start=1):
        names = [name for name in {**first, **other} if first.get(name) != other.get(name)]
        if names:
            listed = ", ".join(
                f"{name.replace('/', '.')} ({first.get(name)!r} in process 0, "
                f"{other.get(name)!r} in process {number})"
                for name in names
            )
            raise UserError(f"config: the processes have different ones: {listed}")


def check_same(tree: Any, what: str) -> None:
    """Refuses arrays that differ between processes, of which each has its own copy.

    Raises:
      UserError: in every process.
    """
    if not several():
        return
    crc = 0
    for leaf in jax.tree.leaves(tree):
        crc = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), crc)
    sums = np.asarray(multihost_utils.process_allgather(np.uint32(crc))).ravel()
    for number in np.flatnonzero(sums != sums[0]):
        raise UserError(f"{what}: those of process {number} differ from those of process 0")


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Ends this process at once when anything but a mistake or a stop ends what it computes.

    What fails may be a computation that another process has left, or leave another waiting. Where
    jax notices first that one is dead, it aborts this process with a message of its own.
    """
    try:
        yield
    except (UserError, Stopped):
        raise
    except Exception:
        if not connected:
            raise
        traceback.print_exc()
        print(
            f"tljax: error: process {jax.process_index()} of {jax.process_count()} cannot go on; "
            "if it has lost another process, that one's output says why. Run the same commands "
            "again to resume from the last checkpoint",
            file=sys.stderr,
        )
        leave(AGAIN)


def leave(code: int) -> NoReturn:
    """Ends this process at once: it does not wait for others, who wait for it in vain."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

"""What a process has of its machine: cores, and memory that stays with it when it is freed."""

import ctypes
import os
import sys

# malloc.h's numbers of what mallopt sets.
TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8


def cores() -> int:
    """How many cores this process may use, which a job's are fewer than the machine's."""
    allowed = getattr(os, "sched_getaffinity", None)  # of Linux
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def keep_freed(several: bool = False) -> bool:
    """Lets glibc's malloc keep freed memory, which takes half of a large network's step on a CPU.

    XLA allocates the temporaries of every step afresh. Of more than 32 MB they are mapped and
    unmapped each time, and the kernel zeroes every page; so are more than 64 MB in a thread that
    has an arena of its own. To be called before JAX makes its client, whose threads have theirs.

    Args:
      several: whether threads keep arenas of their own, as many small allocations at once want it
        (a sweep of small networks waits a third of its time for the lock of a single one).

    Returns:
      Whether it was done: not without glibc, and not where the environment sets malloc itself.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return False
    settings = {**({} if several else {ARENA_MAX: 1}), MMAP_MAX: 0, TRIM_THRESHOLD: -1}
    return all([libc.mallopt(name, value) for name, value in settings.items()])

"""Compiled programs: those of earlier processes are kept, those that run once are made cheaply."""

import functools
import hashlib
import os
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from tljax.errors import warn

LARGEST = 4 << 30  # bytes; what has not been used for longest goes first
# A CPU's compilation in a quarter of the time. Of XLA's two ways to write loops the older is the
# faster to compile; jaxlib 0.11 has it no more.
_CHEAP: dict[str, Any] = {"xla_backend_optimization_level": 0}
if jax.__version_info__ < (0, 11):
    _CHEAP["xla_cpu_use_fusion_emitters"] = False
FULL = 0.5  # of the mappings that a process may have, from which on programs are let go


def keep(where: str = "user") -> None:
    """Keeps what this process compiles, and takes what others have kept.

    An entry is trusted as code is: a directory of ours is for its owner alone (0700), and of one
    kind of processor, as XLA compiles for the one that it runs on.

    Args:
      where: a directory; "user" is `programs/PROCESSOR` in `~/.cache/tljax` ($XDG_CACHE_HOME);
        "" none. What the environment (`JAX_COMPILATION_CACHE_DIR`,
        `JAX_ENABLE_COMPILATION_CACHE`) or `jax.config` says goes first.
    """
    names = ("jax_compilation_cache_dir", "jax_enable_compilation_cache")
    before, enabled = (jax.config.values[name] for name in names)
    if not enabled or before not in (None, *_ours):
        return
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "tljax", "programs")
    path = Path(where).expanduser() if where != "user" else home / _processor()
    usable = bool(where) and _private(path)
    chosen = str(path) if usable else None
    if chosen == before:
        return
    if chosen:
        _ours.add(chosen)
    jax.config.update("jax_compilation_cache_dir", chosen)
    jax.config.update("jax_compilation_cache_max_size", LARGEST)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compilation_cache.reset_cache()  # which has been asked for once, and remembers the answer


_ours: set[str] = set()  # that have been chosen here


def told(warning: str) -> str | None:
    """What a user should read of a warning of JAX's about a program that is kept here.

    One that a full disk or a kill has cut short stays where it is, and would warn for ever: it is
    removed, and made anew.

    Args:
      warning: its text.

    Returns:
      A line, "" where there is nothing to say; None: it is about something else.
    """
    match = re.match(r"Error (reading|writing) persistent .*? for '(.*?)': (.*)", warning)
    where = jax.config.values["jax_compilation_cache_dir"]
    if not match or where not in _ours:
        return None
    for path in Path(where).glob(f"{match[2]}-*"):
        path.unlink(missing_ok=True)
    return f"a compiled program is not kept: {match[3]}" * (match[1] == "writing")


def make_room() -> None:
    """Lets go of a process's compiled programs before they are too many.

    Each piece of machine code is mapped three times; at Linux's limit (`vm.max_map_count`, 65,530)
    XLA ends the process without a word. A digits run needs 1,500, so that a notebook or a sweep of
    some forty networks of different shapes would get there. What is needed again is compiled again,
    or read where it is kept.
    """
    try:
        limit = int(Path("/proc/sys/vm/max_map_count").read_text())
        with open("/proc/self/maps", "rb") as maps:
            mapped = sum(1 for _ in maps)
    except (OSError, ValueError):
        return  # no Linux
    if mapped > FULL * limit:
        jax.clear_caches()


def _private(path: Path) -> bool:
    """Whether a directory is there and ours; a line where it is not."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
        if found.st_uid != os.getuid() or found.st_mode & 0o022:
            warn(f"{path}: others may write there, so no compiled programs are kept or read")
            return False
    except OSError as error:
        warn(f"{path}: {error.strerror}, so no compiled programs are kept")
        return False
    return os.access(path, os.W_OK)


def _processor() -> str:
    """A name for what a processor can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        features = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:8]}"


def once(function: Callable[..., Any], **how: Any) -> Callable[..., Any]:
    """`jax.jit` for what a process runs a few times: on a CPU it compiles in a quarter of the time.

    The results are those of the usual compilation up to rounding.
    """

    @functools.cache
    def program(cheap: bool) -> Any:
        return jax.jit(function, compiler_options=_CHEAP if cheap else None, **how)

    @functools.wraps(function)
    def called(*arguments: Any) -> Any:
        inside = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arguments))
        return program(jax.default_backend() == "cpu" and not inside)(*arguments)

    return called

"""Times the demo from the start of its process to its first metrics: python -m benchmarks.start.

*Cold* keeps compiled programs in an empty cache directory, *warm* finds those that the cold start
has left there, *none* has no cache. Files are in the operating system's memory and Python's
bytecode is there in all three; matplotlib's list of fonts, in the same cache directory, is what a
cold whole run makes besides. Until the first metrics a checkpoint is due with them, as lines reach
the disk with it.
"""

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import frame

FIRST = 50  # steps to the first line, of a config that logs every 50
SCRIPT = [sys.executable, "-c", "from tljax.main import script; script()"]
LEFT_OUT = ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE")  # they would go first


def start(cache: Path, whole: bool, *more: str) -> None:
    """A process of the demo, until its first line of metrics or to its end."""
    environment = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
    environment["XDG_CACHE_HOME"] = str(cache)
    more = more if whole else (*more, f"--config.checkpoint_every={FIRST}")
    with tempfile.TemporaryDirectory() as there:
        flags = ["--config=configs/dann.py", "--quiet", f"--workdir={there}/run", *more]
        process = subprocess.Popen([*SCRIPT, *flags], cwd=frame.ROOT, env=environment)
        try:
            if whole:
                process.wait()
            while not _written(Path(there, "run", "metrics.jsonl")):
                if process.poll() is not None:
                    break
                time.sleep(0.005)
            if process.poll() not in ((0,) if whole else (None,)):
                sys.exit(f"the demo ended too early, with exit code {process.returncode}")
        finally:
            process.kill()
            process.wait()


def _written(metrics: Path) -> bool:
    return metrics.exists() and "\n" in metrics.read_text()


def starts(directory: Path, whole: bool) -> dict[str, Callable[[], None]]:
    """The three starts, in the order of a round."""
    caches = itertools.count()
    latest = [directory]

    def cold() -> None:
        latest[0] = directory / str(next(caches))
        latest[0].mkdir()
        start(latest[0], whole)

    return {
        "cold": cold,
        "warm": lambda: start(latest[0], whole),
        "none": lambda: start(latest[0], whole, "--config.compiled_dir="),
    }


def main() -> None:
    parser = frame.flags(__doc__, rounds=5)
    parser.add_argument("--whole", action="store_true", help="the demo to its end")
    options = parser.parse_args()
    kind = "the whole demo" if options.whole else "to the first metrics"
    with frame.measured("start", options, lambda: kind) as record:
        with tempfile.TemporaryDirectory() as directory:
            contestants = starts(Path(directory), options.whole)
            record["s"] = times = frame.rounds(contestants, options.rounds)
        record.head(kind, "s: median (least–most)", "none / this")
        for name, values in times.items():
            ratios = frame.ratios(times["none"], values)
            record.row(name, frame.spread(values), frame.spread(ratios))


if __name__ == "__main__":
    main()

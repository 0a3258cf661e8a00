"""What a process has of its machine."""

import os
import subprocess
import sys

import pytest

from tljax.memory import cores

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    monkeypatch.delattr(os, "sched_getaffinity")  # as on a Mac
    assert cores() == os.cpu_count()


# 80 MB in a thread, as XLA's are, written four times: 20,000 pages of 4 kB each time where they
# are unmapped, once where they are kept.
PROGRAM = """
import resource, threading, numpy as np
from tljax.memory import keep_freed
print(keep_freed())
def work():
    for _ in range(4):
        np.ones(10_000_000)
thread = threading.Thread(target=work)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thread.start(), thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(**environment):
    inherited = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    inherited.pop("GLIBC_TUNABLES", None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**inherited, "NUMPY_MADVISE_HUGEPAGE": "0", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    kept, faults = done.stdout.split()
    return kept, int(faults)


def test_what_is_freed_is_kept_unless_the_environment_sets_malloc():
    kept, faults = run()
    assert kept == "True" and 19_000 < faults < 22_000
    kept, faults = run(MALLOC_TOP_PAD_="0")
    assert kept == "False" and faults > 76_000

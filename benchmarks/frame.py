"""What all benchmarks share: a quiet machine, rounds that take turns, and what is kept of them."""

import argparse
import importlib.metadata
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SHARE, LOAD = 0.05, 0.5  # of the cores, and of a minute's load average, that others may have
PACKAGES = ("jax", "jaxlib", "numpy", "torch", "transformers", "grain", "pillow", "simplejpeg")


def flags(text: str | None, rounds: int | None = None) -> argparse.ArgumentParser:
    """A parser with the flags that all share; without `rounds` of a script that times nothing."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--write", action="store_true", help="keep it in benchmarks/results/")
    if rounds:
        parser.add_argument("--rounds", type=positive, default=rounds, help="after the first")
        parser.add_argument("--busy", action="store_true", help="go on beside other processes")
    return parser


def positive(text: str) -> int:
    """A flag's integer of at least 1."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"got {number}; expected at least 1")
    return number


def taken() -> tuple[float, float] | None:
    """Processor seconds of the whole machine and of this process; None without /proc/stat."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, steal = map(int, fields)
    ticks = user + nice + system + irq + softirq + steal  # a neighbour's theft disturbs as much
    return ticks / os.sysconf("SC_CLK_TCK"), time.process_time()


def others(
    sample: Callable[[], tuple[float, float] | None] = taken, seconds: float = 1.0
) -> float | None:
    """The share of the cores that other processes take; None where that cannot be seen."""
    before = sample()
    time.sleep(seconds)
    after = sample()
    if before is None or after is None:
        return None
    whole, own = after[0] - before[0], after[1] - before[1]
    return max(0.0, whole - own) / (seconds * (os.cpu_count() or 1))


def load_of_others() -> float:
    """A minute's load average, but for what this process has put into it since it started."""
    return max(0.0, os.getloadavg()[0] - (1 - math.exp(-time.process_time() / 60)))


def quiet(
    busy: bool,
    look: Callable[[], float | None] = others,
    load: Callable[[], float] | None = load_of_others,
) -> str:
    """What other work there is, "" if none; refuses it in one line, with exit code 2.

    A ratio taken beside other work is no smaller truth but another: PyTorch's threads wait for
    one another, so that a process on one of their cores slows them out of all proportion, and the
    ratio would flatter tljax.

    Args:
      busy: `--busy`, which goes on.
      look: the share of the cores that others take, or None where that cannot be seen.
      load: a minute's load average; None after a timing, of which it would tell.
    """
    share, minute = look(), load() if load else 0.0
    noise = [f"other processes take {share:.0%} of the cores"] if (share or 0) > SHARE else []
    noise += [f"the load average of a minute is {minute:.2f}"] if minute > LOAD else []
    if noise and not busy:
        line = (
            f"{' and '.join(noise)}; expected at most {SHARE:.0%} and {LOAD}: "
            "wait, or --busy goes on and marks all that it prints and keeps as busy"
        )
        print(line, file=sys.stderr)
        raise SystemExit(2)
    return " and ".join(noise)


class Record(dict[str, Any]):
    """What is kept of a measurement, and how its table is printed."""

    busy = ""  # what else the machine did
    keep: Callable[[], None]  # writes what there is so far, where it is to be kept

    def head(self, *cells: str) -> None:
        """The head of a table."""
        self.row(*cells)
        print("|" + "---|" * (len(cells) + bool(self.busy)), flush=True)

    def row(self, *cells: Any) -> None:
        """A row, which says so where the machine was busy."""
        marked = [*map(str, cells), *(["busy"] if self.busy else [])]
        print(f"| {' | '.join(marked)} |", flush=True)


@contextmanager
def measured(
    name: str, options: argparse.Namespace, kind: Callable[[], str] = str, timed: bool = True
) -> Iterator[Record]:
    """A record to fill, on a quiet machine, which `--write` keeps in `results/NAME.json`.

    The machine is looked at before, where other work is refused, and after, where it is marked.

    Args:
      name: of the file.
      options: of `flags`.
      kind: under which of the file's keys, asked at the end; "": the file is the record.
      timed: False of what does not depend on time, which needs no quiet.
    """
    record, commit = Record(), _commit()
    record.busy = quiet(options.busy) if timed else ""

    def keep() -> None:
        if options.write:
            kept = {**environment(), "commit": commit, **({"busy": record.busy} if timed else {})}
            write(RESULTS / f"{name}.json", {**kept, **record}, kind())

    record.keep = keep
    yield record
    if timed and (later := quiet(True, load=None)):
        record.busy += f"{', ' * bool(record.busy)}after it {later}"
    if record.busy:
        print(f"busy: {record.busy}")
    keep()


def environment() -> dict[str, Any]:
    """Versions, device, processor, its cores and the threads of PyTorch where that is in use."""
    import jax

    from tljax.memory import cores

    found: dict[str, Any] = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    found |= {"device": jax.devices()[0].device_kind, "processor": processor(), "cores": cores()}
    torch = sys.modules.get("torch")
    return found | ({"threads": torch.get_num_threads()} if torch else {})


def processor() -> str:
    """The processor's name; "" where /proc/cpuinfo does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        unheard = subprocess.DEVNULL
        return subprocess.check_output(command, cwd=ROOT, text=True, stderr=unheard).strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def write(file: Path, record: Mapping[str, Any], kind: str = "") -> None:
    """Keeps a record, beside those of other kinds."""
    if kind:
        before = json.loads(file.read_text()) if file.exists() else {}
        record = {**before, kind: record}
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(record, indent=1) + "\n")


def seconds(function: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """How long a call takes."""
    began = clock()
    function()
    return clock() - began


def rounds(
    contestants: Mapping[str, Callable[[], Any]],
    count: int,
    measure: Callable[[Callable[[], Any]], Any] = seconds,
    warm: int = 1,
    scale: float = 1.0,
) -> dict[str, list[Any]]:
    """What each measures in every round, in turn: A B C A B C.

    Args:
      contestants: name -> a function of no argument, that waits for its end.
      count: of rounds that are kept.
      measure: of a contestant.
      warm: rounds before them, which compile and are dropped.
      scale: of every number, as 1000 for milliseconds.
    """
    found: dict[str, list[Any]] = {name: [] for name in contestants}
    for turn in range(warm + count):
        for name, contestant in contestants.items():
            value = measure(contestant)
            if turn >= warm:
                found[name].append(scale * value if scale != 1.0 else value)
    return found


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(over, under, strict=True)]


def fastest(times: Mapping[str, Sequence[float]], names: Sequence[str]) -> str:
    """The one of these names of the least median."""
    return min(names, key=lambda name: statistics.median(times[name]))


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median (least–most)."""
    three = statistics.median(values), min(values), max(values)
    return "{:.{d}f} ({:.{d}f}–{:.{d}f})".format(*three, d=digits)

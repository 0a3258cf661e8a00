"""Times a sweep of 16 runs beside as many runs one by one: python -m benchmarks.sweep."""

import csv
import itertools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import frame
from benchmarks.dann import NETWORKS, accuracy, agree, run_torch, tljax
from benchmarks.frame import ROOT

WEIGHTS, SEEDS = (0.0, 0.3, 1.0, 3.0), (0, 1, 2, 3)
POINTS = tuple(itertools.product(WEIGHTS, SEEDS))
Result = tuple[float, str]  # accuracy on the target, and all that result.json holds


def swept(given: list[str], directory: Path) -> list[Result]:
    """One process for all; accuracies are those of its table."""
    over = {"terms.domain.weight": WEIGHTS, "seed": SEEDS}
    grid = [f"--over={path}={','.join(map(str, values))}" for path, values in over.items()]
    tljax("sweep", *given, f"--workdir={directory}", *grid)
    return table(directory)


def table(directory: Path) -> list[Result]:
    """The results of a sweep in the order of `POINTS`."""
    with open(directory / "results.csv", newline="") as file:
        rows = {
            (float(row["terms.domain.weight"]), int(row["seed"])): row
            for row in csv.DictReader(file)
        }
    if rows.keys() != set(POINTS):
        sys.exit(f"{directory}/results.csv has the points {sorted(rows)}")
    members = [rows[point] for point in POINTS]
    return [
        (float(row["target/accuracy"]), result(directory / "members" / row["member"])[1])
        for row in members
    ]


def one_by_one(given: list[str], directory: Path) -> list[Result]:
    """A process of ours a point."""
    results = []
    for i, (weight, seed) in enumerate(POINTS):
        point = f"--config.terms.domain.weight={weight}", f"--config.seed={seed}"
        tljax(*given, f"--workdir={directory / str(i)}", *point)
        results.append(result(directory / str(i)))
    return results


def result(workdir: Path) -> Result:
    return accuracy(workdir), (workdir / "result.json").read_text()


def torches(config: Any, threads: int) -> list[Result]:
    """A process of PyTorch a point."""
    results = []
    for weight, seed in POINTS:
        config.terms.domain.weight, config.seed = weight, seed
        results.append((run_torch(config, threads), ""))
    return results


def unlike(ours: list[Result], others: list[Result]) -> list[tuple[float, int]]:
    """The points at which two ways of ours left another result, in any byte."""
    return [p for p, a, b in zip(POINTS, ours, others, strict=True) if a != b]


def apart(ours: list[float], theirs: list[float]) -> tuple[float, float]:
    """Mean difference of accuracies in the order of `POINTS`, and its standard error over seeds."""
    a, b = (np.reshape(each, (len(WEIGHTS), len(SEEDS))) for each in (ours, theirs))
    variance = (a.var(-1, ddof=1) + b.var(-1, ddof=1)) / len(SEEDS)
    return float((a - b).mean()), float(np.sqrt(variance.sum()) / len(WEIGHTS))


def ways(
    module: Any, steps: int, threads: int, directory: Path
) -> tuple[dict[str, Callable[[], None]], dict[str, list[Result]]]:
    """The three ways, and where they leave their last results."""
    config = module.get_config()
    config.steps = steps
    given = [f"--config={Path(module.__file__).relative_to(ROOT)}", f"--config.steps={steps}"]
    found: dict[str, list[Result]] = {}
    turn = itertools.count()

    def ours() -> None:
        found["tljax sweep"] = swept(given, directory / f"sweep{next(turn)}")

    def theirs() -> None:
        found["torch, one by one"] = torches(config, threads)

    def alone() -> None:
        name = "tljax, one by one"
        found[name] = one_by_one(given, directory / f"alone{next(turn)}")
        if others := unlike(found["tljax sweep"], found[name]):
            sys.exit(f"members of the sweep have other results than runs of their own: {others}")

    return {"tljax sweep": ours, "torch, one by one": theirs, "tljax, one by one": alone}, found


def main() -> None:
    parser = frame.flags(__doc__, rounds=3)
    parser.add_argument("--network", choices=NETWORKS, default="cnn")
    parser.add_argument("--steps", type=frame.positive, help="of a run; the config's unless told")
    threads = torch.get_num_threads()
    parser.add_argument("--threads", type=frame.positive, default=threads, help="of torch")
    options = parser.parse_args()
    module, threads = NETWORKS[options.network], options.threads
    config = module.get_config()
    steps = options.steps or config.steps
    torch.set_num_threads(threads)
    kind = f"{options.network}, {threads} threads of torch"
    with frame.measured("sweep", options, lambda: kind) as record:
        record |= {"steps": steps, "weights": WEIGHTS, "seeds": SEEDS}
        config.terms.domain.weight = WEIGHTS[1]
        record["differences"] = agree(config)
        with tempfile.TemporaryDirectory() as directory:
            contestants, found = ways(module, steps, threads, Path(directory))
            record["s"] = times = frame.rounds(contestants, options.rounds, warm=0)
        print(f"each of {len(POINTS)} members left byte for byte the result of a run of its own")
        reached = {name: [value for value, _ in each] for name, each in found.items()}
        difference, error = apart(reached["tljax sweep"], reached["torch, one by one"])
        print(f"accuracy, ours − torch's: {difference:.4f} ± {error:.4f} (standard error)")
        record["target accuracy"] = reached
        record["accuracy, ours − torch's, and its standard error"] = difference, error
        title = f"{len(POINTS)} runs of {steps} steps, {options.network}"
        record.head(title, "s: median (least–most)", "/ sweep", f"accuracy at weights {WEIGHTS}")
        for name, values in times.items():
            means = np.reshape(reached[name], (len(WEIGHTS), len(SEEDS))).mean(1)
            ratios = frame.spread(frame.ratios(values, times["tljax sweep"]))
            at = ", ".join(f"{mean:.3f}" for mean in means)
            record.row(name, frame.spread(values, 1), ratios, at)
    if abs(difference) > 4 * error:
        sys.exit("torch reaches other accuracies: the two do not do the same work")


if __name__ == "__main__":
    main()

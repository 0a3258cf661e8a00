"""Times a sweep of 16 runs beside as many runs one by one: python -m benchmarks.sweep."""

import argparse
import csv
import importlib.metadata
import itertools
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch

from benchmarks import dann_mlp
from benchmarks.dann import ROOT, differences, run_torch, spread, tljax
from configs import dann

NETWORKS = {"cnn": dann, "mlp": dann_mlp}
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
    text = (workdir / "result.json").read_text()
    return json.loads(text)["evaluations"]["target"]["accuracy"], text


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


def rounds(
    module: Any, steps: int, repeats: int, threads: int
) -> tuple[dict[str, list[float]], dict[str, list[Result]], list[tuple[float, ...]]]:
    """Seconds of every round, results of the last one, load averages before and after each."""
    config = module.get_config()
    config.steps = steps
    path = Path(module.__file__).relative_to(ROOT)
    given = [f"--config={path}", f"--config.steps={steps}"]
    contestants = {
        "tljax sweep": lambda directory: swept(given, directory / "sweep"),
        "torch, one by one": lambda _: torches(config, threads),
        "tljax, one by one": lambda directory: one_by_one(given, directory / "alone"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    loads, found = [os.getloadavg()], {}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as directory:
            for name, contestant in contestants.items():
                began = time.perf_counter()
                found[name] = contestant(Path(directory))
                seconds[name].append(time.perf_counter() - began)
        loads.append(os.getloadavg())
        if others := unlike(found["tljax sweep"], found["tljax, one by one"]):
            sys.exit(f"members of the sweep have other results than runs of their own: {others}")
    return seconds, found, loads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=NETWORKS, default="cnn")
    parser.add_argument("--steps", type=int, help="of a run; the config's unless told")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--write", action="store_true", help="to benchmarks/results/sweep.json")
    options = parser.parse_args()
    if min(options.steps or 1, options.repeats, options.threads) < 1:
        parser.error("--steps, --repeats and --threads must be at least 1")
    module, threads = NETWORKS[options.network], options.threads
    config = module.get_config()
    steps = options.steps or config.steps
    results = {name: importlib.metadata.version(name) for name in ("jax", "torch", "numpy")}
    results |= {"device": jax.devices()[0].device_kind, "cores": os.cpu_count()}
    results |= {"threads": threads, "steps": steps, "weights": WEIGHTS, "seeds": SEEDS}
    config.terms.domain.weight = WEIGHTS[1]
    results["differences"] = differences(config)
    print(json.dumps(results, indent=1))
    if max(results["differences"].values()) > 1e-4:
        sys.exit("the two sides do not compute the same; nothing was timed")

    seconds, found, loads = rounds(module, steps, options.repeats, threads)
    print(f"each of {len(POINTS)} members left byte for byte the result of a run of its own")
    accuracies = {name: [accuracy for accuracy, _ in each] for name, each in found.items()}
    difference, error = apart(accuracies["tljax sweep"], accuracies["torch, one by one"])
    print(
        f"accuracy on the target, ours − torch's: {difference:.4f} ± {error:.4f} (standard error)"
    )
    print(f"load averages before, and after each round: {loads}")
    title = f"{len(POINTS)} runs of {steps} steps, {options.network}"
    print(f"| {title} | s: median (least–most) | / sweep | accuracy at weights {WEIGHTS} |")
    print("|---|---|---|---|")
    for name, values in seconds.items():
        ratios = [v / s for v, s in zip(values, seconds["tljax sweep"], strict=True)]
        means = np.reshape(accuracies[name], (len(WEIGHTS), len(SEEDS))).mean(1)
        reached = ", ".join(f"{mean:.3f}" for mean in means)
        print(f"| {name} | {spread(values, 1)} | {spread(ratios)} | {reached} |")
    results |= {"s": seconds, "target accuracy": accuracies, "load averages": loads}
    results["accuracy, ours − torch's, and its standard error"] = difference, error
    if options.write:
        file = ROOT / "benchmarks" / "results" / "sweep.json"
        before = json.loads(file.read_text()) if file.exists() else {}
        kind = f"{options.network}, {threads} threads of torch"
        file.write_text(json.dumps({**before, kind: results}, indent=1) + "\n")
    if abs(difference) > 4 * error:
        sys.exit("torch reaches other accuracies: the two do not do the same work")


if __name__ == "__main__":
    main()

"""How much of the loss under a domain shift does DANN win back without target labels?

    python experiments/domain_shift/run.py [--seeds 10] [--workdir runs/domain_shift]

Runs the three configs over the seeds, prints the table, and writes it into RESULTS.md with the
figure beside this file. Started again, it goes on where it was.
"""

import argparse
import csv
import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tljax import experiment, metrics, plots  # noqa: E402

METHODS = ("source_only", "dann", "target_supervised")
HERE = Path(__file__).parent


def collect(seeds: int, workdir: Path, shrink=lambda config: None) -> dict[str, list[dict]]:
    """method -> for every seed the accuracies on both domains; finished runs are only read."""
    reached: dict[str, list[dict]] = {method: [] for method in METHODS}
    for seed in range(seeds):
        for method in METHODS:
            config = importlib.import_module(f"configs.{method}").get_config()
            config.seed, config.figures = seed, False
            shrink(config)
            result = experiment.run(config, workdir / method / str(seed))
            judged = result["evaluations"]
            reached[method].append({name: judged[name]["accuracy"] for name in judged})
            print(f"{method:20} seed {seed}: {reached[method][-1]}", flush=True)
    return reached


def table(reached: dict[str, list[dict]]) -> str:
    """The markdown of RESULTS.md."""
    accuracy = {method: [run["target"] for run in runs] for method, runs in reached.items()}
    floor, ours, ceiling = (accuracy[method] for method in METHODS)
    gains = [a - b for a, b in zip(ours, floor, strict=True)]
    low, middle, high = (metrics.interval(accuracy[method]).mean for method in METHODS)
    lines = [
        "| method | target accuracy | lowest seed | source accuracy |",
        "|---|---|---|---|",
    ]
    for method, runs in reached.items():
        source = metrics.interval([run["source"] for run in runs])
        lines.append(
            f"| [{method}](configs/{method}.py) | {metrics.interval(accuracy[method])} "
            f"| {min(accuracy[method]):.3f} | {source} |"
        )
    below = sum(value < min(floor) for value in ours)
    return "\n".join(
        [
            *lines,
            "",
            f"Means over {len(ours)} seeds with 95 % t intervals. DANN − source only, paired by "
            f"seed: **{metrics.interval(gains)}**. Part of the gap to target supervised that is "
            f"closed: **{(middle - low) / (high - low):.0%}**. Seeds of DANN below the worst of "
            f"source only: {below}.",
        ]
    )


def write(section: str, name: str, path: Path) -> None:
    """Puts a section between the markers of `name` in a markdown file."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = path.read_text().partition(begin)
    if not rest:
        raise SystemExit(f"{path} has no line {begin}")
    after = rest.partition(end)[2]
    path.write_text(f"{before}{begin}\n\n{section}\n\n{end}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workdir", type=Path, default=ROOT / "runs" / "domain_shift")
    given = parser.parse_args()
    reached = collect(given.seeds, given.workdir)
    section = table(reached)
    print(section)
    with open(HERE / "results.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "seed", "target_accuracy", "source_accuracy"])
        for method, runs in reached.items():
            for seed, run in enumerate(runs):
                writer.writerow([method, seed, run["target"], run["source"]])
    rows = [(method, [run["target"] for run in runs]) for method, runs in reached.items()]
    plots.intervals(rows, HERE / "results.png", "target accuracy")
    for name in ("RESULTS.md", "README.md"):
        write(section, "domain_shift", ROOT / name)


if __name__ == "__main__":
    main()

"""How much of the loss under a domain shift does DANN win back without target labels?

    python experiments/domain_shift/run.py [--seeds 10] [--workdir runs/domain_shift]

Runs the three configs over the seeds, prints the table, and writes it into RESULTS.md with the
figure beside this file. Started again, it goes on where it was.
"""

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from experiments import report  # noqa: E402
from tljax import metrics, plots  # noqa: E402

METHODS = ("source_only", "dann", "target_supervised")
HERE = Path(__file__).parent


def collect(seeds: int, workdir: Path, shrink=lambda config: None) -> dict[str, list[dict]]:
    """method -> for every seed the accuracies on both domains; finished runs are only read."""
    reached: dict[str, list[dict]] = {method: [] for method in METHODS}
    for seed in range(seeds):
        for method in METHODS:
            config = importlib.import_module(f"configs.{method}").get_config()
            config.seed = seed
            judged = report.run(config, workdir / method / str(seed), shrink)
            reached[method].append({n: judged[n]["accuracy"] for n in ("source", "target")})
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


def main() -> None:
    given = report.arguments(__doc__, "domain_shift", 10)
    reached = collect(given.seeds, given.workdir)
    section = table(reached)
    print(section)
    flat = [
        dict(method=m, seed=seed, target_accuracy=run["target"], source_accuracy=run["source"])
        for m, runs in reached.items()
        for seed, run in enumerate(runs)
    ]
    report.save(flat, HERE / "results.csv")
    rows = [(method, [run["target"] for run in runs]) for method, runs in reached.items()]
    plots.intervals(rows, HERE / "results.png", "target accuracy")
    report.write(section, "domain_shift", ROOT / "RESULTS.md")


if __name__ == "__main__":
    main()

"""The comparisons of all experiments in one table of the README, from the results.csv committed.

    python -m experiments.headlines

Each line holds a method against a simple baseline of its experiment, paired by seed.
"""

import importlib

from experiments import frame, report

NAMES = (
    *("domain_shift", "adaptation", "few_shot", "multitask"),
    *("self_taught", "self_taught_clustering", "zero_shot"),
)


def table(names: tuple[str, ...] = NAMES) -> str:
    """The markdown of the README."""
    lines = []
    for name in names:
        declared = importlib.import_module(f"experiments.{name}.run").EXPERIMENT
        for comparison in declared.comparisons:
            question = f"[{comparison.question}](experiments/{name}/README.md)"
            lines.append((comparison, declared.read(), question))
    return report.compared(lines)


if __name__ == "__main__":
    print(table())
    report.write(table(), "headlines", frame.ROOT / "README.md")

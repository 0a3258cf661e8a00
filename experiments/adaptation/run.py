"""Unsupervised domain adaptation, with hyperparameters that no target label has chosen.

python -m experiments.adaptation.run [--seeds 10] [--workdir runs/adaptation]
"""

from pathlib import Path
from typing import Any

import numpy as np

from experiments import frame, report
from experiments.adaptation import together, tune
from experiments.frame import Experiment, Row, Run
from experiments.report import Column, Comparison, Results
from tljax.configs.dann_fashion import get_config as fashion

HERE = Path(__file__).parent
SEEDS = {"digits": range(10), "garments": range(3)}
METHODS = {"digits": tuple(tune.GRID), "garments": ("source_only", "dann", "mk_mmd", "mcc")}

COLLAPSED = 0.5  # far below source only


def garments(config: Any, run: Run) -> None:
    """The garments of dann_fashion.py at 16×16 in place of digits."""
    shipped = fashion()
    for name in config.streams:
        config.streams[name] = shipped.streams[name]
    config.evaluate = shipped.evaluate
    for fields in (*config.streams.values(), *config.evaluate.values()):
        fields["size"] = 16


EDITS = {"digits": None, "garments": garments}


def rows() -> dict[str, Row]:
    """Every method at its chosen point; and the combination, once it has been tuned."""
    values = tune.chosen(tune.TUNING.read(), tune.MAIN)
    rows = {
        f"{task}-{method}": tune.candidate(method, values[method], task=task)._replace(
            edit=EDITS[task], seeds=SEEDS[task]
        )
        for task, methods in METHODS.items()
        for method in methods
    }
    tuned = (HERE / "together.csv").exists()
    return rows | (together.rows(together.TUNING.read()) if tuned else {})


def table(results: Results) -> str:
    """A row a method: what was chosen, its accuracies, its difference from source only by seed."""
    floor = results.where(method="source_only")

    def chosen(line: Results) -> str:
        field = tune.GRID[line[0]["method"]][0].split(".")[-1]
        return f"{field.replace('_', ' ')} {line[0]['value']:g}"

    columns: list[Column] = [
        ("method", lambda line: "[{0}](configs/{0}.py)".format(line[0]["method"])),
        ("chosen", chosen),
        ("target accuracy", lambda line: line.cell("target")),
        ("− source only", lambda line: line.gain("target", floor)),
        ("lowest seed", lambda line: line.lowest("target")),
        ("source accuracy", lambda line: line.cell("source")),
        ("seconds a run", lambda line: f"{np.median(line.values('seconds')):.0f}"),
    ]
    return report.table(columns, results.by("method"))


def validators_table(tuned: Results) -> str:
    """What each validator's choice within a method, and among all, reaches on the test digits."""
    test = tuned.means("test", "method", "value")
    reached = {
        name: [test[point] for point in tune.chosen(tuned, name).items()]
        for name in tune.VALIDATORS
    }

    def label(name: str) -> str:
        text = "*oracle: target labels*" if name == "oracle" else name.replace("_", " ")
        return text + (" (the one used)" if name == tune.MAIN else "")

    def among_all(name: str) -> str:
        means = tuned.means(name, "method", "value")
        method, value = max(means, key=lambda point: tune.VALIDATORS[name] * means[point])
        return f"{test[method, value]:.3f} ({method} {value:g})"

    def correlation(name: str) -> str:
        scores = [tune.VALIDATORS[name] * line[name] for line in tuned]
        return f"{report.rank_correlation(scores, [line['test'] for line in tuned]):+.2f}"

    def below_oracle(name: str) -> str:
        return f"{np.mean(reached[name]) - np.mean(reached['oracle']):+.3f}"

    def within(index: int, method: str) -> Column:
        return method, lambda name: f"{reached[name][index]:.3f}"

    columns: list[Column] = [
        ("chosen by", label),
        *(within(i, method) for i, method in enumerate(tuned.of("method"))),
        ("mean − oracle", below_oracle),
        ("among all methods", among_all),
        ("rank correlation", correlation),
    ]
    return report.table(columns, tune.VALIDATORS)


TOGETHER = f"""[combination](configs/combination.py) against its parts: a source model is tuned \
with two labelled target digits a class and 600 unlabelled ones, {len(together.SEEDS)} seeds; each \
variant's rate is from the same two, by labelled target digits that no result uses."""


def tables(results: Results) -> dict[str, Any]:
    digits, garments, mixed = (results.where(task=t) for t in (*METHODS, "together"))
    lost = [
        f"{lines[0]['method']} {below}"
        for lines in digits.by("method")
        if (below := sum(accuracy < COLLAPSED for accuracy in lines.values("target")))
    ]
    return {
        "selection": " and ".join(map(str, tune.SEEDS)),
        "steps": tune.STEPS,
        "digits": table(digits),
        "collapsed": COLLAPSED,
        "lost": ", ".join(lost) or "none",
        "validators": validators_table(tune.TUNING.read()),
        "garments": table(garments),
        "garment_seeds": len(SEEDS["garments"]),
        "together": f"{TOGETHER}\n\n{together.table(mixed)}" if mixed else "",
    }


def figure(results: Results, path: Path) -> None:
    """Every seed's target accuracy on both tasks."""
    shown = [
        (f"{task}: {lines[0]['method']}", lines.values("target"))
        for task in METHODS
        for lines in results.where(task=task).by("method")
    ]
    report.intervals(shown, path, "target accuracy")


MK_MMD = "the same in 800 steps, chosen without target labels: MK-MMD against source only"
DIGITS = dict(task="digits")
EXPERIMENT = Experiment(
    folder=HERE,
    seeds=SEEDS["digits"],
    reads=together.TUNING.reads,
    rows=rows,
    tables=tables,
    figure=figure,
    comparisons=[
        Comparison(MK_MMD, "target", "mk_mmd", "source_only", DIGITS),
        Comparison("the same: DANN against source only", "target", "dann", "source_only", DIGITS),
    ],
)

if __name__ == "__main__":
    frame.main(EXPERIMENT, __doc__)

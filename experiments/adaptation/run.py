"""Unsupervised domain adaptation, with hyperparameters that no target label has chosen.

    python -m experiments.adaptation.run [--seeds 10] [--workdir runs/adaptation]

Reads the choices from tuning.csv and together.csv, runs every method over the seeds, prints the
tables, and writes them into RESULTS.md, with results.csv and the figure beside this file. Started
again, it goes on where it was.
"""

from pathlib import Path
from typing import Any

import numpy as np

from experiments import frame
from experiments.adaptation import together, tune
from experiments.frame import Column, Comparison, Experiment, Results, Row, Run
from tljax import metrics
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
    return frame.table(columns, [results.where(method=m) for m in results.of("method")])


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
        return f"{frame.rank_correlation(scores, [line['test'] for line in tuned]):+.2f}"

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
    return frame.table(columns, tune.VALIDATORS)


def figure(results: Results, path: Path) -> None:
    """Left: the accuracy of every seed on digits. Right: what the validator knew of the grid."""
    tuned = tune.TUNING.read()
    drawn = frame.blank_figure(11, 4.2)
    left, right = drawn.subplots(1, 2, width_ratios=(1, 1.1))
    for y, (method, colour) in enumerate(zip(tune.GRID, frame.PALETTE, strict=False)):
        target = results.where(task="digits", method=method).values("target")
        if not target:
            continue
        mean, half = metrics.interval(target)
        bar = dict(fmt="o", ms=6, lw=2, capsize=4, color=colour)
        left.plot(target, [y + 0.22] * len(target), "o", ms=4, mew=0, color="0.6", alpha=0.7)
        left.errorbar(mean, y - 0.08, xerr=half if len(target) > 1 else None, **bar)
        scores, tests = (tuned.where(method=method).values(k) for k in (tune.MAIN, "test"))
        right.plot(scores, tests, "o", ms=5, alpha=0.8, color=colour, label=method)
    left.set(
        xlabel="target accuracy: mean, 95 % interval, seeds", ylim=(len(tune.GRID) - 0.5, -0.5)
    )
    left.set_yticks(range(len(tune.GRID)), list(tune.GRID))
    right.set(xlabel="information maximisation on the unlabelled target (nats)")
    right.set_ylabel("target accuracy of the grid's runs")
    right.legend(frameon=False)
    frame.draw(drawn, path)


PROTOCOL = f"""Every value was chosen from three by information maximisation on unlabelled target \
digits, a validator fixed before anything was trained, over seeds {tune.SEEDS[0]} and \
{tune.SEEDS[-1]}; no target label took part, except that the rate 0.02 of the adapting methods is \
dann.py's. {tune.STEPS} steps for all (dann.py itself has 2,500 and is better for it); judged at \
the last step. Means with 95 % t intervals, differences paired by seed; bold where the interval \
excludes 0. Seconds are of a busy, shared core.

Digits over photographs, {len(SEEDS["digits"])} seeds:"""

VALIDATORS = """What each validator would have chosen: accuracy on test digits, mean over the \
selection seeds. Within a method; among all methods and values; and the rank correlation, over all \
runs, of score and accuracy. The oracle reads the labels of held-out target digits and chose \
nothing above."""

GARMENTS = f"""Fashion-MNIST at 16×16, the target under noise, {len(SEEDS["garments"])} seeds, at \
the values chosen on digits (nothing was tuned on garments):"""

TOGETHER = f"""[combination](configs/combination.py) against its parts: a source model is tuned \
with two labelled target digits a class and 600 unlabelled ones, {len(together.SEEDS)} seeds; each \
variant's rate is from the same two, by labelled target digits that no result uses."""


def section(results: Results) -> str:
    """The markdown of RESULTS.md, of the tasks that have been run."""
    tasks = {task: results.where(task=task) for task in (*METHODS, "together")}
    lost = []
    for method in tasks["digits"].of("method"):
        reached = tasks["digits"].where(method=method).values("target")
        below = sum(accuracy < COLLAPSED for accuracy in reached)
        lost += [f"{method} {below}"] if below else []
    parts = [
        *(PROTOCOL, table(tasks["digits"])),
        f"Seeds that ended below {COLLAPSED}: {', '.join(lost) or 'none'}.",
        *(VALIDATORS, validators_table(tune.TUNING.read())),
        *((GARMENTS, table(tasks["garments"])) if tasks["garments"] else ()),
        *((TOGETHER, together.table(tasks["together"])) if tasks["together"] else ()),
    ]
    return "\n\n".join(parts)


def compared(question: str, method: str) -> Comparison:
    """A method on the digits against source only."""
    pair = (dict(task="digits", method=name) for name in (method, "source_only"))
    return Comparison(question, "target", *pair)


EXPERIMENT = Experiment(
    folder=HERE,
    seeds=SEEDS["digits"],
    reads=together.TUNING.reads,
    rows=rows,
    section=section,
    figure=figure,
    comparisons=[
        compared(
            "the same in 800 steps, chosen without target labels: MK-MMD against source only",
            "mk_mmd",
        ),
        compared("the same: DANN against source only", "dann"),
    ],
)

if __name__ == "__main__":
    frame.main(EXPERIMENT, __doc__)

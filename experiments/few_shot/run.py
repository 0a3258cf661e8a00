"""What keeps the source, and what helps the target, when the target has few labels?

python -m experiments.few_shot.run [--tune] [--seeds 10] [--workdir runs/few_shot]
"""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments import frame, report
from experiments.frame import Experiment, Row, Run
from experiments.report import Comparison, Results
from tljax import metrics

HERE = Path(__file__).parent
COUNTS = (5, 1, 20, 2, 10)  # labels a class; the first has all methods, and was tuned on
FIRST = COUNTS[0]
KEPT = 0.8  # of the source, on its validation digits: what the criterion "kept" asks for
SCRATCH = {"target.start": (("**", "fresh"),)}
HEAD = {"target.train": (("heads/**", 1.0), ("**", 0.0))}


class Method(NamedTuple):
    """A row of the table."""

    config: str
    fields: Mapping[str, Any]
    criterion: str  # of what was tried: "target", "both" or "kept"; see `choose`
    knob: str  # the rows of tuning.csv that it is chosen from
    everywhere: bool  # or at the first of COUNTS only


METHODS = {
    "from scratch": Method("finetune", SCRATCH, "target", "from scratch", True),
    "fine-tuning": Method("finetune", {}, "target", "fine-tuning", True),
    "fine-tuning, for both": Method("finetune", {}, "both", "fine-tuning", False),
    "fine-tuning, 0.8 kept": Method("finetune", {}, "kept", "fine-tuning", False),
    "head only": Method("layer_transfer", HEAD, "target", "head only", True),
    "head only, for both": Method("layer_transfer", HEAD, "both", "head only", False),
    "first layer only": Method("layer_transfer", {}, "target", "first layer only", True),
    "L2-SP": Method("l2_sp", {}, "both", "L2-SP", True),
    "L2-SP, 0.8 kept": Method("l2_sp", {}, "kept", "L2-SP", False),
    "L2-SP, for the target": Method("l2_sp", {}, "target", "L2-SP", False),
    "new head": Method("distillation", {}, "both", "new head", False),
    "new head, LwF": Method("distillation", {}, "both", "new head, LwF", True),
}
MAIN = [name for name, method in METHODS.items() if method.everywhere]
KNOBS = {method.knob: method for method in METHODS.values()}
RATES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
WEIGHTS = {  # knob -> weights and rates; the others have RATES and no weight
    "L2-SP": ((0.003, 0.005, 0.01, 0.03), (0.02, 0.05, 0.1)),
    "new head, LwF": ((0.1, 0.3, 1.0, 3.0), (0.01, 0.05, 0.1)),
}
WEIGHTED = {"L2-SP": "near", "new head, LwF": "old", "new head": "old"}  # knob -> its term


WRITERS = "other writers: "  # such a row is tested on digits by writers that no stream has
UNMET = ("fine-tuning", "fine-tuning, for both", "first layer only", "L2-SP")


def pretrain(config: Any, run: Run) -> None:
    """The source phase of a config alone, for all runs of a seed to start from."""
    # By another seed: what they start afresh is not what the source model grew from.
    config.seed, config.phases = 1000 + run.seed, ("source",)
    del config["target"], config.streams["target"]
    config.evaluate = dict(source=config.evaluate.source_before)
    config.log_every = config.source.steps
    frame.judge_at_the_end(config, config.source.steps)


def transfer(config: Any, origin: str) -> None:
    """The target phase of a config alone, from a run of the source phase."""
    config.phases = ("target",)
    new = (("heads/target/**", "fresh"),) if "target" in config.network.heads else ()
    rules = config.target.start if "start" in config.target else (*new, ("**", "source"))
    config.target.start = tuple(
        (pattern, origin if place == "source" else place) for pattern, place in rules
    )
    del config["source"], config.streams["source"], config.evaluate["source_before"]
    config.log_every = config.target.steps
    frame.judge_at_the_end(config, config.target.steps)


BEFORE = dict(method="source model", rate=0.0, weight=0.0, labels=0)
SOURCE = Row("finetune", edit=pretrain, columns=BEFORE)


def of_writers(config: Any, run: Run) -> None:
    pretrain(config, run)
    frame.by_writers(config)


SOURCES = {
    "": SOURCE,
    WRITERS: SOURCE._replace(
        edit=of_writers, columns={**BEFORE, "method": f"{WRITERS}source model"}
    ),
}


def row(
    how: Method, rate: float, weight: float, count: int, writers: str = "", **columns: Any
) -> Row:
    """A method with a learning rate, a weight where it has one, and a number of labels a class;
    `writers`: WRITERS or none."""

    def edit(config: Any, run: Run) -> None:
        config.update_from_flattened_dict(how.fields)
        transfer(config, run.origin(f"{writers}source"))
        if writers:
            frame.by_writers(config)

    overrides = {
        "streams.target.per_class": count,
        "streams.target.batch": min(50, 10 * count),
        "target.optimizer.learning_rate": rate,
    }
    if how.knob in WEIGHTED:
        overrides[f"target.terms.{WEIGHTED[how.knob]}.weight"] = weight
    return Row(how.config, overrides, edit, dict(columns, rate=rate, weight=weight, labels=count))


def choose(tuned: Results, knob: str, criterion: str) -> tuple[float, float]:
    """The rate and weight that a criterion prefers among the lines of tuning.csv.

    "target": the highest target accuracy. "both": the highest mean of target and source accuracy.
    "kept": the highest target accuracy among those that keep `KEPT` on the source; where none does,
    the highest source accuracy. All are means over seeds, on validation digits.
    """
    lines = tuned.where(knob=knob)
    target, source = (lines.means(metric, "rate", "weight") for metric in ("target", "source"))
    kept = [setting for setting in source if source[setting] >= KEPT]
    if criterion == "both":
        return max(target, key=lambda setting: target[setting] + source[setting])
    if criterion == "kept" and not kept:
        return max(source, key=source.__getitem__)
    among = kept if criterion == "kept" else target
    return max(among, key=lambda setting: (target[setting], source[setting]))


def chosen() -> dict[str, tuple[float, float]]:
    """method -> its rate and weight."""
    tuned = TUNING.read()
    return {name: choose(tuned, how.knob, how.criterion) for name, how in METHODS.items()}


def rows() -> dict[str, Row]:
    rows, settings = {f"{writers}source": made for writers, made in SOURCES.items()}, chosen()
    for count, (name, method) in itertools.product(COUNTS, METHODS.items()):
        if method.everywhere or count == FIRST:
            rows[f"{name}-{count}"] = row(method, *settings[name], count, method=name)
    for name in UNMET:
        how = (METHODS[name], *settings[name], FIRST, WRITERS)
        rows[f"{WRITERS}{name}-{FIRST}"] = row(*how, method=f"{WRITERS}{name}")
    return rows


def candidates() -> dict[str, Row]:
    rows = {"source": SOURCE._replace(columns=dict(knob="source model"))}
    for knob in sorted(KNOBS):
        weights, rates = WEIGHTS.get(knob, ((0.0,), RATES))
        for weight, rate in itertools.product(weights, rates):
            candidate = row(KNOBS[knob], rate, weight, FIRST, knob=knob)
            rows[f"{knob}-{rate:g}-{weight:g}"] = candidate._replace(split="train[1200:1400]")
    return rows


def by_count(results: Results, write: Callable[[Results, Results], str], *without: str) -> str:
    """A line a method, a column a number of labels; `without` some methods."""

    def column(count: int) -> report.Column:
        base = results.where(labels=count, method="fine-tuning")
        return f"{count} a class", lambda runs: write(runs.where(labels=count), base)

    columns = map(column, sorted(set(results.of("labels")) - {0}))
    at = results.at("method", (name for name in MAIN if name not in without))
    return report.named("method", [*columns], at)


def tables(results: Results) -> dict[str, Any]:
    at = results.where(labels=FIRST).at("method", METHODS)
    ours, base = at["L2-SP"], at["fine-tuning"]
    kept = metrics.interval(ours.values("source")).mean
    lost = -metrics.paired(ours.values("target"), base.values("target")).mean

    def linked(lines: Results) -> str:
        return "[{}](configs/{}.py)".format(name := lines[0]["method"], METHODS[name].config)

    simple = []
    for other in ("fine-tuning, for both", "head only, for both"):
        gains = (ours.gain(metric, at[other]) for metric in ("target", "source"))
        simple.append("L2-SP − {}: target {}, source {}.".format(other, *gains))
    detail = [("method", linked), report.mean("target", "target")]
    detail += [report.gained("− fine-tuning", "target", base, itself="")]
    detail += [report.mean("source afterwards", "source")]
    detail += [report.gained("− fine-tuning", "source", base, itself=""), report.seconds()]
    return {
        "first": FIRST,
        "before": results.where(method="source model").cell("source"),
        "detail": report.table(detail, at.values()),
        "kept": f"{'met' if kept >= 0.75 else 'missed'}: {kept:.3f}",
        "lost": f"{'met' if lost <= 0.03 else 'missed'}: {lost:.3f} below",
        "simple": " ".join(simple),
        "writers": report.table(
            [
                ("method", lambda name: name),
                ("target", lambda name: unmet(results, name).cell("target")),
                ("source afterwards", lambda name: unmet(results, name).cell("source")),
            ],
            UNMET,
        ),
        "target": by_count(results, lambda runs, base: runs.cell("target")),
        "gains": by_count(results, lambda runs, base: runs.gain("target", base), "fine-tuning"),
        "source": by_count(results, lambda runs, base: runs.cell("source")),
    }


def unmet(results: Results, name: str) -> Results:
    return results.where(method=f"{WRITERS}{name}")


def figure(results: Results, path: Path) -> None:
    """Both accuracies over the number of labels."""
    at, panels = results.at("method", MAIN), {}
    for metric, title in (("target", "target"), ("source", "source afterwards")):
        panels[title] = {name: lines.over("labels", metric) for name, lines in at.items()}
    report.curves(panels, path, "target labels a class")


READS = {"target": "target/accuracy", "source": "source/accuracy"}
LABELS = dict(labels=FIRST)
SOURCE_KEPT = "fine-tuning on inverted digits, 5 a class, source kept: L2-SP against fine-tuning"
SIMPLE = "the same: L2-SP against fine-tuning whose rate was chosen to keep the source"
LAYER = "the same, accuracy on the target: moving the first layer against fine-tuning"
HELD = "at the rate that is best for the target, fine-tuning forgets the source"
LOW = "the penalty keeps more of the source, and less is learned of the target: one trade-off"
INPUTS = "inverted ink changes the inputs, not the classes"
COMPARED = [
    Comparison(SOURCE_KEPT, "source", "L2-SP", "fine-tuning", LABELS, HELD),
    Comparison(SIMPLE, "source", "L2-SP", "fine-tuning, for both", LABELS, LOW),
    Comparison(LAYER, "target", "first layer only", "fine-tuning", LABELS, INPUTS),
    *(
        Comparison(f"the same on digits by writers that no stream has: {what}", metric,
                   f"{WRITERS}{ours}", f"{WRITERS}{base}", LABELS, why)
        for what, metric, ours, base, why in (
            ("L2-SP against fine-tuning whose rate was chosen to keep the source", "source",
             "L2-SP", "fine-tuning, for both", LOW),
            ("moving the first layer against fine-tuning", "target",
             "first layer only", "fine-tuning", INPUTS),
        )
    ),
]  # fmt: skip
EXPERIMENT = Experiment(HERE, range(10), READS, rows, tables, figure, COMPARED)
TUNING = Experiment(HERE, range(100, 105), READS, candidates, file="tuning.csv")

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT, tune=TUNING)

"""Fashion-MNIST whole: five kinds of garments are learned from 25,000, the other five from few.

python -m experiments.garments.run [--tune] [--seeds 10] [--only labels=5 --only method=L2-SP]
"""

import functools
import itertools
from pathlib import Path
from typing import Any

from experiments import frame, report
from experiments.frame import Experiment, Row, Run
from experiments.pretrained import run as pretrained
from experiments.pretrained.run import Method, gaps
from experiments.report import Column, Comparison, Results
from tljax.configs import tasks
from tljax.experiment import blank

HERE = Path(__file__).parent
OLD, NEW = tuple(range(5)), tuple(range(5, 10))
POOL, TRIED, TEST = "train[:50000]", "train[50000:]", "test[:5000]"
COUNTS = (1, 2, 5, 10, 20)  # labels a class
SOURCE_STEPS, STEPS, BATCH = 2000, 300, 50
LOOKS = (dict(name="flip"), dict(name="shift", pixels=2))


def shown(split: str, classes: tuple[int, ...], **fields: Any) -> dict[str, Any]:
    return dict(**tasks.GARMENTS, split=split, classes=classes, **fields)


def config_of(split: str, classes: tuple[int, ...], stream: str, **fields: Any) -> Any:
    """A network of six layers, four convolutions and two of the head, which has a place for all
    ten kinds."""
    config = blank()
    config.network.trunk = dict(name="cnn", channels=(16, 32, 64, 64))
    config.network.heads.label = dict(name="mlp", hidden=(64,))
    config.streams[stream] = shown(split, classes, transforms=(), **fields)
    config.evaluate.source = shown(TEST, OLD)
    config.terms.label = dict(term="cross_entropy", stream=stream)
    return config


def ends(config: Any, steps: int) -> None:
    config.steps = config.log_every = steps
    frame.judge_at_the_end(config)


def source() -> Row:
    """A network of the old kinds, one of each seed."""

    def make() -> Any:
        config = config_of(POOL, OLD, "source", batch=64)
        config.optimizer = tasks.sgd(0.05)
        ends(config, SOURCE_STEPS)
        return config

    def edit(config: Any, run: Run) -> None:
        # By another seed: what others start afresh is not what this one grew from.
        config.seed = 1000 + run.seed

    return Row(make, edit=edit, columns=dict(method="source model", labels=0))


def few(count: int) -> Any:
    """A config of so many labels of each new kind; where it starts is still to be said."""
    batch = min(BATCH, len(NEW) * count)
    config = config_of(POOL, NEW, "target", per_class=count, batch=batch)
    config.evaluate.test = shown(TEST, NEW, transforms=())
    config.evaluate.drawn = shown(POOL, NEW, per_class=count, transforms=())
    config.optimizer = tasks.sgd(0.01)
    ends(config, STEPS)
    return config


# The ways. What is not said here is that of experiments/pretrained.


def pixels(config: Any, penalty: float) -> None:
    pretrained.solved(config, "softmax", penalty=penalty)
    config.network.trunk, config.start = dict(name="mlp", features=()), ()


def scratch(config: Any, rate: float) -> None:
    config.start = ()
    pretrained.tuned(config, rate)


def scratch_looks(config: Any, rate: float) -> None:
    scratch(config, rate)
    config.streams.target.transforms = LOOKS


def tuned_looks(config: Any, rate: float) -> None:
    pretrained.tuned(config, rate)
    config.streams.target.transforms = LOOKS


def near_start(config: Any, weight: float) -> None:
    """L2-SP (Li et al. 2018) of all layers, as the source has taught all of them."""
    config.terms.near = dict(term="l2_sp", weight=weight, only=("**",))


def held_features(config: Any, weight: float) -> None:
    """DELTA (Li et al. 2019) without weights of channels, on the last map."""
    config.terms.held_maps = dict(term="delta", weight=weight)


def old_answers(config: Any, weight: float) -> None:
    """Learning without forgetting (Li & Hoiem 2016)."""
    config.terms.old = dict(term="distillation", weight=weight, stream="target", temperature=3.0)


RATES = (0.003, 0.01, 0.03, 0.1, 0.3)
PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
METHODS = {
    "pixels": Method(pixels, PENALTIES),
    "from scratch": Method(scratch, RATES),
    "from scratch, looks": Method(scratch_looks, RATES),
    "nearest neighbours": Method(pretrained.nearest, (1, 2, 3, 5, 9)),
    "linear probe": Method(pretrained.probe, PENALTIES),
    "fine-tuning": Method(pretrained.tuned, RATES),
    "fine-tuning, looks": Method(tuned_looks, RATES),
    "LP-FT": Method(pretrained.probe_first, RATES),
    "L2-SP": Method(near_start, (0.0003, 0.003, 0.03, 0.3, 3.0)),
    "DELTA": Method(held_features, (0.0003, 0.003, 0.03, 0.3, 3.0)),
    "LwF": Method(old_answers, (0.03, 0.3, 1.0, 3.0, 10.0)),
}
AFRESH = ("pixels", "from scratch", "from scratch, looks")  # nothing of the source is in them
READ = ("nearest neighbours", "linear probe", "LP-FT")  # by a head of their own, a linear one


def row(name: str, count: int, value: float, tuning: bool = False) -> Row:
    """A method at a value of its knob and a number of labels a class."""

    def edit(config: Any, run: Run) -> None:
        head, origin = ("heads/**", "fresh"), ("**", run.origin("source"))
        config.start = (head, origin) if name in READ else (origin,)
        if name in READ or name == "pixels":
            config.network.heads.label = dict(name="linear")
        if name in AFRESH or name in READ:
            del config.evaluate["source"]
        METHODS[name].edit(config, value)
        if tuning:
            config.evaluate = dict(test={**config.evaluate.test, "split": TRIED})

    columns = dict(method=name, labels=count, value=value)
    return Row(functools.partial(few, count), edit=edit, columns=columns)


def values_of(name: str, count: int) -> list[float]:
    """What is tried; of neighbours no more than a class has."""
    values = METHODS[name].values
    return [v for v in values if v <= count] if name == "nearest neighbours" else list(values)


def candidates() -> dict[str, Row]:
    return {"source": source()} | {
        f"{name}-{count}-{value:g}": row(name, count, value, tuning=True)
        for name, count in itertools.product(METHODS, COUNTS)
        for value in values_of(name, count)
    }


def rows() -> dict[str, Row]:
    """Every method at the value that is best at that number of labels, the smaller of equals."""
    rows, tuned = {"source": source()}, TUNING.read()
    for name, count in itertools.product(METHODS, COUNTS):
        if lines := tuned.where(method=name, labels=count):
            [value] = lines.best("test", "value")
            rows[f"{name}-{count}"] = row(name, count, value)
    return rows


# What is made of them.


def by_count(results: Results, write: Any) -> str:
    at = {name: mine for name in METHODS if (mine := results.where(method=name))}

    def column(count: int) -> Column:
        base = at[PROBE].where(labels=count) if PROBE in at else Results()
        return f"{count} a class", lambda lines: write(lines.where(labels=count), base)

    counts = sorted(set(results.of("labels")) - {0})
    return report.named("method", [column(count) for count in counts], at) if at else "Not run yet."


def tables(results: Results) -> dict[str, Any]:
    kept = Results(li for li in results if li["method"] not in (*AFRESH, *READ))
    return {
        "before": results.where(method="source model").cell("source"),
        "target": by_count(results, lambda lines, base: lines.cell("test")),
        "gains": by_count(results, lambda lines, base: lines.gain("test", base)),
        "gap": by_count(results, lambda lines, base: gaps(lines).cell("gap")),
        "source": by_count(kept, lambda lines, base: lines.cell("source")),
        "steps": STEPS,
    }


def figure(results: Results, path: Path) -> None:
    """Accuracy on the new kinds and on the old over the number of labels."""
    panels: dict[str, Any] = {}
    for metric, title in (("test", "new kinds"), ("source", "old kinds afterwards")):
        panels[title] = {
            name: lines.over("labels", metric)
            for name in METHODS
            if (metric != "source" or name not in (*AFRESH, *READ))
            and (lines := results.where(method=name))
        }
    report.curves(panels, path, "labels of each new kind")


PROBE, LOOKED = "linear probe", "fine-tuning, looks"
SIMPLE = (*AFRESH, "nearest neighbours", PROBE)
READS = {"test": "test/accuracy", "train": "drawn/accuracy", "source": "source/accuracy"}
TUNING = Experiment(HERE, range(100, 105), READS, candidates, file="tuning.csv")
AT_5 = dict(labels=5)
BEST = report.strongest(TUNING.read().where(**AT_5).at("method", SIMPLE), "test", "value")
FEW = "five new kinds of garments, 5 labels each, after five others of 25,000:"
COMPARED = [
    Comparison(f"{FEW} {asked}", metric, ours, base, AT_5, why)
    for asked, metric, ours, base, why in (
        (
            *(f"fine-tuning with looks against {BEST}", "test", LOOKED, BEST),
            "shirts and dresses teach little of shoes and bags that looks alone do not give",
        ),
        (
            *("fine-tuning with looks against a linear probe", "test", LOOKED, PROBE),
            "features of other kinds of garments have to move",
        ),
        (
            *("L2-SP against fine-tuning", "test", "L2-SP", "fine-tuning"),
            "what the new kinds need is not near the start",
        ),
        (
            *("LwF against fine-tuning, old kinds afterwards", "source", "LwF", "fine-tuning"),
            "old answers are held; most is forgotten all the same",
        ),
    )
]
EXPERIMENT = Experiment(HERE, range(10), READS, rows, tables, figure, COMPARED)

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT, tune=TUNING)

"""Which layers of a public network are worth copying: the first for new classes, the last for
new inputs?

python -m experiments.pretrained.fetch mobilenet_v2 elpv
python -m experiments.pretrained_layers.run [--tune] [--seeds 10] [--only pair="new classes"]
"""

import functools
import itertools
from pathlib import Path
from typing import Any

from experiments import frame
from experiments.frame import Experiment, Row, Run
from experiments.pretrained import run as pretrained
from experiments.pretrained.run import Case
from experiments.which_layers import run as which_layers
from experiments.which_layers.run import NOTHING

HERE = Path(__file__).parent
CASE = Case("cells", "mobilenet_v2", 20)
SIZE, STEPS, SOURCE_STEPS, BATCH = 96, 150, 300, 16
JUDGED = 100  # photographs a class that rates are chosen on
GROUPS = (  # of a trunk's layers, from the input on
    ("trunk/stem/**", "trunk/block1_*/**", "trunk/block2_*/**"),
    ("trunk/block3_*/**", "trunk/block4_*/**"),
    ("trunk/block5_*/**", "trunk/block6_*/**"),
    ("trunk/block7_*/**", "trunk/last/**"),
)
PAIRS = ("new classes", "inverted inputs")
RATES = (0.002, 0.01, 0.03, 0.1)
VARIANTS = {  # which groups are copied; the others start afresh, and all move
    NOTHING: (),
    **{f"first {n} copied": GROUPS[:n] for n in (1, 2, 3)},
    **{f"last {n} copied": GROUPS[-n:] for n in (1, 2, 3)},
    "all copied": GROUPS,
}


def config_of(steps: int) -> Any:
    """That of `experiments/pretrained`, smaller and shorter; all layers move alike."""
    config = pretrained.config_of(CASE, CASE.labels)
    config.evaluate = dict(target=config.evaluate.test)
    config.streams.target.batch = BATCH
    for part in (config.streams.target, config.evaluate.target):
        part.size = SIZE
    config.train, config.freeze_statistics = (("**", 1.0),), None
    config.steps = config.log_every = steps
    frame.judge_at_the_end(config)
    return config


def source() -> Row:
    """A network of all cells, as they are; what inverted ones start from."""

    def edit(config: Any, run: Run) -> None:
        config.streams.target.per_class = None
        config.optimizer.learning_rate = 0.01

    make = functools.partial(config_of, SOURCE_STEPS)
    return Row(make, edit=edit, columns=dict(pair="inverted inputs", variant="source model"))


def row(pair: str, name: str, rate: float, tuning: bool = False) -> Row:
    """A variant at a rate, judged on the test or, to choose the rate, on more of the pool."""

    def edit(config: Any, run: Run) -> None:
        [_, (_, origin)] = config.start
        paths = [path for group in VARIANTS[name] for path in group]
        if tuning:
            judged = dict(per_class=CASE.labels + JUDGED, skip=CASE.labels)
            config.evaluate.target.update(pretrained.DATA[CASE.data][0], **judged)
        if pair == "inverted inputs":
            origin = run.origin("source")
            if GROUPS[-1] in VARIANTS[name]:
                paths.append("heads/**")
            for part in (config.streams.target, config.evaluate.target):
                part.transforms = (dict(name="invert"), *part.transforms)
        config.start = (*((path, origin) for path in paths), ("**", "fresh"))
        config.optimizer.learning_rate = rate

    make = functools.partial(config_of, STEPS)
    return Row(make, edit=edit, columns=dict(pair=pair, variant=name, rate=rate))


def rows() -> dict[str, Row]:
    """Every variant at the rate of the highest balanced accuracy, the smaller of equals."""
    rows, tuned = {"source": source()}, TUNING.read()
    for pair, name in itertools.product(PAIRS, VARIANTS):
        if lines := tuned.where(pair=pair, variant=name):  # it is tuned in parts, too
            [rate] = lines.best("target", "rate")
            rows[f"{pair}-{name}"] = row(pair, name, rate)
    return rows


def candidates() -> dict[str, Row]:
    return {"source": source()} | {
        f"{pair}-{name}-{rate:g}": row(pair, name, rate, tuning=True)
        for pair, name, rate in itertools.product(PAIRS, VARIANTS, RATES)
    }


READS = {"target": "target/per_class_accuracy"}
SIDES = dict(pairs=PAIRS, variants=tuple(VARIANTS))
EXPERIMENT = Experiment(
    HERE,
    range(10),
    READS,
    rows,
    functools.partial(which_layers.tables, **SIDES),
    functools.partial(which_layers.figure, pairs=PAIRS, rest="of four groups"),
)
TUNING = Experiment(HERE, (100, 101), READS, candidates, file="tuning.csv")

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT, tune=TUNING)

"""Which layers are worth copying: the first ones for new classes, the last ones for new inputs?

python -m experiments.which_layers.run [--tune] [--seeds 10] [--workdir runs/which_layers]
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments import frame, report
from experiments.few_shot import run as few_shot
from experiments.frame import Experiment, Row, Run
from experiments.report import Column, Results
from tljax import metrics

HERE = Path(__file__).parent
LAYERS = ("trunk/conv_0/**", "trunk/conv_1/**", "heads/label/dense_0/**", "heads/label/output/**")
RATES = (0.005, 0.02, 0.05, 0.1)
PAIRS = ("new classes", "inverted ink")
NOTHING, ENDS = "nothing copied", ("first", "last")


VARIANTS = {  # which layers are copied, the others fresh; and which of them move
    NOTHING: ((), LAYERS),
    **{f"first {n} copied": (LAYERS[:n], LAYERS) for n in (1, 2, 3)},
    **{f"last {n} copied": (LAYERS[-n:], LAYERS) for n in (1, 2, 3)},
    "all copied": (LAYERS, LAYERS),
    "all copied, only the first moves": (LAYERS, LAYERS[:1]),
    "all copied, only the last moves": (LAYERS, LAYERS[-1:]),
}


def pair_up(config: Any, pair: str) -> None:
    """Makes `configs/layer_transfer.py` one of a pair of source and target."""
    if pair == "new classes":
        old, new = tuple(range(5)), tuple(range(5, 10))
        grey = config.streams.source.transforms
        config.streams.source.classes = old
        config.streams.target.update(classes=new, transforms=grey, batch=25)
        config.evaluate.target.update(classes=new, transforms=grey)
        for name in ("source", "source_before"):
            config.evaluate[name].classes = old


def source(pair: str) -> Row:
    """The source model of a pair, which the variants start from."""

    def edit(config: Any, run: Run) -> None:
        pair_up(config, pair)
        few_shot.pretrain(config, run)

    reads = [(dict(pair=pair, variant="source model"), {"target": "source/accuracy"})]
    return Row("layer_transfer", edit=edit, reads=reads)


def row(pair: str, name: str, rate: float) -> Row:
    """A variant at a learning rate."""
    copied, moving = VARIANTS[name]

    def rules(layers: tuple[str, ...], value: Any, other: Any) -> tuple:
        rest = () if layers == LAYERS else (("**", other),)
        return (*((layer, value) for layer in layers), *rest)

    def edit(config: Any, run: Run) -> None:
        pair_up(config, pair)
        config.target.start = rules(copied, "source", "fresh")
        config.target.train = rules(moving, 1.0, 0.0)
        few_shot.transfer(config, run.origin(f"{pair}-source"))

    overrides = {"target.optimizer.learning_rate": rate}
    return Row("layer_transfer", overrides, edit, dict(pair=pair, variant=name, rate=rate))


def rows() -> dict[str, Row]:
    """Every variant at the rate of the highest validation accuracy, the smaller of equals."""
    rows, tuned = {f"{pair}-source": source(pair) for pair in PAIRS}, TUNING.read()
    for pair, name in itertools.product(PAIRS, VARIANTS):
        [rate] = tuned.where(pair=pair, variant=name).best("target", "rate")
        rows[f"{pair}-{name}"] = row(pair, name, rate)
    return rows


def candidates() -> dict[str, Row]:
    return {f"{pair}-source": source(pair) for pair in PAIRS} | {
        f"{pair}-{name}-{rate:g}": row(pair, name, rate)._replace(split="train[1200:1400]")
        for pair, name, rate in itertools.product(PAIRS, VARIANTS, RATES)
    }


def tables(results: Results) -> dict[str, str]:
    at = {pair: results.where(pair=pair).at("variant", VARIANTS) for pair in PAIRS}

    def of_pair(pair: str) -> list[Column]:
        gain = report.gained(f"− {NOTHING}", "target", at[pair][NOTHING], itself="")
        columns = [report.mean(pair, "target"), gain, report.text("rate", "rate", "{:g}")]
        return [(title, lambda lines, of=of: of(lines.where(pair=pair))) for title, of in columns]

    def contest(pair: str) -> Column:
        return pair, lambda line: at[pair][line[1]].gain("target", at[pair][line[2]])

    contests = [
        ("the first layer copied − the last layer copied", "first 1 copied", "last 1 copied"),
        ("the first two − the last two", "first 2 copied", "last 2 copied"),
        ("the first three − the last three", "first 3 copied", "last 3 copied"),
        ("only the first moves − only the last moves", *list(VARIANTS)[-2:]),
    ]
    duels: list[Column] = [("first or last", lambda line: line[0]), *map(contest, PAIRS)]
    columns = [*of_pair(PAIRS[0]), *of_pair(PAIRS[1]), report.seconds()]
    verdicts = [verdict(pair, rule, at[pair]) for pair, rule in zip(PAIRS, ENDS, strict=True)]
    return {
        "layers": report.named("layers", columns, results.at("variant", VARIANTS)),
        "duels": report.table(duels, contests),
        "verdict": " ".join(verdicts),
    }


def verdict(pair: str, rule: str, at: Mapping[str, Results]) -> str:
    """What the data say of the rule, by the paired intervals alone."""
    wins = dict.fromkeys(ENDS, 0)
    for n in (1, 2, 3):
        difference = metrics.paired(*(at[f"{end} {n} copied"].values("target") for end in ENDS))
        if abs(difference.mean) > difference.half_width:
            wins[ENDS[difference.mean < 0]] += 1
    [other] = set(ENDS) - {rule}
    return (
        f"{pair.capitalize()}: the rule says to copy the {rule} layers; of three comparisons "
        f"the {rule} are better in {wins[rule]}, the {other} in {wins[other]}: "
        f"the data {'agree' if wins[rule] > wins[other] else 'disagree'}."
    )


def figure(results: Results, path: Path) -> None:
    """A panel a pair: target accuracy over the number of copied layers, from either end."""
    panels: dict[str, dict[str, dict[float, Any]]] = {}
    for pair in PAIRS:
        at = results.where(pair=pair).at("variant", VARIANTS)
        panels[pair] = {}
        for end in ENDS:
            names = (NOTHING, *(f"{end} {n} copied" for n in (1, 2, 3)), "all copied")
            reached = {n: at[name].values("target") for n, name in enumerate(names)}
            panels[pair][f"the {end} n copied, all move"] = reached
            only = f"all copied, only the {end} moves"
            panels[pair][only] = {4: at[only].values("target")}
    report.curves(panels, path, "copied layers n, of four")


READS = {"target": "target/accuracy"}
EXPERIMENT = Experiment(HERE, range(10), READS, rows, tables, figure)
TUNING = Experiment(HERE, range(100, 102), READS, candidates, file="tuning.csv")

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT, tune=TUNING)

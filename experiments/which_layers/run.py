"""Which layers are worth copying: the first ones for new classes, the last ones for new inputs?

python -m experiments.which_layers.run [--tune] [--seeds 10] [--workdir runs/which_layers]
"""

import itertools
from collections.abc import Mapping, Sequence
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
ONLY = tuple(f"all copied, only the {end} moves" for end in ENDS)


VARIANTS = {  # which layers are copied, the others fresh; and which of them move
    NOTHING: ((), LAYERS),
    **{f"first {n} copied": (LAYERS[:n], LAYERS) for n in (1, 2, 3)},
    **{f"last {n} copied": (LAYERS[-n:], LAYERS) for n in (1, 2, 3)},
    "all copied": (LAYERS, LAYERS),
    ONLY[0]: (LAYERS, LAYERS[:1]),
    ONLY[1]: (LAYERS, LAYERS[-1:]),
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


def tables(
    results: Results, pairs: Sequence[str] = PAIRS, variants: Sequence[str] = tuple(VARIANTS)
) -> dict[str, str]:
    """Those of two pairs; of the first the rule says to copy the first layers, of the other the
    last."""
    at = {pair: results.where(pair=pair).at("variant", variants) for pair in pairs}

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
        ("only the first moves − only the last moves", *ONLY),
    ]
    contests = [line for line in contests if line[1] in variants]
    duels: list[Column] = [("first or last", lambda line: line[0]), *map(contest, pairs)]
    columns = [column for pair in pairs for column in of_pair(pair)]
    verdicts = [verdict(pair, rule, at[pair]) for pair, rule in zip(pairs, ENDS, strict=True)]
    lines = results.at("variant", variants)
    return {
        "layers": report.named("layers", [*columns, report.seconds()], lines),
        "duels": report.table(duels, contests),
        "verdict": " ".join(verdicts),
    }


def verdict(pair: str, rule: str, at: Mapping[str, Results]) -> str:
    """What the data say of the rule, by the paired intervals alone."""
    wins = dict.fromkeys(ENDS, 0)
    if not all(at[f"{end} {n} copied"] for end in ENDS for n in (1, 2, 3)):
        return f"{pair.capitalize()}: not run yet."
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


def figure(
    results: Results, path: Path, pairs: Sequence[str] = PAIRS, rest: str = "of four"
) -> None:
    """A panel a pair: target accuracy over the number of copied layers, from either end."""
    panels: dict[str, dict[str, dict[float, Any]]] = {}
    for pair in filter(lambda pair: results.where(pair=pair), pairs):
        at = {lines[0]["variant"]: lines for lines in results.where(pair=pair).by("variant")}
        panels[pair] = {}
        for end, only in zip(ENDS, ONLY, strict=True):
            names = (NOTHING, *(f"{end} {n} copied" for n in (1, 2, 3)), "all copied")
            reached = {n: at[of].values("target") for n, of in enumerate(names) if of in at}
            panels[pair][f"the {end} n copied, all move"] = reached
            if only in at:
                panels[pair][only] = {4: at[only].values("target")}
    report.curves(panels, path, f"copied layers n, {rest}")


READS = {"target": "target/accuracy"}
EXPERIMENT = Experiment(HERE, range(10), READS, rows, tables, figure)
TUNING = Experiment(HERE, range(100, 105), READS, candidates, file="tuning.csv")

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT, tune=TUNING)

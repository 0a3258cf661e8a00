"""Which layers are worth copying: the first ones for new classes, the last ones for new inputs?

python -m experiments.which_layers.run [--seeds 10] [--workdir runs/which_layers]
"""

from pathlib import Path
from typing import Any, NamedTuple

from experiments import frame, report
from experiments.few_shot import run as few_shot
from experiments.frame import Experiment, Row, Run
from experiments.report import Column, Results
from tljax import metrics

HERE = Path(__file__).parent
LAYERS = ("trunk/conv_0/**", "trunk/conv_1/**", "heads/label/dense_0/**", "heads/label/output/**")
PAIRS = ("new classes", "inverted ink")
NOTHING = "nothing copied"


class Variant(NamedTuple):
    """Which layers are copied, the others fresh; and which of them move."""

    copied: tuple[str, ...]
    moving: tuple[str, ...] = LAYERS


VARIANTS = {
    NOTHING: Variant(()),
    **{f"first {n} copied": Variant(LAYERS[:n]) for n in (1, 2, 3)},
    **{f"last {n} copied": Variant(LAYERS[-n:]) for n in (1, 2, 3)},
    "all copied": Variant(LAYERS),
    "all copied, only the first moves": Variant(LAYERS, LAYERS[:1]),
    "all copied, only the last moves": Variant(LAYERS, LAYERS[-1:]),
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

    columns = dict(pair=pair, variant="source model")
    reads = [({}, {"target": "source/accuracy"})]
    return Row("layer_transfer", edit=edit, columns=columns, reads=reads, alone=True)


def row(pair: str, name: str, rate: float) -> Row:
    """A variant at a learning rate."""
    variant = VARIANTS[name]

    def edit(config: Any, run: Run) -> None:
        pair_up(config, pair)
        copied = tuple((layer, "source") for layer in variant.copied)
        config.target.start = copied + (() if variant.copied == LAYERS else (("**", "fresh"),))
        moving = tuple((layer, 1.0) for layer in variant.moving)
        config.target.train = moving + (() if variant.moving == LAYERS else (("**", 0.0),))
        few_shot.transfer(config, run.origin(f"{pair}-source"))

    overrides = {"target.optimizer.learning_rate": rate}
    return Row("layer_transfer", overrides, edit, dict(pair=pair, variant=name, rate=rate))


def chosen() -> dict[tuple[str, str], float]:
    """(pair, variant) -> the rate of the highest validation accuracy; the smaller of equals."""
    tuned = report.read(HERE / "tuning.csv")
    return {
        (pair, name): tuned.where(pair=pair, variant=name).best("target", "rate")[0]
        for pair in PAIRS
        for name in VARIANTS
    }


def rows() -> dict[str, Row]:
    rates = chosen()
    return {f"{pair}-source": source(pair) for pair in PAIRS} | {
        f"{pair}-{name}": row(pair, name, rates[pair, name]) for pair in PAIRS for name in VARIANTS
    }


def tables(results: Results) -> dict[str, str]:
    of = {(p, name): results.where(pair=p, variant=name) for p in PAIRS for name in VARIANTS}

    def columns(pair: str) -> list[Column]:
        base = of[pair, NOTHING]
        return [
            (pair, lambda name: of[pair, name].cell("target")),
            (f"− {NOTHING}", lambda name: of[pair, name].gain("target", base, itself="")),
            ("rate", lambda name: f"{of[pair, name][0]['rate']:g}"),
        ]

    def seconds(name: str) -> str:
        return f"{metrics.interval(results.where(variant=name).values('seconds')).mean:.1f}"

    layers = [("layers", str), *columns(PAIRS[0]), *columns(PAIRS[1]), ("seconds", seconds)]
    contests = [
        ("the first layer copied − the last layer copied", "first 1 copied", "last 1 copied"),
        ("the first two − the last two", "first 2 copied", "last 2 copied"),
        ("the first three − the last three", "first 3 copied", "last 3 copied"),
        ("only the first moves − only the last moves", *list(VARIANTS)[-2:]),
    ]

    def contest(pair: str) -> Column:
        return pair, lambda line: of[pair, line[1]].gain("target", of[pair, line[2]])

    duels: list[Column] = [("first or last", lambda line: line[0]), *map(contest, PAIRS)]
    return {
        "layers": report.table(layers, VARIANTS),
        "duels": report.table(duels, contests),
        "verdict": verdict(results),
    }


def verdict(results: Results) -> str:
    """What the data say of the rule, by the paired intervals alone."""
    texts = []
    for pair, rule in zip(PAIRS, ("first", "last"), strict=True):
        wins = {"first": 0, "last": 0}
        for n in (1, 2, 3):
            ends = [results.where(pair=pair, variant=f"{end} {n} copied") for end in wins]
            difference = metrics.paired(*(runs.values("target") for runs in ends))
            if abs(difference.mean) > difference.half_width:
                wins["first" if difference.mean > 0 else "last"] += 1
        other = {"first": "last", "last": "first"}[rule]
        agrees = "agree" if wins[rule] > wins[other] else "disagree"
        texts.append(
            f"{pair.capitalize()}: the rule says to copy the {rule} layers; of three comparisons "
            f"the {rule} are better in {wins[rule]}, the {other} in {wins[other]}: "
            f"the data {agrees}."
        )
    return " ".join(texts)


def figure(results: Results, path: Path) -> None:
    """A panel a pair: target accuracy over the number of copied layers, from either end."""

    def lines(pair: str) -> dict[str, dict[float, Any]]:
        def reached(name: str) -> Any:
            return results.where(pair=pair, variant=name).values("target")

        drawn: dict[str, dict[float, Any]] = {}
        for end in ("first", "last"):
            some = {n: reached(f"{end} {n} copied") for n in (1, 2, 3)}
            every = {0: reached(NOTHING), **some, 4: reached("all copied")}
            only = f"all copied, only the {end} moves"
            drawn |= {f"the {end} n copied, all move": every, only: {4: reached(only)}}
        return drawn

    report.curves({pair: lines(pair) for pair in PAIRS}, path, "copied layers n, of four")


EXPERIMENT = Experiment(
    folder=HERE,
    seeds=range(10),
    reads={"target": "target/accuracy"},
    rows=rows,
    tables=tables,
    figure=figure,
)

if __name__ == "__main__":
    frame.main(EXPERIMENT, __doc__)

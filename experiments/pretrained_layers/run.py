"""Which layers of a public network are worth copying: the first for new classes, the last for
new inputs?

python -m experiments.pretrained.fetch mobilenet_v2 elpv
python -m experiments.pretrained_layers.run [--seeds 10] [--only pair="new classes"]
"""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments import frame, report
from experiments.frame import Collect, Experiment, Row, Run
from experiments.pretrained import run as pretrained
from experiments.pretrained.run import Case
from experiments.report import Column, Results
from tljax import metrics

HERE = Path(__file__).parent
CASE = Case("cells", "mobilenet_v2", 20)
GROUPS = (  # of a trunk's layers, from the input on
    ("trunk/stem/**", "trunk/block1_*/**", "trunk/block2_*/**"),
    ("trunk/block3_*/**", "trunk/block4_*/**"),
    ("trunk/block5_*/**", "trunk/block6_*/**"),
    ("trunk/block7_*/**", "trunk/last/**"),
)
PAIRS = {"new classes": "first", "inverted inputs": "last"}  # and what the rule says to copy
ENDS = ("first", "last")
RATES = (0.002, 0.01, 0.03)
SOURCE_STEPS = 700
COUNTS = range(1, len(GROUPS))


def copied(end: str, count: int, moves: bool = True) -> Callable[[Any, float], None]:
    """So many groups are copied, from the first or up to the last; what is not starts afresh."""

    def edit(config: Any, rate: float) -> None:
        groups = GROUPS[:count] if end == "first" else GROUPS[-count:]
        paths = [path for group in groups for path in group]
        *fresh, (_, origin) = config.start
        if end == "last" and not fresh:
            paths.append("heads/**")
        config.start = (*((path, origin) for path in paths), ("**", "fresh"))
        still = () if moves else tuple((path, 0.0) for path in paths)
        config.train = (*still, ("**", 1.0))
        config.freeze_statistics = None  # those of fresh layers are no statistics yet
        pretrained.tuned(config, rate)

    return edit


def everything(config: Any, rate: float) -> None:
    pretrained.tuned(config, rate)


VARIANTS: dict[str, Callable[[Any, float], None]] = {
    "nothing copied": pretrained.scratch,
    **{f"{end} {n} copied": copied(end, n) for end in ENDS for n in COUNTS},
    **{f"{end} {n} copied, frozen": copied(end, n, False) for end in ENDS for n in COUNTS},
    "all copied": everything,
}


def source() -> Row:
    """A network of all cells, as they are; what inverted ones start from."""

    def edit(config: Any, run: Run) -> None:
        config.streams.target.update(per_class=None, batch=pretrained.BATCH)
        config.evaluate = {"test": config.evaluate.test}
        config.steps = config.log_every = SOURCE_STEPS
        frame.judge_at_the_end(config)

    reads = [(dict(part="source"), {"test": "test/per_class_accuracy"})]
    make = lambda: pretrained.config_of(CASE, CASE.labels)  # noqa: E731
    return Row(make, edit=edit, columns=dict(pair="inverted inputs"), reads=reads)


def row(pair: str, name: str, values: Any, labels: int) -> Row:
    """A variant at a rate, or at one of each seed's own, on some of the labels or on all."""
    tuning = labels < CASE.labels

    def edit(config: Any, run: Run) -> None:
        del config.evaluate.other
        if pair == "inverted inputs":
            config.start = (("**", run.origin("source")),)
            for part in (config.streams.target, *config.evaluate.values()):
                part.transforms = (dict(name="invert"), *part.transforms)
        VARIANTS[name](config, values[run.seed] if isinstance(values, dict) else values)
        if tuning:
            config.evaluate = {name: config.evaluate[name] for name in ("drawn", "held")}

    part = (dict(part="tuning", knob=values), pretrained.TUNED)
    ended = (dict(part="test"), {k: pretrained.READS[k] for k in ("test", "train")})
    make = lambda: pretrained.config_of(CASE, labels)  # noqa: E731
    columns = dict(pair=pair, variant=name)
    return Row(make, edit=edit, columns=columns, reads=[part if tuning else ended])


def stages(collect: Collect) -> Results:
    """The source, then each variant with every rate on most of its labels, and on all."""
    results, fewer = collect({"source": source()}), CASE.labels - CASE.held
    for pair, name in itertools.product(PAIRS, VARIANTS):
        tried = {f"{pair}-{name}-{rate:g}": row(pair, name, rate, fewer) for rate in RATES}
        if tuned := collect(tried):
            best = pretrained.chosen(tuned, RATES)
            final = collect({f"{pair}-{name}": row(pair, name, best, CASE.labels)})
            results += tuned + Results({**li, "knob": best[li["seed"]]} for li in final)
    return results


# What is made of them.


def contest(results: Results, pair: str, first: str, last: str) -> str:
    """The first less the last, over the draws that both have run."""
    lines = results.where(part="test", pair=pair)
    return pretrained.gained(lines.where(variant=first), lines.where(variant=last))


def tables(results: Results) -> dict[str, Any]:
    lines = results.where(part="test")

    def cell(name: str, pair: str) -> str:
        mine = lines.where(pair=pair, variant=name)
        return mine.cell("test") + pretrained.drawn(mine)

    def named(title: str, write: Callable[[Any, str], str], rows: Sequence[Any]) -> str:
        columns: list[Column] = [(title, lambda of: of if isinstance(of, str) else of[0])]
        columns += [(pair, lambda of, pair=pair: write(of, pair)) for pair in PAIRS]
        return report.table(columns, rows)

    duels = [
        (f"first {n} − last {n}{how}", f"first {n} copied{how}", f"last {n} copied{how}")
        for how in ("", ", frozen")
        for n in COUNTS
    ]
    return {
        "source": results.where(part="source").cell("test"),
        "layers": named("layers", cell, list(VARIANTS)),
        "duels": named("", lambda of, pair: contest(results, pair, *of[1:]), duels),
        "verdict": " ".join(verdict(lines, pair) for pair in PAIRS),
    }


def verdict(lines: Results, pair: str) -> str:
    """What the data say of the rule, by the paired intervals alone."""
    wins, tried = dict.fromkeys(ENDS, 0), 0
    for n, how in itertools.product(COUNTS, ("", ", frozen")):
        sides = [lines.where(pair=pair, variant=f"{end} {n} copied{how}") for end in ENDS]
        both = sorted(set(sides[0].of("seed")) & set(sides[1].of("seed")))
        if len(both) < 2:
            continue
        values = [[side.where(seed=seed)[0]["test"] for seed in both] for side in sides]
        difference, tried = metrics.paired(*values), tried + 1
        if abs(difference.mean) > difference.half_width:
            wins[ENDS[difference.mean < 0]] += 1
    return (
        f"{pair.capitalize()}: the rule says to copy the {PAIRS[pair]} layers; of {tried} "
        f"comparisons the first are better in {wins['first']}, the last in {wins['last']}."
    )


EXPERIMENT = Experiment(HERE, range(10), tables=tables, stages=stages)

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT)

"""What are public weights worth with few labels, and which way of using them?

python -m experiments.pretrained.fetch
python -m experiments.pretrained.run [--seeds 10] [--workdir runs/pretrained]
"""

import functools
import itertools
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tljax
from experiments import frame, report
from experiments.frame import Collect, Experiment, Row, Run
from experiments.report import Comparison, Results
from tljax.configs import tasks
from tljax.data import transforms
from tljax.data.decoded import materialise
from tljax.experiment import blank, soup
from tljax.models import weights
from tljax.models.checkpoints import CHECKPOINTS
from tljax.models.network import module
from tljax.models.trunks import TRUNKS
from tljax.phase.evaluate import outputs
from tljax.phase.phase import Stream
from tljax.phase.scoring import Split

HERE = Path(__file__).parent
COUNTS = (5, 10, 20, 50, 100)  # labels a class
SIZE, STEPS, BATCH = 128, 350, 20
SEEN = {  # as each checkpoint expects images in [0, 1]
    "mobilenet_v2": dict(name="imagenet"),
    "efficientnet_lite0": dict(name="standardise", mean=127 / 255, std=128 / 255),
}
DATA = {  # the pool that labels are drawn from, and the test
    "cells": (dict(data="folder:elpv", split="train"), dict(data="folder:elpv", split="test")),
    "garments": (dict(**tasks.GARMENTS), dict(**tasks.GARMENTS, split="test[:2000]")),
}


class Method(NamedTuple):
    """A way to use a checkpoint, with one knob that is tuned within the labels that it has."""

    edit: Callable[[Any, Any], None]  # changes a config by a value of the knob
    values: Sequence[Any]


class Case(NamedTuple):
    """What labels are drawn from, how many a class, and whose weights are used."""

    data: str
    trunk: str
    labels: int

    @property
    def held(self) -> int:
        """How many of each class's labels the values of a knob are compared on: a fifth."""
        return max(1, self.labels // 5)


def config_of(case: Case, labels: int) -> Any:
    """A config of some labels a class, from the checkpoint; how it is trained is still to be said.

    `drawn` judges on the labels that are trained on, `held` on those of the case that are not;
    `other` gives the features of photographs of other things.
    """
    config, seen = blank(), (SEEN[case.trunk],)
    pool, test = DATA[case.data]
    shown = dict(size=SIZE, channels=3)
    config.data_dir = tasks.cache()
    config.network.trunk = dict(name=case.trunk)
    classes = 2 if case.data == "cells" else 10
    config.streams.target = dict(
        **pool, **shown, per_class=labels, batch=min(BATCH, classes * labels)
    )
    config.evaluate.test = dict(**test, **shown, transforms=seen)
    config.evaluate.drawn = dict(**pool, **shown, per_class=labels, transforms=seen)
    if labels < case.labels:
        held = dict(per_class=case.labels, skip=labels)
        config.evaluate.held = dict(**pool, **shown, **held, transforms=seen)
    config.evaluate.other = dict(
        data="folder:photographs", labelled=False, head="", **shown, transforms=seen
    )
    config.streams.target.transforms = (dict(name="flip"), *seen)
    config.start = (("heads/**", "fresh"), ("**", tasks.weights(case.trunk)))
    config.terms.label = dict(term="cross_entropy", stream="target")
    config.freeze_statistics, config.steps = True, STEPS
    config.optimizer = {**tasks.sgd(0.002), "clip": 1.0}
    config.train = (("heads/**", 4.0), ("**", 1.0))
    config.log_every = STEPS
    frame.judge_at_the_end(config)
    return config


# The ways. A solver fits its head on the features of each picture as it is, without flips.


def solved(config: Any, solver: str, **fields: Any) -> None:
    config.streams.target.transforms = config.evaluate.test.transforms
    config.start, config.terms, config.train = config.start[1:], {}, (("**", 1.0),)
    config.prepare.readout = dict(solver=solver, stream="target", head="label", **fields)
    config.steps, config.log_every, config.freeze_statistics = 0, 1, None
    config.evaluate_every = config.checkpoint_every = 1


def pixels(config: Any, penalty: float) -> None:
    solved(config, "softmax", penalty=penalty)
    config.network.trunk, config.start = dict(name="mlp", features=()), ()
    for part in (config.streams.target, *config.evaluate.values()):
        part.update(size=32, channels=1, transforms=())
    del config.evaluate["other"]


def probe(config: Any, penalty: float) -> None:
    solved(config, "softmax", penalty=penalty)


def nearest(config: Any, k: int) -> None:
    config.network.heads.label = dict(name="neighbours", k=k)
    solved(config, "knn")


def scratch(config: Any, rate: float) -> None:
    config.start, config.train = (), (("**", 1.0),)
    config.freeze_statistics = None
    tuned(config, rate)


def tuned(config: Any, rate: float) -> None:
    config.optimizer.learning_rate = rate


def probe_first(config: Any, rate: float) -> None:
    """Kumar et al. 2022: a linear probe, then all from there."""
    tuned(config, rate)
    steps, terms, origin = config.steps, config.terms.to_dict(), config.start
    config.phases = ("probe", "all")
    config.prepare.readout = dict(solver="softmax", stream="target", head="label", penalty=10.0)
    config["probe"] = dict(steps=0, terms={}, start=origin[1:], train=(("**", 1.0),))
    config["all"] = dict(steps=steps, terms=terms, prepare={}, start=(("**", "probe"),))


def near_start(config: Any, weight: float) -> None:
    """L2-SP (Li et al. 2018)."""
    config.terms.near = dict(term="l2_sp", weight=weight)


def shrunk(config: Any, weight: float) -> None:
    """BSS (Chen et al. 2019)."""
    config.terms.shrunk = dict(term="spectral_shrinkage", weight=weight)


def held_maps(config: Any, weight: float) -> None:
    """DELTA (Li et al. 2019) without weights of channels, on the map after the fifth stage."""
    config.terms.held_maps = dict(term="delta", layer="layer5", weight=weight)


def low_rank(config: Any, rate: float) -> None:
    """LoRA (Hu et al. 2021) of rank 4 on all 1 × 1 convolutions of blocks."""
    only = ("trunk/*/expand/conv/kernel", "trunk/*/project/conv/kernel")
    config.adapters = dict(lora=dict(name="lora", only=only, rank=4))
    config.start = (("adapters/**", "fresh"), *config.start)
    config.train = (("adapters/**", 1.0), ("heads/**", 1.0), ("**", 0.0))
    tuned(config, rate)


RATES = (0.0005, 0.002, 0.006)
METHODS = {
    "pixels": Method(pixels, (10.0, 100.0, 1000.0)),
    "nearest neighbours": Method(nearest, (1, 3, 5)),
    "linear probe": Method(probe, (1.0, 10.0, 100.0)),
    "from scratch": Method(scratch, (0.01, 0.03, 0.1)),
    "fine-tuning": Method(tuned, RATES),
    "LP-FT": Method(probe_first, RATES),
    "L2-SP": Method(near_start, (0.001, 0.01, 0.1)),
    "BSS": Method(shrunk, (0.0001, 0.001, 0.01)),
    "DELTA": Method(held_maps, (0.0001, 0.001, 0.01)),
    "LoRA": Method(low_rank, (0.002, 0.01, 0.05)),
}
WISE = (0.25, 0.5, 0.75)  # parts of the way from the probe to LP-FT (Wortsman et al. 2022)


# What is measured beside the test.


def named(trunk: str, features: np.ndarray) -> np.ndarray:
    """The classes of ImageNet that a checkpoint's own classifier gives features."""
    dense = loaded(trunk)["params"]["heads"]["HEAD"]["output"]
    return (features @ dense["kernel"] + dense["bias"]).argmax(-1)


@functools.cache
def loaded(trunk: str) -> dict[str, Any]:
    """The variables of a checkpoint."""
    made = module(TRUNKS, dict(CHECKPOINTS[trunk].trunk), "trunk")
    return weights.load(made, tasks.weights(trunk).partition(":")[2])


@functools.cache
def others() -> Any:
    """The photographs of other things."""
    how = dict(size=SIZE, channels=3, labelled=False, root=tasks.cache())
    return materialise(tljax.data.load("folder:photographs", "train", **how), math.inf)


@functools.cache
def original(trunk: str) -> np.ndarray:
    """What the checkpoint itself sees in the photographs of other things."""
    return named(trunk, seen(trunk, others()))


def seen(trunk: str, table: Any) -> np.ndarray:
    """The pooled features `[n, width]` that a checkpoint gives the images of a table."""
    net = tljax.Network(trunk=module(TRUNKS, dict(CHECKPOINTS[trunk].trunk), "trunk"))
    variables = {kind: {"trunk": tree["trunk"]} for kind, tree in loaded(trunk).items()}
    stream = Stream("seen", 64, transforms.parse((SEEN[trunk],), "transforms"))
    split = Split("seen", table, stream, head="")
    return outputs(net, variables["params"], variables["batch_stats"], split).features


def agreement(trunk: str, found: Mapping[str, Any]) -> dict[str, float]:
    """How often the trunk, under the classifier that it came with, still says what it said."""
    now = named(trunk, found["other"].features)
    return {"agreement": float((now == original(trunk)).mean())}


# The rows: every value of a knob on four fifths of the labels, then the best of them on all.


def row(case: Case, name: str, values: Mapping[int, Any] | Any, labels: int) -> Row:
    """A method with a value of its knob, or one of each seed's own."""
    method = METHODS[name]

    def edit(config: Any, run: Run) -> None:
        config.features_dir = str(run.workdir / "features")  # for all rows
        method.edit(config, values[run.seed] if isinstance(values, Mapping) else values)
        if labels < case.labels:
            config.evaluate = {name: config.evaluate[name] for name in ("drawn", "held")}

    columns = dict(method=name, **case._asdict())
    tuning = labels < case.labels
    return Row(
        functools.partial(config_of, case, labels),
        edit=edit,
        columns=columns,
        reads=[(dict(part="tuning", knob=values), TUNED) if tuning else (dict(part="test"), READS)],
        measure=None if tuning or name == "pixels" else functools.partial(agreement, case.trunk),
        measured=("other",),
    )


TUNED = {"held": "held/per_class_accuracy", "held_loss": "held/loss"}
READS = {
    "test": "test/per_class_accuracy",
    "train": "drawn/per_class_accuracy",
    "agreement": "agreement",
}


def chosen(tuned: Results, values: Sequence[Any]) -> dict[int, Any]:
    """Seed -> the value that is best on the labels held back: by accuracy, then by loss."""

    def worth(line: Mapping[str, Any]) -> tuple[float, float]:
        failed = line["held"] is None
        return (-1.0, 0.0) if failed else (line["held"], -line["held_loss"])

    return {s: max(tuned.where(seed=s), key=worth)["knob"] for s in tuned.of("seed")}


def interpolated(case: Case, line: Mapping[str, Any], tuned: Path, run: Path) -> Results:
    """WiSE-FT of a run, its part of the way chosen on the labels held back from another."""

    def worth(row: Mapping[str, float]) -> tuple[float, float]:
        return row["held/per_class_accuracy"], -row["held/loss"]

    best = max(soup.wise(tuned, WISE), key=worth)["alpha"]
    with tempfile.TemporaryDirectory() as there:
        [ended] = soup.wise(run, [best], Path(there, "run"))
        seen = tljax.load(Path(there, "run"), like="other").features(others().input)
    found = {
        "method": "WiSE-FT",
        "knob": best,
        "test": ended["test/per_class_accuracy"],
        "train": ended["drawn/per_class_accuracy"],
        "agreement": float((named(case.trunk, seen) == original(case.trunk)).mean()),
    }
    return Results([{**line, **found}])


def stages(cases: Sequence[Case], methods: Sequence[str]) -> Callable[[Collect], Results]:
    """Runs cases by some methods, each tuned on what it has."""

    def run(collect: Collect) -> Results:
        results = Results()
        for case, name in itertools.product(cases, methods):
            label = f"{name}-{case.data}-{case.trunk}-{case.labels}"
            values, fewer = METHODS[name].values, case.labels - case.held
            tuned = collect({f"{label}-{v:g}": row(case, name, v, fewer) for v in values})
            best = chosen(tuned, values)
            final = collect({label: row(case, name, best, case.labels)})
            results += tuned + Results({**line, "knob": best[line["seed"]]} for line in final)
            if name == "LP-FT":
                for line in final:
                    seed = line["seed"]
                    of_value = collect.members[f"{label}-{best[seed]:g}"][seed]
                    results += interpolated(case, line, of_value, collect.members[label][seed])
        return results

    return run


# What is made of them.


def of(results: Results, data: str, trunk: str) -> dict[str, Results]:
    """The test lines of a part, by method."""
    lines = results.where(part="test", data=data, trunk=trunk)
    return {name: mine for name in (*METHODS, "WiSE-FT") if (mine := lines.where(method=name))}


def by_count(
    lines: Mapping[str, Results],
    write: Callable[[Results, Results], str],
    base: Results | None = None,
) -> str:
    """A line a method, a column a number of labels; `write` also gets a baseline's lines."""
    base = base or Results()
    columns = [
        (
            f"{n} a class",
            lambda mine, n=n: write(mine.where(labels=n), base.where(labels=n)),
        )
        for n in sorted({n for mine in lines.values() for n in mine.of("labels")})
    ]
    return report.named("method", columns, lines) if lines else "Not run yet."


def tables(results: Results) -> dict[str, Any]:
    made = {}
    for data, trunk in itertools.product(DATA, SEEN):
        lines, part = of(results, data, trunk), f"{data}_{trunk}"
        made[part] = by_count(lines, lambda mine, _: mine.cell("test") + drawn(mine))
        others, base = {n: mine for n, mine in lines.items() if n != PROBE}, lines.get(PROBE)
        made[f"{part}_gain"] = by_count(others, gained, base)
    lines = of(results, "cells", "mobilenet_v2")
    made["gap"] = by_count(lines, lambda mine, _: Results(gaps(mine)).cell("gap"))
    made["agreement"] = by_count(lines, lambda mine, _: mine.cell("agreement"))
    return made


def gained(lines: Results, base: Results) -> str:
    """The difference in balanced accuracy over the draws that both have run."""
    both = Results(line for line in lines if base.where(seed=line["seed"]))
    return both.gain("test", base) + drawn(both)


def drawn(lines: Results) -> str:
    """How many draws stand behind a cell, where not all have been run."""
    count = len(lines.of("seed"))
    return f" ({count})" if 0 < count < len(EXPERIMENT.seeds) else ""


def gaps(lines: Results) -> Results:
    """The lines with how much better they are on what they were trained on."""
    ended = (line for line in lines if line["test"] is not None)
    return Results({**line, "gap": line["train"] - line["test"]} for line in ended)


def figure(results: Results, path: Path) -> None:
    """Balanced accuracy over the number of labels."""
    panels = {}
    for data, trunk in itertools.product(DATA, SEEN):
        if lines := of(results, data, trunk):
            over = {name: mine.over("labels", "test") for name, mine in lines.items()}
            panels[f"{data}, {trunk}"] = over
    report.curves(panels, path, "labels a class")


PROBE = "linear probe"
KNOWN = "what ImageNet taught is of use for cells too"
CASES = [Case(*parts) for parts in itertools.product(DATA, SEEN, COUNTS)]
AT_100 = dict(part="test", data="cells", trunk="mobilenet_v2", labels=100)
SOLAR = "photographs of solar cells, 100 labels a class, MobileNetV2:"
COMPARED = [
    Comparison(f"{SOLAR} {ours} against {theirs}", "test", name, base, AT_100, why)
    for ours, theirs, name, base, why in (
        ("a linear probe", "logistic regression on pixels", PROBE, "pixels", KNOWN),
        ("fine-tuning", "a linear probe", "fine-tuning", PROBE, "so few draws show no difference"),
        ("fine-tuning", "from scratch", "fine-tuning", "from scratch", KNOWN),
    )
]
EXPERIMENT = Experiment(
    HERE,
    range(10),
    tables=tables,
    figure=figure,
    comparisons=COMPARED,
    stages=stages(CASES, list(METHODS)),
)

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT)

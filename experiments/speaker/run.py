"""Which layers of a recogniser should move for a new speaker, and what else serves him?

python -m experiments.speaker.voices
python -m experiments.speaker.run [--tune] [--seeds 36] [--only condition=microphone]
python -m experiments.speaker.voices phrases
python -m experiments.speaker.run --real
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments import frame, report
from experiments.frame import Experiment, Row, Run
from experiments.report import Column, Comparison, Results
from experiments.speaker import real
from experiments.speaker import voices as made
from experiments.speaker.voices import PACKS, RATE, VOICES
from tljax import metrics
from tljax.configs import tasks
from tljax.experiment import blank

HERE = Path(__file__).parent
KNOWN, CHECKED, NEW = VOICES[:20], VOICES[15:20], VOICES[20:]
MODELS = 3  # recognisers; voice i is adapted from model i mod 3
TOLD = (1, 2, 5)  # utterances of each word that a new speaker gives
TAKES = tuple(map(str, range(made.TAKES)))
TESTED = TAKES[5:]  # that no training sees
LAYERS = (
    *(f"trunk/block_{i}/**" for i in range(4)),
    *("heads/label/dense_0/**", "heads/label/output/**"),
)
SECONDS, STEPS = 1.0, 150


class Condition(NamedTuple):
    """In what new speakers differ from known ones."""

    kind: str  # of the new speakers' recordings
    known: int  # how many voices the recogniser was trained on


CONDITIONS = {
    "voice": Condition("plain", 20),
    "vocal tract": Condition("tract", 20),
    "microphone": Condition("microphone", 20),
    "few known": Condition("plain", 5),
}


class Method(NamedTuple):
    """A way to serve a new speaker, with one knob."""

    edit: Callable[[Any, float], None]
    values: Sequence[float]
    normalised: bool = False  # whether mels have mean 0 and deviation 1 over every utterance


def heard(kind: str, voices: Sequence[str], takes: Sequence[str]) -> dict[str, Any]:
    """Recordings of some voices."""
    where = dict(speaker=tuple(voices), take=tuple(takes))
    return dict(data=f"wav:voices/{kind}", where=where, rate=RATE, seconds=SECONDS)


NOISE = dict(name="white_noise", snr_decibel=6.0)  # half the signal's deviation


def recogniser(normalised: bool) -> Any:
    """A config of the network alone: log-mels, four convolutions, two dense layers."""
    config = blank()
    config.data_dir = tasks.cache()
    tasks.mels(config, RATE, normalise="mean_variance" if normalised else "none")
    config.network.heads.label = dict(name="mlp", hidden=(128,))
    config.terms.label = dict(term="cross_entropy", stream="target")
    return config


def stream(data: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return dict(**data, stem="mel", transforms=(dict(name="time_shift"), NOISE), **more)


def judged(data: Mapping[str, Any]) -> dict[str, Any]:
    return dict(**data, stem="mel", transforms=(NOISE,))


def known(voices: Sequence[str], normalised: bool) -> Any:
    """Trains a recogniser of many speakers."""
    config = recogniser(normalised)
    config.streams.target = stream(heard("plain", voices, TAKES), batch=64)
    config.evaluate.new = judged(heard("plain", NEW, TESTED))
    config.steps, config.log_every = 2000, 500
    config.optimizer = {**tasks.sgd(0.05), "clip": 1.0}
    frame.judge_at_the_end(config)
    return config


def adapted(condition: Condition, voice: str, told: int, normalised: bool) -> Any:
    """Goes on from it with some utterances of a new speaker."""
    config = recogniser(normalised)
    config.streams.target = stream(heard(condition.kind, (voice,), TAKES[:told]), batch=20)
    config.evaluate.test = judged(heard(condition.kind, (voice,), TESTED))
    config.steps, config.log_every = STEPS, STEPS
    config.optimizer = {**tasks.sgd(0.01), "clip": 1.0}
    frame.judge_at_the_end(config)
    return config


# The ways. Each is given a value of its knob: a learning rate, or the weight of a term.


def rated(config: Any, rate: float) -> None:
    config.optimizer.learning_rate = rate


def moving(layers: Sequence[str]) -> Callable[[Any, float], None]:
    """These layers move, the others stay."""

    def edit(config: Any, rate: float) -> None:
        config.train = (*((layer, 1.0) for layer in layers), ("**", 0.0))
        rated(config, rate)

    return edit


def untouched(config: Any, _: float) -> None:
    config.steps = config.log_every = 1
    rated(config, 0.0)
    frame.judge_at_the_end(config)


def scratch(config: Any, rate: float) -> None:
    config.start = ()
    rated(config, rate)


def input_layer(config: Any, rate: float) -> None:
    """A linear layer before the network, at first the identity (LIN, Neto et al. 1995; fMLLR)."""
    config.network.stems.mel.input_layer = True
    config.start = (("stems/**", "fresh"), *config.start)
    moving(("stems/**",))(config, rate)


def adapters(**fields: Any) -> Callable[[Any, float], None]:
    """Adapters alone move."""

    def edit(config: Any, rate: float) -> None:
        config.adapters = dict(speaker=fields)
        config.start = (("adapters/**", "fresh"), *config.start)
        moving(("adapters/**",))(config, rate)

    return edit


def near_start(config: Any, weight: float) -> None:
    """L2-SP (Li et al. 2018), over all layers."""
    config.terms.near = dict(term="l2_sp", weight=weight, only=("trunk/**", "heads/**"))
    rated(config, 0.01)


def near_outputs(config: Any, weight: float) -> None:
    """KL to the speaker-independent model (Yu et al. 2013), with features of its own beside."""
    config.terms.outputs = dict(term="distillation", weight=weight, temperature=1.0)
    rated(config, 0.01)


RATES = (0.003, 0.01, 0.03)
KERNELS = ("trunk/*/conv/kernel",)
METHODS = {
    "untouched": Method(untouched, (0.0,)),
    "from scratch": Method(scratch, (0.01, 0.03, 0.1)),
    "all move": Method(rated, RATES),
    **{f"first {n} move": Method(moving(LAYERS[:n]), RATES) for n in (1, 2, 3)},
    **{f"last {n} move": Method(moving(LAYERS[-n:]), RATES) for n in (1, 2, 3)},
    "input layer": Method(input_layer, (0.001, 0.003, 0.01)),
    "LHUC": Method(adapters(name="lhuc"), (0.03, 0.1, 0.3)),
    "LoRA": Method(adapters(name="lora", only=KERNELS, rank=4), (0.01, 0.03, 0.1)),
    "L2-SP": Method(near_start, (0.001, 0.01, 0.1)),
    "KL to the start": Method(near_outputs, (0.1, 0.3, 1.0)),
    "normalised: untouched": Method(untouched, (0.0,), normalised=True),
    "normalised: all move": Method(rated, RATES, normalised=True),
}


def source(count: int, normalised: bool, checking: bool = False) -> tuple[str, Row]:
    """The name and the row of a recogniser of many speakers."""
    voices = [voice for voice in KNOWN if not (checking and voice in CHECKED)][:count]
    columns = dict(known=count, normalised=normalised)
    name = f"known-{count}{'-normalised' * normalised}"
    make = lambda: known(voices, normalised)  # noqa: E731
    return name, Row(make, columns=columns, reads=[({}, {"test": "new/accuracy"})], seeds=SOURCES)


SOURCES = tuple(range(MODELS))


def row(name: str, of: str, told: int, value: float, checking: bool = False) -> Row:
    """A method for new speakers; its seeds are their numbers."""
    method, condition = METHODS[name], CONDITIONS[of]
    origin = source(condition.known, method.normalised)[0]
    voices = CHECKED if checking else NEW

    def edit(config: Any, run: Run) -> None:
        for part in (config.streams.target, config.evaluate.test):
            part.where.speaker = (voices[run.seed],)
        config.start = (("**", f"run:{run.members[origin][SOURCES[run.seed % MODELS]]}"),)
        method.edit(config, value)

    columns = dict(method=name, condition=of, told=told, knob=value)
    make = lambda: adapted(condition, voices[0], told, method.normalised)  # noqa: E731
    return Row(make, edit=edit, columns=columns)


def sources(checking: bool = False) -> dict[str, Row]:
    """The recognisers that methods start from."""
    counts = sorted({condition.known for condition in CONDITIONS.values()})
    kinds = sorted({method.normalised for method in METHODS.values()})
    return dict(source(*pair, checking) for pair in itertools.product(counts, kinds))


def candidates() -> dict[str, Row]:
    """Every value of every knob, on known voices that the recogniser was not trained on."""
    tried = {
        f"{name}-{told}-{value:g}": row(name, next(iter(CONDITIONS)), told, value, checking=True)
        for name, method in METHODS.items()
        for told in TOLD
        for value in method.values
        if len(method.values) > 1
    }
    return sources(checking=True) | tried


def rows() -> dict[str, Row]:
    """Every method at the value of the highest accuracy on the voices that were checked."""
    tuned, found = TUNING.read(), {}
    for of, told, name in itertools.product(CONDITIONS, TOLD, METHODS):
        values = METHODS[name].values
        if len(values) == 1 and told > TOLD[0]:
            continue  # untouched, whatever is told
        value = values[0]
        if len(values) > 1:
            if not (lines := tuned.where(method=name, told=told)):
                continue  # not tuned yet
            [value] = lines.best("test", "knob")
        found[f"{name}-{of}-{told}"] = row(name, of, told, value)
    return sources() | found


# What is made of them.


def at(results: Results, of: str, told: int) -> dict[str, Results]:
    """The lines of a condition, by method; untouched ones are of any number of utterances."""
    lines = results.where(condition=of)
    return {
        name: mine
        for name, method in METHODS.items()
        if (mine := lines.where(method=name, told=TOLD[0] if len(method.values) == 1 else told))
    }


def tables(results: Results) -> dict[str, Any]:
    """What has been run: its conditions, and its numbers of utterances."""
    run = [of for of in CONDITIONS if results.where(condition=of)]
    spoken = [told for told in TOLD if results.where(told=told)]

    def columns(told: int) -> list[Column]:
        def cell(name: str, of: str) -> str:
            lines = at(results, of, told)
            return lines[name].cell("test") if name in lines else "–"

        return [(of, lambda name, of=of: cell(name, of)) for of in run]

    def ways(told: int) -> str:
        names = [name for name in METHODS if any(name in at(results, of, told) for of in run)]
        table = report.table([("way", str), *columns(told)], names)
        return table if told in spoken else "Not run yet."

    def contest(n: int, told: int, of: str) -> str:
        lines = at(results, of, told)
        first, last = (lines.get(f"{end} {n} move") for end in ("first", "last"))
        return first.gain("test", last) if first and last else "–"

    shown: dict[str, Any] = {f"told_{told}": ways(told) for told in TOLD}
    duels: list[Column] = [
        ("utterances", lambda line: str(line[1])),
        ("layers", lambda line: f"first {line[0]} − last {line[0]}"),
        *((of, lambda line, of=of: contest(line[0], line[1], of)) for of in run),
    ]
    shown["duels"] = report.table(duels, itertools.product((1, 2, 3), spoken))
    shown["verdict"] = " ".join(verdict(results, of) for of in run)
    actors = REAL.read()
    shown["real"] = report.table(
        [("way", str), ("accuracy", lambda name: actors.where(method=name).cell("test"))],
        actors.of("method"),
    )
    return shown


def verdict(results: Results, of: str) -> str:
    """What the data say of first against last, by the paired intervals over speakers alone."""
    wins = {"first": 0, "last": 0}
    tried = 0
    for n, told in itertools.product((1, 2, 3), TOLD):
        lines = at(results, of, told)
        first, last = (lines.get(f"{end} {n} move") for end in wins)
        if not (first and last):
            continue
        tried += 1
        difference = metrics.paired(first.values("test"), last.values("test"))
        if abs(difference.mean) > difference.half_width:
            wins["first" if difference.mean > 0 else "last"] += 1
    return (
        f"{of.capitalize()}: of {tried} comparisons moving the first layers is better in "
        f"{wins['first']}, moving the last in {wins['last']}."
    )


def figure(results: Results, path: Path) -> None:
    """A panel a condition and number of utterances: accuracy over the number of moving layers."""
    panels: dict[str, dict[str, dict[float, Any]]] = {}
    for of, told in itertools.product(CONDITIONS, TOLD):
        lines = at(results, of, told)
        moved = {
            f"the {end} n": {n: lines[name].values("test") for n in (1, 2, 3)
                             if (name := f"{end} {n} move") in lines}
            for end in ("first", "last")
        }  # fmt: skip
        if not all(moved.values()):
            continue
        ends = {"untouched": 0, "all move": len(LAYERS)}
        alone = {name: {n: lines[name].values("test")} for name, n in ends.items() if name in lines}
        panels[f"{of}, utterances: {told}"] = moved | alone
    report.curves(panels, path, f"moving layers n, of {len(LAYERS)}")


READS = {"test": "test/accuracy"}
TRACT = dict(condition="vocal tract", told=1)
SPOKEN = "one speaker, one utterance a word, another vocal tract (synthetic voices): moving"
COMPARED = [
    Comparison(f"{SPOKEN} the {what}", "test", f"first {n} move", f"last {n} move", TRACT, why)
    for what, n, why in (
        ("first layer against the last", 1, "what differs between speakers lives in the first"),
        ("first three layers against the last three", 3, "the middle of the network is in both"),
    )
]
COMPARED += [
    Comparison(
        "the same: moving the first layer against moving all on normalised mels",
        "test",
        "first 1 move",
        "normalised: all move",
        TRACT,
        "one layer is as good as all, and no better",
    )
]
EXPERIMENT = Experiment(HERE, range(len(NEW)), READS, rows, tables, figure, COMPARED)
TUNING = Experiment(HERE, range(len(CHECKED)), READS, candidates, file="tuning.csv")
REAL = Experiment(
    HERE, range(len(PACKS)), READS, lambda: real.rows(recogniser), file="real.csv"
)  # fmt: skip

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT, tune=TUNING, real=REAL)

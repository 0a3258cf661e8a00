"""What does a second task, or a second kind of input, give few labelled digits?

python -m experiments.multitask.run [--tune] [--seeds 10] [--workdir runs/multitask]
"""

import functools
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from experiments import frame, report
from experiments.frame import Experiment, Row, Run
from experiments.report import Comparison, Results
from tljax import metrics
from tljax.data import sources

HERE = Path(__file__).parent
PER_CLASS = (2, 5)
BALANCED = ("uncertainty", "dwa", "pcgrad", "mgda", "cagrad", "gradnorm", "famo")
CONTROLS = ("wrong bits", "random bits")  # of another digit, the same for all; of any image
# One after the other, in place of at once: features of the bits, then a readout of the few labels.
SEQUENTIAL = {"bits, then a probe": "softmax", "bits, then neighbours": "knn"}
BITS = ("digits alone", "bits alone", *SEQUENTIAL, "sum", *BALANCED, *CONTROLS)
STEMS = ("tinted alone", "own stems", "grey alone")
SETTINGS = {"multitask_digits": BITS, "multitask_stems": STEMS}
EVERY = [(setting, method) for setting, methods in SETTINGS.items() for method in methods]
WRITERS = "writers"  # as multitask_digits, but the test's digits are by others than the training's
SETTINGS[WRITERS] = ("digits alone", "bits alone", *SEQUENTIAL, "sum", "wrong bits")
CONFIGS = {WRITERS: "multitask_digits"}  # of a setting that is not called as its config
SINGLE = dict.fromkeys(SETTINGS, "digits alone") | {"multitask_stems": "tinted alone"}
# They read no few-label digits, and are chosen by what they are trained on.
UNAIDED = {"bits alone": "segments", "grey alone": "source"}
LEFT_OUT = {  # a term and an evaluation; and the stream that remains
    "digits alone": ("segments", "segments", "target"),
    "bits alone": ("label", "target", "source"),
    "tinted alone": ("grey", "source", "target"),
}
RATES = (0.003, 0.01, 0.03, 0.1, 0.3)
# Of the rows that have no rate: the penalty of a softmax regression, the number of neighbours.
TRIED = {"bits, then a probe": (0.01, 0.1, 1.0, 10.0), "bits, then neighbours": (1, 2, 3)}


def edit(setting: str, method: str, per_class: int, config: Any, run: Run) -> None:
    """The shipped config of a setting as a method has it."""
    frame.judge_at_the_end(config)
    if setting == WRITERS:
        frame.by_writers(config)
    if per_class:
        config.streams.target.update(per_class=per_class, batch=10 * per_class)
    if method in LEFT_OUT:
        term, evaluation, stream = LEFT_OUT[method]
        del config.terms[term], config.evaluate[evaluation]
        config.flow = (stream,)
    elif method in BALANCED:
        config.balance.name = method
    elif method == "wrong bits":
        config.tables.segments.permute = run.seed
    elif method == "random bits":
        config.streams.source.update(data=shuffled(run), split="train")
    elif method == "grey alone":
        # The colour is taken out by hand, so that no tinted digit is needed to train.
        grey = (*config.evaluate.target.transforms, dict(name="grey"))
        config.evaluate.target.update(channels=3, stem="grey", transforms=grey)
        del config.terms.label
        config.flow = ("source",)


def shuffled(run: Run) -> str:
    """The digits of the second task, each with the label of any other, as a source."""
    table = sources.load("digits", "train[:800]")
    labels = np.random.default_rng(run.seed).permutation(table.label)
    path = run.workdir / f"shuffled-{run.seed}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, image=table.input, label=labels)
    return f"npz:{path.resolve()}"


def sequential(setting: str, method: str, per_class: int, value: float, origin: str) -> Row:
    """A readout of the features of a row that has learned the bits, fitted to few labels."""

    def edit(config: Any, run: Run) -> None:
        frame.judge_at_the_end(config)
        if setting == WRITERS:
            frame.by_writers(config)
        solver = SEQUENTIAL[method]
        layer = dict(name="neighbours", k=value) if solver == "knn" else dict(name="linear")
        config.network.heads.label = dict(layer, outputs=10)
        config.streams.target.update(per_class=per_class, batch=10 * per_class)
        config.flow, config.terms, config.steps = ("target",), {}, 0
        config.start = (("**", run.origin(origin)),)
        del config.evaluate.segments
        fit = dict(solver=solver, stream="target", head="label")
        config.prepare = dict(label=fit if solver == "knn" else dict(fit, penalty=value))

    columns = dict(setting=setting, method=method, per_class=per_class, learning_rate=value)
    reads = [({}, {"target": "target/accuracy"})]
    return Row("multitask_digits", edit=edit, columns=columns, reads=reads, after=origin)


def row(setting: str, method: str, per_class: int, rate: float) -> Row:
    """A method at a number of labels a class, 0 where it reads no few-label digits."""
    columns = dict(setting=setting, method=method, per_class=per_class, learning_rate=rate)
    change = functools.partial(edit, setting, method, per_class)
    overrides = {"optimizer.learning_rate": rate}
    config = CONFIGS.get(setting, setting)
    return Row(config, overrides, change, columns, reads=[({}, reads(setting))])


def rows() -> dict[str, Row]:
    """Every method at 2 labels a class and at 5, at its rate of tuning.csv."""
    rows, tuned = {}, TUNING.read()
    for setting, method in ((s, method) for s, methods in SETTINGS.items() for method in methods):
        rate = chosen(tuned, CONFIGS.get(setting, setting), method)
        for n in (0,) if method in UNAIDED else PER_CLASS:
            made = row(setting, method, n, rate)
            if method in SEQUENTIAL:
                made = sequential(setting, method, n, rate, f"{setting}-bits alone-0")
            rows[f"{setting}-{method}-{n}"] = made
    return rows


def chosen(tuned: Results, setting: str, method: str) -> float:
    """What tuning chose of a method: a rate, a penalty or a number of neighbours."""
    [value] = tuned.where(setting=setting, method=method).best("accuracy", "learning_rate")
    return value


def strongest(tuned: Results) -> str:
    """The row of tuning, of those that learn one task at a time, that does best on the digits."""
    lines = tuned.where(setting="multitask_digits").at("method", ("digits alone", *SEQUENTIAL))
    return report.strongest(lines, "accuracy", "learning_rate")


def candidates() -> dict[str, Row]:
    rows, judged = {}, "train[1200:1400]"
    for (setting, method), rate in itertools.product(EVERY, RATES):
        if method not in SEQUENTIAL:
            reads = [({}, {"accuracy": f"{UNAIDED.get(method, 'target')}/accuracy"})]
            tried = row(setting, method, 2, rate)._replace(split=judged, reads=reads)
            rows[f"{setting}-{method}-{rate:g}"] = tried
    bits = (
        f"multitask_digits-bits alone-{chosen(TUNING.read(), 'multitask_digits', 'bits alone'):g}"
    )
    for method, values in TRIED.items():
        for value in values:
            reads = [({}, {"accuracy": "target/accuracy"})]
            tried = sequential("multitask_digits", method, 2, value, bits)._replace(
                split=judged, reads=reads
            )
            rows[f"multitask_digits-{method}-{value:g}"] = tried
    return rows


def reads(setting: str) -> dict[str, str]:
    other = "source" if setting == "multitask_stems" else "segments"
    return {"target": "target/accuracy", "other": f"{other}/accuracy"}


def line(results: Results, setting: str, method: str, per_class: int) -> Results:
    """The runs of a method that stand beside those of a number of labels a class."""
    n = 0 if method in UNAIDED else per_class
    return results.where(setting=setting, method=method, per_class=n)


def table(results: Results, setting: str, per_class: int) -> str:
    """A line a method of a setting, at a number of labels a class."""
    bits = setting != "multitask_stems"
    lines = [line(results, setting, method, per_class) for method in SETTINGS[setting]]
    base = line(results, setting, SINGLE[setting], per_class)
    alone = line(results, setting, "bits alone", per_class).values("other")

    def delta_p(runs: Results) -> str:
        """The controls' accuracy is that on bits of their own."""
        pairs = list(zip(runs.values("target"), runs.values("other"), strict=True))
        if None in sum(pairs, ()) or runs[0]["method"] in CONTROLS:
            return "–"
        baselines = zip(base.values("target"), alone, strict=True)
        return report.cell([metrics.delta_p(*two) for two in zip(pairs, baselines, strict=True)])

    columns = [report.text("method", "method"), report.mean("few-label digits", "target")]
    columns += [report.gained(f"gain over {SINGLE[setting]}", "target", base)]
    columns += [report.mean("bits" if bits else "grey digits", "other")]
    columns += [("Δp", delta_p)] if bits else []
    columns += [report.text("rate", "learning_rate", "{:g}"), report.seconds(of=min)]
    return report.table(columns, filter(None, lines))


def tables(results: Results) -> dict[str, Any]:
    return {
        f"{setting.removeprefix('multitask_')}_{n}": table(results, setting, n)
        for setting in SETTINGS
        for n in PER_CLASS
    }


def figure(results: Results, path: Path) -> None:
    """The gain of every method over the single task, at 2 labels a class and at 5."""
    shown = []
    for setting, n in itertools.product(SETTINGS, PER_CLASS):
        base = line(results, setting, SINGLE[setting], n)
        for runs in results.where(setting=setting, per_class=n).by("method"):
            gains = np.subtract(runs.values("target"), base.values("target"))
            if runs != base:
                shown.append((f"{runs[0]['method']}, {n} a class", gains))
    label = "accuracy over that of the few-label digits alone, paired by seed"
    report.intervals(shown, path, label)


TUNING = Experiment(HERE, range(100, 105), {}, candidates, file="tuning.csv")
BEST, DIGITS = strongest(TUNING.read()), dict(setting="multitask_digits", per_class=2)
QUESTION = "multitask, 2 labels a class: both at once against"
UNMET = "the same two, on digits by writers that no stream has: both at once against"
WRONG = "the same: with seven segments against with another digit's segments"
KNOWN = "twenty labels are soon known by heart, and then do the shared features no good"
TOLD = "800 more images say which digits belong together"
CODE = "any code that is the same for a class says so"
COMPARED = [
    Comparison(f"{QUESTION} {BEST}", "target", "sum", BEST, DIGITS, KNOWN),
    Comparison(f"{QUESTION} digits alone", "target", "sum", "digits alone", DIGITS, TOLD),
    Comparison(WRONG, "target", "sum", "wrong bits", DIGITS, CODE),
    *(
        Comparison(f"{UNMET} {base}", "target", "sum", base, DIGITS | dict(setting=WRITERS), why)
        for base, why in ((BEST, KNOWN), ("digits alone", TOLD))
    ),
]
EXPERIMENT = Experiment(HERE, range(10), reads(DIGITS["setting"]), rows, tables, figure, COMPARED)

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT, tune=TUNING)

"""What do features learned from unlabelled digits add to 1, 2, 5 or 10 labels a class?

python -m experiments.self_taught.run [--tune] [--seeds 10] [--workdir runs/self_taught]
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import decomposition, kernel_approximation, linear_model, semi_supervised

from experiments import frame, report
from experiments.frame import Collect, Experiment, Plain, Row, Run
from experiments.report import Column, Comparison, Results
from tljax.configs import tasks
from tljax.data import sources

HERE = Path(__file__).parent
TEST, SHOTS = "train[1400:]", (1, 2, 5, 10)  # labels a class
TRIED, TRIED_SHOTS = "train[1200:1400]", (1, 5)  # in tuning

# Tried of each method's own number; with it four penalties of the softmax regression that reads its
# features (twelve on pixels). Networks have three learning rates. Of several best the first.
NUMBERS = {
    "SimCLR": (0.5, 0.2, 1.0),  # temperature
    "Barlow Twins": (5e-3, 2e-2, 5e-2),  # weight off the diagonal
    "VICReg": (1.0,),  # weight of the covariance
    "denoising autoencoder": (0.3, 0.15, 0.5),  # deviation of the noise
    "autoencoder": (1e-3, 3e-4, 3e-3),  # learning rate
}
PENALTIES = (0.01, 0.1, 1.0, 10.0)
MANY = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
SCRATCH_RATES, TUNED_RATES = (1e-3, 3e-3, 1e-2), (1e-5, 1e-4, 1e-3)

RAW, STRONG = "pixels, softmax", "CNN from scratch, augmented"
SCRATCH = {"CNN from scratch": False, STRONG: True}  # with views?
OURS, *_ = LEARNED = tuple(f"{method}, softmax" for method in NUMBERS)
RIDGE, _, TUNED = OTHERS = ("SimCLR, ridge", "SimCLR, neighbours", "SimCLR, fine-tuned, augmented")
SPREAD, PCA, FOURIER = "label spreading", "PCA, softmax", "random Fourier features, softmax"
SIMPLE = {  # of pixels: each one's own number, and its penalty
    SPREAD: ((5, 10, 20), (0.05, 0.1, 0.2, 0.5)),  # neighbours; how far labels may change
    PCA: ((20, 40, 60), PENALTIES),  # components
    FOURIER: ((0.03, 0.1, 0.3), PENALTIES),  # γ of the kernel exp(−γ·‖x − y‖²)
}
METHODS = (RAW, *SIMPLE, *SCRATCH, *LEARNED, *OTHERS)

Readouts = Mapping[str, tuple[str, float, dict]]  # name -> solver, its penalty, its columns


def unread(config: Any) -> None:
    """A shipped config without its target, judged at its end alone."""
    frame.judge_at_the_end(config, 10_000)
    del config.streams.target, config.evaluate.target, config.network.heads.label


def represent(config: Any, method: str, value: float) -> None:
    """Features learned without labels by a method, whose own number is `value`."""
    if method == "SimCLR":
        config.represent.terms.agree.temperature = value
    elif method == "Barlow Twins":
        config.represent.terms = dict(agree=dict(term="barlow_twins", off_diagonal=value))
    elif method == "VICReg":
        config.represent.terms = dict(agree=dict(term="vicreg", covariance=value))
    elif method == "denoising autoencoder":
        config.streams.noisy.transforms = (dict(name="noise", std=value),)
    elif method == "autoencoder":
        config.represent.flow = ("source",)
        config.represent.terms = dict(restore=dict(term="reconstruction", stream="source"))
        config.represent.optimizer.learning_rate = value
    else:  # no features but the pixels
        config.phases = ("read",)
        del config.represent
        config.network.trunk = dict(name="mlp", features=())  # no layer: it flattens


def few(config: Any, shots: int) -> str:
    """Adds the stream of a few labelled digits, and returns its name."""
    size, stream = config.streams.source["size"], f"few_{shots}"
    pool = dict(data="digits", size=size, split="train[1000:1200]")
    config.streams[stream] = dict(pool, per_class=shots, batch=10 * shots)
    return stream


def features(method: str, value: float, readouts: Readouts, split: str, shots: Any) -> Row:
    """Features of one of NUMBERS with its own number, or "pixels", frozen and read by solvers."""

    def edit(config: Any, run: Run) -> None:
        unread(config)
        represent(config, method, value)
        streams, prepare = [few(config, n) for n in shots], {}
        judged = dict(data="digits", size=config.streams.source["size"], split=split)
        for (name, (solver, penalty, _)), n in product(readouts.items(), shots):
            head, knn = f"{name}_{n}", solver == "knn"
            config.evaluate[head] = dict(judged, head=head)
            # As many neighbours as a class has examples.
            layer = dict(name="neighbours", k=n) if knn else dict(name="linear")
            config.network.heads[head] = dict(layer, outputs=10)
            fit = dict(solver=solver, stream=f"few_{n}", head=head)
            prepare[head] = fit if knn else dict(fit, penalty=penalty)
        config.read = dict(flow=tuple(streams), terms={}, steps=0, prepare=prepare)

    reads = [
        ({**columns, "shots": n}, {"accuracy": f"{name}_{n}/accuracy"})
        for (name, (_, _, columns)), n in product(readouts.items(), shots)
    ]
    shipped = "autoencoder" if method.endswith("autoencoder") else "simclr"
    return Row(f"self_taught_{shipped}", edit=edit, reads=reads)


def trained(method: str, shots: int, rate: float, augmented: bool, origin: Any, split: str) -> Row:
    """The CNN trained on few labels by Adam: from scratch, or from what a row has learned.

    `augmented` shows the views of SimCLR instead of the digits themselves; `origin` is a row, and
    the penalty of the softmax regression to start from.
    """

    def edit(config: Any, run: Run) -> None:
        unread(config)
        del config.represent, config.read
        config.phases = ()
        stream = few(config, shots)
        config.streams.shown = dict(of=stream, transforms=tasks.VIEWS if augmented else ())
        config.network.heads.label = dict(name="linear", outputs=10)
        size = config.streams.source["size"]
        config.evaluate[stream] = dict(data="digits", size=size, split=split, head="label")
        config.flow = (stream, "shown")
        config.terms = dict(label=dict(term="cross_entropy", stream="shown", head="label"))
        config.optimizer = tasks.adam(rate)
        config.steps = 300 if augmented else 100  # by then it knows its few examples by heart
        if origin:
            config.start = (("trunk/**", run.origin(origin[0])), ("**", "fresh"))
            fit = dict(solver="softmax", stream=stream, head="label", penalty=origin[1])
            config.prepare = dict(label=fit)

    reads = [(dict(method=method, shots=shots), {"accuracy": f"few_{shots}/accuracy"})]
    after = origin[0] if origin else ""
    return Row("self_taught_simclr", edit=edit, reads=reads, after=after)


def simple(method: str, value: float, penalty: float, shots: int, split: str) -> Plain:
    """A row of SIMPLE; what is learned without labels is learned on the source's digits."""

    def shown(part: str, **fields: Any) -> tuple[np.ndarray, np.ndarray]:
        table = sources.load("digits", part, size=8, **fields)
        images = np.asarray(table.input, np.float64).reshape(len(table), -1)
        return images / images.max(), np.asarray(table.label)

    def fit(seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        (source, unknown), (images, labels) = shown("train[:1000]"), shown(split)
        few, known = shown("train[1000:1200]", per_class=shots, seed=seed)
        if method == SPREAD:
            how = dict(kernel="knn", n_neighbors=value, alpha=penalty, max_iter=100)
            model = semi_supervised.LabelSpreading(**how)
            model.fit(np.concatenate([few, source]), [*known, *np.full_like(unknown, -1)])
            return {"accuracy": (model.predict(images), labels)}
        if method == PCA:
            features = decomposition.PCA(value, random_state=seed).fit(source)
        else:
            how = dict(gamma=value, n_components=1000, random_state=seed)
            features = kernel_approximation.RBFSampler(**how).fit(source)
        model = linear_model.LogisticRegression(C=1 / penalty, max_iter=2000)
        model.fit(features.transform(few), known)
        return {"accuracy": (model.predict(features.transform(images)), labels)}

    return Plain(fit, dict(method=method, shots=shots))


def best(method: str, *settings: str) -> tuple:
    """What the tuning chose."""
    return TUNING.read().where(method=method).best("accuracy", *settings)


def rows() -> dict[str, Row | Plain]:
    """Every method; the features of a seed are learned once and read for every number of labels."""
    readouts = {"softmax": ("softmax", *best("pixels", "penalty"), dict(method=RAW))}
    rows: dict[str, Row | Plain] = {"pixels": features("pixels", 0.0, readouts, TEST, SHOTS)}
    for name, n in product(SIMPLE, SHOTS):
        rows[f"{name}-{n}"] = simple(name, *best(name, "value", "penalty"), n, TEST)
    for method in NUMBERS:
        value, penalty = best(method, "value", "penalty")
        solvers = {"softmax": ("softmax", penalty)}
        if method == "SimCLR":
            origin = (method, penalty)
            solvers |= {"ridge": ("ridge", *best(RIDGE, "penalty")), "neighbours": ("knn", 0.0)}
        readouts = {name: (*s, dict(method=f"{method}, {name}")) for name, s in solvers.items()}
        rows[method] = features(method, value, readouts, TEST, SHOTS)
    for n in SHOTS:
        for name, augmented in SCRATCH.items():
            rows[f"{name}-{n}"] = trained(name, n, *best(name, "value"), augmented, None, TEST)
        rate = best("fine-tuned", "value")
        rows[f"fine-tuned-{n}"] = trained(TUNED, n, *rate, True, origin, TEST)
    return rows


def stages(collect: Collect) -> Results:
    """Method by method; fine-tuning starts from the features that were chosen for SimCLR."""

    def read(method: str, value: float, penalties: Sequence[float]) -> Row:
        readouts = {}
        for solver in ("softmax", "ridge") if method == "SimCLR" else ("softmax",):
            shown = method if solver == "softmax" else RIDGE
            for i, penalty in enumerate(penalties):
                columns = dict(method=shown, value=value, penalty=penalty)
                readouts[f"{solver}{i}"] = (solver, penalty, columns)
        return features(method, value, readouts, TRIED, TRIED_SHOTS)

    def train(method: str, rates: Sequence[float], augmented: bool, origin: Any = None) -> Results:
        rows = {}
        for rate, n in product(rates, TRIED_SHOTS):
            columns = dict(value=rate, penalty=origin[1] if origin else 0.0)
            row = trained(method, n, rate, augmented, origin, TRIED)
            rows[f"{method}-{rate:g}-{n}"] = row._replace(columns=columns)
        return collect(rows)

    results = collect({"pixels": read("pixels", 0.0, MANY)})
    for method, values in NUMBERS.items():
        results += collect({f"{method}-{v:g}": read(method, v, PENALTIES) for v in values})
    for name, tried in SIMPLE.items():
        rows = {}
        for value, penalty, n in product(*tried, TRIED_SHOTS):
            row = simple(name, value, penalty, n, TRIED)
            columns = dict(row.columns, value=value, penalty=penalty)
            rows[f"{name}-{value:g}-{penalty:g}-{n}"] = row._replace(columns=columns)
        results += collect(rows)
    tried = results.where(method="SimCLR") or TUNING.read().where(method="SimCLR")  # by `--only`
    value, penalty = tried.best("accuracy", "value", "penalty")
    # The ridge regression is chosen for the features that the softmax regression chose.
    results = Results(line for line in results if line["method"] != RIDGE or line["value"] == value)
    results += train("fine-tuned", TUNED_RATES, True, (f"SimCLR-{value:g}", penalty))
    for method, augmented in SCRATCH.items():
        results += train(method, SCRATCH_RATES, augmented)
    return results


def strongest(tuned: Results) -> str:
    """The method without features of ours that does best in tuning."""
    lines = {RAW: tuned.where(method="pixels"), **tuned.at("method", (*SIMPLE, *SCRATCH))}
    return report.strongest(lines, "accuracy", "value", "penalty")


def tables(results: Results) -> dict[str, str]:
    at = {n: results.where(shots=n).at("method", METHODS) for n in SHOTS}
    strong = strongest(TUNING.read())

    def column(shots: int) -> Column:
        heading = f"{shots} label{'s' * (shots > 1)}{' a class' * (shots == 1)}"
        return heading, lambda lines: lines.where(shots=shots).cell("accuracy")

    def over(lines: Results) -> str:
        return lines.where(shots=1).gain("accuracy", at[1][strong], itself="")

    columns = [*map(column, SHOTS), (f"− {strong}, at 1", over), report.seconds("{:.0f}")]
    against = {
        name: ", ".join(f"{at[n][OURS].gain('accuracy', at[n][name])} at {n}" for n in SHOTS)
        for name in (RAW, strong)
    }
    return {
        "table": report.named("method", columns, results.at("method", METHODS)),
        "pixels": against[RAW],
        "strong": strong,
        "against": against[strong],
    }


def figure(results: Results, path: Path) -> None:
    """Accuracy against the labels a class, a line a method, with 95 % intervals."""
    at = results.at("method", (RAW, *SCRATCH, *LEARNED, TUNED))
    lines = {method: runs.over("shots", "accuracy") for method, runs in at.items()}
    report.curves({"held-out digits": lines}, path, "labels a class")


TUNING = Experiment(HERE, (100, 101), stages=stages, file="tuning.csv")
BEST = strongest(TUNING.read())
COMPARED = [
    Comparison(f"{what}: SimCLR against {BEST}", "accuracy", OURS, BEST, dict(shots=n), why)
    for what, n, why in (
        ("self-taught, 1 label a class", 1, "of 8 × 8 pixels near ones are of a class already"),
        ("the same with 10", 10, "what is left to gain is little"),
    )
]
EXPERIMENT = Experiment(HERE, range(10), {}, rows, tables, figure, COMPARED)

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT, tune=TUNING)

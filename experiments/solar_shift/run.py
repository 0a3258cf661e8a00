"""From solar cells of one crystal to those of the other: what do adaptation methods add on frozen
features of a public network?

python -m experiments.pretrained.fetch mobilenet_v2 elpv
python -m experiments.solar_shift.features
python -m experiments.solar_shift.run [--tune] [--seeds 10] [--only source=mono --only method=DANN]
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.semi_supervised import SelfTrainingClassifier

import tljax
from experiments import frame, report
from experiments.frame import Experiment, Plain, Row, Run
from experiments.mnist_m.run import METHODS as ADVERSARIAL
from experiments.mnist_m.run import apart
from experiments.report import Column, Comparison, Results
from tljax.configs import tasks
from tljax.data.fingerprints import fingerprint
from tljax.metrics import validators

HERE = Path(__file__).parent
KINDS = ("mono", "poly")
STEPS, BATCH, AVERAGE = 500, 64, 0.99
SCALED = {"source's": 0, "its own": 1}  # by whose features the target's are standardised
LOOKS = {"plain": "plain", "augmented": "train"}  # splits: cells as they lie, in 8 positions
NETWORKS = (  # of experiments/mnist_m, with the knobs and values that they have there
    *("source only", "DANN", "DANN, smoothed labels", "CDAN+E", "MK-MMD", "CORAL", "MCC", "MDD"),
    "target supervised",
)
LOGISTIC = "logistic regression"
PLAIN = (LOGISTIC, f"pseudo-labels, {LOGISTIC}", f"CORAL, {LOGISTIC}")
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)  # C of scikit-learn's
Where = tuple[str, str]  # what scales the target, the look
OWN = [("its own", look) for look in LOOKS]
ROWS: dict[str, list[Where]] = (
    {  # where each is run
        LOGISTIC: list(itertools.product(SCALED, LOOKS)),
        f"pseudo-labels, {LOGISTIC}": OWN[:1],
        f"CORAL, {LOGISTIC}": OWN[:1],
        "source only": [("source's", "plain"), *OWN],
    }
    | dict.fromkeys(NETWORKS[1:], OWN)
)
ALL = [(name, source, *where) for name, own in ROWS.items() for where in own for source in KINDS]


def target_of(source: str) -> str:
    return KINDS[1 - KINDS.index(source)]


def file(kind: str, by: str) -> str:
    return f"npz:solar_shift/{kind}_by_{by}.npz"


def files(source: str, scaled: str) -> tuple[str, str]:
    """Where the features of the source and of the target are."""
    target = target_of(source)
    return file(source, source), file(target, (source, target)[SCALED[scaled]])


def described(name: str, scaled: str, looks: str) -> str:
    """A row's name in tables: what differs from features as they lie, each domain by its own."""
    apart = ["the source's scale"] * (scaled != "its own") + ["8 positions"] * (looks != "plain")
    return f"{name} ({', '.join(apart)})" if apart else name


def columns(name: str, source: str, scaled: str, looks: str, value: float) -> dict[str, Any]:
    method = described(name, scaled, looks)
    return dict(source=source, method=method, kind=name, looks=looks, value=value)


# Networks: a layer of 256 on the features, as the field's papers put on a frozen trunk.


def row(name: str, source: str, scaled: str, looks: str, value: float, tuning: bool = False) -> Row:
    """A method at a value of its knob."""
    method = ADVERSARIAL[name]

    def edit(config: Any, run: Run) -> None:
        config.data_dir, supervised = tasks.cache(), "source" not in config.streams
        own, other = files(source, scaled)
        shown = dict(split=LOOKS[looks], batch=BATCH)
        adapting = "target" in config.streams and not supervised
        taught = dict(shown, data=other if supervised else own, balanced=True)
        config.streams = {"target" if supervised else "source": taught}
        if adapting:
            config.streams.target = dict(shown, data=other, labelled=False)
        config.evaluate = {n: dict(data=d, split="test") for n, d in
                           (("target", other), ("source", own))}  # fmt: skip
        if tuning:  # the cells that are trained on, without labels
            config.evaluate = dict(unlabelled=dict(data=other, split="plain", labelled=False))
        config.network.trunk = dict(name="mlp", features=(256,))
        config.network.heads.label = dict(name="linear")
        for head in {"domain", "adversary"} & set(config.network.heads):
            config.network.heads[head].hidden = (256,)
        config.optimizer.learning_rate = 0.01
        method.edit(config)
        config.steps, config.average, config.log_every = STEPS, AVERAGE, STEPS
        frame.judge_at_the_end(config)

    made = Row(
        method.config, {method.knob: value}, edit, columns(name, source, scaled, looks, value)
    )
    return made if tuning else made._replace(measure=apart, measured=("source", "target"))


# What a clever person does in ten lines of scikit-learn.


@functools.cache
def table(data: str, split: str) -> Any:
    return tljax.data.load(data, split, root=tasks.cache())


def arrays(data: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels; those of a target's `plain` and `train` are not looked at."""
    made = table(data, split)
    return np.asarray(made.input), np.asarray(made.label)


def recoloured(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The source with the mean and covariance of the target (Sun et al. 2016, λ = 1)."""
    own, other = (np.cov(x.T) + np.eye(x.shape[1]) for x in (source, target))
    (a, u), (b, v) = map(np.linalg.eigh, (own, other))
    whitened = (source - source.mean(0)) @ (u / np.sqrt(a)) @ u.T
    return whitened @ (v * np.sqrt(b)) @ v.T + target.mean(0)


def fitted(name: str, source: str, scaled: str, looks: str, penalty: float) -> Any:
    """A simple method's model, which reads no label of the target."""
    own, other = files(source, scaled)
    x, labels = arrays(own, LOOKS[looks])
    unlabelled = arrays(other, LOOKS[looks])[0]
    model: Any = LogisticRegression(C=penalty, class_weight="balanced", max_iter=500)
    if name.startswith("CORAL"):
        x = recoloured(x, unlabelled)
    if name.startswith("pseudo"):
        model = SelfTrainingClassifier(model, threshold=0.9)
        x, labels = np.concatenate([x, unlabelled]), np.concatenate(
            [labels, np.full(len(unlabelled), -1)]
        )  # fmt: skip
    return model.fit(x, labels)


def plain(
    name: str, source: str, scaled: str, looks: str, penalty: float, tuning: bool = False
) -> Plain:
    own, other = files(source, scaled)

    @functools.cache  # nothing in it is drawn
    def reached() -> Mapping[str, Any]:
        model = fitted(name, source, scaled, looks, penalty)
        if tuning:
            likely = model.predict_log_proba(arrays(other, "plain")[0])
            return {"score": validators.information_maximisation(np.maximum(likely, -50.0))}
        found = {}
        for column, data in (("target", other), ("on_source", own)):
            x, labels = arrays(data, "test")
            found[column] = model.predict(x), labels, fingerprint(table(data, "test"))
        return found

    said = columns(name, source, scaled, looks, penalty)
    return Plain(lambda seed: reached(), said, balanced=True)


# The rows: every value of a knob, then the best of them by a validator that reads no target label.


def candidates() -> dict[str, Row | Plain]:
    made: dict[str, Row | Plain] = {}
    for name, *where in ALL:
        values, make = (PENALTIES, plain) if name in PLAIN else (ADVERSARIAL[name].values, row)
        for value in values:
            made["-".join((name, *where, f"{value:g}"))] = make(name, *where, value, tuning=True)
    return made


def rows() -> dict[str, Row | Plain]:
    tuned, made = TUNING.read(), {}
    for name, source, *where in ALL:
        if lines := tuned.where(source=source, method=described(name, *where)):
            [value] = lines.best("score", "value")
            make = plain if name in PLAIN else row
            made["-".join((name, source, *where))] = make(name, source, *where, value)
    return made


def preferred(source: str, kinds: Sequence[str]) -> str:
    """Which row of some kinds the validator puts first."""
    lines = TUNING.read().where(source=source)
    [method] = Results(li for li in lines if li["kind"] in kinds).best("score", "method")
    return method


# What is made of them.


def tables(results: Results) -> dict[str, Any]:
    made: dict[str, Any] = {"steps": STEPS}
    for source in KINDS:
        lines = results.where(source=source)
        each = {method: lines.where(method=method) for method in lines.of("method")}
        base = lines.where(method=LOGISTIC)
        shown: list[Column] = [
            report.mean("target", "target"),
            report.gained(f"− {LOGISTIC}", "target", base),
            report.mean("source", "on_source"),
            report.mean("A-distance", "a_distance"),
            report.text("knob", "value", "{:g}"),
        ]
        made[source] = report.named("method", shown, each) if each else "Not run yet."
    return made


def compared() -> list[Comparison]:
    """What the validator prefers of the networks that adapt, against what it prefers of the simple
    rows, and against the standardised features themselves."""
    made, adapting = [], [n for n in NETWORKS if n not in ("source only", "target supervised")]
    tuned = TUNING.read() if (HERE / TUNING.file).exists() else Results()
    for source in (kind for kind in KINDS if tuned.where(source=kind)):
        ours, best = preferred(source, adapting), preferred(source, PLAIN)
        shift = f"solar cells, {source}crystalline to {target_of(source)}, frozen MobileNetV2"
        made += [
            Comparison(f"{shift}: {ours} against {base}", "target", ours, base, {"source": source})
            for base in dict.fromkeys((LOGISTIC, best))
        ]
    return made


READS = {
    "target": "target/per_class_accuracy",
    "on_source": "source/per_class_accuracy",
    "a_distance": "a_distance",
}
FIGURE = report.dots("{source}: {method}", "target", "balanced accuracy on the target")
EXPERIMENT = Experiment(HERE, range(10), READS, rows, tables, FIGURE)
SCORE = {"score": "unlabelled/information_maximisation"}
TUNING = Experiment(HERE, (100, 101), SCORE, candidates, file="tuning.csv")
EXPERIMENT = EXPERIMENT._replace(comparisons=compared())

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT, tune=TUNING)

"""From solar cells of one crystal to those of the other: what do adaptation methods add on frozen
features of a public network?

python -m experiments.solar_shift.features
python -m experiments.solar_shift.run [--tune] [--seeds 10] [--only source=mono --only method=DANN]
"""

import functools
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.semi_supervised import SelfTrainingClassifier

import tljax
from experiments import frame, report
from experiments.frame import Experiment, Plain, Row, Run
from experiments.mnist_m.run import METHODS, apart
from experiments.report import Column, Comparison, Results
from experiments.solar_shift.features import KINDS
from tljax.configs import tasks
from tljax.data.fingerprints import fingerprint

HERE = Path(__file__).parent
STEPS, BATCH, AVERAGE = 500, 64, 0.99
SCALED = {"source's": 0, "its own": 1}  # by whose features the target's are standardised
LOOKS = {"plain": "plain", "augmented": "train"}  # splits: cells as they lie, in 8 positions
ADVERSARIAL = {  # of experiments/mnist_m, with the knobs that they have there and these values
    name: METHODS[name]._replace(values=values)
    for name, values in {
        "source only": (0.003, 0.01, 0.03, 0.1),
        "DANN": (0.3, 1.0, 3.0),
        "DANN, smoothed labels": (0.3, 1.0, 3.0),
        "CDAN+E": (0.1, 0.3, 1.0),
        "MK-MMD": (1.0, 3.0, 10.0),
        "CORAL": (300.0, 1000.0, 3000.0),
        "MCC": (0.3, 1.0, 3.0),
        "MDD": (0.03, 0.1, 0.3),
        "target supervised": (0.003, 0.01, 0.03, 0.1),
    }.items()
}
NETWORKS = tuple(ADVERSARIAL)
LOGISTIC = "logistic regression"
PLAIN = (LOGISTIC, f"pseudo-labels, {LOGISTIC}", f"CORAL, {LOGISTIC}")
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)  # C of scikit-learn's
Where = tuple[str, str]  # what scales the target, the look
OWN = [("its own", look) for look in LOOKS]
ROWS: dict[str, list[Where]] = {  # where each is run
    LOGISTIC: list(itertools.product(SCALED, LOOKS)),
    f"pseudo-labels, {LOGISTIC}": OWN[:1],
    f"CORAL, {LOGISTIC}": OWN[:1],
    "source only": [("source's", "plain"), *OWN],
    **dict.fromkeys(NETWORKS[1:], OWN),
}
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
        config.evaluate.target = dict(data=other, split="test")
        config.evaluate.source = dict(data=own, split="test")
        if tuning:  # the target's cells that are trained on, without labels
            config.evaluate = dict(unlabelled=dict(data=other, split="plain", labelled=False))
        config.network.trunk = dict(name="mlp", features=(256,))
        config.network.heads.label = dict(name="linear")
        for head in {"domain", "adversary"} & set(config.network.heads):
            config.network.heads[head].hidden = (256,)
        config.optimizer.learning_rate = 0.01
        method.edit(config)
        config.steps, config.average, config.log_every = STEPS, AVERAGE, STEPS
        frame.judge_at_the_end(config)

    said = columns(name, source, scaled, looks, value)
    made = Row(method.config, {method.knob: value}, edit, said)
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


def fitted(name: str, source: str, scaled: str, looks: str) -> tuple[float, Any]:
    """A simple method's penalty, cross-validated on the source's cells, and its model; no label of
    the target is read."""
    own, other = files(source, scaled)
    x, labels = arrays(own, LOOKS[looks])
    unlabelled = arrays(other, LOOKS[looks])[0]
    cells = np.arange(len(x)) % len(arrays(own, "plain")[0])  # whose positions they are
    if name.startswith("CORAL"):
        x = recoloured(x, unlabelled)
    logistic = LogisticRegression(class_weight="balanced", max_iter=500)
    model: Any = GridSearchCV(logistic, {"C": PENALTIES}, scoring="balanced_accuracy",
                              cv=GroupKFold(5))  # fmt: skip
    model.fit(x, labels, groups=cells)
    penalty = model.best_params_["C"]
    if name.startswith("pseudo"):
        model = SelfTrainingClassifier(model.best_estimator_, threshold=0.9)
        none = np.full(len(unlabelled), -1)
        model.fit(np.concatenate([x, unlabelled]), np.concatenate([labels, none]))
    return penalty, model


def plain(name: str, source: str, scaled: str, looks: str) -> Plain:
    own, other = files(source, scaled)

    @functools.cache  # nothing in it is drawn
    def reached() -> Mapping[str, Any]:
        penalty, model = fitted(name, source, scaled, looks)
        found: dict[str, Any] = {"value": penalty}
        for column, data in (("target", other), ("on_source", own)):
            x, labels = arrays(data, "test")
            found[column] = model.predict(x), labels, fingerprint(table(data, "test"))
        return found

    said = columns(name, source, scaled, looks, 0.0)
    return Plain(lambda seed: reached(), said, balanced=True)


# The rows: every value of a network's knob, then the best by a validator without target labels.


def candidates() -> dict[str, Row]:
    return {
        "-".join((name, *where, f"{value:g}")): row(name, *where, value, tuning=True)
        for name, *where in ALL
        if name not in PLAIN
        for value in ADVERSARIAL[name].values
    }


def rows() -> dict[str, Row | Plain]:
    tuned, made = TUNING.read(), {}
    for name, source, *where in ALL:
        label = "-".join((name, source, *where))
        lines = tuned.where(source=source, method=described(name, *where))
        if name in PLAIN:
            made[label] = plain(name, source, *where)
        elif lines:  # it is tuned in parts, too
            [value] = lines.best("score", "value")
            made[label] = row(name, source, *where, value)
    return made


# What is made of them.


def tables(results: Results) -> dict[str, Any]:
    made: dict[str, Any] = {"steps": STEPS}
    for source in KINDS:
        lines = results.where(source=source)
        order = (described(name, *where) for name, own in ROWS.items() for where in own)
        each = {method: mine for method in order if (mine := lines.where(method=method))}
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
    """What the validator prefers of all that adapts, against domains standardised by themselves."""
    tuned, made, adapting = (
        TUNING.read(),
        [],
        [n for n in NETWORKS if n not in ("source only", "target supervised")],
    )
    for source in (kind for kind in KINDS if tuned.where(source=kind)):
        lines = Results(li for li in tuned.where(source=source) if li["kind"] in adapting)
        [ours] = lines.best("score", "method")
        shift = f"solar cells, {source}- to {target_of(source)}crystalline, frozen MobileNetV2"
        asked = f"{shift}: {ours} against {LOGISTIC}, each domain standardised by itself"
        made.append(Comparison(asked, "target", ours, LOGISTIC, {"source": source}, WHY))
    return made


WHY = "standardising each domain by its own features is most of what can be had on frozen ones"
READS = {
    "target": "target/per_class_accuracy",
    "on_source": "source/per_class_accuracy",
    "a_distance": "a_distance",
}
DOTS = report.dots("{source}: {method}", "target", "balanced accuracy on the target")


def figure(results: Results, path: Path) -> None:
    """Of cells as they lie."""
    DOTS(Results(line for line in results if line["looks"] == "plain"), path)


SCORE = {"score": "unlabelled/information_maximisation"}
TUNING = Experiment(HERE, (100, 101), SCORE, candidates, file="tuning.csv")
EXPERIMENT = Experiment(HERE, range(10), READS, rows, tables, figure, compared())

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT, tune=TUNING)

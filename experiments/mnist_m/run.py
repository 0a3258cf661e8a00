"""MNIST to MNIST-M at its real size: what do adversaries add to plain augmentation?

python -m experiments.mnist_m.digits
python -m experiments.mnist_m.run [--tune] [--seeds 5] [--only method=DANN --only looks=augmented]
"""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments import frame, report
from experiments.frame import Experiment, Row, Run
from experiments.report import Column, Results
from tljax import metrics
from tljax.configs import tasks

HERE = Path(__file__).parent
STEPS, TUNING_STEPS, BATCH = 10_000, 2000, 64
AVERAGE = {STEPS: 0.998, TUNING_STEPS: 0.99}  # about a twentieth of a run
COLLAPSED = 0.15  # accuracy: the largest of the classes is 0.1135 of the digits
COMPARED = 500  # examples of each domain that the A-distance is measured on
LOOKS = {  # what happens to the images of both domains before they are seen
    "plain": (),
    "augmented": (
        dict(name="brightness_contrast", brightness=0.0, contrast=0.6),
        dict(name="colour", strength=0.0, offset=0.3),
        dict(name="random_invert"),
        dict(name="noise", std=0.1),
    ),
}


class Method(NamedTuple):
    """A way from the source to the target, with one knob."""

    config: str  # shipped, whose terms and heads it has
    knob: str
    values: tuple[float, ...]
    edit: Callable[[Any], None] = lambda config: None
    simple: bool = False  # nothing of it is about the target's domain
    sees_target: bool = False  # where its config has no such stream


def augmented(config: Any) -> None:
    """The augmentation of `LOOKS` for the images of all streams, after what they have."""
    for stream in config.streams.values():
        stream.transforms = (*stream.get("transforms", ()), *LOOKS["augmented"])


def per_domain(config: Any, target: Mapping[str, Any]) -> None:
    """Batch normalisation by each domain's own statistics (AdaBN, Li et al. 2016)."""
    config.network.trunk.norm, config.statistics = "batch", "separate"
    config.streams.target = target


def pseudo_labels(config: Any, target: Mapping[str, Any], looks: Any) -> None:
    """Confident predictions are the labels of another look (Lee 2013, as in FixMatch)."""
    config.streams.target = target
    config.streams.other = dict(of="target", transforms=looks)
    own = dict(head="label", threshold=0.95, ramp=10.0)
    config.terms.pseudo = dict(term="self_label", stream="target", augmented="other", **own)


def per_domain_of(config: Any) -> None:
    per_domain(config, config.streams.target)


def pseudo_labels_of(config: Any) -> None:
    """Of the target as it is, what is seen of it being the other look."""
    target = config.streams.target.to_dict()
    pseudo_labels(config, {**target, "transforms": ()}, target["transforms"])


RATES = ("optimizer.learning_rate", (0.003, 0.01, 0.03, 0.1, 0.3))
SCALES = ("terms.domain.scale", (0.1, 0.3, 1.0, 3.0, 10.0))
METHODS = {
    "source only": Method("source_only", *RATES),
    "per-domain normalisation": Method("source_only", *RATES, edit=per_domain_of, sees_target=True),
    "pseudo-labels": Method(
        "source_only",
        "terms.pseudo.threshold",
        (0.5, 0.8, 0.9, 0.95, 0.99),
        edit=pseudo_labels_of,
        sees_target=True,
    ),
    "DANN": Method("dann", *SCALES),
    "DANN, smoothed labels": Method(
        "dann", *SCALES, edit=lambda config: config.terms.domain.update(smoothing=0.1)
    ),
    "CDAN+E": Method("cdan", *SCALES),
    "MK-MMD": Method("mk_mmd", "terms.discrepancy.weight", (0.3, 1.0, 3.0, 10.0, 30.0)),
    "CORAL": Method("coral", "terms.covariance.weight", (100.0, 300.0, 1000.0, 3000.0, 10_000.0)),
    "MCC": Method("mcc", "terms.confusion.weight", (0.1, 0.3, 1.0, 3.0, 10.0)),
    "MDD": Method("mdd", "terms.disparity.scale", (0.01, 0.03, 0.1, 0.3, 1.0)),
    "target supervised": Method("target_supervised", *RATES),
}


def mnist(split: str) -> dict[str, Any]:
    return dict(data="idx:mnist", split=split, channels=3)


def mnist_m(split: str) -> dict[str, Any]:
    return dict(data="npz:mnist_m/digits.npz", split=split)


def unlabelled(looks: Any) -> dict[str, Any]:
    return dict(mnist_m("train"), labelled=False, batch=BATCH, transforms=looks)


def digits(config: Any, looks: str, sees_target: bool) -> None:
    """The paper's network and both kinds of digits in the place of a shipped config's."""
    config.data_dir, supervised = tasks.cache(), "source" not in config.streams
    grey = (dict(name="rgb"), *LOOKS[looks])
    labelled = (
        dict(mnist_m("train"), batch=BATCH, transforms=LOOKS[looks])
        if supervised
        else dict(mnist("train"), batch=BATCH, transforms=grey)
    )
    streams = {"target" if supervised else "source": labelled}
    if sees_target or ("target" in config.streams and not supervised):
        streams["target"] = unlabelled(LOOKS[looks])
    config.streams = streams
    config.evaluate = dict(target=mnist_m("test"), source=dict(mnist("test")))
    config.network.trunk = dict(name="cnn", channels=(32, 48), kernel=5)
    config.network.heads.label.hidden = (100, 100)
    for name in {"domain", "adversary"} & set(config.network.heads):
        config.network.heads[name].hidden = (100,)
    config.optimizer.learning_rate = 0.01


def row(name: str, looks: str, value: float, tuning: bool = False) -> Row:
    """A method at a value of its knob."""
    method, steps = METHODS[name], TUNING_STEPS if tuning else STEPS

    def edit(config: Any, run: Run) -> None:
        digits(config, looks, method.sees_target)
        method.edit(config)
        config.steps, config.average, config.log_every = steps, AVERAGE[steps], 500
        frame.judge_at_the_end(config)
        if tuning:  # target digits without their labels; no other is read
            config.evaluate = dict(unlabelled=dict(mnist_m("train[:5000]"), labelled=False))

    columns = dict(method=name, looks=looks, value=value)
    made = Row(method.config, {method.knob: value}, edit, columns)
    return made if tuning else made._replace(measure=apart, measured=("source", "target"))


def apart(found: Mapping[str, Any]) -> dict[str, float]:
    """How well a classifier tells the domains by the features."""
    both = (found[name].features[:COMPARED] for name in ("source", "target"))
    return {"a_distance": metrics.proxy_a_distance(*both)}


def candidates() -> dict[str, Row]:
    return {
        f"{name}-{looks}-{value:g}": row(name, looks, value, tuning=True)
        for name, looks in itertools.product(METHODS, LOOKS)
        for value in METHODS[name].values
    }


def rows() -> dict[str, Row]:
    """Every method at the value that information maximisation on unlabelled targets prefers."""
    tuned, made = TUNING.read(), {}
    for name, looks in itertools.product(METHODS, LOOKS):
        if lines := tuned.where(method=name, looks=looks):
            [value] = lines.best("score", "value")
            made[f"{name}-{looks}"] = row(name, looks, value)
    return made


# What is made of them.


def collapsed(lines: Results) -> str:
    """How many runs call all digits of the target one class, of how many."""
    return f"{sum(value < COLLAPSED for value in lines.values('target'))} of {len(lines)}"


def tables(results: Results) -> dict[str, Any]:
    def table(looks: str) -> str:
        at = {n: mine for n in METHODS if (mine := results.where(method=n, looks=looks))}
        base = at.get("source only", Results())
        columns: list[Column] = [
            report.mean("target accuracy", "target"),
            report.lowest("target"),
            ("collapsed", collapsed),
            report.gained("− source only", "target", base),
            report.mean("source accuracy", "source"),
            report.mean("A-distance", "a_distance"),
            report.text("knob", "value", "{:g}"),
            report.seconds("{:.0f}"),
        ]
        return report.named("method", columns, at) if at else "Not run yet."

    return {looks: table(looks) for looks in LOOKS} | {"steps": STEPS}


READS = {"target": "target/accuracy", "source": "source/accuracy", "a_distance": "a_distance"}
FIGURE = report.dots("{looks}: {method}", "target", "target accuracy")
EXPERIMENT = Experiment(HERE, range(5), READS, rows, tables, FIGURE)
SCORE = {"score": "unlabelled/information_maximisation"}
TUNING = Experiment(HERE, range(100, 105), SCORE, candidates, file="tuning.csv")

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT, tune=TUNING)

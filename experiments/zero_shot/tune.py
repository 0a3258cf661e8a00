"""Chooses each method's setting, on classes, images and seeds that no result uses.

    python -m experiments.zero_shot.tune [--workdir runs/zero_shot_tuning]

Fashion-MNIST: the runs leave out two of the five pairs, of train[40000:50000], and each of the two
is judged on train[50000:]. Pairs of digits: ten seen pairs are held out of train[:80%], and what
counts is the area under the seen-unseen curve of train[80%:].

Networks have the same three learning rates, closed forms four values of their penalty. Writes
tuning.csv beside it.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import frame
from experiments.frame import Edit, Row, Run
from experiments.zero_shot import run
from tljax import generalised
from tljax.configs import tasks
from tljax.data import semantics
from tljax.solvers import zero_shot

RATES = (0.01, 0.03, 0.1)
LEFT_OUT = (0, 1)  # of the pairs of garments
SEEDS = {"fashion": (4,), "digits": (100, 101)}
ESZSL = [dict(gamma=gamma, lam=1.0) for gamma in (1.0, 10.0, 100.0, 1000.0)]
SAE = [dict(lam=lam) for lam in (0.1, 1.0, 10.0, 100.0)]
START = dict(gamma=1.0, lam=1.0)  # of the run whose features, which no setting changes, are read

Outputs = Mapping[str, Any]  # evaluation -> its features and labels


def scores(solver: str, x, labels, seen, attributes, test, **setting) -> np.ndarray:
    """The class scores `[test, classes]` of a closed form; see `tljax.prepare`."""
    if solver == "sae":
        w = zero_shot.sae(x, attributes[labels], **setting)
        return np.asarray(zero_shot.cosine_scores((test @ w.T).astype(np.float32), attributes))
    v = zero_shot.eszsl(x, np.searchsorted(seen, labels), attributes[seen], **setting)
    return np.asarray(test @ v @ attributes.T)


def after(row: Row, change: Edit, **rest: Any) -> Row:
    """A row of run.py, changed further."""

    def edit(config: Any, seeded: Run) -> None:
        assert row.edit
        row.edit(config, seeded)
        change(config, seeded)

    return row._replace(edit=edit, **rest)


def key(solver: str, setting: Mapping[str, float], *of: int) -> str:
    """The name under which a closed form's score is kept."""
    return "-".join([solver, *(f"{value:g}" for value in setting.values()), *map(str, of)])


def look_at_both(config: Any, seeded: Run, whole: bool = False) -> None:
    """An evaluation for each pair that is left out; `whole`: and the source's own images."""
    shipped = config.evaluate.unseen.to_dict()
    del config.evaluate.unseen
    for i in LEFT_OUT:
        pair = run.PAIRS[i]
        split = dict(split="train[50000:]", classes=pair, unseen=pair)
        config.evaluate[str(i)] = {**shipped, **split}
    if whole:
        stream = config.streams.source
        own = dict(split=stream.split, classes=stream.classes, unseen=(), among="all")
        config.evaluate.source = shipped | own


def fashion_scores(closed: Sequence[tuple[str, dict]], outputs: Outputs) -> dict[str, float]:
    """The accuracy per class of closed forms on each pair that is left out."""
    seen = np.setdiff1d(np.arange(10), [c for i in LEFT_OUT for c in run.PAIRS[i]])
    names = [str(label) for label in range(10)]
    table = semantics.load_semantics("garments", names, normalise=True).values
    x, labels = outputs["source"].features, outputs["source"].labels
    reached = {}
    for solver, setting in closed:
        for i in LEFT_OUT:
            test, wanted, pair = outputs[str(i)].features, outputs[str(i)].labels, run.PAIRS[i]
            found = scores(solver, x, labels, seen, table, test, **setting)[:, pair]
            right = np.array(pair)[found.argmax(1)] == wanted
            accuracy = np.mean([right[wanted == c].mean() for c in pair])
            reached[key(solver, setting, i)] = float(accuracy)
    return reached


def fashion() -> dict[str, Row]:
    """All methods without two pairs, judged on each of them."""
    first, second = LEFT_OUT
    held = run.PAIRS[second]
    rows = {}
    for method in run.TRAINED:
        for rate in RATES:
            setting = dict(learning_rate=rate)
            rows[f"fashion-{method}-{rate:g}"] = after(
                run.fashion(method, first, setting, held),
                look_at_both,
                columns=dict(data="fashion", method=method, **setting),
                reads=[(dict(pair=i), {"value": f"{i}/per_class_accuracy"}) for i in LEFT_OUT],
                seeds=SEEDS["fashion"],
            )
    closed = [*(("eszsl", setting) for setting in ESZSL), *(("sae", setting) for setting in SAE)]
    rows["fashion-closed"] = after(
        run.fashion("eszsl", first, START, held),
        functools.partial(look_at_both, whole=True),
        columns=dict(data="fashion"),
        reads=[
            (dict(method=solver, pair=i, **setting), {"value": key(solver, setting, i)})
            for solver, setting in closed
            for i in LEFT_OUT
        ],
        seeds=SEEDS["fashion"],
        alone=True,
        measure=functools.partial(fashion_scores, closed),
    )
    return rows


def first_phase(config: Any, seeded: Run, whole: bool = False) -> None:
    """A config without what follows its first evaluation; `whole`: and its stream's own images."""
    for name in [name for name in config.evaluate if not name.startswith("validation")]:
        del config.evaluate[name]
    del config.fit
    config.phases = ("calibrate",)
    if whole:
        stream = config.streams.first
        own = dict(split=stream.split, classes=stream.classes, unseen=())
        config.evaluate.first = config.evaluate.validation.to_dict() | own


def digits_scores(outputs: Outputs) -> dict[str, float]:
    """The area under the seen-unseen curve of ESZSL, with ten seen pairs held out."""
    attributes = semantics.load_semantics("pair_digits", [f"{n:02d}" for n in range(100)]).values
    classes, held = np.array(tasks.SEEN), np.array(tasks.HELD_OUT)
    seen, test = np.setdiff1d(classes, held), outputs["validation"].features
    wanted = np.searchsorted(classes, outputs["validation"].labels)
    x, labels = outputs["first"].features, outputs["first"].labels
    reached = {}
    for setting in ESZSL:
        found = scores("eszsl", x, labels, seen, attributes, test, **setting)[:, classes]
        curve = generalised.stacking_curve(found, wanted, ~np.isin(classes, held))
        reached[key("eszsl", setting)] = float(curve.ausuc)
    return reached


def digits() -> dict[str, Row]:
    """All methods on the seen pairs alone, of which ten are held out."""
    rows = {}
    for method in ("softmax", "ale", "conse"):
        name = "validation_10" if method == "conse" else "validation"
        for rate in RATES:
            setting = dict(learning_rate=rate)
            rows[f"digits-{method}-{rate:g}"] = after(
                run.digits(method, setting),
                first_phase,
                columns=dict(data="digits", method=method, **setting),
                reads=[({}, {"value": f"{name}/ausuc"})],
            )
    rows["digits-closed"] = after(
        run.digits("eszsl", START),
        functools.partial(first_phase, whole=True),
        columns=dict(data="digits", method="eszsl"),
        reads=[(setting, {"value": key("eszsl", setting)}) for setting in ESZSL],
        alone=True,
        measure=digits_scores,
    )
    return rows


TUNING = run.EXPERIMENT.tuning(SEEDS["digits"], rows=lambda: digits() | fashion())

if __name__ == "__main__":
    frame.main(TUNING, __doc__)

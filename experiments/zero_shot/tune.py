"""Chooses each method's setting, on classes, images and seeds that no result uses.

Fashion-MNIST: the runs leave out two of the five pairs, of train[40000:50000], and each of the two
is judged on train[50000:]. Pairs of digits: ten seen pairs are held out of
train[:80%], and what counts is the area under the seen-unseen curve of train[80%:].

Networks have the same three learning rates, closed forms four values of their penalty. Writes
tuning.csv beside it.
"""

import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from experiments import report  # noqa: E402
from experiments.zero_shot import run  # noqa: E402
from tljax import evaluate, experiment  # noqa: E402
from tljax.data import semantics  # noqa: E402
from tljax.metrics import generalised  # noqa: E402
from tljax.solvers import zero_shot  # noqa: E402

RATES = (0.01, 0.03, 0.1)
LEFT_OUT = (0, 1)  # of the pairs of garments
SEEDS = {"fashion": (4,), "digits": (100, 101)}
CLOSED = {
    "eszsl": [dict(gamma=gamma, lam=1.0) for gamma in (1.0, 10.0, 100.0, 1000.0)],
    "sae": [dict(lam=lam) for lam in (0.1, 1.0, 10.0, 100.0)],
}


def scores(solver: str, x, labels, seen, attributes, test, **setting) -> np.ndarray:
    """The class scores `[test, classes]` of a closed form; see `tljax.prepare`."""
    if solver == "sae":
        w = zero_shot.sae(x, attributes[labels], **setting)
        return np.asarray(zero_shot.cosine_scores((test @ w.T).astype(np.float32), attributes))
    v = zero_shot.eszsl(x, np.searchsorted(seen, labels), attributes[seen], **setting)
    return np.asarray(test @ v @ attributes.T)


def add(rows: list, data: str, method: str, pair: object, seed: int, setting: dict, value: float):
    empty = dict(learning_rate="", gamma="", lam="")
    rows.append(
        dict(data=data, method=method, pair=pair, seed=seed) | empty | setting | dict(value=value)
    )
    print(*rows[-1].values(), flush=True)


def outputs(config) -> dict[str, evaluate.Outputs]:
    config.figures = False
    with tempfile.TemporaryDirectory() as workdir:
        return experiment.outputs(config, Path(workdir) / "run")


def judged(config) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory() as workdir:
        return report.run(config, Path(workdir) / "run")


def fashion(rows: list, first: int, second: int, seed: int) -> None:
    """All methods without two pairs, judged on each of them."""
    pairs, held = {first: run.PAIRS[first], second: run.PAIRS[second]}, run.PAIRS[second]
    seen = np.setdiff1d(np.arange(10), sum(pairs.values(), ()))

    def looked_at(config):
        """The config with an evaluation for each pair in place of its own."""
        own = config.evaluate.unseen.to_dict()
        del config.evaluate.unseen
        for i, pair in pairs.items():
            split = dict(split="train[50000:]", classes=pair, unseen=pair)
            config.evaluate[str(i)] = {**own, **split}
        return config

    def note(method: str, setting: dict, values: dict[int, float]) -> None:
        for i in pairs:
            add(rows, "fashion", method, i, seed, setting, values[i])

    for method, rate in itertools.product(run.TRAINED, RATES):
        setting = dict(learning_rate=rate)
        reached = judged(looked_at(run.fashion(method, first, seed, setting, held)))
        note(method, setting, {i: reached[str(i)]["per_class_accuracy"] for i in pairs})
    start = looked_at(run.fashion("eszsl", first, seed, dict(gamma=1.0, lam=1.0), held))
    stream = start.streams.source
    whole = dict(split=stream.split, classes=stream.classes, unseen=(), among="all")
    start.evaluate.source = start.evaluate[str(first)].to_dict() | whole
    said = outputs(start)
    table = semantics.load_semantics("garments", list(map(str, range(10))), normalise=True).values
    for solver, settings in CLOSED.items():
        for setting in settings:
            values = {}
            for i, pair in pairs.items():
                x, labels = said["source"].features, said["source"].labels
                test, wanted = said[str(i)].features, said[str(i)].labels
                found = scores(solver, x, labels, seen, table, test, **setting)[:, pair]
                right = np.array(pair)[found.argmax(1)] == wanted
                values[i] = float(np.mean([right[wanted == c].mean() for c in pair]))
            note(solver, setting, values)


def digits(rows: list, seed: int) -> None:
    """All methods on the seen pairs alone, of which ten are held out."""
    shipped = run.shipped("zero_shot_pairs")
    validation = shipped.evaluate.validation
    attributes = semantics.load_semantics("pair_digits", [f"{n:02d}" for n in range(100)]).values
    classes, held = np.array(validation.classes), np.array(validation.unseen)
    seen = np.setdiff1d(classes, held)

    def first_phase(config):
        """The config without what follows its first evaluation."""
        for name in [name for name in config.evaluate if not name.startswith("validation")]:
            del config.evaluate[name]
        del config.fit
        config.phases = ("calibrate",)
        return config

    for method, rate in itertools.product(("softmax", "ale", "conse"), RATES):
        setting = dict(learning_rate=rate)
        name = "validation_10" if method == "conse" else "validation"
        reached = judged(first_phase(run.digits(method, seed, setting)))[name]["ausuc"]
        add(rows, "digits", method, "", seed, setting, reached)
    config = first_phase(run.digits("eszsl", seed, dict(gamma=1.0, lam=1.0)))
    whole = dict(split=config.streams.first.split, classes=config.streams.first.classes, unseen=())
    config.evaluate.first = config.evaluate.validation.to_dict() | whole
    said = outputs(config)
    test, wanted = said["validation"].features, np.searchsorted(classes, said["validation"].labels)
    for closed in CLOSED["eszsl"]:
        x, labels = said["first"].features, said["first"].labels
        found = scores("eszsl", x, labels, seen, attributes, test, **closed)[:, classes]
        curve = generalised.stacking_curve(found, wanted, ~np.isin(classes, held))
        add(rows, "digits", "eszsl", "", seed, closed, curve.ausuc)


def main() -> None:
    rows: list = []
    for seed in SEEDS["digits"]:
        digits(rows, seed)
    for seed in SEEDS["fashion"]:
        fashion(rows, *LEFT_OUT, seed)
    report.save(rows, Path(__file__).with_name("tuning.csv"))


if __name__ == "__main__":
    main()

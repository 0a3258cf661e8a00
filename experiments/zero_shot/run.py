"""Can classes without a single example be told apart by what is known of them?

python -m experiments.zero_shot.run [--tune] [--seeds 10] [--workdir runs/zero_shot]
"""

import functools
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import kernel_approximation, svm

from experiments import frame, report
from experiments.frame import Experiment, Plain, Row, Run
from experiments.report import Column, Comparison, Results
from tljax.configs import tasks
from tljax.data import semantics, sources
from tljax.metrics import generalised
from tljax.solvers.zero_shot import eszsl

HERE = Path(__file__).parent
PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))  # consecutive labels: every class once
RANKINGS = ("devise", "sje", "ale")
CLOSED = ("eszsl", "sae")  # closed forms, on the pixels
FOURIER = "eszsl, Fourier features"
FASHION = ("softmax", "permuted", *CLOSED, FOURIER, *RANKINGS, "dap")
MACHINES = "two support vector machines"
DIGITS = ("softmax", "ale", "conse", "eszsl", MACHINES, "permuted")
TOPS = (1, 3, 10)  # of ConSE: one classifier, read three times
WIDTH = {"garments": 18, "digits": 20}
LEFT_OUT = (0, 1)  # of the pairs of garments, in tuning
# Networks have the same three learning rates, closed forms four values of their penalty.
RATES = [dict(learning_rate=rate) for rate in (0.01, 0.03, 0.1)]
PENALTIES = {
    "eszsl": [dict(gamma=gamma, lam=1.0) for gamma in (1.0, 10.0, 100.0, 1000.0)],
    "sae": [dict(lam=lam) for lam in (0.1, 1.0, 10.0, 100.0)],
    FOURIER: [dict(gamma=gamma, lam=1.0) for gamma in (0.01, 0.1, 1.0, 10.0)],
    MACHINES: [dict(gamma=gamma) for gamma in (0.3, 1.0, 3.0, 10.0)],  # times the kernel's usual γ
}
GENERALISED = [c + name for c in ("", "calibrated_") for name in ("seen", "unseen", "harmonic")]
Setting = Mapping[str, float]  # what was tuned: learning_rate, or gamma and lam


def route(config: Any, method: str, table: str, phases: dict, setting: Setting) -> None:
    """Gives phases the terms or the solver of a method, and the evaluations its readout.

    Phases are those of the labelled streams that they learn from: {"": stream} without phases.
    """
    embed = dict(name="linear", outputs=WIDTH[table])
    if method in CLOSED:
        config.network.trunk = dict(name="mlp", features=())  # the image as it is
        # A head's output is x V: without a bias, as the closed forms have none.
        config.network.heads.embed = dict(embed, bias=False)
    read = {"sae": "cosine", "dap": "dap"}.get(method, "compatibility")
    for evaluation in config.evaluate.values():
        evaluation.update(head="embed", readout=read, table=table)
    for phase, stream in phases.items():
        fields = config[phase] if phase else config
        shared = dict(stream=stream, table=table)
        if method in CLOSED:
            fields.prepare = dict(fit=dict(solver=method, head="embed", **shared, **setting))
            fields.terms, fields.steps = {}, 0
        elif method == "dap":
            config.tables[table].normalise = False  # its attributes are there or not
            fields.terms = dict(attributes=dict(term="attributes", head="embed", **shared))
        else:
            loss = method if method in RANKINGS else "softmax"
            fields.terms = dict(compatibility=dict(head="embed", loss=loss, **shared))


def tune(config: Any, setting: Setting) -> None:
    """Sets the learning rate, and leaves all judging to the end."""
    frame.judge_at_the_end(config)
    config.optimizer.update(setting if "learning_rate" in setting else {})


def fashion(method: str, pair: int, setting: Setting, tuning: bool = False) -> Row:
    """A pair of unseen garments; in tuning two of them, each with an evaluation of its own."""
    held = LEFT_OUT if tuning else (pair,)

    def edit(config: Any, run: Run) -> None:
        hidden, first = [c for i in held for c in PAIRS[i]], 10000 * run.seed
        config.streams.source.update(
            split=f"train[{first}:{first + 10000}]",  # every seed has images of its own
            classes=tuple(c for c in range(10) if c not in hidden),
        )
        del config.evaluate.generalised
        shown = config.evaluate.unseen.to_dict()
        del config.evaluate.unseen
        for i in held:
            fields = dict(shown, classes=PAIRS[i], unseen=PAIRS[i])
            fields |= dict(split="train[50000:]") if tuning else {}
            config.evaluate[str(i) if tuning else "unseen"] = fields
        tune(config, setting)
        if method == "permuted":
            config.tables.garments.permute = len(PAIRS) * run.seed + pair
        route(config, method, "garments", {"": "source"}, setting)

    columns = dict(data="fashion", method=method, pair=pair)
    reads = [({}, {"accuracy": "unseen/per_class_accuracy"})]
    return Row("zero_shot_fashion", edit=edit, columns=columns, reads=reads, seeds=range(3))


def digits(method: str, setting: Setting, tuning: bool = False) -> Row:
    """Pairs of digits; ConSE has its evaluations for every T.

    Tuning ends after the first phase: that of the seen pairs, of which ten are held out.
    """

    def edit(config: Any, run: Run) -> None:
        tune(config, setting)
        if method == "permuted":
            config.tables.digits.permute = run.seed
        if method == "conse":
            every = product(TOPS, config.evaluate.to_dict().items())
            config.evaluate = {f"{name}_{top}": dict(v, top=top) for top, (name, v) in every}
            for top in TOPS:
                config.evaluate[f"generalised_{top}"].calibrate = f"validation_{top}"
        else:
            route(config, method, "digits", {"calibrate": "first", "fit": "seen"}, setting)
        if tuning:
            for name in [name for name in config.evaluate if not name.startswith("validation")]:
                del config.evaluate[name]
            del config.fit
            config.phases = ("calibrate",)

    conse = method == "conse"
    names = {f"_{top}": f"conse, T = {top}" for top in TOPS} if conse else {"": method}
    reads = []
    for suffix, name in names.items():
        metrics = {metric: f"generalised{suffix}/{metric}" for metric in GENERALISED}
        accuracy = {"accuracy": f"unseen{suffix}/per_class_accuracy"}
        reads.append((dict(method=name), accuracy | metrics))
    shipped = "conse_pairs" if conse else "zero_shot_pairs"
    return Row(shipped, edit=edit, columns=dict(data="digits"), reads=reads)


def fourier(pair: int, setting: Setting, tuning: bool = False) -> Plain:
    """ESZSL on random Fourier features of the pixels, at the usual width of the kernel."""
    hidden = [c for i in (LEFT_OUT if tuning else (pair,)) for c in PAIRS[i]]
    seen = [c for c in range(10) if c not in hidden]

    def opened(split: str, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        table = sources.load(tasks.GARMENTS["data"], split, classes=classes)
        images = np.asarray(table.input, np.float32).reshape(len(table), -1) / 255
        return images, np.asarray(table.label)

    def fit(seed: int) -> dict[str, Any]:
        images, labels = opened(f"train[{10000 * seed}:{10000 * (seed + 1)}]", seen)
        tested, true = opened("train[50000:]" if tuning else "test", PAIRS[pair])
        table = semantics.load_semantics("garments", [str(c) for c in range(10)], normalise=True)
        width = 1 / images.shape[1] / images.var()
        seeded = dict(n_components=2000, random_state=seed)
        draw = kernel_approximation.RBFSampler(gamma=width, **seeded).fit(images)
        attributes, numbers = np.asarray(table.values), np.searchsorted(seen, labels)
        learned = eszsl(draw.transform(images), numbers, attributes[seen], **setting)
        scores = draw.transform(tested) @ np.asarray(learned) @ attributes[list(PAIRS[pair])].T
        found = np.asarray(PAIRS[pair])[scores.argmax(-1)], true
        return {"value": np.mean(found[0] == true)} if tuning else {"accuracy": found}

    columns = dict(data="fashion", method=FOURIER, pair=pair)
    return Plain(fit, columns, seeds=(4,) if tuning else range(3))


@functools.cache
def of_pairs(shown: tuple[int, ...], judged: str, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """The score of every pair `[n, 100]` and the pairs, of images of a split: the sum of what two
    RBF machines say, one of the left digit and one of the right, that have been shown some pairs.
    """

    def opened(split: str, **fields: Any) -> tuple[np.ndarray, np.ndarray]:
        table = sources.load("pairs", split, **fields)
        return np.asarray(table.input, float).reshape(len(table), -1), np.asarray(table.label)

    images, pairs = opened("train[:80%]", classes=shown)
    tested, labels = opened(judged)
    how = dict(C=10.0, gamma=gamma / images.shape[1] / images.var())
    left, right = (svm.SVC(**how).fit(images, of) for of in divmod(pairs, 10))
    both = left.decision_function(tested)[:, :, None] + right.decision_function(tested)[:, None]
    return both.reshape(len(tested), 100), labels


def machines(gamma: float, tuning: bool = False) -> Plain:
    """The attributes of a pair by two kernel machines; nothing in it depends on the seed."""

    def fit(_: int) -> dict[str, Any]:
        scores, labels = of_pairs(tasks.FIRST, "train[80%:]", gamma)
        known = np.isin(labels, tasks.SEEN)
        scores, labels = scores[known][:, tasks.SEEN], np.searchsorted(tasks.SEEN, labels[known])
        seen = ~np.isin(tasks.SEEN, tasks.HELD_OUT)
        if tuning:
            return {"value": generalised.stacking_curve(scores, labels, seen).ausuc}
        factor = generalised.best_gamma(scores, labels, seen)
        scores, labels = of_pairs(tasks.SEEN, "test", gamma)
        seen, hidden = np.isin(np.arange(100), tasks.SEEN), np.isin(labels, tasks.UNSEEN)
        among = np.asarray(tasks.UNSEEN)[scores[hidden][:, tasks.UNSEEN].argmax(-1)]
        found: dict[str, Any] = {"accuracy": (among, labels[hidden])}
        for prefix, stacked in (("", scores), ("calibrated_", scores - factor * seen)):
            reached = generalised.seen_unseen(stacked.argmax(-1), labels, seen, 100)
            found |= {f"{prefix}{name}": value for name, value in reached._asdict().items()}
        return found

    return Plain(fit, dict(data="digits", method=MACHINES))


def chosen(tuned: Results, data: str, method: str) -> Setting:
    """The first setting within 0.01 of the best mean: among equals the lowest rate is the safest.

    The control has the setting of the method that it controls.
    """
    names = ("learning_rate", "gamma", "lam")
    lines = tuned.where(data=data, method="softmax" if method == "permuted" else method)
    means = lines.means("value", *names)
    first = next(setting for setting, mean in means.items() if mean >= max(means.values()) - 0.01)
    return {name: value for name, value in zip(names, first, strict=True) if value is not None}


def rows() -> dict[str, Row | Plain]:
    tuned = TUNING.read()
    rows: dict[str, Row | Plain] = {}
    for method, pair in product(FASHION, range(len(PAIRS))):
        setting = chosen(tuned, "fashion", method)
        made = fourier(pair, setting) if method == FOURIER else fashion(method, pair, setting)
        rows[f"fashion-{method}-{pair}"] = made
    for method in DIGITS:
        setting = chosen(tuned, "digits", method)
        made = machines(**setting) if method == MACHINES else digits(method, setting)
        rows[f"digits-{method}"] = made
    return rows


def candidates() -> dict[str, Row | Plain]:
    """The control has no setting of its own."""
    rows, both = {}, [(dict(pair=i), {"value": f"{i}/per_class_accuracy"}) for i in LEFT_OUT]
    for data, methods in (("digits", DIGITS), ("fashion", FASHION)):
        for method in [method for method in methods if method != "permuted"]:
            name = "validation_10" if method == "conse" else "validation"
            for i, setting in enumerate(PENALTIES.get(method, RATES)):
                columns = dict(data=data, method=method, **setting)
                if method == FOURIER:
                    for pair in LEFT_OUT:
                        row = fourier(pair, setting, tuning=True)
                        row = row._replace(columns=columns | dict(pair=pair))
                        rows[f"{data}-{method}-{i}-{pair}"] = row
                    continue
                if method == MACHINES:
                    row = machines(**setting, tuning=True)
                elif data == "digits":
                    row = digits(method, setting, tuning=True)
                    row = row._replace(reads=[({}, {"value": f"{name}/ausuc"})])
                else:
                    row = fashion(method, LEFT_OUT[0], setting, tuning=True)
                    row = row._replace(reads=both, seeds=(4,))
                rows[f"{data}-{method}-{i}"] = row._replace(columns=columns)
    return rows


def strongest(tuned: Results, data: str) -> str:
    """The method without a network that does best in tuning."""
    lines = tuned.where(data=data).at("method", (*CLOSED, FOURIER, MACHINES))
    return report.strongest(lines, "value", "gamma", "lam")


def fashion_table(results: Results) -> str:
    """A row a method, over the pairs of garments."""
    control = results.where(method="permuted")

    def over_pairs(lines: Results) -> list[float]:
        return [*lines.by_seed("accuracy").values()]

    def gain(lines: Results) -> str:
        return "–" if lines == control else report.gain(over_pairs(lines), over_pairs(control))

    def column(pair: int) -> Column:
        heading = f"{PAIRS[pair][0]}, {PAIRS[pair][1]}"
        return heading, lambda line: f"{np.mean(line.where(pair=pair).values('accuracy')):.2f}"

    columns = [report.text("method", "method")]
    columns += [("mean over pairs", lambda lines: report.cell(over_pairs(lines)))]
    columns += [("− permuted", gain), *map(column, sorted(results.of("pair")))]
    columns += [report.seconds(of=min)]
    return report.table(columns, results.by("method"))


def digits_table(results: Results) -> str:
    """A row a method, of pairs of digits."""

    def both(prefix: str) -> Column:
        names = [f"{prefix}_{which}".lstrip("_") for which in ("seen", "unseen")]
        heading = f"S / U {prefix}".rstrip()
        return heading, lambda line: " / ".join(f"{np.mean(line.values(n)):.3f}" for n in names)

    columns = [report.text("method", "method"), report.mean("unseen", "accuracy")]
    columns += [both(""), report.mean("H", "harmonic"), both("calibrated")]
    columns += [report.mean("H calibrated", "calibrated_harmonic"), report.seconds(of=min)]
    return report.table(columns, results.by("method"))


def tables(results: Results) -> dict[str, Any]:
    garments, pairs = (results.where(data=data) for data in ("fashion", "digits"))
    seeds = {"garment_seeds": len(garments.of("seed")), "seeds": len(pairs.of("seed"))}
    return {"garments": fashion_table(garments), "pairs": digits_table(pairs), **seeds}


TUNING = Experiment(HERE, (100, 101), {}, candidates, file="tuning.csv")
ASKED = {
    "fashion": (
        "zero-shot, Fashion-MNIST, 2 unseen of 10",
        "an embedding that is learned fits these attributes better than a kernel's",
    ),
    "digits": (
        "zero-shot, 20 unseen pairs of digits",
        "each digit is seen elsewhere, and kernel machines read the two as well",
    ),
}
BEST = {data: strongest(TUNING.read(), data) for data in ASKED}
COMPARED = [
    Comparison(f"{asked}: compatibility against {best}", "accuracy", "softmax", best, where, why)
    for (asked, why), best, where in ((ASKED[data], BEST[data], dict(data=data)) for data in ASKED)
]
SHOWN = "accuracy per class among unseen classes (chance: garments 0.5, pairs of digits 0.05)"
FIGURE = report.dots("{data}: {method}", "accuracy", SHOWN)
EXPERIMENT = Experiment(HERE, range(10), {}, rows, tables, FIGURE, COMPARED)

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT, tune=TUNING)

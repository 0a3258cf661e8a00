"""Between MNIST and scikit-learn's digits, both ways: what do adaptation methods add to looks?

python -m experiments.mnist_m.digits mnist
python -m experiments.mnist_digits.run [--tune] [--seeds 10] [--only source=MNIST]
"""

import functools
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit
from sklearn.neighbors import KNeighborsClassifier

import tljax
from experiments import frame, report
from experiments.fetched import whole
from experiments.frame import Experiment, Plain, Row, Run
from experiments.mnist_m.run import METHODS, apart
from experiments.report import Column, Comparison, Results
from tljax.configs import tasks
from tljax.data import transforms
from tljax.data.fingerprints import fingerprint

HERE = Path(__file__).parent
SIZE, STEPS, BATCH = 12, 500, 64
SCORED = 1200  # images of the target that choose a knob
KINDS = {  # and what is trained on, what is judged; digits by other writers than those
    "MNIST": (dict(data="idx:mnist", split="train"), dict(data="idx:mnist", split="test")),
    "digits": (
        dict(data="digits", split="writers[:1200]"),
        dict(data="digits", split="writers[1200:]"),
    ),
}
AUGMENTED = (
    dict(name="affine", degrees=15.0, scale=0.3, shear=0.2, shift=0.15),
    dict(name="brightness_contrast", brightness=0.0, contrast=0.4),
)
LOOKS = {"plain": (), "augmented": AUGMENTED, "cut, augmented": AUGMENTED}  # of both domains
ON_CUT = ("source only", "per-domain normalisation", "DANN")
NEIGHBOURS = {"nearest neighbours": "plain", "nearest neighbours, cut to the ink": "cut"}
INK = 0.2  # of a pixel that is no paper
ALL = [
    (name, source, looks)
    for name, source, looks in itertools.product(METHODS, KINDS, LOOKS)
    if looks != "cut, augmented" or name in ON_CUT
]


@whole("mnist_digits")
def cut(partial: Path, place: Path) -> None:
    """Fills a directory with both kinds cut to their ink, a file each."""
    for kind, parts in KINDS.items():
        arrays = {}
        for split, fields in zip(("train", "test"), parts, strict=True):
            made = tljax.data.load(fields["data"], fields["split"], channels=1, root=tasks.cache())
            images = np.asarray(transforms.as_float(made.input))[..., 0]
            arrays[f"{split}_images"] = np.stack([boxed(image) for image in images])[..., None]
            arrays[f"{split}_labels"] = np.asarray(made.label)
        np.savez(partial / f"{kind}.npz", **arrays)


def boxed(image: np.ndarray) -> np.ndarray:
    """The part of an image `[height, width]` in [0, 1] that has ink, as large as all are."""
    ink = Image.fromarray(image).crop(Image.fromarray(image > INK).getbbox())
    large = np.asarray(ink.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    return np.round(255 * large.clip(0, 1)).astype(np.uint8)


def data_of(kind: str, part: int, looks: str) -> dict[str, Any]:
    """What is trained on (0) or judged (1) of a kind."""
    shown = dict(size=SIZE, channels=1)
    if not looks.startswith("cut"):
        return {**KINDS[kind][part], **shown}
    cut(Path(tasks.cache()))
    return dict(data=f"npz:mnist_digits/{kind}.npz", split=("train", "test")[part], **shown)


def target_of(source: str) -> str:
    [other] = set(KINDS) - {source}
    return other


def row(name: str, source: str, looks: str, value: float, tuning: bool = False) -> Row:
    """A method at a value of its knob."""
    method, target = METHODS[name], target_of(source)

    def edit(config: Any, run: Run) -> None:
        config.data_dir, supervised = tasks.cache(), "source" not in config.streams
        adapting = method.sees_target or ("target" in config.streams and not supervised)
        seen = dict(batch=BATCH, transforms=LOOKS[looks])
        taught = data_of(target if supervised else source, 0, looks)
        config.streams = {"target" if supervised else "source": dict(taught, **seen)}
        if adapting:
            config.streams.target = dict(data_of(target, 0, looks), **seen, labelled=False)
        judged = dict(target=target, source=source)
        config.evaluate = {name: data_of(kind, 1, looks) for name, kind in judged.items()}
        if tuning:  # what is trained on of the target, without labels; no other is read
            own = dict(data_of(target, 0, looks), labelled=False)
            own["split"] = own["split"].replace("train", f"train[:{SCORED}]")
            config.evaluate = dict(unlabelled=own)
        config.network.trunk = dict(name="cnn", channels=(8, 16))
        config.network.heads.label.hidden = (64,)
        for head in {"domain", "adversary"} & set(config.network.heads):
            config.network.heads[head].hidden = (64,)
        config.optimizer.learning_rate = 0.03
        method.edit(config)
        config.steps, config.average, config.log_every = STEPS, 0.99, STEPS
        frame.judge_at_the_end(config)

    columns = dict(source=source, method=name, looks=looks, value=value)
    made = Row(method.config, {method.knob: value}, edit, columns)
    return made if tuning else made._replace(measure=apart, measured=("source", "target"))


# What a clever person does in ten lines of scikit-learn.


@functools.cache
def table(kind: str, part: int, looks: str) -> Any:
    fields = data_of(kind, part, looks)
    return tljax.data.load(fields.pop("data"), root=tasks.cache(), **fields)


def arrays(kind: str, part: int, looks: str) -> tuple[np.ndarray, np.ndarray]:
    made = table(kind, part, looks)
    images = np.asarray(transforms.as_float(made.input))
    return images.reshape(len(images), -1), np.asarray(made.label)


def plain(name: str, source: str) -> Plain:
    looks = NEIGHBOURS[name]

    @functools.cache  # nothing in it is drawn
    def reached() -> Mapping[str, Any]:
        parts = StratifiedShuffleSplit(1, test_size=0.1, random_state=0)
        search = GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 3, 5]}, cv=parts)
        search.fit(*arrays(source, 0, looks))
        found: dict[str, Any] = {"value": search.best_params_["n_neighbors"]}
        for column, kind in (("target", target_of(source)), ("on_source", source)):
            x, labels = arrays(kind, 1, looks)
            found[column] = search.predict(x), labels, fingerprint(table(kind, 1, looks))
        return found

    return Plain(lambda seed: reached(), dict(source=source, method=name, looks="plain"))


# The rows: every value of a knob, then the best by a validator without target labels.


def candidates() -> dict[str, Row]:
    return {
        f"{name}-{source}-{looks}-{value:g}": row(name, source, looks, value, tuning=True)
        for name, source, looks in ALL
        for value in METHODS[name].values
    }


def rows() -> dict[str, Row | Plain]:
    tuned = TUNING.read()
    made: dict[str, Row | Plain] = {
        f"{name}-{source}": plain(name, source) for name in NEIGHBOURS for source in KINDS
    }
    for name, source, looks in ALL:
        if lines := tuned.where(method=name, source=source, looks=looks):
            [value] = lines.best("score", "value")
            made[f"{name}-{source}-{looks}"] = row(name, source, looks, value)
    return made


# What is made of them.


def described(name: str, looks: str) -> str:
    return name if looks == "plain" else f"{name}, {looks}"


def tables(results: Results) -> dict[str, Any]:
    def of(source: str) -> str:
        lines = results.where(source=source)
        order = [(n, "plain") for n in NEIGHBOURS] + list(itertools.product(METHODS, LOOKS))
        at = {
            described(name, looks): mine
            for name, looks in order
            if (mine := lines.where(method=name, looks=looks))
        }
        columns: list[Column] = [
            report.mean("target", "target"),
            report.lowest("target"),
            report.gained("− source only", "target", at.get("source only", Results())),
            report.gained(f"− {STRONG}", "target", at.get(STRONG, Results())),
            report.mean("source", "on_source"),
            report.mean("A-distance", "a_distance"),
            report.text("knob", "value", "{:g}"),
            report.seconds(),
        ]
        return report.named("method", columns, at) if at else "Not run yet."

    return {source: of(source) for source in KINDS} | {"steps": STEPS}


def compared() -> list[Comparison]:
    """What the validator prefers of all that adapts, against the same looks without it."""
    tuned, made, simple = TUNING.read(), [], ("source only", "target supervised")
    for source in (kind for kind in KINDS if tuned.where(source=kind)):
        lines = Results(li for li in tuned.where(source=source) if li["method"] not in simple)
        ours, looks = lines.best("score", "method", "looks")
        asked = f"{source} → {target_of(source)}: {described(ours, looks)} against {STRONG}"
        where = {"source": source, "looks": looks}
        made.append(Comparison(asked, "target", ours, "source only", where))
    return made


STRONG = "source only, augmented"
READS = {
    "target": "target/accuracy",
    "on_source": "source/accuracy",
    "a_distance": "a_distance",
}
DOTS = report.dots("{source}: {method}", "target", "target accuracy")


def figure(results: Results, path: Path) -> None:
    """Of augmented images, and of what has no looks."""
    DOTS(
        Results(li for li in results if li["looks"] != "plain" or li["method"] in NEIGHBOURS), path
    )


SCORE = {"score": "unlabelled/information_maximisation"}
TUNING = Experiment(HERE, range(100, 105), SCORE, candidates, file="tuning.csv")
EXPERIMENT = Experiment(HERE, range(10), READS, rows, tables, figure, compared())

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT, tune=TUNING)

"""Can classes be told apart by the words of their names alone?

python -m experiments.pretrained.fetch mobilenet_v2 photographs
python -m experiments.words.made
python -m experiments.words.run [--tune] [--only part=named]
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import LogisticRegression

import tljax
from experiments import frame, report
from experiments.frame import Experiment, Plain, Row, Run
from experiments.pretrained.run import loaded, others, seen
from experiments.report import Column, Comparison, Results
from experiments.words.made import GARMENTS, TRUNK
from tljax import metrics
from tljax.configs import tasks
from tljax.data.semantics import load_semantics
from tljax.data.words import vectors_of, words_of
from tljax.experiment import blank
from tljax.metrics import generalised
from tljax.report.figures import intervals
from tljax.solvers.zero_shot import conse, cosine_scores, eszsl

HERE = Path(__file__).parent
FEATURES, WORDS = "npz:word_features/garments.npz", "glove:glove/6b_50d.txt.gz"
# The names that their authors gave photographs, as words; those not here are words already.
PHOTOGRAPHS = {
    **dict.fromkeys(("FreshFlower", "YellowFlower"), "flower"),
    **{"GreenMeadow": "meadow", "LadyBird": "ladybird", "RainDrops": "raindrops"},
    **{"TwoWings": "wings"},
}
CROPS = 20  # of each photograph
PAIRS = tuple(itertools.combinations(range(len(GARMENTS)), 2))


# What is known of names.


@functools.cache
def dictionary() -> Mapping[str, np.ndarray]:
    """Word -> its vector `[50]`, of all words that any name here has."""
    lemmas = {lemma for names in imagenet() for lemma in names}
    wanted = {w for name in (*lemmas, *GARMENTS, *photographed()) for w in words_of(name.lower())}
    path = Path(tasks.cache(), WORDS.partition(":")[2])
    return vectors_of(path, wanted, header=False, field="words")[0]


def vector(name: str) -> np.ndarray | None:
    """The mean of the vectors of a name's words; None if one of them has none."""
    known, words = dictionary(), words_of(name.lower())
    whole = all(word in known for word in words)
    return np.mean([known[w] for w in words], 0).astype(np.float32) if whole else None


@functools.cache
def imagenet() -> list[list[str]]:
    """The names of each of ImageNet's classes."""
    lines = Path(tasks.cache(), "imagenet_names", "names.txt").read_text().splitlines()
    return [line.split(", ") for line in lines]


@functools.cache
def named() -> tuple[np.ndarray, np.ndarray]:
    """Which of ImageNet's classes have a name whose words are all known, and the first's vector."""
    known = {
        i: vectors[0]
        for i, names in enumerate(imagenet())
        if (vectors := [v for v in map(vector, names) if v is not None])
    }
    return np.array([*known]), np.stack([*known.values()])


def photographed() -> list[str]:
    """What is on each photograph, in the order of the table."""
    files = Path(tasks.cache(), "photographs").iterdir()
    names = sorted({file.stem.rpartition("_")[0] for file in files})
    return [PHOTOGRAPHS.get(name, name.lower()) for name in names]


# Classes named without training: MobileNetV2's probabilities of the classes that it knows.


@functools.cache
def probabilities(data: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Of ImageNet's named classes `[n, classes]`, the true classes `[n]`, and their names."""
    if data == "garments":
        features, labels = kept("test")
        names = list(GARMENTS)
    else:
        features, whats = seen(TRUNK, others()), photographed()
        names = sorted(set(whats))
        labels = np.array([names.index(what) for what in whats])
    dense = loaded(TRUNK)["params"]["heads"]["HEAD"]["output"]
    logits = features @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])
    shares = softmax(logits[:, named()[0]], axis=1)
    if data == "photographs":
        shares = shares.reshape(-1, CROPS, shares.shape[1]).mean(1)
    return shares, labels, names


Scores = Callable[[np.ndarray, np.ndarray, np.ndarray], Any]
"""Of probabilities `[n, C]`, vectors of classes `[C, 50]` and of names `[N, 50]`: `[n, N]`."""


def combined(top: int) -> Scores:
    """ConSE (Norouzi et al. 2014)."""
    return lambda p, known, names: cosine_scores(conse(p, known, top=top), names)


def voted(p: np.ndarray, known: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Every class of ImageNet counts for the name that is nearest to its own."""
    nearest = np.asarray(cosine_scores(known, names)).argmax(1)
    return p @ np.eye(len(names), dtype=p.dtype)[nearest]


def permuted(scores: Scores) -> Scores:
    """The control that gives each name the vector of another."""
    return lambda p, known, names: scores(p, known, np.roll(names, 1, axis=0))


VOTES = "votes of the nearest name"
NAMING: dict[str, Scores] = {
    VOTES: voted,
    **{f"ConSE, T = {top}": combined(top) for top in (1, 3, 10, 100)},
    "ConSE, T = 10, permuted words": permuted(combined(10)),
}


def naming(data: str, method: str, random: bool = False) -> Plain:
    """A way to name the images of a data set; but for random vectors no seed matters."""

    def fit(seed: int) -> dict[str, Any]:
        p, labels, names = probabilities(data)
        _, known = named()
        targets = np.stack([vector(name) for name in names])  # type: ignore[arg-type]
        if random:
            rng = np.random.default_rng(seed)
            known, targets = (rng.normal(size=v.shape).astype(np.float32) for v in (known, targets))
        found = np.asarray(NAMING[method](p, known, targets)).argmax(1)
        lemmas = {lemma.lower() for lemmas in imagenet() for lemma in lemmas}
        new = [i for i, name in enumerate(names) if name.lower() not in lemmas]
        by_class = [np.mean(found[labels == i] == i) for i in new]
        right = (found.astype(np.int32), labels, f"{data}/test")
        return {"accuracy": right, "unseen": float(np.mean(by_class))}

    said = f"{method.removesuffix(', permuted words')}, random vectors" if random else method
    return Plain(fit, dict(part="named", data=data, method=said), seeds=range(10))


# Pairs of garments that no training image shows: all 45, a pair in the place of a seed.


@functools.cache
def kept(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Features `[n, 1280]` and labels `[n]`."""
    table = tljax.data.load(FEATURES, part, root=tasks.cache())
    return np.asarray(table.input), np.asarray(table.label)


@functools.cache
def described(what: str, seed: int) -> np.ndarray:
    """A row for every garment, of unit length."""
    if what == "random vectors":
        rows = np.random.default_rng(seed).normal(size=(len(GARMENTS), 50))
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    source = "garments" if what == "18 attributes" else WORDS
    moved = seed if what == "permuted words" else None
    how = dict(root=tasks.cache(), normalise=True, permute=moved)
    return load_semantics(source, GARMENTS, **how).values


DIMENSIONS, FOURIER, FEWER = 256, 500, 10_000


@functools.cache
def moments() -> tuple[np.ndarray, ...]:
    """Of each garment's features: how many, their sum, and the sum of their squares."""
    x, labels = kept("train")
    own = [x[labels == c].astype(np.float64) for c in range(len(GARMENTS))]
    sums = [(len(v), v.sum(0), v.T @ v) for v in own]
    return tuple(map(np.array, zip(*sums, strict=True)))


@functools.lru_cache(2)
def principal(shown: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """All images by whitened principal components of the features of these garments."""
    count, total, squares = (m[list(shown)].sum(0) for m in moments())
    mean = total / count
    values, vectors = np.linalg.eigh(squares / count - np.outer(mean, mean))
    onto = (vectors[:, -DIMENSIONS:] / np.sqrt(values[-DIMENSIONS:])).astype(np.float32)
    train, test = ((kept(part)[0] - mean.astype(np.float32)) @ onto for part in ("train", "test"))
    return train, test


@functools.cache
def fourier() -> tuple[np.ndarray, np.ndarray]:
    """Random Fourier features of the pixels, at the usual width of the kernel."""
    made = []
    for part in (f"train[:{FEWER}]", "test"):
        table = tljax.data.load(tasks.GARMENTS["data"], part)
        made.append(np.asarray(table.input, np.float32).reshape(len(table), -1) / 255)
    width = 1 / made[0].shape[1] / made[0].var()
    draw = RBFSampler(gamma=width, n_components=FOURIER, random_state=0).fit(made[0])
    train, test = (draw.transform(pixels) * np.sqrt(FOURIER) for pixels in made)
    return train, test


def images(sort: str, shown: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Of images that train and test; what is done to them has seen these garments alone."""
    return fourier() if sort == "pixels" else principal(shown)


PENALTIES = (1e1, 1e2, 1e3, 1e4, 1e5)


def told(sort: str, what: str) -> Callable[[int], dict[str, Any]]:
    """ESZSL; penalty and stacking factor by four pairs that are left out of the eight garments."""

    def fit(seed: int) -> dict[str, Any]:
        pair, table = PAIRS[seed], described(what, seed)
        shown = tuple(c for c in range(len(GARMENTS)) if c not in pair)
        train, test = images(sort, shown)
        labels = kept("train")[1][: len(train)]
        held = np.arange(len(train)) % 5 == 0  # of each garment that is shown, a fifth

        def scores(classes: Sequence[int], rows: Any, gamma: float, x: np.ndarray) -> Any:
            mine = rows & np.isin(labels, classes)
            numbers = np.searchsorted(classes, labels[mine])
            learned = eszsl(train[mine], numbers, table[list(classes)], gamma=gamma, lam=1.0)
            return x @ np.asarray(learned) @ table.T

        judged = held & np.isin(labels, shown)
        worth: dict[float, list[tuple[float, float]]] = {gamma: [] for gamma in PENALTIES}
        for inner in zip(shown[::2], shown[1::2], strict=True):
            left = tuple(c for c in shown if c not in inner)
            known = np.isin(shown, left)
            for gamma in PENALTIES:
                found = scores(left, ~held, gamma, train[judged])[:, shown]
                true = np.searchsorted(shown, labels[judged])
                hidden = ~known[true]
                among = np.flatnonzero(~known)[found[hidden][:, ~known].argmax(1)]
                reached = float(np.mean(among == true[hidden]))
                worth[gamma].append((reached, generalised.best_gamma(found, true, known)))
        gamma = max(PENALTIES, key=lambda g: np.mean([reached for reached, _ in worth[g]]))
        factor = float(np.mean([factor for _, factor in worth[gamma]]))
        return judge(scores(shown, labels >= 0, gamma, test), pair, factor) | {"knob": gamma}

    return fit


def judge(scores: np.ndarray, pair: tuple[int, ...], factor: float = 0.0) -> dict[str, float]:
    """The accuracy among the pair, and of all ten, seen garments handicapped by a factor."""
    labels, known = kept("test")[1], ~np.isin(np.arange(len(GARMENTS)), pair)
    hidden = np.isin(labels, pair)
    among = np.asarray(pair)[scores[hidden][:, list(pair)].argmax(1)]
    stacked = (scores - factor * known).argmax(1)
    reached = generalised.seen_unseen(stacked, labels, known, len(GARMENTS))
    return {"accuracy": float(np.mean(among == labels[hidden])), **reached._asdict()}


@functools.lru_cache(2)
def classified(shown: tuple[int, ...]) -> np.ndarray:
    """A logistic regression's probabilities of the garments shown, of all test images."""
    train, test = principal(shown)
    labels = kept("train")[1]
    mine = np.isin(labels, shown)
    return LogisticRegression(max_iter=200).fit(train[mine], labels[mine]).predict_proba(test)


def of_classifier(top: int) -> Callable[[int], dict[str, Any]]:
    """ConSE of a classifier of the eight garments."""

    def fit(seed: int) -> dict[str, Any]:
        pair, table = PAIRS[seed], described("words", seed)
        shown = tuple(c for c in range(len(GARMENTS)) if c not in pair)
        p = classified(shown).astype(np.float32)
        return judge(np.asarray(combined(top)(p, table[list(shown)], table)), pair)

    return fit


TOLD = {
    "ESZSL, words": told("features", "words"),
    "ESZSL, words, Fourier features of pixels": told("pixels", "words"),
    "ESZSL, 18 attributes": told("features", "18 attributes"),
    "ESZSL, permuted words": told("features", "permuted words"),
    "ESZSL, random vectors": told("features", "random vectors"),
    "ConSE, words, T = 1": of_classifier(1),
    "ConSE, words, T = 8": of_classifier(8),
}
RATES = (0.003, 0.01, 0.03)
FIRST = 100  # seed of tuning
STEPS, BATCH, EACH = 1000, 100, 2000  # EACH: images of each garment, so that all pairs are alike


def devise(rates: Mapping[int, float] | float) -> Row:
    """DeViSE (Frome et al. 2013): a linear map into the space of words, by a ranking loss.

    At a rate it is tuned: without the first pair of the eight garments too, which judges it. With
    one of each seed's own it is the result.
    """
    tuning = isinstance(rates, float)

    def edit(config: Any, run: Run) -> None:
        pair = PAIRS[run.seed % FIRST]
        shown = tuple(c for c in range(len(GARMENTS)) if c not in pair)
        shown, judged = (shown[2:], shown[:2]) if tuning else (shown, pair)
        config.data_dir = tasks.cache()
        taught = dict(data=FEATURES, split="train[:80%]", batch=BATCH)
        config.streams.source = dict(taught, classes=shown, per_class=EACH)
        config.tables.words = dict(data=WORDS, normalise=True)
        read = dict(data=FEATURES, head="embed", readout="compatibility", table="words")
        read |= dict(split="train[80%:]" if tuning else "test", unseen=judged)
        config.evaluate.unseen = dict(read, classes=judged, among="unseen")
        if not tuning:
            config.evaluate.all = read
        config.network.trunk = dict(name="mlp", features=())
        config.network.heads.embed = dict(name="linear", outputs=50, bias=False)
        term = dict(term="compatibility", loss="devise", stream="source", head="embed")
        config.terms.compatibility = dict(term, table="words")
        config.optimizer = tasks.sgd(rates if isinstance(rates, float) else rates[run.seed])
        config.steps = config.log_every = STEPS
        frame.judge_at_the_end(config)

    accuracy = {"accuracy": "unseen/per_class_accuracy"}
    every = {name: f"all/{name}" for name in ("seen", "unseen", "harmonic")}
    said = dict(part="pairs", data="garments", method="DeViSE, words")
    if tuning:
        return Row(blank, edit=edit, columns=said | dict(knob=rates), reads=[({}, accuracy)])
    seeds = range(len(PAIRS))
    return Row(blank, edit=edit, columns=said, reads=[({}, accuracy | every)], seeds=seeds)


def candidates() -> dict[str, Row]:
    return {f"DeViSE-{rate:g}": devise(rate) for rate in RATES}


def rows() -> dict[str, Row | Plain]:
    made: dict[str, Row | Plain] = {}
    for data in ("garments", "photographs"):
        for method in NAMING:
            made[f"{data}-{method}"] = naming(data, method)
        made[f"{data}-random"] = naming(data, "ConSE, T = 10", random=True)
    for method, fit in TOLD.items():
        columns = dict(part="pairs", data="garments", method=method)
        made[method] = Plain(fit, columns, seeds=range(len(PAIRS)))
    tuned = TUNING.read()
    best = {seed: tuned.where(seed=seed).best("accuracy", "knob") for seed in tuned.of("seed")}
    made["DeViSE, words"] = devise({seed - FIRST: value for seed, (value,) in best.items()})
    return made


# What is made of them.


def over_garments(lines: Results, metric: str) -> list[float]:
    """A value a garment, whose mean is that over the pairs, and whose spread is that of garments.

    The pairs share garments, so that 45 of them are no 45 draws: these are the pseudo-values of the
    jackknife that leaves out one garment (Arvesen 1969, "Jackknifing U-statistics").
    """
    count, values = len(GARMENTS), lines.by_seed(metric)
    whole = np.mean([*values.values()])
    without = [np.mean([v for i, v in values.items() if c not in PAIRS[i]]) for c in range(count)]
    return [float(count * whole - (count - 1) * each) for each in without]


def pairs_table(results: Results) -> str:
    results = results.where(part="pairs")
    lines = {m: results.where(method=m) for m in results.of("method")}
    base = lines.get("ESZSL, words")

    def cell(metric: str) -> Callable[[Results], str]:
        return lambda mine: report.cell(over_garments(mine, metric))

    def gain(mine: Results) -> str:
        if base is None or mine == base:
            return "–"
        return report.gain(*(over_garments(each, "accuracy") for each in (mine, base)))

    columns: list[Column] = [("unseen pair", cell("accuracy")), ("− ESZSL, words", gain)]
    columns += [("lowest pair", lambda mine: f"{min(mine.values('accuracy')):.2f}")]
    columns += [(n, cell(m)) for n, m in (("S", "seen"), ("U", "unseen"), ("H", "harmonic"))]
    return report.named("method", columns, lines) if lines else "Not run yet."


def named_table(results: Results, data: str) -> str:
    lines = results.where(part="named", data=data)
    columns = [report.mean("accuracy", "accuracy")]
    columns += [report.gained("− votes", "accuracy", lines.where(method=VOTES))]
    lacked = "classes that ImageNet lacks"
    columns += [(lacked, lambda mine: f"{np.mean(mine.values('unseen')):.3f}")]
    return report.named("method", columns, {m: lines.where(method=m) for m in lines.of("method")})


def tables(results: Results) -> dict[str, Any]:
    made = {data: named_table(results, data) for data in ("garments", "photographs")}
    return made | {"pairs": pairs_table(results)}


def by_garment(lines: Results, metric: str) -> Results:
    """`over_garments` as lines, a garment in the place of a seed."""
    return Results({"seed": i, metric: v} for i, v in enumerate(over_garments(lines, metric)))


def told_apart(question: str, ours: str, baseline: str, why: str) -> Comparison:
    """A comparison over all pairs."""
    return Comparison(question, "accuracy", ours, baseline, dict(part="pairs"), why, by_garment)


COMPARED = [
    Comparison(
        "zero-shot by words without training, garments: ConSE against votes of the nearest name",
        "accuracy",
        "ConSE, T = 10",
        VOTES,
        dict(part="named", data="garments"),
        "both are at chance: so small and grey, ImageNet's classifier takes garments for tools",
    ),
    told_apart(
        "zero-shot by words, all 45 pairs of garments: vectors of words against random vectors",
        "ESZSL, words",
        "ESZSL, random vectors",
        "names tell garments apart, but ten garments are few to show it by",
    ),
    told_apart(
        "the same: 18 attributes against vectors of words",
        "ESZSL, 18 attributes",
        "ESZSL, words",
        "who has written the attributes has looked at the garments",
    ),
]


def figure(results: Results, path: Path) -> None:
    """All pairs of each method, with the intervals of the table."""
    pairs = results.where(part="pairs")
    lines = {method: pairs.where(method=method) for method in pairs.of("method")}
    rows = [(method, mine.values("accuracy")) for method, mine in lines.items()]
    found = [metrics.interval(over_garments(mine, "accuracy")) for mine in lines.values()]
    intervals(rows, path, "accuracy between two unseen garments, 45 pairs (chance 0.5)", found)


EXPERIMENT = Experiment(HERE, range(len(PAIRS)), {}, rows, tables, figure, COMPARED)
TUNING = Experiment(HERE, range(FIRST, FIRST + len(PAIRS)), {}, candidates, file="tuning.csv")

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT, tune=TUNING)

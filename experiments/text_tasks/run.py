"""Are three tasks of text learned better in one network than each in its own?

python -m experiments.pretrained.fetch minilm
python -m experiments.text_tasks.texts
python -m experiments.text_tasks.run [--tune] [--seeds 10] [--only way=MiniLM] [--only labels=50]
"""

import functools
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold

from experiments import frame, report
from experiments.frame import Collect, Experiment, Plain, Row, Run
from experiments.report import Column, Comparison, Results
from tljax.configs import tasks
from tljax.configs import text_tasks as shipped
from tljax.data.decoded import materialise
from tljax.data.tokens import tokenised
from tljax.models import weights
from tljax.models.network import Network, module
from tljax.models.trunks import TRUNKS
from tljax.phase.evaluate import outputs
from tljax.phase.phase import Stream
from tljax.phase.scoring import Split

HERE = Path(__file__).parent
TASKS = {"section": "accuracy", "pair": "accuracy", "name": "f1"}  # and what each is judged by
COUNTS = (50, 200, 1000)  # labels of each task
HELD = 300  # examples at the end of each task's training part, to tune on
LENGTH, BATCH, STEPS = 96, 8, 300
WAYS = {  # and rates to tune
    "MiniLM": (1e-5, 2e-5, 5e-5, 1e-4, 2e-4),
    "from scratch": (1e-4, 2e-4, 5e-4, 1e-3, 2e-3),
}
WIDER = {("from scratch", "name"): (5e-3,)}  # where the best was at an end
TOGETHER = {
    "all three": "sum",
    "all three, uncertainty": "uncertainty",
    "all three, PCGrad": "pcgrad",
}
TUNED_ON = 200  # labels


def lines_of(task: str, split: str) -> list[dict[str, Any]]:
    """The examples of a task."""
    path = Path(tasks.cache(), "descriptions", task, f"{split}.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


@functools.cache
def total(task: str) -> int:
    """How many examples of a task may be drawn."""
    return len(lines_of(task, "train")) - HELD


def window(task: str, seed: int, labels: int) -> tuple[int, int]:
    """Where a seed's examples stand: windows a tenth apart, of which large ones overlap."""
    start = (seed % 10) * max(0, total(task) - labels) // 10
    return start, start + labels


def config_of(way: str, names: Sequence[str], balance: str = "sum") -> Any:
    """A network for some of the tasks; which examples they have is still to be said."""
    config = shipped.get_config("minilm" if way == "MiniLM" else "scratch")
    config.data_dir = str(Path(tasks.cache(), "descriptions"))
    config.streams, config.evaluate, config.terms = {}, {}, {}
    reads = {name: dict(data=f"text:{name}", split="train", length=LENGTH) for name in names}
    tasks.texts(config, reads, BATCH, {})
    if "name" in names:
        tasks.spans(config, "name")
    if way == "from scratch":
        config.network.trunk.length = LENGTH
    config.balance = dict(name=balance)
    config.steps = config.log_every = STEPS
    frame.judge_at_the_end(config)
    return config


def row(way: str, name: str, labels: int, rate: float, tuning: bool = False) -> Row:
    """One task by itself, or all three."""
    names = tuple(TASKS) if name in TOGETHER else (name,)

    def edit(config: Any, run: Run) -> None:
        config.optimizer.learning_rate = rate
        for task, stream in config.streams.items():
            start, stop = window(task, run.seed, labels)
            stream.split = f"train[{start}:{stop}]"
            if tuning:
                config.evaluate[task].update(split=f"train[{total(task)}:]")

    columns = dict(way=way, method=called(way, name), labels=labels, rate=rate)
    reads = {task: f"{task}/{TASKS[task]}" for task in names}
    make = functools.partial(config_of, way, names, TOGETHER.get(name, "sum"))
    return Row(make, edit=edit, columns=columns, reads=[({}, reads)])


def called(way: str, name: str) -> str:
    """A method by its name and by what it starts from."""
    return f"{name}, {way}"


def candidates() -> dict[str, Row]:
    return {
        f"{way}-{name}-{rate:g}": row(way, name, TUNED_ON, rate, tuning=True)
        for way, rates in WAYS.items()
        for name in (*TASKS, "all three")
        for rate in (*rates, *WIDER.get((way, name), ()))
    }


def chosen(tuned: Results, way: str, name: str) -> float:
    """The rate of the highest mean over the tasks of a row; a balancer has that of the sum."""
    lines = tuned.where(method=called(way, "all three" if name in TOGETHER else name))
    tasks = [task for task in TASKS if lines[0].get(task) is not None]
    worth = Results({**li, "worth": float(np.mean([li[t] or 0.0 for t in tasks]))} for li in lines)
    [rate] = worth.best("worth", "rate")
    return rate


def stages(collect: Collect) -> Results:
    """All rows at their rates, and the plain ones beside them."""
    tuned = TUNING.read()
    rows = {
        f"{way}-{name}-{labels}": row(way, name, labels, chosen(tuned, way, name))
        for labels, way, name in itertools.product(COUNTS, WAYS, (*TASKS, *TOGETHER))
        if tuned.where(way=way)  # it is tuned in parts, too
    }
    plains = {f"{way}-{labels}": plain(way, labels) for labels in COUNTS for way in PLAIN}
    return collect(rows | plains)


# What a clever person does in ten lines of scikit-learn.

REGRESSION = "logistic regression"
Line = Mapping[str, Any]
Seen = Callable[[Sequence[Line]], Any]  # examples -> what a regression sees of them


def plain(way: str, labels: int) -> Plain:
    """Logistic regression on what is seen of a text; with words, the first one for a name."""

    def fit(seed: int) -> dict[str, Any]:
        reached = {task: regression(way, task, seed, labels) for task in ("section", "pair")}
        if way != "words":
            return reached
        return reached | {"name": float(np.mean(list(map(by_place, lines_of("name", "test")))))}

    return Plain(fit, dict(way=way, method=called(way, REGRESSION), labels=labels))


def regression(way: str, task: str, seed: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """The classes predicted and true of the test; five folds of the labels tell C."""
    start, stop = window(task, seed, labels)
    train, test = lines_of(task, "train")[start:stop], lines_of(task, "test")
    classes = sorted({line["label"] for line in test})
    ours, true = ([classes.index(line["label"]) for line in lines] for lines in (train, test))
    seen = PLAIN[way](train)
    grid = {"C": (0.1, 1.0, 10.0, 100.0)}
    folds = KFold(5, shuffle=True, random_state=seed)
    found = GridSearchCV(LogisticRegression(max_iter=2000), grid, cv=folds)
    return found.fit(seen(train), ours).predict(seen(test)), np.asarray(true)


def by_words(train: Sequence[Line]) -> Seen:
    """TF-IDF; of a pair, the weight and the number of the words that both halves have."""
    words = TfidfVectorizer(sublinear_tf=True)
    words.fit([text for line in train for text in (line["text"], line.get("text_pair", ""))])

    def seen(lines: Sequence[Line]) -> Any:
        first = words.transform([line["text"] for line in lines])
        if "text_pair" not in lines[0]:
            return first
        second = words.transform([line["text_pair"] for line in lines])
        shared = first.multiply(second)
        return np.hstack([np.asarray(shared.sum(1)), np.asarray((shared > 0).sum(1))])

    return seen


def by_vectors(train: Sequence[Line]) -> Seen:
    """MiniLM's sentence vectors; of a pair, how far apart and how alike both are in each number."""

    def seen(lines: Sequence[Line]) -> np.ndarray:
        first = vectors(tuple(line["text"] for line in lines))
        if "text_pair" not in lines[0]:
            return first
        second = vectors(tuple(line["text_pair"] for line in lines))
        return np.hstack([np.abs(first - second), first * second])

    return seen


@functools.cache
def vectors(texts: tuple[str, ...]) -> np.ndarray:
    """MiniLM's vectors `[n, 384]` of texts, each of length 1."""
    public = shipped.get_config("minilm")
    trunk = module(TRUNKS, dict(public.network.trunk), "trunk")
    table = materialise(tokenised(list(texts), public.tokenizer.file, LENGTH), math.inf)
    _, file = public.start[0]
    variables = weights.load(trunk, file.partition(":")[2])
    split = Split("texts", table, Stream("texts", 32), head="")
    found = outputs(Network(trunk=trunk), variables["params"], {}, split).features
    return found / np.linalg.norm(found, axis=1, keepdims=True)


PLAIN = {"words": by_words, "MiniLM's vectors": by_vectors}


def by_place(line: Mapping[str, Any]) -> float:
    """F1 in words of the guess that a description begins with its package's name."""
    return float(line["start"] == 0 and " " not in line["text"][: line["end"]])


# What is made of them.


def tables(results: Results) -> dict[str, Any]:
    def lines(way: str, name: str, task: str, labels: int) -> Results:
        name = task if name == "alone" else name
        return results.where(method=called(way, name), labels=labels)

    def gain(way: str, name: str, task: str, labels: int) -> str:
        ours, base = (lines(way, each, task, labels) for each in (name, "alone"))
        return ours.gain(task, base) if ours and base else "–"

    def run(name: str) -> list[str]:
        """What a row was started from, so far."""
        return [way for way in WAYS if results.where(method=called(way, name))]

    rows = [(way, REGRESSION) for way in PLAIN]
    rows += [(way, "alone") for way in run("section")]
    together = [(way, name) for name in TOGETHER for way in run(name)]
    rows += together
    shown: dict[str, Any] = {}
    for task in TASKS:
        named: list[Column] = [("from", lambda at: at[0]), ("method", lambda at: at[1])]
        columns: list[Column] = [
            (str(n), lambda at, n=n, task=task: lines(*at, task, n).cell(task)) for n in COUNTS
        ]
        shown[task] = report.table([*named, *columns], rows)
    named = [("from", lambda at: at[0]), ("method", lambda at: at[1]), ("task", lambda at: at[2])]
    gains: list[Column] = [(str(n), lambda at, n=n: gain(*at, n)) for n in COUNTS]
    each = [(*row, task) for row in together for task in TASKS]
    shown["gains"] = report.table([*named, *gains], each)
    return shown


def figure(results: Results, path: Path) -> None:
    """A panel a task: what each way reaches over the labels."""
    panels: dict[str, dict[str, dict[float, Any]]] = {}
    for task, metric in TASKS.items():
        ways = {called(way, task): f"alone, {way}" for way in WAYS}
        ways |= {called(way, "all three"): called(way, "all three") for way in WAYS}
        ways |= {called(way, REGRESSION): called(way, REGRESSION) for way in PLAIN}
        panels[f"{task} ({metric})"] = {
            shown: mine.over("labels", task)
            for method, shown in ways.items()
            if (mine := results.where(method=method)) and None not in mine.values(task)
        }
    report.curves(panels, path, "labels of each task")


READS: dict[str, str] = {}
TOGETHER_AT_50 = functools.partial(
    Comparison, ours=called("from scratch", "all three"), where=dict(labels=50)
)
ASKED = "three tasks of text in one network from scratch, 50 labels each:"
COMPARED = [
    TOGETHER_AT_50(
        f"{ASKED} {what} against each alone", task, baseline=called("from scratch", task), why=why
    )
    for task, what, why in (
        ("section", "sections", "so few labels teach either network little"),
        ("pair", "pairs", "the rate that serves the other two is too high for pairs"),
        ("name", "places of names", "seeds differ by more than the networks do"),
    )
]
COMPARED += [
    TOGETHER_AT_50(
        "the same: sections against logistic regression on MiniLM's vectors",
        "section",
        baseline=called("MiniLM's vectors", REGRESSION),
        why="public weights are worth more than other tasks' labels",
    )
]
EXPERIMENT = Experiment(
    HERE, range(10), READS, tables=tables, figure=figure, comparisons=COMPARED, stages=stages
)
TUNING = Experiment(HERE, range(100, 105), READS, candidates, file="tuning.csv")

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT, tune=TUNING)

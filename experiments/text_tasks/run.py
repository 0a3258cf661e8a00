"""Are three tasks of text learned better in one network than each in its own?

python -m experiments.pretrained.fetch minilm
python -m experiments.text_tasks.texts
python -m experiments.text_tasks.run [--tune] [--seeds 10] [--only way=MiniLM] [--only labels=50]
"""

import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from experiments import frame, report
from experiments.frame import Collect, Experiment, Plain, Row, Run
from experiments.report import Column, Results
from tljax.configs import tasks
from tljax.configs import text_tasks as shipped

HERE = Path(__file__).parent
TASKS = {"section": "accuracy", "pair": "accuracy", "name": "f1"}  # and what each is judged by
COUNTS = (50, 200, 1000)  # labels of each task
HELD = 300  # examples at the end of each task's training part, to tune on
LENGTH, BATCH, STEPS = 96, 8, 300
WAYS = {"MiniLM": (2e-5, 5e-5, 1e-4), "from scratch": (2e-4, 5e-4, 1e-3)}  # and rates to tune
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

    columns = dict(way=way, method=name, labels=labels, rate=rate)
    reads = {task: f"{task}/{TASKS[task]}" for task in names}
    make = functools.partial(config_of, way, names, TOGETHER.get(name, "sum"))
    return Row(make, edit=edit, columns=columns, reads=[({}, reads)])


def candidates() -> dict[str, Row]:
    return {
        f"{way}-{name}-{rate:g}": row(way, name, TUNED_ON, rate, tuning=True)
        for way, rates in WAYS.items()
        for name in (*TASKS, *TOGETHER)
        for rate in rates
    }


def chosen(tuned: Results, way: str, name: str) -> float:
    """The rate of the highest mean over the tasks of a row."""
    lines = tuned.where(way=way, method=name)
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
        if tuned.where(way=way, method=name)  # it is tuned in parts, too
    }
    return collect(rows | {f"words-{labels}": plain(labels) for labels in COUNTS})


# What a clever person does in ten lines of scikit-learn.


def plain(labels: int) -> Plain:
    """Logistic regression on words, and the first word for a name."""

    def fit(seed: int) -> dict[str, float]:
        reached = {task: by_words(task, seed, labels) for task in ("section", "pair")}
        return reached | {"name": float(np.mean(list(map(by_place, lines_of("name", "test")))))}

    return Plain(fit, dict(way="words", method="logistic regression", labels=labels))


def by_words(task: str, seed: int, labels: int) -> float:
    """Accuracy by TF-IDF; of a pair, the products of both halves' weights."""
    start, stop = window(task, seed, labels)
    train, test = lines_of(task, "train")[start:stop], lines_of(task, "test")
    words = TfidfVectorizer(sublinear_tf=True)
    words.fit([text for line in train for text in (line["text"], line.get("text_pair", ""))])

    def seen(lines: Sequence[Mapping[str, Any]]) -> Any:
        first = words.transform([line["text"] for line in lines])
        if task != "pair":
            return first
        second = words.transform([line["text_pair"] for line in lines])
        shared = first.multiply(second)
        return np.hstack([np.asarray(shared.sum(1)), np.asarray((shared > 0).sum(1))])

    model = LogisticRegression(C=10.0, max_iter=1000)
    model.fit(seen(train), [line["label"] for line in train])
    return float(model.score(seen(test), [line["label"] for line in test]))


def by_place(line: Mapping[str, Any]) -> float:
    """F1 in words of the guess that a description begins with its package's name."""
    return float(line["start"] == 0 and " " not in line["text"][: line["end"]])


# What is made of them.


def tables(results: Results) -> dict[str, Any]:
    alone = {(way, task): results.where(way=way, method=task) for way in WAYS for task in TASKS}

    def cell(way: str, method: str, task: str, labels: int) -> str:
        lines = alone[way, task] if method == "alone" else results.where(way=way, method=method)
        return lines.where(labels=labels).cell(task)

    def gain(way: str, method: str, task: str, labels: int) -> str:
        ours = results.where(way=way, method=method, labels=labels)
        base = alone[way, task].where(labels=labels)
        return ours.gain(task, base) if ours and base else "–"

    shown: dict[str, Any] = {}
    rows = [("words", "logistic regression")]
    rows += [(way, method) for way in WAYS for method in ("alone", *TOGETHER)]
    for task in TASKS:
        named: list[Column] = [("from", lambda at: at[0]), ("method", lambda at: at[1])]
        columns: list[Column] = [
            (str(n), lambda at, n=n, task=task: cell(at[0], at[1], task, n)) for n in COUNTS
        ]
        shown[task] = report.table([*named, *columns], rows)
    named = [("from", lambda at: at[0]), ("method", lambda at: at[1]), ("task", lambda at: at[2])]
    gains: list[Column] = [(str(n), lambda at, n=n: gain(*at, n)) for n in COUNTS]
    shown["gains"] = report.table([*named, *gains], itertools.product(WAYS, TOGETHER, TASKS))
    return shown


READS: dict[str, str] = {}
EXPERIMENT = Experiment(HERE, range(10), READS, tables=tables, stages=stages)
TUNING = Experiment(HERE, (100, 101), READS, candidates, file="tuning.csv")

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT, tune=TUNING)

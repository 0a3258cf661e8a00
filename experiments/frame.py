"""The frame of all experiments: rows are run as sweeps, and read into tables, sections, figures.

An experiment is a folder with a README (the question and the protocol), `tune.py` (its choices, on
seeds and splits that no result uses), `run.py` (the result, over fresh seeds) and what they wrote.
Both declare an `Experiment`, most of all its rows, and hand it to `main`:

    python -m experiments.NAME.tune
    python -m experiments.NAME.run [--seeds 10] [--workdir runs/NAME]
"""

import argparse
import csv
import inspect
import json
import math
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from tljax import experiment, methods, metrics, plots, sweep
from tljax.train.checkpoint import write_json

ROOT = Path(__file__).resolve().parents[1]
PALETTE, intervals = plots.PALETTE, plots.intervals  # what the experiments draw with

Edit = Callable[[Any, "Run"], None]  # changes a config
Shrink = Callable[[Any], None]  # makes a config small, for the tests
Column = tuple[str, Callable[[Any], str]]  # of a markdown table


class Run(NamedTuple):
    """What the config of a row may depend on."""

    seed: int
    workdir: Path  # of the experiment

    def origin(self, row: str) -> str:
        """The same seed's run of a row that is run alone, as `start` names it."""
        return f"run:{self.workdir / place(row) / str(self.seed)}"


class Row(NamedTuple):
    """A config with some fields changed, to be run on every seed."""

    config: str | Callable[[], Any]  # the name of a shipped config, or what makes one
    overrides: Mapping[str, Any] = {}  # path of a field -> value, or a function of the Run
    edit: Edit | None = None  # what paths cannot say; before the overrides
    columns: Mapping[str, Any] = {}  # what its lines in the table say of it
    split: str = ""  # of every evaluation, where it is not the config's own
    reads: Sequence[tuple[Mapping[str, Any], Mapping[str, str]]] = ()
    """A line of the table each: more columns, and its metrics; () is one, of the experiment's."""
    seeds: Sequence[int] = ()  # where they are not the experiment's
    alone: bool = (
        False  # as runs of their own: a sweep's members leave no checkpoints to start from
    )
    measure: Callable[[Any], Mapping[str, float]] | None = None  # of the outputs of runs alone
    after: str = ""  # a row whose seconds count as its own, as it starts from its run


class Comparison(NamedTuple):
    """A method against a baseline, paired by seed."""

    question: str
    metric: str
    ours: Mapping[str, Any]  # columns of our lines
    baseline: Mapping[str, Any]


class Results(list[dict[str, Any]]):
    """Lines of a table of runs: what they are, their seed, and what they reached."""

    def where(self, **columns: Any) -> "Results":
        """The lines with these values."""
        return Results(
            line for line in self if all(line.get(key) == value for key, value in columns.items())
        )

    def of(self, column: str) -> list[Any]:
        """The different values of a column, in order."""
        return list(dict.fromkeys(line.get(column) for line in self))

    def values(self, metric: str) -> list[Any]:
        """A metric by seed."""
        return [line.get(metric) for line in sorted(self, key=lambda line: line["seed"])]

    def by_seed(self, metric: str) -> dict[int, float]:
        """The mean over the lines of each seed."""
        seeds = sorted(self.of("seed"))
        return {seed: float(np.mean([r[metric] for r in self.where(seed=seed)])) for seed in seeds}

    def cell(self, metric: str) -> str:
        """Mean and 95 % t interval over seeds; a dash where there is none."""
        values = self.values(metric)
        return "–" if not values or None in values else cell(values)

    def gain(self, metric: str, baseline: "Results") -> str:
        """The difference from a baseline, paired by seed; a dash to itself, or where one lacks."""
        ours, theirs = self.values(metric), baseline.values(metric)
        return "–" if self == baseline or None in ours else gain(ours, theirs)

    def lowest(self, metric: str) -> str:
        return f"{min(self.values(metric)):.3f}"

    def means(self, metric: str, *settings: str) -> dict[tuple, float]:
        """Values of the columns `settings` -> the mean; a failed run counts 0."""
        found: dict[tuple, list[float]] = {}
        for line in self:
            key = tuple(line[name] for name in settings)
            found.setdefault(key, []).append(line[metric] or 0.0)
        return {key: float(np.mean(values)) for key, values in found.items()}

    def best(self, metric: str, *settings: str) -> tuple:
        """The settings of the highest mean, of several the first."""
        means = self.means(metric, *settings)
        return max(means, key=means.__getitem__)


Collect = Callable[[Mapping[str, Row]], Results]  # runs rows on the seeds of an experiment


class Experiment(NamedTuple):
    """What is run and what is made of it."""

    folder: Path
    seeds: Sequence[int]
    reads: Mapping[str, str]  # column -> "evaluation/metric", or a name of `measure`'s
    rows: Callable[[], Mapping[str, Row]] = dict
    stages: Callable[[Collect], Results] | None = (
        None  # in place of rows that depend on others' ends
    )
    file: str = "results.csv"
    section: Callable[[Results], str] | None = None  # the markdown of RESULTS.md
    figure: Callable[[Results, Path], None] | None = None
    comparisons: Sequence[Comparison] = ()  # for README.md, the experiment's and the project's

    def collect(
        self,
        workdir: Path,
        seeds: Sequence[int] | None = None,
        shrink: Shrink = lambda config: None,
    ) -> Results:
        """The lines of all rows on these seeds; what has finished is only read."""
        seeds = self.seeds if seeds is None else seeds

        def run(rows: Mapping[str, Row]) -> Results:
            return collect(rows, seeds, self.reads, workdir, shrink)

        return self.stages(run) if self.stages else run(self.rows())

    def tuning(self, seeds: Sequence[int], **declared: Any) -> "Experiment":
        """The same frame, for what is chosen before on seeds that no result uses."""
        return Experiment(self.folder, seeds, self.reads, file="tuning.csv")._replace(**declared)

    def read(self) -> Results:
        """The lines that have been written."""
        return read(self.folder / self.file)


def place(row: str) -> str:
    """The name of a row's directory."""
    return re.sub(r"[^\w.=-]+", "_", row)


def change(config: Any, overrides: Mapping[str, Any]) -> None:
    """Sets fields by their dotted paths."""
    for path, value in overrides.items():
        *parents, last = path.split(".")
        inner = config
        for name in parents:
            inner = inner[name]
        inner[last] = value


def judge_at_the_end(config: Any, steps: int | None = None) -> None:
    """Nothing is evaluated or saved before the end."""
    config.evaluate_every = config.checkpoint_every = steps or config.steps


def configured(row: Row, run: Run, shrink: Shrink = lambda config: None) -> Any:
    """The config of a row for a seed."""
    shipped = isinstance(row.config, str)
    config = methods.load(ROOT / "configs" / f"{row.config}.py") if shipped else row.config()
    config.seed, config.figures = run.seed, False
    if row.edit:
        row.edit(config, run)
    overrides = {p: v(run) if inspect.isfunction(v) else v for p, v in row.overrides.items()}
    change(config, overrides)
    for evaluation in config.evaluate.values() if row.split else ():
        evaluation.split = row.split
    shrink(config)
    return config


def collect(
    rows: Mapping[str, Row],
    seeds: Sequence[int],
    reads: Mapping[str, str],
    workdir: Path,
    shrink: Shrink = lambda config: None,
) -> Results:
    """The lines of rows on seeds; what has finished is only read.

    Args:
      rows: name -> row; those that others start from come first.
      seeds: of every row, or how many there are at most of those that it has itself.
      reads: column -> "evaluation/metric", for rows that say nothing of their own.
      workdir: gets a directory a row, and beside it how each of its runs was made.
      shrink: makes each config small.
    """
    results = Results()
    seconds: dict[str, list[float]] = {}
    for name, row in rows.items():
        runs = [Run(seed, workdir) for seed in (row.seeds or seeds)[: len(seeds)]]
        directory = workdir / place(name)
        configs = [configured(row, run, shrink) for run in runs]
        if row.alone:
            reached, made = _alone(row, runs, configs, directory)
        else:
            base = configured(row, Run(0, workdir), shrink)
            reached, made = _swept(base, configs, directory)
        seconds[name] = [record.pop("seconds") for record in made]
        if row.after:
            pairs = zip(seconds[name], seconds[row.after], strict=False)
            seconds[name] = [sum(pair) if None not in pair else None for pair in pairs]
        lines = Results(
            {
                **row.columns,
                **columns,
                "seed": run.seed,
                **{column: _metric(values, path) for column, path in (wanted or reads).items()},
                "seconds": took,
                "status": values["status"],
                **record,
            }
            for columns, wanted in row.reads or [({}, reads)]
            for run, values, took, record in zip(runs, reached, seconds[name], made, strict=True)
        )
        results += lines
        print(name, *(f"{c} {lines.cell(c)}" for c in reads if c in lines[0]), flush=True)
    return results


def _metric(values: Mapping[str, Any], path: str) -> Any:
    """A metric that a run reached; None where it has no such evaluation, or failed."""
    evaluations = {name.partition("/")[0] for name in values}
    known = path in values or path.partition("/")[0] not in evaluations
    if not known and values["status"] == "finished":
        raise KeyError(f"{path}; there are {sorted(values)}")
    return values.get(path)


def _swept(base: Any, configs: Sequence[Any], directory: Path) -> tuple[list, list]:
    """Runs configs that differ from `base` in values alone as one sweep of it."""
    points = [{**_differences(base, config), "seed": config.seed} for config in configs]
    names = [member.name for member in sweep.members(base, points)]
    done = [directory / "members" / name / "result.json" for name in names]
    with _Record(directory, done) as record:
        reached = sweep.run(base, points, directory)
    return reached, record.read()


def _differences(base: Any, config: Any) -> dict[str, Any]:
    """path -> value, of the fields in which a config differs from one of the same fields."""
    before, now = (_flat(each) for each in (base, config))
    if before.keys() != now.keys():
        raise ValueError(f"seeds of a row differ in {sorted(before.keys() ^ now.keys())}")
    return {path: value for path, value in now.items() if value != before[path]}


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in config.items():
        inner = isinstance(value, type(config))
        fields |= _flat(value, f"{prefix}{name}.") if inner else {prefix + name: value}
    return fields


def _alone(
    row: Row, runs: Sequence[Run], configs: Sequence[Any], directory: Path
) -> tuple[list, list]:
    """Runs configs one after another, each in a directory that others can start from."""
    places = [directory / str(run.seed) for run in runs]
    reached, made = [], []
    for config, own in zip(configs, places, strict=True):
        with _Record(own, [own / "result.json"]) as record:
            evaluations = experiment.run(config, own)["evaluations"]
        values = {f"{e}/{m}": v for e, judged in evaluations.items() for m, v in judged.items()}
        if row.measure:
            measured = own / "measured.json"
            if not measured.exists():
                write_json(measured, row.measure(experiment.outputs(config, own)))
            values |= json.loads(measured.read_text())
        reached.append({**values, "status": "finished"})
        made += record.read()
    return reached, made


class _Record:
    """Beside a directory: by which code, on what and in how many seconds its runs were made.

    A run that ended in a sweep has its share of the sweep's time.
    """

    def __init__(self, directory: Path, results: Sequence[Path]):
        self.path, self.results = directory.with_name(f"{directory.name}.made.json"), results
        self.made = json.loads(self.path.read_text()) if self.path.exists() else {}

    def __enter__(self) -> "_Record":
        self.began = time.monotonic()
        self.pending = [str(path) for path in self.results if not path.exists()]
        self._write()
        return self

    def __exit__(self, *error: Any) -> None:
        ended = [path for path in self.pending if Path(path).exists()]
        self._write((time.monotonic() - self.began) / max(1, len(ended)))

    def _write(self, seconds: float | None = None) -> None:
        """Before the runs too: one that ends while the others are killed has its record."""
        if self.pending:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.made |= {path: {"seconds": seconds, **provenance()} for path in self.pending}
            write_json(self.path, self.made)

    def read(self) -> list[dict[str, Any]]:
        """A record a run; empty where another program made it."""
        unknown = dict.fromkeys(("seconds", *provenance()))
        return [dict(self.made.get(str(path), unknown)) for path in self.results]


def provenance() -> dict[str, str]:
    """The commit, with a + where its code has been changed, the version of jax, the device."""

    def git(*command: str) -> str:
        done = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip()

    changed = "+" if git("status", "--porcelain", "--", "*.py") else ""
    commit = git("rev-parse", "--short=12", "HEAD") + changed
    return {"commit": commit, "jax": jax.__version__, "device": jax.devices()[0].device_kind}


def cell(values: Sequence[float]) -> str:
    """Mean and 95 % t interval over seeds."""
    return str(metrics.interval(values))


def gain(ours: Sequence[float], baseline: Sequence[float]) -> str:
    """The difference paired by seed, with its interval; bold where the interval excludes 0."""
    difference = metrics.paired(ours, baseline)
    text = f"{difference.mean:+.3f} ± {difference.half_width:.3f}"
    return f"**{text}**" if abs(difference.mean) > difference.half_width else text


def table(columns: Sequence[Column], lines: Iterable[Any]) -> str:
    """A markdown table of columns: a heading, and what stands below it, made from each line."""
    cells = [[write(line) for _, write in columns] for line in lines]
    rows = [[heading for heading, _ in columns], ["---"] * len(columns), *cells]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def rank_correlation(scores: Sequence[float], accuracies: Sequence[float]) -> float:
    """Spearman's."""
    from scipy.stats import spearmanr  # slow to import

    return float(spearmanr(scores, accuracies).statistic)


def blank_figure(width: float, height: float) -> Any:
    """A figure to draw in, in inches."""
    from matplotlib.figure import Figure  # slow to import; and pyplot would keep global state

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def draw(figure: Any, path: Path, grid: str = "both", hidden: Sequence[str] = ()) -> None:
    """Writes a figure as PNG, its panels with a grid and without the frame's top and right."""
    for panel in figure.axes:
        panel.spines[["top", "right", *hidden]].set_visible(False)
        panel.grid(axis=grid, color="0.92")
    figure.savefig(path, format="png", metadata={"Software": None})


def compared(comparisons: Sequence[tuple[Comparison, Results, str]]) -> str:
    """The table of comparisons: each with the lines that it reads, and how its question is shown."""

    def pair(comparison: Comparison, results: Results) -> list[list[float]]:
        ours, baseline = (
            results.where(**columns).by_seed(comparison.metric)
            for columns in (comparison.ours, comparison.baseline)
        )
        if len(baseline) == 1:  # without randomness: the same for every seed
            baseline = dict.fromkeys(ours, next(iter(baseline.values())))
        seeds = sorted(ours.keys() & baseline.keys())
        return [[values[seed] for seed in seeds] for values in (ours, baseline)]

    columns: list[Column] = [
        ("question", lambda line: line[0]),
        ("baseline", lambda line: cell(line[1][1])),
        ("method", lambda line: cell(line[1][0])),
        ("difference", lambda line: gain(*line[1])),
        ("seeds", lambda line: str(len(line[1][0]))),
    ]
    return table(columns, [(shown, pair(c, results)) for c, results, shown in comparisons])


def save(results: Results, path: Path) -> None:
    """Writes lines as CSV, a column a field."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for line in results for key in line)))
        writer.writeheader()
        writer.writerows(results)


def read(path: Path) -> Results:
    """The lines of a CSV file, its numbers as numbers, its empty cells as None."""

    def value(text: str) -> Any:
        for number in (int, float):
            try:
                return number(text)
            except ValueError:
                pass
        return text or None

    with open(path, newline="") as file:
        return Results(
            {key: value(text) for key, text in line.items()} for line in csv.DictReader(file)
        )


def write(section: str, name: str, path: Path) -> None:
    """Puts a section between the markers of `name` in a markdown file."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = path.read_text().partition(begin)
    if not rest:
        raise SystemExit(f"{path} has no line {begin}")
    after = rest.partition(end)[2]
    path.write_text(f"{before}{begin}\n\n{section}\n\n{end}{after}")


def main(declared: Experiment, doc: str | None) -> None:
    """Runs an experiment from the command line, and writes what comes of it."""
    name = declared.folder.name
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    stem = Path(declared.file).stem
    workdir = ROOT / "runs" / (name if stem == "results" else f"{name}_{stem}")
    parser.add_argument("--seeds", type=int, default=len(declared.seeds))
    parser.add_argument("--workdir", type=Path, default=workdir)
    arguments = parser.parse_args()
    sweep.use_all_cores()
    results = declared.collect(arguments.workdir, declared.seeds[: arguments.seeds])
    save(results, declared.folder / declared.file)
    report(declared, declared.read())


def report(declared: Experiment, results: Results) -> None:
    """Writes the section, the comparisons and the figure of results."""
    if declared.section:
        section = declared.section(results)
        print(section)
        write(section, declared.folder.name, ROOT / "RESULTS.md")
    if declared.comparisons:
        lines = [(comparison, results, comparison.question) for comparison in declared.comparisons]
        write(compared(lines), "comparisons", declared.folder / "README.md")
    if declared.figure:
        declared.figure(results, declared.folder / "results.png")

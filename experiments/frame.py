"""The frame of all experiments: rows are run as sweeps, and read into a table, sections, a figure.

An experiment is a folder with a README (the question and the protocol), `section.md` (the prose
around its tables in RESULTS.md), `run.py` and what that wrote. `run.py` declares the result over
fresh seeds, and the tuning before it on seeds and splits that no result uses, each an `Experiment`,
and hands both to `main`. Started again, either goes on where it was:

    python -m experiments.NAME.run --tune
    python -m experiments.NAME.run [--seeds 10 | --seeds 2:4] [--workdir runs/NAME]
    python -m experiments.NAME.run --only method=LoRA,DELTA --only labels=100

With `--only` lines of other values stay as they were written, and with `--seeds 2:4` (the third and
the fourth) those of other seeds: a long table is run in parts.

Every line of a table has the commit, the versions and the device that made it, but those from
before there was this frame; the predictions behind its accuracies stand in `results.npz`.
"""

import argparse
import contextlib
import functools
import importlib
import importlib.metadata
import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from experiments import report
from experiments.report import Comparison, Results
from tljax import experiment
from tljax.errors import Stopped, UserError, unknown
from tljax.experiment import grid, sweep
from tljax.experiment.workdir import Another
from tljax.memory import keep_freed
from tljax.train.files import write_json

ROOT = Path(__file__).resolve().parents[1]
HEADLINES = (  # the experiments whose comparisons stand in the README, in order
    *("pretrained", "speaker", "solar_shift", "domain_shift", "adaptation", "few_shot"),
    *("garments", "multitask", "text_tasks"),
    *("self_taught", "self_taught_clustering", "zero_shot", "words"),
)
VERSIONS = ("jax", "flax", "optax", "numpy")
PROVENANCE = ("commit", *VERSIONS, "device")

Shrink = Callable[[Any], None]  # makes a config small, for the tests


Only = Mapping[str, Collection[str]]  # column -> the values of which lines are meant, as strings


class Run(NamedTuple):
    """What the config of a row may depend on."""

    seed: int
    workdir: Path  # of the experiment
    members: Mapping[str, Mapping[int, Path]] = {}  # row that was run before -> seed -> directory

    def origin(self, row: str) -> str:
        """The same seed's run of a row that comes before, as `start` names it: of the root of a
        clone, where experiments are started, so that it may be moved."""
        member = self.members[row][self.seed]
        return f"run:{member.relative_to(ROOT) if member.is_relative_to(ROOT) else member}"


Edit = Callable[[Any, Run], None]  # changes a config
Measure = Callable[[Any], Mapping[str, float]]  # of a run's outputs


class Row(NamedTuple):
    """A config with some fields changed, to be run on every seed."""

    config: str | Callable[[], Any]  # the name of a shipped config, or what makes one
    overrides: Mapping[str, Any] = {}  # path of a field -> value
    edit: Edit | None = None  # what paths cannot say; before the overrides
    columns: Mapping[str, Any] = {}  # what its lines in the table say of it
    split: str = ""  # of every evaluation, where it is not the config's own
    reads: Sequence[tuple[Mapping[str, Any], Mapping[str, str]]] = ()
    """A line of the table each: more columns, and its metrics; () is one, of the experiment's."""
    seeds: Sequence[int] = ()  # where they are not the experiment's
    measure: Measure | None = None  # more metrics
    measured: Sequence[str] = ()  # the evaluations that it reads; (): all
    after: str = ""  # a row whose seconds count as its own, as it starts from its run

    def said(self) -> list[Mapping[str, Any]]:
        """What each of its lines says of it."""
        return [{**self.columns, **columns} for columns, _ in self.reads or [({}, {})]]


class Plain(NamedTuple):
    """A row without a network: what a clever person does in ten lines of scikit-learn."""

    fit: Callable[[int], Mapping[str, Any]]
    """Seed -> column -> its value, or the classes predicted and true `[n]` of an accuracy, and what
    tells the examples from others (`fingerprint`), where networks are judged on the same."""
    columns: Mapping[str, Any] = {}
    seeds: Sequence[int] = ()  # where they are not the experiment's
    balanced: bool = False  # whether an accuracy is the mean over the classes

    def said(self) -> list[Mapping[str, Any]]:
        """What its lines say of it."""
        return [self.columns]


Rows = Mapping[str, Row | Plain]
Collect = Callable[[Rows], Results]
"""Runs rows on the seeds of an experiment; `.members`: row -> seed -> the directory of its run."""


class Experiment(NamedTuple):
    """What is run and what is made of it."""

    folder: Path
    seeds: Sequence[int]
    reads: Mapping[str, str] = {}  # column -> "evaluation/metric", or a name of `measure`'s
    rows: Callable[[], Rows] = dict
    tables: Callable[[Results], Mapping[str, Any]] | None = None  # what section.md names
    figure: Callable[[Results, Path], None] | None = None
    comparisons: Sequence[Comparison] = ()  # for README.md, the experiment's and the project's
    stages: Callable[[Collect], Results] | None = None  # in place of rows, where some need others'
    file: str = "results.csv"

    def collect(
        self,
        workdir: Path,
        seeds: Any = None,
        shrink: Shrink | None = None,
        only: Only = MappingProxyType({}),
    ) -> Results:
        """The lines of all rows on these seeds; what has finished is only read.

        `workdir` gets a directory a row, and beside it how each of its runs was made. What `only`
        does not mean is not run, unless what it means starts from it.
        """
        seeds = self.seeds if seeds is None else seeds
        places = [i for i, seed in enumerate(self.seeds, start=1) if seed in seeds]
        upto = max(places, default=len(seeds))  # of the seeds that a row has of its own
        known: dict[str, Row] = {}
        reached: dict[str, dict[int, Any]] = {}

        def swept(name: str) -> Mapping[int, Path]:
            row = known[name]
            runs = [Run(s, workdir, members) for s in row.seeds[:upto] or seeds]
            configs = {run.seed: configured(row, run, shrink) for run in runs}
            directories, reached[name] = _swept(configs, workdir / place(name), row)
            return directories

        members = Members(swept)

        def run(rows: Rows) -> Results:
            check_columns(rows, only)
            results = Results()
            known.update((name, row) for name, row in rows.items() if isinstance(row, Row))
            for name, row in rows.items():
                if not any(matches(line, only) for line in row.said()):
                    continue
                if isinstance(row, Plain):
                    results += _fitted(row, row.seeds[:upto] or seeds)
                    continue
                directories = members[name]
                before = _made(workdir / place(row.after))[1] if row.after else {}
                lines = _lines(row, directories, reached[name], before, self.reads)
                shown = [metric for metric in self.reads if metric in lines[0]]
                print(name, *(f"{m} {lines.cell(m)}" for m in shown), flush=True)
                results += lines
            return results

        run.members = members  # type: ignore[attr-defined]  # row -> seed -> its directory
        return Results(self.stages(run)) if self.stages else run(self.rows())

    def read(self) -> Results:
        """The lines that have been written; none where nothing has been run."""
        path = self.folder / self.file
        return report.read(path) if path.exists() else Results()

    def section(self, results: Results) -> str:
        """The markdown of RESULTS.md."""
        assert self.tables
        values = {"seeds": len(results.of("seed")), **self.tables(results)}
        written = (self.folder / "section.md").read_text().format(**values)
        return report.settled(written).strip()


class Members(dict[str, Mapping[int, Path]]):
    """Row -> seed -> the directory of its run; a row that is asked for is run, if it was not."""

    def __init__(self, swept: Callable[[str], Mapping[int, Path]]) -> None:
        self.swept = swept

    def __missing__(self, row: str) -> Mapping[int, Path]:
        self[row] = self.swept(row)
        return self[row]


def check_columns(rows: Rows, only: Only) -> None:
    """Refuses a column that no line of the rows has."""
    said = {column for row in rows.values() for line in row.said() for column in line}
    for name in set(only) - said:
        raise SystemExit(str(unknown("--only", name, said)))


def matches(line: Mapping[str, Any], only: Only) -> bool:
    """Whether a line has, of each column named, one of the values; without it, it may be meant."""
    return all(str(line[n]) in values for n, values in only.items() if line.get(n) is not None)


def place(row: str) -> str:
    """The name of a row's directory."""
    return re.sub(r"[^\w.=-]+", "_", row)


def shipped(name: str) -> Any:
    """A shipped config."""
    return importlib.import_module(f"tljax.configs.{name}").get_config()


def judge_at_the_end(config: Any, steps: int | None = None) -> None:
    """Nothing is evaluated or saved before the end."""
    config.evaluate_every = config.checkpoint_every = steps or config.steps


def by_writers(config: Any) -> None:
    """The same slices of scikit-learn's digits, of the order that goes writer by writer."""
    for part in (*config.streams.values(), *config.evaluate.values()):
        part.split = part.split.replace("train", "writers")


def configured(row: Row, run: Run, shrink: Shrink | None = None) -> Any:
    """The config of a row for a seed."""
    config = shipped(row.config) if isinstance(row.config, str) else row.config()
    config.seed, config.figures = run.seed, False
    if row.edit:
        row.edit(config, run)
    config.update_from_flattened_dict(row.overrides)
    for evaluation in config.evaluate.values() if row.split else ():
        evaluation.split = row.split
    if shrink:
        shrink(config)
    return config


def _lines(
    row: Row,
    members: Mapping[int, Path],
    reached: Mapping[int, Any],
    before: Any,
    reads: Mapping[str, str],
) -> Results:
    """The lines of a row: seed -> its directory, what its run reached, how the one before it was
    made."""
    lines = Results()
    for columns, wanted in row.reads or [({}, reads)]:
        for seed, values in reached.items():
            line = {**row.columns, **columns, "seed": seed}
            if both := sorted(line.keys() & wanted.keys()):
                raise ValueError(f"a metric has the name of a column: {', '.join(both)}")
            line |= {column: _metric(values, path) for column, path in wanted.items()}
            took = [values["seconds"], before[str(seed)]["seconds"] if before else 0.0]
            line["seconds"] = None if None in took else sum(took)
            line |= {name: values.get(name) for name in ("status", *PROVENANCE)}
            if examples := _examples(members[seed], wanted):
                line["predictions"] = examples
            lines.append(line)
    return lines


def _fitted(row: Plain, seeds: Sequence[int]) -> Results:
    """The lines of a row without a network; it is fitted anew every time."""
    from sklearn.metrics import accuracy_score, balanced_accuracy_score  # a second to import

    lines = Results()
    for seed in seeds:
        began, line = time.monotonic(), {**row.columns, "seed": seed}
        kept = report.Examples()
        for column, found in row.fit(seed).items():
            if isinstance(found, tuple):
                predicted, true, *examples = found
                kept[column] = predicted, true, *(examples or [""])
                judge = balanced_accuracy_score if row.balanced else accuracy_score
                found = float(judge(true, predicted))
            line[column] = found
        line |= dict(seconds=time.monotonic() - began, status="finished", **provenance())
        lines.append(line | ({"predictions": kept} if kept else {}))
    return lines


def _examples(member: Path, wanted: Mapping[str, str]) -> report.Examples:
    """The predictions behind the accuracies of a run; of one of before they were kept, none."""
    path, found = member / "predictions.npz", report.Examples()
    with np.load(path) if path.exists() else contextlib.nullcontext({}) as kept:
        data = json.loads((member / "data.json").read_text()) if kept else {}
        for column, (evaluation, _, metric) in ((c, p.partition("/")) for c, p in wanted.items()):
            names = [f"{evaluation}/{which}" for which in ("predicted", "true")]
            if metric in ("accuracy", "per_class_accuracy") and all(n in kept for n in names):
                predicted, true = (kept[name] for name in names)
                if predicted.shape == true.shape == (len(true),):
                    found[column] = predicted, true, data[f"evaluate.{evaluation}"]["fingerprint"]
    return found


def _metric(values: Mapping[str, Any], path: str) -> Any:
    """A metric that a run reached; None where it failed, or has no such evaluation."""
    evaluation = path.partition("/")[0] + "/"
    if path not in values and any(name.startswith(evaluation) for name in values):
        raise KeyError(f"{path}; there are {sorted(values)}")
    return values.get(path)


def _swept(
    configs: Mapping[int, Any], directory: Path, row: Row
) -> tuple[dict[int, Path], dict[int, Any]]:
    """Seed -> where its run lies; and what it reached, as one sweep of the first config.

    How runs are made is written down before too: one that ends while the others are killed has a
    record. Each has an equal share of the seconds.
    """
    base, points = next(iter(configs.values())), _points(configs)
    names = [member.name for member in grid.members(base, points)]
    members = {seed: directory / "members" / n for seed, n in zip(configs, names, strict=True)}
    pending = [str(s) for s, member in members.items() if not (member / "result.json").exists()]
    unknown = dict.fromkeys(("seconds", *PROVENANCE))
    record, before = _made(directory)
    made = dict.fromkeys(map(str, members), unknown) | before
    began, now = time.monotonic(), provenance() if pending else {}
    directory.parent.mkdir(parents=True, exist_ok=True)
    write_json(record, made | dict.fromkeys(pending, {"seconds": None, **now}))
    try:
        rows = sweep.run(base, points, directory)
    except Another:
        write_json(record, before)
        _set_aside(directory)
        return _swept(configs, directory, row)
    share = (time.monotonic() - began) / max(1, len(pending))
    made |= dict.fromkeys(pending, {"seconds": share, **now})
    write_json(record, made)
    reached = dict(zip(configs, rows, strict=True))
    for seed, values in reached.items():
        values |= made[str(seed)]
        if row.measure and values["status"] == "finished":
            path = members[seed] / "measured.json"  # kept, as it takes a while
            if not path.exists():
                found = experiment.outputs(configs[seed], members[seed], row.measured)
                write_json(path, row.measure(found))
            values |= json.loads(path.read_text())
    return members, reached


def _set_aside(directory: Path) -> None:
    """Makes room for the runs of a row that has been changed; those before stay, elsewhere."""
    numbered = (directory.with_name(f"{directory.name}.{n}") for n in itertools.count(1))
    kept = next(path for path in numbered if not path.exists())
    _made(directory)[0].rename(_made(kept)[0])
    directory.rename(kept)
    print(f"{directory.name} has changed: its runs before are kept as {kept.name}", flush=True)


def _points(configs: Mapping[int, Any]) -> list[dict[str, Any]]:
    """What differs in each config from the first, and its seed."""
    first, *_ = flat = [flatten_dict(config.to_dict(), sep=".") for config in configs.values()]
    for fields in flat:
        if fields.keys() != first.keys():
            raise ValueError(f"seeds of a row differ in {sorted(first.keys() ^ fields.keys())}")
    return [{k: v for k, v in fields.items() if v != first[k] or k == "seed"} for fields in flat]


def _made(directory: Path) -> tuple[Path, dict[str, dict[str, Any]]]:
    """The file beside a row's directory, and what it has: seed -> how the run was made."""
    path = directory.with_name(f"{directory.name}.made.json")
    return path, json.loads(path.read_text()) if path.exists() else {}


@functools.cache  # what a process has imported stays, whatever is committed while it runs
def provenance() -> dict[str, str]:
    """The commit, with a + where its code has been changed, versions of packages, the device."""

    def git(*command: str) -> str:
        done = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip()

    changed = "+" if git("status", "--porcelain", "--", "*.py") else ""
    commit = git("rev-parse", "--short=12", "HEAD") + changed
    device = jax.devices()[0].device_kind
    versions = map(importlib.metadata.version, VERSIONS)
    return dict(zip(PROVENANCE, (commit, *versions, device), strict=True))


def main(doc: str | None, declared: Experiment, **others: Experiment) -> None:
    """Runs an experiment, or what a flag names in its stead, and writes what comes of it."""
    keep_freed()
    parser = argparse.ArgumentParser(description=doc)
    some = dict(type=span, default=slice(None), metavar="N|FROM:TO")
    parser.add_argument("--seeds", **some, help="the first N; those from FROM on, before TO")
    parser.add_argument("--workdir", type=Path)
    how: dict[str, Any] = dict(action="append", default=[], metavar="COLUMN=VALUE,...")
    parser.add_argument("--only", **how, help="the rows of these values; others stay as they are")
    parser.set_defaults(declared=declared)
    for flag, other in others.items():
        how = dict(action="store_const", const=other, help=f"write {other.file} instead")
        parser.add_argument(f"--{flag}", dest="declared", **how)
    arguments = parser.parse_args()
    declared = arguments.declared
    name, stem = declared.folder.name, Path(declared.file).stem
    workdir = ROOT / "runs" / (name if stem == "results" else f"{name}_{stem}")
    sweep.use_all_cores()
    parts = (part.partition("=") for part in arguments.only)
    only: dict[str, list[str]] = {}
    for column, _, values in parts:
        only.setdefault(column, []).extend(re.split(",(?! )", values))  # a name may have ", "
    seeds, path = declared.seeds[arguments.seeds], declared.folder / declared.file
    try:
        results = declared.collect(arguments.workdir or workdir, seeds, only=only)
    except (UserError, Stopped) as error:  # as the command line of a run ends
        print(error, file=sys.stderr)
        raise SystemExit(128 + error.signal if isinstance(error, Stopped) else 2) from None
    part = only or arguments.seeds.start
    before = declared.read() if part and path.exists() else Results()
    if not declared.tables:  # of tuning nothing has an interval
        results = Results({k: v for k, v in li.items() if k != "predictions"} for li in results)
    report.save(merged(before, results, only), path)
    write(declared, declared.read())


def span(text: str) -> slice:
    """Which seeds a user means: "3" are the first three, "2:4" the third and the fourth."""
    match = re.fullmatch(r"(?:(\d+):)?(\d+)", text)
    if not match or int(match[1] or 0) >= int(match[2]):
        raise argparse.ArgumentTypeError(f"got {text!r}; expected N or FROM:TO")
    return slice(int(match[1]) if match[1] else None, int(match[2]))


def merged(before: Results, new: Results, only: Only) -> Results:
    """Lines as they were written, with those that `only` means, on the seeds that have been run, as
    they are now."""
    # A row may give lines of other values than its own.
    meant = {n: {*values, *(str(li[n]) for li in new if n in li)} for n, values in only.items()}
    seeds = new.of("seed")
    kept = (line for line in before if line["seed"] not in seeds or not matches(line, meant))
    return Results([*kept, *new])


def write(declared: Experiment, results: Results) -> None:
    """Writes the section, the comparisons and the figure of results."""
    name = declared.folder.name
    if declared.tables:
        report.write(declared.section(results), name, ROOT / "RESULTS.md")
    if declared.comparisons:
        lines = [(asked, results, asked.question) for asked in declared.comparisons]
        report.write(report.compared(lines), "comparisons", declared.folder / "README.md")
        report.write(headlines(), "headlines", ROOT / "README.md")
    if declared.figure:
        declared.figure(results, declared.folder / "results.png")


def headlines() -> str:
    """The comparisons of all experiments in one table, from the results.csv committed."""
    lines = []
    for name in HEADLINES:
        declared = importlib.import_module(f"experiments.{name}.run").EXPERIMENT
        page, results = f"(experiments/{name}/README.md)", declared.read()
        lines += [(asked, results, f"[{asked.question}]{page}") for asked in declared.comparisons]
    return report.compared(lines)

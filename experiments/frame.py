"""The frame of all experiments: rows are run as sweeps, and read into a table, sections, a figure.

An experiment is a folder with a README (the question and the protocol), `tune.py` (its choices, on
seeds and splits that no result uses), `run.py` (the result, over fresh seeds), `section.md` (the
prose around its tables in RESULTS.md) and what they wrote. Both declare an `Experiment`, most of
all its rows, and hand it to `main`:

    python -m experiments.NAME.tune
    python -m experiments.NAME.run [--seeds 10] [--workdir runs/NAME]

Started again, either goes on where it was. `run` writes results.csv and results.png beside itself,
its section into RESULTS.md and its comparisons into the README; every line of a table has the
commit, the version of jax and the device that made it, but those from before there was this frame.
"""

import argparse
import importlib
import inspect
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax

from experiments import report
from experiments.report import Comparison, Results
from tljax import experiment
from tljax.experiment import sweep
from tljax.train.checkpoint import write_json

ROOT = Path(__file__).resolve().parents[1]

Shrink = Callable[[Any], None]  # makes a config small, for the tests


class Run(NamedTuple):
    """What the config of a row may depend on."""

    seed: int
    workdir: Path  # of the experiment

    def origin(self, row: str) -> str:
        """The same seed's run of a row that is run alone, as `start` names it."""
        return f"run:{self.workdir / place(row) / str(self.seed)}"


Edit = Callable[[Any, Run], None]  # changes a config


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


Rows = Mapping[str, Row]
Collect = Callable[[Rows], Results]  # runs rows on the seeds of an experiment


class Experiment(NamedTuple):
    """What is run and what is made of it."""

    folder: Path
    seeds: Sequence[int]
    reads: Mapping[str, str]  # column -> "evaluation/metric", or a name of `measure`'s
    rows: Callable[[], Rows] = dict
    stages: Callable[[Collect], Results] | None = None  # in place of rows, where some need others'
    file: str = "results.csv"
    tables: Callable[[Results], Mapping[str, Any]] | None = None  # what section.md names
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

        def run(rows: Rows) -> Results:
            return collect(rows, seeds, self.reads, workdir, shrink)

        return self.stages(run) if self.stages else run(self.rows())

    def tuning(self, seeds: Sequence[int], **declared: Any) -> "Experiment":
        """The same frame, for what is chosen before on seeds that no result uses."""
        return Experiment(self.folder, seeds, self.reads, file="tuning.csv")._replace(**declared)

    def read(self) -> Results:
        """The lines that have been written."""
        return report.read(self.folder / self.file)

    def section(self, results: Results) -> str:
        """The markdown of RESULTS.md."""
        assert self.tables
        values = {"seeds": len(results.of("seed")), **self.tables(results)}
        return (self.folder / "section.md").read_text().format(**values).strip()


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


def shipped(name: str) -> Any:
    """A shipped config."""
    return importlib.import_module(f"tljax.configs.{name}").get_config()


def judge_at_the_end(config: Any, steps: int | None = None) -> None:
    """Nothing is evaluated or saved before the end."""
    config.evaluate_every = config.checkpoint_every = steps or config.steps


def configured(row: Row, run: Run, shrink: Shrink = lambda config: None) -> Any:
    """The config of a row for a seed."""
    config = shipped(row.config) if isinstance(row.config, str) else row.config()
    config.seed, config.figures = run.seed, False
    if row.edit:
        row.edit(config, run)
    change(config, {p: v(run) if inspect.isfunction(v) else v for p, v in row.overrides.items()})
    for evaluation in config.evaluate.values() if row.split else ():
        evaluation.split = row.split
    shrink(config)
    return config


def collect(
    rows: Rows,
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
    seconds: dict[str, dict[int, Any]] = {}
    for name, row in rows.items():
        of_row = (row.seeds or seeds)[: len(seeds)]
        configs = {seed: configured(row, Run(seed, workdir), shrink) for seed in of_row}
        base = configured(row, Run(0, workdir), shrink)
        directory = workdir / place(name)
        reached = _alone(row, configs, directory) if row.alone else _swept(base, configs, directory)
        made = json.loads(_record(directory).read_text())
        seconds[name] = {seed: made[str(seed)].pop("seconds") for seed in configs}
        lines = Results()
        for columns, wanted in row.reads or [({}, reads)]:
            for seed, values in zip(configs, reached, strict=True):
                took = [seconds[each][seed] for each in (name, row.after) if each]
                line = {**row.columns, **columns, "seed": seed}
                line |= {column: _metric(values, path) for column, path in wanted.items()}
                line["seconds"] = None if None in took else sum(took)
                lines.append(line | {"status": values["status"], **made[str(seed)]})
        print(name, *(f"{c} {lines.cell(c)}" for c in reads if c in lines[0]), flush=True)
        results += lines
    return results


def _metric(values: Mapping[str, Any], path: str) -> Any:
    """A metric that a run reached; None where it failed, or has no such evaluation."""
    evaluation = path.partition("/")[0] + "/"
    if path not in values and any(name.startswith(evaluation) for name in values):
        raise KeyError(f"{path}; there are {sorted(values)}")
    return values.get(path)


def _swept(base: Any, configs: Mapping[int, Any], directory: Path) -> list[Mapping[str, Any]]:
    """What configs that differ from `base` in values alone reach, as one sweep of it."""
    before = _flat(base)
    points = []
    for config in configs.values():
        now = _flat(config)
        if before.keys() != now.keys():
            raise ValueError(f"seeds of a row differ in {sorted(before.keys() ^ now.keys())}")
        point = {path: value for path, value in now.items() if value != before[path]}
        points.append({**point, "seed": config.seed})
    names = [member.name for member in sweep.members(base, points)]
    results = [directory / "members" / name / "result.json" for name in names]
    with _recorded(directory, configs, results):
        return sweep.run(base, points, directory)


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in config.items():
        inner = isinstance(value, type(config))
        fields |= _flat(value, f"{prefix}{name}.") if inner else {prefix + name: value}
    return fields


def _alone(row: Row, configs: Mapping[int, Any], directory: Path) -> list[Mapping[str, Any]]:
    """What configs reach one after another, each in a directory that others can start from."""
    reached = []
    for seed, config in configs.items():
        own = directory / str(seed)
        with _recorded(directory, [seed], [own / "result.json"]):
            evaluations = experiment.run(config, own)["evaluations"]
        values = {f"{e}/{m}": v for e, judged in evaluations.items() for m, v in judged.items()}
        if row.measure:
            measured = own / "measured.json"
            if not measured.exists():
                write_json(measured, row.measure(experiment.outputs(config, own)))
            values |= json.loads(measured.read_text())
        reached.append({**values, "status": "finished"})
    return reached


def _record(directory: Path) -> Path:
    """The file beside a row's directory: by which code, on what and how long its runs were made."""
    return directory.with_name(f"{directory.name}.made.json")


@contextmanager
def _recorded(directory: Path, seeds: Iterable[int], results: Sequence[Path]) -> Iterator[None]:
    """Records the runs that end within it; each has an equal share of the seconds.

    They are written down before too: a run that ends while the others are killed has a record.
    """
    path, unknown = _record(directory), dict.fromkeys(("seconds", "commit", "jax", "device"))
    made = json.loads(path.read_text()) if path.exists() else {}
    ended = dict.fromkeys(map(str, seeds), unknown) | made
    pending = [str(s) for s, result in zip(seeds, results, strict=True) if not result.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    began, now = time.monotonic(), provenance() if pending else {}
    write_json(path, ended | dict.fromkeys(pending, {"seconds": None, **now}))
    yield
    share = (time.monotonic() - began) / max(1, len(pending))
    write_json(path, ended | dict.fromkeys(pending, {"seconds": share, **now}))


def provenance() -> dict[str, str]:
    """The commit, with a + where its code has been changed, the version of jax, the device."""

    def git(*command: str) -> str:
        done = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip()

    changed = "+" if git("status", "--porcelain", "--", "*.py") else ""
    commit = git("rev-parse", "--short=12", "HEAD") + changed
    return {"commit": commit, "jax": jax.__version__, "device": jax.devices()[0].device_kind}


def main(declared: Experiment, doc: str | None) -> None:
    """Runs an experiment from the command line, and writes what comes of it."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    name, stem = declared.folder.name, Path(declared.file).stem
    workdir = ROOT / "runs" / (name if stem == "results" else f"{name}_{stem}")
    parser.add_argument("--seeds", type=int, default=len(declared.seeds))
    parser.add_argument("--workdir", type=Path, default=workdir)
    arguments = parser.parse_args()
    sweep.use_all_cores()
    results = declared.collect(arguments.workdir, declared.seeds[: arguments.seeds])
    report.save(results, declared.folder / declared.file)
    write(declared, declared.read())


def write(declared: Experiment, results: Results) -> None:
    """Writes the section, the comparisons and the figure of results."""
    name = declared.folder.name
    if declared.tables:
        report.write(declared.section(results), name, ROOT / "RESULTS.md")
    if declared.comparisons:
        lines = [(comparison, results, comparison.question) for comparison in declared.comparisons]
        report.write(report.compared(lines), "comparisons", declared.folder / "README.md")
    if declared.figure:
        declared.figure(results, declared.folder / "results.png")

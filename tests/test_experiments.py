"""The frame of the experiments through its public face, and what they have written."""

import argparse
import importlib
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from experiments import __main__ as everything
from experiments import frame, report
from experiments.frame import Experiment, Plain, Row, Run
from experiments.report import Comparison, Results
from tljax import metrics
from tljax.errors import Stopped, UserError

NAMES = (*frame.HEADLINES, "ablation_dann", "which_layers")


def declared(name, kind="EXPERIMENT"):
    return getattr(importlib.import_module(f"experiments.{name}.run"), kind)


@pytest.fixture
def one_row(small):
    """An experiment of one row of the small config, whose second seed has another weight."""

    def make():
        return small.copy_and_resolve_references()

    def declare(tmp_path, **overrides):
        def edit(config, run):
            config.first.terms.label.weight = 1.0 + run.seed

        rows = {"a row": Row(make, overrides, edit, columns=dict(method="ours"))}
        reads = {"accuracy": "target/accuracy"}
        return Experiment(tmp_path, seeds=range(2), reads=reads, rows=lambda: rows)

    return declare


def test_a_row_is_a_sweep_over_its_seeds_with_its_provenance(one_row, tmp_path):
    lines = one_row(tmp_path).collect(tmp_path)
    assert [(line["method"], line["seed"], line["status"]) for line in lines] == [
        ("ours", 0, "finished"),
        ("ours", 1, "finished"),
    ]
    for line in lines:
        assert 0 <= line["accuracy"] <= 1 and line["seconds"] > 0
        assert {name: line[name] for name in frame.PROVENANCE} == frame.provenance()
        predicted, true, _ = line["predictions"]["accuracy"]
        assert len(true) == 40 and np.mean(predicted == true) == pytest.approx(line["accuracy"])
    configs = [
        json.loads(path.read_text()) for path in (tmp_path / "a_row").glob("members/*/config.json")
    ]
    weights = {each["seed"]: each["first"]["terms"]["label"]["weight"] for each in configs}
    assert weights == {0: 1.0, 1: 2.0}

    # What another program has made has no provenance of ours.
    (tmp_path / "a_row.made.json").unlink()
    again = one_row(tmp_path).collect(tmp_path)
    assert [line["commit"] for line in again] == [None, None]
    assert [line["accuracy"] for line in again] == [line["accuracy"] for line in lines]


def test_a_row_that_has_changed_is_run_again_and_what_was_there_is_kept(one_row, tmp_path, capsys):
    before = one_row(tmp_path).collect(tmp_path)
    members = {path.name for path in (tmp_path / "a_row" / "members").iterdir()}
    for n in (1, 2):
        overrides = {"optimizer.learning_rate": 0.001 * n}
        changed = one_row(tmp_path, **overrides).collect(tmp_path)
        assert f"changed: its runs before are kept as a_row.{n}" in capsys.readouterr().out
        assert [line["status"] for line in changed] == ["finished"] * 2
        assert changed[0]["commit"] == frame.provenance()["commit"]
    assert {path.name for path in (tmp_path / "a_row.1" / "members").iterdir()} == members
    assert (tmp_path / "a_row.1.made.json").exists()
    # What was kept is read again in its place.
    (tmp_path / "a_row").rename(tmp_path / "changed")
    for name in ("a_row", "a_row.made.json"):
        (tmp_path / name.replace("a_row", "a_row.1")).rename(tmp_path / name)
    assert one_row(tmp_path).collect(tmp_path) == before


def test_a_run_that_diverges_is_a_line_without_metrics(one_row, tmp_path):
    lines = one_row(tmp_path, **{"optimizer.learning_rate": 1e30}).collect(tmp_path, [0])
    assert lines[0]["status"].startswith("failed: phase") and lines[0]["accuracy"] is None
    assert lines.means("accuracy", "method") == {("ours",): 0.0}
    assert lines.cell("accuracy") == "–"


def test_a_metric_that_an_evaluation_lacks_is_named(one_row, tmp_path):
    experiment = one_row(tmp_path)._replace(reads={"accuracy": "target/acuracy"})
    with pytest.raises(KeyError, match="target/acuracy; there are .*target/accuracy"):
        experiment.collect(tmp_path, [0])


def test_seeds_of_a_row_have_the_same_fields(small, tmp_path):
    def edit(config, run):
        if run.seed:
            config.tables.extra = dict(data="segments")

    rows = {"row": Row(lambda: small.copy_and_resolve_references(), edit=edit)}
    with pytest.raises(ValueError, match="seeds of a row differ in .*tables.extra.data"):
        Experiment(tmp_path, (0, 1), rows=lambda: rows).collect(tmp_path)


def test_a_row_starts_from_another_and_counts_its_seconds(small, tmp_path):
    def make():
        return small.copy_and_resolve_references()

    def only(phase, other, start=()):
        def edit(config, run):
            config.phases = (phase,)
            del config[other]
            if start:
                config[phase].start = ((start, run.origin("before")),)

        return edit

    rows = {
        "before": Row(make, edit=only("first", "second"), measure=count),
        "after": Row(make, edit=only("second", "first", "**"), after="before"),
    }
    reads = {"accuracy": "target/accuracy", "examples": "examples"}
    declared = Experiment(tmp_path, (3, 4), reads, lambda: rows)
    lines = declared.collect(tmp_path)
    assert [line["examples"] for line in lines] == [40, 40, None, None]
    made = [json.loads(p.read_text()) for p in sorted(tmp_path.glob("*.made.json"))]
    assert lines[2]["seconds"] == pytest.approx(sum(record["3"]["seconds"] for record in made))
    assert declared.collect(tmp_path) == lines
    starts = {}
    for path in tmp_path.glob("after/members/*/config.json"):
        config = json.loads(path.read_text())
        [(_, starts[config["seed"]])] = config["second"]["start"]
    for seed, origin in starts.items():
        before = json.loads((Path(origin.removeprefix("run:")) / "config.json").read_text())
        assert before["seed"] == seed and "first" in before and "second" not in before
    assert sorted(starts) == [3, 4]


def test_a_row_without_a_network_stands_among_the_others(one_row, tmp_path):
    def fit(seed):
        return {"accuracy": (np.array([0, 1, seed]), np.array([0, 1, 1])), "nmi": 0.5}

    plain = Plain(fit, dict(method="simple"), seeds=(0, 1, 2))
    lines = one_row(tmp_path)._replace(rows=lambda: {"simple": plain}).collect(tmp_path)
    assert lines.values("accuracy") == pytest.approx([2 / 3, 1.0])  # as many as are asked for
    assert lines.of("nmi") == [0.5] and lines.of("method") == ["simple"]
    assert lines[1]["predictions"]["accuracy"][0].tolist() == [0, 1, 1]
    assert {name: lines[0][name] for name in frame.PROVENANCE} == frame.provenance()


def test_only_what_is_meant_is_run_and_what_it_starts_from(small, tmp_path):
    def make():
        return small.copy_and_resolve_references()

    def alone(phase, other, start=""):
        def edit(config, run):
            config.phases = (phase,)
            del config[other]
            if start:
                config[phase].start = (("**", run.origin(start)),)

        return edit

    rows = {
        "before": Row(make, edit=alone("first", "second"), columns=dict(method="a")),
        "after": Row(make, edit=alone("second", "first", "before"), columns=dict(method="b, c")),
        "other": Row(make, columns=dict(method="b")),
        "simple": Plain(lambda seed: {"accuracy": 0.5}, dict(method="d")),
    }
    declared = Experiment(tmp_path, (0,), {"accuracy": "target/accuracy"}, lambda: rows)
    lines = declared.collect(tmp_path, only=dict(method=["b, c", "d"]))
    assert lines.of("method") == ["b, c", "d"]
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"before", "after"}
    with pytest.raises(SystemExit, match="unknown name 'metod'.*Did you mean 'method'"):
        declared.collect(tmp_path, only=dict(metod=["a"]))


def count(outputs):
    return {"examples": len(outputs["target"].labels)}


def test_a_config_has_the_edit_then_the_overrides_then_the_split():
    def edit(config, run):
        config.optimizer.learning_rate = 5.0
        config.steps = 7

    overrides = {"optimizer.learning_rate": 2.0}
    row = Row("source_only", overrides, edit, split="train[:9]")
    config = frame.configured(row, Run(4, None), lambda config: config.update(average=0.5))
    assert (config.optimizer.learning_rate, config.steps, config.seed) == (2.0, 7, 4)
    assert config.average == 0.5 and not config.figures
    assert {each.split for each in config.evaluate.values()} == {"train[:9]"}


LINES = Results(
    dict(method=method, n=n, seed=seed, accuracy=accuracy)
    for method, n, values in (
        ("baseline", 1, (0.6, 0.7, 0.8)),
        ("ours", 1, (0.8, 0.9, 0.7)),  # gains .2, .2, −.1: mean .1, t(2) = 4.3027, s = .1732
        ("ours", 2, (0.8, 0.9, 1.0)),  # gains .2: an interval of no width
    )
    for seed, accuracy in enumerate(values)
)
HALF = 4.302653 * 0.173205 / math.sqrt(3)


def test_cells_and_gains_by_hand():
    base, ours = LINES.where(method="baseline"), LINES.where(method="ours", n=1)
    assert base.cell("accuracy") == "0.700 ± 0.248"
    assert report.settled(ours.gain("accuracy", base)) == f"+0.100 ± {HALF:.3f}"
    assert report.settled(LINES.where(n=2).gain("accuracy", base)) == "**+0.200 ± 0.000**"
    assert base.gain("accuracy", base) == "–" and base.gain("accuracy", base, "") == ""
    assert LINES.best("accuracy", "method", "n") == ("ours", 2)
    assert LINES.where(method="ours").by_seed("accuracy") == pytest.approx(
        {0: 0.8, 1: 0.9, 2: 0.85}
    )


def test_only_what_holm_leaves_is_bold():
    """Gains of mean 0.3 and 0.2 with deviations of 0.1 over three seeds: t 5.196 and 3.464 with 2
    degrees of freedom, p = 1 − t / √(2 + t²): .0351 and .0742. Either alone is judged by itself;
    of two in a table the smaller p has to be below 2.5 %."""
    runs = {"base": (0.0, 0.0, 0.0), "large": (0.2, 0.3, 0.4), "small": (0.1, 0.2, 0.3)}
    lines = Results(
        dict(method=method, seed=seed, x=x)
        for method, xs in runs.items()
        for seed, x in enumerate(xs)
    )
    base, *others = (lines.where(method=method) for method in runs)
    gains = [each.gain("x", base) for each in others]
    assert float(gains[0].partition("⟨")[2][:-1]) == pytest.approx(0.0351, abs=1e-4)
    assert report.settled(gains[0]).startswith("**+0.300 ± 0.248**")
    assert report.settled(gains[1]) == "+0.200 ± 0.248"
    table = report.table([("a", str), ("b", lambda _: gains[1])], [gains[0]])
    assert table.splitlines()[2] == "| +0.300 ± 0.248 | +0.200 ± 0.248 |"
    doubled = report.table([("a", str)], ["**", "+0.300 ± 0.001⟨0.0001⟩ (3)", gains[0]])
    assert "| **+0.300 ± 0.001** (3) |\n| **+0.300" in doubled


def of_examples(predicted, true, seed, of="", **columns):
    value = float(np.mean(np.array(predicted) == true))
    examples = report.Examples(accuracy=(np.array(predicted), np.array(true), of))
    return dict(**columns, seed=seed, accuracy=value, predictions=examples)


def test_an_interval_is_one_over_the_examples_too():
    """Two seeds that agree are right on two of four: over seeds no width; over examples, whose
    deviation is √⅓, an error of √⅓ / 2, times t with 1 degree of freedom, 12.706."""
    runs = Results(of_examples([0, 1, 2, 2], [0, 1, 0, 1], seed) for seed in range(2))
    half = math.tan(math.pi * 0.475) * math.sqrt(1 / 3) / 2
    assert runs.cell("accuracy") == f"0.500 ± {half:.3f}"
    # Paired, what both get wrong alike takes no part.
    better = Results(of_examples([0, 1, 0, 2], [0, 1, 0, 1], seed) for seed in range(2))
    half = math.tan(math.pi * 0.475) * math.sqrt((0.75**2 + 3 * 0.25**2) / 3) / 2
    assert better.interval("accuracy", runs) == (0.25, pytest.approx(half))
    # Of other examples for every seed each seed's are its own; and so where none are kept.
    others = Results(of_examples([0, 1, s, s], [0, 1, 1, 0], s) for s in range(2))
    moved = Results(of_examples([0, 1, s, s], [0, 1, s, 1], s) for s in range(2))
    assert others.cell("accuracy") != moved.cell("accuracy") == "0.875 ± 1.588"
    named = Results(of_examples([0, 1, 2, 2], [0, 1, 0, 1], s, of=f"{s}") for s in range(2))
    assert named.cell("accuracy") == "0.500 ± 0.000"  # of the same classes, yet others
    # A mean over classes: 1 of class 0, ½ of class 1, for seeds that agree.
    line = of_examples([0, 1, 0], [0, 1, 1], 0) | dict(accuracy=0.75)
    found = Results([line, {**line, "seed": 1}]).interval("accuracy")
    assert found == metrics.crossed([[1.0, 1.0, 0.0]] * 2, np.array([0, 1, 1]))


def test_examples_survive_the_file(tmp_path):
    lines = Results(of_examples([0, s, 2], [0, 1, 2], s, f"{s}", method="a") for s in range(3))
    lines.insert(1, dict(method="b", seed=0, accuracy=0.5))
    lines.append(of_examples([300], [4], 0, method="c"))
    report.save(lines, tmp_path / "lines.csv")
    found = report.read(tmp_path / "lines.csv")
    for before, after in zip(lines, found, strict=True):
        assert after["method"] == before["method"]
        assert after.get("predictions") == before.get("predictions")
    assert found[0]["predictions"] != found[2]["predictions"]
    assert "predictions" not in (tmp_path / "lines.csv").read_text()
    report.save(Results(lines[1:2]), tmp_path / "lines.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["lines.csv"]


def test_comparisons_by_hand():
    # A method that leaves nothing to chance has one line, and stands against every seed.
    lines = Results([*LINES, dict(method="fixed", n=1, seed=0, accuracy=0.75)])
    compared = [
        (Comparison("q", "accuracy", "ours", "baseline", dict(n=1), "so it is"), lines, "shown"),
        (Comparison("q", "accuracy", "ours", "fixed", dict(n=1)), lines, "fixed"),
    ]
    table = report.compared(compared).splitlines()
    shown = f"+0.100 ± {HALF:.3f} | 3 | not shown | so it is |"
    assert table[2] == f"| shown | 0.700 ± 0.248 | 0.800 ± 0.248 | {shown}"
    assert (
        table[3] == "| fixed | 0.750 ± 0.000 | 0.800 ± 0.248 | +0.050 ± 0.248 | 3 | not shown |  |"
    )
    # Gains of .2 for every seed, and back: what holds, and what holds the other way round.
    asked = [("ours", "baseline"), ("baseline", "ours")]
    found = Results(line for line in LINES if line["n"] == 2 or line["method"] == "baseline")
    turned = report.compared([(Comparison("", "accuracy", *pair), found, "") for pair in asked])
    assert "| **+0.200 ± 0.000** | 3 | yes |" in turned.splitlines()[2]
    assert "| **-0.200 ± 0.000** | 3 | no, the reverse |" in turned.splitlines()[3]


def test_lines_survive_the_file(tmp_path):
    lines = Results([dict(method="a, b", rate=0.1, seed=3, x=None), dict(method="c", n=2)])
    report.save(lines, tmp_path / "lines.csv")
    read = report.read(tmp_path / "lines.csv")
    assert read == [
        dict(method="a, b", rate=0.1, seed=3, x=None, n=None),
        dict(method="c", rate=None, seed=None, x=None, n=2),
    ]


def test_a_section_is_written_between_its_markers_only(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("above\n<!-- x -->\nold\n<!-- end of x -->\nbelow\n")
    for section in ("new", "newer"):
        report.write(section, "x", path)
    assert path.read_text() == "above\n<!-- x -->\n\nnewer\n\n<!-- end of x -->\nbelow\n"
    with pytest.raises(SystemExit, match="has no line"):
        report.write("new", "y", path)


def test_a_flag_names_what_is_run_instead(tmp_path, monkeypatch):
    asked = []

    def collect(declared, workdir, seeds, only):
        asked.append(only)
        return Results(dict(method=workdir.name, seed=seed) for seed in seeds)

    monkeypatch.setattr(Experiment, "collect", collect)
    monkeypatch.setattr(frame.sweep, "use_all_cores", lambda: None)
    result = Experiment(tmp_path, range(3))
    tuning = Experiment(tmp_path, (100, 101), file="tuning.csv")
    assert not tuning.read()  # nothing has been run
    for arguments in (["--seeds", "2"], ["--tune"]):
        monkeypatch.setattr("sys.argv", ["run.py", *arguments])
        frame.main("", result, tune=tuning)
    assert result.read() == [dict(method=tmp_path.name, seed=seed) for seed in (0, 1)]
    assert tuning.read() == [dict(method=f"{tmp_path.name}_tuning", seed=s) for s in (100, 101)]
    monkeypatch.setattr(
        "sys.argv", ["run.py", "--only", "a=1,x, y", "--only", "a=2", "--only", "b="]
    )
    frame.main("", result)
    assert asked[-1] == dict(a=["1", "x, y", "2"], b=[""])


def test_seeds_are_run_in_parts(tmp_path, monkeypatch):
    """Lines of the seeds before stay; rows of seeds of their own are wanted up to the last."""
    made, rows = [], {"own": Row("dann", seeds=(7, 8, 9)), "usual": Row("dann")}

    def swept(configs, directory, row):
        made.append((directory.name, list(configs)))
        found = dict(status="finished", seconds=1.0)
        return {s: directory for s in configs}, {s: dict(found) for s in configs}

    monkeypatch.setattr(frame, "_swept", swept)
    monkeypatch.setattr(frame, "_examples", lambda *_: None)
    monkeypatch.setattr(frame.sweep, "use_all_cores", lambda: None)
    declared = Experiment(tmp_path, range(4), rows=lambda: rows)
    for part in ("2", "2:3"):
        monkeypatch.setattr("sys.argv", ["run.py", "--seeds", part])
        frame.main("", declared)
    assert made == [("own", [7, 8]), ("usual", [0, 1]), ("own", [7, 8, 9]), ("usual", [2])]
    assert sorted(line["seed"] for line in declared.read()) == [0, 1, 2, 7, 8, 9]


def test_a_metric_does_not_take_a_columns_place(tmp_path):
    row, reached = Row("dann", columns=dict(source="a")), {0: dict(seconds=1.0)}
    with pytest.raises(ValueError, match="a metric has the name of a column: source"):
        frame._lines(row, {0: tmp_path}, reached, {}, {"source": "source/accuracy"})


@pytest.mark.parametrize("text", ["", "x", "2:", "2:2", "0", "-1"])
def test_seeds_that_are_none_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected N or FROM:TO"):
        frame.span(text)


@pytest.mark.parametrize("name", NAMES)
def test_pages_say_what_the_results_say(name):
    experiment = declared(name)
    results = experiment.read()

    def between(page, marker):
        text = page.read_text()
        return text.partition(f"<!-- {marker} -->\n\n")[2].partition("\n\n<!-- end of")[0]

    assert between(frame.ROOT / "RESULTS.md", name) == experiment.section(results)
    if experiment.comparisons:
        lines = [(each, results, each.question) for each in experiment.comparisons]
        assert between(experiment.folder / "README.md", "comparisons") == report.compared(lines)


def test_the_readme_has_every_comparison():
    assert f"\n\n{frame.headlines()}\n\n" in (frame.ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_drawn_of_the_results(name, tmp_path):
    experiment = declared(name)
    results = experiment.read()
    for seeds in (results.of("seed"), [0]):
        some = Results(line for line in results if line["seed"] in seeds)
        experiment.figure(some, tmp_path / "figure.png")
        assert (tmp_path / "figure.png").stat().st_size > 10_000


# The last two tune each draw on its own labels, and on other voices.
@pytest.mark.parametrize("name", sorted(set(NAMES) - {"ablation_dann", "pretrained", "speaker"}))
def test_no_result_uses_the_seeds_of_its_tuning(name):
    used = set(declared(name).read().of("seed"))
    tuned = set(declared(name, "TUNING").read().of("seed"))
    assert used and tuned and (not used & tuned or name == "zero_shot")


def test_garments_are_tuned_on_a_seed_of_their_own():
    used, tuned = (declared("zero_shot", kind).read() for kind in ("EXPERIMENT", "TUNING"))
    for data in ("fashion", "digits"):
        assert not set(used.where(data=data).of("seed")) & set(tuned.where(data=data).of("seed"))


@pytest.mark.parametrize(
    "name", ("domain_shift", "multitask", "few_shot", "which_layers", "solar_shift")
)
def test_a_table_of_tuning_has_the_rows_that_are_declared(name):
    tuning = declared(name, "TUNING")
    written = tuning.read()
    said = [columns for row in tuning.rows().values() for columns in row.said()]
    assert len(written) == len(said) * len(tuning.seeds)
    for columns in said:
        columns = {key: value for key, value in columns.items() if key in written[0]}
        assert len(written.where(**columns)) == len(tuning.seeds), columns


def test_what_the_ablation_teaches_stands_in_its_tables():
    experiment = declared("ablation_dann")
    section = experiment.section(experiment.read())
    teaches = (experiment.folder / "README.md").read_text().partition("## What it teaches")[2]
    numbers = re.findall(r"[+-]?\d\.\d{3} ± \d\.\d{3}|[+-]?\d\.\d{2,}(?! ±)\b", teaches)
    assert len(numbers) > 20
    assert [number for number in numbers if number not in section] == []


def test_what_all_experiments_take_is_said_before_they_run(capsys):
    """By hand: 90 + 30 s are 2 min, 4 h are long, and a line without seconds tells nothing."""
    lines = {
        "short": Results([dict(seconds=90.0), dict(seconds=30.0), dict(seconds=None)]),
        "long": Results([dict(seconds=4 * 3600.0)]),
        "old": Results([dict(seed=1)]),
    }
    assert everything.said(lines) == [
        "short: the 3 lines that are written took 2 min",
        "long: the 1 lines that are written took 240 min, better in parts (--only)",
        "old: the 1 lines that are written took an unknown time",
        "all: 4.0 h where it is known",
    ]
    assert everything.main(["domain_shift", "--say"]) == 0
    assert capsys.readouterr().out.startswith("domain_shift: the 50 lines")
    assert set(NAMES) < set(everything.names())
    with pytest.raises(SystemExit) as ended:
        everything.main(["domain_shfit"])
    assert ended.value.code == 2 and "mean 'domain_shift'" in capsys.readouterr().err


def test_curves_of_one_seed_have_no_bars(tmp_path):
    report.curves({"a": {"b": {1: [0.5], 2: np.array([0.7])}}}, tmp_path / "x.png", "x")
    assert (tmp_path / "x.png").stat().st_size > 5_000


def test_a_table_is_run_in_parts(one_row, tmp_path, monkeypatch, capsys):
    """Rows of other values are neither run nor rewritten; a row may give lines of other values."""
    [row] = one_row(tmp_path).rows().values()
    rows = {name: row._replace(columns=dict(method=name)) for name in ("ours", "theirs")}

    def stages(collect):
        lines = collect(rows)
        return lines + Results({**li, "method": "both"} for li in lines.where(method="theirs"))

    part = one_row(tmp_path)._replace(stages=stages)
    lines = part.collect(tmp_path / "runs", only={"method": ["ours"]})
    assert lines.of("method") == ["ours"] and not (tmp_path / "runs" / "theirs").exists()
    report.save(
        Results([*lines, {"method": "theirs", "seed": 7, "accuracy": 0.5}]),
        tmp_path / "results.csv",
    )
    for _ in range(2):
        monkeypatch.setattr(
            "sys.argv", ["run", f"--workdir={tmp_path / 'runs'}", "--only=method=theirs"]
        )
        frame.main("", part)
        after = part.read()
        twice = [("theirs", 0), ("theirs", 1), ("both", 0), ("both", 1)]
        expected = [("ours", 0), ("ours", 1), ("theirs", 7), *twice]
        assert [(li["method"], li["seed"]) for li in after] == expected
        assert after.where(method="ours").values("accuracy") == lines.values("accuracy")
    with pytest.raises(SystemExit, match=r"--only: .*'metod'.*mean 'method'\?"):
        part.collect(tmp_path / "runs", only={"metod": ["ours"]})


@pytest.mark.parametrize(
    ("error", "code"), [(UserError("workdir: held"), 2), (Stopped("stopped at step 3", 15), 143)]
)
def test_what_ends_an_experiment_is_a_line(one_row, tmp_path, monkeypatch, capsys, error, code):
    def ended(collect):
        raise error

    monkeypatch.setattr("sys.argv", ["run", f"--workdir={tmp_path / 'runs'}"])
    with pytest.raises(SystemExit) as told:
        frame.main("", one_row(tmp_path)._replace(stages=ended))
    assert told.value.code == code and capsys.readouterr().err == f"{error}\n"
    assert not (tmp_path / "results.csv").exists()


def test_lines_that_have_no_column_are_merged_with_those_that_have():
    """Rows that others start from say nothing of what these say of themselves."""
    source, others = dict(known=20, seed=0), [dict(told=told, seed=0, test=1.0) for told in (1, 2)]
    before = Results([dict(source, known=5), dict(others[0], test=0.0), others[1]])
    only = {"told": ["1"], "known": ["20"]}
    assert frame.merged(before, Results([source, others[0]]), only) == [
        dict(source, known=5),
        others[1],
        source,
        others[0],
    ]


AGAIN = {  # experiment -> rows that take seconds, also without the compiler's optimizations
    "multitask": ["multitask_digits-digits alone-2"],
    "self_taught": ["pixels", "label spreading-1", "PCA, softmax-5"],
    "self_taught_clustering": ["pixels", "Ward"],
    "zero_shot": ["digits-eszsl", "digits-two support vector machines"],
}


@pytest.mark.parametrize("name", AGAIN)
def test_todays_code_gives_what_is_written(name, tmp_path):
    """One seed of each table; training magnifies rounding: hence a share of 0.04."""
    experiment = declared(name)
    rows = {row: experiment.rows()[row] for row in AGAIN[name]}
    seed, written = experiment.seeds[0], experiment.read()
    for line in experiment._replace(rows=lambda: rows).collect(tmp_path, [seed]):
        said = {key: line[key] for row in rows.values() for key in row.said()[0] if key in line}
        [before] = written.where(**said, seed=seed)
        for column in {"accuracy", "target", "unseen", "harmonic", "nmi"} & line.keys():
            if line[column] is not None:
                assert line[column] == pytest.approx(before[column], abs=0.04), (line, before)

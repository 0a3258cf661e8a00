"""A search: what it may choose by, that it learns, and that it goes on where it was killed."""

import csv
import json
import sys
from statistics import fmean

import pytest
from shrunk import shrunk_dann

from tljax.errors import UserError
from tljax.experiment import choice, grid, search, sweep
from tljax.experiment.search import Distribution
from tljax.main import main
from tljax.report import tables
from tljax.train.records import Display

SPACE = search.parse(["terms.domain.weight=log(0.01, 10)", "optimizer.learning_rate=uniform(0, 1)"])


@pytest.fixture(scope="module")
def config():
    config = shrunk_dann()
    config.evaluate.validator = dict(config.evaluate.target, labelled=False)
    return config


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_space_is_parsed():
    over = [
        "terms.domain.weight=log(0.01, 10)",
        "optimizer.learning_rate=uniform(0,1)",
        "steps=integer(100,1000)",
        "optimizer.name= choice(sgd, adam) ",
        "network.trunk.channels=choice((4, 4), (8, 8))",
    ]
    assert search.parse(over) == {
        "terms.domain.weight": Distribution("log", (0.01, 10.0)),
        "optimizer.learning_rate": Distribution("uniform", (0.0, 1.0)),
        "steps": Distribution("integer", (100, 1000)),
        "optimizer.name": Distribution("choice", ("sgd", "adam")),
        "network.trunk.channels": Distribution("choice", ((4, 4), (8, 8))),
    }


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("steps", "got 'steps'; expected PATH=uniform"),
        ("steps=5", "expected PATH=uniform"),
        ("steps=integer(1, 5", "expected PATH=uniform"),
        ("steps=integer()", "expected PATH=uniform"),
        ("=integer(1, 5)", "expected PATH=uniform"),
        ("steps=(1, 5)", "expected PATH=uniform"),
        ("steps=intger(1, 5)", "--over steps: unknown name 'intger'.*Did you mean 'integer'"),
        ("steps=integer(5, 5)", "low is the lower"),
        ("steps=integer(1, 5.0)", "two integers"),
        ("steps=integer(1)", "two integers"),
        ("average=uniform(1, 0.5)", "low is the lower"),
        ("average=uniform(0, 0.1, 1)", "two finite numbers"),
        ("average=uniform(low, high)", "two finite numbers"),
        ("average=uniform(False, True)", "two finite numbers"),
        ("average=uniform(0, 1e999)", "two finite numbers"),
        ("average=uniform(0, nan)", "two finite numbers"),
        ("average=log(0, 1)", "a low above 0"),
        ("optimizer.name=choice(sgd)", "two or more values"),
        ("optimizer.name=choice(sgd, adam, sgd)", "each once"),
        ("seed=integer(0, 9)", "the best seed is luck; see --seeds"),
    ],
)
def test_what_is_no_space_is_refused(argument, says):
    with pytest.raises(UserError, match=says):
        search.parse([argument])


def test_a_field_given_twice_is_refused():
    with pytest.raises(UserError, match="'steps' is given twice"):
        search.parse(["steps=integer(1, 5)", "steps=integer(1, 9)"])


@pytest.mark.parametrize(
    ("over", "select", "says"),
    [
        ("terms.domain.weigt=log(1, 2)", "", "unknown name 'weigt'.*Did you mean 'weight'"),
        ("terms.domain.weight=choice(low, high)", "", "got 'low'; expected a finite number"),
        ("optimizer.name=uniform(0, 1)", "", "optimizer.name: unknown name '0.0'"),
        ("steps=uniform(1, 5)", "", "steps: got 1.0; expected an integer"),
        ("optimizer.learning_rate=uniform(-1, 1)", "", "learning_rate.*got -1.0"),
        ("average=uniform(0, 1)", "", "average.*got 1.0"),
        ("optimizer.name=choice(sgd, adm)", "", "optimizer.name.*Did you mean 'adam'"),
        ("average=uniform(0, 0.5)", "target/accuracy", "chosen by test labels is no result"),
        ("average=uniform(0, 0.5)", "validater/entropy", "Did you mean 'validator'"),
        ("evaluate.validator.labelled=choice(False, True)", "", "test labels is no result"),
    ],
)
def test_mistakes_are_refused_before_anything_runs(config, tmp_path, over, select, says):
    with pytest.raises(UserError, match=says):
        search.run(config, search.parse([over]), tmp_path / "run", select=select)
    assert not (tmp_path / "run").exists()


def test_a_config_without_anything_to_choose_by_is_refused(tiny, tmp_path):
    with pytest.raises(UserError, match="the config has neither.*labelled=False"):
        search.run(tiny, SPACE, tmp_path / "run")


def test_counts_and_an_empty_space_are_refused(config, tmp_path):
    with pytest.raises(UserError, match="--trials: got 0; expected an integer of at least 1"):
        search.run(config, SPACE, tmp_path / "run", trials=0)
    with pytest.raises(UserError, match="--over: got .*expected PATH=uniform"):
        search.run(config, {}, tmp_path / "run")


def test_without_optuna_it_says_what_to_install(config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'tljax\[search\]'"):
        search.run(config, SPACE, tmp_path / "run")


@pytest.fixture
def searched(config, tmp_path, monkeypatch):
    """A search whose runs reach what a formula says: the best rate is 0.7, at any weight."""

    def rows(config, points, *_):
        names = [grid.members(config, [point])[0].name for point in points]
        reached = [-((point["optimizer.learning_rate"] - 0.7) ** 2) for point in points]
        return [
            {"member": name, "status": "finished", "validator/worth": r, "validator/loss": -r}
            for name, r in zip(names, reached, strict=True)
        ]

    monkeypatch.setattr(sweep, "run", rows)
    (tmp_path / "run").mkdir()

    def run(**how):
        found = search.run(config, SPACE, tmp_path / "run", **how)
        return [trial.point for trial in sorted(found, key=lambda trial: trial.number)]

    return run


def test_more_trials_begin_the_same(searched):
    whole = searched(trials=40, select="validator/worth")
    assert len({str(point) for point in whole}) == 40
    for fewer in (1, 13, 24):
        assert searched(trials=fewer, select="validator/worth") == whole[:fewer]


def test_it_learns_and_knows_in_which_direction(searched):
    """Drawn at random, rates are ∫|x − 0.7| = (0.7² + 0.3²) / 2 = 0.29 away from the best."""
    for select in ("validator/worth", "validator/loss"):
        points = searched(trials=48, select=select)
        away = [abs(point["optimizer.learning_rate"] - 0.7) for point in points]
        assert fmean(away[-16:]) < 0.29 / 2


def test_an_unknown_metric_is_refused_with_those_there_are(searched):
    with pytest.raises(UserError, match="'validator/wurth'.*Did you mean 'validator/worth'"):
        searched(trials=4, select="validator/wurth")


HOW = dict(trials=16, batch=4)  # the last batch is drawn by what the others reached


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("search") / "run"
    return workdir, search.run(config, SPACE, workdir, **HOW)


def test_a_trial_is_worth_what_its_run_reached(whole):
    workdir, trials = whole
    rows = {row["terms.domain.weight"]: row for row in table(workdir / "results.csv")}
    assert len(rows) == 16 and {row["seed"] for row in rows.values()} == {"0"}
    key = "validator/information_maximisation"
    for trial, written in zip(trials, table(workdir / "search.csv"), strict=True):
        row = rows[str(trial.point["terms.domain.weight"])]
        assert row["optimizer.learning_rate"] == str(trial.point["optimizer.learning_rate"])
        result = json.loads((workdir / "members" / row["member"] / "result.json").read_text())
        assert trial.values == (result["evaluations"]["validator"]["information_maximisation"],)
        assert written[key] == str(trial.values[0]) and written["half_width"] == ""
        assert written["trial"] == str(trial.number) and written["status"] == "finished"
    reached = [trial.values[0] for trial in trials]
    assert reached == sorted(reached, reverse=True)


class Death(BaseException):
    pass


@pytest.mark.parametrize("after", [3, 8])
def test_killed_it_goes_on_and_ends_the_same(config, whole, tmp_path, monkeypatch, after):
    workdir, trials = whole
    left = [after]

    def advance(self, step):
        left[0] -= 1
        if not left[0]:
            raise Death

    with monkeypatch.context() as patch:
        patch.setattr(Display, "advance", advance)
        with pytest.raises(Death):
            search.run(config, SPACE, tmp_path / "run", **HOW)
    members = tmp_path / "run" / "members"
    assert 0 < len(list(members.glob("*/result.json"))) < 16
    assert search.run(config, SPACE, tmp_path / "run", **HOW) == trials
    for name in ("results.csv", "search.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (workdir / name).read_bytes()


def test_the_report_reads_it(whole, capsys):
    workdir, trials = whole
    tables.show(workdir)
    assert "validator/information_maximisation" in capsys.readouterr().out.replace("\n", "")
    loaded, rows = tables.load(workdir)
    first = choice.best(rows, choice.default(loaded), loaded)[0]
    assert first == tuple(trials[0].point.values())
    drawn = {path.name for path in (workdir / "report").iterdir()}
    assert {"curves_target.png", "effects_target.png", "report.md"} <= drawn


def test_a_trial_with_a_run_that_broke_failed_and_the_others_have_intervals(config, tmp_path):
    space = search.parse(["optimizer.learning_rate=choice(0.01, 1e38, 0.02)"])
    trials = search.run(config, space, tmp_path / "run", trials=4, batch=4, seeds=2)
    ended = {trial.point["optimizer.learning_rate"]: trial.values for trial in trials}
    assert ended.pop(1e38) == () and trials[-1].values == () and ended
    assert all(len(values) == 2 for values in ended.values())
    *finished, failed = table(tmp_path / "run" / "search.csv")
    assert failed["status"] == "failed" and failed["validator/information_maximisation"] == ""
    low, high = sorted(trials[0].values)
    assert float(finished[0]["validator/information_maximisation"]) == pytest.approx(
        (low + high) / 2
    )
    # t(1) = 12.7062; the standard error of two is half of what parts them.
    assert float(finished[0]["half_width"]) == pytest.approx(12.7062 * (high - low) / 2, rel=1e-4)


CONFIG = """
from shrunk import shrunk_dann

def get_config():
    config = shrunk_dann()
    config.evaluate.chooser = dict(config.evaluate.target, validation=True)
    return config
"""


def test_the_command_says_what_it_chose_by(tmp_path, capsys):
    (tmp_path / "config.py").write_text(CONFIG)
    where = [f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / 'run'}"]
    over = "--over=optimizer.learning_rate=uniform(0.01, 0.1)"
    command = ["tljax", "search", *where, over, "--trials=3", "--batch=2", "--select=chooser/loss"]
    assert main(command) == 0
    captured = capsys.readouterr()
    said = captured.err.splitlines()
    rows = table(tmp_path / "run" / "search.csv")
    trial, rate = rows[0]["trial"], rows[0]["optimizer.learning_rate"]
    assert said[-2:] == [
        "Chosen by the lowest chooser/loss: evaluation 'chooser' is marked validation=True",
        f"Trial {trial}: --config.optimizer.learning_rate={rate}",
    ]
    assert captured.out.startswith("trial\toptimizer.learning_rate\tchooser/loss\n")
    losses = [float(row["chooser/loss"]) for row in rows]
    assert len(losses) == 3 and losses == sorted(losses)


def test_a_search_of_which_nothing_is_left_chooses_nothing(tmp_path, capsys):
    (tmp_path / "config.py").write_text(CONFIG)
    where = [f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / 'run'}"]
    over = "--over=optimizer.learning_rate=uniform(1e37, 1e38)"
    assert main(["tljax", "search", *where, over, "--trials=2"]) == 0
    assert "No choice is made: every trial failed" in capsys.readouterr().err
    assert main(["tljax", "report", str(tmp_path / "run")]) == 0
    assert "No choice is made: every run failed" in capsys.readouterr().out
    assert main(["tljax", "search", *where, "--over=average=lgo(1, 2)"]) == 2
    assert "Did you mean 'log'" in capsys.readouterr().err

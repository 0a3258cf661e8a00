"""Many runs as one program: each as it would be alone, whatever happens to the others."""

import csv
import json

import jax
import numpy as np
import pytest
from pyarrow import parquet
from shrunk import shrunk_dann

import tljax
from tljax import experiment
from tljax.errors import UserError
from tljax.experiment import choice, grid, group, sweep
from tljax.main import main
from tljax.report import tables
from tljax.train import lanes
from tljax.train.records import Display, read

GRID = ("seed=range(3)", "terms.domain.weight=0,1.0")


def left_by(workdir):
    names = ("metrics.jsonl", "result.json", "predictions.npz")
    return tuple((workdir / name).read_bytes() for name in names)


def member(rows, **point):
    """The name of the member at a point."""
    [found] = [r for r in rows if all(r[key] == value for key, value in point.items())]
    return found["member"]


@pytest.fixture(scope="module")
def config():
    config = shrunk_dann()
    config.evaluate.validator = dict(config.evaluate.target, labelled=False)
    return config


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """A sweep of six runs over four devices, so that two places are left over."""
    workdir = tmp_path_factory.mktemp("sweep") / "run"
    return workdir, sweep.run(config, grid.parse(GRID), workdir)


def test_values_are_parsed():
    assert grid.parse(["seed=range(2, 6, 2)"]) == [{"seed": 2}, {"seed": 4}]
    assert grid.parse(["a.b=0,0.5", "c=sgd,adam"]) == [
        {"a.b": a, "c": c} for a in (0, 0.5) for c in ("sgd", "adam")
    ]
    assert grid.parse(["train=(('**', 1.0),),"]) == [{"train": (("**", 1.0),)}]


@pytest.mark.parametrize(
    ("over", "says"),
    [
        ("terms.domain.weigt=1", "unknown name 'weigt'.*Did you mean 'weight'"),
        ("terms.domian.weight=1", "unknown name 'domian'.*Did you mean 'domain'"),
        ("terms.domain.weight=high", "got 'high'; expected a finite number"),
        ("seed=0.5", "seed.*got 0.5"),
        ("seed", "expected PATH=VALUES"),
        ("seed=", "expected PATH=VALUES"),
        ("seed=range(x)", "range"),
        ("optimizer.name=sdg", "optimizer.name.*Did you mean 'sgd'"),
    ],
)
def test_mistakes_are_refused_before_anything_runs(config, tmp_path, over, says):
    with pytest.raises(UserError, match=says):
        sweep.run(config, grid.parse([over]), tmp_path / "run")
    assert not (tmp_path / "run" / "members").exists()


def test_a_field_given_twice_is_refused():
    with pytest.raises(UserError, match="given twice"):
        grid.parse(["seed=1", "seed=2"])


def test_equal_points_are_one_member(config):
    assert len(grid.members(config, [{"seed": 1}, {"seed": 1}, {"seed": 2}])) == 2
    weights = [{"terms.domain.weight": weight} for weight in (1, 1.0)]
    assert len(grid.members(config, weights)) == 1


def test_numbers_share_a_program_and_structure_does_not(config, tmp_path):
    def programs(*over):
        units = sweep.built(grid.members(config, grid.parse(over)), tmp_path)
        return len({group.structure(unit) for unit in units})

    numbers = ("seed=0,1", "terms.domain.weight=0,1.0", "optimizer.learning_rate=0.1,0.2")
    assert programs(*numbers) == 1
    assert programs("streams.source.batch=8,4") == 2
    assert programs("steps=6,9") == 2


def test_every_member_is_bit_for_bit_the_run_that_it_would_be_alone(config, whole, tmp_path):
    workdir, rows = whole
    assert len(rows) == 6 and {row["status"] for row in rows} == {"finished"}
    for point in ({"seed": 1, "terms.domain.weight": 1.0}, {"seed": 2, "terms.domain.weight": 0}):
        alone = config.copy_and_resolve_references()
        alone.seed = point["seed"]
        alone.terms.domain.weight = float(point["terms.domain.weight"])
        experiment.run(alone, tmp_path / str(point["seed"]))
        name = member(rows, **point)
        assert left_by(tmp_path / str(point["seed"])) == left_by(workdir / "members" / name)


def test_the_table_is_tidy(whole):
    workdir, rows = whole
    with open(workdir / "results.csv", newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["member"] for row in written] == [row["member"] for row in rows]
    assert {(row["seed"], row["terms.domain.weight"]) for row in written} == {
        (str(seed), weight) for seed in range(3) for weight in ("0", "1.0")
    }
    table = parquet.read_table(workdir / "results.parquet").to_pylist()
    for row, stored in zip(rows, table, strict=True):
        result = json.loads((workdir / "members" / row["member"] / "result.json").read_text())
        accuracy = result["evaluations"]["target"]["accuracy"]
        assert row["target/accuracy"] == stored["target/accuracy"] == accuracy


def test_a_wider_sweep_runs_what_is_new(config, whole, monkeypatch):
    workdir, rows = whole
    before = {row["member"]: left_by(workdir / "members" / row["member"]) for row in rows}
    ran = []
    original = sweep.finish
    monkeypatch.setattr(
        sweep, "finish", lambda units, *rest: (ran.extend(units), original(units, *rest))[1]
    )
    wider = sweep.run(config, grid.parse([GRID[0], "terms.domain.weight=0,1.0,2.0"]), workdir)
    assert len(wider) == 9 and len(ran) == 3
    for name, files in before.items():
        assert left_by(workdir / "members" / name) == files


class Death(BaseException):
    pass


@pytest.mark.parametrize("after", [1, 2])
def test_killed_it_goes_on_and_ends_the_same(config, whole, tmp_path, monkeypatch, after):
    workdir, rows = whole
    left = [after]

    def advance(self, step):
        left[0] -= 1
        if not left[0]:
            raise Death

    with monkeypatch.context() as patch:
        patch.setattr(Display, "advance", advance)
        with pytest.raises(Death):
            sweep.run(config, grid.parse(GRID), tmp_path / "run")
    again = sweep.run(config, grid.parse(GRID), tmp_path / "run")
    assert again == rows
    for row in rows:
        ended = left_by(tmp_path / "run" / "members" / row["member"])
        assert ended == left_by(workdir / "members" / row["member"])


def test_a_member_that_breaks_is_left_and_reported_and_the_others_go_on(config, whole, tmp_path):
    workdir, rows = whole
    broken = grid.parse(["seed=0", "terms.domain.weight=1.0", "optimizer.learning_rate=1e38"])
    fine = [{"seed": 0, "terms.domain.weight": 1.0}]
    [bad, good] = sweep.run(config, [*broken, *fine], tmp_path / "run")
    assert bad["status"].startswith("failed: phase train: ") and "at step" in bad["status"]
    assert "target/accuracy" not in bad
    assert good["status"] == "finished"
    name = member(rows, **fine[0])
    assert good["member"] == name
    assert left_by(tmp_path / "run" / "members" / name) == left_by(workdir / "members" / name)


def test_another_config_is_refused(config, whole):
    other = config.copy_and_resolve_references()
    other.steps = 9
    with pytest.raises(UserError, match=r"workdir: .*differ: steps \(6 there, 9 here\)"):
        sweep.run(other, grid.parse(GRID), whole[0])


def test_the_report_draws_and_ranks_without_test_labels(config, whole, capsys):
    workdir, _ = whole
    tables.show(workdir)
    assert "validator/information_maximisation" in capsys.readouterr().out.replace("\n", "")
    drawn = {path.name for path in (workdir / "report").iterdir()}
    assert {"curves_target.png", "effects_target.png", "report.md"} <= drawn
    loaded, rows = tables.load(workdir)
    key = "validator/information_maximisation"
    means = {
        point: np.mean([row[key] for row in group]) for point, group in choice.grouped(rows).items()
    }
    assert choice.best(rows, key, loaded)[0] == max(means, key=means.get)
    with pytest.raises(UserError, match="what is chosen by test labels is no result"):
        choice.best(rows, "target/accuracy", loaded)
    with pytest.raises(UserError, match="Did you mean 'validator'"):
        choice.best(rows, "validater/entropy", loaded)


def test_a_collapsed_point_is_last_by_a_validator_that_would_like_it(whole):
    """All of class 3 with certainty: an entropy of 0, and no information."""
    config, _ = tables.load(whole[0])
    values = [(1, 0.0, 0.1, 3.0), (2, 0.4, 0.3, None), (3, 0.6, 0.9, None)]
    names = [f"validator/{name}" for name in ("entropy", "information_maximisation")]
    names.append("validator/constant_class")
    rows = [
        dict(
            member="m",
            status="finished",
            weight=weight,
            seed=0,
            **dict(zip(names, own, strict=True)),
        )
        for weight, *own in values
    ]
    assert choice.best(rows, names[0], config) == [(2,), (3,), (1,)]
    assert choice.best(rows, names[1], config) == [(3,), (2,), (1,)]


def test_a_report_of_something_else_is_refused(tmp_path, capsys):
    assert main(["tljax", "report", str(tmp_path)]) == 2
    assert "the directory of a run or a sweep" in capsys.readouterr().err


def test_processes_share_a_sweep_between_them(config, whole, tmp_path):
    points = grid.parse(GRID)
    first = sweep.run(config, points, tmp_path / "run", part=0, parts=2)
    assert [(row["seed"], row["terms.domain.weight"]) for row in first] == [
        (0, 0), (1, 0), (2, 0),
    ]  # fmt: skip
    assert sweep.run(config, points, tmp_path / "run", part=1, parts=2) == whole[1]
    with pytest.raises(UserError, match="--process_id: got 2; expected a number from 0 to 1"):
        sweep.run(config, points, tmp_path / "run", part=2, parts=2)


def test_runs_that_draw_nothing_share_their_data(config, tmp_path):
    units = sweep.built(grid.members(config, grid.parse(["seed=range(3)"])), tmp_path)
    tables = [unit.built.tables["source"] for unit in units]
    assert all(table is tables[0] for table in tables)
    config = config.copy_and_resolve_references()
    config.streams.source.per_class = 1
    config.streams.source.batch = 8
    units = sweep.built(grid.members(config, grid.parse(["seed=range(3)"])), tmp_path)
    drawn = {unit.built.tables["source"].input.tobytes() for unit in units}
    assert len(drawn) == 3


def losses(workdir, row):
    records = read(workdir / "members" / row["member"])
    return [record["loss"] for record in records if record["kind"] == "train"]


def test_batched_members_have_the_losses_of_single_runs(config, whole, tmp_path, monkeypatch):
    """As on an accelerator: within 1e-5 after these six steps, where sums are taken otherwise."""
    monkeypatch.setattr(lanes, "batched", lambda: True)
    rows = sweep.run(config, grid.parse(GRID), tmp_path / "run")
    for row, alone in zip(rows, whole[1], strict=True):
        np.testing.assert_allclose(
            losses(tmp_path / "run", row), losses(whole[0], alone), rtol=1e-5
        )


def test_as_many_members_as_fit(config, monkeypatch):
    """The account of the compiled program, of one lane and two, is that of five, too."""
    one_device = lanes.mesh(jax.local_devices()[:1])
    monkeypatch.setattr(lanes, "mesh", lambda: one_device)
    monkeypatch.setattr(lanes, "batched", lambda: True)
    built = experiment.build(experiment.check(config))
    [phase] = built.phases.values()
    state = tljax.start(phase, built.data, jax.random.key(0))
    lane = lanes.Lane(phase, state, built.data)
    five = lanes.Stacked([lane] * 5, None)
    counted = lanes.share((np.int32(1), np.bool_(True)), one_device)
    arguments = (five.phase, five.state, five.apart, five.shared, *counted)
    memory = lanes.steps.lower(one_device, True, *arguments).compile().memory_analysis()
    bytes_of_five = (memory.argument_size_in_bytes + memory.temp_size_in_bytes) / 0.9
    assert lanes.fitting(lane, 1.02 * bytes_of_five, 5) == 5
    assert lanes.fitting(lane, 1.02 * bytes_of_five, 8) == 5
    assert lanes.fitting(lane, 0.98 * bytes_of_five, 8) == 4
    assert lanes.fitting(lane, 1, 8) == 1

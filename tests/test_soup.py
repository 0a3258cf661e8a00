"""Means of weights: the curve of WiSE-FT, and soups of a sweep's members."""

import jax
import numpy as np
import pytest

import tljax
from tljax import experiment
from tljax.errors import UserError
from tljax.experiment import soup, sweep
from tljax.main import main


def params(workdir, phase=""):
    return tljax.load(workdir, phase).variables["params"]


def mean(*trees):
    return jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *trees)


def close(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), one, other)


def test_the_curve_from_start_to_end(small, tmp_path, capsys):
    """At α = 1 it is the run, at α = 0 what the last phase started from, at ½ their mean."""
    small.evaluate.before = dict(small.evaluate.target, phase="first")
    result = experiment.run(small, tmp_path / "run")["evaluations"]
    rows = soup.wise(tmp_path / "run", [0.0, 0.5, 1.0])
    assert [row["alpha"] for row in rows] == [0.0, 0.5, 1.0]
    for row, name in ((rows[0], "before"), (rows[2], "target")):
        assert row["target/accuracy"] == result[name]["accuracy"]
        assert row["target/loss"] == pytest.approx(result[name]["loss"], rel=1e-5)
    [half] = soup.wise(tmp_path / "run", [0.5], tmp_path / "half")
    assert half == rows[1]
    close(params(tmp_path / "half"), mean(*(params(tmp_path / "run", n) for n in small.phases)))
    capsys.readouterr()
    assert main(["tljax", "soup", "--run", str(tmp_path / "run"), "--over", "alpha=0,1"]) == 0
    assert "0.5" not in (shown := capsys.readouterr().out) and "target/accuracy" in shown


def test_the_curve_of_a_run_with_adapters_is_merged(small, tmp_path):
    lora = dict(name="lora", rank=2)
    small.second.update(adapters=dict(own=lora), train=(("adapters/**", 1.0), ("**", 0)))
    experiment.run(small, tmp_path / "run")
    soup.wise(tmp_path / "run", [0.5], tmp_path / "half")
    close(params(tmp_path / "half"), mean(*(params(tmp_path / "run", n) for n in small.phases)))


@pytest.fixture
def swept(small, tmp_path):
    """Three rates: two that end near each other, and one that unlearns."""
    small.evaluate.target.validation = True
    small.evaluate.test = dict(small.evaluate.target, validation=False)
    small.phases = ("first",)
    del small.second
    small.steps = 12
    points = [{"optimizer.learning_rate": rate} for rate in (0.199, 0.2, 300.0)]
    rows = sweep.run(small, points, tmp_path / "sweep")
    return tmp_path / "sweep", {row["optimizer.learning_rate"]: row["member"] for row in rows}


def test_soups_of_a_sweep(swept, tmp_path, capsys):
    workdir, names = swept
    members = {rate: params(workdir / "members" / name) for rate, name in names.items()}
    soup.soup(workdir, tmp_path / "uniform")
    close(params(tmp_path / "uniform"), mean(*members.values()))
    result = soup.soup(workdir, tmp_path / "greedy", "target/accuracy")
    taken = [rate for rate, name in names.items() if name in result["soup"]]
    assert taken == [0.199, 0.2]
    close(params(tmp_path / "greedy"), mean(*(members[rate] for rate in taken)))
    # The mean is no worse than the best of them.
    each = [experiment.model.workdirs.result(workdir / "members" / name) for name in names.values()]
    best = max(result["evaluations"]["target"]["accuracy"] for result in each)
    assert result["evaluations"]["target"]["accuracy"] >= best
    flags = ["--run", str(workdir), "--workdir", str(tmp_path / "typed"), "--quiet"]
    assert main(["tljax", "soup", *flags, "--select", "target/accuracy"]) == 0
    close(params(tmp_path / "typed"), params(tmp_path / "greedy"))


def test_what_is_no_soup_is_refused(swept, small, tmp_path):
    workdir, _ = swept
    for arguments, line in (
        ((workdir, tmp_path / "x", "test/accuracy"), "--select: got 'test/accuracy'.*test labels"),
        ((workdir, tmp_path / "x", "target/no"), "--select: got 'target/no'; expected one of"),
        ((workdir, workdir), "--workdir: got .*; expected a directory that is empty"),
        ((next((workdir / "members").iterdir()), tmp_path / "x"), "--run: .*of a sweep"),
        ((tmp_path / "no", tmp_path / "x"), "workdir: got .*; expected the directory of a run"),
    ):
        with pytest.raises(UserError, match=line):
            soup.soup(*arguments)
    member = next((workdir / "members").iterdir())
    for arguments, line in (
        ((member, [1.5]), "alpha: got 1.5; expected a number from 0 to 1"),
        ((member, [0.0, 1.0], tmp_path / "x"), "--over: got .*; expected one alpha"),
    ):
        with pytest.raises(UserError, match=line):
            soup.wise(*arguments)
    assert not (tmp_path / "x").exists()
    assert main(["tljax", "soup", "--run", str(member), "--over", "seed=1"]) == 2
    assert main(["tljax", "soup", "--run", str(workdir)]) == 2


def test_members_of_two_networks_are_no_soup(small, tmp_path):
    small.phases = ("first",)
    del small.second
    points = [{"network.trunk.features": size} for size in ((4,), (5,))]
    sweep.run(small, points, tmp_path / "sweep")
    with pytest.raises(UserError, match="expected members of one network; .*trunk/dense_0/kernel"):
        soup.soup(tmp_path / "sweep", tmp_path / "x")

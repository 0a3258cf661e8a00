"""The best step of a phase, and its end for want of a better: by what may choose, in every lane."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tljax import experiment, trees
from tljax.errors import UserError
from tljax.experiment import sweep
from tljax.experiment.origins import finals
from tljax.train import records
from tljax.train.best import standing
from tljax.train.records import read


class TestStanding:
    def test_by_hand(self):
        """.5, .7, .6, .7, .8: the best is the second until the fifth; two without a better are 3
        and 4."""
        history = list(zip((2, 4, 6, 8, 10), (0.5, 0.7, 0.6, 0.7, 0.8), strict=True))
        assert standing([], False, 1) == (0, 0)
        assert standing(history[:4], False, 0) == (4, 0)
        assert standing(history, False, 0) == (10, 0)
        assert standing(history, False, 2) == (4, 8)
        assert standing(history, False, 3) == (10, 0)
        assert standing(history, True, 0) == (2, 0)
        assert standing(history, True, 3) == (2, 8)

    def test_a_collapsed_step_is_never_the_best_and_is_waited_for(self):
        """An entropy of 0 would be the lowest."""
        history = [(2, None), (4, 0.5), (6, None), (8, None)]
        assert standing(history, True, 0) == (4, 0)
        assert standing(history, True, 2) == (4, 8)
        assert standing(history[:1], True, 0) == (0, 0)

    values = st.lists(st.integers(0, 5).map(float), max_size=12)

    @given(values=values, patience=st.integers(0, 4), lower=st.booleans())
    def test_what_comes_later_changes_no_end(self, values, patience, lower):
        history = list(enumerate(values, 1))
        best, stopped = standing(history, lower, patience)
        if stopped:
            assert all(standing(history[:n], lower, patience)[1] == 0 for n in range(stopped))
            assert standing(history[:stopped], lower, patience) == (best, stopped)
            assert stopped - best == patience
        elif values:
            wanted = min(values) if lower else max(values)
            assert values[best - 1] == wanted and best - 1 == values.index(wanted)


def config_of(**select):
    """A rate at which the loss of validation goes up and down; judged at each second step."""
    config = experiment.blank()
    digits = dict(data="digits", size=4)
    config.streams.source = dict(digits, split="train[:24]", batch=8)
    config.evaluate.valid = dict(digits, split="train[600:640]", validation=True)
    config.evaluate.test = dict(digits, split="train[1400:1440]")
    config.evaluate.blind = dict(digits, split="train[1400:1440]", labelled=False)
    config.network.trunk = dict(name="mlp", features=(6,))
    config.terms.label = dict(term="cross_entropy")
    config.optimizer.learning_rate = 3.0
    config.select = dict({"by": "valid/loss"}, **select)
    config.update(steps=20, log_every=2, evaluate_every=2, checkpoint_every=4, keep=9)
    config.update(figures=False)
    return config


def judged(workdir, evaluation="valid", phase="train"):
    found = [r for r in read(workdir) if (r["kind"], r["phase"]) == (evaluation, phase)]
    return {record["step"]: record for record in found}


def same(one, other):
    """Two runs of which all that is kept is the same, byte for byte."""
    for name in ("result.json", "metrics.jsonl", "README.md"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    first, second = (finals(path, ["train"])["train"] for path in (one, other))
    for path, leaf in trees.flatten(first).items():
        np.testing.assert_array_equal(leaf, trees.flatten(second)[path])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    experiment.run(config_of(), path)
    return path


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    path = tmp_path_factory.mktemp("stopped") / "run"
    experiment.run(config_of(patience=2), path)
    return path


def result(workdir):
    return json.loads((workdir / "result.json").read_text())


def test_a_run_ends_as_its_best_step(whole):
    losses = {step: record["loss"] for step, record in judged(whole).items()}
    best = min(losses, key=lambda step: losses[step])
    assert best < 20 and list(losses) == list(range(2, 21, 2))
    told = result(whole)["selected"]["train"]
    assert told == {"by": "valid/loss", "step": best, "value": losses[best]}
    for name in ("valid", "test", "blind"):
        there = judged(whole, name)[best]
        reached = result(whole)["evaluations"][name]
        assert all(reached[key] == there[key] for key in there if key in reached)
    assert f"its best step by valid/loss, {best}." in (whole / "README.md").read_text()


def test_it_stops_when_patience_ends(stopped, whole):
    losses = {step: record["loss"] for step, record in judged(stopped).items()}
    best, at = standing(list(losses.items()), True, 2)
    told = result(stopped)["selected"]["train"]
    assert (told["step"], told["stopped"]) == (best, at)
    assert max(losses) == at < 20 == max(judged(whole))
    assert max(record["step"] for record in read(stopped)) == at
    assert at in {int(path.name) for path in (stopped / "checkpoints/train").iterdir()}


@pytest.mark.parametrize("name", ["whole", "stopped"])
@pytest.mark.parametrize("step", [0, 4, 8])
def test_killed_after_a_checkpoint_it_ends_the_same(name, step, request, tmp_path):
    """The best and the patience are those of the records up to there."""
    there = request.getfixturevalue(name)
    run = shutil.copytree(there, tmp_path / "run")
    (run / "result.json").unlink()
    (run / "README.md").unlink()
    shutil.rmtree(run / "phases/train/final")
    (run / "phases/train/ended.json").unlink()
    for path in (run / "checkpoints/train").iterdir():
        if int(path.name) > step:
            shutil.rmtree(path)
    experiment.run(config_of(**({"patience": 2} if name == "stopped" else {})), run)
    same(run, there)


class Death(BaseException):
    """A kill between two dispatches."""


@pytest.mark.parametrize("patience", [0, 3])
def test_killed_again_and_again_it_ends_the_same(patience, tmp_path, monkeypatch):
    """Three dispatches at a time, of which two are done again; bests are forgotten on the way."""
    config = config_of(patience=patience)
    config.update(keep=1)
    experiment.run(config, tmp_path / "whole")
    left, advance = [0], records.Display.advance

    def dying(self, step):
        left[0] -= 1
        if not left[0]:
            raise Death
        advance(self, step)

    for _ in range(20):
        left[0] = 3
        with monkeypatch.context() as patch:
            patch.setattr(records.Display, "advance", dying)
            try:
                experiment.run(config, tmp_path / "run")
                break
            except Death:
                assert not (tmp_path / "run" / "result.json").exists()
    same(tmp_path / "run", tmp_path / "whole")


def test_a_member_of_a_sweep_stops_by_itself(stopped, whole, tmp_path):
    """Three lanes, of which one waits from its end on, and each is the run that it would be."""
    points = [{"select.patience": 2}, {"select.patience": 0}, {"seed": 1}]
    rows = sweep.run(config_of(), points, tmp_path / "sweep")
    members = [tmp_path / "sweep" / "members" / row["member"] for row in rows]
    for member, alone in zip(members, (stopped, whole), strict=False):
        for name in ("metrics.jsonl",):
            assert (member / name).read_bytes() == (alone / name).read_bytes()
        one, other = (finals(path, ["train"])["train"] for path in (member, alone))
        for path, leaf in trees.flatten(one).items():
            np.testing.assert_array_equal(leaf, trees.flatten(other)[path])
    assert [row["status"] for row in rows] == ["finished"] * 3
    assert result(members[0])["selected"] == result(stopped)["selected"]


def test_bests_that_no_checkpoint_needs_are_forgotten(tmp_path):
    config = config_of()
    config.update(keep=1, checkpoint_every=2)
    experiment.run(config, tmp_path / "run")
    left = {int(path.name) for path in (tmp_path / "run/phases/train/best").iterdir()}
    assert result(tmp_path / "run")["selected"]["train"]["step"] in left and len(left) <= 2


def test_of_restarts_the_better_best_is_kept(tmp_path):
    config = config_of()
    config.restarts = 2
    experiment.run(config, tmp_path / "run")
    losses = [r["loss"] for name in ("train", "train@1")
              for r in judged(tmp_path / "run", phase=name).values()]  # fmt: skip
    assert result(tmp_path / "run")["selected"]["train"]["value"] == min(losses)


def test_more_is_better_of_other_metrics(tmp_path):
    config = config_of(by="blind/information_maximisation")
    experiment.run(config, tmp_path / "run")
    values = {
        s: r["information_maximisation"] for s, r in judged(tmp_path / "run", "blind").items()
    }
    assert result(tmp_path / "run")["selected"]["train"]["step"] == max(values, key=values.get)


@pytest.mark.parametrize(
    ("by", "says"),
    [
        ("test/loss", r"^select\.by: got 'test/loss'; .*without labels, or one with validation=T"),
        ("vaild/loss", r"^select\.by: unknown name 'vaild'.*mean 'valid'"),
        ("valid/los", r"^select\.by: unknown name 'los'.*mean 'loss'"),
        ("valid", r"^select\.by: got 'valid'; expected EVALUATION/METRIC"),
    ],
)
def test_what_may_not_choose_is_refused(tmp_path, by, says):
    with pytest.raises(UserError, match=says):
        experiment.run(config_of(by=by), tmp_path / "run")


def test_another_phases_evaluation_is_refused(small, tmp_path):
    small.evaluate.target.validation = True
    small.first.select = dict(by="target/loss")
    with pytest.raises(UserError, match=r"^first\.select\.by: .*evaluate\.target\.phase='first'"):
        experiment.run(small, tmp_path / "run")


def test_a_collapsed_network_is_not_chosen_and_the_run_says_so(tmp_path, capsys):
    """A rate at which every example soon has one class with certainty: an entropy of 0."""
    config = config_of(by="blind/entropy")
    config.update(steps=4, checkpoint_every=2)
    config.network.heads.label = dict(name="linear", outputs=10)
    config.optimizer.learning_rate = 1e4
    experiment.run(config, tmp_path / "run", records.Display())
    told = result(tmp_path / "run")
    constant = {s for s, r in judged(tmp_path / "run", "blind").items() if "constant_class" in r}
    assert constant, "this rate should ruin the network"
    assert told["selected"]["train"]["step"] not in constant
    said = capsys.readouterr().err
    assert all(f"step {step}: blind: collapsed: every example" in said for step in constant)
    assert "\nblind: collapsed: every example is given class" in said  # and at the end

"""Classes of streams, evaluations, tables and other runs meet by name in a whole run."""

import json

import numpy as np
import pytest

import tljax
from tljax import experiment
from tljax.errors import Noticed, UserError
from tljax.experiment import model
from tljax.main import main

COLOURS = {"bird": (220, 30, 30), "cat": (30, 220, 30), "dog": (30, 30, 220), "emu": (200, 200, 0)}


def archive(path, names, per_class=12, seed=0, classes=None, **columns):
    """An npz of one-coloured images, of the classes `names` in this order."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(len(names)), per_class)
    base = np.array([COLOURS[name] for name in names])[label][:, None, None]
    images = np.clip(base + rng.integers(-20, 20, (len(label), 8, 8, 3)), 0, 255).astype(np.uint8)
    named = {} if classes is False else {"classes": np.array(classes or names)}
    np.savez(path, image=images, label=label, **named, **columns)
    return f"npz:{path}"


def config(source, target, **changes):
    config = experiment.blank()
    config.streams.source = dict(data=source, batch=12)
    config.evaluate.target = dict(data=target)
    config.network.trunk = dict(name="mlp", features=(16,))
    config.optimizer = dict(name="adam", learning_rate=1e-2)
    config.terms.label = dict(term="cross_entropy")
    config.update(steps=100, figures=False, **changes)
    return config


@pytest.mark.parametrize(
    "names", [("cat", "dog"), ("dog", "cat", "bird"), ("dog",), ("dog", "bird")]
)
def test_other_classes_or_another_order_are_judged_by_name(tmp_path, names):
    source = archive(tmp_path / "s.npz", ("bird", "cat", "dog"))
    target = archive(tmp_path / "t.npz", names, seed=1)
    result = experiment.run(config(source, target), tmp_path / "run")["evaluations"]["target"]
    assert result["accuracy"] == 1.0
    assert result["classes"] == ["bird", "cat", "dog"]
    rows = dict(zip(result["classes"], result["confusion"], strict=True))
    for place, name in enumerate(result["classes"]):
        assert rows[name][place] == (12 if name in names else 0)
    assert tljax.load(tmp_path / "run").classes == {"label": ("bird", "cat", "dog")}


def test_two_sources_teach_one_head_the_classes_of_both(tmp_path):
    one = archive(tmp_path / "1.npz", ("dog", "cat"))
    two = archive(tmp_path / "2.npz", ("bird", "cat"), seed=1)
    target = archive(tmp_path / "t.npz", ("bird", "cat", "dog"), seed=2)
    both = config(one, target)
    both.streams.second = dict(data=two, batch=12)
    both.terms.more = dict(term="cross_entropy", stream="second")
    result = experiment.run(both, tmp_path / "run")["evaluations"]["target"]
    assert result["accuracy"] == 1.0 and result["classes"] == ["bird", "cat", "dog"]


def test_heads_of_their_own_keep_their_own_numbers(tmp_path):
    one = archive(tmp_path / "1.npz", ("dog", "cat"))
    two = archive(tmp_path / "2.npz", ("bird", "cat", "dog"), seed=1)
    both = config(one, one)
    both.streams.second = dict(data=two, batch=12)
    both.network.heads.other = dict(name="linear")
    both.terms.more = dict(term="cross_entropy", stream="second", head="other")
    both.evaluate.other = dict(data=two, head="other")
    result = experiment.run(both, tmp_path / "run")["evaluations"]
    assert result["target"]["classes"] == ["dog", "cat"]
    assert result["other"]["classes"] == ["bird", "cat", "dog"]
    assert result["other"]["accuracy"] == result["target"]["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("names", "classes", "says"),
    [
        (("cat", "emu"), None, r"evaluate\.target: classes: got \['emu'\]"),
        (("cat", "dog"), ("Cat", "dog"), "evaluate.target: class 'Cat' is 'cat' in streams.source"),
        (("cat", "dog"), False, r"evaluate\.target: classes: got \['0', '1'\]"),
    ],
)
def test_what_does_not_meet_is_refused_before_the_first_step(tmp_path, names, classes, says):
    source = archive(tmp_path / "s.npz", ("bird", "cat", "dog"))
    target = archive(tmp_path / "t.npz", names, classes=classes)
    with pytest.raises(UserError, match=says):
        experiment.run(config(source, target), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_class_that_no_stream_teaches_is_told(tmp_path):
    source = archive(tmp_path / "s.npz", ("bird", "cat"), classes=("bird", "cat", "emu"))
    target = archive(tmp_path / "t.npz", ("bird", "emu"), seed=1)
    with pytest.warns(Noticed, match="evaluate.target: no stream teaches head 'label' .*'emu'"):
        result = experiment.run(config(source, target), tmp_path / "run")
    assert result["evaluations"]["target"]["accuracy"] == 0.5


def test_numbers_of_classes_are_those_of_the_data_that_they_are_given_for(tmp_path):
    source = archive(tmp_path / "s.npz", ("bird", "cat", "dog"))
    target = archive(tmp_path / "t.npz", ("dog", "cat"), seed=1)
    narrow = config(source, target)
    narrow.evaluate.target.classes = (0,)  # dog
    result = experiment.run(narrow, tmp_path / "run")["evaluations"]["target"]
    assert result["examples"] == 12 and result["accuracy"] == 1.0


def test_a_head_of_another_run_is_not_taken_for_other_classes(tmp_path):
    source = archive(tmp_path / "s.npz", ("bird", "cat", "dog"))
    experiment.run(config(source, source), tmp_path / "first")
    swapped = archive(tmp_path / "t.npz", ("dog", "cat", "bird"))
    begun = config(swapped, swapped, start=(("**", f"run:{tmp_path}/first"),))
    says = "start: head 'label' of 'run:.*' has outputs for 'bird', 'cat', 'dog'; expected 'dog'"
    with pytest.raises(UserError, match=says):
        experiment.run(begun, tmp_path / "second")
    begun.start = (("heads/label/**", "fresh"), ("**", f"run:{tmp_path}/first"))
    experiment.run(begun, tmp_path / "second")


def test_a_phase_held_in_python_refuses_what_a_config_would_renumber(tmp_path):
    one, two = (
        tljax.data.load(archive(tmp_path / f"{i}.npz", names), "train")
        for i, names in enumerate((("dog", "cat"), ("bird", "cat")))
    )
    phase = tljax.Phase(
        network=tljax.Network(
            trunk=tljax.models.MLP(features=(8,)), heads={"label": tljax.models.Linear()}
        ),
        streams=[tljax.Stream("source", batch=4), tljax.Stream("second", batch=4)],
        terms={
            "one": tljax.term("cross_entropy"),
            "two": tljax.term("cross_entropy", stream="second"),
        },
    )
    import jax

    data = {"source": one, "second": two}
    with pytest.raises(UserError, match=r"data\['second'\]: classes: .*tljax\.data\.meet"):
        tljax.start(phase, data, jax.random.key(0))
    tljax.start(phase, tljax.data.meet(data), jax.random.key(0))


class TestElsewhere:
    """A run that has ended, on data that it has not seen."""

    @pytest.fixture(scope="class")
    def run(self, tmp_path_factory):
        path = tmp_path_factory.mktemp("elsewhere")
        source = archive(path / "s.npz", ("bird", "cat", "dog"))
        experiment.run(config(source, source), path / "run")
        (path / "s.npz").unlink()  # the training data are not needed
        return path / "run"

    def test_classes_meet_those_of_the_run(self, run, tmp_path):
        new = archive(tmp_path / "new.npz", ("dog", "cat"), seed=3)
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        reached = model.evaluate(run, new)
        assert reached["accuracy"] == 1.0 and reached["examples"] == 24
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before

    def test_the_command_line_prints_it(self, run, tmp_path, capsys):
        new = archive(tmp_path / "new.npz", ("dog", "cat"), seed=3)
        assert main(["tljax", "evaluate", f"--run={run}", f"--data={new}"]) == 0
        assert f"{new}\t1.0000" in capsys.readouterr().out

    def test_without_labels_validators_judge(self, run, tmp_path):
        new = archive(tmp_path / "new.npz", ("dog",), per_class=1)
        reached = model.evaluate(run, new, labelled=False)
        assert "accuracy" not in reached and "entropy" in reached

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--data=npz:nowhere.npz"], "nowhere.npz"),
            (["--data=digits", "--like=tagret"], "Did you mean 'target'?"),
            ([], "--data"),
            (["--data=digits"], "evaluate.target: "),
        ],
    )
    def test_what_does_not_fit_is_a_line(self, run, arguments, says, capsys):
        assert main(["tljax", "evaluate", f"--run={run}", *arguments]) == 2
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1

    def test_a_run_that_has_not_ended_is_refused(self, run, tmp_path, capsys):
        (tmp_path / "config.json").write_text((run / "config.json").read_text())
        assert main(["tljax", "evaluate", f"--run={tmp_path}", "--data=digits"]) == 2
        assert "a run that has ended" in capsys.readouterr().err
        assert json.loads((run / "data.json").read_text())["heads.label"]["classes"]

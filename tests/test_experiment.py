"""Experiments as a notebook runs them: phases, streams from disk, what a workdir keeps."""

import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import tljax
from tljax import experiment, trees
from tljax.errors import UserError
from tljax.train import lanes
from tljax.train.records import read


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """120 digits as PNG files, a directory a class."""
    root = tmp_path_factory.mktemp("folder")
    digits = load_digits()
    for i, (image, label) in enumerate(zip(digits.images[:120], digits.target, strict=False)):
        path = root / str(label) / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray((image * 15).astype(np.uint8)).save(path)
    return root


def last_state(workdir, phase="train"):
    from tljax.train.checkpoint import ocp

    checkpoints = ocp.training.Checkpointer(workdir / "checkpoints" / phase)
    state = checkpoints.load_checkpointables()["state"]
    checkpoints.close()
    return state


def test_phases_fold_one_into_the_next(tiny, tmp_path):
    tiny.phases = ("pretrain", "adapt")
    label = dict(label=dict(term="cross_entropy"))
    tiny.pretrain = dict(flow=("source",), terms=label, steps=4)
    tiny.adapt = dict(
        start=(("heads/domain/**", "fresh"), ("**", "pretrain")),
        train=(("trunk/**", 0.0), ("**", 1.0)),
    )
    experiment.run(tiny, tmp_path / "run")
    before, after = (last_state(tmp_path / "run", name) for name in ("pretrain", "adapt"))
    assert "domain" not in before["params"]["heads"] and "domain" in after["params"]["heads"]
    # What the second phase starts from is the average that the first is judged by.
    judged = trees.flatten(before["average"]["trunk"])
    for path, leaf in trees.flatten(after["params"]["trunk"]).items():
        np.testing.assert_array_equal(leaf, judged[path])
    kept = list(trees.flatten(after["optimizer"]))
    assert any("heads/domain" in path for path in kept)
    assert not any("trunk" in path for path in kept)
    steps = [(r["phase"], r["step"]) for r in read(tmp_path / "run") if r["kind"] == "train"]
    assert steps == [("pretrain", 3), ("pretrain", 4), ("adapt", 3), ("adapt", 6)]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stream_from_disk_trains_and_does_not_depend_on_the_dispatch(
    tiny, folder, tmp_path, workers
):
    tiny.streams.source.update(data=f"folder:{folder}", split="train")
    tiny.resident_megabytes = 0.001
    tiny.workers = workers
    tiny.update(steps=7, log_every=7, evaluate_every=7, checkpoint_every=7)
    states = []
    for dispatch in (2, 3):
        tiny.steps_per_dispatch = dispatch
        experiment.run(tiny, tmp_path / f"run{dispatch}")
        states.append(trees.flatten(last_state(tmp_path / f"run{dispatch}")))
    for path, leaf in states[0].items():
        np.testing.assert_array_equal(leaf, states[1][path], err_msg=path)


def test_labels_of_an_unlabelled_stream_do_not_reach_the_step(tiny, tmp_path):
    data = experiment.build(experiment.check(tiny)).data
    assert set(data["target"].columns) == {"input"}
    assert set(data["source"].columns) == {"input", "label"}


def test_the_same_seed_is_the_same_run_and_another_is_not(tiny, tmp_path):
    results = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        tiny.seed = seed
        experiment.run(tiny, tmp_path / name)
        results.append((tmp_path / name / "metrics.jsonl").read_text())
    assert results[0] == results[1] != results[2]


def test_what_was_opened_by_another_config_stays_as_it_is(tiny, tmp_path):
    experiment.run(tiny, tmp_path / "run")
    left = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    tiny.optimizer.learning_rate = 0.5
    with pytest.raises(UserError, match=r"optimizer.learning_rate \(0.02 there, 0.5 here\)"):
        experiment.run(tiny, tmp_path / "run")
    assert left == {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}


def test_tensorboard_events(tiny, tmp_path):
    tiny.tensorboard = True
    experiment.run(tiny, tmp_path / "run")
    assert any((tmp_path / "run" / "events").iterdir())


def test_a_torn_last_line_is_dropped(tiny, tmp_path):
    """A kill may cut a line short; the next start writes it whole again."""
    experiment.run(tiny, tmp_path / "whole")
    experiment.run(tiny, tmp_path / "torn")
    (tmp_path / "torn" / "result.json").unlink()
    shutil.rmtree(tmp_path / "torn" / "phases")
    newest = tmp_path / "torn" / "checkpoints" / "train" / "6"
    newest.rename(tmp_path / "gone")
    lines = tmp_path / "torn" / "metrics.jsonl"
    lines.write_text(lines.read_text()[:-20])
    experiment.run(tiny, tmp_path / "torn")
    assert lines.read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()
    a, b = (json.loads((tmp_path / n / "result.json").read_text()) for n in ("whole", "torn"))
    assert a == b


def test_a_network_with_xla_convolutions_is_not_looped_on_a_cpu(tiny, monkeypatch):
    """The shipped convolution is looped; one that lowers to XLA's own is dispatched singly."""
    from tljax.models import layers

    def dispatch():
        built = experiment.build(experiment.check(tiny))
        [phase] = built.phases.values()
        state = tljax.start(phase, built.data, jax.random.key(0))
        program = lanes.Single(lanes.Lane(phase, state, built.data), None)
        return program.looped, program.longest

    assert dispatch() == (True, lanes.LONGEST)
    monkeypatch.setattr(layers, "chosen", lambda shape, size, stride, groups: "xla")
    tiny.network.trunk.channels = (4, 5)  # not the program that is in jit's cache
    jax.clear_caches()
    assert dispatch() == (False, 1)


def test_a_run_of_before_a_field_was_there_is_resumed(tiny, tmp_path):
    """A new field with its default changes nothing; with another value it does."""
    experiment.run(tiny, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    del config["freeze_statistics"]
    path.write_text(json.dumps(config))
    experiment.run(tiny, tmp_path / "run")
    tiny.freeze_statistics = True
    with pytest.raises(UserError, match=r"freeze_statistics \(nothing there, true here\)"):
        experiment.run(tiny, tmp_path / "run")

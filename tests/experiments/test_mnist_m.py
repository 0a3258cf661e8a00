"""MNIST to MNIST-M, shrunk: made digits of 28 pixels, three steps."""

import numpy as np
import pytest

from experiments.mnist_m import digits, run
from experiments.report import Results


def test_a_digit_is_subtracted_from_a_crop_of_one_half():
    """|photograph − digit| of a photograph of one grey, 100: black shows 100, white 155."""
    both = [np.full((30, 40, 3), 100, np.uint8)]
    made = digits.blended(np.stack([np.zeros((28, 28)), np.full((28, 28), 255)]).astype(np.uint8),
                          both, np.random.default_rng(0))  # fmt: skip
    assert made.shape == (2, 28, 28, 3)
    assert (made[0] == 100).all() and (made[1] == 155).all()


@pytest.fixture
def small(mnist, monkeypatch):
    """Files of 100 made digits, and a network of two channels."""
    tmp_path, labels = mnist
    (tmp_path / "mnist_m").mkdir()
    colour = np.random.default_rng(0).integers(0, 255, (100, 28, 28, 3), np.uint8)
    arrays = {f"{s}_images": colour for s in ("train", "test")}
    arrays |= {f"{s}_labels": labels.astype(np.int32) for s in ("train", "test")}
    np.savez(tmp_path / "mnist_m" / "digits.npz", **arrays)
    monkeypatch.setattr(run, "STEPS", 3)
    monkeypatch.setattr(run, "TUNING_STEPS", 2)
    monkeypatch.setattr(run, "AVERAGE", {3: 0.5, 2: 0.5})
    monkeypatch.setattr(run, "BATCH", 8)
    monkeypatch.setattr(run, "COMPARED", 20)
    return tmp_path


def shrink(config):
    config.network.trunk.channels = (2, 2)
    config.network.heads.label.hidden = (4,)
    for fields in (*config.streams.values(), *config.evaluate.values()):
        if fields.get("split", "").startswith("train["):
            fields.split = "train[:50]"


def test_every_method_is_tuned_without_target_labels_and_run(small, monkeypatch):
    names = ("source only", "DANN, smoothed labels")
    monkeypatch.setattr(run, "METHODS", {name: run.METHODS[name] for name in names})
    monkeypatch.setattr(run, "LOOKS", {"augmented": run.LOOKS["augmented"]})
    tuned = run.TUNING.collect(small / "tuning", (100,), shrink)
    assert len(tuned) == 2 * 5 and all(np.isfinite(line["score"]) for line in tuned)
    monkeypatch.setattr(type(run.TUNING), "read", lambda self: tuned)
    lines = run.EXPERIMENT.collect(small / "runs", range(2), shrink)
    assert len(lines) == 4
    for line in lines:
        best = max(tuned.where(method=line["method"]), key=lambda each: each["score"])
        assert line["value"] == best["value"]
        assert 0 <= line["target"] <= 1 and -2 <= line["a_distance"] <= 2
    monkeypatch.undo()
    section = run.EXPERIMENT.section(Results(lines))
    assert "| DANN, smoothed labels | " in section and "Not run yet." in section


@pytest.mark.parametrize("name", run.METHODS)
@pytest.mark.parametrize("looks", run.LOOKS)
def test_every_rows_config_is_one_that_can_be_checked(small, name, looks):
    from experiments import frame
    from tljax import experiment

    for tuning in (False, True):
        made = run.row(name, looks, run.METHODS[name].values[0], tuning)
        config = frame.configured(made, frame.Run(0, small))
        experiment.check(config)
        labelled = [n for n, s in config.streams.items() if s.get("labelled", True)]
        if name != "target supervised":
            assert set(labelled) - {"other"} == {"source"}  # a look at what has no labels
            assert not any(e.get("labelled", True) for e in config.evaluate.values()) or not tuning

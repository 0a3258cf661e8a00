"""The experiment of public weights, shrunk: digits for cells, a small network for MobileNetV2."""

import numpy as np
import pytest
from PIL import Image

from experiments.pretrained import run as pretrained
from experiments.report import Results

CASE = pretrained.Case("cells", "cnn", 5)


@pytest.fixture
def shrunk(tmp_path, monkeypatch):
    """Two digits, random weights, two steps."""
    folder = tmp_path / "cache" / "photographs"
    folder.mkdir(parents=True)
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 255, (9, 9, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    digits = dict(data="digits", classes=(0, 1))
    pool, test = (dict(digits, split=s) for s in ("train[:400]", "train[400:500]"))
    monkeypatch.setenv("TLJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pretrained.tasks, "weights", lambda name: "fresh")
    monkeypatch.setattr(pretrained, "DATA", {"cells": (pool, test)})
    monkeypatch.setattr(pretrained, "SEEN", {"cnn": dict(name="imagenet")})
    monkeypatch.setattr(pretrained, "SIZE", 8)
    monkeypatch.setattr(pretrained, "STEPS", 2)
    monkeypatch.setattr(pretrained, "named", lambda trunk, features: features.argmax(-1))
    monkeypatch.setattr(pretrained, "original", lambda trunk: np.zeros(3, int))
    pretrained.others.cache_clear()
    yield tmp_path
    pretrained.others.cache_clear()


def collected(folder, *methods):
    declared = pretrained.EXPERIMENT._replace(stages=pretrained.stages([CASE], methods))
    return declared.collect(folder, range(2))


def test_every_draw_takes_the_value_that_its_held_labels_prefer(shrunk, monkeypatch):
    lines = collected(shrunk, "pixels", "linear probe", "fine-tuning")
    tuned, ended = lines.where(part="tuning"), lines.where(part="test")
    assert len(tuned) == 3 * 3 * 2 and len(ended) == 3 * 2
    for line in ended:
        tried = tuned.where(method=line["method"], seed=line["seed"])
        best = max(tried, key=lambda each: (each["held"], -each["held_loss"]))
        assert line["knob"] == best["knob"]
        assert 0 <= line["test"] <= 1 and 0 <= line["train"] <= 1
        assert (line["agreement"] is None) == (line["method"] == "pixels")
    monkeypatch.undo()
    lines = Results({**line, "trunk": "mobilenet_v2"} for line in lines)
    section = pretrained.EXPERIMENT.section(lines)
    assert "| linear probe | " in section and "Not run yet." in section


def test_wise_ft_stands_between_the_probe_and_the_end(shrunk):
    lines = collected(shrunk, "LP-FT")
    wise = lines.where(method="WiSE-FT")
    assert [line["seed"] for line in wise] == [0, 1]
    for line in wise:
        assert line["knob"] in pretrained.WISE and 0 <= line["test"] <= 1
        assert 0 <= line["agreement"] <= 1


def test_a_tuning_run_sees_no_label_that_it_is_compared_on(shrunk):
    config = pretrained.config_of(CASE, CASE.labels - CASE.held)
    target, held = config.streams.target, config.evaluate.held
    assert (target.per_class, held.skip, held.per_class) == (4, 4, 5)
    assert pretrained.Case("cells", "cnn", 100).held == 20


def test_a_failed_run_is_never_chosen():
    reached = ((1, None, None), (2, 0.5, 3.0), (3, 0.5, 2.0))
    lines = [dict(seed=0, knob=knob, held=held, held_loss=loss) for knob, held, loss in reached]
    assert pretrained.chosen(Results(lines), (1, 2, 3)) == {0: 3}

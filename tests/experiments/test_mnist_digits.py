"""Between two kinds of digits, shrunk: made digits in the place of MNIST, two steps."""

import numpy as np
import pytest

from experiments import frame
from experiments.frame import Run
from experiments.mnist_digits import run
from experiments.report import Results


def test_a_digit_is_cut_to_its_ink_and_made_as_large():
    image = np.zeros((28, 28), np.float32)
    image[6:10, 12:14] = 0.5
    image[0, 0] = run.INK  # as light as paper
    assert (run.boxed(image) == 128).all()
    assert (run.boxed(np.zeros((8, 8), np.float32)) == 0).all()  # without ink: all of it


@pytest.fixture
def cache(mnist, monkeypatch):
    """MNIST of made digits, and few of scikit-learn's."""
    few = tuple(dict(data="digits", split=f"writers[{part}]") for part in (":100", "100:160"))
    for name, value in dict(
        STEPS=2, BATCH=8, SCORED=50, KINDS={**run.KINDS, "digits": few}
    ).items():
        monkeypatch.setattr(run, name, value)
    run.table.cache_clear()
    yield mnist[0]
    run.table.cache_clear()


def shrink(config):
    config.network.trunk.channels = (2, 2)
    config.network.heads.label.hidden = (4,)


def test_both_ways_are_tuned_without_target_labels_and_run(cache, monkeypatch):
    monkeypatch.setattr(run, "METHODS", {"DANN": run.METHODS["DANN"]._replace(values=(0.3, 1.0))})
    looks = ("plain", "cut, augmented")
    monkeypatch.setattr(run, "ALL", [("DANN", kind, look) for kind in run.KINDS for look in looks])
    tuned = run.TUNING.collect(cache / "tuning", (100,), shrink)
    assert len(tuned) == 2 * 2 * 2 and all(np.isfinite(line["score"]) for line in tuned)
    monkeypatch.setattr(type(run.TUNING), "read", lambda self: tuned)
    lines = run.EXPERIMENT.collect(cache / "runs", range(2), shrink)
    assert len(lines) == 2 * (len(run.NEIGHBOURS) * 2 + 4)
    for line in lines:
        assert 0 <= line["target"] <= 1 and 0 <= line["on_source"] <= 1
        if line["method"] == "DANN":
            mine = tuned.where(source=line["source"], looks=line["looks"])
            assert line["value"] == max(mine, key=lambda each: each["score"])["value"]
    monkeypatch.undo()
    section = run.EXPERIMENT.section(Results(lines))
    assert "| DANN, cut, augmented | " in section and "| nearest neighbours | " in section


@pytest.mark.parametrize("name", run.METHODS)
def test_no_target_label_is_read_but_by_the_supervised(name, cache, tmp_path):
    config = frame.configured(run.row(name, "MNIST", "augmented", 0.1, True), Run(0, tmp_path, {}))
    assert not config.evaluate.unlabelled.labelled
    taught = [s for s in config.streams.values() if "of" not in s and s.get("labelled", True)]
    assert [s.data for s in taught] == ["digits" if "supervised" in name else "idx:mnist"]

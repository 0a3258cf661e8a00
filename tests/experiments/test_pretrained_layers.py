"""Which layers of a public network to copy, shrunk: digits for cells, a small network."""

import pytest

from experiments import frame
from experiments.frame import Run
from experiments.pretrained import run as pretrained
from experiments.pretrained_layers import run

GROUPS = (("trunk/conv_0/**",), ("trunk/conv_1/**",))


@pytest.fixture
def shrunk(tmp_path, monkeypatch):
    """Two digits, random weights, two steps, two groups of layers."""
    digits = dict(data="digits", classes=(0, 1))
    pool, test = (dict(digits, split=s) for s in ("train[:400]", "train[400:500]"))
    monkeypatch.setattr(pretrained.tasks, "weights", lambda name: "fresh")
    monkeypatch.setattr(pretrained, "DATA", {"cells": (pool, test)})
    monkeypatch.setattr(pretrained, "SEEN", {"cnn": dict(name="imagenet")})
    fields = dict(SIZE=8, STEPS=2, SOURCE_STEPS=2, BATCH=4, JUDGED=10, RATES=(0.01, 0.02))
    copied = {"first 1 copied": GROUPS[:1], "last 1 copied": GROUPS[1:]}
    fields |= dict(GROUPS=GROUPS, VARIANTS=copied, CASE=pretrained.Case("cells", "cnn", 5))
    for field, value in fields.items():
        monkeypatch.setattr(run, field, value)
    return tmp_path


def test_rates_are_chosen_on_other_photographs_and_both_pairs_have_lines(shrunk, monkeypatch):
    tuned = run.TUNING.collect(shrunk / "tuning", run.TUNING.seeds[:1])
    assert len(tuned) == 1 + 2 * 2 * 2
    monkeypatch.setattr(frame.Experiment, "read", lambda self: tuned)
    lines = run.EXPERIMENT.collect(shrunk / "results", range(2), only=dict(pair=[run.PAIRS[1]]))
    assert [line["variant"] for line in lines[::2]] == ["source model", *run.VARIANTS]
    assert all(0 <= line["target"] <= 1 for line in lines)
    for line in lines[2:]:
        mine = tuned.where(pair=line["pair"], variant=line["variant"])
        assert (
            line["rate"] == max(mine, key=lambda tried: (tried["target"], -tried["rate"]))["rate"]
        )


def configured(pair, name, tuning, tmp_path):
    row = run.row(pair, name, 0.01, tuning)
    return frame.configured(row, Run(0, tmp_path, {"source": {0: tmp_path}}))


def test_the_last_layers_include_the_head_where_the_classes_stay(shrunk):
    config = configured("inverted inputs", "last 1 copied", False, shrunk)
    *copied, rest = config.start
    assert [path for path, _ in copied] == ["trunk/conv_1/**", "heads/**"]
    assert {origin for _, origin in copied} == {f"run:{shrunk}"} and rest == ("**", "fresh")
    shown = (config.streams.target, config.evaluate.target)
    assert all(part.transforms[0]["name"] == "invert" for part in shown)
    config = configured("new classes", "last 1 copied", False, shrunk)
    assert [path for path, _ in config.start] == ["trunk/conv_1/**", "**"]
    assert "invert" not in str(config)


def test_no_rate_is_chosen_on_the_test(shrunk):
    """The pool's first photographs of each class teach, the next judge."""
    config = configured("new classes", "first 1 copied", True, shrunk)
    pool, judged = config.streams.target, config.evaluate.target
    assert pool.split == judged.split != pretrained.DATA["cells"][1]["split"]
    assert judged.skip == pool.per_class == 5 and judged.per_class == 15

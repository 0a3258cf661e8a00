"""Which layers of a public network to copy, shrunk: digits for cells, a small network."""

import pytest

from experiments.pretrained import run as pretrained
from experiments.pretrained_layers import run

GROUPS = (("trunk/conv_0/**",), ("trunk/conv_1/**",))


@pytest.fixture
def shrunk(tmp_path, monkeypatch):
    """Two digits, random weights, two steps."""
    digits = dict(data="digits", classes=(0, 1))
    pool, test = (dict(digits, split=s) for s in ("train[:400]", "train[400:500]"))
    monkeypatch.setattr(pretrained.tasks, "weights", lambda name: "fresh")
    monkeypatch.setattr(pretrained, "DATA", {"cells": (pool, test)})
    monkeypatch.setattr(pretrained, "SEEN", {"cnn": dict(name="imagenet")})
    monkeypatch.setattr(pretrained, "SIZE", 8)
    monkeypatch.setattr(pretrained, "STEPS", 2)
    monkeypatch.setattr(run, "SOURCE_STEPS", 2)
    monkeypatch.setattr(run, "GROUPS", GROUPS)
    monkeypatch.setattr(run, "RATES", (0.01, 0.02))
    monkeypatch.setattr(run, "CASE", pretrained.Case("cells", "cnn", 5))
    names = ("first 1 copied", "last 1 copied")
    monkeypatch.setattr(run, "VARIANTS", {name: run.VARIANTS[name] for name in names})
    return tmp_path


def test_every_variant_is_tuned_within_its_labels_and_both_pairs_have_a_line(shrunk):
    lines = run.EXPERIMENT.collect(shrunk, range(2))
    assert len(lines.where(part="source")) == 2
    ended = lines.where(part="test")
    assert len(ended) == 2 * len(run.VARIANTS) * 2
    for line in ended:
        tuned = lines.where(part="tuning", pair=line["pair"], variant=line["variant"])
        tried = tuned.where(seed=line["seed"])
        assert line["knob"] == max(tried, key=lambda li: (li["held"], -li["held_loss"]))["knob"]
    section = run.EXPERIMENT.section(lines)
    assert "| first 1 copied | " in section and "of 1 comparisons" in section


def configured(pair, name):
    """The config of the first draw of a variant."""

    class Origins:
        seed = 0
        workdir = None

        def origin(self, row):
            return "run:source"

    made = run.row(pair, name, 0.01, run.CASE.labels)
    config = made.config()
    made.edit(config, Origins())
    return config


def test_the_last_layers_include_the_head_where_the_classes_stay(shrunk):
    run.VARIANTS["last 1 copied, frozen"] = run.copied("last", 1, moves=False)
    config = configured("inverted inputs", "last 1 copied, frozen")
    copied = [path for path, origin in config.start if origin == "run:source"]
    assert copied == ["trunk/conv_1/**", "heads/**"]
    assert [path for path, factor in config.train if factor == 0.0] == copied
    assert all(part.transforms[0]["name"] == "invert" for part in config.evaluate.values())
    config = configured("new classes", "last 1 copied")
    assert [path for path, _ in config.start] == ["trunk/conv_1/**", "**"]
    assert dict(config.train) == {"**": 1.0}
    assert "invert" not in str(config.streams)

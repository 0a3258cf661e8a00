"""What `tljax params` says of every phase's parameters."""

import re
import sys
from pathlib import Path

import pytest

from tljax.errors import UserError
from tljax.main import main
from tljax.report import inventory, methods

ROOT = Path(__file__).parents[1]
TRUNK = {"trunk/dense_0/kernel": ((16, 6), 96), "trunk/dense_0/bias": ((6,), 6)}
HEAD = {"output/kernel": ((6, 10), 60), "output/bias": ((10,), 10)}


def told(leaves, *fields):
    return {leaf["path"]: tuple(leaf[field] for field in fields) for leaf in leaves}


def test_each_phase_starts_and_moves_as_its_rules_say(small):
    small.network.heads.other = dict(name="linear")
    small.second = dict(
        terms=dict(
            label=dict(term="cross_entropy", stream="target"),
            other=dict(term="cross_entropy", stream="target", head="other"),
        ),
        start=(("heads/other/**", "fresh"), ("**", "first")),
        train=(("trunk/**/kernel", 0.0), ("trunk/**", 0.1), ("**", 1.0)),
    )
    phases = inventory.collect(small)
    assert list(phases) == ["first", "second"]
    label = {f"heads/label/{path}": size for path, size in HEAD.items()}
    assert told(phases["first"], "shape", "count") == {**label, **TRUNK}
    assert set(told(phases["first"], "origin", "factor").values()) == {("fresh", 1.0)}
    assert told(phases["second"], "origin", "factor") == {
        "trunk/dense_0/kernel": ("first", 0.0),
        "trunk/dense_0/bias": ("first", 0.1),
        "heads/label/output/kernel": ("first", 1.0),
        "heads/label/output/bias": ("first", 1.0),
        "heads/other/output/kernel": ("fresh", 1.0),
        "heads/other/output/bias": ("fresh", 1.0),
    }


def test_without_rules_it_is_the_phase_before_and_what_is_new(small):
    """Three phases whose names are not in the order of the alphabet."""
    small.phases = ("zero", "mid", "all")
    small.zero, small.mid = small.first, small.second
    small["all"] = dict(terms=dict(mid=dict(term="cross_entropy", stream="target", head="other")))
    small.network.heads.other = dict(name="linear")
    del small.first, small.second
    phases = inventory.collect(small)
    assert set(told(phases["mid"], "origin").values()) == {("zero",)}
    origins = {p: o for p, (o,) in told(phases["all"], "origin").items()}
    assert {p for p, o in origins.items() if o == "fresh"} == {
        f"heads/other/{path}" for path in HEAD
    }
    assert {o for p, o in origins.items() if "other" not in p} == {"mid"}


def test_what_is_fitted_is_told_from_what_a_preparation_only_reads(small):
    small.network.heads.source_label = dict(name="linear")
    source = dict(term="cross_entropy", stream="source", head="source_label")
    small.first.terms = dict(label=source)
    small.phases = ("first", "second", "third")
    small.second = dict(
        flow=("target",),
        prepare=dict(class_relationship=dict(stream="target")),
        terms=dict(co_tuning=0.5, label=dict(term="cross_entropy", stream="target")),
    )
    small.third = dict(flow=("target",), terms={}, steps=0, prepare=dict(fit=dict(solver="ridge")))
    phases = inventory.collect(small)
    origins = {p.rpartition("/")[0]: o for p, (o,) in told(phases["second"], "origin").items()}
    assert origins == {
        "trunk/dense_0": "first",
        "heads/source_label/output": "first",
        "heads/label/output": "fresh",
    }
    third = told(phases["third"], "origin", "factor")
    assert third["heads/label/output/kernel"] == ("prepare.fit", 0.0)  # no steps: nothing moves
    assert third["trunk/dense_0/bias"] == ("second", 0.0)


def test_a_mistake_in_the_patterns_is_told_without_training(small):
    small.second.train = (("trunk/**", 0.0), ("trunk/dense_0/**", 1.0), ("**", 1.0))
    with pytest.raises(UserError, match=r"^second.train: pattern 'trunk/dense_0/\*\*' never appli"):
        inventory.collect(small)


def test_the_command_prints_layer_transfer(monkeypatch, capsys):
    """Digits of 16×16: 3·3·16 + 16, 3·3·16·32 + 32, and a head of 4·4·32 → hidden → 10."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["tljax", "params", "--config=configs/layer_transfer.py"]) == 0
    printed = capsys.readouterr()
    assert not printed.err
    source, target = printed.out.split("phase target")
    (hidden,) = methods.load(ROOT / "configs" / "layer_transfer.py").network.heads.label.hidden
    convolution, rest = 9 * 16 + 16, 9 * 16 * 32 + 32 + 513 * hidden + (hidden + 1) * 10
    total = f"{convolution + rest:,} parameters"
    assert f"{total}: {convolution + rest:,} move, 0 are frozen; 0 are copied or fitted," in source
    assert f"{total}: {convolution:,} move, {rest:,} are frozen;" in target
    assert f"{convolution + rest:,} are copied or fitted, 0 fresh" in target
    rows = [
        [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]
        for line in target.splitlines()
        if "/" in line
    ]
    assert ["trunk/conv_0/kernel", "3 × 3 × 1 × 16", "144", "source", "× 1"] in rows
    assert ["trunk/conv_1/bias", "32", "32", "source", "frozen"] in rows
    assert len(rows) == 8 and sum(row[-1] == "frozen" for row in rows) == 6
    assert sum(int(row[2].replace(",", "")) for row in rows) == convolution + rest

"""`experiments/few_shot`, shrunk, and its arithmetic worked by hand."""

import csv
import importlib

import pytest

few_shot = importlib.import_module("experiments.few_shot.run")


def shrink(config):
    for fields in (*config.streams.values(), *config.evaluate.values()):
        fields["size"] = 8
        fields["batch"] = 8
    config.network.trunk.channels = (4, 4)
    for head in config.network.heads.values():
        head.hidden = (8,)
    config[config.phases[0]].steps = 2
    config.update(log_every=2, evaluate_every=2, checkpoint_every=2)


def test_it_runs_and_goes_on_where_it_was(tmp_path, monkeypatch):
    kept = ("fine-tuning", "first layer only", "new head, LwF")
    monkeypatch.setattr(few_shot, "METHODS", {name: few_shot.METHODS[name] for name in kept})
    rows = few_shot.collect(1, tmp_path, shrink, counts=(5,))
    wider = few_shot.collect(2, tmp_path, shrink, counts=(5,))
    assert [row["method"] for row in rows] == ["source model", *kept]
    again = [row for row in wider if row["seed"] == 0]
    for before, after in zip(rows, again, strict=True):  # a nan is not equal to itself
        assert {k: v for k, v in before.items() if v == v} == {
            k: v for k, v in after.items() if v == v
        }
    for row in wider[2:]:
        assert 0 <= row["target"] <= 1 and 0 <= row["source"] <= 1


TUNING = [
    dict(knob="L2-SP", rate=0.1, weight=0.01, target=0.9, source=0.5),
    dict(knob="L2-SP", rate=0.1, weight=0.02, target=0.7, source=0.8),
    dict(knob="L2-SP", rate=0.1, weight=0.03, target=0.6, source=0.95),
    dict(knob="other", rate=0.2, weight=0.0, target=0.99, source=0.7),
    dict(knob="other", rate=0.3, weight=0.0, target=0.8, source=0.75),
]


@pytest.mark.parametrize(
    ("knob", "criterion", "expected"),
    [
        ("L2-SP", "target", dict(rate=0.1, weight=0.01)),
        ("L2-SP", "both", dict(rate=0.1, weight=0.03)),  # means .7, .75 and .775
        ("L2-SP", "kept", dict(rate=0.1, weight=0.02)),  # of those that keep 0.8 of the source
        ("other", "kept", dict(rate=0.3, weight=0.0)),  # none does: the most of the source
    ],
)
def test_the_choice_by_hand(knob, criterion, expected):
    assert few_shot.choose(TUNING, knob, criterion) == expected


def test_the_configs_hold_what_was_chosen():
    for name in ("fine-tuning", "first layer only", "L2-SP", "new head, LwF"):
        method, settings = few_shot.METHODS[name], few_shot.chosen()[name]
        target = few_shot.load(method.config).target
        assert target.optimizer.learning_rate == settings["rate"]
        if settings["weight"]:
            assert target.terms[few_shot.WEIGHTED[name]].weight == settings["weight"]


def test_every_method_had_as_many_candidates():
    with open(few_shot.HERE / "tuning.csv", newline="") as file:
        knobs = [row["knob"] for row in csv.DictReader(file)]
    assert {knobs.count(method.knob) for method in few_shot.METHODS.values()} == {8}


def made(targets, sources):
    """Rows of two seeds: method -> its targets and sources, the same at 5 and 10 labels."""
    rows = [
        dict(method="source model", labels=0, seed=seed, target=float("nan"), source=0.9, seconds=1)
        for seed in range(2)
    ]
    for name, method in few_shot.METHODS.items():
        for labels in (5, 10) if method.everywhere else (5,):
            for seed in range(2):
                target = targets.get(name, (0.5, 0.5))[seed]
                source = sources.get(name, (0.5, 0.5))[seed]
                row = dict(method=name, labels=labels, seed=seed, seconds=2.0)
                rows.append(dict(row, target=target, source=source))
    return rows


def test_the_table_by_hand(tmp_path):
    rows = made(
        {"fine-tuning": (0.8, 0.9), "L2-SP": (0.79, 0.89)},  # .01 below on either seed
        {"fine-tuning": (0.1, 0.1), "L2-SP": (0.8, 0.8)},
    )
    section = few_shot.table(rows)
    # t(1) = 12.706; two values .1 apart have s = .0707, s/√2 = .05 and half a width of .635.
    assert (
        "| [L2-SP](configs/l2_sp.py) | 0.840 ± 0.635 | **-0.010 ± 0.000** "
        "| 0.800 ± 0.000 | **+0.700 ± 0.000** | 2.0 |"
    ) in section
    assert "| [fine-tuning](configs/finetune.py) | 0.850 ± 0.635 |  | 0.100" in section
    assert "(met: 0.800)" in section and "(met: 0.010 below)" in section
    assert "| L2-SP | 0.840 ± 0.635 | 0.840 ± 0.635 |" in section
    missed = few_shot.table(made({"fine-tuning": (0.8, 0.9)}, {}))
    assert "(missed: 0.500)" in missed and "(missed: 0.350 below)" in missed
    few_shot.figure(rows, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000

"""`experiments/few_shot`, shrunk, and its arithmetic worked by hand."""

import pytest

from experiments import frame
from experiments.few_shot import run
from experiments.report import Results


def test_it_runs_and_goes_on_where_it_was(goes_on):
    names = ["source", "fine-tuning-5", "first layer only-5", "new head, LwF-5"]
    lines = goes_on(run.EXPERIMENT, names)
    assert [line["method"] for line in lines[::2]] == [
        *("source model", "fine-tuning", "first layer only", "new head, LwF")
    ]
    assert all(0 <= line[name] <= 1 for line in lines[2:] for name in ("target", "source"))


def test_writers_are_parted_and_start_from_a_source_of_their_own(tmp_path):
    """Every part of the digits is of the order of writers, and none is in two of them."""
    rows, name = run.rows(), f"{run.WRITERS}L2-SP-{run.FIRST}"
    members = {f"{run.WRITERS}source": {0: tmp_path / "theirs"}}
    made = frame.configured(rows[name], frame.Run(0, tmp_path, members))
    source = frame.configured(rows[f"{run.WRITERS}source"], frame.Run(0, tmp_path))
    assert [place for _, place in made.target.start] == [f"run:{tmp_path / 'theirs'}"]
    splits = [each.split for each in (*made.streams.values(), *source.streams.values())]
    assert sorted(splits) == ["writers[800:1200]", "writers[:800]"]
    assert {each.split for each in made.evaluate.values()} == {"writers[1400:]"}


@pytest.mark.parametrize(
    ("knob", "criterion", "expected"),
    [
        ("L2-SP", "target", (0.1, 0.01)),
        ("L2-SP", "both", (0.1, 0.03)),  # means .7, .75 and .775
        ("L2-SP", "kept", (0.1, 0.02)),  # of those that keep 0.8 of the source
        ("other", "kept", (0.3, 0.0)),  # none does: the most of the source
    ],
)
def test_the_choice_by_hand(knob, criterion, expected):
    tuned = Results(
        dict(knob=knob, rate=rate, weight=weight, seed=100, target=target, source=source)
        for knob, rate, weight, target, source in (
            ("L2-SP", 0.1, 0.01, 0.9, 0.5),
            ("L2-SP", 0.1, 0.02, 0.7, 0.8),
            ("L2-SP", 0.1, 0.03, 0.6, 0.95),
            ("other", 0.2, 0.0, 0.99, 0.7),
            ("other", 0.3, 0.0, 0.8, 0.75),
        )
    )
    assert run.choose(tuned, knob, criterion) == expected


@pytest.mark.parametrize("name", ["fine-tuning", "first layer only", "L2-SP", "new head, LwF"])
def test_the_configs_hold_what_was_chosen(name):
    rate, weight = run.chosen()[name]
    config = frame.shipped(run.METHODS[name].config)
    assert config.target.optimizer.learning_rate == rate
    if name in run.WEIGHTED:
        assert config.target.terms[run.WEIGHTED[name]].weight == weight


def test_every_method_had_as_many_candidates():
    tuned = run.TUNING.read()
    knobs = {method.knob for method in run.METHODS.values()}
    assert {len(tuned.where(knob=k).means("target", "rate", "weight")) for k in knobs} == {12}


def made(targets, sources):
    """Lines of two seeds: method -> its targets and sources, the same at 5 and 10 labels."""
    before = [
        dict(method="source model", labels=0, seed=seed, target=None, source=0.9, seconds=1)
        for seed in range(2)
    ]
    methods = [
        dict(
            method=name,
            labels=labels,
            seed=seed,
            target=targets.get(name, (0.5, 0.5))[seed],
            source=sources.get(name, (0.5, 0.5))[seed],
            seconds=2.0,
        )
        for name, method in run.METHODS.items()
        for labels in ((5, 10) if method.everywhere else (5,))
        for seed in range(2)
    ]
    return Results(before + methods)


def test_the_table_by_hand():
    section = run.EXPERIMENT.section(
        made(
            {"fine-tuning": (0.8, 0.9), "L2-SP": (0.79, 0.89)},  # .01 below on either seed
            {"fine-tuning": (0.1, 0.1), "L2-SP": (0.8, 0.8)},
        )
    )
    # t(1) = 12.706; two values .1 apart have s = .0707, s/√2 = .05 and half a width of .635.
    assert (
        "| [L2-SP](configs/l2_sp.py) | 0.840 ± 0.635 | **-0.010 ± 0.000** "
        "| 0.800 ± 0.000 | **+0.700 ± 0.000** | 2.0 |"
    ) in section
    assert "| [fine-tuning](configs/finetune.py) | 0.850 ± 0.635 |  | 0.100" in section
    assert "(met: 0.800)" in section and "(met: 0.010 below)" in section
    assert "| L2-SP | 0.840 ± 0.635 | 0.840 ± 0.635 |" in section
    missed = run.EXPERIMENT.section(made({"fine-tuning": (0.8, 0.9)}, {}))
    assert "(missed: 0.500)" in missed and "(missed: 0.350 below)" in missed

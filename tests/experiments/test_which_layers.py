"""`experiments/which_layers`, shrunk, and its arithmetic worked by hand."""

import itertools

from experiments import frame
from experiments.frame import Run
from experiments.report import Results
from experiments.which_layers import run


def test_it_runs_and_goes_on_where_it_was(goes_on):
    names = [
        f"{pair}-{name}"
        for pair in run.PAIRS
        for name in ("source", "last 2 copied", "all copied, only the first moves")
    ]
    lines = goes_on(run.EXPERIMENT, names)
    assert {(line["pair"], line["variant"]) for line in lines} == {
        (pair, name)
        for pair in run.PAIRS
        for name in ("source model", "last 2 copied", "all copied, only the first moves")
    }


def test_the_variants_are_what_their_names_say():
    layers, variants = run.LAYERS, run.VARIANTS
    assert variants["first 1 copied"][0] == layers[:1]
    assert variants["last 1 copied"][0] == layers[3:]
    assert variants["last 3 copied"][0] == layers[1:]
    assert variants["all copied, only the last moves"] == (layers, layers[3:])
    assert variants["nothing copied"] == ((), layers)


def test_new_classes_share_none_with_the_old(tmp_path):
    rows = run.EXPERIMENT.rows()
    members = {"new classes-source": {0: tmp_path}}
    before, after = (
        frame.configured(rows[f"new classes-{name}"], Run(0, tmp_path, members))
        for name in ("source", "all copied")
    )
    assert not set(before.streams.source.classes) & set(after.streams.target.classes)
    assert after.evaluate.target.classes == after.streams.target.classes
    assert after.streams.target.transforms == before.streams.source.transforms


def test_every_variant_had_the_same_candidates():
    tuned = run.TUNING.read()
    for pair, name in itertools.product(run.PAIRS, run.VARIANTS):
        lines = tuned.where(pair=pair, variant=name)
        assert tuple(lines.of("rate")) == run.RATES
        assert all(len(lines.where(rate=rate)) == len(run.TUNING.seeds) for rate in run.RATES)
    rows = [row.columns for row in run.EXPERIMENT.rows().values()]
    pairs = {(columns["pair"], columns["variant"]) for columns in rows if "rate" in columns}
    assert pairs == {(p, v) for p in run.PAIRS for v in run.VARIANTS}


def test_the_table_by_hand():
    reached = {
        "new classes": {"first 1 copied": (0.8, 0.8), "first 2 copied": (0.9, 0.9)},
        "inverted ink": {"first 3 copied": (0.6, 0.7), "last 2 copied": (0.7, 0.7)},
    }
    section = run.EXPERIMENT.section(
        Results(
            dict(pair=pair, variant=name, seed=s, rate=0.1, target=values[s], seconds=2.0)
            for pair in run.PAIRS
            for name in run.VARIANTS
            for values in [reached[pair].get(name, (0.5, 0.5))]
            for s in range(2)
        )
    )
    # Half a width of two values .1 apart: 12.706 · .0707/√2 = .635.
    assert (
        "| first 3 copied | 0.500 ± 0.000 | +0.000 ± 0.000 | 0.1 "
        "| 0.650 ± 0.635 | +0.150 ± 0.635 | 0.1 | 2.0 |"
    ) in section
    assert "| the first two − the last two | **+0.400 ± 0.000** | **-0.200 ± 0.000** |" in section
    assert "the first are better in 2, the last in 0: the data agree" in section
    assert "the last are better in 1, the first in 0: the data agree" in section


def test_a_pair_that_was_not_run_is_said_to_be_missing(tmp_path):
    lines = Results(
        dict(pair="new classes", variant=name, seed=s, rate=0.1, target=0.5 + s / 10, seconds=2.0)
        for name in run.VARIANTS
        for s in range(2)
    )
    section = run.EXPERIMENT.section(lines)
    assert "Inverted ink: not run yet." in section and "New classes: the rule says" in section
    run.EXPERIMENT.figure(lines, tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").stat().st_size > 10_000

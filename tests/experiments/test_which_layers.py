"""`experiments/which_layers`, shrunk, and its arithmetic worked by hand."""

import csv
import importlib

which_layers = importlib.import_module("experiments.which_layers.run")


def shrink(config):
    for fields in (*config.streams.values(), *config.evaluate.values()):
        fields["size"] = 8
        fields["batch"] = 8
    config.network.trunk.channels = (4, 4)
    config.network.heads.label.hidden = (8,)
    config[config.phases[0]].steps = 2
    config.update(log_every=2, evaluate_every=2, checkpoint_every=2)


def test_it_runs_and_goes_on_where_it_was(tmp_path, monkeypatch):
    kept = ("last 2 copied", "all copied, only the first moves")
    chosen = {name: which_layers.VARIANTS[name] for name in kept}
    monkeypatch.setattr(which_layers, "VARIANTS", chosen)
    rows = which_layers.collect(1, tmp_path, shrink)
    wider = which_layers.collect(2, tmp_path, shrink)
    assert [row for row in wider if row["seed"] == 0] == rows
    assert [(row["pair"], row["variant"]) for row in rows] == [
        (pair, name) for pair in which_layers.PAIRS for name in kept
    ]


def test_the_variants_are_what_their_names_say():
    layers, variants = which_layers.LAYERS, which_layers.VARIANTS
    assert variants["first 1 copied"].copied == layers[:1]
    assert variants["last 1 copied"].copied == layers[3:]
    assert variants["last 3 copied"].copied == layers[1:]
    assert variants["all copied, only the last moves"] == (layers, layers[3:])
    assert variants["nothing copied"] == ((), layers)


def test_new_classes_share_none_with_the_old():
    config = which_layers.setup("new classes")
    assert not set(config.streams.source.classes) & set(config.streams.target.classes)
    assert config.evaluate.target.classes == config.streams.target.classes
    assert config.streams.target.transforms == config.streams.source.transforms


def test_every_variant_had_the_same_candidates():
    rates: dict = {}
    with open(which_layers.HERE / "tuning.csv", newline="") as file:
        for row in csv.DictReader(file):
            rates.setdefault((row["pair"], row["variant"]), []).append(row["rate"])
    assert set(rates) == {(p, v) for p in which_layers.PAIRS for v in which_layers.VARIANTS}
    assert len({tuple(each) for each in rates.values()}) == 1


def test_the_table_by_hand(tmp_path):
    reached = {
        "new classes": {"first 1 copied": (0.8, 0.8), "first 2 copied": (0.9, 0.9)},
        "inverted ink": {"first 3 copied": (0.6, 0.7), "last 2 copied": (0.7, 0.7)},
    }
    rows = [
        dict(pair=pair, variant=name, seed=s, rate=0.1, target=values[s], seconds=2.0)
        for pair in which_layers.PAIRS
        for name in which_layers.VARIANTS
        for values in [reached[pair].get(name, (0.5, 0.5))]
        for s in range(2)
    ]
    section = which_layers.table(rows)
    # Half a width of two values .1 apart: 12.706 · .0707/√2 = .635.
    assert (
        "| first 3 copied | 0.500 ± 0.000 | +0.000 ± 0.000 | 0.1 "
        "| 0.650 ± 0.635 | +0.150 ± 0.635 | 0.1 | 2.0 |"
    ) in section
    assert "| the first two − the last two | **+0.400 ± 0.000** | **-0.200 ± 0.000** |" in section
    assert "the first are better in 2, the last in 0: the data agree" in section
    assert "the last are better in 1, the first in 0: the data agree" in section
    which_layers.figure(rows, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000

"""Adaptation chosen without target labels: the scripts shrunk, their arithmetic worked by hand."""

import importlib
import math

import numpy as np
import pytest

run = importlib.import_module("experiments.adaptation.run")
together = importlib.import_module("experiments.adaptation.together")
tune = importlib.import_module("experiments.adaptation.tune")


def shrink(config):
    for fields in (*config.streams.values(), *config.evaluate.values()):
        if fields.data.startswith("idx:"):  # garments are not installed everywhere
            fields.update(data="digits", split="train[:100]")
        fields["size"] = 8
        fields["batch"] = 8
    config.network.trunk.channels = (4, 4)
    for head in config.network.heads.values():
        head.hidden = (8,)
    phases = [config[name] for name in config.phases]
    for phase in phases or [config]:
        phase.steps = 4
    config.update(log_every=4, evaluate_every=4, checkpoint_every=4)


@pytest.fixture
def two_methods(monkeypatch):
    grid = {method: tune.GRID[method] for method in ("source_only", "mcc")}
    monkeypatch.setattr(tune, "GRID", grid)
    return grid


def test_it_tunes_runs_and_goes_on_where_it_was(two_methods, monkeypatch, tmp_path):
    for method, (field, values) in two_methods.items():
        monkeypatch.setitem(two_methods, method, (field, values[:1]))
    tuned = tune.collect((100,), tmp_path, shrink)
    assert len(tuned) == 2 and set(tuned[0]) > set(tune.VALIDATORS)
    assert all(np.isfinite(row[name]) for row in tuned for name in tune.VALIDATORS)
    monkeypatch.setattr(tune, "read", lambda: tuned)
    monkeypatch.setitem(run.METHODS, "digits", ("source_only",))
    monkeypatch.setitem(run.METHODS, "garments", ("mcc",))
    rows = run.collect(1, tmp_path, shrink)
    wider = run.collect(2, tmp_path, shrink)
    assert len(rows) == 2 and len(wider) == 4
    assert [row for row in wider if row["seed"] == 0] == rows
    run.figure(wider, tuned, tmp_path / "results.png")
    assert (tmp_path / "results.png").stat().st_size > 10_000


def test_the_combination_is_held_against_its_parts(monkeypatch, tmp_path):
    parts = {name: together.VARIANTS[name] for name in ("fine-tuning", "all")}
    monkeypatch.setattr(together, "VARIANTS", parts)
    tuned = [dict(method=name, value=0.02, target=1.0, seed=100) for name in parts]
    monkeypatch.setattr(together, "RATES", (0.02,))
    rows = together.collect(1, tmp_path, shrink, tuned)
    assert together.collect(1, tmp_path, shrink, tuned) == rows
    assert [row["method"] for row in rows] == ["fine-tuning", "all"]


def test_a_validator_chooses_by_its_mean_over_seeds_and_its_direction():
    rows = [
        dict(method="mcc", value=value, seed=seed, entropy=entropy, oracle=oracle)
        for value, seed, entropy, oracle in (
            *((1.0, 100, 0.9, 0.5), (1.0, 101, 0.1, 0.7)),  # means 0.5 and 0.6
            *((3.0, 100, 0.4, 0.9), (3.0, 101, 0.4, 0.1)),  # means 0.4 and 0.5
        )
    ]
    assert tune.chosen(rows, "entropy") == {"mcc": 3.0}  # the lower
    assert tune.chosen(rows, "oracle") == {"mcc": 1.0}  # the higher


def test_the_table_by_hand():
    reached = {"source_only": (0.6, 0.7, 0.8), "mcc": (0.8, 0.9, 0.7), "dann": (0.8, 0.9, 1.0)}
    rows = [
        dict(task="digits", method=m, value=1.0, seed=s, target=v, source=1.0, seconds=s)
        for m, values in reached.items()
        for s, v in enumerate(values)
    ]
    rows.append({**rows[0], "task": "garments", "target": 0.0})
    table = run.table(rows)
    # MCC's differences .2, .2, −.1: mean .1, t(2) = 4.3027, s = .1732.
    half = 4.302653 * 0.173205 / math.sqrt(3)
    assert f"| +0.100 ± {half:.3f} | 0.700 |" in table
    assert "| **+0.200 ± 0.000** | 0.800 | 1.000 ± 0.000 | 1 |" in table  # DANN's
    assert "| learning rate 1 | 0.700 ± 0.248 | – |" in table


def test_the_section_names_the_seeds_that_collapsed(two_methods, monkeypatch):
    monkeypatch.setattr(run, "METHODS", {"digits": ("source_only", "mcc")})
    monkeypatch.setattr(run, "validators_table", lambda tuned: "validators")
    rows = [
        dict(task="digits", method=m, value=1.0, seed=s, target=v, source=1.0, seconds=1.0)
        for m, values in (("source_only", (0.6, 0.7)), ("mcc", (0.1, 0.9)))
        for s, v in enumerate(values)
    ]
    section = run.section(rows, [])
    assert "Seeds that ended below 0.5: mcc 1." in section
    assert "Fashion-MNIST" not in section and "combination" not in section


def test_the_validators_table_by_hand(two_methods):
    # Entropy takes the lower mean: 0.05 of source only and 0.3 of MCC; among all MCC's 0.3.
    scores = {
        ("source_only", 0.02): (0.9, 0.6),
        ("source_only", 0.05): (0.5, 0.7),
        ("source_only", 0.1): (0.8, 0.9),
        ("mcc", 0.3): (0.1, 0.2),
        ("mcc", 1.0): (0.2, 0.8),
        ("mcc", 3.0): (0.3, 0.3),
    }
    rows = [
        {**dict.fromkeys(tune.VALIDATORS, 0.0), "entropy": entropy, "oracle": test}
        | dict(method=method, value=value, seed=100, test=test)
        for (method, value), (entropy, test) in scores.items()
    ]
    lines = {line.split(" | ")[0][2:]: line for line in run.validators_table(rows).splitlines()}
    # The oracle reaches 0.9 and 0.8, mean 0.85; entropy 0.7 and 0.2, mean 0.45. Ranks of −entropy
    # 1 3 2 6 5 4, of accuracy 3 4 6 1 5 2: Σd² = 4 + 1 + 16 + 25 + 0 + 4 = 50, 1 − 300/210 = −.43.
    assert lines["entropy"].endswith("| 0.700 | 0.200 | -0.400 | 0.200 (mcc 0.3) | -0.43 |")
    oracle = "| 0.900 | 0.800 | +0.000 | 0.900 (source_only 0.1) | +1.00 |"
    assert lines["*oracle: target labels*"].endswith(oracle)


def test_the_combinations_table_by_hand():
    reached = dict.fromkeys(together.VARIANTS, (0.5, 0.6)) | {"all": (0.7, 0.8)}
    rows = [
        dict(task="together", method=m, value=0.02, seed=s, target=v, source=1.0, seconds=2.0)
        for m, values in reached.items()
        for s, v in enumerate(values)
    ]
    table = together.table(rows)
    assert "| all | 0.02 | 0.750 ± 0.635 | **+0.200 ± 0.000** | – | 1.000 ± 0.000 | 2 |" in table
    assert "| + DANN | 0.02 | 0.550 ± 0.635 | +0.000 ± 0.000 | **+0.200 ± 0.000** |" in table


def test_the_shipped_configs_hold_what_was_chosen():
    chosen = tune.chosen(tune.read(), tune.MAIN)
    for method in set(chosen) - {"dann", "source_only"}:
        config = importlib.import_module(f"configs.{method}").get_config()
        field = tune.GRID[method][0]
        for part in field.split("."):
            config = config[part]
        assert config == chosen[method], field

"""Adaptation chosen without target labels: the scripts shrunk, their arithmetic worked by hand."""

import math

import numpy as np
import pytest

from experiments import frame
from experiments.adaptation import run
from experiments.report import Results


def test_the_validators_score_runs_that_go_on(goes_on):
    tuned = goes_on(run.TUNING, ["MCC-3"])
    assert all(np.isfinite(line[name]) for line in tuned for name in (*run.VALIDATORS, "test"))
    chosen = {name: run.chosen(tuned, name) for name in run.VALIDATORS}
    assert all(choice == {"MCC": 3.0} for choice in chosen.values())


def test_the_chosen_run_on_both_tasks_and_go_on(goes_on):
    asked = [("digits", "per-domain normalisation"), ("digits", "pseudo-labels")]
    asked += [("digits", "CDAN+E, held"), ("garments", "MK-MMD")]
    lines = goes_on(run.EXPERIMENT, ["-".join(names) for names in asked])
    assert [(line["task"], line["method"]) for line in lines[::2]] == asked
    assert all(0 <= line["a_distance"] <= 2 for line in lines)


def test_the_combination_is_held_against_its_parts(goes_on):
    lines = goes_on(run.TOGETHER, ["pretrained", "all-0.02"])
    assert lines.of("method") == ["pretrained", "all"]
    tuned = Results(
        dict(method=name, value=value, seed=100, target=value if name == "all" else 1 - value)
        for name in run.VARIANTS
        for value in run.TOGETHER_RATES
    )
    rows = run.combined(tuned)
    assert rows["together-all"].columns["value"] == 0.05
    assert rows["together-fine-tuning"].columns["value"] == 0.002


def test_a_validator_chooses_by_its_mean_over_seeds_and_its_direction():
    lines = Results(
        dict(method="mcc", value=value, seed=seed, entropy=entropy, oracle=oracle)
        for value, seed, entropy, oracle in (
            *((1.0, 100, 0.9, 0.5), (1.0, 101, 0.1, 0.7)),  # means 0.5 and 0.6
            *((3.0, 100, 0.4, 0.9), (3.0, 101, 0.4, 0.1)),  # means 0.4 and 0.5
        )
    )
    assert run.chosen(lines, "entropy") == {"mcc": 3.0}  # the lower
    assert run.chosen(lines, "oracle") == {"mcc": 1.0}  # the higher
    lines[-1]["lost"] = None  # one run of 3.0 was not finite: refused
    assert run.chosen(lines, "entropy") == {"mcc": 1.0}
    lines[0]["lost"] = 1.0  # calls all of the target the same; nothing else is left
    assert run.chosen(lines, "entropy") == {"mcc": 3.0}


def made(task, reached, seconds=1.0):
    return Results(
        dict(task=task, method=m, value=1.0, seed=s, target=v, source=1.0, seconds=seconds)
        | dict(a_distance=0.5)
        for m, values in reached.items()
        for s, v in enumerate(values)
    )


def test_the_strongest_simple_row_is_the_validators():
    tuned = Results(
        {"method": method, "value": rate, "seed": seed, run.MAIN: score, "oracle": 1 - score}
        for method, rate, scores in [
            ("source only", 0.1, (0.5, 0.9)), ("per-domain normalisation", 0.1, (0.1, 0.1)),
            ("per-domain normalisation", 0.2, (0.8, 0.8)), ("MCC", 0.3, (2.0, 2.0)),
        ]
        for seed, score in enumerate(scores)
    )  # fmt: skip
    assert run.strongest(tuned) == "per-domain normalisation"


def test_the_table_by_hand(monkeypatch):
    monkeypatch.setattr(run, "BEST", "source only")
    reached = {"source only": (0.4, 0.7, 1.0), "MCC": (0.6, 0.9, 0.9), "DANN": (0.6, 0.9, 1.2)}
    table = run.table(made("digits", reached))
    # MCC's differences .2, .2, −.1: mean .1, t(2) = 4.3027, s = .1732.
    half = 4.302653 * 0.173205 / math.sqrt(3)
    assert f"| +0.100 ± {half:.3f} | 0.600 | 0 of 3 |" in table
    last = "| 0.500 ± 0.000 | 1.000 ± 0.000 | 1 |"
    assert f"| **+0.200 ± 0.000** | 0.600 | 0 of 3 {last}" in table  # DANN's
    assert "| learning rate 1 | 0.700 ± 0.745 | – | 0.400 | 1 of 3 |" in table


def test_the_section_tells_of_the_combination_once_it_is_there():
    digits = made("digits", {"source only": (0.6, 0.7), "MCC": (0.1, 0.9)})
    garments = made("garments", {"source only": (0.1, 0.7)})
    section = run.EXPERIMENT.section(Results(digits + garments))
    assert "[MCC](configs/mcc.py)" in section and "combination" not in section
    mixed = made("together", dict.fromkeys(run.VARIANTS, (0.5, 0.6)))
    assert "[combination]" in run.EXPERIMENT.section(Results(digits + garments + mixed))


def test_the_validators_table_by_hand():
    # Entropy takes the lower mean: 0.05 of source only and 0.3 of MCC; among all MCC's 0.3.
    scores = {
        ("source_only", 0.02): (0.9, 0.6),
        ("source_only", 0.05): (0.5, 0.7),
        ("source_only", 0.1): (0.8, 0.9),
        ("mcc", 0.3): (0.1, 0.2),
        ("mcc", 1.0): (0.2, 0.8),
        ("mcc", 3.0): (0.3, 0.3),
    }
    lines = Results(
        {**dict.fromkeys(run.VALIDATORS, 0.0), "entropy": entropy, "oracle": test}
        | dict(method=method, value=value, seed=100, test=test)
        for (method, value), (entropy, test) in scores.items()
    )
    table = {line.split(" | ")[0][2:]: line for line in run.validators_table(lines).splitlines()}
    # The oracle reaches 0.9 and 0.8, mean 0.85; entropy 0.7 and 0.2, mean 0.45. Ranks of −entropy
    # 1 3 2 6 5 4, of accuracy 3 4 6 1 5 2: Σd² = 4 + 1 + 16 + 25 + 0 + 4 = 50, 1 − 300/210 = −.43.
    assert table["entropy"].endswith("| -0.400 | -0.600 (mcc) | 0.200 (mcc 0.3) | -0.43 |")
    oracle = "| +0.000 | +0.000 (source_only) | 0.900 (source_only 0.1) | +1.00 |"
    assert table["*oracle: target labels*"].endswith(oracle)


def test_the_combinations_table_by_hand():
    reached = dict.fromkeys(run.VARIANTS, (0.5, 0.6)) | {"all": (0.7, 0.8)}
    table = run.combined_table(made("together", reached, seconds=2.0))
    assert "| all | 1 | 0.750 ± 0.635 | **+0.200 ± 0.000** | – | 1.000 ± 0.000 | 2 |" in table
    assert "| + DANN | 1 | 0.550 ± 0.635 | +0.000 ± 0.000 | **+0.200 ± 0.000** |" in table


CHOSEN = run.chosen(run.TUNING.read(), run.MAIN)


@pytest.mark.parametrize("name", ["CDAN+E", "MK-MMD", "CORAL", "MCC", "MDD"])
def test_the_shipped_configs_hold_what_was_chosen(name):
    """But where the validator prefers an end of the grid: next to nothing of a method, or too much
    of it."""
    method = run.METHODS[name]
    config = frame.shipped(method.config)
    for part in method.knob.split("."):
        config = config[part]
    ends = CHOSEN[name] in (min(method.values), max(method.values))
    assert config in method.values if ends else config == CHOSEN[name]

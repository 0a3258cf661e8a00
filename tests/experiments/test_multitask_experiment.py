"""The multitask experiment, shrunk, and its arithmetic worked by hand."""

import pytest

from experiments import frame
from experiments.frame import Run
from experiments.multitask import run
from experiments.report import Results


def test_it_runs_and_goes_on_where_it_was(goes_on):
    names = ["multitask_digits-digits alone-2", "multitask_digits-bits alone-0"]
    names += ["multitask_digits-random bits-2", "multitask_stems-grey alone-0"]
    names += [f"multitask_digits-{method}-2" for method in run.SEQUENTIAL]
    lines = goes_on(run.EXPERIMENT, names)
    without = {
        "bits alone": ["target"],
        **dict.fromkeys(("digits alone", *run.SEQUENTIAL), ["other"]),
    }
    for line in lines:
        missing = [name for name in ("target", "other") if line.get(name) is None]
        assert missing == without.get(line["method"], [])


def configured(name, seed):
    return frame.configured(run.EXPERIMENT.rows()[name], Run(seed, None))


def test_the_shipped_config_is_the_method_sum():
    config = configured("multitask_digits-sum-2", 0)
    shipped = frame.shipped("multitask_digits")
    changed = {"optimizer", "evaluate_every", "checkpoint_every", "figures"}
    assert {k for k, v in config.items() if v != shipped[k]} <= changed
    assert configured("multitask_digits-wrong bits-2", 7).tables.segments.permute == 7


@pytest.mark.parametrize("method", ["sum", "bits, then neighbours"])
def test_writers_of_the_test_are_in_no_stream(method, tmp_path):
    row = run.EXPERIMENT.rows()[f"writers-{method}-2"]
    members = {"writers-bits alone-0": {0: tmp_path}}
    config = frame.configured(row, Run(0, tmp_path, members))
    assert all(s.split.startswith("writers[") for s in config.streams.values())
    assert {each.split for each in config.evaluate.values()} == {"writers[1400:]"}


@pytest.mark.parametrize(("setting", "method"), [("multitask_digits", m) for m in run.BALANCED])
def test_a_balancer_is_a_field(setting, method):
    assert configured(f"{setting}-{method}-2", 0).balance.name == method


def test_the_strongest_of_one_task_at_a_time_by_hand():
    tuned = Results(
        dict(setting="multitask_digits", method=method, learning_rate=rate, seed=0, accuracy=value)
        for method, rate, value in [
            ("digits alone", 0.1, 0.7), ("bits, then a probe", 0.1, 0.6), ("sum", 0.1, 0.9),
            ("bits, then a probe", 1.0, 0.8), ("bits, then neighbours", 1, 0.75),
        ]
    )  # fmt: skip
    assert run.strongest(tuned) == "bits, then a probe"


def test_the_table_by_hand():
    reached = {
        ("digits alone", 2): ([0.5, 0.6], [None, None]),
        ("bits alone", 0): ([None, None], [0.8, 0.8]),
        # Gains .1 and .2: mean .15, s = .0707, t(1) = 12.706, so ± .635: not clear of 0.
        # Δp: (.1/.5 + 0)/2 = .1 and (.2/.6 − .4/.8)/2 = −.0833: mean .008.
        ("sum", 2): ([0.6, 0.8], [0.8, 0.4]),
        ("wrong bits", 2): ([0.6, 0.7], [0.1, 0.1]),  # gains .1 twice: clear of 0
    }
    results = Results(
        dict(setting="multitask_digits", method=method, per_class=n, seed=seed)
        | dict(learning_rate=0.03, target=targets[seed], other=others[seed], seconds=2.0)
        for (method, n), (targets, others) in reached.items()
        for seed in (0, 1)
    )
    lines = {
        line.split(" | ")[0][2:]: line
        for line in run.table(results, "multitask_digits", 2).splitlines()
    }
    assert (
        "| 0.700 ± 1.271 | +0.150 ± 0.635 | 0.600 ± 2.541 | 0.008 ± 1.165 | 0.03 | 2.0 |"
        in lines["sum"]
    )
    assert "| **+0.100 ± 0.000** | 0.100 ± 0.000 | – |" in lines["wrong bits"]
    assert lines["bits alone"] == "| bits alone | – | – | 0.800 ± 0.000 | – | 0.03 | 2.0 |"

"""Self-taught learning, shrunk, and its table worked by hand."""

import pytest

from experiments import frame
from experiments.frame import Run
from experiments.report import Results
from experiments.self_taught import run
from tljax import experiment


def test_it_runs_and_goes_on_where_it_was(goes_on):
    """With one label a class to fine-tune, and two ways to learn features."""
    names = ["pixels", "SimCLR", "autoencoder", "CNN from scratch, augmented-1", "fine-tuned-1"]
    lines = goes_on(run.EXPERIMENT, names)
    assert all(0 <= line["accuracy"] <= 1 for line in lines)
    assert len(lines) == 2 * (4 + 3 * 4 + 4 + 1 + 1)  # of SimCLR three readouts, at four numbers
    features = lines.where(method="SimCLR, softmax", shots=1)
    tuned = lines.where(method="SimCLR, fine-tuned, augmented")
    seconds = zip(tuned.values("seconds"), features.values("seconds"), strict=True)
    assert all(t > f for t, f in seconds)


@pytest.mark.parametrize("method", run.NUMBERS)
def test_each_way_to_learn_features_is_a_config(method, tmp_path):
    row = run.EXPERIMENT.rows()[method]
    config = experiment.resolve(frame.configured(row, Run(3, tmp_path)))
    assert config["phases"] == ("represent", "read")
    own = {path for columns, wanted in row.reads for path in wanted.values()}
    assert {path.removesuffix("/accuracy") for path in own} == set(config["evaluate"])
    assert f"{run.best(method, 'value')[0]!r}" in repr((config["represent"], config["streams"]))


def test_the_shipped_configs_hold_what_was_chosen():
    simclr, auto = (frame.shipped(f"self_taught_{name}") for name in ("simclr", "autoencoder"))
    chosen = simclr.represent.terms.agree.temperature, simclr.read.prepare.softmax.penalty
    assert chosen == run.best("SimCLR", "value", "penalty")
    chosen = auto.streams.noisy.transforms[0]["std"], auto.read.prepare.softmax.penalty
    assert chosen == run.best("denoising autoencoder", "value", "penalty")


def test_the_tuning_goes_from_stage_to_stage(monkeypatch):
    """Fine-tuning starts from the features that were best of SimCLR's."""
    asked = []

    def collect(rows):
        asked.extend(rows)
        return Results(
            dict(said, seed=100, accuracy=said.get("value") == 0.2)
            for row in rows.values()
            for said in row.said()
        )

    results = run.stages(collect)
    assert asked[0] == "pixels" and "fine-tuned-0.001-5" in asked
    assert results.where(method="SimCLR, ridge").of("value") == [0.2]


def test_table_by_hand():
    lines = []
    for method in run.METHODS:
        for shots in run.SHOTS:
            values = [0.6, 0.6]
            if method == run.OURS:  # over pixels .1 and .1; at ten labels .1 and −.1
                values = [0.7, 0.7 if shots < 10 else 0.5]
            for seed, value in enumerate(values):
                line = dict(method=method, seed=seed, shots=shots, accuracy=value)
                lines.append(line | dict(seconds=1 + 4 * seed))
    section = run.EXPERIMENT.section(Results(lines))
    half = 12.706205 * 0.141421 / 2**0.5  # t(1) = 12.706, s = .1414
    same = " | ".join(["0.700 ± 0.000"] * 3)
    row = f"| {run.OURS} | {same} | 0.600 ± {half:.3f} | **+0.100 ± 0.000** | 3 |"
    assert row in section
    assert f"**+0.100 ± 0.000** at 5, +0.000 ± {half:.3f} at 10 a class." in section
    assert f"| {run.BEST} | " + " | ".join(["0.600 ± 0.000"] * 4) + " |  | 3 |" in section


def test_the_strongest_simple_row_is_chosen_in_tuning():
    tuned = Results(
        dict(method=method, value=value, penalty=1.0, seed=100, accuracy=accuracy)
        for method, value, accuracy in [
            ("pixels", 0.0, 0.7), (run.SPREAD, 5, 0.9), (run.SPREAD, 10, 0.6), (run.PCA, 20, 0.8),
            (run.OURS, 0.5, 0.95),
        ]
    )  # fmt: skip
    assert run.strongest(tuned) == run.SPREAD


def test_simple_rows_predict_the_test():
    """From one label a class, far more of the 397 digits than by chance."""
    for name in run.SIMPLE:
        value, penalty = run.best(name, "value", "penalty")
        predicted, true = run.simple(name, value, penalty, 1, run.TEST).fit(0)["accuracy"]
        assert len(predicted) == len(true) == 397 and (predicted == true).mean() > 0.4

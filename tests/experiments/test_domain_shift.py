"""The experiment on the domain shift, shrunk, and its table worked by hand."""

from experiments.domain_shift import run
from experiments.domain_shift.run import EXPERIMENT, METHODS, TUNING
from experiments.mnist_m.run import LOOKS
from experiments.report import Results


def test_it_runs_and_goes_on_where_it_was(goes_on):
    wider = goes_on(EXPERIMENT, [*METHODS])
    assert "| [DANN](configs/dann.py) |" in EXPERIMENT.section(wider)


def test_tuning_runs_and_sees_no_digit_of_a_result(goes_on):
    tried = [f"{name}-0.02" for name in ("source only + augmentation", "target supervised")]
    lines = goes_on(TUNING, tried)
    assert all(line["validator"] is not None for line in lines)
    assert not set(TUNING.seeds) & set(EXPERIMENT.seeds)


def test_augmentation_is_on_every_stream_and_no_evaluation(tmp_path):
    declared = {
        name: run.frame.configured(row, run.Run(0, tmp_path))
        for name, row in EXPERIMENT.rows().items()
    }
    plain, augmented = declared["DANN"], declared["DANN + augmentation"]
    assert plain.evaluate == augmented.evaluate
    for name, stream in augmented.streams.items():
        before = plain.streams[name].get("transforms", ())
        assert stream.transforms == (*before, *LOOKS["augmented"])


def test_the_choices_by_hand():
    """Of two rates the one of the higher mean of its column; of simple rows the higher best."""
    tuned = Results(
        dict(method=method, learning_rate=rate, seed=seed, validator=validator, target=target)
        for method, rate, values in [
            ("source only", 0.1, [(1.0, 0.1), (1.2, 0.2)]),
            ("source only", 0.2, [(0.9, 0.9), (1.1, 0.9)]),
            ("source only + augmentation", 0.1, [(1.3, 0.3), (0.7, 0.3)]),
            ("target supervised", 0.1, [(2.0, 0.8), (2.0, 0.8)]),
            ("target supervised", 0.2, [(1.0, 0.9), (1.0, 0.9)]),
        ]
        for seed, (validator, target) in enumerate(values)
    )
    assert run.chosen(tuned, "source only") == 0.1
    assert run.chosen(tuned, "target supervised") == 0.2
    assert run.strongest(tuned) == "source only"


def test_the_table_by_hand():
    runs = {
        "source only": [0.6, 0.7, 0.8],
        "source only + augmentation": [0.9, 0.9, 0.9],
        "DANN": [0.8, 0.9, 0.7],  # gains .2, .2, −.1: mean .1, t(2) = 4.3027, s = .1732
        "DANN + augmentation": [0.9, 0.9, 0.9],
        "target supervised": [1.0, 1.0, 0.7],  # the gap .7 → .9, of which .8 is half
    }
    section = EXPERIMENT.section(
        Results(
            dict(method=m, learning_rate=0.1, seed=seed, target_accuracy=v, source_accuracy=1.0)
            for m, values in runs.items()
            for seed, v in enumerate(values)
        )
    )
    half = 4.302653 * 0.173205 / 3**0.5
    assert f"DANN − source only: +0.100 ± {half:.3f}, 50% of the gap" in section
    assert "below the worst of source only: 0." in section
    assert "| [DANN](configs/dann.py) | 0.1 | 0.800 ± 0.248 |" in section

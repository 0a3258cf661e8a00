"""The experiment on the domain shift, shrunk, and its table worked by hand."""

from experiments.domain_shift.run import EXPERIMENT
from experiments.report import Results


def test_it_runs_and_goes_on_where_it_was(goes_on):
    wider = goes_on(EXPERIMENT, ["source_only", "dann", "target_supervised"])
    assert "| [dann](configs/dann.py) |" in EXPERIMENT.section(wider)


def test_the_table_by_hand():
    runs = {
        "source_only": [0.6, 0.7, 0.8],
        "dann": [0.8, 0.9, 0.7],  # gains .2, .2, −.1: mean .1, t(2) = 4.3027, s = .1732
        "target_supervised": [1.0, 1.0, 0.7],  # the gap .7 → .9, of which .8 is half
    }
    section = EXPERIMENT.section(
        Results(
            dict(method=method, seed=seed, target_accuracy=value, source_accuracy=1.0)
            for method, values in runs.items()
            for seed, value in enumerate(values)
        )
    )
    half = 4.302653 * 0.173205 / 3**0.5
    assert f"**0.100 ± {half:.3f}**" in section
    assert "closed: **50%**" in section
    assert "below the worst of source only: 0." in section
    assert "| [dann](configs/dann.py) | 0.800 ± 0.248 | 0.700 | 1.000 ± 0.000 |" in section

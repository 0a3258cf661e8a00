"""What keeps the game: the rows differ in what they say, run shrunk, and are counted by hand."""

import pytest

from experiments.report import Results
from experiments.stability import run
from experiments.stability.run import EXPERIMENT, GAMES, WAYS


def test_it_runs_and_goes_on_where_it_was(goes_on):
    wider = goes_on(EXPERIMENT, ["DANN-1-smoothing 0.1 + spectral norm", "CDAN+E-1-ramp γ 5"])
    assert "| CDAN+E | 1 | ramp γ 5 |" in EXPERIMENT.section(wider)


@pytest.mark.parametrize("game", GAMES)
def test_rows_are_the_shipped_config_but_for_what_they_say(game, tmp_path):
    config, scales = GAMES[game]
    shipped = run.frame.shipped(config)
    assert shipped.terms.domain.scale == scales[0]
    for way in WAYS:
        name = f"{game}-{scales[0]:g}-{way}"
        made = run.frame.configured(EXPERIMENT.rows()[name], run.Run(200, tmp_path))
        domain, head = made.terms.domain, made.network.heads.domain
        said = (domain.smoothing == 0.1, domain.gamma == 5.0, head.spectral)
        assert said == ("smoothing" in way, "ramp" in way, "spectral" in way)
        assert made.streams == shipped.streams and not made.evaluate.blind.labelled
        assert made.evaluate.blind.split == shipped.streams.target.split


def test_the_table_by_hand():
    """Of three runs one is lost, of three others one and one that was not finite."""
    reached = {"nothing": [(0.9, 2.0), (0.8, 2.1), (0.1, 0.0)],
               "smoothing 0.1": [(0.9, 2.0), (0.8, 2.0), (0.85, 1.9)],
               "ramp γ 5": [(0.9, 3.0), (0.4, 3.0), (None, None)]}  # fmt: skip
    results = Results(
        dict(game="DANN", scale=1.0, way=way, seed=seed, target=t, source=t, validator=v)
        for way, values in reached.items()
        for seed, (t, v) in enumerate(values)
    )
    assert [run.lost(results.where(way=way)) for way in reached] == [1, 0, 2]
    assert run.winner(results, "DANN", 1.0) == "smoothing 0.1"
    section = EXPERIMENT.section(results)
    assert "| smoothing 0.1 | 0.850 ± 0.124 |" in section and "| 1 of 3 |" in section
    assert "Chosen by the validator: DANN, λ 1: smoothing 0.1." in section

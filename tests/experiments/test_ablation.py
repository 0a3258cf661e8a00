"""DANN over λ × ramp × rate: the rows shrunk, the tables worked by hand."""

import math

from experiments import frame
from experiments.ablation_dann import config, run
from experiments.ablation_dann.run import EXPERIMENT
from experiments.report import Results


def test_it_runs_and_goes_on_where_it_was(goes_on):
    lines = goes_on(EXPERIMENT, ["rate=0.02-scale=0-gamma=10", "rate=0.02-scale=1-gamma=10"])
    assert [(line["scale"], line["seed"]) for line in lines] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert all(math.isfinite(line[name]) for line in lines for name in EXPERIMENT.reads)


def test_the_sweep_has_every_cell_once_and_dann_among_them():
    cells = config.cells()
    assert len({tuple(cell.items()) for cell in cells}) == len(cells) == 21  # λ = 0 has one ramp
    assert run.shipped() in cells
    assert len(frame.grid.members(config.get_config(), config.sweep())) == 21 * 5
    assert [row.columns for row in EXPERIMENT.rows().values()] == cells


def made(cells):
    """Lines of (rate, scale, gamma) -> the seeds' (target, source, validator); None: failed."""
    return run.counted(lines(cells))


def lines(cells):
    return Results(
        dict(rate=rate, scale=scale, gamma=gamma, seed=seed)
        | dict(zip(EXPERIMENT.reads, ended or (None, None, None), strict=True))
        for (rate, scale, gamma), seeds in cells.items()
        for seed, ended in enumerate(seeds)
    )


CELLS = {
    (0.02, 0.0, 10.0): ((0.6, 1.0, 1.0), (0.7, 1.0, 1.2), (0.8, 1.0, 1.4)),  # means .7, 1.2
    (0.02, 1.0, 10.0): ((0.8, 1.0, 2.0), (0.9, 1.0, 2.0), (0.7, 1.0, 2.0)),  # .8, 2.0
    (0.02, 1.0, 1000.0): ((0.9, 1.0, 1.5), (0.8, 1.0, 1.5), (0.7, 1.0, 1.5)),  # .8, 1.5
    (0.02, 3.0, 10.0): ((0.9, 1.0, 1.9), (0.9, 1.0, 1.9), (0.9, 1.0, 1.9)),  # .9, 1.9
    (0.02, 3.0, 1000.0): ((0.3, 0.9, 9.0), (0.1, 0.1, 9.0), None),  # .4/3, −∞
}


def test_the_table_by_hand():
    table = run.table(made(CELLS))
    assert "| 0.02 | 0 | – | 0.700 ± 0.248 | – | 0.600 | 0 | 0 | 1.000 ± 0.000 | 1.200 |" in table
    # Differences .2, .2, −.1: mean .1, t(2) = 4.3027, s = .1732.
    half = 4.302653 * 0.173205 / math.sqrt(3)
    assert f"| 0.02 | 1 | γ 10 | 0.800 ± 0.248 | +0.100 ± {half:.3f} | 0.700 | 0 | 0 |" in table
    # .3, .1 and the failed run's 0: mean .1333, s = .1528; − .6 .7 .8: −.3, −.6, −.8, s = .2517.
    mean, gain = (4.302653 * s / math.sqrt(3) for s in (0.152753, 0.251661))
    assert f"| 3 | at once | 0.133 ± {mean:.3f} | -0.567 ± {gain:.3f} | 0.000 | 2 | 1 |" in table
    assert table.splitlines()[-1].endswith(" | – |")  # no validator where a run failed


def test_the_ramps_by_hand():
    # λ 1: .1, −.1, 0: mean 0, s = .1. λ 3: −.6, −.8, −.9: mean −.7667, s = .1528.
    none, worse = (4.302653 * s / math.sqrt(3) for s in (0.1, 0.152753))
    lines = run.ramps(made(CELLS)).splitlines()
    assert lines[0] == "| λ | rate 0.02 |"
    assert lines[2].removeprefix("| 1 | ").lstrip("+-") == f"0.000 ± {none:.3f} (0 → 0) |"
    assert lines[3] == f"| 3 | **-0.767 ± {worse:.3f}** (0 → 3) |"


def test_what_was_lost_by_hand():
    text = run.losses(made(CELLS))
    assert text.startswith(
        "2 of 15 runs collapsed, 1 of them on the source as well, and 1 failed. "
    )
    assert (
        "Ramp γ 10: the largest λ · rate that lost no run is 0.06, the smallest that lost" in text
    )
    assert "lost one –. Ramp at once: the largest λ · rate that lost no run is 0.02, the" in text
    assert text.endswith("the smallest that lost one 0.06.")
    best = run.best(made(CELLS))
    assert best == "The highest mean at each rate: rate 0.02: λ 3, ramp γ 10, 0.900."


def test_the_validator_chooses_without_labels_and_never_a_cell_that_failed():
    results = made(CELLS)  # a finished run of the failed cell has the highest validator of all
    names = ("rate", "scale", "gamma")
    cells = [{name: cell[0][name] for name in names} for cell in run.chosen(results).values()]
    assert cells[0] == dict(rate=0.02, scale=1.0, gamma=10.0) == cells[1] == run.shipped()
    assert cells[2] == dict(rate=0.02, scale=3.0, gamma=10.0)
    lines = run.choices(results).splitlines()[2:]
    assert lines[0].endswith("| 0.02 | 1 | γ 10 | 0.800 ± 0.248 | – | 0.700 |")
    assert "| 0.02 | 3 | γ 10 | 0.900 ± 0.000 | +0.100 ± 0.248 | 0.900 |" in lines[2]
    blind = Results({**line, "target": 0.5} for line in results)
    assert run.chosen(blind)["information maximisation"] == blind.where(**cells[0])


def test_rank_correlations_by_hand():
    cells = dict(CELLS)
    cells[0.02, 1.0, 1000.0] = ((0.75, 1.0, 1.5),) * 3  # so that none are tied
    # Ranks of the validator 2 5 3 4 1, of accuracy 2 4 3 5 1: Σd² = 2, 1 − 12/120 = .90; without
    # the lost cell 1 4 2 3 and 1 3 2 4: Σd² = 2, 1 − 12/60 = .80.
    lines = run.correlations(made(cells)).splitlines()
    assert lines[2] == "| every cell | +0.90 (5) | +0.90 (5) |"
    assert lines[3] == "| that lost no run | +0.80 (4) | +0.80 (4) |"
    two = made({place: CELLS[place] for place in list(CELLS)[:2]})
    assert "– (2)" in run.correlations(two)


def test_the_figure_of_failed_runs(tmp_path):
    EXPERIMENT.figure(lines(CELLS), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000

"""DANN over λ × ramp × rate: the sweep shrunk, its tables worked by hand."""

import importlib
import json
import math
import re

import pytest

from tljax.errors import UserError

config = importlib.import_module("experiments.ablation_dann.config")
run = importlib.import_module("experiments.ablation_dann.run")
tables = importlib.import_module("experiments.ablation_dann.tables")


def shrink(config):
    for fields in (*config.streams.values(), *config.evaluate.values()):
        fields["size"] = 8
        fields["batch"] = 8
    config.network.trunk.channels = (4, 4)
    for head in config.network.heads.values():
        head.hidden = (8,)
    config.update(steps=4, log_every=4, evaluate_every=4, checkpoint_every=4, figures=False)


def point(scale, gamma, rate, seed):
    return {
        "terms.domain.scale": scale,
        "terms.domain.gamma": gamma,
        "optimizer.learning_rate": rate,
        "seed": seed,
    }


def test_it_runs_goes_on_where_it_was_and_shows_a_failed_run(tmp_path):
    few = [point(0.0, 10.0, 0.02, 0), point(1.0, 10.0, 0.02, 0)]
    rows = run.collect(few, tmp_path, shrink)
    assert [(row["scale"], row["status"]) for row in rows] == [(0.0, "finished"), (1.0, "finished")]
    assert all(math.isfinite(row[name]) for row in rows for name in run.METRICS)

    wider = run.collect([*few, point(3.0, 1000.0, 1e30, 0)], tmp_path, shrink)
    assert wider[:2] == rows
    assert wider[2]["status"].startswith("failed: phase train")
    assert [wider[2][name] for name in run.METRICS] == [None, None, None]

    left = (tmp_path / "results.csv").stat()
    assert run.collect(few, tmp_path, shrink) == rows  # of the wider sweep's table
    assert (tmp_path / "results.csv").stat().st_mtime_ns == left.st_mtime_ns

    run.report.save(wider, tmp_path / "saved.csv")
    assert run.read(tmp_path / "saved.csv") == wider

    swept = json.loads((tmp_path / "config.json").read_text())
    del swept["sweep"]["precision"]  # as a sweep from before the field was there
    (tmp_path / "config.json").write_text(json.dumps(swept))
    assert run.collect(few, tmp_path, shrink) == rows

    def longer(config):
        shrink(config)
        config.steps = 8

    with pytest.raises(UserError, match="steps"):
        run.collect(few, tmp_path, longer)


def test_the_sweep_has_every_cell_once_and_dann_among_them():
    places = [tuple(point.values()) for point in config.sweep()]
    assert len(places) == len(set(places)) == 21 * 5  # λ = 0 has one ramp, three λ have two
    own = tables.shipped()
    assert point(own["scale"], own["gamma"], own["rate"], 4) in list(config.sweep())


def made(cells):
    """Rows of (rate, scale, gamma) -> the seeds' (target, source, validator); None: failed."""
    return [
        dict(rate=rate, scale=scale, gamma=gamma, seed=seed, status="finished" if ended else "no")
        | dict(zip(run.METRICS, ended or (None, None, None), strict=True))
        for (rate, scale, gamma), seeds in cells.items()
        for seed, ended in enumerate(seeds)
    ]


CELLS = {
    (0.02, 0.0, 10.0): ((0.6, 1.0, 1.0), (0.7, 1.0, 1.2), (0.8, 1.0, 1.4)),  # means .7, 1.2
    (0.02, 1.0, 10.0): ((0.8, 1.0, 2.0), (0.9, 1.0, 2.0), (0.7, 1.0, 2.0)),  # .8, 2.0
    (0.02, 1.0, 1000.0): ((0.9, 1.0, 1.5), (0.8, 1.0, 1.5), (0.7, 1.0, 1.5)),  # .8, 1.5
    (0.02, 3.0, 10.0): ((0.9, 1.0, 1.9), (0.9, 1.0, 1.9), (0.9, 1.0, 1.9)),  # .9, 1.9
    (0.02, 3.0, 1000.0): ((0.3, 0.9, 9.0), (0.1, 0.1, 9.0), None),  # .4/3, −∞
}


def test_the_table_by_hand():
    table = tables.table(made(CELLS))
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
    lines = tables.ramps(made(CELLS)).splitlines()
    assert lines[0] == "| λ | rate 0.02 |"
    assert lines[2].removeprefix("| 1 | ").lstrip("+-") == f"0.000 ± {none:.3f} (0 → 0) |"
    assert lines[3] == f"| 3 | **-0.767 ± {worse:.3f}** (0 → 3) |"


def test_what_was_lost_by_hand():
    said = tables.losses(made(CELLS))
    assert said.startswith(
        "2 of 15 runs collapsed, 1 of them on the source as well, and 1 failed. "
    )
    assert (
        "Ramp γ 10: the largest λ · rate that lost no run is 0.06, the smallest that lost" in said
    )
    assert "lost one –. Ramp at once: the largest λ · rate that lost no run is 0.02, the" in said
    assert said.endswith("the smallest that lost one 0.06.")
    best = tables.best(made(CELLS))
    assert best == "The highest mean at each rate: rate 0.02: λ 3, ramp γ 10, 0.900."


def test_the_validator_chooses_without_labels_and_never_a_cell_that_failed():
    rows = made(CELLS)  # a finished run of the failed cell has the highest validator of all
    found = list(tables.chosen(rows).values())
    assert found[0] == dict(rate=0.02, scale=1.0, gamma=10.0) == found[1] == tables.shipped()
    assert found[2] == dict(rate=0.02, scale=3.0, gamma=10.0)
    lines = tables.choices(rows).splitlines()[2:]
    assert lines[0].endswith("| 0.02 | 1 | γ 10 | 0.800 ± 0.248 | – | 0.700 |")
    assert "| 0.02 | 3 | γ 10 | 0.900 ± 0.000 | +0.100 ± 0.248 | 0.900 |" in lines[2]
    blind = [{**row, "target": None if row["target"] is None else 0.5} for row in rows]
    assert tables.chosen(blind)["information maximisation"] == found[0]


def test_rank_correlations_by_hand():
    cells = dict(CELLS)
    cells[0.02, 1.0, 1000.0] = ((0.75, 1.0, 1.5),) * 3  # so that none are tied
    # Ranks of the validator 2 5 3 4 1, of accuracy 2 4 3 5 1: Σd² = 2, 1 − 12/120 = .90; without
    # the lost cell 1 4 2 3 and 1 3 2 4: Σd² = 2, 1 − 12/60 = .80.
    lines = tables.correlations(made(cells)).splitlines()
    assert lines[2] == "| every cell | +0.90 (5) | +0.90 (5) |"
    assert lines[3] == "| that lost no run | +0.80 (4) | +0.80 (4) |"
    two = made({place: CELLS[place] for place in list(CELLS)[:2]})
    assert "– (2)" in tables.correlations(two)


def test_the_figure_of_one_seed_and_of_failed_runs(tmp_path):
    rows = made(CELLS)
    for name, chosen in (("all", rows), ("one", [row for row in rows if row["seed"] == 2])):
        run.figure(chosen, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_what_is_written_is_what_the_results_say():
    rows = run.read()
    assert {tuple(row[name] for name in ("scale", "gamma", "rate", "seed")) for row in rows} == {
        tuple(point.values()) for point in config.sweep()
    }
    section = tables.section(rows)
    assert (
        f"\n\n{section}\n\n<!-- end of ablation_dann -->" in (run.ROOT / "RESULTS.md").read_text()
    )
    teaches = (run.HERE / "README.md").read_text().partition("## What it teaches")[2]
    numbers = re.findall(r"[+-]?\d\.\d{3} ± \d\.\d{3}|[+-]?\d\.\d{2,}(?! ±)\b", teaches)
    assert len(numbers) > 20
    assert [number for number in numbers if number not in section] == []

"""Self-taught clustering, shrunk, and its table worked by hand."""

import pytest

from experiments.report import Results
from experiments.self_taught_clustering import run


def small(config):
    for fields in config.streams.values():
        fields["transforms"] = ()  # views take long to compile
    for fields in (*config.streams.values(), *config.evaluate.values()):
        if "of" not in fields:
            fields["batch"] = 64
    if "channels" in config.network.trunk:
        config.network.trunk.channels = (4, 4)
    config.network.heads.projection.hidden = (8,)
    for phase in config.phases:
        config[phase].steps = min(config[phase].steps, 4)
    config.log_every = 2


def test_it_runs_and_goes_on_where_it_was(goes_on):
    lines = goes_on(run.EXPERIMENT, ["pixels", "alone", "both", "dec", "scan"], small)
    assert lines.of("method") == [name for name in run.METHODS if name not in run.SIMPLE]
    lines += [{**line, "method": run.BEST} for line in lines.where(method=run.PIXELS)]
    assert all(0 <= line[metric] <= 1 for line in lines for metric in ("accuracy", "nmi"))
    assert "| SimCLR, SCAN |" in run.EXPERIMENT.section(lines)


def test_the_tuning_keeps_the_best_of_each_stage():
    best = {"strong views, temperature 0.2", "5", "0.6"}  # of the features, k and the threshold
    asked = []

    def collect(rows):
        [(name, row)] = rows.items()
        asked.append(name)
        return Results(
            dict(said, seed=100, accuracy=said["candidate"] in best) for said in row.said()
        )

    results = run.stages(collect)
    assert len(asked) == 4 + 4 + 4 + 3 + 4 + 3 + sum(map(len, run.SIMPLE.values()))
    written = run.TUNING.read()
    assert sorted((line["stage"], str(line["candidate"])) for line in results) == sorted(
        (line["stage"], str(line["candidate"])) for line in written if line["seed"] == 100
    )


@pytest.mark.parametrize("name", run.SIMPLE)
def test_simple_rows_find_clusters(name):
    """Of 900 digits, without a label to learn from."""
    found = run.simple(name, run.SIMPLE[name][1], run.SOURCE).fit(0)
    assert found["accuracy"] > 0.5 and found.keys() == {"accuracy", "nmi", "ari"}


def test_table_by_hand():
    accuracies = dict.fromkeys(run.METHODS, (0.8, 0.8))
    # Over the strongest simple row .2 and .1: mean .15, s = .0707, t(1) = 12.706; without it the
    # same s.
    accuracies[run.BOTH] = (1.0, 0.9)
    accuracies[run.SCAN] = (0.9, 0.9)  # .1 and .1, an interval of no width
    section = run.EXPERIMENT.section(
        Results(
            dict(method=method, seed=seed, accuracy=value, nmi=0.5, ari=0.25, seconds=10 * seed + 1)
            for method, values in accuracies.items()
            for seed, value in enumerate(values)
        )
    )
    half = 12.706205 * 0.0707107 / 2**0.5
    shared = "0.500 ± 0.000 | 0.250 ± 0.000"
    both = f"0.950 ± {half:.3f} | 0.900 | {shared} | +0.150 ± {half:.3f} | 6 |"
    assert f"| {run.BOTH} | {both}" in section
    assert f"| {run.SCAN} | 0.900 ± 0.000 | 0.900 | {shared} | **+0.100 ± 0.000** | 6 |" in section
    assert f"k-means of the same features: -0.050 ± {half:.3f}." in section

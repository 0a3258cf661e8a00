"""Self-taught clustering, shrunk, and its table worked by hand."""

import importlib

run = importlib.import_module("experiments.self_taught_clustering.run")


def shrink(config):
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
        config[phase].restarts = min(config[phase].get("restarts", 1), 2)
    config.log_every = 2


def test_it_runs_and_goes_on_where_it_was(tmp_path):
    rows = run.collect(1, tmp_path, shrink)
    wider = run.collect(2, tmp_path, shrink)
    assert [row["method"] for row in rows] == list(run.METHODS)
    assert wider[: len(rows)] == rows and len(wider) == 2 * len(rows)
    assert all(0 <= row[metric] <= 1 for row in wider for metric in ("accuracy", "nmi"))
    assert "| SimCLR, SCAN |" in run.table(wider)


def test_table_by_hand():
    accuracies = dict.fromkeys(run.METHODS, (0.8, 0.8))
    # Over pixels .2 and .1: mean .15, s = .0707, t(1) = 12.706; and s is the same without pixels.
    accuracies[run.BOTH] = (1.0, 0.9)
    accuracies[run.SCAN] = (0.9, 0.9)  # over pixels .1 and .1, an interval of no width
    rows = [
        dict(method=method, seed=seed, accuracy=value, nmi=0.5, ari=0.25, seconds=10 * seed + 1)
        for method, values in accuracies.items()
        for seed, value in enumerate(values)
    ]
    table = run.table(rows)
    half = 12.706205 * 0.0707107 / 2**0.5
    shared = "0.500 ± 0.000 | 0.250 ± 0.000"
    both = f"0.950 ± {half:.3f} | 0.900 | {shared} | +0.150 ± {half:.3f} | 6 |"
    assert f"| {run.BOTH} | {both}" in table
    assert f"| {run.SCAN} | 0.900 ± 0.000 | 0.900 | {shared} | **+0.100 ± 0.000** | 6 |" in table
    assert f"k-means of the same features: -0.050 ± {half:.3f}." in table

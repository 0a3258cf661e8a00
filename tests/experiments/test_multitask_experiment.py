"""The multitask experiment, shrunk, and its arithmetic worked by hand."""

import importlib

run = importlib.import_module("experiments.multitask.run")


def test_it_runs_and_goes_on_where_it_was(tmp_path, monkeypatch):
    methods = {
        "multitask_digits": ("digits alone", "bits alone", "wrong bits"),
        "multitask_stems": ("own stems", "grey alone"),
    }
    kept = tuple(each for each in run.RUNS if each[1] in methods[each[0]] and each[2] < 5)
    monkeypatch.setattr(run, "RUNS", kept)
    monkeypatch.setattr(run, "tuned", lambda: {each[:2]: 0.01 for each in kept})

    def shrink(config):
        for fields in (*config.streams.values(), *config.evaluate.values()):
            fields.size = 8
        config.streams.source.batch = 8
        config.network.trunk.features = (8, 4)
        config.update(steps=3, log_every=3, evaluate_every=3, checkpoint_every=3)

    reached = run.collect(1, tmp_path, shrink)
    wider = run.collect(2, tmp_path, shrink)
    assert len(reached) == len(kept) and len(wider) == 2 * len(kept)
    assert [row for row in wider if row["seed"] == 0] == reached
    without = {"bits alone": ["target"], "digits alone": ["other"]}
    for row in reached:
        missing = [name for name in ("target", "other") if row[name] is None]
        assert missing == without.get(row["method"], [])


def test_the_shipped_config_is_the_method_sum():
    config = run.configured("multitask_digits", "sum", 2, 0, 0.05)
    shipped = importlib.import_module("configs.multitask_digits").get_config()
    changed = {"optimizer", "evaluate_every", "checkpoint_every"}
    assert {k for k, v in config.items() if v != shipped[k]} <= changed
    control = run.configured("multitask_digits", "wrong bits", 2, 7, 0.05)
    assert control.tables.segments.permute == 7


def test_every_run_has_a_rate():
    rates = run.tuned()
    assert all((setting, method) in rates for setting, method, _ in run.RUNS)


def row(setting, method, per_class, seed, target, other):
    return dict(
        setting=setting,
        method=method,
        per_class=per_class,
        seed=seed,
        learning_rate=0.03,
        target=target,
        other=other,
        seconds=2.0,
    )


def test_table_by_hand(monkeypatch):
    monkeypatch.setattr(run, "PER_CLASS", (2,))
    monkeypatch.setattr(
        run, "SETTINGS", {"multitask_digits": ("digits alone", "bits alone", "sum", "wrong bits")}
    )
    reached = {
        ("digits alone", 2): ([0.5, 0.6], [None, None]),
        ("bits alone", 0): ([None, None], [0.8, 0.8]),
        # Gains .1 and .2: mean .15, s = .0707, t(1) = 12.706, so ± .635: not clear of 0.
        # Δp: (.1/.5 + 0)/2 = .1 and (.2/.6 − .4/.8)/2 = −.0833: mean .008.
        ("sum", 2): ([0.6, 0.8], [0.8, 0.4]),
        ("wrong bits", 2): ([0.6, 0.7], [0.1, 0.1]),  # gains .1 twice: clear of 0
    }
    rows = [
        row("multitask_digits", method, n, seed, targets[seed], others[seed])
        for (method, n), (targets, others) in reached.items()
        for seed in (0, 1)
    ]
    lines = run.table(rows).splitlines()
    [sum_line] = [line for line in lines if line.startswith("| sum")]
    assert "| 0.700 ± 1.271 | +0.150 ± 0.635 | 0.600 ± 2.541 | 0.008 ± 1.165 |" in sum_line
    assert sum_line.endswith("| 0.03 | 2.0 |")
    [wrong_line] = [line for line in lines if line.startswith("| wrong bits")]
    assert "| **+0.100 ± 0.000** | 0.100 ± 0.000 | – |" in wrong_line
    [bits_line] = [line for line in lines if line.startswith("| bits alone")]
    assert bits_line == "| bits alone | – | – | 0.800 ± 0.000 | – | 0.03 | 2.0 |"

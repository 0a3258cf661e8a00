"""Self-taught learning, shrunk, and its table worked by hand."""

import importlib

import jax
import pytest

from tljax import experiment

run = importlib.import_module("experiments.self_taught.run")


def numbers(hyper):
    """The scalars of a phase, by path."""
    leaves = jax.tree_util.tree_leaves_with_path(hyper)
    return [(path, round(float(leaf), 6)) for path, leaf in leaves if leaf.dtype == "float32"]


def shrink(config):
    for fields in config.streams.values():
        fields["transforms"] = ()  # views take long to compile
    for fields in (*config.streams.values(), *config.evaluate.values()):
        if "of" not in fields and "per_class" not in fields:
            fields["batch"] = 8
    trunk = config.network.trunk
    for width in ("channels", "features"):
        if width in trunk:
            trunk[width] = (4,) * len(trunk[width])
    for head in config.network.heads.values():
        if "hidden" in head:
            head.hidden = (8,)
    for fields in (config[phase] for phase in config.phases):
        fields.steps = min(fields.steps, 2)
    config.update(steps=2, log_every=2)


def test_it_runs_and_goes_on_where_it_was(tmp_path, monkeypatch):
    """With one label a class, and two ways to learn features."""
    two = {method: run.SETTINGS[method] for method in ("SimCLR", "autoencoder")}
    learned = tuple(f"{method}, softmax" for method in two)
    methods = (*run.BASELINES, *learned, *run.OTHERS)
    for name, value in dict(SHOTS=(1,), SETTINGS=two, LEARNED=learned, METHODS=methods).items():
        monkeypatch.setattr(run, name, value)
    rows = run.collect(1, tmp_path, shrink)
    wider = run.collect(2, tmp_path, shrink)
    assert {row["method"] for row in rows} == set(methods)
    assert wider[: len(rows)] == rows and len(wider) == 2 * len(rows) == 2 * len(methods)
    assert all(0 <= row["accuracy"] <= 1 for row in wider)
    run.draw(wider, tmp_path / "figure.png")
    assert "| SimCLR, softmax |" in run.table(wider)


@pytest.mark.parametrize("method", run.SETTINGS)
def test_each_way_to_learn_features_is_a_config(method):
    value, penalty = run.SETTINGS[method]
    config = run.read(run.represented(method, 3, value), {"softmax": ("softmax", penalty)})
    built = experiment.build(experiment.resolve(config))
    assert built.names == ("represent", "read")
    assert set(built.data.splits) == {f"softmax_{n}" for n in run.SHOTS}
    assert value in {number for _, number in numbers(built.phase(0).hyper)}


def test_the_shipped_configs_hold_what_was_chosen():
    simclr, auto = (
        importlib.import_module(f"configs.self_taught_{name}").get_config()
        for name in ("simclr", "autoencoder")
    )
    chosen = simclr.represent.terms.agree.temperature, simclr.read.prepare.softmax.penalty
    assert chosen == run.SETTINGS["SimCLR"]
    chosen = auto.streams.noisy.transforms[0]["std"], auto.read.prepare.softmax.penalty
    assert chosen == run.SETTINGS["denoising autoencoder"]


def test_table_by_hand():
    rows = []
    for method in run.METHODS:
        for shots in run.SHOTS:
            values = [0.6, 0.6]
            if method == run.OURS:  # over pixels .1 and .1; at ten labels .1 and −.1
                values = [0.7, 0.7 if shots < 10 else 0.5]
            for seed, value in enumerate(values):
                row = dict(method=method, seed=seed, shots=shots, accuracy=value)
                rows.append(row | dict(seconds=1 + 4 * seed))
    table = run.table(rows)
    half = 12.706205 * 0.141421 / 2**0.5  # t(1) = 12.706, s = .1414
    same = " | ".join(["0.700 ± 0.000"] * 3)
    row = f"| {run.OURS} | {same} | 0.600 ± {half:.3f} | **+0.100 ± 0.000** | 3 |"
    assert row in table
    assert f"**+0.100 ± 0.000** at 5, +0.000 ± {half:.3f} at 10 a class." in table
    assert "| pixels, softmax | " + " | ".join(["0.600 ± 0.000"] * 4) + " |  | 3 |" in table

"""The zero-shot experiment, shrunk, and its arithmetic worked by hand."""

import gzip
import importlib

import numpy as np
import pytest

run = importlib.import_module("experiments.zero_shot.run")


@pytest.fixture
def garments(tmp_path):
    """IDX files of random images of all ten classes, where Fashion-MNIST's would be."""
    folder = tmp_path / "garments"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 120), ("t10k", 60)):
        images = rng.integers(0, 256, (count, 8, 8), np.uint8)
        header = b"\x00\x00\x08\x03" + np.array([count, 8, 8], ">i4").tobytes()
        path = folder / f"{prefix}-images-idx3-ubyte.gz"
        path.write_bytes(gzip.compress(header + images.tobytes()))
        labels = (np.arange(count) % 10).astype(np.uint8)
        header = b"\x00\x00\x08\x01" + np.array([count], ">i4").tobytes()
        path = folder / f"{prefix}-labels-idx1-ubyte.gz"
        path.write_bytes(gzip.compress(header + labels.tobytes()))
    return f"idx:{folder}"


def test_it_runs_and_goes_on_where_it_was(tmp_path, monkeypatch, garments):
    monkeypatch.setattr(run, "PAIRS", ((0, 1),))
    monkeypatch.setattr(run, "FASHION", ("permuted", "eszsl"))
    monkeypatch.setattr(run, "DIGITS", ("conse",))
    settings = {"eszsl": dict(gamma=1.0, lam=1.0)}
    monkeypatch.setattr(
        run, "chosen", lambda data, method: settings.get(method, dict(learning_rate=0.01))
    )

    def shrink(config):
        for fields in (*config.streams.values(), *config.evaluate.values()):
            if fields.data != "pairs":
                fields.data, fields.split = garments, fields.split.split("[")[0]
        for fields in config.streams.values():
            fields.batch = 8
        if config.network.trunk.get("features") != ():
            config.network.trunk = dict(name="mlp", features=(4,))
        if config.steps:
            config.update(steps=2, evaluate_every=2, checkpoint_every=2)

    reached = run.collect(1, tmp_path / "runs", shrink)
    wider = run.collect(2, tmp_path / "runs", shrink)
    assert len(reached) == 2 + len(run.TOPS)
    assert [row for row in wider if row["seed"] == 0] == reached
    assert len(wider) == 2 * len(reached)
    assert run.digits_methods(wider) == [f"conse, T = {t}" for t in (1, 3, 10)]


def test_pairs_cover_every_garment_once_and_none_is_shown():
    assert sorted(sum(run.PAIRS, ())) == list(range(10))
    config = run.fashion("softmax", 2, 1, dict(learning_rate=0.01), held=(0, 1))
    assert set(config.streams.source.classes) == set(range(10)) - {0, 1, 4, 5}
    assert config.evaluate.unseen.unseen == (4, 5)
    assert config.streams.source.split == "train[10000:20000]"


def test_a_setting_is_chosen_by_its_mean(tmp_path, monkeypatch):
    lines = ["data,method,pair,seed,learning_rate,gamma,lam,value"]
    # Means .7 at .01 and .65 at .1; of ALE .495 and .5, within .01 of each other: the first.
    lines += [f"fashion,softmax,0,4,0.01,,,{value}" for value in (0.6, 0.8)]
    lines += [f"fashion,softmax,0,4,0.1,,,{value}" for value in (0.9, 0.4)]
    lines += ["fashion,ale,0,4,0.01,,,0.495", "fashion,ale,0,4,0.1,,,0.5"]
    lines += ["fashion,eszsl,0,4,,1.0,2.0,0.3", "fashion,eszsl,0,4,,4.0,2.0,0.6"]
    (tmp_path / "tuning.csv").write_text("\n".join(lines))
    monkeypatch.setattr(run, "HERE", tmp_path)
    run.tuned.cache_clear()
    assert run.chosen("fashion", "permuted") == {"learning_rate": 0.01}
    assert run.chosen("fashion", "ale") == {"learning_rate": 0.01}
    assert run.chosen("fashion", "eszsl") == {"gamma": 4.0, "lam": 2.0}
    run.tuned.cache_clear()


def test_table_by_hand(monkeypatch):
    monkeypatch.setattr(run, "FASHION", ("softmax", "permuted"))
    accuracies = {
        "softmax": {(0, 0): 0.8, (0, 1): 0.6, (1, 0): 0.9, (1, 1): 0.9},  # .85, .75: mean .8
        "permuted": {(0, 0): 0.4, (0, 1): 0.4, (1, 0): 0.6, (1, 1): 0.5},  # .5, .45
    }
    rows = [
        dict(data="fashion", method=method, pair=pair, seed=seed, accuracy=value, seconds=3.0)
        for method, values in accuracies.items()
        for (pair, seed), value in values.items()
    ]
    among_all = dict.fromkeys(run.GENERALISED, 0.25)
    rows += [
        dict(data="digits", method="ale", pair="", seed=s, accuracy=0.9, seconds=1.0, **among_all)
        for s in (0, 1)
    ]
    table = run.table(rows)
    # Differences .35 and .3: mean .325, s = .03536, t(1) = 12.706, so ± .318.
    line = "| softmax | 0.800 ± 0.635 | **+0.325 ± 0.318** | 0.70 | 0.90 | 3.0 |"
    assert line in table.splitlines()
    assert "| method | mean over pairs | − permuted | 0, 1 | 2, 3 | seconds |" in table
    digits = "| ale | 0.900 ± 0.000 | 0.250 / 0.250 | 0.250 ± 0.000 | 0.250 / 0.250 | 0.250 ± 0.000"
    assert digits in table

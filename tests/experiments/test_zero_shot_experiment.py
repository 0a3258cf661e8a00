"""The zero-shot experiment, shrunk, and its arithmetic worked by hand."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from experiments import frame
from experiments.frame import Run
from experiments.report import Results
from experiments.zero_shot import run
from tljax.configs import tasks

GARMENTS = Path(tasks.GARMENTS["data"].removeprefix("idx:"))


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


@pytest.fixture
def small(garments):
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

    return shrink


def test_it_runs_and_goes_on_where_it_was(goes_on, small):
    names = ["fashion-permuted-0", "fashion-eszsl-0", "digits-conse"]
    lines = goes_on(run.EXPERIMENT, names, small)
    assert len(lines) == 2 * (2 + len(run.TOPS))
    pairs = lines.where(data="digits")
    assert pairs.of("method") == [f"conse, T = {t}" for t in (1, 3, 10)]
    assert all(0 <= line[name] <= 1 for line in pairs for name in run.GENERALISED)


def test_the_tuning_judges_both_pairs_that_are_left_out(goes_on, small):
    names = ["fashion-sae-0", "digits-ale-0"]
    declared = run.TUNING._replace(
        rows=lambda: {name: row._replace(seeds=()) for name, row in run.TUNING.rows().items()}
    )
    lines = goes_on(declared, names, small)
    assert [line["pair"] for line in lines if line["data"] == "fashion"] == [0, 0, 1, 1]
    assert all(0 <= line["value"] <= 1 for line in lines)


def test_kernel_machines_tell_unseen_pairs_apart():
    """Each digit is seen elsewhere; the ten pairs held out in tuning are of the seen ones."""
    assert 0.9 < run.machines(1.0, tuning=True).fit(0)["value"] <= 1
    found = run.machines(1.0).fit(0)
    among, true = found["accuracy"]
    assert set(true) == set(tasks.UNSEEN) >= set(among) and (among == true).mean() > 0.9
    assert found["harmonic"] > 0.8 and set(found) == {"accuracy", *run.GENERALISED}


@pytest.mark.skipif(not GARMENTS.exists(), reason="Debian's dataset-fashion-mnist is not there")
def test_fourier_features_tell_unseen_garments_apart():
    """Of the pairs that tuning leaves out, the first, a T-shirt and trousers, is easy."""
    row = run.fourier(0, dict(gamma=0.1, lam=1.0), tuning=True)
    assert row.seeds == (4,) and row.fit(4)["value"] > 0.75


def test_pairs_cover_every_garment_once_and_none_is_shown():
    assert sorted(sum(run.PAIRS, ())) == list(range(10))
    config = frame.configured(run.fashion("softmax", 2, dict(learning_rate=0.01)), Run(1, None))
    assert set(config.streams.source.classes) == set(range(10)) - {4, 5}
    assert config.evaluate.unseen.unseen == (4, 5)
    assert config.streams.source.split == "train[10000:20000]"
    tuning = frame.configured(run.TUNING.rows()["fashion-softmax-0"], Run(4, None))
    assert set(tuning.streams.source.classes) == set(range(10)) - {0, 1, 2, 3}
    assert [fields.unseen for fields in tuning.evaluate.values()] == [(0, 1), (2, 3)]


def test_a_setting_is_chosen_by_its_mean():
    def lines(method, rates=(), penalties=()):
        for rate, value in rates:
            yield dict(method=method, learning_rate=rate, gamma=None, lam=None, value=value)
        for gamma, value in penalties:
            yield dict(method=method, learning_rate=None, gamma=gamma, lam=2.0, value=value)

    tuned = Results(
        dict(line, data="fashion", seed=4)
        for line in (
            # Means .7 at .01 and .65 at .1; of ALE .495 and .5, within .01: the first.
            *lines("softmax", [(0.01, 0.6), (0.01, 0.8), (0.1, 0.9), (0.1, 0.4)]),
            *lines("ale", [(0.01, 0.495), (0.1, 0.5)]),
            *lines("eszsl", penalties=[(1.0, 0.3), (4.0, 0.6)]),
        )
    )
    assert run.chosen(tuned, "fashion", "permuted") == {"learning_rate": 0.01}
    assert run.chosen(tuned, "fashion", "ale") == {"learning_rate": 0.01}
    assert run.chosen(tuned, "fashion", "eszsl") == {"gamma": 4.0, "lam": 2.0}


def test_table_by_hand():
    accuracies = {
        "softmax": {(0, 0): 0.8, (0, 1): 0.6, (1, 0): 0.9, (1, 1): 0.9},  # .85, .75: mean .8
        "permuted": {(0, 0): 0.4, (0, 1): 0.4, (1, 0): 0.6, (1, 1): 0.5},  # .5, .45
    }
    garments = [
        dict(data="fashion", method=method, pair=pair, seed=seed, accuracy=value, seconds=3.0)
        for method, values in accuracies.items()
        for (pair, seed), value in values.items()
    ]
    among_all = dict.fromkeys(run.GENERALISED, 0.25)
    pairs = [
        dict(data="digits", method="ale", seed=s, accuracy=0.9, seconds=1.0, **among_all)
        for s in (0, 1)
    ]
    section = run.EXPERIMENT.section(Results(garments + pairs))
    # Differences .35 and .3: mean .325, s = .03536, t(1) = 12.706, so ± .318.
    line = "| softmax | 0.800 ± 0.635 | **+0.325 ± 0.318** | 0.70 | 0.90 | 3.0 |"
    assert line in section.splitlines()
    assert "| method | mean over pairs | − permuted | 0, 1 | 2, 3 | seconds |" in section
    digits = "| ale | 0.900 ± 0.000 | 0.250 / 0.250 | 0.250 ± 0.000 | 0.250 / 0.250 | 0.250 ± 0.000"
    assert digits in section

"""From one crystal to the other, shrunk: made features of eight numbers, three steps."""

import numpy as np
import pytest
from PIL import Image

import tljax
from experiments import frame
from experiments.solar_shift import features, run


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Features of 24 cells of each kind, every other with a defect that three of them show."""
    rng = np.random.default_rng(0)
    (tmp_path / "solar_shift").mkdir()
    for kind in run.KINDS:
        for by in run.KINDS:
            labels = np.arange(24, dtype=np.int32) % 2
            x = rng.normal(size=(24, 8)).astype(np.float32) * (1 + (kind != by))
            x[:, :3] += 4.0 * labels[:, None]
            arrays = dict(plain_input=x, train_input=np.concatenate([x, x + 0.1]), test_input=x)
            arrays |= dict(plain_label=labels, train_label=np.tile(labels, 2), test_label=labels)
            named = np.array(["defect", "sound"])
            np.savez(tmp_path / "solar_shift" / f"{kind}_by_{by}.npz", classes=named, **arrays)
    monkeypatch.setenv("TLJAX_CACHE", str(tmp_path))
    monkeypatch.setattr(run, "STEPS", 3)
    monkeypatch.setattr(run, "AVERAGE", 0.5)
    monkeypatch.setattr(run, "BATCH", 8)
    monkeypatch.setattr("experiments.mnist_m.run.COMPARED", 20)
    run.table.cache_clear()
    yield tmp_path
    run.table.cache_clear()


def shrink(config):
    config.network.trunk.features = (4,)


def test_rows_are_tuned_without_target_labels_and_run(small, monkeypatch):
    kinds = (*run.PLAIN, "source only", "DANN", "target supervised")
    own = [(kind, "mono", "its own", "plain") for kind in kinds]
    monkeypatch.setattr(run, "ALL", [*own, (run.LOGISTIC, "mono", "source's", "augmented")])
    tuned = run.TUNING.collect(small / "tuning", (100,), shrink)
    assert len(tuned) == 2 * 4 + 3 and all(np.isfinite(li["score"]) for li in tuned)
    for name, row in run.candidates().items():
        if not name.startswith("target"):
            config = frame.configured(row, frame.Run(0, small), shrink)
            parts = [*config.streams.values(), *config.evaluate.values()]
            assert not [each for each in parts if "poly_by" in each.data and each.labelled]
    monkeypatch.setattr(type(run.TUNING), "read", lambda self: tuned)
    lines = run.EXPERIMENT.collect(small / "runs", range(2), shrink)
    assert lines.of("method") == [*kinds, f"{run.LOGISTIC} (the source's scale, 8 positions)"]
    for line in lines:
        right, true, which = line["predictions"]["target"]
        by_class = np.mean([(right == true)[true == c].mean() for c in (0, 1)])
        assert line["target"] == pytest.approx(by_class) and which
    told = lines.where(method=run.LOGISTIC)
    assert told.gain("target", lines.where(method="DANN")) != "–"
    assert set(told.of("target")) == {1.0}  # three numbers tell, in both kinds
    assert set(lines.of("source")) == {"mono"} and min(lines.of("on_source")) >= 0
    assert "DANN" in run.tables(lines)["mono"]
    assert told.of("value")[0] in run.PENALTIES


def test_covariances_agree_after_recolouring():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(500, 3)), rng.normal(size=(400, 3)) @ np.diag((1, 2, 3)) + 5
    made = run.recoloured(source, target)
    np.testing.assert_allclose(made.mean(0), target.mean(0), atol=1e-6)
    wanted = np.cov(target.T) + np.eye(3)  # of the source, (C + I)^-1/2 C (C + I)^-1/2 stays
    values = np.linalg.eigvalsh(np.cov(made.T)) / np.linalg.eigvalsh(wanted)
    assert (0.3 < values).all() and (values < 0.6).all()


def test_a_square_has_eight_positions():
    image = np.arange(4).reshape(1, 2, 2, 1)
    seen = {tuple(each.ravel()) for each in features.positions(image)}
    assert len(seen) == 8 and tuple(features.positions(image)[0].ravel()) == (0, 1, 2, 3)


def test_features_are_standardised_by_one_kind(tmp_path, monkeypatch):
    """With the mean of a picture's pixels, and their first, in the place of a network."""
    rng = np.random.default_rng(0)
    (tmp_path / "elpv/images").mkdir(parents=True)
    for kind, level in (("mono", 60), ("poly", 160)):
        for split in ("train", "test"):
            lines = []
            for i in range(6):
                name = f"images/{kind}_{split}_{i}.png"
                pixels = rng.integers(level - 40, level + 40, (8, 8), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "elpv" / name)
                lines.append(f"{name} {('sound', 'defect')[i % 2]}")
            (tmp_path / "elpv" / f"{kind}_{split}.txt").write_text("\n".join(lines))

    def seen(images):
        return np.stack([images.mean((1, 2, 3)), images[:, 0, 0, 0]], -1).astype(np.float32)

    asked = []
    monkeypatch.setattr(features, "fetch", lambda name, folder: asked.append(name))
    monkeypatch.setattr(features, "features", seen)
    monkeypatch.setattr(features, "SIZE", 8)
    place = features.made(tmp_path)
    assert asked == ["mobilenet_v2"]
    for kind in features.KINDS:
        load = {by: np.load(place / f"{kind}_by_{by}.npz") for by in features.KINDS}
        own = load[kind]["plain_input"]
        np.testing.assert_allclose(own.mean(0), 0, atol=1e-4)
        np.testing.assert_allclose(own.std(0), 1, atol=1e-2)
        (other,) = (load[by]["plain_input"] for by in features.KINDS if by != kind)
        assert (np.abs(other.mean(0)) > 1).all()
        assert load[kind]["train_input"].shape == (48, 2)
        np.testing.assert_array_equal(load[kind]["train_input"][:6], own)
    table = tljax.data.load("npz:solar_shift/mono_by_poly.npz", "train", root=str(tmp_path))
    assert len(table) == 48 and table.classes == ("defect", "sound")

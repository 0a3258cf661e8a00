"""Classes by the words of their names, shrunk: made vectors and features, in which all is told."""

import gzip

import numpy as np
import pytest

from experiments.words import run
from tljax.data.words import words_of

SIZE = 50  # of a vector


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Features of 30 images of each garment that hold its vector, and ImageNet's classes beside."""
    rng = np.random.default_rng(0)
    words = {w: rng.normal(size=SIZE) for name in run.GARMENTS for w in words_of(name.lower())}
    words |= {w: rng.normal(size=SIZE) for w in ("dune", "flower")}
    (tmp_path / "glove").mkdir()
    with gzip.open(tmp_path / "glove" / "6b_50d.txt.gz", "wt") as file:
        for word, numbers in {"the": np.ones(SIZE), **words}.items():
            file.write(f"{word} {' '.join(f'{x:.4f}' for x in numbers)}\n")
    # A class of ImageNet a garment, whose first name has no vector; and one besides.
    names = ["Dune, unheard", *(f"unheard-of, {name}" for name in run.GARMENTS)]
    (tmp_path / "imagenet_names").mkdir()
    (tmp_path / "imagenet_names" / "names.txt").write_text("\n".join(names) + "\n")
    vectors = [np.mean([words[w] for w in words_of(name.lower())], 0) for name in run.GARMENTS]
    arrays = {"classes": np.array(run.GARMENTS)}
    for split, each in (("train", 30), ("test", 6)):
        labels = rng.permutation(np.tile(np.arange(10, dtype=np.int32), each))
        noise = 0.1 * rng.normal(size=(len(labels), SIZE))
        arrays[f"{split}_input"] = (np.array(vectors)[labels] + noise).astype(np.float32)
        arrays[f"{split}_label"] = labels
    (tmp_path / "word_features").mkdir()
    np.savez(tmp_path / "word_features" / "garments.npz", **arrays)
    head = np.array([words["dune"], *vectors], np.float32).T
    dense = {
        "kernel": head / np.linalg.norm(head, axis=0),
        "bias": np.zeros(len(names), np.float32),
    }
    loaded = {"params": {"heads": {"HEAD": {"output": dense}}}}
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for name in ("Dune", "FreshFlower"):
        for crop in range(2):
            (photographs / f"{name}_{crop}.png").touch()
    monkeypatch.setenv("TLJAX_CACHE", str(tmp_path))
    monkeypatch.setattr(run, "loaded", lambda trunk: loaded)
    monkeypatch.setattr(run, "others", lambda: None)
    shown = np.repeat(np.stack([words["dune"], words["flower"]]), 2, 0).astype(np.float32)
    monkeypatch.setattr(run, "seen", lambda trunk, table: shown)
    monkeypatch.setattr(run, "fourier", lambda: (arrays["train_input"][:100], arrays["test_input"]))
    for name, value in dict(CROPS=2, DIMENSIONS=40, STEPS=30, EACH=20).items():
        monkeypatch.setattr(run, name, value)
    cached = (run.dictionary, run.imagenet, run.named, run.probabilities, run.kept, run.described)
    for each in (*cached, run.moments, run.principal, run.classified):
        each.cache_clear()
    yield tmp_path
    for each in (*cached, run.moments, run.principal, run.classified):
        each.cache_clear()


def test_names_are_told_by_words_alone_and_not_by_other_vectors(small):
    lines = run.EXPERIMENT._replace(rows=lambda: of_part("named")).collect(small / "runs", range(2))
    garments = lines.where(data="garments")
    for method in (run.VOTES, "ConSE, T = 1"):
        assert set(garments.where(method=method).of("accuracy")) == {1.0}
    for control in ("ConSE, T = 10, permuted words", "ConSE, T = 10, random vectors"):
        assert max(garments.where(method=control).of("accuracy")) < 0.5
    predicted, true, _ = garments[0]["predictions"]["accuracy"]
    assert (predicted == true).all() and len(true) == 60
    two = lines.where(data="photographs", method="ConSE, T = 1")
    predicted, true, _ = two[0]["predictions"]["accuracy"]
    assert (
        predicted[0] == true[0] == 0
    )  # the dune; of "dune" and "flower" ImageNet lacks the second
    assert two[0]["unseen"] == float(predicted[1] == true[1])
    assert "ConSE, T = 10" in run.tables(lines)["garments"]


def of_part(part):
    return {n: row for n, row in run.rows().items() if row.columns["part"] == part}


def test_pairs_that_no_image_shows_are_told(small, monkeypatch):
    tuned = run.TUNING.collect(small / "tuning", (100, 101))
    assert len(tuned) == 2 * len(run.RATES)
    monkeypatch.setattr(type(run.TUNING), "read", lambda self: tuned)
    monkeypatch.setattr(run, "PAIRS", run.PAIRS[:2])
    rows = {
        name: row._replace(seeds=range(2))
        for name, row in of_part("pairs").items()
        if name in ("ESZSL, words", "ESZSL, random vectors", "ConSE, words, T = 8", "DeViSE, words")
    }
    lines = run.EXPERIMENT._replace(rows=lambda: rows).collect(small / "runs", range(2))
    assert len(lines) == 2 * len(rows)
    told = lines.where(method="ESZSL, words")
    assert min(told.values("accuracy")) > 0.9 and set(told.of("knob")) <= set(run.PENALTIES)
    for line in lines:
        assert 0 <= line["harmonic"] <= 1 and 0 <= line["seen"] <= 1


def test_the_jackknife_over_garments_by_hand():
    """Of a_i + a_j leaving out c moves the mean by twice (a_c − mean) / 9."""
    a = np.arange(10) / 10
    lines = run.Results({"seed": s, "x": a[i] + a[j]} for s, (i, j) in enumerate(run.PAIRS))
    values = run.over_garments(lines, "x")
    assert np.mean(values) == pytest.approx(2 * a.mean())
    np.testing.assert_allclose(values, 2 * a, atol=1e-12)


def test_votes_by_hand():
    p = np.array([[0.4, 0.3, 0.3]], np.float32)  # the last two are nearest to the second name
    known = np.array([[1, 0], [0.1, 1], [-0.1, 1]], np.float32)
    names = np.array([[1, 0], [0, 1]], np.float32)
    np.testing.assert_allclose(run.voted(p, known, names), [[0.4, 0.6]], rtol=1e-6)

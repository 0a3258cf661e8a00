"""Examples chosen by their columns, from an archive to a run's config."""

import numpy as np
import pytest

import tljax
from tljax.errors import UserError

SPEAKERS = ["anna", "bert", "anna", "cora", "bert", "cora"]


@pytest.fixture
def archive(tmp_path):
    arrays = dict(
        train_input=np.arange(6, dtype=np.float32).reshape(6, 1),
        train_label=np.array([0, 1, 1, 0, 1, 0]),
        train_speaker=np.array(SPEAKERS),
        train_take=np.array([1, 1, 2, 1, 2, 2]),
        test_input=np.zeros((2, 1), np.float32),
        test_label=np.array([0, 1]),
        test_speaker=np.array(["dora", "anna"]),
        classes=np.array(["no", "yes"]),
    )
    np.savez(tmp_path / "voices.npz", **arrays)
    return f"npz:{tmp_path / 'voices.npz'}"


@pytest.mark.parametrize(
    "where, rows",
    [
        (dict(speaker="anna"), [0, 2]),
        (dict(speaker=("anna", "cora")), [0, 2, 3, 5]),
        (dict(speaker=("not", "anna")), [1, 3, 4, 5]),
        (dict(speaker=["not", "anna", "cora"]), [1, 4]),
        (dict(speaker=("not", "anna"), take=2), [4, 5]),
        (dict(label="yes"), [1, 2, 4]),
        (dict(label=("not", "yes"), speaker="cora"), [3, 5]),
        ({}, list(range(6))),
    ],
)
def test_conditions_keep_the_examples_that_fulfil_all_of_them(archive, where, rows):
    table = tljax.data.load(archive, "train", where=where)
    assert table.input[:, 0].tolist() == rows
    assert table.classes == ("no", "yes")


def test_conditions_choose_before_examples_are_drawn(archive):
    table = tljax.data.load(archive, "train", where=dict(speaker=("not", "cora")), per_class=1)
    assert table.input[:, 0].tolist()[0] == 0  # the one "no" that is left
    assert len(table) == 2


def test_conditions_hold_over_joined_splits_and_without_labels(archive):
    table = tljax.data.load(archive, "train+test", where=dict(speaker="anna"), labelled=False)
    assert table.input[:, 0].tolist() == [0, 2, 0]
    assert not table.labelled
    table = tljax.data.load(archive, "train", where=dict(label="no"), labelled=False)
    assert table.input[:, 0].tolist() == [0, 3, 5]


@pytest.mark.parametrize(
    "where, message",
    [
        (dict(speeker="anna"), r"^where: .*'speeker'.*mean 'speaker'\?"),
        (dict(speaker="ana"), r"^where\.speaker: .*'ana'.*mean 'anna'\?"),
        (dict(speaker=("not", "ana")), r"^where\.speaker: .*'ana'"),
        (dict(speaker=()), r"^where\.speaker: got \(\)"),
        (dict(speaker=1.5), r"^where\.speaker: got 1\.5"),
        (dict(speaker="anna", label="no", take=2), r"^where: .*some example"),
    ],
)
def test_what_no_example_has_is_refused(archive, where, message):
    with pytest.raises(UserError, match=message):
        tljax.data.load(archive, "train", where=where)


def test_a_config_chooses_for_streams_and_evaluations(archive, tmp_path):
    config = tljax.experiment.blank()
    config.network.trunk = dict(name="mlp", features=(4,))
    others, one = dict(speaker=("not", "anna")), dict(speaker="anna")
    config.streams.source = dict(data=archive, where=others, batch=2)
    config.evaluate.one = dict(data=archive, split="train", where=one)
    config.terms.label = dict(term="cross_entropy")
    config.steps = 2
    result = tljax.experiment.run(config, tmp_path / "run")
    assert result["evaluations"]["one"]["examples"] == 2
    assert tljax.load(tmp_path / "run").predict(np.zeros((3, 1), np.float32)).shape == (3, 2)
    config.evaluate.one.where = dict(speaker="dave")
    with pytest.raises(UserError, match=r"^evaluate\.one\.where\.speaker: .*'dave'"):
        tljax.experiment.run(config, tmp_path / "other")

"""Streams from the device and from disk: batches depend on the seed and the step alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tljax
from tljax.data import streams
from tljax.data.streams import Feed, reader
from tljax.errors import UserError

KEY = jax.random.key(0)


def table(length, labelled=True):
    """Images that hold their number, and labels that repeat every 3."""
    images = np.arange(length, dtype=np.float32).reshape(length, 1, 1, 1)
    labels = np.arange(length, dtype=np.int32) % 3 if labelled else None
    return tljax.Table(input=images, label=labels, classes=("a", "b", "c"))


def batch_of(stream, table, step=0, fed=False):
    """A step's batch of a phase's only stream, which lives on the device or is fed."""
    data = ({}, {"source": table}) if fed else ({"source": table}, {})
    return streams.batch_of({"source": stream}, data[0], {}, data[1], step, KEY)["source"]


@pytest.mark.parametrize("fed", [False, True])
def test_batches_hold_labels_only_where_there_are_some(fed):
    stream = tljax.Stream("source", batch=4)
    assert set(batch_of(stream, table(4), fed=fed)) == {"input", "label"}
    assert set(batch_of(stream, table(4, labelled=False), fed=fed)) == {"input"}
    assert set(batch_of(stream, table(4).unlabelled(), fed=fed)) == {"input"}


def test_batches_are_floats_and_keep_the_labels():
    images = np.full((2, 1, 1, 1), 51, np.uint8)
    batch = batch_of(
        tljax.Stream("source", batch=2), tljax.Table(input=images, label=[1, 0]), 0, True
    )
    assert batch["input"].dtype == jnp.float32
    np.testing.assert_allclose(batch["input"], np.full((2, 1, 1, 1), 0.2), rtol=1e-6)
    np.testing.assert_array_equal(batch["label"], [1, 0])


def test_tokens_stay_integers():
    tokens = np.arange(6).reshape(2, 3)
    batch = batch_of(tljax.Stream("source", batch=2), tljax.Table(input=tokens), 0, True)
    assert batch["input"].dtype == jnp.int32
    np.testing.assert_array_equal(batch["input"], tokens)


def test_a_resident_stream_shows_every_example_once_an_epoch_with_its_label():
    stream = tljax.Stream("source", batch=4)
    draws = [batch_of(stream, table(12), step) for step in range(6)]
    for epoch in (draws[:3], draws[3:]):
        inputs = np.concatenate([batch["input"].ravel() for batch in epoch])
        np.testing.assert_array_equal(np.sort(inputs), np.arange(12))
        labels = np.concatenate([batch["label"] for batch in epoch])
        np.testing.assert_array_equal(labels, inputs % 3)


def test_the_seed_names_the_reader():
    one, same, other = (reader(table(20), 4, seed) for seed in (0, 0, 1))
    rows, again, rows_of_other = (
        np.concatenate([each.batches[i]["input"].ravel() for i in range(5)])
        for each in (one, same, other)
    )
    np.testing.assert_array_equal(rows, again)
    assert not np.array_equal(rows, rows_of_other)


def test_a_reader_shows_every_example_once_an_epoch():
    batches = reader(table(12), 4, seed=0).batches
    epochs = [
        np.concatenate([batches[i]["input"].ravel() for i in range(3 * n, 3 * n + 3)])
        for n in range(3)
    ]
    for each in epochs:
        np.testing.assert_array_equal(np.sort(each), np.arange(12))
    assert not np.array_equal(epochs[0], epochs[1])


def test_a_reader_keeps_labels_with_inputs_and_has_none_of_an_unlabelled_table():
    batch = reader(table(12), 4, seed=0).batches[2]
    np.testing.assert_array_equal(batch["label"], batch["input"].ravel() % 3)
    assert set(reader(table(12, labelled=False), 4, seed=0).batches[0]) == {"input"}


@pytest.mark.parametrize("start", [0, 1, 5])
def test_a_feed_that_starts_at_a_step_reads_what_stands_there(start):
    """11 examples in batches of 4: the third batch runs on into the second epoch."""
    read = reader(table(11), 4, seed=0)
    batches = read.batches
    feed = Feed({"source": read}, start)
    for i in range(start, start + 4):
        fed = feed.take(1, 1)["source"]
        np.testing.assert_array_equal(fed.input[0], batches[i]["input"])
        np.testing.assert_array_equal(fed.label[0], batches[i]["label"])


def test_taking_several_steps_is_taking_them_one_by_one():
    read = reader(table(11), 4, seed=0)
    batches = read.batches
    feed = Feed({"source": read}, 2)
    first, second = feed.take(3, 3)["source"], feed.take(2, 2)["source"]
    inputs = np.concatenate([first.input, second.input])
    np.testing.assert_array_equal(inputs, [batches[i]["input"] for i in range(2, 7)])


def test_take_pads_with_the_last_batch_and_loses_none():
    read = reader(table(11), 4, seed=0)
    batches = read.batches
    feed = Feed({"source": read, "target": reader(table(9), 2, seed=1)}, 0)
    fed = feed.take(2, 5)
    assert fed["source"].input.shape == (5, 4, 1, 1, 1)
    assert fed["target"].input.shape == (5, 2, 1, 1, 1)
    expected = [batches[i]["input"] for i in (0, 1, 1, 1, 1)]
    np.testing.assert_array_equal(fed["source"].input, expected)
    np.testing.assert_array_equal(feed.take(1, 5)["source"].input[0], batches[2]["input"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_inputs_that_are_not_finite_are_refused(bad):
    images = np.zeros((6, 2, 2, 1), np.float32)
    images[3, 1, 0, 0] = bad
    with pytest.raises(UserError, match=r"^streams\.source: input 3 holds NaN or infinity"):
        streams.check_finite(images, "streams.source")
    feed = Feed({"source": reader(tljax.Table(input=images), 2, seed=0)}, 0)
    with pytest.raises(UserError, match=r"^streams\.source: input [01] holds NaN or infinity"):
        feed.take(3, 3)


def test_integers_are_always_finite():
    streams.check_finite(np.full((2, 1, 1, 1), 255, np.uint8), "f")


def test_a_batch_that_the_data_cannot_fill_is_refused():
    with pytest.raises(UserError, match=r"^streams\.source\.batch: got 11; expected .* 1 to 10"):
        streams.check_batch(11, 10, "streams.source.batch")


@pytest.mark.parametrize("batch", [0, -1, 2.0, "4", True, None])
def test_a_batch_that_is_no_number_of_examples_is_refused(batch):
    with pytest.raises(UserError, match=r"^streams\.source\.batch: got .*; expected an integer"):
        tljax.Stream("source", batch=batch)


@pytest.mark.parametrize("batch", [1, 10])
def test_a_batch_that_the_data_can_fill_is_accepted(batch):
    streams.check_batch(batch, 10, "f")


def phase_on(**fields):
    """A phase that only streams."""
    network = tljax.Network(trunk=tljax.models.MLP(features=(2,)))
    return tljax.Phase(network=network, streams=[tljax.Stream("source", **fields)])


def test_a_phase_does_not_start_with_a_batch_that_its_table_cannot_fill():
    """Else no epoch would hold a single batch."""
    says = r"^streams\.source\.batch: got 11; expected an integer from 1 to 10"
    with pytest.raises(UserError, match=says):
        tljax.start(phase_on(batch=11), {"source": table(10)}, KEY)
    tljax.start(phase_on(batch=10), {"source": table(10)}, KEY)


def test_a_balanced_stream_must_be_labelled():
    says = r"^streams\.source\.balanced: got True; expected a labelled stream"
    with pytest.raises(UserError, match=says):
        tljax.start(phase_on(batch=4, balanced=True), {"source": table(10, labelled=False)}, KEY)


def test_identity_is_the_same_in_every_process():
    """CRC-32 of "123456789" is the check value of its definition, 0xCBF43926; bit 31 is dropped."""
    assert streams.identity("123456789") == 0x4BF43926
    assert streams.identity("source") != streams.identity("target")

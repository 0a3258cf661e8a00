"""Streams: every example once an epoch, and batches that depend on the seed and the step alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tljax.data import streams
from tljax.data.sources import Table
from tljax.data.streams import Feed, Stream, draw, reader, shuffled
from tljax.errors import UserError

KEY = jax.random.key(0)


def table(length, labelled=True):
    """Images that hold their number, and labels that repeat every 3."""
    images = np.arange(length, dtype=np.float32).reshape(length, 1, 1, 1)
    labels = np.arange(length, dtype=np.int32) % 3 if labelled else None
    return Table(images, labels, ("a", "b", "c"))


def order(length, key):
    return jax.jit(shuffled, static_argnums=1)(jnp.arange(length), length, key)


@given(st.integers(1, 3000), st.integers(0, 2**31 - 1))
@example(1, 0)
@example(3, 0)
@example(5, 0)
@example(16, 0)
@example(17, 0)
@example(1025, 0)
@settings(max_examples=6)
def test_shuffled_is_a_permutation(length, seed):
    places = order(length, jax.random.key(seed))
    assert places.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(places), np.arange(length))


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
@settings(max_examples=20)
def test_different_keys_give_different_orders(seed, other):
    one, two = (np.asarray(order(100, jax.random.key(each))) for each in (seed, other))
    assert np.array_equal(one, two) == (seed == other)


def test_a_slot_does_not_depend_on_the_slots_beside_it():
    whole = np.asarray(order(50, KEY))
    for slots in ([7], [49, 0, 7], list(range(10, 20))):
        np.testing.assert_array_equal(shuffled(jnp.array(slots), 50, KEY), whole[slots])


def test_every_number_comes_first_equally_often():
    """Over 2000 keys each of 10 comes first 200 ± 13 times; five deviations are 67."""
    keys = jax.random.split(KEY, 2000)
    firsts = jax.jit(jax.vmap(lambda key: shuffled(jnp.arange(1), 10, key)[0]))(keys)
    assert np.abs(np.bincount(firsts, minlength=10) - 200).max() < 67


def test_the_largest_length_stays_in_range():
    length = 2**30
    slots = jnp.array([0, 1, 12345, length - 1])
    places = np.asarray(shuffled(slots, length, KEY))
    assert len(set(places.tolist())) == 4 and places.min() >= 0 and places.max() < length


ARRAYS = {"image": np.arange(11, dtype=np.float32), "label": np.arange(11) * 10}
DRAW = jax.jit(draw, static_argnums=1)


def epoch(number, key=KEY, batch=4):
    """The examples of an epoch of 11 examples: two batches of 4."""
    steps = range(2 * number, 2 * number + 2)
    return [np.asarray(DRAW(ARRAYS, batch, step, key)["image"]) for step in steps]


def test_an_epoch_holds_every_example_at_most_once_and_drops_the_remainder():
    seen = []
    for number in range(20):
        examples = np.concatenate(epoch(number))
        assert len(set(examples.tolist())) == len(examples) == 8
        seen.append(tuple(examples))
    assert len(set(seen)) == 20  # every epoch in an order of its own
    assert set(np.concatenate(seen).tolist()) == set(range(11))  # the remainder is not the same


def test_an_epoch_of_whole_batches_holds_every_example():
    arrays = {"image": np.arange(12)}
    examples = [DRAW(arrays, 4, step, KEY)["image"] for step in (3, 4, 5)]
    np.testing.assert_array_equal(np.sort(np.concatenate(examples)), np.arange(12))


def test_images_keep_their_labels():
    for step in range(5):
        batch = DRAW(ARRAYS, 4, step, KEY)
        np.testing.assert_array_equal(batch["label"], 10 * batch["image"])


def test_a_batch_of_everything_is_all_of_it():
    examples = DRAW(ARRAYS, 11, 3, KEY)["image"]
    np.testing.assert_array_equal(np.sort(examples), np.arange(11))


def test_a_batch_depends_on_the_key_and_the_step_alone():
    forward = [np.asarray(DRAW(ARRAYS, 4, step, KEY)["image"]) for step in range(6)]
    for step in (5, 2, 0):  # asked for in another order, or inside a loop
        np.testing.assert_array_equal(DRAW(ARRAYS, 4, step, KEY)["image"], forward[step])
    steps = jnp.arange(6)
    looped = jax.lax.map(lambda step: draw(ARRAYS_ON_DEVICE, 4, step, KEY)["image"], steps)
    np.testing.assert_array_equal(looped, forward)
    other = [DRAW(ARRAYS, 4, step, jax.random.key(1))["image"] for step in range(6)]
    assert not np.array_equal(forward, other)


ARRAYS_ON_DEVICE = {name: jnp.asarray(array) for name, array in ARRAYS.items()}


def test_resident_arrays_hold_labels_only_where_there_are_some():
    assert set(streams.resident(table(4), "f")) == {"image", "label"}
    assert set(streams.resident(table(4, labelled=False), "f")) == {"image"}


def test_transform_gives_floats_and_keeps_the_labels():
    examples = {"image": np.full((2, 1, 1, 1), 51, np.uint8), "label": np.array([1, 0])}
    batch = streams.transform(Stream("source", 2), (), examples, KEY)
    assert batch["image"].dtype == jnp.float32
    np.testing.assert_allclose(batch["image"], np.full((2, 1, 1, 1), 0.2), rtol=1e-6)
    np.testing.assert_array_equal(batch["label"], [1, 0])


def test_the_seed_names_the_reader():
    one, same, other = (reader(table(20), 4, seed) for seed in (0, 0, 1))
    rows = [np.concatenate([each[i]["image"].ravel() for i in range(5)]) for each in (one, same)]
    np.testing.assert_array_equal(*rows)
    rows_of_other = np.concatenate([other[i]["image"].ravel() for i in range(5)])
    assert not np.array_equal(rows[0], rows_of_other)


def test_a_reader_shows_every_example_once_an_epoch():
    batches = reader(table(12), 4, seed=0)
    epochs = [
        np.concatenate([batches[i]["image"].ravel() for i in range(3 * n, 3 * n + 3)])
        for n in range(3)
    ]
    for each in epochs:
        np.testing.assert_array_equal(np.sort(each), np.arange(12))
    assert not np.array_equal(epochs[0], epochs[1])


def test_a_reader_keeps_labels_with_images_and_has_none_of_an_unlabelled_table():
    batch = reader(table(12), 4, seed=0)[2]
    np.testing.assert_array_equal(batch["label"], batch["image"].ravel() % 3)
    assert set(reader(table(12, labelled=False), 4, seed=0)[0]) == {"image"}


@pytest.mark.parametrize("start", [0, 1, 5])
def test_a_feed_that_starts_at_a_step_reads_what_stands_there(start):
    """11 examples in batches of 4: the third batch runs on into the second epoch."""
    batches = reader(table(11), 4, seed=0)
    feed = Feed({"source": batches}, start)
    for i in range(start, start + 4):
        fed = feed.take(1, 1)["source"]
        np.testing.assert_array_equal(fed["image"][0], batches[i]["image"])
        np.testing.assert_array_equal(fed["label"][0], batches[i]["label"])


def test_taking_several_steps_is_taking_them_one_by_one():
    batches = reader(table(11), 4, seed=0)
    feed = Feed({"source": batches}, 2)
    first, second = feed.take(3, 3)["source"], feed.take(2, 2)["source"]
    images = np.concatenate([first["image"], second["image"]])
    np.testing.assert_array_equal(images, [batches[i]["image"] for i in range(2, 7)])


def test_take_pads_with_the_last_batch_and_loses_none():
    batches = reader(table(11), 4, seed=0)
    feed = Feed({"source": batches, "target": reader(table(9), 2, seed=1)}, 0)
    fed = feed.take(2, 5)
    assert fed["source"]["image"].shape == (5, 4, 1, 1, 1)
    assert fed["target"]["image"].shape == (5, 2, 1, 1, 1)
    expected = [batches[i]["image"] for i in (0, 1, 1, 1, 1)]
    np.testing.assert_array_equal(fed["source"]["image"], expected)
    np.testing.assert_array_equal(feed.take(1, 5)["source"]["image"][0], batches[2]["image"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_images_that_are_not_finite_are_refused(bad):
    images = np.zeros((6, 2, 2, 1), np.float32)
    images[3, 1, 0, 0] = bad
    with pytest.raises(UserError, match=r"^streams\.source: image 3 holds NaN or infinity"):
        streams.resident(Table(images, None, ()), "streams.source")
    feed = Feed({"source": reader(Table(images, None, ()), 2, seed=0)}, 0)
    with pytest.raises(UserError, match=r"^streams\.source: image [01] holds NaN or infinity"):
        feed.take(3, 3)


def test_integers_are_always_finite():
    streams.check_finite(np.full((2, 1, 1, 1), 255, np.uint8), "f")


@pytest.mark.parametrize("batch", [11, 0, -1, 2.0, "4", True, None])
def test_a_batch_that_the_data_cannot_fill_is_refused(batch):
    with pytest.raises(UserError, match=r"^streams\.source\.batch: got .*; expected .* 1 to 10"):
        streams.check_batch(batch, 10, "streams.source.batch")


@pytest.mark.parametrize("batch", [1, 10])
def test_a_batch_that_the_data_can_fill_is_accepted(batch):
    streams.check_batch(batch, 10, "f")


def test_identity_is_the_same_in_every_process():
    """CRC-32 of "123456789" is the check value of its definition, 0xCBF43926; bit 31 is dropped."""
    assert streams.identity("123456789") == 0x4BF43926
    assert streams.identity("source") != streams.identity("target")

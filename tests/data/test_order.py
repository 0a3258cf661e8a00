"""Orders inside a trace: every example once an epoch, and `balanced_draw` is balanced."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tljax.data.order import balanced_draw, by_class, draw, shuffled

KEY = jax.random.key(0)


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


ARRAYS = {"input": np.arange(11, dtype=np.float32), "label": np.arange(11) * 10}
DRAW = jax.jit(draw, static_argnums=1)


def epoch(number, key=KEY, batch=4):
    """The examples of an epoch of 11 examples: two batches of 4."""
    steps = range(2 * number, 2 * number + 2)
    return [np.asarray(DRAW(ARRAYS, batch, step, key)["input"]) for step in steps]


def test_an_epoch_holds_every_example_at_most_once_and_drops_the_remainder():
    seen = []
    for number in range(20):
        examples = np.concatenate(epoch(number))
        assert len(set(examples.tolist())) == len(examples) == 8
        seen.append(tuple(examples))
    assert len(set(seen)) == 20  # every epoch in an order of its own
    assert set(np.concatenate(seen).tolist()) == set(range(11))  # the remainder is not the same


def test_an_epoch_of_whole_batches_holds_every_example():
    arrays = {"input": np.arange(12)}
    examples = [DRAW(arrays, 4, step, KEY)["input"] for step in (3, 4, 5)]
    np.testing.assert_array_equal(np.sort(np.concatenate(examples)), np.arange(12))


def test_inputs_keep_their_labels():
    for step in range(5):
        batch = DRAW(ARRAYS, 4, step, KEY)
        np.testing.assert_array_equal(batch["label"], 10 * batch["input"])


def test_a_batch_of_everything_is_all_of_it():
    examples = DRAW(ARRAYS, 11, 3, KEY)["input"]
    np.testing.assert_array_equal(np.sort(examples), np.arange(11))


def test_a_drawn_batch_depends_on_the_key_and_the_step_alone():
    forward = [np.asarray(DRAW(ARRAYS, 4, step, KEY)["input"]) for step in range(6)]
    for step in (5, 2, 0):  # asked for in another order, or inside a loop
        np.testing.assert_array_equal(DRAW(ARRAYS, 4, step, KEY)["input"], forward[step])
    steps = jnp.arange(6)
    looped = jax.lax.map(lambda step: draw(ARRAYS_ON_DEVICE, 4, step, KEY)["input"], steps)
    np.testing.assert_array_equal(looped, forward)
    other = [DRAW(ARRAYS, 4, step, jax.random.key(1))["input"] for step in range(6)]
    assert not np.array_equal(forward, other)


ARRAYS_ON_DEVICE = {name: jnp.asarray(array) for name, array in ARRAYS.items()}


def test_rows_by_class():
    rows = by_class(np.array([4, 1, 4, 7, 1, 4]))
    assert rows.rows.tolist() == [1, 4, 0, 2, 5, 3]
    assert rows.starts.tolist() == [0, 2, 5] and rows.sizes.tolist() == [2, 3, 1]
    assert {array.dtype for array in rows} == {np.dtype(np.int32)}


@functools.partial(jax.jit, static_argnums=(1, 2))
def sampled(label, batch, steps, key, rows):
    """The rows of the first steps, drawn in a loop with a traced step: `[steps, batch]`."""
    columns = {"label": label, "row": jnp.arange(len(label))}
    body = lambda step: balanced_draw(columns, batch, step, key, rows)  # noqa: E731
    return jax.lax.map(body, jnp.arange(steps))


def labels(counts):
    """Labels 0, 2, 4, ... of as many examples as `counts` says, in a mixed order."""
    label = np.repeat(2 * np.arange(len(counts)), counts).astype(np.int32)
    return np.random.default_rng(0).permutation(label)


SIZES = st.tuples(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 20))


@given(SIZES, st.integers(0, 2**31 - 1))
@example(([1, 17, 3], 2), 0)
@example(([5, 5, 5, 5], 8), 0)
@settings(max_examples=3)
def test_classes_come_equally_often_and_their_examples_take_turns(sizes, seed):
    counts, batch = sizes
    label, steps = labels(counts), 60
    drawn = sampled(label, batch, steps, jax.random.key(seed), by_class(label))
    np.testing.assert_array_equal(drawn["label"], label[drawn["row"]])
    present = 2 * np.arange(len(counts))
    per_batch = (np.asarray(drawn["label"])[..., None] == present).sum(axis=1)
    assert np.ptp(per_batch, axis=1).max() <= 1, "within a batch"
    assert np.ptp(per_batch.cumsum(axis=0), axis=1).max() <= 1, "over all batches so far"
    rows = np.asarray(drawn["row"]).ravel()
    for number, count in zip(present, counts, strict=True):
        of_class = rows[label[rows] == number]
        members = np.flatnonzero(label == number)
        for start in range(0, len(of_class) - count + 1, count):
            np.testing.assert_array_equal(np.sort(of_class[start : start + count]), members)


def test_orders_differ_from_epoch_to_epoch_and_class_to_class():
    label = labels([12, 12])
    drawn = sampled(label, 24, 6, KEY, by_class(label))
    rows = by_class(label).rows
    place = np.argsort(rows)[np.asarray(drawn["row"])] % 12  # among those of its class
    orders = {
        tuple(steps[of_class == number])
        for steps, of_class in zip(place, np.asarray(drawn["label"]), strict=True)
        for number in (0, 2)
    }
    assert len(orders) == 12  # of 6 epochs and 2 classes


def test_every_example_of_a_class_comes_first_equally_often():
    """Over 2000 keys each of 17 comes first 118 ± 11 times; five deviations are 53."""
    rows, columns = by_class(np.zeros(17, int)), {"row": jnp.arange(17)}
    first = jax.jit(jax.vmap(lambda key: balanced_draw(columns, 1, 0, key, rows)["row"][0]))
    drawn = np.bincount(first(jax.random.split(KEY, 2000)), minlength=17)
    assert np.abs(drawn - 2000 / 17).max() < 53


def test_classes_meet_others_from_round_to_round():
    """Of four classes two fill a batch, by turns; over rounds each pair meets."""
    label = labels([3, 3, 3, 3])
    drawn = sampled(label, 2, 200, KEY, by_class(label))
    pairs = {tuple(sorted(pair)) for pair in np.asarray(drawn["label"]).tolist()}
    assert len(pairs) == 6


def test_a_balanced_batch_depends_on_the_key_and_the_step_alone():
    label = labels([5, 9, 2])
    rows = by_class(label)
    columns = {"row": np.arange(len(label))}
    forward = sampled(label, 4, 10, KEY, rows)["row"]
    for step in (7, 0, 3):
        alone = balanced_draw(columns, 4, step, KEY, rows)["row"]
        np.testing.assert_array_equal(alone, forward[step])
    other = sampled(label, 4, 10, jax.random.key(1), rows)["row"]
    assert not np.array_equal(other, forward)


@pytest.mark.parametrize("classes", [2, 1000])
def test_late_steps_stay_in_range(classes):
    label = np.arange(3 * classes) % classes
    rows = by_class(label)
    late = balanced_draw({"label": label}, 64, 50_000_000, KEY, rows)["label"]
    assert np.bincount(late).max() == (32 if classes == 2 else 1)


def test_keys_of_a_sweep_are_mapped():
    label = labels([4, 7, 3])
    rows, keys = by_class(label), jax.random.split(KEY, 3)
    columns = {"row": jnp.arange(len(label))}
    draws = jax.vmap(lambda key: balanced_draw(columns, 5, 8, key, rows)["row"])(keys)
    for lane, key in zip(draws, keys, strict=True):
        np.testing.assert_array_equal(lane, balanced_draw(columns, 5, 8, key, rows)["row"])

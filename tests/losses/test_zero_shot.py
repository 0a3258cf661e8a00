"""The compatibility of images with classes, and the ranking losses on its scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from tljax.losses import zero_shot
from tljax.losses.zero_shot import compatibility

ale, devise, sje = map(jax.jit, (zero_shot.ale, zero_shot.devise, zero_shot.sje))
LOSSES = {"devise": devise, "sje": sje, "ale": ale}
SCORES = jnp.array([[2.0, 1.5, 1.75, -3.0], [0.0, 1.0, 0.5, 0.0], [9.0, 0.0, 0.0, 0.0]])
LABELS = jnp.array([0, 3, 0])
# At a margin of 1. Row 0, label 0: 1 − 2 + 1.5 = ½, 1 − 2 + 1.75 = ¾, and −4 counts nothing.
# Row 1, label 3: 1, 2, 1.5. Row 2: nothing within the margin.
# Sums: 1.25, 4.5, 0. Largest: ¾, 2, 0. Ranks 2, 3, 0 with β₂ = 3/2 and β₃ = 11/6, so the
# weights β_r/r are 3/4, 11/18 and none.
WORKED = {
    "devise": [1.25, 4.5, 0.0],
    "sje": [0.75, 2.0, 0.0],
    "ale": [1.25 * 3 / 4, 4.5 * 11 / 18, 0.0],
}


@pytest.mark.parametrize("name", LOSSES)
def test_by_hand(name):
    value = LOSSES[name](SCORES, LABELS, 1.0)
    np.testing.assert_allclose(value, WORKED[name], rtol=1e-6)
    plain = getattr(zero_shot, name)(SCORES, LABELS, jnp.float32(1.0))  # without jit
    np.testing.assert_allclose(plain, value, rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_the_margin_is_a_tenth_where_none_is_given(name):
    np.testing.assert_array_equal(LOSSES[name](SCORES, LABELS), LOSSES[name](SCORES, LABELS, 0.1))


def test_compatibility_by_hand():
    # x W = [1·1 + 2·0, 1·0 + 2·3, 1·−1 + 2·1] = [1, 6, 1]; with [1, 0, 0] it is 1, with
    # [0, 1, 2] it is 6 + 2 = 8.
    weights = jnp.array([[1.0, 0.0, -1.0], [0.0, 3.0, 1.0]])
    classes = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 2.0]])
    scores = compatibility(jnp.array([[1.0, 2.0]]), classes, weights)
    np.testing.assert_array_equal(scores, [[1.0, 8.0]])


def test_compatibility_gradients():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        arrays = tuple(jnp.array(rng.normal(size=s)) for s in ((4, 3), (5, 2), (3, 2)))
        check_grads(jax.jit(compatibility), arrays, order=2, modes=["rev"])


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name):
    """Random scores are nowhere at a kink."""
    with jax.enable_x64(True):
        scores = jnp.array(np.random.default_rng(0).normal(size=(6, 5)))
        labels = jnp.arange(6) % 5
        check_grads(lambda s: LOSSES[name](s, labels, 0.7), (scores,), order=1, modes=["rev"])
        assert LOSSES[name](scores, labels).dtype == jnp.float64


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=10)
@given(st.permutations(range(4)), st.integers(-4, 4))
def test_classes_may_be_renamed_and_scores_shifted(name, order, shift):
    renamed = SCORES[:, jnp.array(order)] + shift
    labels = jnp.argsort(jnp.array(order))[LABELS]
    np.testing.assert_allclose(LOSSES[name](renamed, labels, 1.0), WORKED[name], rtol=1e-6)


@settings(max_examples=10)
@given(st.permutations(range(3)))
def test_the_batch_may_be_shuffled(order):
    order = jnp.array(order)
    for name, loss in LOSSES.items():
        np.testing.assert_allclose(
            loss(SCORES[order], LABELS[order], 1.0), jnp.array(WORKED[name])[order], rtol=1e-6
        )


def test_the_sum_is_the_largest_of_the_three():
    scores = jnp.array(np.random.default_rng(0).normal(size=(50, 7)), jnp.float32)
    labels = jnp.arange(50) % 7
    assert (sje(scores, labels) <= devise(scores, labels)).all()
    assert (ale(scores, labels) <= devise(scores, labels) * (1 + 1e-6)).all()
    assert (ale(scores, labels) < devise(scores, labels)).any()
    # One violating class: all three are the same.
    one = jnp.array([[0.0, 0.05, -9.0]])
    for loss in LOSSES.values():
        np.testing.assert_allclose(loss(one, jnp.array([0])), [0.15], rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_extremes(name):
    labels = jnp.array([0, 0, 1])
    scores = jnp.array([[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4]])
    value, gradient = jax.value_and_grad(lambda s: LOSSES[name](s, labels, 0.5).sum())(scores)
    np.testing.assert_allclose(value, 2e4 + 0.5 + 0.5)
    np.testing.assert_array_equal(gradient, [[0, 0], [-1, 1], [1, -1]])
    # A single class has nothing to be ranked against.
    assert LOSSES[name](jnp.array([[3.0]]), jnp.array([0]), 1.0) == 0


@pytest.mark.parametrize("name", LOSSES)
def test_under_vmap_over_margins(name):
    margins = jnp.array([0.1, 1.0])
    batched = jax.jit(jax.vmap(LOSSES[name], (None, None, 0)))(SCORES, LABELS, margins)
    np.testing.assert_allclose(batched[1], WORKED[name], rtol=1e-6)
    np.testing.assert_allclose(batched[0], LOSSES[name](SCORES, LABELS, 0.1), rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("labels", [jnp.zeros(2, int), jnp.zeros((3, 1), int)])
def test_labels_that_do_not_fit(name, labels):
    with pytest.raises(ValueError, match=rf"^{name}: labels: got int32 .* \[batch=3 of scores\]$"):
        getattr(zero_shot, name)(SCORES, labels)


@pytest.mark.parametrize("shapes", [((2, 3), (4, 5), (3, 4)), ((3,), (4, 5), (3, 5))])
def test_embeddings_that_do_not_fit(shapes):
    with pytest.raises(ValueError, match=r"^compatibility: \w+: got .*; expected .*$"):
        compatibility(*map(jnp.zeros, shapes))

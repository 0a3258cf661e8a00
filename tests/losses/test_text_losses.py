"""Losses of text, by hand, and what they do not depend on."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tljax.losses import hidden_cross_entropy, info_nce, mixing_weights, span_cross_entropy

DRAW = np.random.default_rng(0)


def draw(*shape):
    return jnp.array(DRAW.normal(size=shape), jnp.float32)


def test_span_cross_entropy_by_hand():
    """Starts log 3, 0, 0 and ends 0, log 2, 0 of three places, a fourth that is not there.

    −log(3/5) of the first to start, −log(2/4) of the second to end, and half their sum.
    """
    logits = jnp.array([[[math.log(3), 0], [0, math.log(2)], [0, 0], [90, 90]]], jnp.float32)
    mask = jnp.array([[True, True, True, False]])
    loss = span_cross_entropy(logits, jnp.array([[0, 1]]), mask)
    np.testing.assert_allclose(loss, [(math.log(5 / 3) + math.log(2)) / 2], rtol=1e-6)
    gradient = jax.grad(lambda x: span_cross_entropy(x, jnp.array([[0, 1]]), mask).sum())(logits)
    np.testing.assert_array_equal(gradient[0, 3], 0)
    assert jnp.isfinite(gradient).all() and (gradient[0, :3] != 0).all()


def test_hidden_cross_entropy_by_hand():
    """Two hidden places, of shares 3/4 and 1/4 of their words: the mean of −log of both."""
    logits = jnp.array([[[math.log(3), 0.0], [math.log(3), 0.0], [5.0, 0.0]]])
    words, hidden = jnp.array([[0, 1, -7]]), jnp.array([[True, True, False]])
    loss = hidden_cross_entropy(logits, words, hidden)
    np.testing.assert_allclose(loss, (math.log(4 / 3) + math.log(4)) / 2, rtol=1e-6)
    none = jnp.zeros((1, 3), bool)
    loss, gradient = jax.value_and_grad(hidden_cross_entropy)(logits, words, none)
    assert loss == 0 and not gradient.any()


def test_info_nce_by_hand():
    """Two pairs at right angles, τ = 1: −log(e / (e + 1)) on either side."""
    x = jnp.array([[2.0, 0.0], [0.0, 3.0]])
    np.testing.assert_allclose(info_nce(x, x, 1.0), math.log(1 + math.exp(-1)), rtol=1e-6)
    same = jnp.ones((5, 3))
    np.testing.assert_allclose(info_nce(same, same, 0.1), math.log(5), rtol=1e-5)


def test_info_nce_does_not_depend_on_scale_order_or_side():
    x, y = draw(6, 4), draw(6, 4)
    order = jnp.array([3, 1, 0, 5, 4, 2])
    for other in (
        *(info_nce(y, x, 0.2), info_nce(x[order], y[order], 0.2)),
        info_nce(7 * x, y * jnp.arange(1, 7).reshape(-1, 1), 0.2),
    ):
        np.testing.assert_allclose(other, info_nce(x, y, 0.2), rtol=1e-5)
    assert jnp.isfinite(jax.grad(info_nce)(jnp.zeros((3, 2)), y[:3, :2])).all()


def test_gradients():
    with jax.enable_x64(True):
        x, y = (jnp.array(DRAW.normal(size=(4, 3))) for _ in range(2))
        check_grads(lambda x, y: info_nce(x, y, 0.5), (x, y), order=1, modes=["rev"])
        logits, mask = x.reshape(2, 2, 3), jnp.array([[True, False], [True, True]])
        words = jnp.array([[1, 2], [0, 1]])
        check_grads(lambda x: hidden_cross_entropy(x, words, mask), (logits,), 1, modes=["rev"])


@pytest.mark.parametrize(
    "temperature, expected",
    # 100 and 900 by n: .2 and 1.8; by √n, 10 and 30: .5 and 1.5; by n⁰: 1 and 1.
    [(1.0, [0.2, 1.8]), (2.0, [0.5, 1.5]), (1e6, [1.0, 1.0])],
)
def test_mixing_weights_by_hand(temperature, expected):
    weights = mixing_weights(jnp.array([100.0, 900.0]), temperature)
    np.testing.assert_allclose(weights, expected, rtol=1e-4)

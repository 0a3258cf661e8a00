"""Sums of losses, with given and with learned weights."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from tljax.errors import UserError
from tljax.losses.multitask import uncertainty_weighted, weighted_sum

LOSSES, OTHER = jnp.array([2.0, 3.0, 0.5]), jnp.array([0.1, -0.5, 1.0])
BOTH = pytest.mark.parametrize("loss", [weighted_sum, uncertainty_weighted])


def test_weighted_sum_by_hand():
    """2·0.5 + 3·0 + 4·(−1) = −3."""
    assert weighted_sum(jnp.array([2.0, 3.0, 4.0]), jnp.array([0.5, 0.0, -1.0])) == -3


def test_weighted_sum_gradient_is_the_weights():
    of_losses, of_weights = jax.grad(weighted_sum, argnums=(0, 1))(LOSSES, OTHER)
    np.testing.assert_array_equal(of_losses, OTHER)
    np.testing.assert_array_equal(of_weights, LOSSES)


def test_uncertainty_by_hand():
    """s = (log 2, 0): 2/(2·2) + ½ log 2 + 3/(2·1) + 0 = 2 + ½ log 2."""
    value = uncertainty_weighted(jnp.array([2.0, 3.0]), jnp.array([math.log(2), 0.0]))
    assert float(value) == pytest.approx(2 + math.log(2) / 2, rel=1e-6)


def test_uncertainty_gradient_by_hand():
    """∂/∂L = 1/(2 exp(s)); ∂/∂s = ½ (1 − L exp(−s)): at s = (log 2, 0), (¼, ½) and (0, −1)."""
    gradient = jax.grad(uncertainty_weighted, argnums=(0, 1))
    of_losses, of_s = gradient(jnp.array([2.0, 3.0]), jnp.array([math.log(2), 0.0]))
    np.testing.assert_allclose(of_losses, [1 / 4, 1 / 2], rtol=1e-6)
    np.testing.assert_allclose(of_s, [0, -1], atol=1e-6)


@given(st.lists(st.floats(-2, 2), min_size=3, max_size=3))
def test_no_variance_is_better_than_the_loss_itself(moved):
    best = uncertainty_weighted(LOSSES, jnp.log(LOSSES))
    assert best <= uncertainty_weighted(LOSSES, jnp.log(LOSSES) + jnp.array(moved)) + 1e-6


@BOTH
def test_the_order_of_the_tasks_does_not_matter(loss):
    for order in ([1, 2, 0], [2, 1, 0]):
        shuffled = loss(LOSSES[jnp.array(order)], OTHER[jnp.array(order)])
        np.testing.assert_allclose(shuffled, loss(LOSSES, OTHER), rtol=1e-6)


@BOTH
def test_gradients(loss):
    with jax.enable_x64(True):
        arguments = jnp.array([2.0, 3.0, 0.5]), jnp.array([0.1, -0.5, 1.0])
        check_grads(jax.jit(loss), arguments, order=1, modes=["rev"])


@BOTH
def test_jit_vmap_and_dtypes(loss):
    losses, others = jnp.stack([LOSSES, 2 * LOSSES]), jnp.stack([OTHER, -OTHER])
    singly = [loss(*pair) for pair in zip(losses, others, strict=True)]
    np.testing.assert_allclose(
        jax.jit(jax.vmap(loss))(losses, others), jnp.stack(singly), rtol=1e-6
    )
    with jax.enable_x64(True):
        for dtype in ("float32", "float64"):
            ones = jnp.ones(2, dtype)
            assert jax.eval_shape(loss, ones, ones).dtype == dtype


@BOTH
def test_extremes_are_finite(loss):
    """Losses of 0 and of 1e4, with log variances of ±20."""
    losses, others = jnp.array([0.0, 1e4, 1e4, 0.0]), jnp.array([20.0, 20.0, -20.0, -20.0])
    value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(losses, others)
    assert np.isfinite(value) and np.isfinite(jnp.stack(gradients)).all()


@BOTH
@pytest.mark.parametrize("shapes", [((3,), (2,)), ((3,), ()), ((3, 1), (3, 1)), ((), ())])
def test_shapes_that_do_not_fit_are_refused(loss, shapes):
    with pytest.raises(UserError, match=rf"^{loss.__name__}: \w+: got float32 .*; expected") as e:
        loss(*map(jnp.ones, shapes))
    assert str(list(shapes[-1])) in str(e.value)

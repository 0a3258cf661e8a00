"""The weighted mean against hand-worked values and scikit-learn's convention."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads
from sklearn.metrics import log_loss

from tljax.errors import UserError
from tljax.losses import weighted_mean


def test_by_hand():
    # (1·1 + 3·2) / 4, where a plain mean of the products would be 7/2.
    values, weights = jnp.array([1.0, 2.0]), jnp.array([1.0, 3.0])
    assert weighted_mean(values, weights) == 7 / 4
    assert weighted_mean(values, 10 * weights) == 7 / 4
    assert weighted_mean(values, jnp.ones(2)) == 3 / 2


def test_classes_that_weigh_are_scikit_learns_sample_weights():
    logits = jax.random.normal(jax.random.key(0), (6, 3))
    labels, of_class = jnp.array([0, 0, 0, 1, 1, 2]), jnp.array([0.5, 2.0, 3.0])
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    wanted = log_loss(labels, jax.nn.softmax(logits), sample_weight=of_class[labels])
    np.testing.assert_allclose(weighted_mean(losses, of_class[labels]), wanted, rtol=1e-5)


def test_without_any_weight_it_is_nothing_with_no_gradient():
    gradients = jax.grad(weighted_mean, argnums=(0, 1))(jnp.array([1.0, 2.0]), jnp.zeros(2))
    assert weighted_mean(jnp.array([1.0, 2.0]), jnp.zeros(2)) == 0
    np.testing.assert_array_equal(gradients[0], 0)
    assert np.isfinite(gradients[1]).all()


def test_gradients():
    with jax.enable_x64(True):
        arguments = jnp.array([0.3, 2.0, 1.1]), jnp.array([0.2, 1.0, 3.0])
        check_grads(weighted_mean, arguments, order=2, modes=["rev"])


def test_shapes_that_differ():
    with pytest.raises(UserError, match=r"weighted_mean: weights: got float32 \[2\]; .*batch=3"):
        weighted_mean(jnp.ones(3), jnp.ones(2))

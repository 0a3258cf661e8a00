"""The reversed gradient, its ramp and the discriminator's loss."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from tljax.losses.adversarial import domain_confusion, ramp, reverse_gradient

X = jnp.array([[0.3, -1.2, 2.0], [0.0, 0.7, -0.4]])


def curved(x):
    """Something with a gradient that differs everywhere."""
    return jnp.sum(jnp.sin(x) * jnp.arange(1.0, x.size + 1).reshape(x.shape))


def test_reverse_gradient_is_the_identity():
    np.testing.assert_array_equal(reverse_gradient(X, 0.3), X)
    np.testing.assert_array_equal(reverse_gradient(X), X)
    np.testing.assert_array_equal(jax.jit(reverse_gradient)(X, 0.3), X)


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0, -2.0, 4])
def test_the_gradient_is_multiplied_by_minus_the_scale(scale):
    plain = jax.grad(curved)(X)
    reverse = jax.grad(lambda x: curved(reverse_gradient(x, scale)))
    np.testing.assert_allclose(reverse(X), -scale * plain, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(reverse)(X), -scale * plain, rtol=1e-6)


def test_the_scale_is_one_where_none_is_given():
    np.testing.assert_array_equal(
        jax.grad(lambda x: reverse_gradient(x).sum())(X), -jnp.ones((2, 3))
    )


def test_a_traced_scale_gets_no_gradient():
    both = jax.grad(lambda x, scale: curved(reverse_gradient(x, scale)), argnums=(0, 1))
    gradient, of_scale = jax.jit(both)(X, jnp.float32(0.3))
    np.testing.assert_allclose(gradient, -0.3 * jax.grad(curved)(X), rtol=1e-6)
    assert of_scale == 0.0


def test_under_vmap_every_example_has_its_own_scale():
    scales = jnp.array([0.5, 2.0])
    gradient = jax.grad(lambda x: jax.vmap(reverse_gradient)(x, scales).sum())(X)
    np.testing.assert_array_equal(gradient, -jnp.array([[0.5] * 3, [2.0] * 3]))
    shared = jax.vmap(jax.grad(lambda x: curved(reverse_gradient(x, 0.3))))(X)
    np.testing.assert_allclose(shared, -0.3 * jax.vmap(jax.grad(curved))(X), rtol=1e-6)


def test_finite_differences():
    """Going forward nothing is scaled, so finite differences see the plain gradient."""
    with jax.enable_x64(True):
        x, step = jnp.array([0.3, -1.2, 2.0]), 1e-6
        ends = [
            [curved(reverse_gradient(x + s * e, 0.3)) for s in (step, -step)] for e in np.eye(3)
        ]
        slopes = [(up - down) / (2 * step) for up, down in ends]
        gradient = jax.grad(lambda x: curved(reverse_gradient(x, 0.3)))(x)
        np.testing.assert_allclose(gradient, -0.3 * np.array(slopes), rtol=1e-8)
        # At a scale of −1 it is the identity in both directions.
        check_grads(lambda x: curved(reverse_gradient(x, -1.0)), (x,), order=1, modes=["rev"])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtypes_are_kept(dtype):
    with jax.enable_x64(True):
        x = jnp.ones(3, dtype)
        value, pull = jax.vjp(reverse_gradient, x, jnp.float32(0.5))
        assert value.dtype == dtype
        gradient, of_scale = pull(jnp.ones(3, dtype))
        assert gradient.dtype == dtype and of_scale.dtype == jnp.float32
        np.testing.assert_array_equal(gradient, -0.5 * jnp.ones(3, dtype))


def test_ramp_by_hand():
    assert ramp(0.0) == 0.0
    for progress, gamma in ((0.5, 10.0), (1.0, 10.0), (0.1, 3.0)):
        expected = 2 / (1 + math.exp(-gamma * progress)) - 1
        assert float(ramp(progress, gamma)) == pytest.approx(expected, rel=1e-6)
    assert ramp(0.7, 0.0) == 0.0


def test_ramp_in_float64():
    with jax.enable_x64(True):
        progress = jnp.linspace(0, 1, 11)
        assert ramp(progress).dtype == jnp.float64
        expected = 2 / (1 + np.exp(-10 * np.linspace(0, 1, 11))) - 1
        np.testing.assert_allclose(ramp(progress), expected, rtol=1e-13, atol=1e-15)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 100))
def test_ramp_rises_between_zero_and_one(one, other, gamma):
    low, high = (float(ramp(progress, gamma)) for progress in sorted((one, other)))
    assert 0 <= low <= high <= 1


def test_confusion_at_chance_is_log_two():
    assert float(domain_confusion(jnp.zeros(4), jnp.zeros(2))) == pytest.approx(math.log(2))


SOURCE, TARGET = jnp.array([0.0, math.log(3)]), jnp.array([-math.log(3)])
WORKED = (math.log(2) + 3 * math.log(4 / 3)) / 4
"""Source: −log σ(0) = log 2 and −log σ(log 3) = −log ¾; their mean is half the sum. Target:
−log(1 − σ(−log 3)) = −log ¾, once. So ½ (½ (log 2 + log 4/3) + log 4/3)."""


def test_confusion_by_hand_with_unequal_batches():
    assert float(domain_confusion(SOURCE, TARGET)) == pytest.approx(WORKED, rel=1e-6)


def test_confusion_of_columns_is_that_of_vectors():
    columns = domain_confusion(SOURCE[:, None], TARGET[:, None])
    assert columns.shape == () and float(columns) == pytest.approx(WORKED, rel=1e-6)


def test_confusion_gradient_by_hand():
    """d/dx of −log σ(x) is σ(x) − 1, of −log(1 − σ(x)) is σ(x); each over twice its batch."""
    of_source, of_target = jax.grad(domain_confusion, argnums=(0, 1))(SOURCE, TARGET)
    np.testing.assert_allclose(of_source, [(1 / 2 - 1) / 4, (3 / 4 - 1) / 4], rtol=1e-6)
    np.testing.assert_allclose(of_target, [(1 / 4) / 2], rtol=1e-6)


def test_confusion_gradients_are_right_to_second_order():
    with jax.enable_x64(True):
        source, target = jnp.array([0.3, -1.2, 2.0]), jnp.array([0.5, -0.1])
        check_grads(jax.jit(domain_confusion), (source, target), order=2, modes=["rev"])


@given(st.permutations(range(4)), st.permutations(range(3)))
def test_confusion_does_not_depend_on_the_order_of_a_batch(one, other):
    source, target = jnp.array([0.3, -1.2, 2.0, 5.0]), jnp.array([0.5, -0.1, 3.0])
    shuffled = domain_confusion(source[jnp.array(one)], target[jnp.array(other)])
    np.testing.assert_allclose(shuffled, domain_confusion(source, target), rtol=1e-6)


def test_repeating_a_domain_changes_nothing():
    np.testing.assert_allclose(
        domain_confusion(jnp.tile(SOURCE, 5), TARGET), domain_confusion(SOURCE, TARGET), rtol=1e-6
    )


def test_exchanging_the_domains_is_negating_the_logits():
    np.testing.assert_allclose(
        domain_confusion(SOURCE, TARGET), domain_confusion(-TARGET, -SOURCE), rtol=1e-6
    )


@pytest.mark.parametrize(("source", "target"), [(1e4, -1e4), (-1e4, 1e4), (1e4, 1e4)])
def test_extreme_logits_stay_finite(source, target):
    """A wrong logit of 1e4 costs 1e4, a right one nothing, and each domain counts half."""
    expected = 0.5 * (max(-source, 0) + max(target, 0))
    logits = jnp.array([source]), jnp.array([target])
    value, gradients = jax.value_and_grad(domain_confusion, argnums=(0, 1))(*logits)
    assert float(value) == expected
    np.testing.assert_array_equal(
        jnp.concatenate(gradients), [-0.5 * (source < 0), 0.5 * (target > 0)]
    )


def test_confusion_under_jit_vmap_and_float64():
    sources, targets = jnp.stack([SOURCE, -SOURCE]), jnp.stack([TARGET, 2 * TARGET])
    batched = jax.jit(jax.vmap(domain_confusion))(sources, targets)
    each = [domain_confusion(s, t) for s, t in zip(sources, targets, strict=True)]
    np.testing.assert_allclose(batched, jnp.stack(each), rtol=1e-6)
    with jax.enable_x64(True):
        value = domain_confusion(jnp.array([0.0, math.log(3)]), jnp.array([-math.log(3)]))
        assert value.dtype == jnp.float64 and float(value) == pytest.approx(WORKED, rel=1e-14)

"""Reconstruction, and the losses on two views of the same examples."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from tljax.losses import self_taught

reconstruction, nt_xent = jax.jit(self_taught.reconstruction), jax.jit(self_taught.nt_xent)
barlow_twins, vicreg = jax.jit(self_taught.barlow_twins), jax.jit(self_taught.vicreg)

LOSSES = {"nt_xent": nt_xent, "barlow_twins": barlow_twins, "vicreg": vicreg}
views = pytest.mark.parametrize("name", LOSSES)


def pair(batch=5, features=3, seed=0, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return tuple(jnp.array(rng.normal(size=(batch, features)), dtype) for _ in range(2))


def test_reconstruction_by_hand():
    # Example 0: (1² + 0 + 0 + 3²)/4 = 2.5; example 1 is exact.
    x = jnp.array([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    decoded = x.at[0, 0, 0].add(1.0).at[0, 1, 1].add(-3.0)
    np.testing.assert_array_equal(reconstruction(x, decoded), [2.5, 0.0])
    np.testing.assert_array_equal(jax.jit(jax.vmap(reconstruction))(x, decoded)[0], [0.5, 4.5])


def test_reconstruction_gradients():
    with jax.enable_x64(True):
        check_grads(reconstruction, pair(dtype=jnp.float64), order=2, modes=["rev"])
    np.testing.assert_array_equal(jax.grad(lambda d: reconstruction(d, d).sum())(pair()[0]), 0)


def test_reconstruction_of_another_shape():
    with pytest.raises(ValueError, match=r"^reconstruction: decoded: got float32 \[2, 4\]"):
        self_taught.reconstruction(jnp.zeros((2, 3)), jnp.zeros((2, 4)))


def test_nt_xent_by_hand():
    # Views (1, 0) and (0, 1), lengths aside; each is its pair's direction exactly. The cosines
    # of a view are 1 with its pair and 0 with the two others: −log(e^2/(e^2 + 2)) at τ = ½.
    z1, z2 = jnp.array([[3.0, 0.0], [0.0, 0.5]]), jnp.array([[1.0, 0.0], [0.0, 7.0]])
    expected = math.log(1 + 2 * math.exp(-2))
    assert float(nt_xent(z1, z2)) == pytest.approx(expected, rel=1e-6)
    assert float(nt_xent(z1, z2, 0.25)) == pytest.approx(math.log(1 + 2 * math.exp(-4)), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_nt_xent_is_that_of_optax(temperature):
    z1, z2 = pair()
    both, labels = jnp.concatenate([z1, z2]), jnp.tile(jnp.arange(5), 2)
    expected = optax.losses.ntxent(both, labels, temperature)
    np.testing.assert_allclose(nt_xent(z1, z2, temperature), expected, rtol=1e-5)


@settings(max_examples=10)
@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_nt_xent_does_not_see_lengths(one, other):
    z1, z2 = pair()
    np.testing.assert_allclose(nt_xent(one * z1, other * z2), nt_xent(z1, z2), rtol=1e-5)


def test_nt_xent_of_zero_vectors_and_of_equal_ones():
    """Equal similarities: the pair is one of 2B − 1, whatever the temperature."""
    for z in (jnp.zeros((4, 3)), jnp.ones((4, 3))):
        value, gradient = jax.value_and_grad(nt_xent)(z, z, 0.1)
        assert float(value) == pytest.approx(math.log(7), rel=1e-5)
        assert jnp.isfinite(gradient).all()


def test_nt_xent_at_a_temperature_where_the_exponentials_vanish():
    """Cosines 1 with the pair, −1 with the others: e^−2000 is 0 in float32."""
    z = jnp.array([[1.0, 0.0], [-1.0, 0.0]])
    value, gradient = jax.value_and_grad(nt_xent)(z, z, 1e-3)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


def test_barlow_twins_by_hand():
    # Dimensions [1, −1, 1, −1] and [1, 1, −1, −1] have mean 0, variance 1 and no correlation.
    # The second view exchanges them, so C is [[0, 1], [1, 0]] but for the 1e-5 added to each
    # variance: 1/1.00001. Diagonal: 2 · (1 − 0)²; off it: λ · 2 · (1/1.00001)².
    z = jnp.array([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    expected = 2 + 5e-3 * 2 / 1.00001**2
    assert float(barlow_twins(z, z[:, ::-1])) == pytest.approx(expected, rel=1e-6)
    assert float(barlow_twins(z, z[:, ::-1], 0.5)) == pytest.approx(2 + 1 / 1.00001**2, rel=1e-6)
    assert float(barlow_twins(z, z)) == pytest.approx(0, abs=1e-8)


def test_barlow_twins_does_not_see_offsets_and_scales():
    z1, z2 = pair(20)
    scale, shift = jnp.array([[3.0, 5.0, 8.0]]), jnp.array([[1.0, -2.0, 4.0]])
    moved = barlow_twins(z1 * scale + shift, z2)
    np.testing.assert_allclose(moved, barlow_twins(z1, z2), rtol=1e-4)


def test_vicreg_by_hand():
    # z1: both dimensions are ½, −½: unbiased variance ½, covariance ½ twice.
    # z2: zeros: variance 0.
    # Agreement: mean of four ¼ = ¼. Spread: (1 − √0.5001) + (1 − √0.0001) = 1.99 − √0.5001.
    # Redundancy: 2 · ½² / 2 = ¼.
    z1, z2 = jnp.array([[0.5, 0.5], [-0.5, -0.5]]), jnp.zeros((2, 2))
    spread = 1.99 - math.sqrt(0.5001)
    assert float(vicreg(z1, z2)) == pytest.approx(25 / 4 + 25 * spread + 1 / 4, rel=1e-6)
    parts = [float(vicreg(z1, z2, *w)) for w in np.eye(3)]
    np.testing.assert_allclose(parts, [1 / 4, spread, 1 / 4], rtol=1e-6)


def test_vicreg_of_wide_and_uncorrelated_dimensions_is_nothing():
    z = 2 * jnp.array([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    assert vicreg(z, z) == 0
    # Both the agreement and the spread ignore an offset that the views share.
    np.testing.assert_allclose(vicreg(z + 3, z + 3), 0, atol=1e-5)


def test_vicreg_needs_two_examples():
    with pytest.raises(ValueError, match=r"^z1: got \[1, 3\]; expected .*at least 2.*$"):
        self_taught.vicreg(jnp.zeros((1, 3)), jnp.zeros((1, 3)))


@views
def test_gradients(name):
    with jax.enable_x64(True):
        z1, z2 = pair(dtype=jnp.float64)
        check_grads(LOSSES[name], (z1, z2), order=1, modes=["rev"])
        assert LOSSES[name](z1, z2).dtype == jnp.float64


@views
@settings(max_examples=10)
@given(st.permutations(range(5)))
def test_views_may_be_exchanged_and_the_batch_shuffled(name, order):
    z1, z2 = pair()
    shuffled = LOSSES[name](z2[jnp.array(order)], z1[jnp.array(order)])
    np.testing.assert_allclose(shuffled, LOSSES[name](z1, z2), rtol=1e-5)


@views
def test_breaking_the_pairs_costs(name):
    z, _ = pair(8)
    assert LOSSES[name](z, z) < LOSSES[name](z, jnp.roll(z, 1, axis=0))


@views
@pytest.mark.parametrize(
    "z", [jnp.zeros((4, 3)), jnp.full((4, 3), 1e4), 1e4 * pair(4)[0]], ids=["zero", "same", "huge"]
)
def test_extremes_stay_finite(name, z):
    value, gradients = jax.value_and_grad(LOSSES[name], argnums=(0, 1))(z, -z)
    assert jnp.isfinite(value) and jnp.isfinite(jnp.stack(gradients)).all()


@views
def test_under_jit_and_vmap_with_a_traced_number(name):
    z1, z2 = pair()
    numbers = jnp.array([0.5, 3.0])
    batched = jax.jit(jax.vmap(LOSSES[name], (None, None, 0)))(z1, z2, numbers)
    single = [LOSSES[name](z1, z2, float(n)) for n in numbers]
    np.testing.assert_allclose(batched, jnp.stack(single), rtol=1e-5)
    assert batched[0] != batched[1]


@views
@pytest.mark.parametrize("shapes", [((4, 3), (5, 3)), ((4, 3), (4, 1)), ((4,), (4,))])
def test_views_that_do_not_fit(name, shapes):
    with pytest.raises(ValueError, match=rf"^{name}: z[12]: got float32 \[{shapes[1][0]}.*$"):
        getattr(self_taught, name)(*map(jnp.zeros, shapes))

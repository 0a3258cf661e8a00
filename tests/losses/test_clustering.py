"""Neighbours that agree, labels of the network's own, and sharpened assignments."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from tljax.losses import clustering

scan, self_label = jax.jit(clustering.scan), jax.jit(clustering.self_label)
soft_assignment = jax.jit(clustering.soft_assignment)
target_distribution = jax.jit(clustering.target_distribution)

PLAIN = jnp.log(jnp.array([[0.75, 0.25], [0.25, 0.75], [0.5, 0.5]]))
NEIGHBOURS = jnp.log(jnp.array([[0.5, 0.5], [0.25, 0.75], [0.25, 0.75]]))
PAIRED = {"scan": scan, "self_label": self_label}


def pair(batch=5, clusters=3, seed=0, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return tuple(jnp.array(rng.normal(size=(batch, clusters)), dtype) for _ in range(2))


def test_scan_by_hand():
    # Agreements: ⅜ + ⅛ = ½, 1/16 + 9/16 = ⅝, ⅛ + ⅜ = ½. The mean of p is [½, ½]: log 2.
    agreement = -(2 * math.log(1 / 2) + math.log(5 / 8)) / 3
    value = float(scan(PLAIN, NEIGHBOURS))
    assert value == pytest.approx(agreement - 5 * math.log(2), rel=1e-6)
    assert float(scan(PLAIN, NEIGHBOURS, 0.0)) == pytest.approx(agreement, rel=1e-6)


def test_scan_is_least_where_sure_neighbours_fill_all_clusters():
    sure = 1e4 * jnp.eye(3)
    assert float(scan(sure, sure)) == pytest.approx(-5 * math.log(3), rel=1e-6)
    one = jnp.tile(sure[:1], (2, 1))
    assert float(scan(one, one)) == 0  # all in one cluster: nothing gained
    # Against each other: log⟨p, p'⟩ = −1e4 (two ways to differ: + log 2 of either cluster).
    apart = float(scan(sure[:2, :2], sure[1::-1, :2], 0.0))
    assert apart == pytest.approx(1e4 - math.log(2), rel=1e-6)


def test_self_label_by_hand():
    # The plain view is sure (0.999…) of 0, 0, 1 and unsure of the last. The frequencies among
    # the three are 2 and 1, so label 0 is (log 2 + log 4)/2 and label 1 is log 4/3; their mean.
    plain = jnp.array([[9.0, 0.0], [9.0, 0.0], [0.0, 9.0], [1.0, 0.0]])
    augmented = jnp.log(jnp.array([[0.5, 0.5], [0.25, 0.75], [0.25, 0.75], [0.01, 0.99]]))
    expected = ((math.log(2) + math.log(4)) / 2 + math.log(4 / 3)) / 2
    assert float(self_label(plain, augmented)) == pytest.approx(expected, rel=1e-6)
    of_plain, of_augmented = jax.grad(self_label, argnums=(0, 1))(plain, augmented)
    np.testing.assert_array_equal(of_plain, 0)
    np.testing.assert_array_equal(of_augmented[3], 0)
    # softmax minus one-hot, by the weights ¼, ¼, ½.
    rows = [[-0.125, 0.125], [-0.1875, 0.1875], [0.125, -0.125]]
    np.testing.assert_allclose(of_augmented[:3], rows, rtol=1e-5)


def test_self_label_at_a_lower_threshold_takes_the_rest():
    plain = jnp.array([[1.0, 0.0], [0.0, 9.0]])  # σ(1) = 0.731
    augmented = jnp.zeros((2, 2)).at[0, 1].set(1.0)
    assert float(self_label(plain, augmented, 0.74)) == pytest.approx(math.log(2), rel=1e-6)
    both = (math.log(1 + math.e) + math.log(2)) / 2
    assert float(self_label(plain, augmented, 0.73)) == pytest.approx(both, rel=1e-6)


def test_self_label_of_an_empty_mask_is_nothing():
    value, gradients = jax.value_and_grad(self_label, argnums=(0, 1))(*pair())
    assert value == 0
    np.testing.assert_array_equal(jnp.stack(gradients), 0)


def test_repeating_a_sure_example_changes_nothing():
    plain, augmented = 20 * jnp.eye(3), pair(3)[0]
    repeated = [jnp.concatenate([x, x[:1], x[:1]]) for x in (plain, augmented)]
    np.testing.assert_allclose(self_label(*repeated), self_label(plain, augmented), rtol=1e-6)


def test_soft_assignment_by_hand():
    # Squared distances 0 and 3, α = 1: 1/(1 + 0) and 1/(1 + 3), so 4/5 and 1/5.
    # At α = 3 the power is −2: 1 and (1 + 1)^−2 = ¼, the same; at a distance of 9, 1 and 1/16.
    centroids = jnp.array([[0.0, 0.0], [math.sqrt(3), 0.0], [0.0, 3.0]])
    z = jnp.zeros((1, 2))
    np.testing.assert_allclose(soft_assignment(z, centroids[:2]), [[0.8, 0.2]], rtol=1e-6)
    np.testing.assert_allclose(
        soft_assignment(z, centroids, 3.0), np.array([[16, 4, 1]]) / 21, rtol=1e-6
    )


def test_soft_assignment_by_brute_force_and_far_away():
    z, centroids = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    for alpha in (0.5, 1.0, 4.0):
        distances = np.linalg.norm(z[:, None] - centroids[None], axis=-1)
        q = (1 + distances**2 / alpha) ** (-(alpha + 1) / 2)
        np.testing.assert_allclose(
            soft_assignment(z, centroids, alpha), q / q.sum(1, keepdims=True), rtol=1e-5
        )
    moved = soft_assignment(jnp.array(z) + 2, jnp.array(centroids) + 2)
    np.testing.assert_allclose(moved, soft_assignment(z, centroids), rtol=1e-4)
    for far in (jnp.full((2, 3), 1e4), jnp.array(centroids[:2])):
        gradient = jax.grad(lambda z: soft_assignment(z, centroids, 1.0)[:, 0].sum())(far)
        assert jnp.isfinite(soft_assignment(far, centroids)).all() and jnp.isfinite(gradient).all()


def test_target_distribution_by_hand():
    # Sizes 1.2 and 0.8. Row 0: 0.64/1.2 = 8/15 and 0.04/0.8 = 1/20, so 32/35 and 3/35.
    # Row 1: 0.16/1.2 = 2/15 and 0.36/0.8 = 9/20, so 8/35 and 27/35.
    q = jnp.array([[0.8, 0.2], [0.4, 0.6]])
    expected = np.array([[32, 3], [8, 27]]) / 35
    np.testing.assert_allclose(target_distribution(q), expected, rtol=1e-6)
    gradient = jax.grad(lambda q: jnp.square(target_distribution(q)).sum())(q)
    np.testing.assert_array_equal(gradient, 0)


def test_target_distribution_of_an_empty_cluster():
    q = jnp.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    p = target_distribution(q)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(p[:, 2], 0)
    np.testing.assert_array_equal(p[0], [1, 0, 0])


def test_gradients():
    with jax.enable_x64(True):
        logits, others = pair(dtype=jnp.float64)
        check_grads(scan, (logits, others), order=2, modes=["rev"])
        check_grads(lambda x: self_label(3 * logits, x, 0.5), (others,), order=2, modes=["rev"])
        check_grads(soft_assignment, (logits, others, 1.5), order=2, modes=["rev"])
        outcomes = scan(logits, others), self_label(logits, others), soft_assignment(logits, others)
        assert {x.dtype for x in (*outcomes, target_distribution(logits))} == {np.dtype("float64")}


@settings(max_examples=10)
@given(st.permutations(range(5)), st.permutations(range(3)))
def test_batch_and_clusters_may_be_shuffled(order, clusters):
    logits, others = pair()
    rows, columns = jnp.array(order), jnp.array(clusters)
    for loss in (scan, lambda a, b: self_label(a, b, 0.5)):
        shuffled = loss(logits[rows][:, columns], others[rows][:, columns])
        np.testing.assert_allclose(shuffled, loss(logits, others), rtol=1e-5)
    q = soft_assignment(logits, others[:3])
    np.testing.assert_allclose(soft_assignment(logits[rows], others[:3]), q[rows], rtol=1e-5)
    p = target_distribution(q[rows][:, columns])
    np.testing.assert_allclose(p, target_distribution(q)[rows][:, columns], rtol=1e-5)


@pytest.mark.parametrize("name", PAIRED)
@pytest.mark.parametrize("scale", [1e4, -1e4, 0.0])
def test_extremes_stay_finite(name, scale):
    logits = scale * jnp.eye(3)
    value, gradients = jax.value_and_grad(PAIRED[name], argnums=(0, 1))(logits, -logits)
    assert jnp.isfinite(value) and jnp.isfinite(jnp.stack(gradients)).all()


@pytest.mark.parametrize("name", PAIRED)
def test_under_jit_and_vmap_with_a_traced_number(name):
    logits, others = pair()
    numbers = jnp.array([0.3, 0.95])
    batched = jax.jit(jax.vmap(PAIRED[name], (None, None, 0)))(3 * logits, others, numbers)
    single = [PAIRED[name](3 * logits, others, float(n)) for n in numbers]
    np.testing.assert_allclose(batched, jnp.stack(single), rtol=1e-5)
    assert batched[0] != batched[1]


def test_shapes_that_do_not_fit():
    for name in PAIRED:
        with pytest.raises(ValueError, match=rf"^{name}: .*: got float32 \[4, 2\]; .*=3 of"):
            getattr(clustering, name)(jnp.zeros((4, 3)), jnp.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"^soft_assignment: centroids: got float32 \[2, 4\]"):
        clustering.soft_assignment(jnp.zeros((4, 3)), jnp.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"^target_distribution: q: got float32 \[4\]; expected"):
        clustering.target_distribution(jnp.zeros(4))

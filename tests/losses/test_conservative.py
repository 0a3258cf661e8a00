"""Distances from a start in weights, outputs and features, and spectral shrinkage."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import freeze
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from tljax.errors import UserError
from tljax.losses import conservative

# Compiled whole, which is quicker to test than one operation at a time.
batch_spectral_shrinkage = jax.jit(conservative.batch_spectral_shrinkage, static_argnames="k")
channel_importance = jax.jit(conservative.channel_importance)
co_tuning = jax.jit(conservative.co_tuning)
distillation = jax.jit(conservative.distillation)
feature_map_distance = jax.jit(conservative.feature_map_distance)
l2_penalty = jax.jit(conservative.l2_penalty)
l2_sp = jax.jit(conservative.l2_sp)

PARAMS = {"a": jnp.array([1.0, 2.0]), "b": {"kernel": jnp.array([[3.0]])}}
ANCHOR = {"a": jnp.array([0.0, 4.0]), "b": {"kernel": jnp.array([[1.0]])}}


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def all_finite(tree):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


def test_l2_sp_by_hand():
    """Differences 1, −2 and 2: ½ (1 + 4 + 4); the gradient is the difference itself."""
    value, gradient = jax.value_and_grad(l2_sp)(PARAMS, ANCHOR)
    assert value == 4.5
    np.testing.assert_array_equal(gradient["a"], [1, -2])
    np.testing.assert_array_equal(gradient["b"]["kernel"], [[2]])


def test_l2_penalty_by_hand():
    """½ (1 + 4 + 9)."""
    value, gradient = jax.value_and_grad(l2_penalty)(PARAMS)
    assert value == 7
    jax.tree.map(np.testing.assert_array_equal, gradient, PARAMS)


def test_at_the_start_value_and_gradient_are_zero():
    value, gradient = jax.jit(jax.value_and_grad(l2_sp))(PARAMS, PARAMS)
    assert value == 0
    jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf, jnp.zeros_like(leaf)), gradient)
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    value, gradient = jax.value_and_grad(l2_penalty)(zeros)
    assert value == 0
    jax.tree.map(np.testing.assert_array_equal, gradient, zeros)


def test_an_empty_tree_has_no_distance():
    assert l2_sp({}, {}) == 0 and l2_penalty({}).shape == ()


def test_frozen_and_plain_dictionaries_are_alike():
    assert l2_sp(freeze(PARAMS), ANCHOR) == 4.5


def test_trees_that_differ_are_refused_with_their_paths():
    anchor = {"a": jnp.zeros(3), "b": {"bias": jnp.zeros(1)}}
    with pytest.raises(ValueError, match="l2_sp") as error:
        l2_sp(PARAMS, anchor)
    lines = "- b/kernel, + b/bias, ! a (2,) against (3,)"
    assert lines in str(error.value) and "\n" not in str(error.value)


def test_an_anchor_is_not_broadcast():
    with pytest.raises(ValueError, match=r"! a \(2,\) against \(1,\)"):
        l2_sp(PARAMS, ANCHOR | {"a": jnp.zeros(1)})


def test_l2_gradients():
    with jax.enable_x64(True):
        params, anchor = jax.tree.map(lambda leaf: leaf.astype(float), (PARAMS, ANCHOR))
        check_grads(jax.jit(l2_sp), (params, anchor), order=1, modes=["rev"])
        check_grads(jax.jit(l2_penalty), (params,), order=1, modes=["rev"])


def test_distillation_by_hand():
    """T = 2: the teacher's (2 log 3, 0) is softened to (log 3, 0), so p = (¾, ¼); the student is
    at (½, ½): KL = ¾ log (3/2) + ¼ log (1/2), not times T². Equal logits: 0."""
    logits = jnp.array([[5.0, 5.0], [1.0, 3.0]])
    teacher = jnp.array([[2 * math.log(3), 0.0], [1.0, 3.0]])
    expected = [3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2), 0]
    np.testing.assert_allclose(distillation(logits, teacher, 2.0), expected, rtol=1e-5)


def test_distillation_gradient_is_the_difference_of_predictions_over_the_temperature():
    """(softmax(student/T) − softmax(teacher/T)) / T = ((½, ½) − (¾, ¼)) / 2."""
    teacher = jnp.array([[2 * math.log(3), 0.0]])
    gradient = jax.grad(lambda logits: distillation(logits, teacher, 2.0).sum())(jnp.zeros((1, 2)))
    np.testing.assert_allclose(gradient, [[-1 / 8, 1 / 8]], rtol=1e-5)


def test_the_usual_temperature_is_three():
    one, other = random(0, 4, 3), random(1, 4, 3)
    np.testing.assert_allclose(distillation(one, other), distillation(one, other, 3.0), rtol=1e-5)


@given(st.floats(-50, 50), st.floats(-50, 50))
def test_distillation_is_positive_and_blind_to_shifts(shift, other_shift):
    logits, teacher = random(0, 5, 4), random(1, 5, 4)
    plain = distillation(logits, teacher)
    assert (np.asarray(plain) > 0).all()
    shifted = distillation(logits + np.float32(shift), teacher + np.float32(other_shift))
    np.testing.assert_allclose(shifted, plain, atol=2e-5)


def test_distillation_of_an_equal_teacher_has_no_gradient():
    logits = random(0, 5, 4)
    pull = jax.grad(lambda student: distillation(student, logits).sum())
    np.testing.assert_allclose(pull(logits), np.zeros((5, 4)), atol=1e-7)


MAPS, ANCHOR_MAPS = (
    jnp.zeros((2, 2, 2, 2)),
    jnp.zeros((2, 2, 2, 2))
    .at[0]
    .set(-jnp.array([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 1.0]]])),
)


def test_feature_map_distance_by_hand():
    """Differences of channel 0: 1, 3, 0, 0, squares 10; of channel 1: 2, 4, 0, 1, squares 21.
    Plain: ½ (10 + 21). With weights (¼, ¾), C/(h·w) = 2/4: ½ · ½ · (10/4 + 21·3/4)."""
    np.testing.assert_allclose(feature_map_distance(MAPS, ANCHOR_MAPS), [15.5, 0])
    weighted = feature_map_distance(MAPS, ANCHOR_MAPS, jnp.array([0.25, 0.75]))
    np.testing.assert_allclose(weighted, [(10 / 4 + 21 * 3 / 4) / 4, 0])


def test_equal_weights_are_the_plain_distance_over_the_positions():
    maps, anchor = random(0, 3, 2, 5, 4), random(1, 3, 2, 5, 4)
    weighted = feature_map_distance(maps, anchor, jnp.full(4, 1 / 4))
    np.testing.assert_allclose(weighted, feature_map_distance(maps, anchor) / 10, rtol=1e-5)


@pytest.mark.parametrize("weights", [None, jnp.array([0.3, 0.7])])
def test_equal_maps_have_no_distance_and_no_gradient(weights):
    maps = random(0, 2, 3, 3, 2)
    value, pull = jax.vjp(lambda maps_: feature_map_distance(maps_, maps, weights), maps)
    np.testing.assert_array_equal(value, [0, 0])
    np.testing.assert_array_equal(pull(jnp.ones(2))[0], np.zeros_like(maps))


def test_channel_importance_by_hand():
    """(1, 3): mean 2, biased deviation 1, so z = (−1, 1), and at 5 the odds are exp(0.4)."""
    odds = math.exp(0.4)
    expected = [1 / (1 + odds), odds / (1 + odds)]
    np.testing.assert_allclose(channel_importance(jnp.array([1.0, 3.0])), expected, rtol=1e-6)
    hot = channel_importance(jnp.array([1.0, 3.0]), jnp.float32(1.0))
    np.testing.assert_allclose(hot[1], 1 / (1 + math.exp(-2)), rtol=1e-6)


@given(st.permutations(range(5)), st.floats(0.1, 10), st.floats(-3, 3))
def test_channel_importance_follows_the_channels_and_not_the_unit(order, scale, shift):
    increases = random(0, 5)
    plain = np.asarray(channel_importance(increases))
    moved = channel_importance(increases[order] * np.float32(scale) + np.float32(shift))
    np.testing.assert_allclose(moved, plain[order], rtol=1e-4)
    assert plain.sum() == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("increases", [[0.0] * 3, [0.1] * 3, [1e4] * 3, [7.0]])
def test_equal_increases_give_equal_weights(increases):
    increases = jnp.array(increases)
    weights = channel_importance(increases)
    np.testing.assert_allclose(weights, jnp.full(increases.shape, 1 / len(increases)), rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: channel_importance(x)[0]))(increases)
    np.testing.assert_array_equal(gradient, jnp.zeros_like(increases))


@pytest.mark.parametrize("turn", [lambda x: x, lambda x: x.T], ids=["tall", "wide"])
def test_shrinkage_by_hand(turn):
    """Singular values 3 and 4: k = 1 takes 9, k = 2 takes 25. The gradient of the first is
    2 · 3 where the 3 is."""
    features = turn(jnp.array([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]]))
    assert float(batch_spectral_shrinkage(features)) == pytest.approx(9)
    assert float(batch_spectral_shrinkage(features, 2)) == pytest.approx(25)
    expected = turn(jnp.array([[6.0, 0.0], [0.0, 0.0], [0.0, 0.0]]))
    np.testing.assert_allclose(jax.grad(batch_spectral_shrinkage)(features), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (3, 1)])
def test_shrinkage_is_that_of_the_singular_values(shape):
    features = random(0, *shape)
    squares = np.sort(np.linalg.svd(features, compute_uv=False) ** 2)
    for k in range(1, min(shape) + 1):
        value = batch_spectral_shrinkage(features, k)
        np.testing.assert_allclose(value, squares[:k].sum(), rtol=1e-3)
    # All singular values together are the squared Frobenius norm, whose gradient is 2X.
    gradient = jax.grad(batch_spectral_shrinkage)(features, min(shape))
    np.testing.assert_allclose(gradient, 2 * features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("k", [1, 2])
def test_equal_and_zero_singular_values_have_a_gradient(k):
    """Of the identity k singular values of 1 are taken; the gradient 2XVVᵀ has the norm 2√k."""
    value, gradient = jax.value_and_grad(batch_spectral_shrinkage)(jnp.eye(3), k)
    assert float(value) == pytest.approx(k, rel=1e-6)
    assert float(jnp.linalg.norm(gradient)) == pytest.approx(2 * math.sqrt(k), rel=1e-6)
    for features in (jnp.zeros((4, 3)), jnp.zeros((3, 4)), jnp.ones((4, 3))):
        value, gradient = jax.value_and_grad(batch_spectral_shrinkage)(features, k)
        assert float(value) == pytest.approx(0, abs=1e-6)
        np.testing.assert_allclose(gradient, jnp.zeros_like(features), atol=1e-5)


def test_shrinkage_is_blind_to_order_and_rotation():
    features = random(0, 6, 4)
    rotation = np.linalg.qr(random(1, 4, 4))[0]
    plain = batch_spectral_shrinkage(features, 2)
    for same in (features[::-1], features[:, ::-1], features @ rotation):
        np.testing.assert_allclose(batch_spectral_shrinkage(same, 2), plain, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_shrinkage_widens_half_precision(dtype):
    value, gradient = jax.value_and_grad(batch_spectral_shrinkage)(jnp.diag(jnp.ones(3, dtype)))
    assert value.dtype == jnp.float32 and gradient.dtype == dtype


@pytest.mark.parametrize("k", [0, 3, -1])
def test_shrinkage_refuses_a_wrong_k(k):
    with pytest.raises(ValueError, match=rf"k: got {k}; expected 1…2"):
        batch_spectral_shrinkage(jnp.ones((2, 3)), k)


RELATIONSHIP = jnp.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])


def test_co_tuning_by_hand():
    """log softmax = −log (2, 4, 4). Label 0: ½ log 2 + ½ log 4; label 1: log 4."""
    logits = jnp.log(jnp.array([[1 / 2, 1 / 4, 1 / 4]] * 3)) + 7
    value = co_tuning(logits, RELATIONSHIP, jnp.array([0, 1, 0]))
    np.testing.assert_allclose(value, math.log(2) * np.array([1.5, 2, 1.5]), rtol=1e-5)


def test_co_tuning_gradient_by_hand():
    """softmax(source_logits) − p(s|y), for rows that sum to 1."""
    logits, labels = jnp.zeros((2, 3)), jnp.array([1, 0])
    gradient = jax.grad(lambda x: co_tuning(x, RELATIONSHIP, labels).sum())(logits)
    np.testing.assert_allclose(gradient, 1 / 3 - RELATIONSHIP[labels], rtol=1e-5)


CASES = {
    "distillation": (distillation, (random(0, 4, 3), random(1, 4, 3), np.float32(2.0))),
    "maps": (feature_map_distance, (random(0, 4, 2, 3, 2), random(1, 4, 2, 3, 2))),
    "weighted maps": (
        feature_map_distance,
        (random(0, 4, 2, 3, 2), random(1, 4, 2, 3, 2), np.array([0.3, 0.7], np.float32)),
    ),
    "importance": (channel_importance, (random(0, 4), np.float32(5.0))),
    "shrinkage": (batch_spectral_shrinkage, (random(0, 4, 3),)),
    "co-tuning": (
        lambda x, p: co_tuning(x, p, jnp.array([0, 1, 1, 0])),
        (random(0, 4, 3), np.asarray(RELATIONSHIP)),
    ),
}
EVERY = pytest.mark.parametrize(("loss", "arguments"), CASES.values(), ids=CASES)


@pytest.mark.parametrize(
    ("loss", "arguments"), [CASES[name] for name in CASES if name != "importance"]
)
def test_gradients(loss, arguments):
    with jax.enable_x64(True):
        arguments = [jnp.asarray(single, float) for single in arguments]
        check_grads(jax.jit(loss), arguments, order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


@EVERY
def test_jit_vmap_and_dtypes(loss, arguments):
    stacked = [jnp.stack([jnp.asarray(single), 1.5 * single]) for single in arguments]
    single = [jax.jit(loss)(*[one[i] for one in stacked]) for i in (0, 1)]
    batched = jax.jit(jax.vmap(loss))(*stacked)
    np.testing.assert_allclose(batched, jnp.stack(single), rtol=1e-4, atol=1e-6)
    with jax.enable_x64(True):
        wide, narrow = ([jnp.asarray(one, d) for one in arguments] for d in (float, "float32"))
        assert jax.eval_shape(loss, *narrow).dtype == jnp.float32
        value = jax.jit(loss)(*wide)
        assert value.dtype == jnp.float64
        np.testing.assert_allclose(value, single[0], rtol=1e-3, atol=1e-6)


@EVERY
@pytest.mark.parametrize("scale", [1e4, -1e4, 0.0])
def test_extremes_are_finite(loss, arguments, scale):
    arguments = (scale * np.sign(arguments[0]), *arguments[1:])
    value, gradient = jax.jit(jax.value_and_grad(lambda *a: loss(*a).sum()))(*arguments)
    assert all_finite((value, gradient))


def test_teacher_and_student_that_are_both_certain_stay_finite():
    """A student that is wrong by 2e4 logits at T = 1 pays 2e4."""
    logits, teacher = jnp.array([[1e4, -1e4]]), jnp.array([[-1e4, 1e4]])
    value, pull = jax.vjp(lambda *a: distillation(*a, 1.0), logits, teacher)
    assert float(value[0]) == 2e4 and all_finite(pull(jnp.ones(1)))


@pytest.mark.parametrize("name", ["distillation", "maps", "weighted maps", "co-tuning"])
def test_a_batch_may_come_in_any_order(name):
    loss, (first, second, *rest) = CASES[name]
    order = np.array([2, 0, 3, 1])
    if name == "co-tuning":
        labels = jnp.array([0, 1, 1, 0])
        shuffled = co_tuning(first[order], second, labels[order])
    else:
        shuffled = loss(first[order], second[order], *rest)
    np.testing.assert_allclose(shuffled, loss(first, second, *rest)[order], rtol=1e-6)


@pytest.mark.parametrize(
    ("loss", "shapes"),
    [
        (distillation, [(4, 3), (4, 2)]),
        (distillation, [(4, 3), (3,)]),
        (feature_map_distance, [(2, 3, 3, 4), (2, 3, 3, 1)]),
        (feature_map_distance, [(2, 9, 4), (2, 9, 4)]),
        (feature_map_distance, [(2, 3, 3, 4), (2, 3, 3, 4), (3,)]),
        (feature_map_distance, [(2, 3, 3, 4), (2, 3, 3, 4), (1,)]),
        (channel_importance, [(3, 1)]),
        (batch_spectral_shrinkage, [(3,)]),
        (co_tuning, [(4, 3), (2, 5), (4,)]),
        (co_tuning, [(4, 3), (2, 3), (3,)]),
        (co_tuning, [(4, 3), (2, 3), (4, 1)]),
    ],
)
def test_shapes_that_do_not_fit_are_refused(loss, shapes):
    types = [int if loss is co_tuning and i == 2 else float for i in range(len(shapes))]
    with pytest.raises(UserError, match=rf"{loss.__name__}: \w+: got") as error:
        loss(*map(jnp.ones, shapes, types))
    assert any(f"32 {list(shape)}; expected" in str(error.value) for shape in shapes[-2:])


def test_ewc_by_hand():
    """Differences 1, −2 and 2 with F 3, ½ and 4: ½ (3 + 2 + 16); the gradient is F times them."""
    fisher = {"a": jnp.array([3.0, 0.5]), "b": {"kernel": jnp.array([[4.0]])}}
    value, gradient = jax.value_and_grad(conservative.ewc)(PARAMS, ANCHOR, fisher)
    assert float(value) == pytest.approx(10.5)
    np.testing.assert_allclose(gradient["a"], [3, -1], rtol=1e-6)
    np.testing.assert_allclose(gradient["b"]["kernel"], [[8]], rtol=1e-6)
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    assert conservative.ewc(PARAMS, ANCHOR, ones) == l2_sp(PARAMS, ANCHOR)
    none = jax.tree.map(jnp.zeros_like, PARAMS)
    assert all_finite(jax.grad(conservative.ewc)(PARAMS, ANCHOR, none))


def test_categorical_contrast_by_hand():
    """Cosines 1, 0.6 and −1 with z = (2, 0), at τ = ½; keys 0 and 2 are of class 1."""
    keys = jnp.array([[3.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
    z, labels, key_labels = jnp.array([[2.0, 0.0]] * 2), jnp.array([1, 3]), jnp.array([1, 0, 1])
    found = conservative.categorical_contrast(z, keys, labels, key_labels, 0.5)
    total = math.log(math.exp(2) + math.exp(1.2) + math.exp(-2))
    np.testing.assert_allclose(found, [total - (2 - 2) / 2, 0], rtol=1e-5)  # no key is of class 3


def test_class_contrast_by_hand():
    """Weights (1, 0) of class 0 and (0, 1) of class 1, features e₁, e₁ and e₂ of 0, 1 and 1.

    Class 0 sees cosines 1, 1, 0: the example of label 0 has a share of e/(2e + 1). Class 1 sees
    0, 0, 1: shares 1/(2 + e) and e/(2 + e), for both examples of label 1.
    """
    features = jnp.array([[1.0, 0.0], [5.0, 0.0], [0.0, 2.0]])
    found = conservative.class_contrast(features, jnp.eye(2), None, jnp.array([0, 1, 1]), 1.0)
    e = math.e
    one = math.log(2 + e) - 0.5
    np.testing.assert_allclose(found, [math.log(2 * e + 1) - 1, one, one], rtol=1e-5)
    # A bias of 0 lengthens the features by a 1 that no weight reads: e₁ has length √2.
    biased = conservative.class_contrast(
        jnp.eye(2), jnp.eye(2), jnp.zeros(2), jnp.array([0, 1]), 1.0
    )
    np.testing.assert_allclose(biased, [math.log(1 + math.exp(-(0.5**0.5)))] * 2, rtol=1e-5)

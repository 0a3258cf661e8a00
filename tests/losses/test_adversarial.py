"""The reversed gradient, its ramp, the discriminator's loss and input, and MDD."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from tljax.errors import UserError
from tljax.losses import adversarial
from tljax.losses.adversarial import domain_confusion, ramp, reverse_gradient

# Compiled whole, which is quicker to test than one operation at a time.
conditional_map = jax.jit(adversarial.conditional_map)
entropy_weights = jax.jit(adversarial.entropy_weights)
margin_disparity = jax.jit(adversarial.margin_disparity)

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


def test_smoothed_confusion_by_hand():
    """Labels ¾ and ¼ where σ(log 3) = ¾ and σ(−log 3) = ¼: there both players have nothing to gain.

    H = −¾ log ¾ − ¼ log ¼ stands at both, log 2 at σ(0): ½ (½ (log 2 + H) + H).
    """
    entropy = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    expected = (0.5 * (math.log(2) + entropy) + entropy) / 2
    smoothed = functools.partial(domain_confusion, smoothing=0.25)
    assert float(smoothed(SOURCE, TARGET)) == pytest.approx(expected, rel=1e-6)
    of_source, of_target = jax.grad(smoothed, argnums=(0, 1))(SOURCE, TARGET)
    np.testing.assert_allclose(of_source, [(1 / 2 - 3 / 4) / 4, 0.0], atol=1e-7)
    np.testing.assert_allclose(of_target, [0.0], atol=1e-7)


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
    single = [domain_confusion(s, t) for s, t in zip(sources, targets, strict=True)]
    np.testing.assert_allclose(batched, jnp.stack(single), rtol=1e-6)
    with jax.enable_x64(True):
        value = domain_confusion(jnp.array([0.0, math.log(3)]), jnp.array([-math.log(3)]))
        assert value.dtype == jnp.float64 and float(value) == pytest.approx(WORKED, rel=1e-14)


def test_weighted_confusion_by_hand():
    """Source: weights (½, 2) of log 2 and log 4/3, their mean; target: weight 3 of log 4/3."""
    weights = jnp.array([0.5, 2.0]), jnp.array([3.0])
    expected = 0.5 * ((0.5 * math.log(2) + 2 * math.log(4 / 3)) / 2 + 3 * math.log(4 / 3))
    assert float(domain_confusion(SOURCE, TARGET, *weights)) == pytest.approx(expected, rel=1e-6)
    columns = domain_confusion(SOURCE[:, None], TARGET[:, None], *weights)
    assert columns.shape == () and float(columns) == pytest.approx(expected, rel=1e-6)


def test_weights_of_one_change_nothing_and_one_side_may_be_weighted():
    ones = domain_confusion(SOURCE, TARGET, jnp.ones(2), jnp.ones(1))
    assert ones == domain_confusion(SOURCE, TARGET)
    # Without the source: half of log 4/3.
    target = domain_confusion(SOURCE, TARGET, source_weights=jnp.zeros(2))
    assert float(target) == pytest.approx(math.log(4 / 3) / 2, rel=1e-6)


@pytest.mark.parametrize("shape", [(1,), (3,), (), (2, 1)])
def test_weights_that_do_not_fit_are_refused(shape):
    for logits in (SOURCE, SOURCE[:, None]):
        with pytest.raises(UserError, match="domain_confusion: source_weights") as error:
            domain_confusion(logits, TARGET, jnp.ones(shape))
        assert f"got float32 {list(shape)}; expected float [source" in str(error.value)
    with pytest.raises(UserError, match=r"target_weights: .* expected float \[target=1"):
        domain_confusion(SOURCE, TARGET, None, jnp.ones(2))


FEATURES = jnp.array([[1.0, 2.0, 3.0], [0.0, -1.0, 4.0]])
PROBABILITIES = jnp.array([[0.25, 0.75], [1.0, 0.0]])
PROJECTIONS = jnp.array([[1.0, 0.0], [1.0, 2.0], [0.0, 1.0]]), jnp.array([[4.0, 0.0], [0.0, 8.0]])


def test_conditional_map_by_hand():
    """Class-major: all features times the first probability, then times the second."""
    expected = [[0.25, 0.5, 0.75, 0.75, 1.5, 2.25], [0, -1, 4, 0, 0, 0]]
    np.testing.assert_allclose(conditional_map(FEATURES, PROBABILITIES), expected)


def test_randomised_conditional_map_by_hand():
    """Features R_f: (3, 7) and (−1, 2); probabilities R_g: (1, 6) and (4, 0); over √2."""
    value = conditional_map(FEATURES, PROBABILITIES, PROJECTIONS)
    np.testing.assert_allclose(value, np.array([[3, 42], [-4, 0]]) / math.sqrt(2), rtol=1e-6)


def test_randomised_inner_products_are_those_of_the_outer_product_on_average():
    """Over all 2^(3+2) projections of ±1 to d = 1, the mean is exact."""
    signs = 1.0 - 2.0 * ((np.arange(32)[:, None] >> np.arange(5)[None, :]) & 1)
    draws = jnp.array(signs[:, :3, None]), jnp.array(signs[:, 3:, None])
    drawn = jax.vmap(lambda *r: conditional_map(FEATURES, PROBABILITIES, r))(*draws)[..., 0]
    whole = conditional_map(FEATURES, PROBABILITIES)
    np.testing.assert_allclose(drawn.T @ drawn / 32, whole @ whole.T, rtol=1e-5)


@pytest.mark.parametrize("projections", [None, PROJECTIONS], ids=["full", "randomised"])
def test_only_the_features_of_a_conditional_map_get_a_gradient(projections):
    def loss(features, probabilities, projections):
        return jnp.sin(conditional_map(features, probabilities, projections)).sum()

    gradients = jax.grad(loss, argnums=(0, 1, 2))(FEATURES, PROBABILITIES, projections)
    assert jnp.all(gradients[0][0] != 0)
    for gradient in jax.tree.leaves(gradients[1:]):
        np.testing.assert_array_equal(gradient, jnp.zeros_like(gradient))
    with jax.enable_x64(True):
        features = jnp.array(FEATURES, float)
        check_grads(
            lambda x: conditional_map(x, PROBABILITIES, projections),
            (features,),
            order=1,
            modes=["rev"],
        )


def test_entropy_weights_by_hand():
    """exp(−entropy) of (½, ½) is ½ + 1e−5, of (1, 0) it is 1 + 1e−5: weights 1.5 and 2 and 1e−5
    more, over their mean."""
    weights = entropy_weights(jnp.array([[3.0, 3.0], [1e4, -1e4]]))
    np.testing.assert_allclose(weights, np.array([1.50001, 2.00001]) / 1.75001, rtol=1e-6)


def test_entropy_weights_have_mean_one_no_gradient_and_follow_the_batch():
    logits = jnp.array([[0.3, -1.2, 2.0], [0.0, 0.1, 0.0], [5.0, 0.0, 1.0]])
    weights = entropy_weights(logits)
    assert float(weights.mean()) == pytest.approx(1, rel=1e-6)
    assert weights[1] < weights[0] < weights[2]
    np.testing.assert_allclose(entropy_weights(logits[::-1]), weights[::-1], rtol=1e-6)
    gradient = jax.grad(lambda x: (entropy_weights(x) * jnp.arange(3.0)).sum())(logits)
    np.testing.assert_array_equal(gradient, jnp.zeros((3, 3)))
    np.testing.assert_array_equal(entropy_weights(jnp.zeros((4, 3))), jnp.ones(4))


MDD = (
    jnp.array([[1.0, 0.0]]),
    jnp.array([[math.log(3), 0.0]]),
    jnp.array([[0.0, 1.0], [1.0, 0.0]]),
    jnp.array([[0.0, math.log(3)], [0.0, 0.0]]),
)
"""Source: the label head says 0, to which the adversarial head gives ¾: log 4/3. Target: it says
1 and 0, to which the other gives ¾ and ½, so −log ¼ and −log ½, with mean 1.5 log 2."""


def test_margin_disparity_by_hand():
    expected = 4 * math.log(4 / 3) + 1.5 * math.log(2)
    assert float(margin_disparity(*MDD)) == pytest.approx(expected, rel=1e-6)
    less = margin_disparity(*MDD, margin=jnp.float32(2.0))
    assert float(expected - less) == pytest.approx(2 * math.log(4 / 3), rel=1e-5)


def test_only_the_adversarial_head_gets_a_gradient():
    """Source: γ (p − label) = 4 (−¼, ¼). Target: −log(1 − p) has the gradient p with respect to
    its own logit and −p with two classes to the other, over the batch of 2."""
    gradients = jax.grad(margin_disparity, argnums=(0, 1, 2, 3))(*MDD)
    for label_head in gradients[::2]:
        np.testing.assert_array_equal(label_head, jnp.zeros_like(label_head))
    np.testing.assert_allclose(gradients[1], [[-1, 1]], rtol=1e-5)
    expected = [[-3 / 8, 3 / 8], [1 / 4, -1 / 4]]
    np.testing.assert_allclose(gradients[3], expected, rtol=1e-5)


def test_agreement_on_target_costs_no_more_than_the_floor():
    """−log 1e−6 where the heads agree beyond doubt; it gives no gradient there."""
    sure = jnp.array([[1e4, -1e4, 0.0]])
    arguments = sure, sure, sure, sure
    value, gradients = jax.value_and_grad(margin_disparity, argnums=(1, 3))(*arguments)
    assert float(value) == pytest.approx(6 * math.log(10), rel=1e-6)
    np.testing.assert_array_equal(jnp.stack(gradients), jnp.zeros((2, 1, 3)))
    value, gradients = jax.value_and_grad(margin_disparity, argnums=(1, 3))(
        sure, -sure, sure, -sure
    )
    assert float(value) == pytest.approx(4 * 2e4) and np.isfinite(jnp.stack(gradients)).all()


def test_disparity_is_exact_just_above_the_floor():
    """1 − p = 1/(1 + exp(13)) = 2.26e−6, of which float32's 1 − p keeps one digit."""
    adversarial = jnp.array([[13.0, 0.0]])
    value = margin_disparity(*MDD[:2], MDD[0], adversarial, 0.0)
    assert float(value) == pytest.approx(math.log1p(math.exp(13)), rel=1e-6)


def test_disparity_gradients_order_jit_vmap_and_dtypes():
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        logits = [jnp.array(rng.normal(size=(batch, 3))) for batch in (4, 4, 5, 5)]
        loss = jax.jit(margin_disparity)
        check_grads(
            lambda s, t: loss(logits[0], s, logits[2], t), logits[1::2], order=1, modes=["rev"]
        )
        value = loss(*logits)
        assert value.dtype == jnp.float64
        reverse = loss(*[single[::-1] for single in logits])
        np.testing.assert_allclose(reverse, value, rtol=1e-12)
        classes = loss(*[single[:, ::-1] for single in logits])
        np.testing.assert_allclose(classes, value, rtol=1e-12)
        narrow = [single.astype("float32") for single in logits]
        assert jax.eval_shape(margin_disparity, *narrow).dtype == jnp.float32
        stacked = [jnp.stack([single, 2 * single]) for single in logits]
        batched = jax.jit(jax.vmap(margin_disparity))(*stacked)
        single = [loss(*logits), loss(*[2 * one for one in logits])]
        np.testing.assert_allclose(batched, jnp.stack(single), rtol=1e-12)


def test_conditional_adversarial_losses_under_jit_and_vmap():
    """CDAN+E on two sources at once is CDAN+E on each."""

    def loss(features, logits, target):
        mapped = conditional_map(features, jax.nn.softmax(logits)).sum(-1)
        return domain_confusion(mapped, target, entropy_weights(logits), jnp.ones(1))

    features, logits = jnp.stack([FEATURES, -FEATURES]), jnp.stack([PROBABILITIES] * 2)
    batched = jax.jit(jax.vmap(loss, in_axes=(0, 0, None)))(features, logits, TARGET)
    single = [loss(features[i], logits[i], TARGET) for i in (0, 1)]
    np.testing.assert_allclose(batched, jnp.stack(single), rtol=1e-6)
    with jax.enable_x64(True):
        for dtype in ("float32", "float64"):
            arguments = [single.astype(dtype) for single in (FEATURES, PROBABILITIES)]
            assert jax.eval_shape(conditional_map, *arguments).dtype == dtype
            assert jax.eval_shape(entropy_weights, arguments[0]).dtype == dtype
        logits = jnp.array([0.3, -1.2], float), jnp.array([0.5], float)
        weights = jnp.array([0.4, 1.6], float), jnp.array([2.0], float)
        check_grads(jax.jit(domain_confusion), (*logits, *weights), order=1, modes=["rev"])


@pytest.mark.parametrize(
    ("loss", "shapes", "message"),
    [
        (conditional_map, [(4, 3), (3, 2)], "probabilities: got float32 [3, 2]"),
        (conditional_map, [(4,), (4, 2)], "features: got float32 [4]; expected float [batch, wid"),
        (entropy_weights, [(4,)], "entropy_weights: logits: got float32 [4]"),
        (margin_disparity, [(4, 3), (4, 2), (5, 3), (5, 3)], "source_adversarial: got"),
        (margin_disparity, [(4, 3), (4, 3), (5, 3), (4, 3)], "target_adversarial: got"),
        (margin_disparity, [(4, 3), (4, 3), (5, 2), (5, 2)], "target_logits: got"),
        (margin_disparity, [(3,), (3,), (3,), (3,)], "source_logits: got float32 [3]"),
        (margin_disparity, [(4, 1)] * 4, "source_logits: got [4, 1]; expected a length of at lea"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(loss, shapes, message):
    with pytest.raises(UserError, match=re.escape(message)):
        loss(*map(jnp.ones, shapes))


@pytest.mark.parametrize("shapes", [((3, 4), (2, 5)), ((2, 4), (2, 4)), ((3, 4), (3, 4))])
def test_projections_that_do_not_fit_are_refused(shapes):
    with pytest.raises(UserError, match=r"conditional_map: projections\[[01]\]: got float32") as e:
        conditional_map(FEATURES, PROBABILITIES, tuple(map(jnp.ones, shapes)))
    assert "width=3 of features" in str(e.value) or "classes=2 of probab" in str(e.value)

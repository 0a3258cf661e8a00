"""Kernel discrepancies, covariances and class confusion."""

import itertools
import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tljax.errors import UserError
from tljax.losses import alignment

# Compiled whole, which is quicker to test than one operation at a time.
mk_mmd = jax.jit(alignment.mk_mmd, static_argnames=("bandwidths", "estimator"))
joint_mmd = jax.jit(alignment.joint_mmd, static_argnames=("bandwidths", "estimator"))
coral = jax.jit(alignment.coral)
minimum_class_confusion = jax.jit(alignment.minimum_class_confusion)

ESTIMATORS = pytest.mark.parametrize("estimator", ["quadratic", "linear"])
E = math.exp(-1)


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def column(*numbers):
    return jnp.array(numbers)[:, None] * 1.0


def joint_of_one(source, target, **options):
    """A joint discrepancy whose two layers come from the same features."""
    layers = [(x, jax.nn.softmax(x)) for x in (source, target)]
    return alignment.joint_mmd(*layers, **options)


@ESTIMATORS
def test_mmd_of_two_points_by_hand(estimator):
    """Source 0, 0 and target 2, 2: 8 of the 16 pairs have d² = 4, mean 2. At α = 1 a kernel
    across is exp(−4/(2·2)) = e⁻¹, within 1: 1 + 1 − 2 e⁻¹. At α = ½ it is e⁻² and adds up."""
    source, target = column(0, 0), column(2, 2)
    value = mk_mmd(source, target, (1,), estimator)
    assert float(value) == pytest.approx(2 - 2 * E, rel=1e-6)
    both = mk_mmd(source, target, (1, 0.5), estimator)
    assert float(both) == pytest.approx(4 - 2 * E - 2 * E**2, rel=1e-6)
    # The five of the paper: exp(−1/α).
    expected = sum(2 - 2 * math.exp(-1 / alpha) for alpha in (1 / 8, 1 / 4, 1 / 2, 1, 2))
    assert float(mk_mmd(source, target, estimator=estimator)) == pytest.approx(expected, rel=1e-6)


def test_quadratic_mmd_by_hand():
    """Both domains 0 and 2: mean d² 2 again. Within, different examples only: e⁻¹ twice. Across:
    1, e⁻¹, e⁻¹, 1, with mean (1 + e⁻¹)/2. So 2 e⁻¹ − (1 + e⁻¹): negative, as it may be."""
    assert float(mk_mmd(column(0, 2), column(0, 2), (1,))) == pytest.approx(E - 1, rel=1e-5)


def test_quadratic_mmd_of_unequal_batches_by_hand():
    """Source 0, 0 and target 2, 2, 2, 2: 16 of 36 pairs have d² = 4, mean 16/9, so across it is
    exp(−4 · 9/32)."""
    value = mk_mmd(column(0, 0), column(2, 2, 2, 2), (1,))
    assert float(value) == pytest.approx(2 - 2 * math.exp(-9 / 8), rel=1e-5)


def test_linear_mmd_by_hand():
    """Source 0, 0, 2 and target 2, 2, 2, mean d² 16/9 as above and e = exp(−9/8). Source with its
    next: 1, e, e. Target: 1, 1, 1. s_i with t_i+1: e, e, 1. s_i+1 with t_i: e, 1, e. Sum of the
    first two less the last two: (1 + 2e + 3) − (2 + 4e), over 3."""
    value = mk_mmd(column(0, 0, 2), column(2, 2, 2), (1,), "linear")
    assert float(value) == pytest.approx((2 - 2 * math.exp(-9 / 8)) / 3, rel=1e-5)


@ESTIMATORS
def test_joint_mmd_by_hand(estimator):
    """Features as above, e⁻¹ across; probabilities (1, 0) and (0, 1) have d² = 2, so across
    exp(−2/(2 · 0.92²)); the kernels are multiplied."""
    ones, others = jnp.array([[1.0, 0.0]] * 2), jnp.array([[0.0, 1.0]] * 2)
    source, target = (column(0, 0), ones), (column(2, 2), others)
    value = joint_mmd(source, target, (1,), estimator=estimator)
    assert float(value) == pytest.approx(2 - 2 * E * math.exp(-1 / 0.92**2), rel=1e-6)
    value = joint_mmd(source, target, (1,), jnp.float32(0.5), estimator)
    assert float(value) == pytest.approx(2 - 2 * E * math.exp(-4), rel=1e-6)


@ESTIMATORS
@pytest.mark.parametrize("loss", [mk_mmd, joint_of_one])
def test_equal_distributions_give_zero_on_average(loss, estimator):
    """Over all ways to deal the same six examples to two domains, the mean is 0 exactly."""
    with jax.enable_x64(True):
        pooled = jnp.asarray(random(0, 6, 2), float)
        deals = jnp.array(list(itertools.permutations(range(6))))
        if estimator == "quadratic":  # Order does not matter within a domain.
            first = itertools.combinations(range(6), 3)
            deals = jnp.array([[*one, *sorted({*range(6)} - {*one})] for one in first])
        dealt = jax.jit(
            jax.vmap(lambda deal: loss(pooled[deal[:3]], pooled[deal[3:]], estimator=estimator))
        )(deals)
        assert float(dealt.mean()) == pytest.approx(0, abs=1e-14)
        assert float(dealt.std()) > 0.01


def numpy_mmd(source, target, bandwidths, mean):
    """Quadratic, pair by pair, with a given mean distance."""

    def kernel(one, other):
        squared = ((one - other) ** 2).sum()
        return sum(math.exp(-squared / (2 * alpha * mean)) for alpha in bandwidths)

    def within(x):
        pairs = list(itertools.permutations(range(len(x)), 2))
        return sum(kernel(x[i], x[j]) for i, j in pairs) / len(pairs)

    across = sum(kernel(s, t) for s in source for t in target) / len(source) / len(target)
    return within(source) + within(target) - 2 * across


def test_the_mean_distance_carries_no_gradient():
    """Finite differences with the mean held still see the gradient of mk_mmd."""
    source, target = random(0, 4, 3).astype(float), random(1, 3, 3).astype(float) + 0.5
    pooled = np.concatenate([source, target])
    mean = np.mean([((one - other) ** 2).sum() for one in pooled for other in pooled])
    bandwidths, step = (0.5, 2), 1e-5
    with jax.enable_x64(True):
        value, gradient = jax.value_and_grad(mk_mmd)(source, target, bandwidths)
        gradient = np.asarray(gradient)
    assert float(value) == pytest.approx(numpy_mmd(source, target, bandwidths, mean), rel=1e-10)
    for index in np.ndindex(source.shape):
        move = np.zeros_like(source)
        move[index] = step
        up, down = (numpy_mmd(source + s * move, target, bandwidths, mean) for s in (1, -1))
        assert float(gradient[index]) == pytest.approx((up - down) / (2 * step), abs=1e-8)


@ESTIMATORS
def test_joint_gradients(estimator):
    """The softmax layer alone has a fixed width, so finite differences see all of it."""
    with jax.enable_x64(True):
        source, target = (jnp.asarray(random(seed, 4, 3), float) for seed in (0, 1))

        def alone(s, t, sigma):
            return joint_mmd([s], [t], softmax_sigma=sigma, estimator=estimator)

        check_grads(
            jax.jit(alone), (source, target, 0.92), order=1, modes=["rev"], atol=1e-6, rtol=1e-6
        )


def test_coral_by_hand():
    """Source (0, 0), (2, 0): covariance diag(2, 0). Target (0, 0), (0, 4): diag(0, 8). The squared
    distance is 4 + 64, over 4 · 2²."""
    source, target = jnp.array([[0.0, 0.0], [2.0, 0.0]]), jnp.array([[0.0, 0.0], [0.0, 4.0]])
    assert float(coral(source, target)) == pytest.approx(68 / 16)


def test_coral_of_unequal_batches_by_hand():
    """Variance of 0, 2 is 2, of 0, 3, 6 is 9; (2 − 9)²/4."""
    assert float(coral(column(0, 2), column(0, 3, 6))) == pytest.approx(49 / 4)


def test_coral_does_not_see_means():
    source, target = random(0, 6, 3), random(1, 6, 3)
    moved = coral(source + 3, target - jnp.array([[1.0, 0.0, 5.0]]))
    np.testing.assert_allclose(moved, coral(source, target), rtol=1e-4)


def test_coral_of_equal_domains_is_zero():
    x = random(0, 6, 3)
    value, gradients = jax.value_and_grad(coral, argnums=(0, 1))(x, x)
    assert float(value) == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(jnp.stack(gradients), np.zeros((2, 6, 3)), atol=1e-6)
    assert alignment.coral(x, x) == 0


def test_coral_gradients():
    with jax.enable_x64(True):
        arguments = [jnp.asarray(random(seed, 4, 3), float) for seed in (0, 1)]
        check_grads(jax.jit(coral), arguments, order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


def test_confusion_by_hand():
    """T = 2 makes of 2 log 3 the odds 3: P has the rows (¾, ¼) and (¼, ¾), which are equally
    certain. PᵀP is 10/16 on and 6/16 off the diagonal, its rows sum to 1: (6/16 + 6/16)/2."""
    odds = 2 * math.log(3)
    value = minimum_class_confusion(jnp.array([[odds, 0.0], [0.0, odds]]), 2.0)
    assert float(value) == pytest.approx(3 / 8, rel=1e-6)


def test_confusion_of_no_opinion_by_hand():
    """All p = 1/C: M is constant, each normalised row has 1/C on the diagonal: 1 − 1/C."""
    assert float(minimum_class_confusion(jnp.zeros((5, 4)))) == pytest.approx(3 / 4, rel=1e-6)
    assert minimum_class_confusion(jnp.ones((3, 1))) == 0


def test_certain_classes_that_all_occur_are_not_confused():
    value, gradient = jax.value_and_grad(minimum_class_confusion)(1e4 * jnp.eye(3))
    assert float(value) == pytest.approx(0, abs=1e-8)
    np.testing.assert_allclose(gradient, jnp.zeros((3, 3)), atol=1e-8)


def numpy_confusion(logits, temperature, weights_of=None):
    """The matrix M and its rows, as the paper writes them; weights from `weights_of`."""

    def softmax(x):
        p = np.exp(x / temperature)
        return p / p.sum(1, keepdims=True)

    p, q = softmax(logits), softmax(logits if weights_of is None else weights_of)
    weights = 1 + np.exp((q * np.log(q + 1e-5)).sum(1))
    weights *= len(p) / weights.sum()
    confusion = (p * weights[:, None]).T @ p
    confusion /= confusion.sum(1, keepdims=True)
    return (confusion.sum() - np.trace(confusion)) / p.shape[1]


def test_confusion_is_that_of_the_matrix_with_weights_held_still():
    logits, step = 3 * random(0, 6, 4).astype(float), 1e-5
    with jax.enable_x64(True):
        for temperature in (1.0, 2.5):
            value, gradient = jax.value_and_grad(minimum_class_confusion)(logits, temperature)
            gradient = np.asarray(gradient)
            assert float(value) == pytest.approx(numpy_confusion(logits, temperature), rel=1e-10)
            for index in np.ndindex(logits.shape):
                move = np.zeros_like(logits)
                move[index] = step
                ends = logits + move, logits - move
                up, down = (numpy_confusion(end, temperature, logits) for end in ends)
                assert float(gradient[index]) == pytest.approx((up - down) / (2 * step), abs=1e-8)
        assert float(minimum_class_confusion(logits)) == float(value)


CASES = {
    "quadratic": mk_mmd,
    "linear": partial(mk_mmd, estimator="linear"),
    "joint": joint_of_one,
    "joint linear": partial(joint_of_one, estimator="linear"),
    "coral": coral,
    "confusion": lambda source, target: minimum_class_confusion(source + target),
}
EVERY = pytest.mark.parametrize("loss", CASES.values(), ids=CASES)


@EVERY
def test_jit_vmap_and_dtypes(loss):
    sources, targets = random(0, 2, 4, 3), random(1, 2, 4, 3)
    single = [jax.jit(loss)(s, t) for s, t in zip(sources, targets, strict=True)]
    batched = jax.jit(jax.vmap(loss))(sources, targets)
    np.testing.assert_allclose(batched, jnp.stack(single), rtol=1e-4, atol=1e-6)
    with jax.enable_x64(True):
        assert jax.eval_shape(loss, sources[0], targets[0]).dtype == jnp.float32
        value = jax.jit(loss)(sources[0].astype(float), targets[0].astype(float))
        assert value.dtype == jnp.float64
        np.testing.assert_allclose(single[0], value, rtol=1e-4, atol=1e-5)


@EVERY
def test_a_batch_may_come_in_any_order(loss):
    """For the quadratic and for coral each domain in its own; linear may begin anywhere."""
    source, target = random(0, 4, 3), random(1, 4, 3)
    loss_ = jax.jit(loss)
    plain = loss_(source, target)
    if loss in (CASES["linear"], CASES["joint linear"]):
        one = other = np.array([2, 3, 0, 1])
    elif loss is CASES["confusion"]:
        one = other = np.array([2, 0, 3, 1])
    else:
        one, other = np.array([2, 0, 3, 1]), np.array([1, 0, 2, 3])
    np.testing.assert_allclose(loss_(source[one], target[other]), plain, rtol=1e-4, atol=1e-6)


@EVERY
def test_degenerate_inputs_are_finite(loss):
    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    x = random(0, 4, 3)
    same, far = np.full((4, 3), 0.1, np.float32), 1e4 * np.sign(x)
    zero = np.zeros((4, 3), np.float32)
    inputs = [(zero, zero), (same, same), (1e4 + same, 1e4 + same), (x, x), (far, -far)]
    inputs += [(far, zero), (zero, same), (1e-20 * x, zero), (1e-18 * x, 1e-18 * x)]
    for source, target in inputs:
        value, gradients = gradient(source, target)
        assert np.isfinite(value) and np.isfinite(jnp.stack(gradients)).all()
        alike = not np.ptp(np.concatenate([source, target]), axis=0).any()
        if alike and loss is not CASES["confusion"]:
            assert float(value) == pytest.approx(0, abs=1e-5)
            np.testing.assert_array_equal(jnp.stack(gradients), np.zeros((2, 4, 3)))


@pytest.mark.parametrize("name", ["quadratic", "linear", "coral"])
def test_half_precision_is_widened(name):
    x = jnp.ones((4, 3), jnp.bfloat16)
    value, gradient = jax.eval_shape(jax.value_and_grad(CASES[name]), x, x)
    assert value.dtype == jnp.float32 and gradient.dtype == jnp.bfloat16


@pytest.mark.parametrize("name", ["quadratic", "linear", "coral"])
def test_the_distance_of_domains_far_from_the_origin_keeps_its_digits(name):
    """A shift by a power of two of features on a grid changes nothing, in float32 too."""
    loss = CASES[name]
    source, target = (np.round(64 * random(seed, 4, 3)) / 64 for seed in (0, 1))
    near = loss(source, target)
    np.testing.assert_allclose(loss(source + 1024, target + 1024), near, rtol=1e-4)


@pytest.mark.parametrize(
    ("loss", "shapes", "message"),
    [
        (
            mk_mmd,
            [(4, 3), (4, 2)],
            "target: got float32 [4, 2]; expected float [target, width=3 of",
        ),
        (mk_mmd, [(4,), (4,)], "source: got float32 [4]; expected float [source, width]"),
        (mk_mmd, [(1, 3), (4, 3)], "source: got [1, 3]; expected a length of at least 2"),
        (mk_mmd, [(4, 3), (1, 3)], "target: got [1, 3]; expected a length of at least 2"),
        (partial(mk_mmd, estimator="linear"), [(4, 3), (5, 3)], "got [4, 5]; expected equal ones"),
        (partial(mk_mmd, estimator="linear"), [(1, 3), (1, 3)], "source: got [1, 3]"),
        (coral, [(4, 3), (4, 2)], "coral: target: got float32 [4, 2]"),
        (coral, [(1, 3), (4, 3)], "source: got [1, 3]; expected a length of at least 2"),
        (minimum_class_confusion, [(4,)], "minimum_class_confusion: logits: got float32 [4]"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(loss, shapes, message):
    with pytest.raises(UserError, match=re.escape(message)):
        loss(*map(jnp.ones, shapes))


def test_layers_that_do_not_fit_are_refused():
    x, short, narrow = jnp.ones((4, 3)), jnp.ones((3, 3)), jnp.ones((4, 2))
    for source, target in (([], []), ([x], [x, x])):
        with pytest.raises(UserError, match=r"joint_mmd: target_layers: got the widths \["):
            joint_mmd(source, target)
    with pytest.raises(UserError, match=r"widths \[3, 2\]; expected .* \[3, 3\]"):
        joint_mmd([x, x], [x, narrow])
    with pytest.raises(UserError, match=r"source_layers\[1\]: got float32 \[3, 3\]; .*source=4"):
        joint_mmd([x, short], [x, x])


@pytest.mark.parametrize("bandwidths", [(), (1, 0), (-1.0,)])
def test_bandwidths_must_be_positive(bandwidths):
    with pytest.raises(ValueError, match="bandwidths"):
        mk_mmd(jnp.ones((4, 3)), jnp.ones((4, 3)), bandwidths)


def test_an_unknown_estimator_is_refused():
    with pytest.raises(ValueError, match="mk_mmd: estimator: unknown name 'cubic'; ex"):
        mk_mmd(jnp.ones((4, 3)), jnp.ones((4, 3)), estimator="cubic")

"""Losses in half precision, and losses of fewer examples than they need."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tljax import losses
from tljax.errors import UserError

B, D = 4, 3
LABELS = jnp.array([0, 2, 1, 0])


def shares(x):
    return jax.nn.softmax(x.astype(jnp.float32))


# Of each loss of features or logits: a function of two arrays [batch, width].
OF_TWO = {
    "nt_xent": losses.nt_xent,
    "nt_xent, cold": lambda x, y: losses.nt_xent(x, y, 0.01),
    "barlow_twins": losses.barlow_twins,
    "vicreg": losses.vicreg,
    "reconstruction": losses.reconstruction,
    "coral": losses.coral,
    "mk_mmd": losses.mk_mmd,
    "mk_mmd, linear": lambda x, y: losses.mk_mmd(x, y, estimator="linear"),
    "joint_mmd": lambda x, y: losses.joint_mmd([x, shares(x)], [y, shares(y)]),
    "minimum_class_confusion": lambda x, y: losses.minimum_class_confusion(x),
    "domain_confusion": lambda x, y: losses.domain_confusion(x[:, 0], y[:, 0]),
    "conditional_map": lambda x, y: losses.conditional_map(x, shares(y)),
    "entropy_weights": lambda x, y: losses.entropy_weights(x),
    "margin_disparity": lambda x, y: losses.margin_disparity(x, y, y, x),
    "scan": losses.scan,
    "self_label": lambda x, y: losses.self_label(x, y, 0.5),
    "soft_assignment": losses.soft_assignment,
    "target_distribution": lambda x, y: losses.target_distribution(shares(x)),
    "distillation": losses.distillation,
    "feature_map_distance": lambda x, y: losses.feature_map_distance(
        x[:, None, None], y[:, None, None]
    ),
    "batch_spectral_shrinkage": lambda x, y: losses.batch_spectral_shrinkage(x),
    "l2_sp": lambda x, y: losses.l2_sp({"w": x}, {"w": y}),
    "l2_penalty": lambda x, y: losses.l2_penalty({"w": x, "v": y}),
    "devise": lambda x, y: losses.devise(x, LABELS[: len(x)]),
    "sje": lambda x, y: losses.sje(x, LABELS[: len(x)]),
    "ale": lambda x, y: losses.ale(x, LABELS[: len(x)]),
    "info_nce": losses.info_nce,
    "hidden_cross_entropy": lambda x, y: losses.hidden_cross_entropy(
        x[:, None], LABELS[: len(x), None], jnp.ones((len(x), 1), bool)
    ),
    "span_cross_entropy": lambda x, y: losses.span_cross_entropy(
        jnp.stack([x, y], -1), jnp.stack([LABELS[: len(x)]] * 2, -1), jnp.ones(x.shape, bool)
    ),
    "weighted_mean": lambda x, y: losses.weighted_mean(x[:, 0], jnp.abs(y[:, 0])),
}
# Those of one example alone are constant, or say of it what of no example is true.
OF_SEVERAL = (
    *("nt_xent", "barlow_twins", "vicreg", "coral", "mk_mmd", "mk_mmd, linear", "joint_mmd"),
    "info_nce",
    *("minimum_class_confusion", "scan", "target_distribution", "batch_spectral_shrinkage"),
)


def pair(scale, dtype, batch=B):
    """Two arrays [batch, width] of about that size, some rows of the first 0."""
    draw = np.random.default_rng(0).normal(size=(2, batch, D)).clip(-1, 1) * scale
    draw[0, 1:2] = 0
    return tuple(jnp.asarray(x, jnp.float32).astype(dtype) for x in draw)


def total(name):
    return jax.jit(jax.value_and_grad(lambda x, y: OF_TWO[name](x, y).sum(), argnums=(0, 1)))


@pytest.mark.parametrize("name", OF_TWO)
def test_value_and_gradient_stay_finite_in_half_precision(name):
    """From numbers whose squares vanish to numbers whose squares half precision does not hold."""
    run = total(name)
    for dtype in (jnp.float16, jnp.bfloat16):
        for scale in (0.0, 6e-8, 1e-4, 1.0, 300.0, 6e4):
            value, gradients = run(*pair(scale, dtype))
            assert jnp.isfinite(value) and value.dtype == jnp.float32, (dtype, scale)
            for gradient in gradients:
                assert gradient.dtype == dtype and jnp.isfinite(gradient).all(), (dtype, scale)


@pytest.mark.parametrize("name", OF_TWO)
def test_half_precision_gives_the_loss_of_the_same_numbers_in_float32(name):
    run, half = total(name), pair(1.0, jnp.float16)
    value, gradients = run(*half)
    wide, expected = run(*(x.astype(jnp.float32) for x in half))
    np.testing.assert_allclose(value, wide, rtol=1e-6)
    for gradient, exact in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, exact.clip(-65504, 65504), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["nt_xent", "barlow_twins"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_what_knows_no_scale_stays_finite_at_the_ends_of_float32(name, dtype):
    run = total(name)
    usual, _ = run(*pair(1.0, jnp.float32))
    for scale in (1e-38, 1e16, 1e30, 3e38):
        value, gradients = run(*pair(scale, dtype))
        assert jnp.isfinite(value) and all(jnp.isfinite(g).all() for g in gradients), scale
        if scale > 1:
            np.testing.assert_allclose(value, usual, rtol=0.05)


@pytest.mark.parametrize("name", OF_TWO)
def test_a_batch_of_one_is_refused_where_it_means_nothing(name):
    if name.partition(",")[0] not in {each.partition(",")[0] for each in OF_SEVERAL}:
        assert jnp.isfinite(OF_TWO[name](*pair(1.0, jnp.float32, batch=1))).all()
        return
    with pytest.raises(UserError, match=r"got \[1, 3\]; expected a length of at least 2"):
        OF_TWO[name](*pair(1.0, jnp.float32, batch=1))


def test_a_gradient_beyond_half_precision_is_its_largest_number():
    """Of a zero vector a cosine's is 1e6 times what comes in."""
    z = jnp.zeros((2, 2), jnp.float16)
    other = jnp.array([[1.0, 0.0], [-1.0, 0.5]], jnp.float16)
    gradient = jax.grad(losses.nt_xent)(z, other, 0.01)
    assert jnp.abs(gradient).max() == 65504 and jnp.isfinite(gradient).all()

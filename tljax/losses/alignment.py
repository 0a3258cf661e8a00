"""Aligning domains without a discriminator: kernel means, covariances, class confusion."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Scalar

from tljax.errors import UserError, unknown, wrong
from tljax.half import single
from tljax.typed import at_least

Source = Float[Array, "source width"]
Target = Float[Array, "target width"]

BANDWIDTHS = (2**-3, 2**-2, 2**-1, 2**0, 2**1)
"""Multiples of the mean squared distance, as of the authors' code for DAN and JAN."""


@single
def mk_mmd(
    source: Source,
    target: Target,
    bandwidths: tuple[float, ...] = BANDWIDTHS,
    estimator: str = "quadratic",
) -> Scalar:
    """The squared maximum mean discrepancy under a sum of Gaussian kernels.

    A kernel is exp(−d²/(2σ²)) with σ² = α · mean(d²), one for each α in `bandwidths`; the mean is
    over all pairs of the pooled examples, each with itself included, and carries no gradient. The
    estimators are unbiased and without a constant: equal distributions give 0 on average, and a
    single value may be negative.

    "quadratic" takes the mean over all pairs of different examples within each domain, less twice
    the mean across. "linear" takes the mean over i of
    k(s_i, s_i+1) + k(t_i, t_i+1) − k(s_i, t_i+1) − k(s_i+1, t_i), the last followed by the first.

    Args:
      source, target: `[batch, width]`; "linear" needs equal batches.
      bandwidths: the α, static, each > 0.
      estimator: "quadratic" or "linear", static.

    Returns:
      A scalar; 0 with zero gradient where all examples are the same.

    Raises:
      UserError: a batch of one, no bandwidth or one that is not positive, an unknown estimator.

    Long et al. 2015, "Learning Transferable Features with Deep Adaptation Networks", section 3;
    Gretton et al. 2012, "A Kernel Two-Sample Test", eq. 3.
    """
    _check("mk_mmd", bandwidths, estimator)
    distances, mean = _distances(source, target, estimator)
    return _discrepancy([_gaussians(d, mean, bandwidths) for d in distances], estimator)


@single
def joint_mmd(
    source_layers: list[Float[Array, "source _"]] | tuple[Float[Array, "source _"], ...],
    target_layers: list[Float[Array, "target _"]] | tuple[Float[Array, "target _"], ...],
    bandwidths: tuple[float, ...] = BANDWIDTHS,
    softmax_sigma: float | Scalar = 0.92,
    estimator: str = "quadratic",
) -> Scalar:
    """The discrepancy of joint distributions: `mk_mmd` under the product of the layers' kernels.

    Every layer but the last has the sum of Gaussians of `mk_mmd`, with its own mean distance; the
    last, the softmax layer, has one Gaussian exp(−d²/(2σ²)) of fixed width.

    Args:
      source_layers: arrays `[source batch, width of the layer]`, the last one probabilities.
      target_layers: as many arrays `[target batch, width of the layer]`.
      bandwidths: as in `mk_mmd`, static.
      softmax_sigma: σ > 0 of the last layer, a scalar.
      estimator: "quadratic" or "linear", static.

    Returns:
      A scalar, as of `mk_mmd`.

    Raises:
      UserError: as in `mk_mmd`, or sequences that are empty or differ in length or in a width.

    Long et al. 2017, "Deep Transfer Learning with Joint Adaptation Networks", section 4; 0.92 is
    from the authors' code.
    """
    _check("joint_mmd", bandwidths, estimator)
    widths = [[layer.shape[-1] for layer in layers] for layers in (source_layers, target_layers)]
    if widths[0] != widths[1] or not widths[0]:
        raise UserError(
            f"joint_mmd: target_layers: got the widths {widths[1]}; expected those of the "
            f"source_layers, {widths[0]}, at least one"
        )
    pairs = list(zip(source_layers, target_layers, strict=True))
    distances, _ = _distances(*pairs[-1], estimator)
    kernels = [jnp.exp(-d / (2 * softmax_sigma**2)) for d in distances]
    for source, target in pairs[:-1]:
        distances, mean = _distances(source, target, estimator)
        factors = [_gaussians(d, mean, bandwidths) for d in distances]
        kernels = [kernel * factor for kernel, factor in zip(kernels, factors, strict=True)]
    return _discrepancy(kernels, estimator)


def _check(function: str, bandwidths: tuple[float, ...], estimator: str) -> None:
    if estimator not in ("quadratic", "linear"):
        raise unknown(f"{function}: estimator", estimator, ("quadratic", "linear"))
    if not len(bandwidths) or not all(alpha > 0 for alpha in bandwidths):
        raise wrong(f"{function}: bandwidths", bandwidths, "positive numbers")


def _distances(source: Array, target: Array, estimator: str) -> tuple[list[Array], Array]:
    """Squared distances within source, within target and across, and the mean of all pairs."""
    at_least(2, source=source, target=target)
    if estimator == "linear" and len(source) != len(target):
        batches = [len(source), len(target)]
        raise wrong("batches of source and target", batches, "equal ones, estimator 'linear'")
    # Distances do not change with the origin. At one of the examples, little cancels in the
    # quadratic form, and nothing where all examples are the same.
    origin = jax.lax.stop_gradient(source[:1])
    source, target = source - origin, target - origin
    pooled = jax.lax.stop_gradient(jnp.concatenate([source, target]))
    # mean |x − x'|² over all pairs is twice the variance: no pairs needed.
    mean = 2 * jnp.square(pooled - pooled.mean(0, keepdims=True)).sum(-1).mean()
    # Examples that are all the same have no distance to measure by; any will do.
    mean = jnp.where(mean > 1e6 * jnp.finfo(mean.dtype).tiny, mean, 1)
    if estimator == "linear":
        next_source, next_target = jnp.roll(source, -1, 0), jnp.roll(target, -1, 0)
        across = jnp.concatenate([source - next_target, next_source - target])
        differences = [source - next_source, target - next_target, across]
        return [jnp.square(difference).sum(-1) for difference in differences], mean
    pairs = (source, source), (target, target), (source, target)
    return [_between(one, other) for one, other in pairs], mean


def _between(one_MxD: Array, other_NxD: Array) -> Array:
    products_MxN = jnp.matmul(one_MxD, other_NxD.T, precision="highest")
    one_Mx1 = jnp.square(one_MxD).sum(-1)[:, None]
    other_1xN = jnp.square(other_NxD).sum(-1)[None, :]
    return jnp.maximum(one_Mx1 + other_1xN - 2 * products_MxN, 0)


def _gaussians(distances: Array, mean: Array, bandwidths: tuple[float, ...]) -> Array:
    kernels = [jnp.exp(-distances / (2 * alpha * mean)) for alpha in bandwidths]
    return jnp.sum(jnp.stack(kernels), 0)


def _discrepancy(kernels: list[Array], estimator: str) -> Array:
    source, target, across = kernels
    if estimator == "linear":
        return source.mean() + target.mean() - 2 * across.mean()
    return _different(source) + _different(target) - 2 * across.mean()


def _different(kernel_BxB: Array) -> Array:
    """The mean over pairs of different examples."""
    batch = len(kernel_BxB)
    itself = jnp.eye(batch, dtype=bool)
    return jnp.where(itself, 0, kernel_BxB).sum() / (batch * (batch - 1))


@single
def coral(source: Source, target: Target) -> Scalar:
    """The squared distance between the domains' covariances: ‖C_s − C_t‖²_F / (4·width²).

    Covariances are unbiased, divided by batch − 1; means are not compared.

    Returns:
      A scalar ≥ 0.

    Raises:
      UserError: a batch of one.

    Sun & Saenko 2016, "Deep CORAL: Correlation Alignment for Deep Domain Adaptation", eq. 1.
    """
    at_least(2, source=source, target=target)
    difference_DxD = _covariance(source) - _covariance(target)
    return jnp.square(difference_DxD).sum() / (4 * source.shape[1] ** 2)


def _covariance(x_BxD: Array) -> Array:
    centred_BxD = x_BxD - x_BxD.mean(0, keepdims=True)
    return jnp.matmul(centred_BxD.T, centred_BxD, precision="highest") / (len(x_BxD) - 1)


@single
def minimum_class_confusion(
    logits: Float[Array, "batch classes"], temperature: float | Scalar = 2.5
) -> Scalar:
    """How often two classes are probable for the same target example, per class.

    With P = softmax(logits / T) and w the examples' certainty weights 1 + exp(−entropy), of mean
    1 and without gradient: M = (P∘w)ᵀP, its rows divided by their sums, and (ΣM − tr M) / classes.
    The entropy is −Σ p log(p + 1e−5).

    Args:
      logits: `[batch, classes]`, of the target.
      temperature: T > 0, a scalar.

    Returns:
      A scalar in [0, 1].

    Raises:
      UserError: a batch of one.

    Jin et al. 2020, "Minimum Class Confusion for Versatile Domain Adaptation", section 3.
    """
    at_least(2, logits=logits)  # the classes of a single one share all of it, whatever they are
    log_p_BxC = jax.nn.log_softmax(logits / temperature)
    p_BxC = jax.lax.stop_gradient(jnp.exp(log_p_BxC))
    certainty_Bx1 = 1 + jnp.exp((p_BxC * jnp.log(p_BxC + 1e-5)).sum(-1, keepdims=True))
    # Row c of M, normalised, is Σ_b q_bc p_b with q_bc = w_b p_bc / Σ_b' w_b' p_b'c, and its sum
    # without the diagonal is Σ_b q_bc (1 − p_bc). In logs nothing divides by a class that no
    # example has; that q has sum 1 over the batch spares the mean of w.
    q_BxC = jax.nn.softmax(jnp.log(certainty_Bx1) + log_p_BxC, axis=0)
    return (q_BxC * -jnp.expm1(log_p_BxC)).sum() / logits.shape[1]

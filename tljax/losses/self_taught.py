"""Learning from unlabelled data alone: reconstruction, and two views of an example that agree."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Scalar

from tljax.half import single, tamed
from tljax.typed import at_least

Views = Float[Array, "batch features"]


@single
def reconstruction(
    x: Float[Array, "batch *example"], decoded: Float[Array, "batch *example"]
) -> Float[Array, "batch"]:
    """The squared error of a reconstruction, averaged within each example.

    A mean over all axes but the first, without the ½ of some papers, so that the size of an
    image does not change the weight of the loss.

    Args:
      x, decoded: `[batch, ...]`, what was to be reconstructed, and what came of it.

    Returns:
      `[batch]`, ≥ 0.

    Vincent et al. 2008, "Extracting and Composing Robust Features with Denoising Autoencoders".
    """
    return jnp.square(decoded - x).mean(axis=tuple(range(1, x.ndim)))


@single
def nt_xent(z1: Views, z2: Views, temperature: float | Scalar = 0.5) -> Scalar:
    """Contrast: each view must find its other view among all views of the batch, by cosine.

    The mean over all 2B views of −log softmax of the similarities divided by the temperature,
    a view's similarity with itself left out. A zero vector has a cosine of 0 with everything.

    Args:
      z1, z2: `[batch, features]`, two views of the same examples, at least 2; rows are
        normalised here.
      temperature: τ > 0, usually 0.1 to 0.5.

    Returns:
      A scalar ≥ 0; log(2B − 1) when all vectors are the same.

    Raises:
      UserError: a batch of 1.

    Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations",
    eq. 1. `optax.losses.ntxent` is the same number, in memory that grows with B² · features and
    with gradients that can be NaN at a low temperature.
    """
    at_least(2, z1=z1)  # a single example has none to be told from
    z = tamed(jnp.concatenate([z1, z2]), -1)
    # Written without a division by the norm, whose gradient at zero is NaN.
    z = z * jax.lax.rsqrt(jnp.maximum(jnp.square(z).sum(axis=-1, keepdims=True), 1e-12))
    batch = len(z1)
    similarity = z @ z.T / temperature
    others = jnp.where(jnp.eye(2 * batch, dtype=bool), -jnp.inf, similarity)
    of_pair = jnp.diagonal(similarity, offset=batch)
    return jax.nn.logsumexp(others, axis=-1).mean() - of_pair.mean()


@single
def barlow_twins(z1: Views, z2: Views, off_diagonal: float | Scalar = 5e-3) -> Scalar:
    """The cross-correlation of two views' dimensions is pulled to the identity matrix.

    Σ_i (1 − C_ii)² + λ Σ_{i≠j} C_ij² with C = z1ᵀ z2 / B of views standardised per dimension by
    the batch's mean and biased variance + 1e-5: sums, not means, over the dimensions.

    Args:
      z1, z2: `[batch, features]`, two views of the same examples, at least 2.
      off_diagonal: λ ≥ 0.

    Returns:
      A scalar ≥ 0; where nothing varies it is the number of features.

    Raises:
      UserError: a batch of 1.

    Zbontar et al. 2021, "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", eq. 1.
    """
    at_least(2, z1=z1)  # nothing varies in a single example
    one, other = _standardised(z1), _standardised(z2)
    correlation_DxD = one.T @ other / len(z1)
    squares = jnp.square(correlation_DxD)
    on = jnp.square(1 - jnp.diagonal(correlation_DxD)).sum()
    return on + off_diagonal * _off_diagonal(squares).sum()


@single
def vicreg(
    z1: Views,
    z2: Views,
    similarity: float | Scalar = 25.0,
    variance: float | Scalar = 25.0,
    covariance: float | Scalar = 1.0,
) -> Scalar:
    """Two views agree, while every dimension keeps its spread and no two dimensions say the same.

    λ · mean (z1 − z2)² + μ · Σ_views mean_d max(0, 1 − √(var_d + 1e-4)) + ν · Σ_views
    Σ_{i≠j} cov_ij² / D. The first mean is over batch and dimensions; variances and covariances
    are the unbiased ones; the two views are summed, as in the paper, whose code halves the
    variance's part.

    Args:
      z1, z2: `[batch, features]`, two views of the same examples, at least 2.
      similarity, variance, covariance: λ, μ and ν, ≥ 0.

    Returns:
      A scalar ≥ 0.

    Raises:
      UserError: a batch of 1.

    Bardes, Ponce & LeCun 2022, "VICReg: Variance-Invariance-Covariance Regularization", eq. 1–6.
    """
    at_least(2, z1=z1)  # a single example has no variance
    batch, features = z1.shape
    agreement = jnp.square(z1 - z2).mean()
    spread: float | Array = 0.0
    redundancy: float | Array = 0.0
    for z in (z1, z2):
        centred = z - z.mean(axis=0, keepdims=True)
        covariance_DxD = centred.T @ centred / (batch - 1)
        spread += jax.nn.relu(1 - jnp.sqrt(jnp.diagonal(covariance_DxD) + 1e-4)).mean()
        redundancy += _off_diagonal(jnp.square(covariance_DxD)).sum() / features
    return similarity * agreement + variance * spread + covariance * redundancy


def _standardised(z: Array) -> Array:
    """Mean 0 and variance 1 per dimension, over the batch."""
    # Not jax.nn.standardize: its mean of squares less squared mean can be negative by rounding.
    z = tamed(z, 0)
    centred = z - z.mean(axis=0, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(axis=0, keepdims=True) + 1e-5)


def _off_diagonal(matrix: Array) -> Array:
    """`matrix` with zeros on its diagonal."""
    return jnp.where(jnp.eye(len(matrix), dtype=bool), 0, matrix)

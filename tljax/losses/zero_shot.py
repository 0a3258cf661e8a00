"""Zero-shot learning: a bilinear compatibility of images with classes, and its ranking losses."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Integer, Scalar

from tljax.half import single

Scores = Float[Array, "batch classes"]
Labels = Integer[Array, "batch"]


@single
def compatibility(
    features: Float[Array, "batch features"],
    class_embeddings: Float[Array, "classes attributes"],
    weights: Float[Array, "features attributes"],
) -> Scores:
    """How well every example fits every class: xᵀ W φ(y).

    Args:
      features: x, `[batch, features]`.
      class_embeddings: φ, `[classes, attributes]`, one row a class, seen or unseen.
      weights: W, `[features, attributes]`.

    Returns:
      Scores `[batch, classes]`; the highest is the prediction.

    Akata et al. 2013, "Label-Embedding for Attribute-Based Classification", section 3.
    """
    return features @ weights @ class_embeddings.T


def _hinges(scores: Array, labels: Array, margin: float | Array) -> Array:
    """max(0, m − s_y + s_j) for every class j ≠ y and 0 at y itself, `[batch, classes]`."""
    of_label = jnp.take_along_axis(scores, labels[:, None], axis=-1)
    is_label = jax.nn.one_hot(labels, scores.shape[-1], dtype=bool)
    return jnp.where(is_label, 0, jax.nn.relu(margin - of_label + scores))


@single
def devise(scores: Scores, labels: Labels, margin: float | Scalar = 0.1) -> Float[Array, "batch"]:
    """Every class that comes within the margin costs: Σ_{j≠y} max(0, m − s_y + s_j).

    Args:
      scores: s, `[batch, classes]`, those of the seen classes.
      labels: y, `[batch]`, integers in [0, classes).
      margin: m ≥ 0.

    Returns:
      `[batch]`, ≥ 0: a sum over the classes, not a mean.

    Frome et al. 2013, "DeViSE: A Deep Visual-Semantic Embedding Model", eq. 1, whose margin is
    0.1 for unit vectors.
    """
    return _hinges(scores, labels, margin).sum(axis=-1)


@single
def sje(scores: Scores, labels: Labels, margin: float | Scalar = 0.1) -> Float[Array, "batch"]:
    """Only the worst class costs: max_{j≠y} max(0, m − s_y + s_j), `[batch]`.

    Arguments are those of `devise`; m is the paper's Δ(y, j), here the same for every pair.

    Akata et al. 2015, "Evaluation of Output Embeddings for Fine-Grained Image Classification",
    section 3, "structured joint embedding".
    """
    return _hinges(scores, labels, margin).max(axis=-1)


@single
def ale(scores: Scores, labels: Labels, margin: float | Scalar = 0.1) -> Float[Array, "batch"]:
    """Classes within the margin cost, the more the fewer: β_r/r · Σ_{j≠y} max(0, m − s_y + s_j).

    r is the number of classes j ≠ y whose term is positive, β_r = Σ_{i≤r} 1/i. The first places
    of the ranking thereby weigh more than the last ones. r carries no gradient. Arguments are those
    of `devise`.

    Returns:
      `[batch]`, ≥ 0, at most `devise`; 0 where r = 0.

    Akata et al. 2013, "Label-Embedding for Attribute-Based Classification", section 3, the
    weighted approximate ranking of Usunier et al. 2009 with the margin as an argument.
    """
    hinges = _hinges(scores, labels, margin)
    ranks = jnp.arange(1, scores.shape[-1] + 1, dtype=hinges.dtype)
    weights = jnp.concatenate([jnp.zeros_like(ranks[:1]), jnp.cumsum(1 / ranks) / ranks])
    return weights[(hinges > 0).sum(axis=-1)] * hinges.sum(axis=-1)

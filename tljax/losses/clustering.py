"""Clustering with a network: neighbours that agree, its own labels, sharpened assignments."""

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float, Scalar

from tljax.half import single
from tljax.typed import at_least

Clusters = Float[Array, "batch clusters"]


@single
def scan(
    logits: Clusters, neighbour_logits: Clusters, entropy_weight: float | Scalar = 5.0
) -> Scalar:
    """An example and its neighbour are in the same cluster, and all clusters are used.

    −mean log⟨p, p_neighbour⟩ − w · H(p̄), with p̄ the batch's mean of p and H in nats. Computed
    in logs, so that no ε is needed. Only p, not the neighbours', enters the entropy.

    Args:
      logits, neighbour_logits: `[batch, clusters]`, of each example and of a neighbour of it.
      entropy_weight: w ≥ 0.

    Returns:
      A scalar, at least −w · log(clusters): it is negative when it works.

    Raises:
      UserError: a batch of one.

    Van Gansbeke et al. 2020, "SCAN: Learning to Classify Images without Labels", eq. 2.
    """
    at_least(2, logits=logits)  # the mean of a single p is p, which is to be sure and unsure
    log_p = jax.nn.log_softmax(logits)
    agreement = jax.nn.logsumexp(log_p + jax.nn.log_softmax(neighbour_logits), axis=-1)
    log_mean = jax.nn.logsumexp(log_p, axis=0) - jnp.log(len(logits))
    entropy = -(jnp.exp(log_mean) * log_mean).sum()
    return -agreement.mean() - entropy_weight * entropy


@single
def self_label(
    logits: Clusters, augmented_logits: Clusters, threshold: float | Scalar = 0.99
) -> Scalar:
    """Cross-entropy of an augmented view with the labels that the plain view is sure of.

    An example counts if its highest probability exceeds the threshold. Examples are weighted by
    the inverse frequency of their label among those that count, and the weights are normalised:
    it is the mean over the labels that occur of each label's mean cross-entropy.

    Args:
      logits: `[batch, clusters]`, of the plain view; they carry no gradient.
      augmented_logits: `[batch, clusters]`, of a strongly augmented view of the same examples.
      threshold: in [0, 1].

    Returns:
      A scalar ≥ 0; 0, with a gradient of 0, if no example counts.

    Van Gansbeke et al. 2020, "SCAN: Learning to Classify Images without Labels", section 2.3;
    the balancing is that of the authors' code.
    """
    probabilities = jax.nn.softmax(jax.lax.stop_gradient(logits))
    counts = probabilities.max(axis=-1) > threshold
    labels = probabilities.argmax(axis=-1)
    occurs = jax.nn.one_hot(labels, logits.shape[-1]) * counts[:, None]
    frequencies = occurs.sum(axis=0)[labels]
    weights = jnp.where(counts, 1 / jnp.maximum(frequencies, 1), 0)
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(augmented_logits, labels)
    # The weights of each label sum to 1: below 1 in all means that there is none.
    return (weights * losses).sum() / jnp.maximum(weights.sum(), 1)


@single
def soft_assignment(
    z: Float[Array, "batch features"],
    centroids: Float[Array, "clusters features"],
    alpha: float | Scalar = 1.0,
) -> Clusters:
    """Student's t similarity of embeddings to centroids: q ∝ (1 + ‖z − μ‖²/α)^(−(α+1)/2).

    Args:
      z, centroids: embeddings `[batch, features]`, and μ `[clusters, features]`.
      alpha: α > 0, the degrees of freedom.

    Returns:
      Probabilities `[batch, clusters]`; rows sum to 1.

    Xie, Girshick & Farhadi 2016, "Unsupervised Deep Embedding for Clustering Analysis", eq. 1.
    """
    squares = jnp.square(z[:, None, :] - centroids[None, :, :]).sum(axis=-1)
    return jax.nn.softmax(-0.5 * (alpha + 1) * jnp.log1p(squares / alpha))


@single
def target_distribution(q: Clusters) -> Clusters:
    """What assignments are trained towards: squared, each cluster over its size, renormalised.

    p_ij ∝ q_ij² / Σ_i q_ij with rows that sum to 1. The loss is KL(p ‖ q).

    Args:
      q: `[batch, clusters]`, probabilities; the paper takes the whole data set as the batch.

    Returns:
      Probabilities `[batch, clusters]`, through which no gradient flows.

    Raises:
      UserError: a batch of one.

    Xie, Girshick & Farhadi 2016, "Unsupervised Deep Embedding for Clustering Analysis", eq. 3.
    """
    at_least(2, q=q)  # over the size of its cluster a single q is 1, and p is q
    q = jax.lax.stop_gradient(q)
    tiny = jnp.finfo(q.dtype).tiny
    # A cluster that nothing belongs to has a size of 0, and 0/0 is to be 0.
    p = q * (q / jnp.maximum(q.sum(axis=0, keepdims=True), tiny))
    return p / jnp.maximum(p.sum(axis=-1, keepdims=True), tiny)

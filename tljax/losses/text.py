"""Learning from text: spans of it, words that are hidden, sentences that belong together."""

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Bool, Float, Integer, Scalar

from tljax.half import single, tamed
from tljax.typed import at_least

NEVER = -1e30  # a logit of what cannot be; −inf would make NaN of a gradient


@single
def span_cross_entropy(
    logits: Float[Array, "batch places two"],
    span: Integer[Array, "batch two"],
    mask: Bool[Array, "batch places"],
) -> Float[Array, "batch"]:
    """Where a span starts and where it ends, each a softmax over the places; the mean of both.

    Args:
      logits: `[batch, places, 2]`, of each place to be the first of the span, and to be the last.
      span: `[batch, 2]`, the first place and the last, both within the span.
      mask: `[batch, places]`, which places are there; the others cannot be chosen.

    Returns:
      `[batch]`, ≥ 0.

    Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language
    Understanding", section 4.2, which sums the two logarithms; their code takes the mean.
    """
    possible = jnp.where(mask[:, :, None], logits, NEVER)
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(possible.swapaxes(1, 2), span)
    return losses.mean(axis=-1)


@single
def hidden_cross_entropy(
    logits: Float[Array, "batch places words"],
    words: Integer[Array, "batch places"],
    hidden: Bool[Array, "batch places"],
) -> Scalar:
    """The words at hidden places, by softmax over the vocabulary: the mean over these places.

    Args:
      logits: `[batch, places, words]`.
      words: `[batch, places]`, what is to be found; only where it is hidden does it matter.
      hidden: `[batch, places]`.

    Returns:
      A scalar ≥ 0; 0, with a gradient of 0, where no place is hidden.

    Devlin et al. 2019, section 3.1, task 1.
    """
    wanted = jnp.where(hidden, words, 0)
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, wanted)
    return jnp.where(hidden, losses, 0).sum() / jnp.maximum(hidden.sum(), 1)


@single
def info_nce(
    first: Float[Array, "batch features"],
    second: Float[Array, "batch features"],
    temperature: float | Scalar = 0.05,
) -> Scalar:
    """Pairs are to find each other in the batch by cosine, from either side; the mean of both.

    The mean of −log softmax(cos(fᵢ, s) / τ)ᵢ over the rows and of the same over the columns. Unlike
    in `nt_xent`, the others of one's own side are not among those to be told from.

    Args:
      first, second: `[batch, features]`, the two sides; rows are normalised here, and a zero vector
        has a cosine of 0 with everything.
      temperature: τ > 0.

    Returns:
      A scalar ≥ 0; log(batch) when all vectors are the same.

    Raises:
      UserError: a batch of 1.

    van den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding", eq. 4;
    from both sides as Radford et al. 2021, "Learning Transferable Visual Models From Natural
    Language Supervision", figure 3.
    """
    at_least(2, first=first)  # a single pair has none to be told from
    sides = (tamed(first, -1), tamed(second, -1))
    one, other = (
        z * jax.lax.rsqrt(jnp.maximum(jnp.square(z).sum(axis=-1, keepdims=True), 1e-12))
        for z in sides
    )
    cosines, places = one @ other.T / temperature, jnp.arange(len(one))
    loss = optax.losses.softmax_cross_entropy_with_integer_labels
    return (loss(cosines, places).mean() + loss(cosines.T, places).mean()) / 2

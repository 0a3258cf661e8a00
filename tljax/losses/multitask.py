"""Multitask learning: many losses, one scalar."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Scalar

from tljax.half import single

Tasks = Float[Array, "tasks"]


@single
def weighted_sum(losses: Tasks, weights: Tasks) -> Scalar:
    """The losses, each times its weight, which is not normalised, summed: Σ wᵢ Lᵢ.

    Caruana 1997, "Multitask Learning": linear scalarisation.
    """
    return jnp.sum(losses * weights)


@single
def mixing_weights(sizes: Tasks, temperature: float | Scalar = 1.0) -> Tasks:
    """Weights of tasks by what they have to learn from: n^(1/T), scaled to a mean of 1.

    A step that draws one task, with a probability of n^(1/T) over the sum, expects 1/tasks of the
    gradient that these weights give a step in which all tasks flow.

    Args:
      sizes: n, `[tasks]`, how many examples each has, > 0.
      temperature: T > 0: at 1 tasks count by their examples, at ∞ all the same.

    Returns:
      `[tasks]`, of a mean of 1.

    Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
    Transformer", section 3.5.2; without its limit on n, which is T5's.
    """
    return sizes.size * jax.nn.softmax(jnp.log(sizes) / temperature)


@single
def uncertainty_weighted(losses: Tasks, log_variances: Tasks) -> Scalar:
    """Losses weighted by learned noise: Σ Lᵢ / (2 exp(sᵢ)) + sᵢ / 2.

    The same ½ for every kind of loss, in regression's form; sᵢ = log σᵢ², so the best sᵢ is
    log Lᵢ. The usual start is −0.5. A loss that stays 0 drives its s towards −∞.

    Args:
      losses: L, `[tasks]`, each ≥ 0.
      log_variances: s, `[tasks]`, to be trained with the parameters.

    Returns:
      A scalar; it may be negative.

    Kendall, Gal & Cipolla 2018, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene
    Geometry and Semantics", eq. 7 with s for log σ².
    """
    return 0.5 * jnp.sum(losses * jnp.exp(-log_variances) + log_variances)

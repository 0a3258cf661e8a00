"""Learning from labels of unequal weight; the losses themselves are those of optax."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Scalar

from tljax.half import single


@single
def weighted_mean(values: Float[Array, "batch"], weights: Float[Array, "batch"]) -> Scalar:
    """The mean of losses under weights: Σ wᵢ lᵢ / Σ wᵢ.

    Divided by the weights of this batch, not by its size, so that only their ratios count: the
    convention of PyTorch's `CrossEntropyLoss(weight=…)` and of scikit-learn's `sample_weight`.
    With weights of classes, w = class_weights[labels]. Against an imbalance of classes take
    class_weights = n / (classes · counts), scikit-learn's "balanced".

    Args:
      values: l, `[batch]`, one loss an example.
      weights: w, `[batch]`, ≥ 0.

    Returns:
      A scalar, between the smallest and the largest l; 0, with a gradient of 0, if all w are 0.

    The "balanced" weights are, says scikit-learn, after King & Zeng 2001, "Logistic Regression in
    Rare Events Data".
    """
    total = weights.sum()
    return (weights * values).sum() / jnp.where(total > 0, total, 1)

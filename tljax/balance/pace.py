"""Weights of tasks from how their losses move, three methods.

Weights w mean that the combined gradient is Σ_i w_i g_i, g_i the gradient of task i's loss.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Scalar

from tljax.typed import shaped

Tasks = Float[Array, "tasks"]

FLOOR = 1e-8
"""Losses are ≥ 0; one that is divided by, or whose logarithm is taken, is kept above 0 by this."""


@shaped
def dynamic_weight_average(
    previous: Tasks, before_previous: Tasks, temperature: float | Scalar = 2.0
) -> Tasks:
    """The tasks whose loss fell least of late weigh most: K · softmax(r/T), r the losses' ratio.

    Args:
      previous: `[tasks]`, mean losses ≥ 0 of the last epoch.
      before_previous: `[tasks]`, those of the epoch before it; r = previous / before_previous.
      temperature: T > 0; the larger, the more equal.

    Returns:
      Weights `[tasks]` that sum to K, the number of tasks.

    Liu, Johns & Davison 2019, "End-to-End Multi-Task Learning with Attention", eq. 7.
    """
    ratios = jnp.maximum(previous, FLOOR) / jnp.maximum(before_previous, FLOOR)
    return len(ratios) * jax.nn.softmax(ratios / temperature)


@shaped
def gradnorm(
    theta: Tasks,
    losses: Tasks,
    initial_losses: Tasks,
    gradient_norms: Tasks,
    alpha: float | Scalar = 1.5,
) -> Scalar:
    """How far the weighted gradients' norms are from where they should be: Σ |G_i − Ḡ r_i^α|.

    w = K · softmax(θ), G_i = w_i ‖g_i‖, Ḡ its mean; r_i is the loss over its initial value,
    divided by the tasks' mean of that. The target Ḡ r_i^α is a constant: only θ through G_i gets
    a gradient.

    Args:
      theta: θ, `[tasks]`; the softmax stands for the paper's renormalisation to a sum of K.
      losses: `[tasks]`, ≥ 0.
      initial_losses: `[tasks]`, those of the first step.
      gradient_norms: `[tasks]`, ‖g_i‖ of the unweighted losses on the shared parameters.
      alpha: α ≥ 0, how strongly the tasks are pulled to the same pace.

    Returns:
      A scalar ≥ 0.

    Chen et al. 2018, "GradNorm: Gradient Normalization for Adaptive Loss Balancing", eq. 2.
    """
    constants = jax.lax.stop_gradient((losses, initial_losses, gradient_norms))
    losses, initial_losses, gradient_norms = constants
    ratios = jnp.maximum(losses, FLOOR) / jnp.maximum(initial_losses, FLOOR)
    norms = len(theta) * jax.nn.softmax(theta) * gradient_norms
    targets = norms.mean() * (ratios / ratios.mean()) ** alpha
    return jnp.abs(norms - jax.lax.stop_gradient(targets)).sum()


@shaped
def famo(theta: Tasks, losses: Tasks) -> Tasks:
    """Weights with which all losses fall at a like rate: w_i = (z_i/D_i) / Σ (z/D).

    z = softmax(θ) and D = L + 1e-8. The gradient of Σ w_i L_i, w held constant, is that of the
    paper's Σ z log D / Σ (z/D).

    Args:
      theta: θ, `[tasks]`, moved by `famo_gradient`.
      losses: L, `[tasks]`, ≥ 0.

    Returns:
      Weights `[tasks]` ≥ 0 that sum to 1; they carry no gradient.

    Liu et al. 2023, "FAMO: Fast Adaptive Multitask Optimization", algorithm 1.
    """
    # A softmax of logs, which is the same and cannot overflow.
    logs = jax.nn.log_softmax(theta) - jnp.log(jnp.maximum(losses, 0) + FLOOR)
    return jax.lax.stop_gradient(jax.nn.softmax(logs))


@shaped
def famo_gradient(theta: Tasks, previous_losses: Tasks, losses: Tasks) -> Tasks:
    """What FAMO's θ descends along: the losses' log decrease through the softmax's Jacobian.

    δ = log D_previous − log D_now gives z ∘ (δ − zᵀδ): the tasks that fell most lose weight.

    Args:
      theta: θ, `[tasks]`, from which z = softmax(θ).
      previous_losses: `[tasks]`, ≥ 0, before the step.
      losses: `[tasks]`, ≥ 0, after it.

    Returns:
      `[tasks]`, which sums to 0.

    Liu et al. 2023, "FAMO: Fast Adaptive Multitask Optimization", algorithm 1.
    """
    before, now = (jnp.log(jnp.maximum(x, 0) + FLOOR) for x in (previous_losses, losses))
    z, decrease = jax.nn.softmax(theta), before - now
    return z * (decrease - z @ decrease)

"""Domain-adversarial training: a discriminator behind a reversed gradient."""

import jax
import jax.numpy as jnp
import optax
from jax import Array


@jax.custom_vjp
def reverse_gradient(x: Array, scale: float | Array = 1.0) -> Array:
    """The identity going forward; going backward the gradient is multiplied by −`scale`.

    Args:
      x: any array.
      scale: a scalar, the λ of the paper; it gets no gradient itself.

    Returns:
      `x`.

    Ganin & Lempitsky 2015, "Unsupervised Domain Adaptation by Backpropagation", eq. 4.
    """
    return x


def _reverse_forward(x: Array, scale: float | Array = 1.0) -> tuple[Array, Array]:
    return x, jnp.asarray(scale)


def _reverse_backward(scale: Array, gradient: Array) -> tuple[Array, Array]:
    return -scale.astype(gradient.dtype) * gradient, jnp.zeros_like(scale)


reverse_gradient.defvjp(_reverse_forward, _reverse_backward)


def ramp(progress: float | Array, gamma: float | Array = 10.0) -> Array:
    """A weight that rises from 0 at the start towards 1 at the end: 2 / (1 + exp(−γ·p)) − 1.

    Args:
      progress: p, the part of the training that is done, in [0, 1].
      gamma: γ ≥ 0, how fast it rises; at 10 half of it is there when p = 0.11.

    Returns:
      The weight, in [0, 1), of `progress`'s shape.

    Ganin & Lempitsky 2015, section 5. Computed as tanh(γ·p/2), which is the same number.
    """
    return jnp.tanh(0.5 * gamma * jnp.asarray(progress))


def domain_confusion(source_logits: Array, target_logits: Array) -> Array:
    """The discriminator's loss: the mean of its binary cross-entropies on source and on target.

    Each domain is averaged by itself before the two are averaged, so that unequal batches weigh
    the same. A source example has label 1. At chance it is log 2.

    Args:
      source_logits: `[source batch]` or `[source batch, 1]`, log-odds of "source".
      target_logits: `[target batch]` or `[target batch, 1]`.

    Returns:
      A scalar ≥ 0.

    Ganin et al. 2016, "Domain-Adversarial Training of Neural Networks", eq. 9.
    """
    source = optax.losses.sigmoid_binary_cross_entropy(source_logits, jnp.ones_like(source_logits))
    target = optax.losses.sigmoid_binary_cross_entropy(target_logits, jnp.zeros_like(target_logits))
    return 0.5 * (source.mean() + target.mean())

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


def domain_confusion(
    source_logits: Array,
    target_logits: Array,
    source_weights: Array | None = None,
    target_weights: Array | None = None,
) -> Array:
    """The discriminator's loss: the mean of its binary cross-entropies on source and on target.

    Each domain is averaged by itself before the two are averaged, so that unequal batches weigh
    the same. A source example has label 1. At chance it is log 2. With weights it averages
    weight × cross-entropy, without dividing by the weights: `entropy_weights` have mean 1.

    Args:
      source_logits: `[source batch]` or `[source batch, 1]`, log-odds of "source".
      target_logits: `[target batch]` or `[target batch, 1]`.
      source_weights: `[source batch]`.
      target_weights: `[target batch]`.

    Returns:
      A scalar ≥ 0.

    Raises:
      ValueError: weights that do not fit their logits.

    Ganin et al. 2016, "Domain-Adversarial Training of Neural Networks", eq. 9; with weights, Long
    et al. 2018, "Conditional Adversarial Domain Adaptation", section 3.
    """
    source = optax.losses.sigmoid_binary_cross_entropy(source_logits, jnp.ones_like(source_logits))
    target = optax.losses.sigmoid_binary_cross_entropy(target_logits, jnp.zeros_like(target_logits))
    source = _weighted("source", source, source_weights)
    target = _weighted("target", target, target_weights)
    return 0.5 * (source.mean() + target.mean())


def _weighted(domain: str, losses: Array, weights: Array | None) -> Array:
    if weights is None:
        return losses
    if losses.shape not in (weights.shape, (*weights.shape, 1)) or weights.ndim != 1:
        raise ValueError(
            f"domain_confusion: got {domain}_weights {weights.shape} for {domain}_logits "
            f"{losses.shape}; expected [batch]"
        )
    return weights.reshape(losses.shape) * losses


def conditional_map(
    features: Array, probabilities: Array, projections: tuple[Array, Array] | None = None
) -> Array:
    """What CDAN's discriminator sees: the product of predictions and features.

    In full it is the outer product, flattened class-major: element class · width + feature. With
    projections it is (features R_f) ∘ (probabilities R_g) / √d, whose inner products are those of
    the outer product on average over R with independent elements of mean 0 and variance 1.

    Args:
      features: `[batch, width]`.
      probabilities: `[batch, classes]`; they get no gradient.
      projections: R_f `[width, d]` and R_g `[classes, d]`, drawn once; they get no gradient.

    Returns:
      `[batch, classes · width]`, or `[batch, d]`.

    Raises:
      ValueError: shapes that do not fit.

    Long et al. 2018, "Conditional Adversarial Domain Adaptation", section 3.
    """
    if (features.ndim, probabilities.ndim) != (2, 2) or len(features) != len(probabilities):
        raise ValueError(
            f"conditional_map: got features {features.shape} and probabilities "
            f"{probabilities.shape}; expected [batch, width] and [batch, classes]"
        )
    probabilities = jax.lax.stop_gradient(probabilities)
    if projections is None:
        product = probabilities[:, :, None] * features[:, None, :]
        return product.reshape(len(features), probabilities.shape[1] * features.shape[1])
    of_features, of_classes = projections
    d = of_features.shape[-1]
    if (of_features.shape, of_classes.shape) != (
        (features.shape[1], d),
        (probabilities.shape[1], d),
    ):
        raise ValueError(
            f"conditional_map: got projections {of_features.shape} and {of_classes.shape} for "
            f"features {features.shape} and probabilities {probabilities.shape}; expected "
            "[width, d] and [classes, d]"
        )
    of_features, of_classes = jax.lax.stop_gradient((of_features, of_classes))
    return (features @ of_features) * (probabilities @ of_classes) / d**0.5


def entropy_weights(logits: Array) -> Array:
    """Weights that favour examples with certain predictions: 1 + exp(−entropy), of mean 1.

    The entropy is −Σ p log(p + 1e−5), and the mean is over this batch.

    Args:
      logits: `[batch, classes]`, of the label head.

    Returns:
      `[batch]`, positive; they carry no gradient.

    Raises:
      ValueError: `logits` is no matrix.

    Long et al. 2018, "Conditional Adversarial Domain Adaptation", section 3 (CDAN+E); 1e−5 and
    the mean of 1 are from the authors' code.
    """
    if logits.ndim != 2:
        raise ValueError(f"entropy_weights: got logits {logits.shape}; expected [batch, classes]")
    p = jax.nn.softmax(jax.lax.stop_gradient(logits))
    weights = 1 + jnp.exp((p * jnp.log(p + 1e-5)).sum(-1))
    return weights / weights.mean()


def margin_disparity(
    source_logits: Array,
    source_adversarial: Array,
    target_logits: Array,
    target_adversarial: Array,
    margin: float | Array = 4.0,
) -> Array:
    """MDD's loss of the adversarial head: agree with the label head on source, not on target.

    γ · mean CE(source_adversarial, argmax source_logits)
    − mean log max(1 − p(argmax target_logits), 1e−6), with p = softmax(target_adversarial). The
    adversarial head minimises it; features that reach that head through a reversed gradient
    maximise it, which is the paper's game with its sign turned.

    Args:
      source_logits: `[source batch, classes]`, of the label head; no gradient passes to them.
      source_adversarial: `[source batch, classes]`, of the adversarial head.
      target_logits: `[target batch, classes]`, of the label head; no gradient either.
      target_adversarial: `[target batch, classes]`, of the adversarial head.
      margin: γ ≥ 0, a scalar, exp of the paper's margin ρ.

    Returns:
      A scalar ≥ 0.

    Raises:
      ValueError: shapes that do not fit, or fewer than two classes.

    Zhang et al. 2019, "Bridging Theory and Algorithm for Domain Adaptation", section 5; the floor
    of 1e−6 is an addition, and where it acts the target has no gradient.
    """
    logits = source_logits, source_adversarial, target_logits, target_adversarial
    shapes = [each.shape for each in logits]
    alike = shapes[0] == shapes[1] and shapes[2] == shapes[3]
    if not alike or {len(shape) for shape in shapes} != {2} or shapes[0][1] != shapes[2][1]:
        raise ValueError(
            f"margin_disparity: got source {shapes[0]} and {shapes[1]}, target {shapes[2]} and "
            f"{shapes[3]}; expected [batch, classes], alike within a domain"
        )
    classes = shapes[0][1]
    if classes < 2:
        raise ValueError(f"margin_disparity: got shape {shapes[0]}; expected at least two classes")
    agree = optax.losses.softmax_cross_entropy_with_integer_labels(
        source_adversarial, source_logits.argmax(-1)
    )
    labels = jax.nn.one_hot(target_logits.argmax(-1), classes, dtype=bool)
    # The others' sum, where 1 − p would round to 0.
    others = jnp.where(labels, 0, jax.nn.softmax(target_adversarial)).sum(-1)
    return margin * agree.mean() - jnp.log(jnp.maximum(others, 1e-6)).mean()

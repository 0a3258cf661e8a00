"""Domain-adversarial training: a discriminator behind a reversed gradient."""

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float, Scalar

from tljax.half import single
from tljax.typed import at_least


@jax.custom_vjp
def reverse_gradient(
    x: Float[Array, "*shape"], scale: float | Scalar = 1.0
) -> Float[Array, "*shape"]:
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


@single
def ramp(
    progress: float | Float[Array, "*shape"], gamma: float | Scalar = 10.0
) -> Float[Array, "*shape"]:
    """A weight that rises from 0 at the start towards 1 at the end: 2 / (1 + exp(−γ·p)) − 1.

    Args:
      progress: p, the part of the training that is done, in [0, 1].
      gamma: γ ≥ 0, how fast it rises; at 10 half of it is there when p = 0.11.

    Returns:
      The weight, in [0, 1), of `progress`'s shape.

    Ganin & Lempitsky 2015, section 5. Computed as tanh(γ·p/2), which is the same number.
    """
    return jnp.tanh(0.5 * gamma * jnp.asarray(progress))


@single
def domain_confusion(
    source_logits: Float[Array, "source ..."],
    target_logits: Float[Array, "target ..."],
    source_weights: Float[Array, "source"] | None = None,
    target_weights: Float[Array, "target"] | None = None,
    *,
    smoothing: float | Scalar = 0.0,
) -> Scalar:
    """The discriminator's loss: the mean of its binary cross-entropies on source and on target.

    Each domain is averaged by itself before the two are averaged, so that unequal batches weigh
    the same. A source example has label 1. At chance it is log 2. With weights it averages
    weight × cross-entropy, without dividing by the weights: `entropy_weights` have mean 1.

    Args:
      source_logits, target_logits: `[batch]` or `[batch, 1]`, log-odds of "source".
      source_weights, target_weights: `[batch]`, of the examples.
      smoothing: ε in [0, 0.5]; a source example has label 1 − ε, a target example ε, for both
        players. A discriminator that is sure of itself then has a loss to lose (Salimans et al.
        2016, "Improved Techniques for Training GANs", section 3.4).

    Returns:
      A scalar ≥ 0.

    Ganin et al. 2016, "Domain-Adversarial Training of Neural Networks", eq. 9; with weights, Long
    et al. 2018, "Conditional Adversarial Domain Adaptation", section 3.
    """
    source = _cross_entropy(source_logits, 1.0 - smoothing)
    target = _cross_entropy(target_logits, smoothing)
    if source_weights is not None:
        source = source_weights.reshape(source.shape) * source
    if target_weights is not None:
        target = target_weights.reshape(target.shape) * target
    return 0.5 * (source.mean() + target.mean())


def _cross_entropy(logits: Array, label: float | Array) -> Array:
    labels = jnp.full_like(logits, label)
    return optax.losses.sigmoid_binary_cross_entropy(logits, labels)


@single
def conditional_map(
    features: Float[Array, "batch width"],
    probabilities: Float[Array, "batch classes"],
    projections: tuple[Float[Array, "width d"], Float[Array, "classes d"]] | None = None,
) -> Float[Array, "batch products"]:
    """What CDAN's discriminator sees: the product of predictions and features.

    In full it is the outer product, flattened class-major: element class · width + feature. With
    projections it is (features R_f) ∘ (probabilities R_g) / √d, whose inner products are those of
    the outer product on average over R with independent elements of mean 0 and variance 1.

    Args:
      features, probabilities: of the same examples; `probabilities` get no gradient.
      projections: R_f `[width, d]` and R_g `[classes, d]`, drawn once; they get no gradient.

    Returns:
      `[batch, classes · width]`, or `[batch, d]`.

    Long et al. 2018, "Conditional Adversarial Domain Adaptation", section 3.
    """
    probabilities = jax.lax.stop_gradient(probabilities)
    if projections is None:
        product = probabilities[:, :, None] * features[:, None, :]
        return product.reshape(len(features), probabilities.shape[1] * features.shape[1])
    of_features, of_classes = jax.lax.stop_gradient(projections)
    d = of_features.shape[-1]
    return (features @ of_features) * (probabilities @ of_classes) / d**0.5


@single
def entropy_weights(logits: Float[Array, "batch classes"]) -> Float[Array, "batch"]:
    """Weights that favour examples with certain predictions: 1 + exp(−entropy), of mean 1.

    The entropy is −Σ p log(p + 1e−5), and the mean is over this batch.

    Args:
      logits: `[batch, classes]`, of the label head.

    Returns:
      `[batch]`, positive; they carry no gradient.

    Long et al. 2018, "Conditional Adversarial Domain Adaptation", section 3 (CDAN+E); 1e−5 and
    the mean of 1 are from the authors' code.
    """
    p = jax.nn.softmax(jax.lax.stop_gradient(logits))
    weights = 1 + jnp.exp((p * jnp.log(p + 1e-5)).sum(-1))
    return weights / weights.mean()


@single
def margin_disparity(
    source_logits: Float[Array, "source classes"],
    source_adversarial: Float[Array, "source classes"],
    target_logits: Float[Array, "target classes"],
    target_adversarial: Float[Array, "target classes"],
    margin: float | Scalar = 4.0,
) -> Scalar:
    """MDD's loss of the adversarial head: agree with the label head on source, not on target.

    γ · mean CE(source_adversarial, argmax source_logits)
    − mean log max(1 − p(argmax target_logits), 1e−6), with p = softmax(target_adversarial). The
    adversarial head minimises it; features that reach that head through a reversed gradient
    maximise it, which is the paper's game with its sign turned.

    Args:
      source_logits, target_logits: `[batch, classes]`, of the label head; they get no gradient.
      source_adversarial, target_adversarial: `[batch, classes]`, of the adversarial head.
      margin: γ ≥ 0, a scalar, exp of the paper's margin ρ.

    Returns:
      A scalar ≥ 0.

    Raises:
      UserError: fewer than two classes.

    Zhang et al. 2019, "Bridging Theory and Algorithm for Domain Adaptation", section 5; the floor
    of 1e−6 is an addition, and where it acts the target has no gradient.
    """
    at_least(2, axis=1, source_logits=source_logits)
    agree = optax.losses.softmax_cross_entropy_with_integer_labels(
        source_adversarial, source_logits.argmax(-1)
    )
    labels = jax.nn.one_hot(target_logits.argmax(-1), target_logits.shape[-1], dtype=bool)
    # The others' sum, where 1 − p would round to 0.
    others = jnp.where(labels, 0, jax.nn.softmax(target_adversarial)).sum(-1)
    return margin * agree.mean() - jnp.log(jnp.maximum(others, 1e-6)).mean()

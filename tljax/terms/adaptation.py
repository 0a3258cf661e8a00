"""Terms that bring an unlabelled target's features to the source's: by an adversary, by moments."""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from jax import Array

from tljax.checks import NotNegative, Positive, Range
from tljax.losses import adversarial, alignment
from tljax.losses.adversarial import reverse_gradient
from tljax.phase.objective import View

Smoothing = Annotated[float, Range(0, 0.5)]


def domain_adversarial(
    view: View,
    *,
    source: str = "source",
    target: str = "target",
    head: str = "domain",
    scale: NotNegative = 1.0,
    gamma: NotNegative = 10.0,
    smoothing: Smoothing = 0.0,
) -> Array:
    """DANN: a discriminator behind a gradient reversed by λ = `scale` · ramp(progress, `gamma`).

    Its labels are smoothed by `smoothing`.
    """
    reversal = scale * adversarial.ramp(view.progress, gamma)
    logits = [
        view.net.head(head, reverse_gradient(view.features[name], reversal), default=1)
        for name in (source, target)
    ]
    return adversarial.domain_confusion(*logits, smoothing=smoothing)


def conditional_adversarial(
    view: View,
    *,
    source: str = "source",
    target: str = "target",
    head: str = "domain",
    label_head: str = "label",
    entropy: bool = True,
    scale: NotNegative = 1.0,
    gamma: NotNegative = 10.0,
    smoothing: Smoothing = 0.0,
) -> Array:
    """CDAN: DANN's discriminator on softmax ⊗ features, weighted by certainty: CDAN+E.

    Long et al. 2018, "Conditional Adversarial Domain Adaptation", eq. 3 and 8.
    """
    reversal = scale * adversarial.ramp(view.progress, gamma)
    k = len(view.names[source])
    logits = [
        view.net.head(label_head, view.features[name], default=k) for name in (source, target)
    ]
    domains = []
    for name, of_label in zip((source, target), logits, strict=True):
        joint = adversarial.conditional_map(view.features[name], jax.nn.softmax(of_label))
        domains.append(view.net.head(head, reverse_gradient(joint, reversal), default=1))
    weights = [adversarial.entropy_weights(each) for each in logits] if entropy else (None, None)
    return adversarial.domain_confusion(*domains, *weights, smoothing=smoothing)


def margin_disparity(
    view: View,
    *,
    source: str = "source",
    target: str = "target",
    head: str = "label",
    adversary: str = "adversary",
    margin: Positive = 4.0,
    scale: NotNegative = 0.1,
    gamma: NotNegative = 10.0,
) -> Array:
    """MDD: a second classifier that agrees on the source and not on the target, reversed.

    Zhang et al. 2019, "Bridging Theory and Algorithm for Domain Adaptation", eq. 30.
    """
    reversal = scale * adversarial.ramp(view.progress, gamma)
    z_source, z_target, k = view.features[source], view.features[target], len(view.names[source])
    return adversarial.margin_disparity(
        view.net.head(head, z_source, default=k),
        view.net.head(adversary, reverse_gradient(z_source, reversal), default=k),
        view.net.head(head, z_target, default=k),
        view.net.head(adversary, reverse_gradient(z_target, reversal), default=k),
        margin,
    )


def mk_mmd(
    view: View,
    *,
    source: str = "source",
    target: str = "target",
    estimator: Literal["quadratic", "linear"] = "quadratic",
) -> Array:
    """The multi-kernel mean discrepancy of the features (Long et al. 2015, DAN)."""
    return alignment.mk_mmd(view.features[source], view.features[target], estimator=estimator)


def joint_mmd(
    view: View, *, source: str = "source", target: str = "target", head: str = "label"
) -> Array:
    """The joint mean discrepancy of features and predictions (Long et al. 2017, JAN)."""

    def layers(name: str) -> list[Array]:
        z = view.features[name]
        return [z, jax.nn.softmax(view.net.head(head, z, default=len(view.names[source])))]

    return alignment.joint_mmd(layers(source), layers(target))


def coral(view: View, *, source: str = "source", target: str = "target") -> Array:
    """The distance of the features' covariances (Sun & Saenko 2016, Deep CORAL)."""
    return alignment.coral(view.features[source], view.features[target])


def class_confusion(
    view: View, *, stream: str = "target", head: str = "label", temperature: Positive = 2.5
) -> Array:
    """MCC: the confusion between classes in the predictions on the target (Jin et al. 2020)."""
    logits = view.net.head(head, view.features[stream], default=len(view.names[stream]))
    return alignment.minimum_class_confusion(logits, jnp.asarray(temperature))

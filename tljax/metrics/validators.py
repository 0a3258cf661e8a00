"""Choosing between models without target labels. numpy in, floats out.

Each docstring says whether lower or higher is better. A score compares models on the same data;
its value alone says little.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from tljax import checks
from tljax.errors import UserError
from tljax.typed import at_least, shaped

Logits = Float[np.ndarray, "n classes"]
Losses = Float[np.ndarray, "n"]


FOOLED = ("entropy", "soft_neighbourhood_density")  # as a collapsed network has the best of all
FEW = 20  # examples; of fewer, a network that has learned nothing yet may well call all the same


@shaped
def collapse(
    logits: Logits, features: Float[np.ndarray, "n width"] | None = None
) -> dict[str, float]:
    """Whether a network calls every example the same, as a lost adversarial game leaves it.

    Args:
      logits: `[n, classes]`, of examples that are not all of one class.
      features: `[n, width]`, of the same.

    Returns:
      Nothing if two examples are given different classes, or there are fewer than `FEW` of them or
      of two classes. Else `constant_class`, and with features `constant_units`: the part, in
      [0, 1], of the units that have the same value for all examples, as dead ones do.
    """
    predicted = logits.argmax(axis=1)
    if len(logits) < FEW or logits.shape[1] < 2 or (predicted != predicted[0]).any():
        return {}
    found = {"constant_class": float(predicted[0])}
    if features is not None:
        varied = np.ptp(features, axis=0) > 1e-6 * np.abs(features).max()
        found["constant_units"] = 1 - float(varied.mean())
    return found


@shaped
def entropy(logits: Logits) -> float:
    """The mean entropy of the predictions, in nats; lower is better.

    A model that gives every example the same class with certainty has 0: see
    `information_maximisation`.

    Args:
      logits: `[n, classes]`, of target examples.

    Returns:
      In [0, log classes].

    Morerio et al. 2018, "Minimal-Entropy Correlation Alignment for Unsupervised Deep Domain
    Adaptation", section 3.2.
    """
    p, log_p = _softmax(logits)
    return float(-(p * log_p).sum(axis=1).mean())


@shaped
def information_maximisation(logits: Logits) -> float:
    """The entropy of the mean prediction minus the mean entropy, in nats; higher is better.

    Args:
      logits: `[n, classes]`, of target examples.

    Returns:
      In [0, log classes]; largest for predictions that are certain and cover all classes equally.

    Krause, Perona & Gomes 2010, "Discriminative Clustering by Regularized Information
    Maximization", eq. 2; as a validator: Musgrave et al. 2022.
    """
    p, _ = _softmax(logits)
    mean = p.mean(axis=0)
    marginal = -(mean * np.log(np.where(mean > 0, mean, 1))).sum()
    return float(marginal) - entropy(logits)


@shaped
def soft_neighbourhood_density(
    features: Float[np.ndarray, "n width"], temperature: float = 0.05, block: int = 1024
) -> float:
    """The mean entropy of each example's softmax over its cosines with the others, in nats.

    Higher is better: an example lies in a dense neighbourhood. Itself is left out. The paper uses
    the softmax outputs as features. A collapsed model has the most, log(n − 1).

    Args:
      features: `[n, width]`, n ≥ 2, of target examples; a zero vector has a cosine of 0 with all.
      temperature: > 0.
      block: how many rows of `[n, n]` are held at once; the result does not depend on it.

    Returns:
      In [0, log(n − 1)].

    Raises:
      UserError: fewer than two examples.

    Saito et al. 2021, "Tune It the Right Way: Unsupervised Validation of Domain Adaptation via
    Soft Neighborhood Density", eqs. 3 and 4.
    """
    at_least(2, features=features)
    temperature, n = checks.positive("temperature", temperature), len(features)
    largest = np.abs(features).max(axis=1, keepdims=True)
    x = features / np.where(largest > 0, largest, 1)  # so that no square over- or underflows
    length = np.linalg.norm(x, axis=1, keepdims=True)
    x = x / np.where(length > 0, length, 1)
    total = 0.0
    for start in range(0, n, block):
        cosine = x[start : start + block] @ x.T
        rows = np.arange(len(cosine))
        others = np.arange(n)[None] != (rows + start)[:, None]
        p, log_p = _softmax(cosine[others].reshape(len(cosine), n - 1) / temperature)
        total -= float((p * log_p).sum())
    return total / n


@shaped
def density_ratio(
    source_train: Float[np.ndarray, "n_s width"],
    target: Float[np.ndarray, "n_t width"],
    source_validation: Float[np.ndarray, "n width"],
    seed: int = 0,
) -> Losses:
    """How much more likely an example is in the target than in the source: w = p_t(x) / p_s(x).

    The odds of a logistic regression between the domains, times their sizes' ratio n_s / n_t. Its
    penalty is the best of several on a held-out fifth.

    Args:
      source_train: `[n_s, width]`, features, n_s ≥ 5.
      target: `[n_t, width]`, n_t ≥ 5.
      source_validation: `[n, width]`, other source examples, which get the weights.
      seed: ≥ 0, of the split.

    Returns:
      `[n]` > 0, float64; near 1 each where the domains are alike.

    Raises:
      UserError: fewer than 5 of a domain.

    Bickel, Brückner & Scheffer 2007, "Discriminative Learning for Differing Training and Test
    Distributions"; the selection as in You et al. 2019.
    """
    from sklearn.metrics import log_loss  # slow to import
    from sklearn.model_selection import train_test_split

    at_least(5, source_train=source_train, target=target)
    sizes = len(source_train), len(target)
    x, y = np.concatenate([source_train, target]), np.repeat([0, 1], sizes)
    fit, held, fit_y, held_y = train_test_split(x, y, test_size=0.2, random_state=seed, stratify=y)
    strengths = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
    losses = [
        log_loss(held_y, _logistic(fit, fit_y, c).predict_proba(held), labels=[0, 1])
        for c in strengths
    ]
    model = _logistic(x, y, strengths[int(np.argmin(losses))])
    # Very different domains would overflow the exponential.
    log_odds = np.clip(model.decision_function(source_validation), -50, 50)
    return np.exp(log_odds) * sizes[0] / sizes[1]


@shaped
def importance_weighted_validation(losses: Losses, weights: Losses) -> float:
    """The mean of weight × loss over held-out source examples; lower is better.

    It estimates the target loss without bias, and its variance may be unbounded: see `dev`.

    Args:
      losses: `[n]`, of held-out source examples.
      weights: `[n]` ≥ 0, from `density_ratio`; they are not normalised.

    Returns:
      The estimate, in the unit of the losses.

    Raises:
      UserError: negative weights.

    Sugiyama, Krauledat & Müller 2007, "Covariate Shift Adaptation by Importance Weighted Cross
    Validation", eq. 4.
    """
    _not_negative(weights)
    return float(np.mean(weights * losses))


@shaped
def dev(losses: Losses, weights: Losses) -> float:
    """Deep embedded validation: mean(w·l) + η·(mean(w) − 1), η = −Cov(w·l, w)/Var(w).

    Lower is better. The mean of w should be 1, and what it misses corrects the estimate of
    `importance_weighted_validation`. It can be negative. Constant weights have η = 0.

    Args:
      losses: `[n]`, of held-out source examples.
      weights: `[n]` ≥ 0, from `density_ratio`.

    Returns:
      The estimate, in the unit of the losses.

    Raises:
      UserError: negative weights.

    You et al. 2019, "Towards Accurate Model Selection in Deep Unsupervised Domain Adaptation",
    eq. 9.
    """
    _not_negative(weights)
    weighted = weights * losses
    centred = weights - weights.mean()
    # A constant that its mean misses by rounding is constant.
    if np.ptp(weights) <= 1e-12 * weights.max():
        return float(weighted.mean())
    eta = -np.mean((weighted - weighted.mean()) * centred) / np.mean(centred**2)
    return float(weighted.mean() + eta * weights.mean() - eta)


@shaped
def reverse_validation(
    source_features: Float[np.ndarray, "n_s width"],
    source_labels: Integer[np.ndarray, "n_s"],
    target_features: Float[np.ndarray, "n_t width"],
    target_pseudo_labels: Integer[np.ndarray, "n_t"],
    classes: int,
) -> float:
    """The source accuracy of a fresh logistic regression on the pseudo-labelled target.

    Higher is better: what the model says of the target leads back to the source.

    Args:
      source_features, target_features: `[n_s, width]` and `[n_t, width]`.
      source_labels: `[n_s]`, integers in [0, classes).
      target_pseudo_labels: `[n_t]`, the model's own; where all are one class, so is the answer.
      classes: C.

    Returns:
      In [0, 1].

    Raises:
      UserError: labels out of range.

    Zhong et al. 2010, "Cross Validation Framework to Choose Amongst Models and Datasets for
    Transfer Learning"; Ganin et al. 2016, section 5.1.2.
    """
    checks.within("source_labels", source_labels, classes)
    checks.within("target_pseudo_labels", target_pseudo_labels, classes)
    if np.ptp(target_pseudo_labels) == 0:
        return float(np.mean(source_labels == target_pseudo_labels[0]))
    model = _logistic(target_features, target_pseudo_labels, 1.0)
    return float(np.mean(model.predict(source_features) == source_labels))


def _logistic(x: np.ndarray, y: np.ndarray, strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression  # slow to import
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000)).fit(x, y)


def _softmax(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and their logarithms, over the last axis."""
    logits = logits - logits.max(axis=-1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return np.exp(log_p), log_p


def _not_negative(weights: np.ndarray) -> None:
    if weights.min() < 0:
        raise UserError(f"weights: got {weights.min()}; expected numbers of at least 0")

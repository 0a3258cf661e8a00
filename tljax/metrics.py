"""Numbers that a run is judged by. numpy in, floats out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tljax import checks
from tljax.errors import UserError


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """The part of `predicted` `[n]` that equals `labels` `[n]`, in [0, 1]."""
    return float(np.mean(np.asarray(predicted) == np.asarray(labels)))


def attribute_accuracy(predicted: ArrayLike, true: ArrayLike) -> float:
    """The part of the bits `predicted` `[n, attributes]` that equals `true`; all are 0 or 1."""
    predicted, true = np.asarray(predicted), np.asarray(true)
    checks.shape("true", true.shape, ("n", "attributes"))
    checks.shape("predicted", predicted.shape, true.shape)
    for name, value in (("predicted", predicted), ("true", true)):
        if not np.isin(value, (0, 1)).all():
            raise UserError(f"{name}: got other numbers; expected 0 and 1 only")
    return accuracy(predicted, true)


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Counts `[classes, classes]`: rows are the true classes, columns the predicted ones."""
    from sklearn import metrics  # slow to import

    return metrics.confusion_matrix(labels, predicted, labels=np.arange(classes))


def per_class_accuracy(confusion: np.ndarray) -> np.ndarray:
    """The accuracy within each true class, `[classes]`; NaN for a class that does not occur."""
    total = confusion.sum(axis=1)
    return np.where(total > 0, np.diag(confusion) / np.maximum(total, 1), np.nan)


class Interval(NamedTuple):
    """A mean and the half-width of its confidence interval."""

    mean: float
    half_width: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.half_width:.3f}"


def interval(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Interval:
    """The mean over runs, with Student's t interval.

    Args:
      values: `[runs]`, one number a run; for a paired comparison, the differences.
      confidence: in (0, 1).

    Returns:
      The mean and the half-width; the half-width of a single run is infinite.
    """
    from scipy.stats import t  # slow to import

    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return Interval(float(values.mean()), float("inf"))
    error = values.std(ddof=1) / np.sqrt(len(values))
    return Interval(
        float(values.mean()), float(error * t.ppf(0.5 + confidence / 2, len(values) - 1))
    )


def paired(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Interval:
    """The mean of a − b over runs that share their seeds, with Student's t interval.

    Args:
      a, b: `[runs]`, run i of both with the same seed and the same data.
      confidence: in (0, 1).

    Returns:
      The mean difference and its half-width; it is clear of 0 when |mean| > half-width.

    Raises:
      UserError: other shapes, numbers that are not finite.
    """
    a = checks.numbers("a", a, "runs")
    return interval(a - checks.numbers("b", b, len(a)), confidence)


def delta_p(
    results: ArrayLike, baselines: ArrayLike, higher_is_better: bool | ArrayLike = True
) -> float:
    """Δp: the mean over tasks and metrics of the signed relative change from single-task runs.

    Args:
      results: `[n]`, a multitask model's numbers, one a task and metric.
      baselines: `[n]`, those of a model for each task alone; not 0.
      higher_is_better: `[n]` booleans, or one for all.

    Returns:
      A fraction, where papers print percent; above 0 the multitask model is better.

    Raises:
      UserError: other shapes, numbers that are not finite, a baseline of 0.

    Maninis et al. 2019, "Attentive Single-Tasking of Multiple Tasks", eq. 5.
    """
    results = checks.numbers("results", results, "n")
    baselines = checks.numbers("baselines", baselines, len(results))
    if (baselines == 0).any():
        raise UserError(f"baselines: got 0 at {np.flatnonzero(baselines == 0)}; expected others")
    higher = np.broadcast_to(np.asarray(higher_is_better), results.shape)
    signs = np.where(checks.mask("higher_is_better", higher, len(results)), 1, -1)
    return float(np.mean(signs * (results - baselines) / np.abs(baselines)))


def clustering(assignments: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """How well clusters agree with classes, whatever either are called.

    Args:
      assignments: `[n]` integers, the cluster of each example.
      labels: `[n]` integers, its class; there may be more or fewer classes than clusters.

    Returns:
      `accuracy`, the part of the examples that the best one-to-one matching of clusters to
      classes gets right (an unmatched cluster is wrong); `nmi`, the mutual information over the
      arithmetic mean of the entropies; `ari`, the adjusted Rand index.

    Raises:
      UserError: shapes that do not fit, no integers.

    Kuhn 1955, "The Hungarian Method"; Hubert & Arabie 1985, "Comparing Partitions".
    """
    from scipy.optimize import linear_sum_assignment  # slow to import
    from sklearn import metrics

    assignments, labels = np.asarray(assignments), np.asarray(labels)
    checks.shape("labels", labels.shape, ("n",))
    checks.shape("assignments", assignments.shape, labels.shape)
    for name, value in (("assignments", assignments), ("labels", labels)):
        if value.dtype.kind not in "iu":
            raise UserError(f"{name}: got {value.dtype} numbers; expected integers")
    counts = metrics.cluster.contingency_matrix(labels, assignments)
    right = counts[linear_sum_assignment(counts, maximize=True)].sum()
    return {
        "accuracy": float(right / len(labels)),
        "nmi": float(metrics.normalized_mutual_info_score(labels, assignments)),
        "ari": float(metrics.adjusted_rand_score(labels, assignments)),
    }


def proxy_a_distance(
    source_features: ArrayLike, target_features: ArrayLike, seed: int = 0
) -> float:
    """2(1 − 2·error) of a fresh logistic regression that tells two domains apart.

    Its error is that on the half it was not fitted on, averaged over both halves and, so that
    unequal domains have no say, over both domains. Features are standardised.

    Args:
      source_features: `[n_s, width]`, n_s ≥ 2.
      target_features: `[n_t, width]`, n_t ≥ 2.
      seed: ≥ 0, of the halves.

    Returns:
      2 for domains that are told apart, 0 for those that are not, or a little below by chance.

    Raises:
      UserError: shapes that do not fit, numbers that are not finite, fewer than 2 of a domain.

    Ben-David et al. 2007, "Analysis of Representations for Domain Adaptation", section 4; Ganin
    et al. 2016, section 5.1.6.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    source = checks.numbers("source_features", source_features, "n", "width")
    target = checks.numbers("target_features", target_features, "n", source.shape[1])
    for name, value in (("source_features", source), ("target_features", target)):
        if len(value) < 2:
            raise UserError(f"{name}: got {len(value)} example; expected at least 2")
    x, y = np.concatenate([source, target]), np.repeat([0, 1], [len(source), len(target)])
    model = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)
    )
    halves = StratifiedKFold(2, shuffle=True, random_state=seed)
    wrong = cross_val_predict(model, x, y, cv=halves) != y
    error = (wrong[y == 0].mean() + wrong[y == 1].mean()) / 2
    return float(2 * (1 - 2 * error))

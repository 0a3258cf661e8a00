"""Numbers that a run is judged by. numpy in, floats out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """The part of `predicted` `[n]` that equals `labels` `[n]`, in [0, 1]."""
    return float(np.mean(np.asarray(predicted) == np.asarray(labels)))


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

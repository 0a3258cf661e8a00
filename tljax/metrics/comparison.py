"""Runs against runs: means with their uncertainty, and changes from a baseline."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer

from tljax.errors import UserError
from tljax.typed import shaped


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
    return _student(np.asarray(values, np.float64), 0.0, confidence)


def _student(values: np.ndarray, more: float, confidence: float) -> Interval:
    """Student's t interval of a mean over runs, whose variance is larger by `more`."""
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    if len(values) < 2:
        return Interval(float(values.mean()), float("inf"))
    error = np.sqrt(values.var(ddof=1) / len(values) + more)
    half_width = error * stdtrit(len(values) - 1, 0.5 + confidence / 2)
    return Interval(float(values.mean()), float(half_width))


@shaped
def crossed(
    values: Float[np.ndarray, "runs examples"],
    classes: Integer[np.ndarray, "examples"] | None = None,
    confidence: float = 0.95,
) -> Interval:
    """The mean over runs and examples, with an interval for others of both: the test set is a draw.

    Args:
      values: `[runs, examples]`, what each run is worth on each of the same examples, 0 or 1 for an
        accuracy; for a paired comparison, the differences.
      classes: `[examples]`, where the mean is one over classes, as of a balanced accuracy.
      confidence: in (0, 1).

    Returns:
      The mean and the half-width: Student's t of runs − 1 degrees of freedom times the root of the
      runs' variance / runs + the examples' / examples − the residual's / both, which the two count
      twice, and not less than the first. The half-width of a single run is infinite.

    Cornfield & Tukey 1956, "Average Values of Mean Squares in Factorials", two random factors;
    Owen 2007, "The pigeonhole bootstrap", is the same by resampling, and somewhat wider.
    """
    groups = [slice(None)] if classes is None else [classes == each for each in np.unique(classes)]
    runs, means, variance = len(values), np.zeros(len(values)), 0.0
    for group in groups:
        of_class = values[:, group]
        own = of_class.mean(axis=1)
        means += own / len(groups)
        n, examples = of_class.shape[1], of_class.mean(axis=0) - own.mean()
        if runs > 1 and n > 1:
            rest = of_class - own[:, None] - examples
            residual = (rest**2).sum() / ((runs - 1) * (n - 1))
            varying = max(0.0, (examples**2).sum() / (n - 1) - residual / runs)
            variance += varying / n / len(groups) ** 2
    return _student(means, variance, confidence)


def wilson(share: float, examples: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of a share that was counted on some examples, which may well be 0 or 1.

    Args:
      share: of the examples, in [0, 1].
      examples: how many there were, at least 1.
      confidence: in (0, 1).

    Returns:
      Its ends, in [0, 1].

    Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
    """
    from scipy.special import ndtri  # scipy.stats takes a second to import

    z = ndtri(0.5 + confidence / 2)
    middle = share + z**2 / (2 * examples)
    half = z * np.sqrt(share * (1 - share) / examples + z**2 / (4 * examples**2))
    low, high = ((middle + sign * half) / (1 + z**2 / examples) for sign in (-1, 1))
    return max(float(low), 0.0), min(float(high), 1.0)


@shaped
def paired(
    a: Float[np.ndarray, "runs"], b: Float[np.ndarray, "runs"], confidence: float = 0.95
) -> Interval:
    """The mean of a − b over runs that share their seeds, with Student's t interval.

    Args:
      a, b: `[runs]`, run i of both with the same seed and the same data.
      confidence: in (0, 1).

    Returns:
      The mean difference and its half-width; it is clear of 0 when |mean| > half-width.
    """
    return interval(a - b, confidence)


@shaped
def holm(p: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """p-values `[n]` for all of their hypotheses at once: below 5 %, 5 % of such families err.

    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty_like(steps)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


@shaped
def delta_p(
    results: Float[np.ndarray, "n"],
    baselines: Float[np.ndarray, "n"],
    higher_is_better: bool | Bool[np.ndarray, "n"] = True,
) -> float:
    """Δp: the mean over tasks and metrics of the signed relative change from single-task runs.

    Args:
      results: `[n]`, a multitask model's numbers, one a task and metric.
      baselines: `[n]`, those of a model for each task alone; not 0.
      higher_is_better: `[n]` booleans, or one for all.

    Returns:
      A fraction, where papers print percent; above 0 the multitask model is better.

    Raises:
      UserError: a baseline of 0.

    Maninis et al. 2019, "Attentive Single-Tasking of Multiple Tasks", eq. 5.
    """
    if (baselines == 0).any():
        raise UserError(f"baselines: got 0 at {np.flatnonzero(baselines == 0)}; expected others")
    signs = np.where(higher_is_better, 1, -1)
    return float(np.mean(signs * (results - baselines) / np.abs(baselines)))

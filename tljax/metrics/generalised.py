"""Generalised zero-shot learning, judged: seen against unseen classes. numpy in, floats out."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer, Num

from tljax import checks
from tljax.errors import UserError
from tljax.typed import shaped

Scores = Num[np.ndarray, "n classes"]
Labels = Integer[np.ndarray, "n"]
Seen = Bool[np.ndarray, "classes"]


class SeenUnseen(NamedTuple):
    """Generalised zero-shot accuracies: on seen and unseen classes, and their harmonic mean."""

    seen: float
    unseen: float
    harmonic: float


def harmonic_mean(seen: float, unseen: float) -> float:
    """H = 2SU / (S + U) of two accuracies ≥ 0; 0 where both are 0."""
    return 2 * seen * unseen / (seen + unseen) if seen + unseen > 0 else 0.0


@shaped
def seen_unseen(predicted: Labels, labels: Labels, seen: Seen, classes: int) -> SeenUnseen:
    """S, U and H of predictions among all classes: accuracy per class, then the mean over classes.

    Args:
      predicted: `[n]`, integers in [0, classes), seen and unseen ones competing.
      labels: `[n]`, integers in [0, classes), with examples of seen and of unseen classes.
      seen: `[classes]`, Boolean.
      classes: C.

    Returns:
      S, U and H in [0, 1]; a class that does not occur does not count.

    Raises:
      UserError: classes out of range, no example of seen or of unseen ones.

    Xian et al. 2019, "Zero-Shot Learning: A Comprehensive Evaluation", section 5.1.
    """
    if len(seen) != classes:
        raise UserError(f"seen: got {len(seen)} classes; expected {classes}")
    checks.within("predicted", predicted, classes)
    right = _shares(labels, seen) * (predicted == labels)
    s, u = (min(float(right[group].sum()), 1.0) for group in (seen[labels], ~seen[labels]))
    return SeenUnseen(s, u, harmonic_mean(s, u))


class StackingCurve(NamedTuple):
    """S and U at every γ that makes a difference, and the area under S as a function of U."""

    gammas: Float[np.ndarray, "points"]  # ascending
    seen: Float[np.ndarray, "points"]  # falling
    unseen: Float[np.ndarray, "points"]  # rising
    ausuc: float


@shaped
def stacking_curve(scores: Scores, labels: Labels, seen: Seen) -> StackingCurve:
    """The exact seen-unseen curve of calibrated stacking.

    An example goes over to the unseen classes where γ passes its best seen score minus its best
    unseen score. Between two such places nothing changes, so one γ in the middle stands for all.

    Args:
      scores: `[n, classes]`, uncalibrated.
      labels: `[n]`, integers in [0, classes), with examples of seen and of unseen classes.
      seen: `[classes]`, Boolean, some of each.

    Returns:
      The curve, from all seen to all unseen; its area by the trapezoidal rule, in [0, 1].

    Raises:
      UserError: labels out of range, no example of seen or of unseen classes.

    Chao et al. 2016, "An Empirical Study and Analysis of Generalized Zero-Shot Learning for
    Object Recognition in the Wild", section 3.3.
    """
    checks.finite("scores", scores)
    # Margins that differ by less are one place: rounding made them so, and no γ would fit between.
    rounding = np.finfo(np.float32 if scores.dtype == np.float32 else np.float64).eps
    scores = scores.astype(np.float64)
    resolution = 8 * float(rounding) * np.abs(scores).max()
    share = _shares(labels, seen)
    best_seen = np.where(seen, scores, -np.inf)
    best_unseen = np.where(seen, -np.inf, scores)
    margins = best_seen.max(axis=1) - best_unseen.max(axis=1)
    is_seen = seen[labels]
    best = np.where(is_seen, best_seen.argmax(axis=1), best_unseen.argmax(axis=1))
    matters = np.flatnonzero(best == labels)  # another example is wrong at every γ
    if not len(matters):
        return StackingCurve(np.zeros(1), np.zeros(1), np.zeros(1), 0.0)
    matters = matters[margins[matters].argsort(kind="stable")]
    places, shares = margins[matters], share[matters]
    apart = np.diff(places) > resolution
    at = np.append(0, np.cumsum(apart))
    falls, rises = (np.bincount(at, shares * group[matters]) for group in (is_seen, ~is_seen))
    s = np.append(np.cumsum(falls[::-1])[::-1], 0.0)
    u = np.append(0.0, np.cumsum(rises))
    low, high = places[[0]], places[[-1]]
    between = ((places[:-1] + places[1:]) / 2)[apart]
    gammas = np.concatenate(
        [low - np.maximum(1, abs(low)), between, high + np.maximum(1, abs(high))]
    )
    s, u = np.minimum(s, 1), np.minimum(u, 1)  # sums of shares round
    return StackingCurve(gammas, s, u, float(np.trapezoid(s, u)))


def best_gamma(scores: Scores, labels: Labels, seen: Seen) -> float:
    """The γ of calibrated stacking with the largest H, in the middle of where it is the largest.

    Meant for validation data, where some of the *seen* classes were held out of the training and
    play the unseen ones: a γ chosen on the truly unseen classes reports too high an H. Of several
    such γ the one nearest 0. Arguments and errors are those of `stacking_curve`.
    """
    curve = stacking_curve(scores, labels, seen)
    pairs = zip(curve.seen, curve.unseen, strict=True)
    harmonic = np.array([harmonic_mean(*pair) for pair in pairs])
    best = curve.gammas[harmonic >= harmonic.max() - 1e-12]  # sums differ by rounding
    return float(best[np.abs(best).argmin()])


def _shares(labels: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """What an example that is right adds to S or to U, `[n]`."""
    checks.within("labels", labels, len(seen))
    sizes = np.bincount(labels, minlength=len(seen))
    present = [int((sizes[group] > 0).sum()) for group in (~seen, seen)]
    if 0 in present:
        raise UserError(
            f"labels: got examples of {present[1]} seen and {present[0]} unseen classes; "
            "expected some of each"
        )
    return 1 / (sizes[labels] * np.array(present)[seen[labels].astype(int)])

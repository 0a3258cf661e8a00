"""Seen against unseen classes: values worked by hand, and the curve against brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tljax.errors import UserError
from tljax.metrics import generalised
from tljax.solvers.zero_shot import calibrated_stacking

SEEN = np.array([True, True, False, False])


def test_harmonic_mean():
    assert generalised.harmonic_mean(0.5, 1.0) == pytest.approx(2 / 3)
    assert generalised.harmonic_mean(0.0, 0.0) == 0.0
    assert generalised.harmonic_mean(0.8, 0.0) == 0.0


def test_seen_unseen_by_hand():
    """Class 0: 2 of 4 right, class 1: 1 of 1, so S = ¾. Class 2: 1 of 4; class 3 has no example.

    H = 2·¾·¼/1. Accuracy over examples would be 3/5 and is not what is wanted.
    """
    labels = np.array([0, 0, 0, 0, 1, 2, 2, 2, 2])
    predicted = np.array([0, 0, 1, 2, 1, 2, 0, 3, 3])
    result = generalised.seen_unseen(predicted, labels, SEEN, 4)
    assert result == (0.75, 0.25, pytest.approx(0.375))
    assert result.harmonic == generalised.harmonic_mean(result.seen, result.unseen)
    assert all(type(value) is float for value in result)


def test_perfect_and_hopeless():
    labels = np.array([0, 1, 1, 2, 3, 3, 3])
    assert generalised.seen_unseen(labels, labels, SEEN, 4) == pytest.approx((1, 1, 1))
    assert generalised.seen_unseen((labels + 1) % 4, labels, SEEN, 4) == (0, 0, 0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": [0, 1]}, "labels: got examples of 2 seen and 0 unseen classes"),
        ({"labels": [2, 3]}, "labels: got examples of 0 seen and 2 unseen classes"),
        ({"labels": [0, 4]}, r"labels: got 4 at \[1\]; expected classes in 0…3"),
        ({"predicted": [0, -1]}, r"predicted: got -1 at \[1\]"),
        ({"predicted": [0]}, r"labels: got int64 \[2\]; expected integer \[n=1 of predicted\]"),
        ({"seen": SEEN[:3]}, "seen: got 3 classes; expected 4"),
        ({"seen": SEEN.astype(int)}, r"seen: got int64 \[4\]; expected bool"),
    ],
)
def test_seen_unseen_refuses(changed, message):
    arguments = {"predicted": [0, 3], "labels": [0, 3], "seen": SEEN, "classes": 4}
    with pytest.raises(UserError, match=message):
        generalised.seen_unseen(**{**arguments, **changed})


# Class 0 is seen, class 1 is not; the margins of the four examples are 3, 1, 2 and −1.
SCORES = np.array([[3.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
LABELS = np.array([0, 0, 1, 1])
TWO = np.array([True, False])


def test_stacking_curve_by_hand():
    """As γ passes −1, 1, 2, 3: example 3 is won, 1 is lost, 2 is won, 0 is lost.

    Area: from U = 0 to ½ at S = 1, from ½ to 1 at S = ½.
    """
    curve = generalised.stacking_curve(SCORES, LABELS, TWO)
    np.testing.assert_array_equal(curve.gammas, [-2, 0, 1.5, 2.5, 6])
    np.testing.assert_array_equal(curve.seen, [1, 1, 0.5, 0.5, 0])
    np.testing.assert_array_equal(curve.unseen, [0, 0.5, 0.5, 1, 1])
    assert curve.ausuc == 0.75


def test_best_gamma_by_hand():
    """H = 0, ⅔, ½, ⅔, 0: of the two best, 0 and 2.5, the one nearer to 0."""
    assert generalised.best_gamma(SCORES, LABELS, TWO) == 0.0
    assert generalised.best_gamma(SCORES + [[5.0, 0.0]], LABELS, TWO) == 5.0
    assert generalised.best_gamma(SCORES - [[5.0, 0.0]], LABELS, TWO) == -2.5


def test_separable_scores_have_an_area_of_one_and_a_gamma_between():
    """Seen margins 5 and 7, unseen ones 1 and 2: from 2 to 5 all is right, and 3.5 is between."""
    scores = np.array([[5.0, 0.0], [7.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    assert generalised.stacking_curve(scores, LABELS, TWO).ausuc == 1.0
    assert generalised.best_gamma(scores, LABELS, TWO) == 3.5


def test_nothing_is_ever_right():
    """Each example's own group prefers another class of that group."""
    scores = np.array([[0.0, 1.0, 0.0, 1.0]] * 2)
    curve = generalised.stacking_curve(scores, [0, 2], SEEN)
    assert curve.ausuc == 0.0
    np.testing.assert_array_equal(curve.gammas, [0.0])
    assert generalised.best_gamma(scores, [0, 2], SEEN) == 0.0


def random_case(seed):
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(5), random.integers(0, 5, 35)])
    # One decimal, so that margins tie.
    scores = np.round(random.normal(size=(40, 5)) + 1.5 * np.eye(5)[labels], 1)
    return scores, labels, np.array([True, False, True, True, False])


def brute(scores, labels, seen, gamma):
    calibrated = scores - gamma * seen
    result = generalised.seen_unseen(calibrated.argmax(axis=1), labels, seen, len(seen))
    return result.seen, result.unseen


@given(st.integers(0, 10_000))
def test_the_curve_is_what_calibrated_stacking_does(seed):
    scores, labels, seen = random_case(seed)
    curve = generalised.stacking_curve(scores, labels, seen)
    pairs = np.stack([curve.seen, curve.unseen], axis=1)
    for gamma, pair in zip(curve.gammas, pairs, strict=True):
        assert brute(scores, labels, seen, gamma) == pytest.approx(tuple(pair))
    # No γ gives anything that is not on the curve (0.05 avoids the ties at one decimal).
    for gamma in np.arange(-6, 6, 0.1) + 0.05:
        distance = np.abs(pairs - [brute(scores, labels, seen, gamma)]).max(axis=1)
        assert distance.min() < 1e-9
    assert (np.diff(curve.gammas) > 0).all()
    assert (np.diff(curve.seen) <= 0).all() and (np.diff(curve.unseen) >= 0).all()
    assert 0 <= curve.ausuc <= 1 and curve.seen[-1] == 0 and curve.unseen[0] == 0


def test_the_best_gamma_is_best_and_the_solver_agrees():
    scores, labels, seen = random_case(3)
    scores = scores + 2.0 * seen  # as after training on the seen classes
    gamma = generalised.best_gamma(scores, labels, seen)
    others = [
        generalised.harmonic_mean(*brute(scores, labels, seen, other))
        for other in np.arange(-6, 6, 0.1) + 0.05
    ]
    result = brute(scores, labels, seen, gamma)
    assert generalised.harmonic_mean(*result) == pytest.approx(max(others))
    assert max(others) > others[60] + 0.1  # that of γ = 0.05
    called = np.asarray(calibrated_stacking(scores, seen, gamma)).argmax(axis=1)
    again = generalised.seen_unseen(called, labels, seen, 5)
    assert (again.seen, again.unseen) == pytest.approx(result)


@given(st.permutations(range(5)), st.permutations(range(40)), st.floats(-3, 3))
def test_order_changes_nothing_and_an_offset_of_the_seen_moves_gamma(classes, examples, offset):
    scores, labels, seen = random_case(1)
    scores = scores + 0.01 * np.random.default_rng(2).uniform(size=scores.shape)  # no ties
    curve = generalised.stacking_curve(scores, labels, seen)
    moved = (scores + offset * seen)[examples][:, classes]
    names = np.argsort(classes)
    other = generalised.stacking_curve(moved, names[labels][examples], seen[classes])
    assert other.ausuc == pytest.approx(curve.ausuc)
    np.testing.assert_allclose(other.seen, curve.seen, atol=1e-12)
    np.testing.assert_allclose(other.unseen, curve.unseen, atol=1e-12)
    np.testing.assert_allclose(other.gammas[1:-1], curve.gammas[1:-1] + offset, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_margins_that_rounding_tells_apart_are_one(dtype):
    """0.3 − 0.2 and 0.4 − 0.3, of a seen and an unseen class: no γ lies between.

    Both go over at once, on the diagonal from (0, 1) to (1, 0), whose area is a half.
    """
    scores = np.array([[0.3, 0.2], [0.4, 0.3]], dtype)
    margins = scores.astype(np.float64)[:, 0] - scores.astype(np.float64)[:, 1]
    assert margins[0] != margins[1]
    curve = generalised.stacking_curve(scores, [0, 1], TWO)
    assert len(curve.gammas) == 2 and curve.ausuc == 0.5


def test_the_curve_refuses():
    with pytest.raises(UserError, match="scores: got nan"):
        generalised.stacking_curve(SCORES * np.nan, LABELS, TWO)
    with pytest.raises(UserError, match=r"labels: got int64 \[3\]; .*n=4 of scores"):
        generalised.stacking_curve(SCORES, LABELS[:3], TWO)
    with pytest.raises(UserError, match="labels: got examples of 1 seen and 0 unseen"):
        generalised.best_gamma(SCORES, LABELS * 0, TWO)

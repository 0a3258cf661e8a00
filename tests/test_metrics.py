"""Metrics against values worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tljax import metrics

LABELS = np.array([0, 0, 1, 3, 3, 3])
PREDICTED = np.array([0, 1, 1, 3, 0, 3])  # right at 0, 2, 3 and 5


def test_accuracy():
    assert metrics.accuracy(PREDICTED, LABELS) == 4 / 6
    assert metrics.accuracy(LABELS, LABELS) == 1.0
    assert type(metrics.accuracy(PREDICTED, LABELS)) is float


def test_confusion_has_true_classes_as_rows():
    confusion = metrics.confusion_matrix(PREDICTED, LABELS, 4)
    np.testing.assert_array_equal(
        confusion, [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 2]]
    )


def test_per_class_accuracy_of_an_absent_class_is_nan():
    confusion = metrics.confusion_matrix(PREDICTED, LABELS, 4)
    np.testing.assert_allclose(metrics.per_class_accuracy(confusion), [1 / 2, 1, np.nan, 2 / 3])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1))
def test_accuracy_is_the_trace_and_the_mean_of_classes_by_their_size(pairs):
    predicted, labels = np.array(pairs).T
    confusion = metrics.confusion_matrix(predicted, labels, 5)
    assert confusion.sum() == len(pairs)
    accuracy = metrics.accuracy(predicted, labels)
    assert accuracy == pytest.approx(np.trace(confusion) / len(pairs))
    sizes = np.bincount(labels, minlength=5)
    weighted = np.nansum(metrics.per_class_accuracy(confusion) * sizes) / len(pairs)
    assert accuracy == pytest.approx(weighted)


def test_interval_is_students():
    """Values 1, 2, 3: mean 2, deviation 1, error 1/√3.

    With 2 degrees of freedom t at 97.5 % is 0.95·√(2/(4·0.975·0.025)) = 4.3027.
    """
    interval = metrics.interval([1, 2, 3])
    t = 0.95 * math.sqrt(2 / (4 * 0.975 * 0.025))
    assert t == pytest.approx(4.3027, abs=5e-5)
    assert interval == (2.0, pytest.approx(t / math.sqrt(3), rel=1e-9))


def test_interval_of_another_confidence():
    """Values 0 and 2: deviation √2, error 1; t with 1 degree is tan(0.4·π) at 90 %."""
    interval = metrics.interval([0.0, 2.0], confidence=0.8)
    assert interval == (1.0, pytest.approx(math.tan(math.pi * 0.4)))


def test_a_single_run_has_no_bounds():
    assert metrics.interval([0.7]) == (0.7, math.inf)


def test_equal_runs_have_no_width():
    assert metrics.interval([0.5, 0.5, 0.5]) == (0.5, 0.0)


def test_an_interval_reads_as_mean_and_half_width():
    assert str(metrics.Interval(0.91234, 0.0056)) == "0.912 ± 0.006"

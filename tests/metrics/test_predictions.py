"""Metrics against values worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tljax import metrics
from tljax.errors import UserError

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


def test_attribute_accuracy_by_hand():
    assert metrics.attribute_accuracy([[1, 0, 1], [0, 0, 1]], [[1, 1, 1], [0, 0, 0]]) == 4 / 6
    assert metrics.attribute_accuracy(np.array([[True, False]]), [[1, 0]]) == 1.0


def test_attribute_accuracy_refuses():
    with pytest.raises(UserError, match=r"predicted: got 0.3 at \[0, 0\]; expected 0 and 1 only"):
        metrics.attribute_accuracy([[0.3, 0.9]], [[0, 1]])
    with pytest.raises(UserError, match=r"true: got int64 \[1, 2\]; .*attributes=1 of predicted\]"):
        metrics.attribute_accuracy([[1]], [[0, 1]])


def test_paired_is_the_interval_of_the_differences():
    """Differences 1, 2, 3, whatever the runs have in common."""
    common = np.array([10.0, -5.0, 80.0])
    result = metrics.paired(common + [1, 2, 3], common)
    assert result == pytest.approx(metrics.interval([1, 2, 3]))
    back = metrics.paired(common, common + [1, 2, 3])
    assert back == pytest.approx((-result.mean, result.half_width))
    assert metrics.paired([1.0], [0.5]) == (0.5, math.inf)
    with pytest.raises(UserError, match=r"b: got float64 \[2\]; expected float \[runs=3 of a"):
        metrics.paired([1, 2, 3], [1, 2])
    with pytest.raises(UserError, match="a: got nan"):
        metrics.paired([1, math.nan], [1, 2])


def test_crossed_by_hand():
    """Two runs that agree, right on one example of two: its deviation is √½, the error of the mean
    ½, and t with 1 degree of freedom 12.706. Runs that differ by the residual alone: as `interval`.
    """
    t = math.tan(math.pi * 0.475)
    assert metrics.crossed([[1.0, 0.0], [1.0, 0.0]]) == (0.5, pytest.approx(t / 2))
    assert metrics.crossed([[1.0, 0.0], [1.0, 1.0]]) == pytest.approx(metrics.interval([0.5, 1.0]))
    assert metrics.crossed([[1.0, 0.0]]) == (0.5, math.inf)
    # The mean over classes of 1 and ⅓, though three examples of four are of the second; that one's
    # examples deviate by √⅓, three of them, in half of the mean.
    values = np.tile([1.0, 1.0, 0.0, 0.0], (2, 1))
    error = math.sqrt(1 / 3 / 3) / 2
    found = metrics.crossed(values, classes=np.array([0, 1, 1, 1]))
    assert found == (pytest.approx(2 / 3), pytest.approx(t * error))


def test_crossed_holds_for_other_runs_and_other_examples():
    """Of intervals from draws of both 95 in 100 hold the mean of all; of those over runs few do."""
    draw, held = np.random.default_rng(0), np.zeros(2)
    for _ in range(500):
        runs, examples = draw.normal(0, 0.3, (8, 1)), draw.normal(0, 2.0, (1, 50))
        values = runs + examples + draw.normal(0, 1.0, (8, 50))
        for i, found in enumerate((metrics.crossed(values), metrics.interval(values.mean(1)))):
            held[i] += abs(found.mean) <= found.half_width
    assert 0.93 < held[0] / 500 < 0.99 and held[1] / 500 < 0.7


def test_crossed_is_the_pigeonhole_bootstrap_and_not_wider():
    draw = np.random.default_rng(1)
    values = (draw.normal(size=(10, 1)) + draw.normal(size=(1, 40)) > 0).astype(float)
    drawn = [
        values[np.ix_(draw.integers(10, size=10), draw.integers(40, size=40))].mean()
        for _ in range(2000)
    ]
    error = metrics.crossed(values).half_width / 2.262157  # t with 9 degrees of freedom
    assert error == pytest.approx(np.std(drawn), rel=0.1)


def test_holm_by_hand():
    """Ascending 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, and none below the one before it."""
    found = metrics.holm([0.01, 0.04, 0.03, 0.005])
    assert found == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert metrics.holm([0.9, 0.8]).tolist() == [1.0, 1.0]


def test_delta_p_by_hand():
    """Accuracy 0.6 against 0.5 is +20 %; an error of 3 against 2 is −50 %; their mean is −15 %."""
    assert metrics.delta_p([0.6, 3], [0.5, 2], [True, False]) == pytest.approx(-0.15)
    assert metrics.delta_p([0.6, 3], [0.5, 2]) == pytest.approx(0.35)
    assert metrics.delta_p([0.6, 3], [0.5, 2], False) == pytest.approx(-0.35)
    assert metrics.delta_p([0.5, 2], [0.5, 2], [True, False]) == 0.0
    # A log-likelihood that rises from −2 to −1 is better by half.
    assert metrics.delta_p([-1], [-2]) == 0.5


def test_delta_p_refuses():
    with pytest.raises(UserError, match=r"baselines: got 0 at \[1\]"):
        metrics.delta_p([1, 2], [1, 0])
    with pytest.raises(UserError, match=r"baselines: got float64 \[1\]; .*n=2 of res"):
        metrics.delta_p([1, 2], [1])
    with pytest.raises(UserError, match=r"higher_is_better: got int64 \[2\]; expected bool"):
        metrics.delta_p([1, 2], [1, 2], [1, 0])


def test_clustering_by_hand_with_more_clusters_than_classes():
    """Cluster 0 is class 1 (2 right), cluster 1 is class 0 (2 right), cluster 2 is left over.

    Mutual information H(Y) − H(Y|clusters) = H(Y), with H(Y) of (⅗, ⅖); H(clusters) of
    (⅖, ⅖, ⅕). Pairs together in both: 2; in clusters 2, in classes 4, of 10: the index is
    (2 − 0.8)/(3 − 0.8).
    """
    result = metrics.clustering([0, 0, 1, 1, 2], [1, 1, 0, 0, 0])
    assert result["accuracy"] == 4 / 5
    of_classes = -(0.6 * math.log(0.6) + 0.4 * math.log(0.4))
    of_clusters = -(0.8 * math.log(0.4) + 0.2 * math.log(0.2))
    assert result["nmi"] == pytest.approx(2 * of_classes / (of_classes + of_clusters))
    assert result["ari"] == pytest.approx(1.2 / 2.2)
    assert all(type(value) is float for value in result.values())


def test_clustering_by_hand_with_fewer_clusters_than_classes():
    """One cluster of classes 0, 1, 1 can be one class only."""
    result = metrics.clustering([7, 7, 7], [0, 1, 1])
    assert result["accuracy"] == 2 / 3 and result["ari"] == 0.0
    assert result["nmi"] == pytest.approx(0.0, abs=1e-12)


def test_the_matching_is_the_best_and_not_the_greedy_one():
    """Counts (5, 4) and (4, 0): the greedy 5 + 0 is worse than 4 + 4."""
    clusters = [0] * 9 + [1] * 4
    labels = [0] * 5 + [1] * 4 + [0] * 4
    assert metrics.clustering(clusters, labels)["accuracy"] == 8 / 13


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=2),
    st.permutations(range(4)),
    st.permutations(range(5)),
)
def test_clustering_does_not_depend_on_names(pairs, clusters, classes):
    assignments, labels = np.array(pairs).T
    result = metrics.clustering(assignments, labels)
    renamed = metrics.clustering(np.array(clusters)[assignments] - 9, np.array(classes)[labels] * 3)
    assert renamed == pytest.approx(result)
    assert result["accuracy"] >= metrics.accuracy(assignments, labels) - 1e-12
    assert metrics.clustering(labels, labels) == pytest.approx(
        {"accuracy": 1.0, "nmi": 1.0, "ari": 1.0}
    )


def test_clustering_refuses():
    with pytest.raises(UserError, match=r"labels: got int64 \[2\]; .*n=1 of assign"):
        metrics.clustering([0], [0, 1])
    with pytest.raises(UserError, match=r"assignments: got float64 \[2\]; expected integer"):
        metrics.clustering([0.5, 1.0], [0, 1])
    with pytest.raises(UserError, match=r"assignments: got \w+ \[0\]"):
        metrics.clustering([], [])


RANDOM = np.random.default_rng(0)


def test_domains_that_are_told_apart_have_a_distance_of_two():
    source = RANDOM.normal(size=(60, 3))
    assert metrics.proxy_a_distance(source, source + 20) == 2.0
    # In a unit that is a million times larger, it is the same.
    assert metrics.proxy_a_distance(1e6 * source, 1e6 * (source + 20)) == 2.0


@pytest.mark.parametrize("size", [2000, 200])
def test_domains_that_are_alike_have_none_whatever_their_sizes(size):
    """With 2,000 against 200, always saying the larger would be right in 10 of 11."""
    result = metrics.proxy_a_distance(RANDOM.normal(size=(2000, 3)), RANDOM.normal(size=(size, 3)))
    assert abs(result) < 0.3


def test_the_distance_of_overlapping_domains():
    """N(0, 1) and N(2, 1): the best rule errs in Φ(−1) = 0.1587 of the cases, so 2(1 − 0.317)."""
    source, target = RANDOM.normal(size=(2000, 1)), 2 + RANDOM.normal(size=(2000, 1))
    expected = 2 * (1 - math.erfc(1 / math.sqrt(2)))
    result = metrics.proxy_a_distance(source, target, seed=1)
    assert result == pytest.approx(expected, abs=0.06)
    assert metrics.proxy_a_distance(source, target, seed=1) == result
    assert metrics.proxy_a_distance(target, source, seed=1) == pytest.approx(result, abs=0.03)


def test_the_distance_refuses():
    x = np.ones((4, 3))
    with pytest.raises(UserError, match=r"target_features: got float64 \[4, 2\]; .*width=3 of so"):
        metrics.proxy_a_distance(x, x[:, :2])
    with pytest.raises(UserError, match=r"target_features: got \[1, 3\]; .* at least 2"):
        metrics.proxy_a_distance(x, x[:1])
    with pytest.raises(UserError, match="source_features: got nan"):
        metrics.proxy_a_distance(x * np.nan, x)
    assert metrics.proxy_a_distance(x, x) <= 0  # nothing to tell them by


WANTED = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]])
SCORES = np.array([[1.0, -1.0, -2.0], [2.0, 3.0, -1.0], [-1.0, 1.0, -3.0]])


def test_multilabel_by_hand():
    """The first label has scores 1, 2, −1, the first and the last example have it.

    They are 2nd and 3rd of three: (1/2 + 2/3) / 2 = 7/12. The second label's example is first: 1.
    The third does not occur. F1: 2·1/(2·1 + 1 + 1) = ½; 2·1/(2·1 + 1) = ⅔; 0. In all 2 right of
    4 that are called true and 3 that are: 4/7. Wrong are 3 of 9 decisions.
    """
    assert metrics.multilabel(SCORES, WANTED) == pytest.approx(
        {
            "mean_average_precision": (7 / 12 + 1) / 2,
            "f1_macro": (1 / 2 + 2 / 3 + 0) / 3,
            "f1_micro": 4 / 7,
            "accuracy": 6 / 9,
        }
    )


def test_multilabel_of_a_single_label_is_of_the_positive_class():
    # Not the mean over both classes, which scikit-learn makes of a single column.
    result = metrics.multilabel(SCORES[:, :1], WANTED[:, :1].astype(bool))
    assert result["f1_macro"] == result["f1_micro"] == 1 / 2
    assert result["mean_average_precision"] == pytest.approx(7 / 12)


def test_multilabel_at_its_ends():
    perfect = metrics.multilabel(2.0 * WANTED - 1, WANTED)
    ends = {"mean_average_precision": 1, "f1_macro": 2 / 3, "f1_micro": 1, "accuracy": 1}
    assert perfect == pytest.approx(ends)
    nothing = metrics.multilabel(SCORES, 0 * WANTED)
    assert math.isnan(nothing["mean_average_precision"]) and nothing["f1_micro"] == 0


def test_multilabel_does_not_depend_on_the_order_of_examples_or_labels():
    plain = metrics.multilabel(SCORES, WANTED)
    assert metrics.multilabel(SCORES[[2, 0, 1]], WANTED[[2, 0, 1]]) == pytest.approx(plain)
    assert metrics.multilabel(SCORES[:, ::-1], WANTED[:, ::-1]) == pytest.approx(plain)


def test_multilabel_refuses():
    with pytest.raises(UserError, match=r"wanted: got 2 at \[0, 0\]; expected 0 and 1 only"):
        metrics.multilabel(SCORES, 2 * WANTED)
    with pytest.raises(UserError, match=r"wanted: got int64 \[3, 2\]; .*labels=3 of scores"):
        metrics.multilabel(SCORES, WANTED[:, :2])


def test_regression_by_hand():
    """Errors 1, 0, −2: mae 1, rmse √(5/3). The values deviate by −2, 0, 2: r² = 1 − 5/8."""
    result = metrics.regression([2, 3, 3], [1, 3, 5])
    assert result == pytest.approx({"mae": 1, "rmse": math.sqrt(5 / 3), "r2": 3 / 8})
    assert metrics.regression([3, 3, 3], [1, 3, 5])["r2"] == pytest.approx(0)


def test_regression_of_vectors_is_the_mean_over_their_numbers():
    predicted, value = np.array([[2.0, 1], [3, 3], [3, 5]]), np.array([[1.0, 1], [3, 3], [5, 5]])
    result = metrics.regression(predicted, value)
    assert result == pytest.approx({"mae": 1 / 2, "rmse": math.sqrt(5 / 3) / 2, "r2": 11 / 16})
    assert metrics.regression(predicted[:, :1], value[:, :1]) == pytest.approx(
        metrics.regression(predicted[:, 0], value[:, 0])
    )


def test_regression_refuses():
    with pytest.raises(UserError, match=r"regression: value: got float64 \[3\]; expected "):
        metrics.regression([[1.0], [2.0], [3.0]], [1, 2, 3])


def test_spans_by_hand():
    """The same; 2 of 3 and of 2 places, F1 0.8; none in common."""
    predicted, true = np.array([[1, 2], [3, 5], [0, 1]]), np.array([[1, 2], [4, 5], [5, 9]])
    found = metrics.spans(predicted, true)
    assert found == pytest.approx({"exact_match": 1 / 3, "f1": (1 + 0.8 + 0) / 3})

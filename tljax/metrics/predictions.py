"""Predictions against what is true: classes, attributes, labels, values, clusters."""

import numpy as np
from jaxtyping import Float, Integer, Shaped

from tljax import checks
from tljax.typed import shaped

Classes = Integer[np.ndarray, "n"]


@shaped
def accuracy(predicted: Shaped[np.ndarray, "n"], labels: Shaped[np.ndarray, "n"]) -> float:
    """The part of `predicted` `[n]` that equals `labels` `[n]`, in [0, 1]."""
    return float(np.mean(predicted == labels))


@shaped
def attribute_accuracy(
    predicted: Shaped[np.ndarray, "n attributes"], true: Shaped[np.ndarray, "n attributes"]
) -> float:
    """The part of the bits `predicted` `[n, attributes]` that equals `true`; all are 0 or 1."""
    checks.bits("predicted", predicted)
    checks.bits("true", true)
    return float(np.mean(predicted == true))


@shaped
def confusion_matrix(
    predicted: Classes, labels: Classes, classes: int
) -> Integer[np.ndarray, "classes classes"]:
    """Counts `[classes, classes]`: rows are the true classes, columns the predicted ones.

    Raises:
      UserError: a class that is not in [0, classes).
    """
    checks.within("labels", labels, classes)
    checks.within("predicted", predicted, classes)
    # Every run that has labels ends with one, and scikit-learn takes two seconds to import.
    cells = np.asarray(labels, np.int64) * classes + np.asarray(predicted, np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


@shaped
def per_class_accuracy(
    confusion: Integer[np.ndarray, "classes classes"],
) -> Float[np.ndarray, "classes"]:
    """The accuracy within each true class, `[classes]`; NaN for a class that does not occur."""
    total = confusion.sum(axis=1)
    return np.where(total > 0, np.diag(confusion) / np.maximum(total, 1), np.nan)


@shaped
def class_accuracies(
    predicted: Classes, labels: Classes, classes: int
) -> Float[np.ndarray, "classes"]:
    """`per_class_accuracy` without the matrix, whose size is classes²: `[classes]`, NaN as there.

    Args:
      predicted, labels: `[n]`, integers in [0, classes).
      classes: how many there are.

    Raises:
      UserError: labels out of range.
    """
    checks.within("labels", labels, classes)
    total, right = (
        np.bincount(which, minlength=classes) for which in (labels, labels[predicted == labels])
    )
    return np.where(total > 0, right / np.maximum(total, 1), np.nan)


@shaped
def confused(predicted: Classes, labels: Classes, top: int = 100) -> list[tuple[int, int, int]]:
    """The pairs of classes that are confused most: (true, predicted, how often), the most first.

    Args:
      predicted, labels: `[n]`, integers.
      top: how many pairs at most; of pairs as frequent as each other the smaller classes first.
    """
    wrong = predicted != labels
    pairs = np.stack([labels[wrong], predicted[wrong]], axis=1)
    kinds, counts = np.unique(pairs, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:top]
    return [(int(kinds[i, 0]), int(kinds[i, 1]), int(counts[i])) for i in order]


@shaped
def clustering(assignments: Classes, labels: Classes) -> dict[str, float]:
    """How well clusters agree with classes, whatever either are called.

    Args:
      assignments: `[n]` integers, the cluster of each example.
      labels: `[n]` integers, its class; there may be more or fewer classes than clusters.

    Returns:
      `accuracy`, the part of the examples that the best one-to-one matching of clusters to
      classes gets right (an unmatched cluster is wrong); `nmi`, the mutual information over the
      arithmetic mean of the entropies; `ari`, the adjusted Rand index.

    Kuhn 1955, "The Hungarian Method"; Hubert & Arabie 1985, "Comparing Partitions".
    """
    from scipy.optimize import linear_sum_assignment  # slow to import
    from sklearn import metrics

    counts = metrics.cluster.contingency_matrix(labels, assignments)
    right = counts[linear_sum_assignment(counts, maximize=True)].sum()
    return {
        "accuracy": float(right / len(labels)),
        "nmi": float(metrics.normalized_mutual_info_score(labels, assignments)),
        "ari": float(metrics.adjusted_rand_score(labels, assignments)),
    }


@shaped
def multilabel(
    scores: Float[np.ndarray, "n labels"], wanted: Shaped[np.ndarray, "n labels"]
) -> dict[str, float]:
    """How well labels that may occur together are predicted; each is called true above a score 0.

    Args:
      scores: `[n, labels]`, logits.
      wanted: `[n, labels]`, 0 or 1.

    Returns:
      `mean_average_precision`, the mean over the labels that occur of the mean precision at the
      rank of each example that has it, without interpolation, NaN if none occurs; `f1_macro`, the
      mean over all labels of F1, which is 0 for one that neither occurs nor is predicted;
      `f1_micro`, F1 of all decisions together; `accuracy`, the part of all single decisions that
      is right. All in [0, 1].

    Raises:
      UserError: other labels than 0 and 1.

    Zhang & Zhou 2014, "A Review on Multi-Label Learning Algorithms", section 2.2, all but the
    first.
    """
    from sklearn.metrics import average_precision_score, f1_score  # slow to import

    checks.bits("wanted", wanted)
    decided, wanted = (scores > 0).astype(int), wanted.astype(int)
    # Label by label: scikit-learn takes a single column for two classes.
    precisions = [
        average_precision_score(true, score)
        for true, score in zip(wanted.T, scores.T, strict=True)
        if true.any()
    ]
    f1 = [
        f1_score(true, label, zero_division=0)
        for true, label in zip(wanted.T, decided.T, strict=True)
    ]
    return {
        "mean_average_precision": float(np.mean(precisions)) if precisions else float("nan"),
        "f1_macro": float(np.mean(f1)),
        "f1_micro": float(f1_score(wanted.ravel(), decided.ravel(), zero_division=0)),
        "accuracy": float(np.mean(decided == wanted)),
    }


@shaped
def regression(
    predicted: Float[np.ndarray, "n *d"], value: Float[np.ndarray, "n *d"]
) -> dict[str, float]:
    """How far predicted numbers are from the true ones.

    Args:
      predicted: `[n]` or `[n, d]`.
      value: of the same shape, the true numbers.

    Returns:
      `mae`, the mean absolute error, and `rmse`, the root of the mean squared error, in the unit
      of the values; `r2`, 1 − squared error / squared deviation from the mean over the examples,
      1 at best, 0 for the mean itself, without a lower bound, and 0 where the values are all the
      same and missed; NaN of a single example. Each is computed for every one of the d numbers
      and then averaged.
    """
    from sklearn import metrics  # slow to import

    wanted, guessed = (array.reshape(len(array), -1) for array in (value, predicted))
    return {
        "mae": float(metrics.mean_absolute_error(wanted, guessed)),
        "rmse": float(metrics.root_mean_squared_error(wanted, guessed)),
        "r2": float(metrics.r2_score(wanted, guessed)) if len(wanted) > 1 else float("nan"),
    }


@shaped
def spans(
    predicted: Integer[np.ndarray, "n two"], true: Integer[np.ndarray, "n two"]
) -> dict[str, float]:
    """How well spans of places are found.

    Args:
      predicted, true: `[n, 2]`, the first place and the last, which belongs to the span.

    Returns:
      `exact_match`, the part that is found to the place; `f1`, the mean over the examples of the
      harmonic mean of precision and recall of their places. Both in [0, 1].

    Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text", section
    6.1; of the tokens that stand there, where theirs are words without articles and punctuation.
    """
    shared = np.minimum(predicted[:, 1], true[:, 1]) - np.maximum(predicted[:, 0], true[:, 0]) + 1
    sizes = sum(each[:, 1] - each[:, 0] + 1 for each in (predicted, true))
    return {
        "exact_match": float(np.mean((predicted == true).all(axis=1))),
        "f1": float(np.mean(2 * np.maximum(shared, 0) / sizes)),
    }

"""k-means against values worked by hand and its own fixed point."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tljax.errors import UserError
from tljax.solvers.cluster import kmeans

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 3)) + 8 * np.eye(3)[np.arange(60) % 3]


def ordered(centroids):
    return centroids[np.lexsort(centroids.T)]


def nearest(x, centroids):
    return ((x[:, None] - centroids[None]) ** 2).sum(axis=2).argmin(axis=1)


def test_kmeans_by_hand():
    """Two pairs: their means."""
    centroids = kmeans([[0.0, 0.0], [0.0, 2.0], [10.0, 0.0], [10.0, 2.0]], 2)
    assert centroids.dtype == np.float64
    np.testing.assert_allclose(ordered(centroids), [[0, 1], [10, 1]], atol=1e-12)


def test_one_cluster_is_the_mean_and_n_clusters_are_the_examples():
    np.testing.assert_allclose(kmeans(X, 1), X.mean(axis=0)[None], rtol=1e-12)
    np.testing.assert_allclose(ordered(kmeans(X, 60, restarts=1)), ordered(X), rtol=1e-12)


def test_each_centroid_is_the_mean_of_those_nearest_to_it():
    centroids = kmeans(X, 4)
    called = nearest(X, centroids)
    for k in range(4):
        np.testing.assert_allclose(centroids[k], X[called == k].mean(axis=0), rtol=1e-10)


@given(st.permutations(range(60)))
def test_separate_clusters_do_not_depend_on_the_order_of_examples(order):
    np.testing.assert_allclose(
        ordered(kmeans(X[order], 3, restarts=3)), ordered(kmeans(X, 3)), rtol=1e-10
    )


def test_a_seed_gives_the_same_bits_whatever_the_precision_of_the_input():
    single = X.astype(np.float32)
    first = kmeans(single, 7, seed=3)
    assert first.tobytes() == kmeans(single, 7, seed=3).tobytes()
    assert first.tobytes() == kmeans(single.astype(np.float64), 7, seed=3).tobytes()


def test_more_restarts_are_never_worse():
    """The first start is the same for both; on data without clusters one start is seldom best."""
    x = RANDOM.uniform(size=(80, 2))

    def inertia(restarts, seed):
        centroids = kmeans(x, 8, seed=seed, restarts=restarts)
        return ((x - centroids[nearest(x, centroids)]) ** 2).sum()

    one, many = (np.array([inertia(n, seed) for seed in range(5)]) for n in (1, 10))
    assert many.mean() < one.mean()


@pytest.mark.parametrize(
    ("features", "clusters", "message"),
    [
        (X, 61, r"clusters: got 61; expected an integer in 1…60 \(the number of examples\)"),
        (X, 0, "clusters: got 0"),
        (X, 2.5, "clusters: got 2.5; expected an integer"),
        (np.ones((9, 2)), 3, "clusters: got 3; expected at most 1, the number of different"),
        (X * np.nan, 3, r"features: got nan at \[0, 0\]"),
        (X[:, 0], 3, r"kmeans: features: got float64 \[60\]; expected float \[n, width\]"),
    ],
)
def test_kmeans_refuses(features, clusters, message):
    with pytest.raises(UserError, match=message):
        kmeans(features, clusters)

"""k-means."""

import warnings

import numpy as np
from jaxtyping import Float

from tljax import checks
from tljax.errors import wrong
from tljax.typed import shaped


@shaped
def kmeans(
    features: Float[np.ndarray, "n width"], clusters: int, seed: int = 0, restarts: int = 10
) -> Float[np.ndarray, "clusters width"]:
    """The centroids of k-means (k-means++ starts, Lloyd's steps), the best of several starts.

    Computed in float64 on one thread, so that the same seed gives the same bits.

    Args:
      features: `[n, width]`.
      clusters: K, in [1, n].
      seed: ≥ 0, of the starts.
      restarts: how many starts; the one with the smallest sum of squared distances is kept.

    Returns:
      `[K, width]`, float64, all of them different, each the mean of at least one example.

    Raises:
      UserError: more clusters than different examples.

    Lloyd 1982; Arthur & Vassilvitskii 2007, "k-means++".
    """
    from sklearn.cluster import KMeans  # slow to import
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    clusters = checks.count("clusters", clusters, 1, len(features), "the number of examples")
    restarts = checks.count("restarts", restarts, 1, 10_000, "starts")
    model = KMeans(clusters, n_init=restarts, random_state=seed, algorithm="lloyd")
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # it says what the error below says
        model.fit(features)
    different = len(np.unique(model.labels_))
    if different < clusters:
        raise wrong("clusters", clusters, f"at most {different}, the number of different examples")
    return model.cluster_centers_

"""Readouts of frozen features: a linear probe, neighbours, and the relation of two label sets."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Integer, Scalar

from tljax import checks
from tljax.errors import UserError, wrong
from tljax.solvers import arrays
from tljax.typed import shaped

Features = Float[np.ndarray, "batch width"]
Labels = Integer[np.ndarray, "batch"]
Readout = tuple[Float[np.ndarray, "width classes"], Float[np.ndarray, "classes"]]

ABSENT = -1e9  # the logit of a class without examples: finite, and never the largest
_BLOCK = 1024  # rows of a matrix of similarities that are held at once


@shaped
def ridge(features: Features, labels: Labels, classes: int, lam: float = 1.0) -> Readout:
    """The linear readout with the least Σ‖x W + b − one-hot‖² + λ‖W‖², a sum and not a mean.

    The intercept is not penalised. The scores of an example sum to 1, and those of a class
    without examples are 0, so that such a class is never predicted.

    Args:
      features: `[batch, width]`.
      labels: `[batch]`, integers in [0, classes).
      classes: C.
      lam: λ > 0.

    Returns:
      W `[width, C]` and b `[C]`, float64.

    Raises:
      UserError: labels out of range.
    """
    from sklearn.linear_model import Ridge  # slow to import

    checks.within("labels", labels, classes)
    model = Ridge(alpha=checks.positive("lam", lam)).fit(features, np.eye(classes)[labels])
    # One class comes back without its axis.
    return np.reshape(model.coef_, (classes, -1)).T, np.reshape(model.intercept_, classes)


@shaped
def softmax(features: Features, labels: Labels, classes: int, lam: float = 1.0) -> Readout:
    """Multinomial logistic regression: the least Σ cross-entropy + ½ λ‖W‖², a sum and not a mean.

    The intercept is not penalised. λ is 1/C of scikit-learn, also with two classes, where
    scikit-learn itself fits one vector, which halves the penalty.

    Args:
      features: `[batch, width]`.
      labels: `[batch]`, integers in [0, classes), of at least two different classes.
      classes: C.
      lam: λ > 0.

    Returns:
      W `[width, C]` and b `[C]`, float64. A class without examples has zeros in W and −1e9 in b.

    Raises:
      UserError: labels out of range, or all the same.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import

    checks.within("labels", labels, classes)
    lam = checks.positive("lam", lam)
    present = np.unique(labels)
    if len(present) < 2:
        raise UserError(f"labels: got class {present[0]} only; expected at least two classes")
    two = len(present) == 2
    # The intercept takes up the mean, and the optimiser is spared it.
    mean = features.mean(axis=0)
    model = LogisticRegression(C=(2 if two else 1) / lam, tol=1e-6, max_iter=5000)
    model.fit(features - mean, labels)
    weights, bias = model.coef_, model.intercept_
    if two:
        weights, bias = np.vstack([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    kernel = np.zeros((features.shape[1], classes))
    kernel[:, present] = weights.T
    intercept = np.full(classes, ABSENT)
    intercept[present] = bias - mean @ weights.T
    return kernel, intercept


@shaped
def knn_logits(
    features: Float[Array, "batch width"],
    bank: Float[Array, "bank width"],
    bank_labels: Integer[Array, "bank"],
    classes: int,
    k: int = 20,
    temperature: float | Scalar = 0.07,
) -> Float[Array, "batch classes"]:
    """The logarithm of the votes of the k nearest examples, each with exp(cosine / temperature).

    The softmax of it is each class's share of the votes. Under `jax.jit`, `classes` and `k` are
    static. It holds `[batch, bank]` similarities: bring a large set in batches.

    Args:
      features: `[batch, width]`.
      bank: `[bank, width]`, labelled examples.
      bank_labels: `[bank]`, integers in [0, classes).
      classes: C.
      k: how many neighbours vote, in [1, bank]; 20 in DINO, 200 in the paper.
      temperature: > 0.

    Returns:
      `[batch, C]`, finite; −1e9 for a class that no neighbour votes for.

    Raises:
      UserError: k out of range; outside of a trace, numbers not finite and labels out of range.

    Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination",
    section 3.4.
    """
    x = arrays.finite("features", features)
    bank = arrays.finite("bank", bank).astype(x.dtype)
    arrays.within("bank_labels", bank_labels, classes)
    if not 1 <= k <= len(bank):
        raise wrong("k", k, f"1…{len(bank)} (the size of the bank)")
    return _log_votes(x, bank, bank_labels, jnp.asarray(temperature), classes, k)


@shaped
def class_relationship(
    source_probabilities: Float[np.ndarray, "n source"],
    labels: Integer[np.ndarray, "n"],
    classes: int,
) -> Float[np.ndarray, "classes source"]:
    """p(source class | target class): the mean source softmax of each target class's examples.

    Args:
      source_probabilities: `[n, source classes]`, each row a distribution.
      labels: `[n]`, target classes, integers in [0, classes).
      classes: C.

    Returns:
      `[C, source classes]`, float64, each row a distribution.

    Raises:
      UserError: rows that are no distributions, labels out of range, a class without examples.

    You et al. 2020, "Co-Tuning for Transfer Learning", the direct approach of section 3.2.
    """
    checks.within("labels", labels, classes)
    p = source_probabilities
    bad = np.flatnonzero((p.min(axis=1) < 0) | (np.abs(p.sum(axis=1) - 1) > 1e-2))
    if len(bad):
        raise UserError(
            f"source_probabilities: got row {bad[0]} with sum {p[bad[0]].sum():.4g} and minimum "
            f"{p[bad[0]].min():.4g}; expected distributions"
        )
    sizes = np.bincount(labels, minlength=classes)
    if (sizes == 0).any():
        absent = np.flatnonzero(sizes == 0).tolist()
        raise UserError(f"labels: got no example of classes {absent}; expected some of each")
    return np.eye(classes)[labels].T @ p / sizes[:, None]


@shaped
def neighbours(features: Float[Array, "n width"], k: int) -> Integer[np.ndarray, "n k"]:
    """The k examples with the largest cosine to each example, itself left out.

    Args:
      features: `[n, width]`; a zero vector has a cosine of 0 with all.
      k: in [1, n − 1].

    Returns:
      int32 `[n, k]`, nearest first; of equals the first.

    Raises:
      UserError: numbers that are not finite, k out of range.
    """
    x, n = arrays.unit(arrays.finite("features", features)), len(features)
    k = checks.count("k", k, 1, n - 1, "the number of other examples")
    blocks = [_nearest(x[i : i + _BLOCK], x, jnp.int32(i), k) for i in range(0, n, _BLOCK)]
    return np.concatenate([np.asarray(block) for block in blocks])


@jax.jit(static_argnames=("classes", "k"))
def _log_votes(
    x: Array, bank: Array, labels: Array, temperature: Array, classes: int, k: int
) -> Array:
    with jax.default_matmul_precision("highest"):
        cosine_BxN = arrays.unit(x) @ arrays.unit(bank).T
    cosine_Bxk, which_Bxk = jax.lax.top_k(cosine_BxN, k)
    votes_Bxk = cosine_Bxk / temperature.astype(x.dtype)
    classes_C = jnp.arange(classes, dtype=labels.dtype)
    mine_BxkxC = labels[which_Bxk][..., None] == classes_C[None, None]
    voted_for_BxC = mine_BxkxC.any(axis=1)
    # A sum over nothing would have a NaN gradient, even where it is not taken.
    mine_BxkxC = mine_BxkxC | ~voted_for_BxC[:, None]
    votes_BxkxC = jnp.broadcast_to(votes_Bxk[..., None], mine_BxkxC.shape)
    log_votes_BxC = jax.nn.logsumexp(votes_BxkxC, axis=1, where=mine_BxkxC)
    return jnp.where(voted_for_BxC, log_votes_BxC, ABSENT)


@jax.jit(static_argnames="k")
def _nearest(block: Array, x: Array, start: Array, k: int) -> Array:
    with jax.default_matmul_precision("highest"):
        cosine = block @ x.T
    rows = jnp.arange(len(block))
    return jax.lax.top_k(cosine.at[rows, rows + start].set(-jnp.inf), k)[1].astype(jnp.int32)

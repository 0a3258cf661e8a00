"""Readouts of frozen features against values worked by hand, and against scikit-learn."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from tljax.errors import UserError
from tljax.solvers import readout
from tljax.solvers.readout import class_relationship, knn_logits, neighbours, ridge, softmax

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 5)) + 3
Y = RANDOM.choice([0, 1, 3], 40)  # class 2 of 4 does not occur


def loss(kernel, bias, x, y, per_example, penalty):
    return jnp.sum(per_example(x @ kernel + bias[None], y)) + penalty * jnp.sum(kernel**2)


def squares(scores, y):
    return jnp.sum((scores - jax.nn.one_hot(y, scores.shape[1])) ** 2, axis=1)


def cross_entropy(scores, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(scores), y[:, None], axis=1)[:, 0]


def gradients(kernel, bias, x, y, per_example, penalty):
    with jax.enable_x64(True):
        arguments = (jnp.array(kernel), jnp.array(bias), jnp.array(x), jnp.array(y))
        result = jax.grad(loss, argnums=(0, 1))(*arguments, per_example, penalty)
        return [np.asarray(single) for single in result]


def test_ridge_by_hand():
    """Features 0 and 2, centred ∓1; targets of class 1, centred ∓½: W = 1/(2 + λ) = ¼ at λ = 2.

    b = ½ − ¼·1; class 0 is 1 minus class 1.
    """
    kernel, bias = ridge([[0.0], [2.0]], [0, 1], 2, lam=2.0)
    np.testing.assert_allclose(kernel, [[-0.25, 0.25]], rtol=1e-12)
    np.testing.assert_allclose(bias, [0.75, 0.25], rtol=1e-12)


@pytest.mark.parametrize("rows", [40, 3])
def test_ridge_minimises_its_objective(rows):
    kernel, bias = ridge(X[:rows], Y[:rows], 4, lam=0.7)
    assert kernel.shape == (5, 4) and bias.shape == (4,) and kernel.dtype == np.float64
    for gradient in gradients(kernel, bias, X[:rows], Y[:rows], squares, 0.7):
        np.testing.assert_allclose(gradient, np.zeros_like(gradient), atol=1e-10)


def test_ridge_never_says_a_class_without_examples():
    kernel, bias = ridge(X, Y, 4)
    np.testing.assert_allclose((X @ kernel + bias).sum(axis=1), np.ones(40), rtol=1e-10)
    np.testing.assert_allclose(kernel[:, 2], np.zeros(5), atol=1e-12)
    assert (
        abs(bias[2]) < 1e-12
        and not (RANDOM.normal(size=(50, 5)) @ kernel + bias)[:, 2].max() > 1e-10
    )


def test_ridge_of_one_class_always_says_it():
    for classes in (1, 3):
        kernel, bias = ridge(X, np.zeros(40, int), classes)
        np.testing.assert_allclose(kernel, np.zeros((5, classes)), atol=1e-12)
        np.testing.assert_allclose(bias, np.eye(classes)[0], atol=1e-12)


def test_softmax_by_hand():
    """Features ∓1 of classes 0 and 1: by symmetry W = (−u, u) and b = 0.

    2 log(1 + e^(−2u)) + ½ λ·2u² is stationary where λ = 2σ(−2u)/u. At u = ½ log 3 σ is ¼, so
    λ = 1/log 3.
    """
    kernel, bias = softmax([[-1.0], [1.0]], [0, 1], 2, lam=1 / math.log(3))
    np.testing.assert_allclose(kernel, [[-math.log(3) / 2, math.log(3) / 2]], rtol=1e-4)
    np.testing.assert_allclose(bias, [0, 0], atol=1e-6)


@pytest.mark.parametrize("kept", [(0, 3), (0, 1, 3)])
def test_softmax_minimises_its_objective(kept):
    """With two classes too, where scikit-learn fits a single vector."""
    x, y = X[np.isin(Y, kept)], Y[np.isin(Y, kept)]
    kernel, bias = softmax(x, y, 4, lam=0.3)
    assert kernel.shape == (5, 4) and bias.shape == (4,)
    of_kernel, of_bias = gradients(kernel, bias, x, y, cross_entropy, 0.15)
    np.testing.assert_allclose(of_kernel, np.zeros((5, 4)), atol=1e-3)
    np.testing.assert_allclose(of_bias, np.zeros(4), atol=1e-3)
    wrong, _ = gradients(1.1 * kernel, bias, x, y, cross_entropy, 0.15)
    assert np.abs(wrong).max() > 0.03  # the tolerance above would see an error of 10 %


def test_softmax_classes_without_examples_are_never_said_and_stay_finite():
    kernel, bias = softmax(X, Y, 6)
    for absent in (2, 4, 5):
        assert bias[absent] == readout.ABSENT and not kernel[:, absent].any()
    p = jax.nn.softmax(jnp.asarray(1e3 * X @ kernel + bias))
    assert np.isfinite(p).all() and not p[:, np.array([2, 4, 5])].any()


def test_softmax_does_not_depend_on_the_names_of_classes():
    """Classes 0, 1, 3 called 3, 0, 1."""
    kernel, bias = softmax(X, Y, 4)
    again, its_bias = softmax(X, np.array([3, 0, -1, 1])[Y], 4)
    np.testing.assert_allclose(again[:, [3, 0, 1]], kernel[:, [0, 1, 3]], atol=1e-4)
    np.testing.assert_allclose(its_bias[[3, 0, 1]], bias[[0, 1, 3]], atol=1e-3)


@pytest.mark.parametrize("fit", [ridge, softmax])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"features": X * np.nan}, r"features: got nan at \[0, 0\]; expected finite numbers"),
        ({"features": X[0]}, r"features: got float64 \[5\]"),
        ({"labels": Y[:-1]}, r"labels: got int64 \[39\]; expected integer \[batch=40"),
        ({"classes": 3}, r"labels: got 3 at \[\d+\]; expected classes in 0…2"),
        ({"lam": 0.0}, "lam: got 0.0; expected a finite number above 0"),
        ({"lam": np.nan}, "lam: got nan"),
    ],
)
def test_fits_refuse(fit, changed, message):
    with pytest.raises(UserError, match=message):
        fit(**{"features": X, "labels": Y, "classes": 4, **changed})


def test_softmax_refuses_a_single_class():
    with pytest.raises(UserError, match="labels: got class 1 only; expected at least two classes"):
        softmax(X, np.ones(40, int), 4)


BANK = np.array([[2.0, 0.0], [0.0, 1.0], [-3.0, 0.0]])
BANK_LABELS = np.array([0, 1, 0])


@pytest.mark.parametrize(
    ("k", "expected"),
    [(1, [2, -1e9, -1e9]), (2, [2, 0, -1e9]), (3, [math.log(math.exp(2) + math.exp(-2)), 0, -1e9])],
)
def test_knn_by_hand(k, expected):
    """Cosines 1, 0, −1; at a temperature of ½ the votes are e², 1, e⁻²."""
    logits = knn_logits([[5.0, 0.0]], BANK, BANK_LABELS, 3, k=k, temperature=0.5)
    np.testing.assert_allclose(logits, [expected], rtol=1e-6, atol=1e-7)


def test_knn_is_the_loop_over_neighbours():
    x = RANDOM.normal(size=(7, 5))
    with jax.enable_x64(True):
        logits = knn_logits(x, X, Y, 4, k=10, temperature=0.1)
        assert logits.dtype == jnp.float64
    for row, result in zip(x, np.asarray(logits), strict=True):
        cosine = X @ row / np.linalg.norm(X, axis=1) / np.linalg.norm(row)
        votes = np.zeros(4)
        for i in np.argsort(-cosine)[:10]:
            votes[Y[i]] += np.exp(cosine[i] / 0.1)
        shares = np.exp(result - result.max()) / np.exp(result - result.max()).sum()
        np.testing.assert_allclose(shares, votes / votes.sum(), rtol=1e-12)
        np.testing.assert_allclose(result[votes > 0], np.log(votes[votes > 0]), rtol=1e-12)


def test_knn_under_jit_vmap_and_a_traced_temperature():
    static = jax.jit(knn_logits, static_argnums=(3, 4))
    arguments = jnp.array(X[:6]), jnp.array(X), jnp.array(Y), 4, 10
    logits = static(*arguments, 0.07)
    np.testing.assert_allclose(logits, knn_logits(*arguments), rtol=1e-5)
    single = jax.jit(jax.vmap(lambda row: knn_logits(row[None], X, Y, 4, 10)[0]))(arguments[0])
    np.testing.assert_allclose(single, logits, rtol=1e-5)


def test_knn_is_finite_at_extremes_and_its_gradient_too():
    x = jnp.array([[0.0, 0.0], [1e-25, 0.0], [1e25, 1.0]])
    for temperature in (1e-3, 1e3):
        logits = knn_logits(x, BANK, BANK_LABELS, 3, 2, temperature)
        assert np.isfinite(logits).all()
    gradient = jax.jit(
        jax.grad(lambda x: jax.nn.log_softmax(knn_logits(x, BANK, BANK_LABELS, 3, 2)).sum())
    )
    assert np.isfinite(gradient(jnp.array([[1.0, 0.5]]))).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"k": 4}, r"k: got 4; expected 1…3 \(the size of the bank\)"),
        ({"k": 0}, "k: got 0"),
        ({"features": [[np.nan, 0.0]]}, "features: got nan"),
        ({"bank": BANK[:, :1]}, r"bank: got float32 \[3, 1\]; expected float \[bank, width=2"),
        ({"bank_labels": [0, 1, 3]}, r"bank_labels: got 3 at \[2\]; expected classes in 0…2"),
    ],
)
def test_knn_refuses(changed, message):
    arguments = {"features": BANK, "bank": BANK, "bank_labels": BANK_LABELS, "classes": 3, "k": 1}
    with pytest.raises(ValueError, match=message):
        knn_logits(**{**arguments, **changed})


def test_relationship_by_hand():
    """Class 0 has two examples: their mean; class 1 has one."""
    p = [[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.1, 0.5, 0.4]]
    result = class_relationship(p, [0, 1, 0], 2)
    np.testing.assert_allclose(result, [[0.3, 0.4, 0.3], [0.1, 0.8, 0.1]], rtol=1e-12)


def test_relationship_rows_are_distributions_whatever_the_order():
    p, y = RANDOM.dirichlet(np.ones(6), 30), np.arange(30) % 4
    result = class_relationship(p, y, 4)
    np.testing.assert_allclose(result.sum(axis=1), np.ones(4), rtol=1e-12)
    order = RANDOM.permutation(30)
    np.testing.assert_allclose(class_relationship(p[order], y[order], 4), result, rtol=1e-12)
    half = class_relationship(np.asarray(p, np.float16), y, 4)  # what half precision rounds is fine
    np.testing.assert_allclose(half, result, atol=1e-3)


@pytest.mark.parametrize(
    ("p", "labels", "message"),
    [
        ([[0.5, 0.5]] * 3, [0, 2, 2], r"labels: got no example of classes \[1, 3\]"),
        ([[3.0, -2.0]] * 3, [0, 1, 2], "row 0 with sum 1 and minimum -2; expected distributions"),
        ([[0.5, 0.5], [0.5, 0.9], [1, 0]], [0, 1, 2], "row 1 with sum 1.4"),
        ([[np.nan, 0.5]] * 3, [0, 1, 2], "source_probabilities: got nan"),
        ([[0.5, 0.5]] * 3, [0, 1, 4], r"labels: got 4 at \[2\]"),
        ([[0.5, 0.5]] * 3, [0, 1], r"labels: got int64 \[2\]; expected integer \[n=3"),
    ],
)
def test_relationship_refuses(p, labels, message):
    with pytest.raises(UserError, match=message):
        class_relationship(p, labels, 4)


def test_neighbours_by_hand():
    """Angles 0°, 10°, 30° and 170°: the length of a vector does not matter."""
    angles, lengths = np.radians([0, 10, 30, 170]), np.array([[1.0], [9.0], [0.1], [2.0]])
    x = lengths * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    result = neighbours(x, 3)
    assert result.dtype == np.int32
    np.testing.assert_array_equal(result, [[1, 2, 3], [0, 2, 3], [1, 0, 3], [2, 1, 0]])


def test_neighbours_of_duplicates_leave_out_themselves_only():
    result = neighbours(np.ones((4, 3)), 3)
    np.testing.assert_array_equal(np.sort(result), [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])


def test_neighbours_are_those_of_scikit_learn_and_of_any_block(monkeypatch):
    x = RANDOM.normal(size=(50, 6))
    result = neighbours(x, 4)
    exact = NearestNeighbors(n_neighbors=5, metric="cosine").fit(x).kneighbors(x)[1]
    np.testing.assert_array_equal(result, exact[:, 1:])
    monkeypatch.setattr(readout, "_BLOCK", 16)
    np.testing.assert_array_equal(neighbours(x, 4), result)


def test_neighbours_refuse():
    for k in (0, 40, 2.0, True):
        with pytest.raises(UserError, match=f"k: got {k}; expected an integer"):
            neighbours(X, k)
    assert neighbours(X, 39).shape == (40, 39)
    with pytest.raises(UserError, match="features: got nan"):
        neighbours(X * np.nan, 2)

"""Zero-shot solvers against values worked by hand, closed forms and scipy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from scipy.linalg import solve_sylvester

from tljax.errors import UserError
from tljax.solvers.zero_shot import calibrated_stacking, conse, cosine_scores, dap, eszsl, sae

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(20, 5))
Y = RANDOM.integers(0, 4, 20)
S = RANDOM.normal(size=(4, 3))


def closed(x, y, s, gamma, lam, negative=-1.0):
    """ESZSL as the paper writes it, with explicit inverses."""
    targets = np.where(np.eye(len(s))[y] == 1, 1.0, negative)
    left = np.linalg.inv(x.T @ x + gamma * np.eye(x.shape[1]))
    return left @ x.T @ targets @ s @ np.linalg.inv(s.T @ s + lam * np.eye(s.shape[1]))


@pytest.mark.parametrize(("negative", "expected"), [(-1.0, -1 / 9), (0.0, -1 / 18)])
def test_eszsl_by_hand(negative, expected):
    """X = (1, 2)ᵀ, S = (1, −1)ᵀ: XᵀX + 1 = 6 and SᵀS + 1 = 3.

    With targets ±1 YS = (2, −2) and XᵀYS = −2; with targets 0 and 1 half of it.
    """
    v = eszsl([[1.0], [2.0]], [0, 1], [[1.0], [-1.0]], negative=negative)
    np.testing.assert_allclose(v, [[expected]], rtol=1e-6)


def test_eszsl_is_the_closed_form():
    np.testing.assert_allclose(eszsl(X, Y, S, 0.3, 2.0), closed(X, Y, S, 0.3, 2.0), rtol=2e-5)
    with jax.enable_x64(True):
        v = eszsl(X, Y, S, 0.3, 2.0, 0.0)
        assert v.dtype == jnp.float64 and v.shape == (5, 3)
        np.testing.assert_allclose(v, closed(X, Y, S, 0.3, 2.0, 0.0), rtol=1e-12)


def test_eszsl_minimises_its_objective():
    gamma, lam = 0.3, 2.0
    with jax.enable_x64(True):
        x, s, targets = jnp.array(X), jnp.array(S), 2 * jax.nn.one_hot(Y, 4) - 1

        def objective(v):
            fit = jnp.sum((x @ v @ s.T - targets) ** 2)
            of_features = gamma * jnp.sum((v @ s.T) ** 2) + lam * jnp.sum((x @ v) ** 2)
            return fit + of_features + gamma * lam * jnp.sum(v**2)

        v = eszsl(X, Y, S, gamma, lam)
        np.testing.assert_allclose(jax.grad(objective)(v), np.zeros((5, 3)), atol=1e-11)
        assert np.abs(jax.grad(objective)(1.01 * v)).max() > 0.01


def test_eszsl_in_float32_where_the_gram_matrix_cannot_be_inverted():
    """Uncentred features of size 300: XᵀX has a condition of 1e9 with γ = 1."""
    x = 300 + 10 * RANDOM.normal(size=(400, 30))
    y, s = RANDOM.integers(0, 4, 400), RANDOM.normal(size=(4, 3))
    assert np.linalg.cond(x.T @ x + np.eye(30)) > 1e4
    scores, exact = x @ np.asarray(eszsl(x, y, s)) @ s.T, x @ closed(x, y, s, 1.0, 1.0) @ s.T
    np.testing.assert_allclose(scores, exact, atol=1e-3 * np.abs(exact).max())


def test_eszsl_with_fewer_examples_than_features_and_fewer_classes_than_attributes():
    x, s = RANDOM.normal(size=(3, 8)), RANDOM.normal(size=(2, 6))
    np.testing.assert_allclose(
        eszsl(x, [0, 1, 1], s), closed(x, [0, 1, 1], s, 1.0, 1.0), rtol=1e-4, atol=1e-6
    )


@settings(max_examples=20)
@given(st.permutations(range(4)), st.permutations(range(20)))
def test_eszsl_does_not_depend_on_the_order_of_classes_and_examples(classes, examples):
    renamed = np.argsort(classes)[Y][examples]  # row c of S is now row argsort(classes)[c]
    np.testing.assert_allclose(
        eszsl(X[examples], renamed, S[classes]), eszsl(X, Y, S), rtol=1e-4, atol=1e-6
    )


def test_eszsl_tells_unseen_classes():
    """Features are a random map of the attributes; two classes are held out."""
    s = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [1, 1, 0], [0, 1, 1]], float)
    mix, y = RANDOM.normal(size=(3, 10)), np.repeat(np.arange(6), 20)
    x = s[y] @ mix + 0.1 * RANDOM.normal(size=(120, 10))
    v = eszsl(x[y < 4], y[y < 4], s[:4])
    called = 4 + np.argmax(x[y >= 4] @ np.asarray(v) @ s[4:].T, axis=1)
    assert np.mean(called == y[y >= 4]) == 1.0


def test_eszsl_under_jit_and_a_sweep():
    gammas = jnp.array([0.1, 1.0, 10.0])
    swept = jax.jit(jax.vmap(lambda gamma: eszsl(X, Y, S, gamma, 2.0)))(gammas)
    single = [eszsl(X, Y, S, float(gamma), 2.0) for gamma in gammas]
    np.testing.assert_allclose(swept, jnp.stack(single), rtol=1e-4, atol=1e-6)
    all_traced = jax.jit(eszsl)(jnp.array(X), jnp.array(Y), jnp.array(S), 1.0, 2.0)
    np.testing.assert_allclose(all_traced, single[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"features": X * np.nan}, r"features: got nan at \[0, 0\]; expected finite"),
        ({"features": X[0]}, r"features: got float32 \[5\]; expected float \[batch, width\]"),
        ({"features": X[:0], "labels": Y[:0]}, r"features: got shape \[0, 5\]"),
        ({"labels": Y[:-1]}, r"labels: got int32 \[19\]; expected integer \[batch=20"),
        ({"labels": np.where(Y == 3, 4, Y)}, r"labels: got 4 at \[\d+\]; expected classes in 0…3"),
        ({"labels": -Y - 1}, "labels: got -"),
        ({"labels": Y * 1.0}, r"labels: got float32 \[20\]; expected integer"),
        ({"class_attributes": S * np.inf}, "class_attributes: got -?inf"),
        ({"gamma": 0.0}, "gamma: got 0.0; expected a finite number above 0"),
        ({"lam": -1}, "lam: got -1"),
        ({"lam": "x"}, "lam: got 'x'"),
    ],
)
def test_eszsl_refuses(changed, message):
    with pytest.raises(ValueError, match=message):
        eszsl(**{"features": X, "labels": Y, "class_attributes": S, **changed})


def test_shapes_are_checked_while_tracing():
    with pytest.raises(ValueError, match=r"labels: got int32 \[19\]; .*batch=20"):
        jax.jit(eszsl)(X, Y[:-1], S)
    with pytest.raises(ValueError, match=r"labels: got float32 \[20\]; expected integer"):
        jax.jit(eszsl)(X, jnp.array(Y, jnp.float32), S)


@pytest.mark.parametrize(("lam", "expected"), [(1.0, 6 / 7), (2.0, 9 / 12)])
def test_sae_by_hand(lam, expected):
    """X = (1, 2), S = (1, 1): SSᵀ = 2, XXᵀ = 5, SXᵀ = 3, so W = 3(1 + λ)/(2 + 5λ)."""
    np.testing.assert_allclose(sae([[1.0], [2.0]], [[1.0], [1.0]], lam), [[expected]], rtol=1e-14)


def test_sae_is_the_sylvester_solution_of_scipy():
    semantics, lam = S[Y], 0.7
    w = sae(X, semantics, lam)
    left, right = semantics.T @ semantics, lam * X.T @ X
    target = (1 + lam) * semantics.T @ X
    assert w.shape == (3, 5) and w.dtype == np.float64
    np.testing.assert_allclose(left @ w + w @ right, target, atol=1e-11)
    np.testing.assert_allclose(w, solve_sylvester(left, right, target), atol=1e-12)


def test_sae_minimises_its_objective():
    with jax.enable_x64(True):
        x, s = jnp.array(X).T, jnp.array(S[Y]).T

        def objective(w):
            return jnp.sum((x - w.T @ s) ** 2) + 0.7 * jnp.sum((w @ x - s) ** 2)

        w = jnp.array(sae(X, S[Y], 0.7))
        np.testing.assert_allclose(jax.grad(objective)(w), np.zeros((3, 5)), atol=1e-11)
        assert np.abs(jax.grad(objective)(1.01 * w)).max() > 0.01


def test_sae_gives_the_smallest_of_many_solutions():
    """10 examples of 20 features and 4 classes of 8 attributes: the equation is singular."""
    x, s = RANDOM.normal(size=(10, 20)), RANDOM.normal(size=(4, 8))[np.arange(10) % 4]
    w = sae(x, s)
    np.testing.assert_allclose(s.T @ s @ w + w @ x.T @ x, 2 * s.T @ x, atol=1e-11)
    # The smallest has no part that both sides send to zero.
    free_left = np.linalg.svd(s)[2][4:]
    free_right = np.linalg.svd(x)[2][10:]
    np.testing.assert_allclose(free_left @ w @ free_right.T, np.zeros((4, 10)), atol=1e-12)


def test_sae_tells_unseen_classes_both_ways():
    s = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [1, 1, 0], [0, 1, 1]], float)
    mix, y = RANDOM.normal(size=(3, 10)), np.repeat(np.arange(6), 20)
    x = s[y] @ mix + 0.1 * RANDOM.normal(size=(120, 10))
    w = sae(x[y < 4], s[y[y < 4]])
    there = cosine_scores(x[y >= 4] @ w.T, s[4:]).argmax(axis=1)
    back = cosine_scores(x[y >= 4], s[4:] @ w).argmax(axis=1)
    np.testing.assert_array_equal(there, y[y >= 4] - 4)
    np.testing.assert_array_equal(back, y[y >= 4] - 4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"features": X * np.nan}, "features: got nan"),
        ({"semantics": S}, r"semantics: got float64 \[4, 3\]; .*batch=20 of features"),
        ({"semantics": S[Y] * np.inf}, "semantics: got -?inf"),
        ({"lam": 0}, "lam: got 0; expected"),
    ],
)
def test_sae_refuses(changed, message):
    with pytest.raises(UserError, match=message):
        sae(**{"features": X, "semantics": S[Y], **changed})


LOGITS = [[math.log(3), 0.0]]  # probabilities ¾ and ½
PAIR = [[1, 0], [0, 1]]


def test_dap_by_hand():
    """Class (1, 0): log(¾/½) + log(½/½). Class (0, 1): log(¼/½) + log(½/½)."""
    np.testing.assert_allclose(dap(LOGITS, PAIR), [[math.log(1.5), -math.log(2)]], rtol=1e-6)


def test_dap_with_a_prior_by_hand():
    """With p(a₁) = ¼ the first attribute gives log(¾/¼) or log(¼/¾)."""
    scores = dap(LOGITS, PAIR, prior=[0.25, 0.5])
    np.testing.assert_allclose(scores, [[math.log(3), -math.log(3)]], rtol=1e-6)


@pytest.mark.parametrize("degenerate", [0.0, 1.0])
def test_dap_a_prior_that_says_nothing_is_a_half(degenerate):
    scores = dap(LOGITS, PAIR, prior=[degenerate, degenerate])
    np.testing.assert_array_equal(scores, dap(LOGITS, PAIR))


def test_dap_is_the_product_of_the_paper():
    logits, attributes = RANDOM.normal(size=(6, 4)), RANDOM.integers(0, 2, (3, 4))
    prior = RANDOM.uniform(0.1, 0.9, 4)
    p = 1 / (1 + np.exp(-logits))
    with jax.enable_x64(True):
        scores = dap(logits, attributes, prior)
        assert scores.dtype == jnp.float64
    for i in range(6):
        for c in range(3):
            at_class = np.where(attributes[c] == 1, p[i] / prior, (1 - p[i]) / (1 - prior))
            assert float(scores[i, c]) == pytest.approx(np.log(np.prod(at_class)), rel=1e-12)


def test_dap_is_finite_for_certain_logits_and_under_jit():
    logits = jnp.array([[1e4, -1e4], [-1e4, 1e4]])
    scores = jax.jit(lambda x: dap(x, PAIR, [0.0, 0.3]))(logits)
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores.argmax(axis=1), [0, 1])
    np.testing.assert_array_equal(jax.jit(dap)(logits, jnp.array(PAIR)), dap(logits, PAIR))
    single = jax.vmap(lambda x: dap(x[None], PAIR)[0])(logits)
    np.testing.assert_allclose(single, dap(logits, PAIR), rtol=1e-6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"attribute_logits": [[np.nan, 0.0]]}, "attribute_logits: got nan"),
        ({"class_attributes": [[1, 0, 1]]}, r"class_attributes: got float32 \[1, 3\]"),
        (
            {"class_attributes": [[0.5, 0]]},
            r"class_attributes: got 0.5 at \[0, 0\]; expected 0 and 1",
        ),
        ({"prior": [0.5]}, r"prior: got float32 \[1\]; .*attributes=2"),
        ({"prior": [0.5, 1.5]}, r"prior: got \[0.5, 1.5\]; expected numbers in \[0, 1\]"),
    ],
)
def test_dap_refuses(changed, message):
    with pytest.raises(ValueError, match=message):
        dap(**{"attribute_logits": LOGITS, "class_attributes": PAIR, **changed})


EMBEDDINGS = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize(
    ("top", "expected"),
    [(1, [1, 0]), (2, [0.625, 0.375]), (3, [0.7, 0.5]), (10, [0.7, 0.5])],
)
def test_conse_by_hand(top, expected):
    """p = (½, 0.3, 0.2). T = 2: (½(1, 0) + 0.3(0, 1))/0.8; T = 3: (½ + 0.2, 0.3 + 0.2)/1."""
    vectors = conse([[0.5, 0.3, 0.2]], EMBEDDINGS, top)
    np.testing.assert_allclose(vectors, [expected], rtol=1e-6)


@settings(max_examples=20)
@given(st.permutations(range(6)), st.sampled_from([1, 4]))
def test_conse_does_not_depend_on_the_order_of_classes(order, top):
    p = np.array([[0.3, 0.25, 0.2, 0.15, 0.07, 0.03]])
    embeddings = np.arange(12.0).reshape(6, 2) ** 2
    shuffled = conse(p[:, order], embeddings[order], top)
    np.testing.assert_allclose(shuffled, conse(p, embeddings, top), rtol=1e-5)


def test_conse_under_jit_vmap_and_float64():
    p = jnp.array([[0.5, 0.3, 0.2], [0.0, 0.0, 0.0]])
    vectors = jax.jit(conse, static_argnames="top")(p, jnp.array(EMBEDDINGS), top=2)
    np.testing.assert_allclose(vectors, [[0.625, 0.375], [0, 0]], rtol=1e-6)
    single = jax.vmap(lambda row: conse(row[None], EMBEDDINGS, 2)[0])(p)
    np.testing.assert_allclose(single, vectors, rtol=1e-6)
    with jax.enable_x64(True):
        exact = conse(np.array([[0.5, 0.3, 0.2]]), EMBEDDINGS, 2)
        assert exact.dtype == jnp.float64
        np.testing.assert_allclose(exact, [[0.625, 0.375]], rtol=1e-15)


def test_conse_refuses():
    with pytest.raises(ValueError, match="top: got 0; expected at least 1"):
        conse([[0.5, 0.5]], PAIR, 0)
    with pytest.raises(ValueError, match=r"seen_embeddings: got float32 \[2, 2\]; .*seen=3"):
        conse([[0.5, 0.3, 0.2]], PAIR)
    with pytest.raises(ValueError, match="probabilities: got nan"):
        conse([[np.nan, 0.5]], PAIR)


def test_cosine_by_hand():
    """(3, 4)·(1, 0)/5, (3, 4)·(1, 1)/(5√2); and a zero vector."""
    scores = cosine_scores([[3.0, 4.0], [0.0, 0.0]], [[1, 0], [2, 2], [0, 0]])
    np.testing.assert_allclose(scores, [[0.6, 1.4 / math.sqrt(2), 0], [0, 0, 0]], rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e30])
def test_cosine_does_not_depend_on_lengths(scale):
    with np.errstate(all="raise"):
        scores = cosine_scores(scale * np.array([[3.0, 4.0]]), [[1.0, 1.0]])
    np.testing.assert_allclose(scores, [[1.4 / math.sqrt(2)]], rtol=1e-6)


def test_cosine_gradient_at_zero_is_finite_and_right_elsewhere():
    gradient = jax.grad(lambda x: cosine_scores(x, [[1.0, 1.0]]).sum())(jnp.zeros((2, 2)))
    assert np.isfinite(gradient).all()
    with jax.enable_x64(True):
        check_grads(lambda x: cosine_scores(x, S), (jnp.array(X[:3, :3]),), order=1, modes=["rev"])


def test_cosine_under_jit_vmap_and_float64():
    x = jnp.array(X[:4, :3])
    scores = jax.jit(cosine_scores)(x, jnp.array(S))
    single = jax.vmap(lambda row: cosine_scores(row[None], S)[0])(x)
    np.testing.assert_allclose(single, scores, rtol=1e-5, atol=1e-6)
    with jax.enable_x64(True):
        norms = np.linalg.norm(X[:4, :3], axis=1)[:, None] * np.linalg.norm(S, axis=1)[None]
        np.testing.assert_allclose(
            cosine_scores(X[:4, :3], S), X[:4, :3] @ S.T / norms, rtol=1e-12, atol=1e-15
        )
    with pytest.raises(ValueError, match="class_embeddings: got float32"):
        cosine_scores(X, S)


SCORES = np.array([[0.9, 0.5, 0.8], [0.2, 0.7, 0.1]])
SEEN = np.array([True, True, False])


def test_calibrated_stacking_by_hand():
    """0.9 − 0.2 < 0.8: the first example goes over to the unseen class, the second stays."""
    scores = calibrated_stacking(SCORES, SEEN, 0.2)
    np.testing.assert_allclose(scores, [[0.7, 0.3, 0.8], [0.0, 0.5, 0.1]], atol=1e-7)
    np.testing.assert_array_equal(calibrated_stacking(SCORES, SEEN, 0.0), SCORES.astype("f4"))


@pytest.mark.parametrize(("gamma", "expected"), [(np.inf, [2, 2]), (-np.inf, [0, 1])])
def test_an_infinite_gamma_decides_for_one_side(gamma, expected):
    called = calibrated_stacking(SCORES, SEEN, gamma)
    assert not np.isnan(called).any()
    if gamma > 0:
        np.testing.assert_array_equal(called.argmax(axis=1), expected)
    else:
        assert np.isposinf(called[:, SEEN]).all()


def test_calibrated_stacking_under_jit_vmap_and_float64():
    gammas = jnp.array([0.0, 0.2, 1.0])
    swept = jax.jit(jax.vmap(lambda gamma: calibrated_stacking(SCORES, SEEN, gamma)))(gammas)
    single = [calibrated_stacking(SCORES, SEEN, float(gamma)) for gamma in gammas]
    np.testing.assert_array_equal(swept, jnp.stack(single))
    with jax.enable_x64(True):
        exact = calibrated_stacking(SCORES, SEEN, 0.2)
        assert exact.dtype == jnp.float64
        np.testing.assert_array_equal(exact, SCORES - 0.2 * SEEN)


def test_calibrated_stacking_refuses():
    with pytest.raises(ValueError, match=r"seen: got int32 \[3\]; expected bool \[classes=3"):
        calibrated_stacking(SCORES, np.array([1, 1, 0]), 0.2)
    with pytest.raises(ValueError, match=r"seen: got bool \[2\]; expected bool \[classes=3"):
        calibrated_stacking(SCORES, SEEN[:2], 0.2)
    with pytest.raises(ValueError, match="scores: got nan"):
        calibrated_stacking(SCORES * np.nan, SEEN, 0.2)

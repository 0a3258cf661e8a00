"""Weights from the tasks' Gramian against gradients, other solvers and hand-worked values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from tljax.balance.gramian import cagrad, mgda, pcgrad

MGDA, CAGRAD, PCGRAD = jax.jit(mgda), jax.jit(cagrad, static_argnames="rescale"), jax.jit(pcgrad)
GRAMIAN_ONLY = {"pcgrad": lambda a: pcgrad(a, cycle(len(a))), "mgda": mgda, "cagrad": cagrad}


def cycle(tasks):
    """Every task meets the others in their own order."""
    return jnp.tile(jnp.arange(tasks)[None], (tasks, 1))


def gradients(tasks, size, seed):
    """Rows of different lengths, most of them in conflict with some other."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(tasks, size)) * rng.uniform(0.3, 3, size=(tasks, 1))


def outer(g):
    return jnp.asarray(g @ g.T)


def on_simplex(objective, tasks):
    """The least value that SLSQP finds from several starts, and where."""
    starts = [np.full(tasks, 1 / tasks), *np.random.default_rng(0).dirichlet(np.ones(tasks), 3)]
    result = [
        scipy.optimize.minimize(
            objective,
            start,
            method="SLSQP",
            bounds=[(0, 1)] * tasks,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            options={"ftol": 1e-15, "maxiter": 1000},
        ).x
        for start in starts
    ]
    return min((np.clip(x, 0, 1) / np.clip(x, 0, 1).sum() for x in result), key=objective)


def test_pcgrad_by_hand():
    # g_0 = (1, 0), g_1 = (−1, 1): A = [[1, −1], [−1, 2]]. g_0 loses (−1/2) g_1: weights 1, ½.
    # g_1 loses (−1/1) g_0: weights 1, 1. The sum is 2, 3/2.
    weights = PCGRAD(jnp.array([[1.0, -1.0], [-1.0, 2.0]]), jnp.array([[1], [0]]))
    np.testing.assert_allclose(weights, [2, 1.5], rtol=1e-6)


def direct_pcgrad(g, order):
    """Algorithm 1 of the paper on the gradients themselves."""
    total = np.zeros_like(g[0])
    for task, others in enumerate(order):
        running = g[task].copy()
        for other in others:
            if other != task and running @ g[other] < 0:
                running -= running @ g[other] / (g[other] @ g[other] + 1e-8) * g[other]
        total += running
    return total


@pytest.mark.parametrize("tasks", [2, 3, 6])
def test_pcgrad_is_the_surgery_on_the_gradients(tasks):
    with jax.enable_x64(True):
        outcomes = []
        for seed in range(8):
            g = gradients(tasks, 4, seed)
            rng = np.random.default_rng(seed)
            order = np.stack([rng.permutation(tasks) for _ in range(tasks)])
            expected = direct_pcgrad(g, order)
            np.testing.assert_allclose(g.T @ PCGRAD(outer(g), order), expected, rtol=1e-9)
            # Without the entry that is skipped.
            rest = np.stack([row[row != task] for task, row in enumerate(order)])
            np.testing.assert_allclose(g.T @ PCGRAD(outer(g), rest), expected, rtol=1e-9)
            outcomes.append(np.allclose(expected, g.sum(0)))
        assert not all(outcomes)  # there were conflicts


def test_the_order_of_pcgrad_matters_and_nothing_else_without_conflict():
    a = outer(gradients(4, 2, 0))
    assert not np.allclose(PCGRAD(a, cycle(4)), PCGRAD(a, cycle(4)[:, ::-1]))
    np.testing.assert_array_equal(PCGRAD(jnp.array([[1.0, 0.5], [0.5, 2.0]]), cycle(2)), [1, 1])


def test_mgda_by_hand():
    # Orthogonal gradients: w ∝ 1/‖g‖². A = diag(1, 4): 4/5, 1/5.
    np.testing.assert_allclose(MGDA(jnp.diag(jnp.array([1.0, 4.0]))), [0.8, 0.2], atol=1e-6)
    # g_1 = 2 g_0: the shorter one is the nearest. On the face, one weight is 0.
    np.testing.assert_allclose(MGDA(jnp.array([[1.0, 2.0], [2.0, 4.0]])), [1, 0], atol=1e-5)
    # Opposite: (2/3)·1 − (1/3)·2 = 0.
    np.testing.assert_allclose(
        MGDA(jnp.array([[1.0, -2.0], [-2.0, 4.0]])), [2 / 3, 1 / 3], atol=1e-6
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tasks", [3, 8])
def test_mgda_is_the_minimum(tasks, dtype):
    with jax.enable_x64(True):
        for seed in range(6):
            g = gradients(tasks, 10, seed) + (seed % 3)
            weights = MGDA(outer(g).astype(dtype))
            assert weights.dtype == dtype
            a, weights = g @ g.T, np.asarray(weights, np.float64)
            expected = on_simplex(lambda w, a=a: w @ a @ w / np.trace(a), tasks)
            np.testing.assert_allclose(weights, expected, atol=1e-5)
            assert weights.min() >= 0 and weights.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("tasks", [2, 8])
@pytest.mark.parametrize("size", [2, 50])
def test_mgda_descends_on_every_task(tasks, size):
    """⟨g_i, d⟩ ≥ ‖d‖² for all i, the optimality of the shortest vector of a convex hull."""
    for seed in range(6):
        g = gradients(tasks, size, seed).astype(np.float32)
        direction = g.T @ MGDA(outer(g))
        scale = np.square(g).sum(1).mean()
        assert (g @ direction >= direction @ direction - 1e-6 * scale).all()


def test_cagrad_by_hand():
    # Orthogonal unit gradients: b = ½ each, ‖ḡ‖ = √½; w is ½ by symmetry, so g_w = ḡ and
    # ḡ + ½ ḡ has weights ¾. Rescaled by 1/(1 + ¼) they are 3/5.
    np.testing.assert_allclose(CAGRAD(jnp.eye(2), 0.5, rescale=False), [0.75, 0.75], rtol=1e-5)
    np.testing.assert_allclose(CAGRAD(jnp.eye(2)), [0.6, 0.6], rtol=1e-5)
    # One task: (1 + c) g / (1 + c²).
    np.testing.assert_allclose(CAGRAD(jnp.array([[9.0]]), 0.4), [1.4 / 1.16], rtol=1e-6)
    # c = 0: the mean gradient.
    np.testing.assert_allclose(CAGRAD(outer(gradients(3, 4, 0)), 0.0), [1 / 3] * 3, rtol=1e-6)


def objective_cagrad(a, c):
    radius = c * np.sqrt(a.mean() + 1e-8)
    return lambda w: w @ a.mean(1) + radius * np.sqrt(max(w @ a @ w, 0) + 1e-8)


@pytest.mark.parametrize("tasks", [2, 8])
@pytest.mark.parametrize("c", [0.4, 0.9])
def test_cagrad_is_that_of_slsqp(tasks, c):
    with jax.enable_x64(True):
        for seed in range(4):
            g = gradients(tasks, 10, seed)
            a = g @ g.T
            w = on_simplex(objective_cagrad(a, c), tasks)
            radius = c * np.sqrt(a.mean() + 1e-8)
            expected = g.mean(0) + radius / np.sqrt(w @ a @ w + 1e-8) * (g.T @ w)
            actual = g.T @ CAGRAD(jnp.asarray(a), c, rescale=False)
            scale = np.linalg.norm(expected)
            np.testing.assert_allclose(actual, expected, atol=2e-4 * scale)
            single = g.T @ CAGRAD(jnp.asarray(a, jnp.float32), jnp.float64(c), rescale=False)
            np.testing.assert_allclose(single, expected, atol=1e-3 * scale)
            # It is no further from the mean gradient than c of its length.
            away = np.linalg.norm(actual - g.mean(0))
            assert away == pytest.approx(c * np.linalg.norm(g.mean(0)), rel=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("c", [0.5, 0.99])
def test_cagrad_where_the_worst_mixture_nearly_vanishes(c, dtype):
    """Many gradients in few dimensions: g_w can be 0, where the objective has a kink."""
    with jax.enable_x64(True):
        for seed in range(12):
            g = gradients(8, 2, seed)
            a = g @ g.T
            weights = CAGRAD(outer(g).astype(dtype), c, rescale=False)
            assert np.isfinite(weights).all() and weights.dtype == dtype
            w = np.asarray(weights - 1 / 8, np.float64)
            objective = objective_cagrad(a, c)
            best = objective(on_simplex(objective, 8))
            assert objective(w / w.sum()) - best <= 1e-4 * np.trace(a) / 8


@pytest.mark.parametrize("name", GRAMIAN_ONLY)
def test_tasks_may_be_renamed_and_all_gradients_scaled(name):
    a = outer(gradients(4, 6, 1)).astype(jnp.float32)
    method = jax.jit(GRAMIAN_ONLY[name])
    weights = method(a)
    for scale in (1e-3, 1e4):
        np.testing.assert_allclose(method(scale * a), weights, rtol=1e-3, atol=1e-5)
    order = jnp.array([2, 0, 3, 1])
    if name == "pcgrad":  # the order is renamed with them
        renamed = jnp.argsort(order)[cycle(4)][order]
        np.testing.assert_allclose(PCGRAD(a[order][:, order], renamed), weights[order], rtol=1e-5)
    else:
        np.testing.assert_allclose(method(a[order][:, order]), weights[order], atol=1e-5)


@pytest.mark.parametrize("name", GRAMIAN_ONLY)
def test_extreme_gramians(name):
    method = jax.jit(GRAMIAN_ONLY[name])
    spread = jnp.array([1e-4, 1.0, 1e4])
    for a in (
        jnp.zeros((3, 3)),
        jnp.ones((3, 3)),
        1e8 * jnp.ones((3, 3)),
        1e-20 * jnp.eye(3),
        -jnp.ones((3, 3)) + 2 * jnp.eye(3),  # not a Gramian: rounding at its worst
        jnp.outer(spread, spread) * jnp.array([[1.0, -0.5, 0], [-0.5, 1, -0.5], [0, -0.5, 1]]),
        jnp.zeros((3, 3)).at[0, 0].set(1.0),
    ):
        assert jnp.isfinite(method(a)).all(), a
    single = method(jnp.array([[4.0]]))
    np.testing.assert_allclose(single, [1.2 if name == "cagrad" else 1.0], rtol=1e-6)
    assert method(jnp.eye(3, dtype=jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize("name", GRAMIAN_ONLY)
def test_under_vmap(name):
    a = jnp.stack([outer(gradients(3, 5, seed)) for seed in range(4)]).astype(jnp.float32)
    batched = jax.jit(jax.vmap(GRAMIAN_ONLY[name]))(a)
    method = jax.jit(GRAMIAN_ONLY[name])
    np.testing.assert_allclose(batched, jnp.stack([*map(method, a)]), rtol=1e-4, atol=1e-5)


def test_mgda_of_stationary_points_with_gradients_of_all_sizes():
    """In float32 there is nothing left to gain after some steps, and nothing may be lost."""
    rng = np.random.default_rng(0)
    g = rng.normal(size=(500, 8, 2)) * 10 ** rng.uniform(-3, 3, size=(500, 8, 1))
    a = (g @ g.transpose(0, 2, 1)).astype(np.float32)
    w = np.asarray(jax.jit(jax.vmap(mgda))(a), np.float64)
    slope = np.einsum("bij,bj->bi", a, w)
    gap = (w * slope).sum(axis=1) - slope.min(axis=1)
    assert (gap <= 1e-6 * np.trace(a, axis1=1, axis2=2) / 8).all()


def test_shapes_that_do_not_fit():
    for name, method in (("mgda", mgda), ("cagrad", cagrad)):
        with pytest.raises(ValueError, match=rf"^{name}: gramian: got float32 \[2, 3\]"):
            method(jnp.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"^pcgrad: order: got int32 \[3\]; .*tasks=3 of gramian"):
        pcgrad(jnp.eye(3), jnp.arange(3))

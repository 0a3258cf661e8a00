"""Weights from losses, and every balancer from step to step."""

import functools
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tljax.balance import (
    BALANCERS,
    dynamic_weight_average,
    famo,
    famo_gradient,
    gradnorm,
)
from tljax.errors import UserError
from tljax.phase.phase import balance

GRAMIAN = jnp.array([[4.0, -1.0, 0.5], [-1.0, 1.0, -0.5], [0.5, -0.5, 2.0]])


def test_dynamic_weight_average_by_hand():
    # Ratios ½ and ½ + 2 log 3 at T = 2: softmax(0, log 3) = ¼, ¾; times 2.
    before = jnp.array([2.0, 1.0])
    now = jnp.array([1.0, 0.5 + 2 * math.log(3)])
    np.testing.assert_allclose(dynamic_weight_average(now, before), [0.5, 1.5], rtol=1e-6)
    assert jnp.isfinite(dynamic_weight_average(now, jnp.zeros(2))).all()
    np.testing.assert_array_equal(dynamic_weight_average(jnp.zeros(2), jnp.zeros(2)), [1, 1])
    order = jnp.array([1, 0])
    np.testing.assert_allclose(dynamic_weight_average(now[order], before[order]), [1.5, 0.5])


def test_gradnorm_by_hand():
    # θ = 0: w = 1, 1; G = 1, 3, mean 2. L/L⁰ = ½, 1: r = 2/3, 4/3. At α = 1 the targets are
    # 4/3, 8/3: |1 − 4/3| + |3 − 8/3| = 2/3.
    arguments = jnp.zeros(2), jnp.array([1.0, 2.0]), jnp.array([2.0, 2.0]), jnp.array([1.0, 3.0])
    assert float(gradnorm(*arguments, 1.0)) == pytest.approx(2 / 3, rel=1e-6)
    # d/dθ of −w_0 · 1 + w_1 · 3, with dw_0/dθ_0 = 2 · ¼ = ½ and dw_1/dθ_0 = −½: −2, 2.
    pulls = jax.grad(gradnorm, argnums=(0, 1, 2, 3))(*arguments, 1.0)
    np.testing.assert_allclose(pulls[0], [-2, 2], rtol=1e-6)
    np.testing.assert_array_equal(jnp.stack(pulls[1:]), 0)


def test_gradnorm_gradient_by_finite_differences():
    """The target is held where it is at θ, as a finite difference would not."""
    with jax.enable_x64(True):
        theta, losses, first, norms = jnp.array(np.random.default_rng(0).uniform(1, 2, (4, 3)))
        ratios = losses / first
        targets = (3 * jax.nn.softmax(theta) * norms).mean() * (ratios / ratios.mean()) ** 1.5

        def held(theta):
            return jnp.abs(3 * jax.nn.softmax(theta) * norms - targets).sum()

        check_grads(held, (theta,), order=1, modes=["rev"])
        actual = jax.grad(gradnorm)(theta, losses, first, norms)
        np.testing.assert_allclose(actual, jax.grad(held)(theta), rtol=1e-12)


def test_famo_by_hand():
    # z = ½, ½ over losses 1 and 3: 1 and 1/3, so 3/4 and 1/4.
    losses = jnp.array([1.0, 3.0])
    np.testing.assert_allclose(famo(jnp.zeros(2), losses), [0.75, 0.25], rtol=1e-6)
    assert jnp.isfinite(famo(jnp.zeros(2), jnp.array([0.0, 1e4]))).all()
    np.testing.assert_array_equal(famo(jnp.zeros(2), jnp.zeros(2)), [0.5, 0.5])


def test_famo_has_the_gradient_of_its_loss():
    with jax.enable_x64(True):
        theta, losses = jnp.array([0.3, -0.2, 0.1]), jnp.array([0.5, 2.0, 7.0])

        def paper(losses):
            z, d = jax.nn.softmax(theta), losses + 1e-8
            return (z * jnp.log(d)).sum() / jax.lax.stop_gradient((z / d).sum())

        actual = jax.grad(lambda losses: (famo(theta, losses) * losses).sum())(losses)
        np.testing.assert_allclose(actual, jax.grad(paper)(losses), rtol=1e-12)


def test_famo_gradient_is_the_pullback_of_the_decrease():
    # z = ½, ½; δ = log 2, 0: ½ (log 2 − ½ log 2) and ½ (0 − ½ log 2).
    by_hand = famo_gradient(jnp.zeros(2), jnp.array([2.0, 1.0]), jnp.ones(2))
    np.testing.assert_allclose(by_hand, [math.log(2) / 4, -math.log(2) / 4], rtol=1e-6)
    theta, before, now = jnp.array([[0.3, -0.2, 0.1], [1.0, 2.0, 3.0], [0.5, 3.0, 2.0]])
    (expected,) = jax.vjp(jax.nn.softmax, theta)[1](jnp.log(before) - jnp.log(now))
    np.testing.assert_allclose(famo_gradient(theta, before, now), expected, rtol=1e-5)


def test_shapes_that_do_not_fit():
    pair, three = jnp.ones(2), jnp.ones(3)
    for method in (dynamic_weight_average, famo):
        with pytest.raises(ValueError, match=rf"^{method.__name__}: \w+: got .*\[3\].*tasks=2"):
            method(pair, three)
    with pytest.raises(ValueError, match=r"^gradnorm: \w+: got float32 "):
        gradnorm(pair, pair, three, pair)
    with pytest.raises(ValueError, match=r"^famo_gradient: \w+: got float32 "):
        famo_gradient(pair, pair, three)


@functools.cache
def loop(name, **static):
    """A compiled loop of a balancer over (losses, keys)."""

    def steps(losses, keys, gramian, numbers):
        def step(state, inputs):
            weights, state = weigh(state, inputs[0], gramian, inputs[1], **numbers, **static)
            return state, weights

        return jax.lax.scan(step, initial(losses.shape[1]), (losses, keys))

    initial, weigh, _ = BALANCERS[name]
    return jax.jit(steps)


def run(name, losses, gramian=None, numbers=None, **static):
    """The weights of every step of a loop, and the state at its end."""
    keys = jax.random.split(jax.random.key(0), len(losses))
    state, weights = loop(name, **static)(losses, keys, gramian, numbers or {})
    return weights, state


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("name", BALANCERS)
def test_every_balancer_lives_in_a_loop(name, x64):
    """scan refuses a state whose shapes or dtypes change; numbers are traced, of any dtype."""
    with jax.enable_x64(x64):
        losses = jnp.array(np.random.default_rng(0).uniform(0.1, 3, (5, 3)))
        gramian = jnp.asarray(GRAMIAN, losses.dtype)
        defaults = inspect.signature(BALANCERS[name].weigh).parameters.values()
        numbers = {p.name: jnp.array(p.default) for p in defaults if isinstance(p.default, float)}
        weights, state = run(name, losses, gramian if BALANCERS[name].gramian else None, numbers)
        assert weights.shape == (5, 3) and jnp.isfinite(weights).all()
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("name", BALANCERS)
def test_no_gradient_comes_out_of_a_balancer(name):
    balancer, state = BALANCERS[name], BALANCERS[name].initial(3)

    def weighed(losses, gramian):
        weights, after = balancer.weigh(state, losses, gramian, jax.random.key(0))
        return sum(
            (x * jnp.arange(x.size).reshape(x.shape)).sum()
            for x in jax.tree.leaves((weights, after))
        )

    pulls = jax.jit(jax.grad(weighed, argnums=(0, 1)))(jnp.ones(3), GRAMIAN)
    for pull in pulls:
        np.testing.assert_array_equal(pull, 0)


@pytest.mark.parametrize("name", BALANCERS)
def test_one_task_and_nothing_at_all(name):
    weights, _ = run(name, jnp.ones((4, 1)), jnp.ones((1, 1)))
    np.testing.assert_allclose(weights, 1.2 if name == "cagrad" else 1, rtol=1e-6)
    weights, state = run(name, jnp.zeros((4, 3)), jnp.zeros((3, 3)))
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((weights, state)))
    weights, state = run(name, 1e4 * jnp.eye(4, 3), 1e8 * jnp.eye(3))
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((weights, state)))


def test_pcgrad_draws_its_order_from_the_key():
    g = jax.random.normal(jax.random.key(0), (5, 2))
    weigh = jax.jit(BALANCERS["pcgrad"].weigh)
    drawn = [weigh((), jnp.ones(5), g @ g.T, jax.random.key(seed))[0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.allclose(drawn[0], drawn[2])


def test_dwa_averages_epochs_and_waits_for_two():
    # Epochs of 2 steps: means (2, 1), (1, 1), (1, 2). Steps 0–3: ones; 4–5: ratios ½, 1;
    # 6: ratios 1, 2.
    losses = jnp.array([[1, 1], [3, 1], [1, 0], [1, 2], [1, 2], [1, 2], [5, 5]], jnp.float32)
    weights, _ = run("dwa", losses, None, {"temperature": 1.0}, epoch=2)
    np.testing.assert_array_equal(weights[:4], 1)
    for step, ratios in ((4, [0.5, 1.0]), (5, [0.5, 1.0]), (6, [1.0, 2.0])):
        np.testing.assert_allclose(weights[step], 2 * jax.nn.softmax(jnp.array(ratios)), rtol=1e-6)
    with pytest.raises(UserError, match="balance.epoch: got 0; expected an integer of at least 1"):
        balance("dwa", epoch=0)


def test_gradnorm_shortens_the_long_gradient():
    """Equal paces: the first step is all ones, then ‖w_i g_i‖ becomes the same for all tasks."""
    weights, _ = run("gradnorm", jnp.ones((400, 2)), jnp.diag(jnp.array([1.0, 9.0])))
    np.testing.assert_array_equal(weights[0], 1)
    # Adam's first step is the rate against the gradient's sign: θ = 0.025, −0.025.
    np.testing.assert_allclose(
        weights[1], 2 * jax.nn.softmax(jnp.array([0.025, -0.025])), rtol=1e-4
    )
    np.testing.assert_allclose(weights[-1], [1.5, 0.5], atol=0.05)
    np.testing.assert_allclose(weights.sum(axis=1), 2, rtol=1e-5)


def test_gradnorm_compares_with_the_losses_of_the_first_step():
    """The task whose loss has fallen less gets more."""
    falling = jnp.stack([jnp.ones(20), jnp.linspace(1, 0.2, 20)], axis=1)
    weights, state = run("gradnorm", falling, jnp.eye(2))
    assert weights[-1, 0] > 1 > weights[-1, 1]
    np.testing.assert_array_equal(state["losses"], [1, 1])


def test_famo_moves_from_the_second_step_on():
    # The first task's loss falls by half, the second's stands: Adam's first step takes the
    # rate, 0.1, from θ_0 and adds it to θ_1.
    losses = jnp.array([[2.0, 1.0], [1.0, 1.0]])
    weights, state = run("famo", losses, None, {"rate": 0.1})
    np.testing.assert_allclose(weights[0], [1 / 3, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(state["theta"], [-0.1, 0.1], rtol=1e-5)
    np.testing.assert_allclose(weights[1], jax.nn.softmax(jnp.array([-0.1, 0.1])), rtol=1e-5)
    np.testing.assert_array_equal(state["losses"], losses[1])

"""Tasks weighed against each other in the step: by hand from each task's own gradient."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import minimize

import tljax
from tljax import trees
from tljax.phase import objective
from tljax.phase.phase import balance, numbers
from tljax.train import step
from tljax.train.checkpoint import Checkpoints

TASKS = ("a", "b", "c")
STREAMS = [tljax.Stream(name, batch=4) for name in TASKS]
WEIGHTS = {"a": 1.0, "b": 0.5, "c": 3.0, "near": 0.2}
RATE = 0.1
NETWORK = tljax.Network(
    trunk=tljax.models.MLP(features=(5,)), heads={name: tljax.models.Linear() for name in TASKS}
)
ORDER = ("a", "near", "b", "c")
OTHER = ("c", "a", "near", "b")
METHODS = {
    "sum": {},
    "uncertainty": {},
    "pcgrad": {},
    "mgda": {},
    "cagrad": {"c": 0.4, "rescale": True},
    "dwa": {"epoch": 2, "temperature": 1.5},
    "gradnorm": {"alpha": 1.5, "rate": 0.025},
    "famo": {"rate": 0.025, "decay": 1e-3},
}


def term(name):
    if name == "near":  # simply added to the tasks; it moves the trunk and the heads
        only = ("trunk/**", "heads/b/**")
        return tljax.term("l2_penalty", weight=WEIGHTS[name], only=only)
    return tljax.term("cross_entropy", weight=WEIGHTS[name], stream=name, head=name)


def phase_of(method, order=ORDER):
    return tljax.Phase(
        network=NETWORK,
        streams=STREAMS,
        terms={name: term(name) for name in order},
        optimizer=tljax.optimizer("sgd", learning_rate=RATE, momentum=0.0),
        steps=10,
        balance=balance(method, tasks=() if method == "sum" else TASKS, **METHODS[method]),
    )


@functools.cache
def examples():
    """Three steps. The tasks see the same images and contradict each other, so they conflict."""
    draw = np.random.default_rng(0)
    images = draw.normal(size=(3, 4, 2, 2, 1)).astype(np.float32)
    labels = draw.integers(0, 3, (3, 4)).astype(np.int32)
    shifts = dict(zip(TASKS, (0, 1, 2), strict=True))
    first = {name: (labels + by) % 3 for name, by in shifts.items()}
    tables = {
        name: tljax.Table(input=images[0], label=[0, 1, 2, 0], classes=("x", "y", "z"))
        for name in TASKS
    }
    return {n: t.like({"input": images, "label": first[n]}) for n, t in tables.items()}


def at(index):
    """The examples of a step."""
    return jax.tree.map(lambda leaf: leaf[index], examples())


def first(method, order=ORDER):
    """The state that a phase starts from."""
    return tljax.start(phase_of(method, order), at(0), jax.random.key(3))


def copy(tree):
    return jax.tree.map(jnp.copy, tree)


def advance(method, state, begin, count, order=ORDER, fresh=True):
    """The state after `count` steps from step `begin`: one program for any of both."""
    fed = jax.tree.map(lambda leaf: np.roll(leaf, -begin, axis=0), examples())
    phase = numbers(phase_of(method, order))
    arguments = phase, copy(state), {}, fed, np.int32(count), np.bool_(fresh)
    return step.train_steps(*arguments)[0]


@functools.cache
def walked(method, order=ORDER):
    """The states before and after each of three single steps."""
    states = [first(method, order)]
    for i in range(3):
        states.append(advance(method, states[-1], i, 1, order))
    return states


# The tasks' losses and gradients, without the step: {name: (loss, {path: gradient})}.


@jax.jit
def _measure(params, batch):
    def losses(params):
        found = []
        for name in TASKS:
            images, labels = batch[name].input, batch[name].label
            logits = objective.predict(NETWORK, params, {}, images, head=name)[0]
            each = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
            found.append(WEIGHTS[name] * each.mean())
        squares = [*jax.tree.leaves(params["trunk"]), *jax.tree.leaves(params["heads"]["b"])]
        penalty = 0.5 * sum((leaf**2).sum() for leaf in squares)
        return jnp.stack([*found, WEIGHTS["near"] * penalty])

    return losses(params), jax.jacrev(losses)(params)


def tasks_at(state, index):
    """(losses `[4]`, gradients {path: [4, ...]}) of the tasks and the rest, in float64."""
    params = {room: state.params[room] for room in ("trunk", "heads")}
    losses, gradients = _measure(params, at(index))
    wide = {path: np.asarray(leaf, np.float64) for path, leaf in trees.flatten(gradients).items()}
    return np.asarray(losses, np.float64), wide


def shared(gradients):
    """The tasks' gradients of the trunk, `[3, parameters]`."""
    leaves = [leaf[:3].reshape(3, -1) for path, leaf in gradients.items() if path[:5] == "trunk"]
    return np.concatenate(leaves, axis=1)


def followed(before, after):
    """The gradient that plain descent has followed, by path."""
    one, other = trees.flatten(before.params), trees.flatten(after.params)
    return {path: (np.float64(one[path]) - np.float64(other[path])) / RATE for path in one}


def assert_followed(method, weights, index=0, own=True):
    """The trunk follows Σ w_i g_i, each head its own task's; what is no task is simply added."""
    before, after = walked(method)[index : index + 2]
    _, gradients = tasks_at(before, index)
    moved = followed(before, after)
    for path, leaf in gradients.items():
        factors = np.ones(3) if own and path[:5] != "trunk" else weights
        expected = np.tensordot(factors, leaf[:3], 1) + leaf[3]
        np.testing.assert_allclose(moved[path], expected, rtol=1e-3, atol=3e-6, err_msg=path)


def test_the_tasks_of_these_tests_conflict():
    gramian = shared(tasks_at(walked("sum")[0], 0)[1])
    gramian = gramian @ gramian.T
    assert (gramian[np.triu_indices(3, 1)] < 0).sum() >= 2
    assert (np.diag(gramian) > 1e-4).all()


def test_a_sum_follows_the_plain_gradient():
    for index in range(3):
        assert_followed("sum", np.ones(3), index)
    assert walked("sum")[1].balance == ()


def simplex(gramian):
    """argmin wᵀAw over the simplex: the best of all faces, each solved exactly."""
    best, value = None, math.inf
    for size in (1, 2, 3):
        for face in itertools.combinations(range(3), size):
            block = gramian[np.ix_(face, face)]
            inner = np.linalg.solve(block, np.ones(size))
            weights = np.zeros(3)
            weights[list(face)] = inner / inner.sum()
            if (weights >= 0).all() and weights @ gramian @ weights < value:
                best, value = weights, weights @ gramian @ weights
    return best


def test_mgda_follows_the_shortest_vector_of_the_hull():
    for index in range(2):
        rows = shared(tasks_at(walked("mgda")[index], index)[1])
        assert_followed("mgda", simplex(rows @ rows.T), index)


def test_cagrad_follows_the_direction_that_it_says():
    """ḡ + c‖ḡ‖/‖g_w‖ g_w over 1 + c², with w of a general solver on the vectors themselves."""
    rows = shared(tasks_at(walked("cagrad")[0], 0)[1])
    mean, c = rows.mean(0), 0.4

    def worst(w):
        return w @ rows @ mean + c * np.linalg.norm(mean) * np.linalg.norm(w @ rows)

    starts = [*np.eye(3) * 0.8 + 0.2 / 3, np.full(3, 1 / 3)]
    on_simplex = dict(
        bounds=[(0, 1)] * 3, constraints={"type": "eq", "fun": lambda w: w.sum() - 1}, tol=1e-14
    )
    w = min((minimize(worst, s, **on_simplex) for s in starts), key=lambda found: found.fun).x
    scale = c * np.linalg.norm(mean) / np.linalg.norm(w @ rows)
    before, after = walked("cagrad")[:2]
    direction = (mean + scale * w @ rows) / (1 + c**2)
    _, gradients = tasks_at(before, 0)
    moved = followed(before, after)
    paths = [path for path in gradients if path[:5] == "trunk"]
    actual = np.concatenate([(moved[path] - gradients[path][3]).ravel() for path in paths])
    np.testing.assert_allclose(actual, direction, atol=2e-3 * np.linalg.norm(direction))
    weights = np.linalg.lstsq(rows.T, actual, rcond=None)[0]
    assert_followed("cagrad", weights)  # and so the heads their own tasks'


def surgery(rows, orders):
    """Each task's gradient without what conflicts with the others', on the vectors; summed."""
    total = np.zeros(rows.shape[1])
    for i, order in enumerate(orders):
        running = rows[i].copy()
        for j in order:
            product = running @ rows[j]
            if product < 0:
                running -= product / (rows[j] @ rows[j] + 1e-8) * rows[j]
        total += running
    return total


def test_pcgrad_follows_the_surgery_in_one_of_the_orders():
    """Each of three tasks meets the two others in one of two orders: eight ways in all."""
    for index in range(3):
        before, after = walked("pcgrad")[index : index + 2]
        _, gradients = tasks_at(before, index)
        rows, moved = shared(gradients), followed(before, after)
        paths = [path for path in gradients if path[:5] == "trunk"]
        actual = np.concatenate([(moved[path] - gradients[path][3]).ravel() for path in paths])
        ways = itertools.product(*(itertools.permutations(set(range(3)) - {i}) for i in range(3)))
        found = [np.abs(surgery(rows, way) - actual).max() for way in ways]
        assert min(found) < 2e-5
        assert np.abs(rows.sum(0) - actual).max() > 1e-2
        weights = np.linalg.lstsq(rows.T, actual, rcond=None)[0]
        assert_followed("pcgrad", weights, index)


def test_dwa_waits_two_epochs_and_then_weighs_by_the_ratios():
    """Epochs of two steps. A seventh step is the first that has two means to compare."""
    states, losses = list(walked("dwa")), []
    for i in range(3, 6):
        states.append(advance("dwa", states[-1], i % 3, 1))
    for i in range(6):
        losses.append(tasks_at(states[i], i % 3)[0][:3])
    for i in (0, 2):
        assert_followed("dwa", np.ones(3), i)
    # Steps 0 to 3 are two epochs; step 4 weighs by their means.
    ratios = np.mean(losses[2:4], 0) / np.mean(losses[0:2], 0)
    exponents = np.exp(ratios / 1.5)
    weights = 3 * exponents / exponents.sum()
    assert np.abs(weights - 1).max() > 0.01
    for i, expected in ((3, np.ones(3)), (4, weights), (5, weights)):
        _, gradients = tasks_at(states[i], i % 3)
        moved = followed(states[i], states[i + 1])
        for path, leaf in gradients.items():
            wanted = np.tensordot(expected, leaf[:3], 1) + leaf[3]
            np.testing.assert_allclose(moved[path], wanted, rtol=1e-3, atol=3e-6)


def test_uncertainty_learns_its_log_variances():
    """s starts at −½ and moves by ½(1 − L e^−s); a task counts ½ e^−s, in its head as well."""
    names = ["log_variance_0", "log_variance_2", "log_variance_3"]
    # That is how a phase begins.
    scalars = first("uncertainty").params["scalars"]
    assert {name: float(s) for name, s in scalars.items()} == dict.fromkeys(names, -0.5)
    for index, (before, after) in enumerate(itertools.pairwise(walked("uncertainty"))):
        losses, _ = tasks_at(before, index)
        s = np.array([float(before.params["scalars"][name]) for name in names])
        moved = followed(before, after)
        slopes = [moved[f"scalars/{name}"] for name in names]
        np.testing.assert_allclose(slopes, 0.5 * (1 - losses[:3] * np.exp(-s)), atol=1e-5)
        assert_followed("uncertainty", 0.5 * np.exp(-s), index, own=False)
        # What is minimised is what is reported; a term's own value stays as it is.
        total = (0.5 * losses[:3] * np.exp(-s) + 0.5 * s).sum() + losses[3]
        assert float(after.totals["loss"]) == pytest.approx(total, rel=1e-5)
        assert float(after.totals["c"]) == pytest.approx(losses[2] / WEIGHTS["c"], rel=1e-5)


def test_gradnorm_first_adds_and_then_pulls_the_norms_together():
    """Adam's first step is the rate against the sign of the gradient; all ratios are 1 there."""
    assert_followed("gradnorm", np.ones(3))
    before, after, later = walked("gradnorm")[:3]
    losses, gradients = tasks_at(before, 0)
    norms = np.linalg.norm(shared(gradients), axis=1)
    pulls = (np.eye(3) - 1 / 3) @ (np.sign(norms - norms.mean()) * norms)
    theta = -0.025 * np.sign(pulls)
    np.testing.assert_allclose(after.balance["theta"], theta, rtol=1e-3)
    np.testing.assert_allclose(after.balance["losses"], losses[:3], rtol=1e-5)
    weights = 3 * np.exp(theta) / np.exp(theta).sum()
    assert_followed("gradnorm", weights, 1)
    np.testing.assert_array_equal(later.balance["losses"], after.balance["losses"])


def test_famo_weighs_by_the_inverse_losses_and_then_by_their_decrease():
    before, after, later = walked("famo")[:3]
    losses = [tasks_at(state, i)[0][:3] for i, state in enumerate((before, after))]
    np.testing.assert_array_equal(after.balance["theta"], np.zeros(3))
    weights = 1 / losses[0] / (1 / losses[0]).sum()
    followed_by_all(before, after, 0, weights)
    fell = np.log(losses[0]) - np.log(losses[1])
    theta = -0.025 * np.sign(fell - fell.mean())  # Adam's first step
    np.testing.assert_allclose(later.balance["theta"], theta, rtol=1e-3)
    weights = np.exp(theta) / losses[1]
    followed_by_all(after, later, 1, weights / weights.sum())


def followed_by_all(before, after, index, weights):
    """Weights of losses, not of the trunk's gradients alone: heads follow them as well."""
    _, gradients = tasks_at(before, index)
    moved = followed(before, after)
    for path, leaf in gradients.items():
        expected = np.tensordot(weights, leaf[:3], 1) + leaf[3]
        np.testing.assert_allclose(moved[path], expected, rtol=1e-3, atol=3e-6, err_msg=path)


@pytest.mark.parametrize("method", METHODS)
def test_three_steps_in_one_dispatch_are_three_dispatches(method):
    whole = advance(method, first(method), 0, 3)
    single = first(method)
    for i in range(3):
        single = advance(method, single, i, 1, fresh=i == 0)
    assert_equal(step.changing(whole), step.changing(single))
    states = [step.changing(state) for state in walked(method)]
    kinds = [[(x.shape, x.dtype, x.weak_type) for x in jax.tree.leaves(s)] for s in states]
    assert kinds[0] == kinds[1] == kinds[3]


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("method", ["gradnorm", "famo"])
def test_permuting_the_tasks_permutes_their_weights(method):
    """The same parameters after two steps, and what is remembered in the other order."""
    one, other = walked(method)[2], walked(method, OTHER)[2]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), one.params, other.params)
    for name in ("theta", "losses"):
        permuted = np.asarray(one.balance[name])[[2, 0, 1]]
        np.testing.assert_allclose(other.balance[name], permuted, atol=1e-5)


def test_what_a_balancer_remembers_is_in_the_checkpoint(tmp_path):
    """A run that goes on from a file goes on as it would have."""
    states = walked("gradnorm")
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(2, step.changing(copy(states[2])))
    checkpoints.wait()
    at_step, restored = checkpoints.restore(step.changing(states[0]))
    checkpoints.close()
    assert at_step == 2
    assert_equal(restored, step.changing(states[2]))
    restored = step.with_constants(restored, states[0])
    after = advance("gradnorm", restored, 2, 1)
    assert_equal(step.changing(after), step.changing(states[3]))
    forgetful = restored._replace(balance=states[0].balance)
    other = advance("gradnorm", forgetful, 2, 1)
    assert not np.array_equal(
        other.params["trunk"]["dense_0"]["kernel"], after.params["trunk"]["dense_0"]["kernel"]
    )

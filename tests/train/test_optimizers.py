"""Optimisers and schedules against plain optax and values worked by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tljax import trees
from tljax.errors import UserError
from tljax.phase import optimizers

STEPS = 5
PARAMS = {"a": np.array([1.0, -2.0], np.float32), "b": np.array([[0.5]], np.float32)}

# What plain optax is told: name -> (fields of the config, transformation from a schedule).
PLAIN = {
    "sgd": ({"momentum": 0.8}, lambda rate: optax.sgd(rate, 0.8)),
    "nesterov": (
        {"name": "sgd", "momentum": 0.8, "nesterov": True},
        lambda rate: optax.sgd(rate, 0.8, nesterov=True),
    ),
    "adam": ({"b1": 0.8, "b2": 0.95}, lambda rate: optax.adam(rate, 0.8, 0.95)),
    "adamw": ({"decay": 0.1}, lambda rate: optax.adamw(rate, weight_decay=0.1)),
    "lion": ({"decay": 0.1}, lambda rate: optax.lion(rate, weight_decay=0.1)),
}
SHAPES = {
    "constant": ({}, lambda p: 1.0),
    "cosine": ({"final": 0.1}, lambda p: 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * p))),
    "linear": ({"final": 0.1}, lambda p: 1 - 0.9 * p),
    "inverse": ({"gamma": 4.0, "power": 0.5}, lambda p: 1 / math.sqrt(1 + 4 * p)),
}


def gradient(params):
    """Of the quadratic Σ c/2 (w − 1)², whose curvatures c differ."""
    return {"a": (params["a"] - 1) * jnp.array([1.0, 3.0]), "b": 2 * (params["b"] - 1)}


def parsed(**config):
    return optimizers.parse(config, "optimizer")


def steps(config, train=None, count=STEPS):
    """Parameters after `count` steps, of a factor on each where `train` has one."""

    @jax.jit  # with every number traced, as in the step
    def step(params, state, optimizer, progress, train):
        layers = optimizers.partitioned(optimizer, train)
        updates, state = layers.update(gradient(params), state, params, progress=progress)
        return optax.apply_updates(params, updates), state

    optimizer, train = parsed(**config), train or {"**": 1.0}
    params, state = PARAMS, optimizers.partitioned(optimizer, train).init(PARAMS)
    for i in range(count):
        params, state = step(params, state, optimizer, i / STEPS, train)
    return params


def plain_steps(make, shape, learning_rate, count=STEPS):
    table = jnp.array([learning_rate * shape(i / STEPS) for i in range(STEPS)])
    transformation = make(lambda i: table[i])

    @jax.jit
    def step(params, state):
        updates, state = transformation.update(gradient(params), state, params)
        return optax.apply_updates(params, updates), state

    params, state = PARAMS, transformation.init(PARAMS)
    for _ in range(count):
        params, state = step(params, state)
    return params


def assert_close(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), one, other)


@pytest.mark.parametrize("schedule", SHAPES)
@pytest.mark.parametrize("name", PLAIN)
def test_five_steps_are_those_of_plain_optax(name, schedule):
    (fields, make), (numbers, shape) = PLAIN[name], SHAPES[schedule]
    config = {"name": name, "learning_rate": 0.05, "schedule": {"name": schedule, **numbers}}
    assert_close(steps({**config, **fields}), plain_steps(make, shape, 0.05))


def test_every_optimiser_and_schedule_is_compared():
    assert {fields.get("name", name) for name, (fields, _) in PLAIN.items()} == set(
        optimizers.OPTIMIZERS
    )
    assert set(SHAPES) == set(optimizers.SCHEDULES)


@pytest.mark.parametrize("name", ["adam", "adamw", "lion"])
def test_defaults_are_optaxs(name):
    """Not sgd, whose momentum of 0.9 optax does not have by default."""
    plain = plain_steps(getattr(optax, name), lambda p: 1.0, 0.05)
    assert_close(steps({"name": name, "learning_rate": 0.05}), plain)


@pytest.mark.parametrize(
    ("schedule", "progress", "expected"),
    [
        ("constant", 0.5, 1.0),
        ({"name": "cosine"}, 0.0, 1.0),
        ({"name": "cosine"}, 0.5, 0.5),
        ({"name": "cosine"}, 1.0, 0.0),
        ({"name": "cosine", "final": 0.2}, 0.5, 0.6),
        ({"name": "cosine", "final": 0.2}, 1.0, 0.2),
        ({"name": "linear"}, 0.0, 1.0),
        ({"name": "linear"}, 0.5, 0.5),
        ({"name": "linear", "final": 0.2}, 0.5, 0.6),
        ({"name": "linear", "final": 0.2}, 1.0, 0.2),
        ({"name": "inverse"}, 0.0, 1.0),
        ({"name": "inverse"}, 0.5, 6**-0.75),  # (1 + 10 · 0.5)^−0.75
        ({"name": "inverse"}, 1.0, 11**-0.75),
        ({"name": "inverse", "gamma": 3.0, "power": 0.5}, 1.0, 0.5),
    ],
)
def test_schedules_by_hand(schedule, progress, expected):
    value = parsed(learning_rate=2.0, schedule=schedule).rate(jnp.float32(progress))
    assert value.shape == ()
    assert float(value) == pytest.approx(2.0 * expected, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 0.0), (0.1, 0.5 * 0.9), (0.2, 0.8), (0.6, 0.4), (1.0, 0.0)]
)
def test_warmup_multiplies_the_schedule(progress, expected):
    """Rising over the first fifth, times the straight line from 1 to 0."""
    optimizer = parsed(learning_rate=1.0, warmup=0.2, schedule="linear")
    value = optimizer.rate(jnp.float32(progress))
    assert float(value) == pytest.approx(expected, rel=1e-6, abs=1e-7)


def one_update(gradients, params, train=None, **config):
    layers = optimizers.partitioned(parsed(momentum=0.0, **config), train or {"**": 1.0})
    return layers.update(gradients, layers.init(params), params)[0]


def test_clip_bounds_the_norm_over_all_leaves():
    """Gradients 3 and 4 have norm 5; clipped to 1 they are 0.6 and 0.8."""
    gradients = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    update = one_update(gradients, gradients, learning_rate=0.1, clip=1.0)
    assert_close(update, {"a": np.array([-0.06]), "b": np.array([-0.08])})
    within = one_update(gradients, gradients, learning_rate=0.1, clip=6.0)
    assert_close(within, {"a": np.array([-0.3]), "b": np.array([-0.4])})


def test_clip_does_not_count_what_is_frozen():
    """A frozen leaf has no part in the norm, whatever its gradient, nor in the state."""
    gradients = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    for frozen in (None, 0.0):
        train = {"b": frozen, "**": 1.0}
        update = one_update(gradients, gradients, train, learning_rate=0.1, clip=3.0)
        assert_close(update, {"a": np.array([-0.3]), "b": np.array([0.0])})
        layers = optimizers.partitioned(parsed(learning_rate=0.1, momentum=0.9), train)
        assert trees.count(layers.init(gradients)) == 1  # the momentum of "a"


def test_weight_decay_joins_the_gradient_after_clipping():
    """Gradient (3, 4) clipped to (0.6, 0.8); 0.5 · weights (2, 0) added."""
    gradients, params = {"a": jnp.array([3.0, 4.0])}, {"a": jnp.array([2.0, 0.0])}
    update = one_update(gradients, params, learning_rate=1.0, clip=1.0, weight_decay=0.5)
    assert_close(update, {"a": np.array([-1.6, -0.8])})


def test_factors_scale_a_leafs_learning_rate():
    train = {"a": 0.1, "b": 1.0}
    for name in ("sgd", "adamw"):
        config = {"name": name, "learning_rate": 0.05}
        full, scaled = steps(config, count=1), steps(config, train, count=1)
        assert_close(scaled["a"] - PARAMS["a"], 0.1 * (full["a"] - PARAMS["a"]))
        assert_close(scaled["b"], full["b"])


def test_a_factor_is_a_learning_rate_throughout():
    """Five steps with a factor of 0.1 are five steps at a tenth of the rate."""
    config = {"name": "sgd", "momentum": 0.9}
    scaled = steps({**config, "learning_rate": 0.05}, {"a": 0.1, "b": 1.0})
    assert_close(scaled["a"], steps({**config, "learning_rate": 0.005})["a"])
    assert_close(scaled["b"], steps({**config, "learning_rate": 0.05})["b"])


def test_numbers_are_leaves_and_names_are_structure():
    one = parsed(learning_rate=0.1, momentum=0.5, clip=1.0, weight_decay=0.1, warmup=0.1)
    other = parsed(learning_rate=0.2, momentum=0.6, clip=2.0, weight_decay=0.2, warmup=0)
    structure = jax.tree.structure(one)
    assert structure == jax.tree.structure(other)
    assert hash(structure) == hash(jax.tree.structure(other))
    assert all(type(leaf) is float for leaf in jax.tree.leaves(one))
    assert trees.flatten(one) == {
        "momentum": 0.5,
        "learning_rate": 0.1,
        "warmup": 0.1,
        "clip": 1.0,
        "weight_decay": 0.1,
    }
    plain = jax.tree.structure(parsed(learning_rate=0.1))
    assert plain != structure  # without clipping it is another program
    assert jax.tree.structure(parsed(learning_rate=0.1, nesterov=True)) != plain


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"name": "sdg"}, r"optimizer\.name: .*mean 'sgd'\?"),
        ({"momentm": 0.9}, r"optimizer: unknown name 'momentm'.*mean 'momentum'\?"),
        ({"name": "adamw", "momentum": 0.9}, r"optimizer: unknown name 'momentum'"),
        ({"learning_rte": 0.9}, r"optimizer: .*mean 'learning_rate'\?"),
        ({"schedule": "cosin"}, r"optimizer\.schedule\.name: .*mean 'cosine'\?"),
        ({"schedule": {"name": "cosine", "fnal": 0.1}}, r"optimizer\.schedule: .*mean 'final'\?"),
        ({"schedule": {"final": 0.1}}, r"optimizer\.schedule\.name: got None; expected a name"),
        ({"learning_rate": -0.1}, r"optimizer\.learning_rate: got -0\.1; expected .* at least 0"),
        ({"learning_rate": math.nan}, r"optimizer\.learning_rate: got nan"),
        ({"learning_rate": math.inf}, r"optimizer\.learning_rate: got inf"),
        ({"learning_rate": "0.1"}, r"optimizer\.learning_rate: got '0\.1'"),
        ({"learning_rate": None}, r"optimizer\.learning_rate: got None"),
        ({"clip": -1.0}, r"optimizer\.clip: got -1\.0"),
        ({"weight_decay": -1.0}, r"optimizer\.weight_decay: got -1\.0"),
        ({"warmup": -0.1}, r"optimizer\.warmup: got -0\.1"),
        ({"momentum": "much"}, r"optimizer\.momentum: got 'much'"),
        ({"nesterov": 1}, r"optimizer\.nesterov: got 1; expected True or False"),
    ],
)
def test_mistakes_are_refused(config, says):
    with pytest.raises(UserError, match="^" + says):
        parsed(**{"learning_rate": 0.1, **config})


def test_a_learning_rate_has_no_default():
    with pytest.raises(UserError, match=r"^optimizer\.learning_rate: got None"):
        parsed(name="sgd")

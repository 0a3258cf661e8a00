"""What a phase costs, counted in the compiled programs; and that what is frozen stays as it was."""

import functools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tljax import experiment, methods, objective, starting, terms, trees
from tljax.data.streams import Stream
from tljax.models import build
from tljax.objective import Objective, Term
from tljax.train import optimizers, step

CONFIGS = Path(__file__).parents[2] / "configs"
HEAD_ONLY = (("heads/**", 1.0), ("**", 0.0))
ALL = (("**", 1.0),)
BATCH, SIZE = 64, 16
NETWORK = build(
    {
        "stems": {},
        "trunk": {"name": "mlp", "features": (256, 256)},
        "heads": {"label": {"name": "linear"}},
    },
    10,
)
LABEL = Term("label", terms.cross_entropy, (("head", "label"), ("stream", "source")))


def flops(function, *arguments, **keywords):
    """Of the compiled program. The optimisations that conftest.py spares do not change it."""
    return jax.jit(function, **keywords).lower(*arguments).compile().cost_analysis()["flops"]


def examples():
    image = jax.ShapeDtypeStruct((BATCH, SIZE, SIZE, 1), jnp.float32)
    return {"source": {"image": image, "label": jax.ShapeDtypeStruct((BATCH,), jnp.int32)}}


def parameters():
    spec = Objective(NETWORK, (LABEL,), (Stream("source", BATCH),))
    make = functools.partial(objective.initialise, spec, {"label": {"weight": 1.0}})
    return jax.eval_shape(make, examples(), jax.random.key(0))["params"]


def problem(train, **optimizer):
    """(plan, shapes of the first state, numbers)."""
    rules, numbers = optimizers.parse({"learning_rate": 0.1, **optimizer}, "optimizer")
    moves = tuple((pattern, factor != 0) for pattern, factor in train)
    plan = step.Plan(Objective(NETWORK, (LABEL,), (Stream("source", BATCH),)), rules, moves)
    hyper = {
        "key": jax.random.key(0),
        "steps": np.float32(10),
        "log_every": np.int32(10),
        "decay": np.float32(0),
        "factors": tuple(np.float32(factor) for _, factor in train),
        "terms": {"label": {"weight": np.float32(1)}},
        "streams": {"source": ()},
        "optimizer": jax.tree.map(np.float32, numbers),
        "balance": {},
        "tables": {},
    }
    return plan, jax.eval_shape(lambda p: step.initialise(plan, p, {}), parameters()), hyper


def step_flops(train, **optimizer):
    plan, state, hyper = problem(train, **optimizer)
    anchor = {"params": state.params, "batch_stats": {}}
    return flops(step.train_step, plan, state, hyper, anchor, {}, examples(), static_argnums=0)


def test_training_a_head_costs_the_trunk_forward_and_the_head_both_ways():
    params, images = parameters(), examples()["source"]["image"]

    def trunk(params, images):
        return objective.predict(NETWORK, {"trunk": params}, {}, images, head="")[0]

    def head(params, features, labels):
        logits = objective.respond(NETWORK, {"heads": params}, "label", features)
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    features = jax.ShapeDtypeStruct((BATCH, 256), jnp.float32)
    labels = examples()["source"]["label"]
    forward = flops(trunk, params["trunk"], images)
    both = flops(jax.value_and_grad(head), params["heads"], features, labels)
    # Two products of 64 × 256 × 256, and no more to speak of: the count counts.
    assert forward == pytest.approx(2 * 2 * BATCH * 256 * 256, rel=0.01)
    frozen = step_flops(HEAD_ONLY, momentum=0.9)
    assert frozen == pytest.approx(forward + both, rel=0.02)
    # All of it is three passes, less the gradient of the image.
    whole = step_flops(ALL, momentum=0.9)
    assert whole == pytest.approx(2.5 * forward, rel=0.15)
    assert whole > 2 * frozen


@pytest.mark.parametrize(
    ("optimizer", "moments"),
    [(dict(name="sgd", momentum=0.9), 1), (dict(name="adam"), 2)],
    ids=["momentum", "adam"],
)
def test_only_what_moves_has_optimiser_state(optimizer, moments):
    head = 256 * 10 + 10
    trunk = 2 * (256 * 256 + 256)
    counters = 1 if optimizer["name"] == "adam" else 0
    for train, moving in ((HEAD_ONLY, head), (ALL, trunk + head)):
        _, state, _ = problem(train, **optimizer)
        assert trees.count(state.params) == trunk + head
        assert trees.count(state.optimizer) == moments * moving + counters


def shipped(terms_left_out=()):
    """The second phase of configs/l2_sp.py, and the shapes of its first state."""
    config = methods.load(CONFIGS / "l2_sp.py")
    for name in terms_left_out:
        del config.target.terms[name]
    built = experiment.build(experiment.resolve(config))
    phase = built.phase(1)
    spec, numbers = phase.plan.objective, phase.hyper["terms"]
    make = functools.partial(objective.initialise, spec, numbers)
    variables = jax.eval_shape(make, starting.blank(phase), jax.random.key(0))
    state = jax.eval_shape(
        lambda v: step.initialise(phase.plan, v["params"], v["batch_stats"]), variables
    )
    return phase, variables, state


def test_l2_sp_adds_little_to_fine_tuning():
    """Six operations a parameter or so, beside passes of 50 images."""
    costs = []
    for left_out in ((), ("near",)):
        phase, anchor, state = shipped(left_out)
        given = phase.plan, state, phase.hyper, anchor, phase.resident, {}
        costs.append(flops(step.train_step, *given, static_argnums=0))
    held, free = costs
    parameters = trees.count(state.params)
    assert 2 * parameters < held - free < 0.03 * free


# Copied and frozen.


TUNED = (
    ("trunk/conv_0/**", "source"),
    ("trunk/norm_0/**", "source"),
    ("heads/**", "fresh"),
    ("**", "source"),
)


def tuning(start, train):
    """A shrunken configs/l2_sp.py with batch statistics, weight decay and momentum."""
    config = methods.load(CONFIGS / "l2_sp.py")
    config.streams.source.update(split="train[:40]", size=8, batch=8)
    config.streams.target.update(split="train[800:1200]", size=8, batch=10)
    config.streams.target.per_class = 2
    for each in config.evaluate.values():
        each.update(split="train[1400:1410]", size=8)
    config.network.trunk = dict(name="cnn", channels=(3, 4), norm="batch")
    config.network.heads.label.hidden = (5,)
    config.target.terms.near.only = ("trunk/conv_1/**",)
    config.target.update(start=start, train=train, steps=6, average=0.5)
    config.target.optimizer.update(weight_decay=0.1, learning_rate=0.1)
    built = experiment.build(experiment.resolve(config))
    phase = built.phase(1)
    return phase, built


@functools.cache
def tuned():
    """(what was there, the first state, that after six steps, the phase)."""
    train = (("trunk/conv_0/**", 0.0), ("trunk/norm_0/scale", 0.0), ("**", 1.0))
    phase, built = tuning(TUNED, train)
    spec = phase.plan.objective
    make = functools.partial(objective.initialise, spec, phase.hyper["terms"])
    shapes = jax.eval_shape(make, starting.blank(phase), jax.random.key(0))
    draw = np.random.default_rng(0)
    earlier = jax.tree.map(lambda x: draw.uniform(0.1, 1, x.shape).astype(np.float32), shapes)
    phase, state = starting.begin(phase, built.fields[1], {"source": earlier}, built.data)
    before = jax.tree.map(np.asarray, state)
    anchor = {"params": before.params, "batch_stats": before.batch_stats}
    given = phase.plan, state, phase.hyper, anchor, phase.resident, {}, np.int32(6)
    return earlier, before, step.train_steps(*given)[0], phase


def test_a_phase_starts_from_what_its_rules_copy():
    earlier, before, _, _ = tuned()
    now, then = trees.flatten(before.params), trees.flatten(earlier["params"])
    assert set(now) == set(then)
    for path, leaf in now.items():
        same = np.array_equal(leaf, then[path])
        assert same != path.startswith("heads/"), path
    jax.tree.map(np.testing.assert_array_equal, before.batch_stats, earlier["batch_stats"])


def test_what_is_frozen_stays_bit_identical_under_decay_and_momentum():
    _, before, after, _ = tuned()
    assert int(after.step) == 6
    one, other = trees.flatten(before.params), trees.flatten(after.params)
    frozen = {"trunk/conv_0/kernel", "trunk/norm_0/scale"}
    assert {path for path in one if np.array_equal(one[path], other[path])} == frozen
    assert math.isfinite(float(after.totals["loss"]))
    # Neither momentum nor average is kept of them; evaluated, they are there.
    held = trees.count(before.params) - sum(one[path].size for path in frozen)
    assert trees.count(after.optimizer) == trees.count(after.average) == held
    params, _ = step.evaluated(after)
    for path in frozen:
        np.testing.assert_array_equal(trees.flatten(params)[path], one[path])

"""What a phase costs, counted in the compiled programs; and that what is frozen stays as it was."""

import functools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tljax
from tljax import experiment, trees
from tljax.experiment import start
from tljax.experiment.build import flowing
from tljax.phase import objective
from tljax.phase.phase import numbers
from tljax.report import methods
from tljax.train import starting, step

CONFIGS = Path(__file__).parents[2] / "configs"
HEAD_ONLY = {"heads/**": 1.0, "**": 0.0}
ALL = {"**": 1.0}
BATCH, SIZE = 64, 16
KEY = jax.random.key(0)
NETWORK = tljax.Network(
    trunk=tljax.models.MLP(features=(256, 256)), heads={"label": tljax.models.Linear()}
)


def flops(function, *arguments, **keywords):
    """Of the compiled program. The optimisations that conftest.py spares do not change it."""
    return jax.jit(function, **keywords).lower(*arguments).compile().cost_analysis()["flops"]


@functools.cache
def examples():
    """One batch."""
    images = np.zeros((BATCH, SIZE, SIZE, 1), np.float32)
    return {"source": tljax.Table(input=images, label=np.arange(BATCH) % 10)}


def problem(train, **optimizer):
    """(phase, first state)."""
    phase = tljax.Phase(
        network=NETWORK,
        streams=[tljax.Stream("source", batch=BATCH)],
        terms={"label": tljax.term("cross_entropy")},
        optimizer=tljax.optimizer(learning_rate=0.1, **optimizer),
        steps=10,
        train=train,
    )
    return phase, tljax.start(phase, examples(), KEY)


def step_flops(train, **optimizer):
    phase, state = problem(train, **optimizer)
    return flops(step.train_step, numbers(phase), state, {}, examples())  # fed, as it is


def test_training_a_head_costs_the_trunk_forward_and_the_head_both_ways():
    params, table = problem(ALL)[1].params, examples()["source"]

    def trunk(params, images):
        return objective.predict(NETWORK, {"trunk": params}, {}, images, head="")[0]

    def head(params, features, labels):
        logits = objective.respond(NETWORK, {"heads": params}, "label", features)
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    features = jax.ShapeDtypeStruct((BATCH, 256), jnp.float32)
    forward = flops(trunk, params["trunk"], table.input)
    both = flops(jax.value_and_grad(head), params["heads"], features, table.label)
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
        _, state = problem(train, **optimizer)
        assert trees.count(state.params) == trunk + head
        assert trees.count(state.optimizer) == moments * moving + counters


def shipped(terms_left_out=()):
    """The second phase of configs/l2_sp.py, its first state and its data."""
    config = methods.load(CONFIGS / "l2_sp.py")
    for name in terms_left_out:
        del config.target.terms[name]
    built = experiment.build(experiment.check(config))
    before = start.fresh(built, "source", 0, {})
    state = start.fresh(built, "target", 0, {"source": step.evaluated(before)})
    return built.phases["target"], state, flowing(built, "target")


def test_l2_sp_adds_little_to_fine_tuning():
    """Six operations a parameter or so, beside passes of 50 images."""
    costs = []
    for left_out in ((), ("near",)):
        phase, state, data = shipped(left_out)
        costs.append(flops(step.train_step, numbers(phase), state, data, {}))
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
    built = experiment.build(experiment.check(config))
    return built.phases["target"], flowing(built, "target"), built


@functools.cache
def tuned():
    """(what was there, the first state, that after six steps)."""
    train = (("trunk/conv_0/**", 0.0), ("trunk/norm_0/scale", 0.0), ("**", 1.0))
    phase, data, built = tuning(TUNED, train)
    shapes = step.evaluated(starting.start(phase.changed(start=(("**", "fresh"),)), data, KEY))
    draw = np.random.default_rng(0)
    earlier = jax.tree.map(lambda x: draw.uniform(0.1, 1, x.shape).astype(np.float32), shapes)
    state = start.fresh(built, "target", 0, {"source": earlier})
    before = jax.tree.map(np.asarray, step.changing(state))
    arguments = numbers(phase), state, data, {}, np.int32(6), np.bool_(True)
    return earlier, before, step.train_steps(*arguments)[0]


def test_a_phase_starts_from_what_its_rules_copy():
    earlier, before, _ = tuned()
    now, then = trees.flatten(before.params), trees.flatten(earlier["params"])
    assert set(now) == set(then)
    for path, leaf in now.items():
        same = np.array_equal(leaf, then[path])
        assert same != path.startswith("heads/"), path
    jax.tree.map(np.testing.assert_array_equal, before.batch_stats, earlier["batch_stats"])


def test_what_is_frozen_stays_bit_identical_under_decay_and_momentum():
    _, before, after = tuned()
    assert int(after.step) == 6
    one, other = trees.flatten(before.params), trees.flatten(after.params)
    frozen = {"trunk/conv_0/kernel", "trunk/norm_0/scale"}
    assert {path for path in one if np.array_equal(one[path], other[path])} == frozen
    assert math.isfinite(float(after.totals["loss"]))
    # Neither momentum nor average is kept of them; evaluated, they are there.
    held = trees.count(before.params) - sum(one[path].size for path in frozen)
    assert trees.count(after.optimizer) == trees.count(after.average) == held
    params = step.evaluated(after)["params"]
    for path in frozen:
        np.testing.assert_array_equal(trees.flatten(params)[path], one[path])

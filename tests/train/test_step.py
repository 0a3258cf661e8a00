"""The step: cutting into dispatches, λ = 0, what recompiles, what is frozen, averages, faults."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tljax import assembly, experiment, objective, starting, terms, trees
from tljax.data.streams import Stream
from tljax.errors import UserError
from tljax.losses.adversarial import domain_confusion
from tljax.models import build
from tljax.objective import Objective, Term
from tljax.train import loop, optimizers, step
from tljax.train.checkpoint import Checkpoints
from tljax.train.records import Display, Records

STREAMS = (Stream("source", 4), Stream("target", 4))
LABEL = Term(
    "label", terms.cross_entropy, (("head", "label"), ("smoothing", 0.0), ("stream", "source"))
)
DOMAIN = Term(
    "domain",
    terms.domain_adversarial,
    (("head", "domain"), ("source", "source"), ("target", "target")),
)
BOTH = (("**", 1.0),)
FROZEN_TRUNK = (("trunk/**", 0.0), ("**", 1.0))


def problem(
    parsed=(LABEL, DOMAIN),
    train=BOTH,
    averaged=True,
    trunk=None,
    streams=STREAMS,
    size=4,
    shapes=False,
):
    """(plan, first state, numbers, anchor) of a small DANN; or the `shapes` of its state."""
    heads = {"label": {"name": "linear"}, "domain": {"name": "linear", "outputs": 1}}
    trunk = trunk or {"name": "mlp", "features": (6,)}
    network = build({"stems": {}, "trunk": trunk, "heads": heads}, classes=3)
    config = {"learning_rate": 0.1, "momentum": 0.9, "schedule": {"name": "inverse"}}
    optimizer, numbers = optimizers.parse(config, "optimizer")
    rules = tuple((pattern, factor != 0) for pattern, factor in train)
    plan = step.Plan(Objective(network, parsed, streams), optimizer, rules, averaged)
    known = {"label": {"weight": 1.0}, "domain": {"weight": 1.0, "scale": 1.0, "gamma": 10.0}}
    hyper = {
        "key": jax.random.key(0),
        "steps": 7.0,
        "log_every": np.int32(100),
        "decay": 0.9,
        "factors": tuple(factor for _, factor in train),
        "terms": {term.name: known.get(term.name, {"weight": 1.0}) for term in parsed},
        "streams": {stream.name: () for stream in streams},
        "optimizer": numbers,
        "balance": {},
        "tables": {},
    }
    hyper = jax.tree.map(lambda x: np.float32(x) if isinstance(x, float) else x, hyper)
    batch = jax.tree.map(lambda leaf: leaf[0], fed(1, streams, size))

    def first():
        variables = objective.initialise(plan.objective, hyper["terms"], batch, jax.random.key(1))
        return step.initialise(plan, variables["params"], variables["batch_stats"])

    if shapes:
        state = jax.eval_shape(first)
        return plan, state, hyper, state.params
    state = first()
    return plan, state, jax.device_put(hyper), copy(state.params)


def fed(count, streams=STREAMS, size=4):
    """Different examples for every one of `count` steps."""
    draw = np.random.default_rng(0)
    batches = {}
    for stream in streams:
        images = draw.normal(size=(count, stream.batch, size, size, 1)).astype(np.float32)
        batches[stream.name] = {"image": images}
    labels = draw.integers(0, 3, (count, streams[0].batch)).astype(np.int32)
    batches[streams[0].name]["label"] = labels
    return batches


def part(batches, start, stop):
    return jax.tree.map(lambda leaf: leaf[start:stop], batches)


def held(params):
    """Variables to start from, without batch statistics."""
    return {"params": params, "batch_stats": {}}


def copy(tree):
    """The step takes its state's buffers."""
    return jax.tree.map(jnp.copy, tree)


def walk(plan, state, hyper, anchor, batches, resident=None):
    """The state after each single step."""
    count = len(next(iter(batches.values()))["image"])
    states = []
    for i in range(count):
        each = part(batches, i, i + 1)
        state, _ = step.single_step(plan, copy(state), hyper, held(anchor), resident or {}, each)
        states.append(state)
    return states


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def assert_close(one, other, rtol=1e-5, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), one, other)


def test_a_run_does_not_depend_on_how_it_is_cut_into_dispatches():
    """7 looped steps are 3 + 4 looped steps exactly; and 7 single ones, bit for bit as well.

    One stream is sampled on the device, the other is fed.
    """
    plan, state, hyper, anchor = problem()
    resident = {"source": jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), fed(3)["source"])}
    batches = {"target": fed(7)["target"]}

    def looped(state, start, stop):
        # As the loop does, the places after the last step repeat it.
        given = part(batches, start, stop)
        padded = jax.tree.map(
            lambda x: np.concatenate([x] + [x[-1:]] * (7 - (stop - start))), given
        )
        count = np.int32(stop - start)
        return step.train_steps(plan, copy(state), hyper, held(anchor), resident, padded, count)[0]

    before = step.train_steps._cache_size()
    whole = looped(state, 0, 7)
    cut = looped(looped(state, 0, 3), 3, 7)
    assert_equal(whole, cut)
    assert step.train_steps._cache_size() == before + 1  # one program for 3, 4 and 7
    assert_equal(walk(plan, state, hyper, anchor, batches, resident)[-1], whole)
    assert int(whole.step) == 7
    assert not np.array_equal(
        whole.params["trunk"]["dense_0"]["kernel"], anchor["trunk"]["dense_0"]["kernel"]
    )


def test_without_reversal_the_trunk_is_that_of_source_only():
    """λ = 0: the discriminator learns, the trunk and the label head do not notice."""
    plan, state, hyper, anchor = problem()
    batches = fed(5)
    off = {**hyper, "terms": {**hyper["terms"], "domain": dict(hyper["terms"]["domain"])}}
    off["terms"]["domain"]["scale"] = jax.device_put(np.float32(0))
    zero = walk(plan, state, off, anchor, batches)
    alone, first, numbers, own_anchor = problem((LABEL,))
    source_only = walk(alone, first, numbers, own_anchor, batches)
    for one, other in zip(zero, source_only, strict=True):
        assert_close(one.params["trunk"], other.params["trunk"], rtol=0, atol=1e-6)
        label = other.params["heads"]["label"]
        assert_close(one.params["heads"]["label"], label, rtol=0, atol=1e-6)
    discriminator = zero[-1].params["heads"]["domain"]["output"]["kernel"]
    assert np.abs(discriminator - anchor["heads"]["domain"]["output"]["kernel"]).max() > 1e-3
    # With λ > 0 the same check fails, once the ramp has left 0.
    reversed_ = walk(plan, state, hyper, anchor, batches)
    last = source_only[-1].params["trunk"]["dense_0"]["kernel"]
    assert np.abs(reversed_[-1].params["trunk"]["dense_0"]["kernel"] - last).max() > 1e-3


NUMBERS = {
    "terms.label.weight": 0.5,
    "terms.label.smoothing": 0.1,
    "terms.domain.weight": 2,  # an integer is a number, too
    "terms.domain.scale": 0.5,
    "terms.domain.gamma": 3.0,
    "optimizer.learning_rate": 0.01,
    "optimizer.momentum": 0.5,
    "optimizer.schedule.gamma": 5.0,
    "optimizer.schedule.power": 0.5,
    "optimizer.warmup": 0.9,  # none in the config
    "streams.target.transforms": (dict(name="photographs", strength=0.3),),
    "train": (("**", 0.5),),
    "steps": 9,
    "average": 0.5,
    "log_every": 2,
    "seed": 1,
}


def test_changing_a_number_recompiles_nothing_and_changes_the_run(tiny):
    """Every number of the config; and as a check of the check, something else."""
    base = experiment.resolve(tiny)
    built = experiment.build(base)
    data, only = built.data, built.phase(0)
    # Any parameters will do: those of the config would cost a compilation of their own.
    anchor = jax.tree.map(
        lambda leaf: jnp.asarray(np.random.default_rng(0).normal(size=leaf.shape), leaf.dtype),
        starting.begin(only, base, {}, data)[1].params,
    )
    first = step.initialise(only.plan, copy(anchor), {})

    def prepared(config):
        net = assembly.network(config, data)
        return assembly.phase("train", 0, config, config, data, net)

    def run(phase):
        arguments = (phase.plan, copy(first), phase.hyper, held(anchor), phase.resident, {})
        state, _ = step.train_steps(*arguments, jax.device_put(np.int32(3)))
        return {path: np.asarray(leaf) for path, leaf in trees.flatten(state).items()}

    baseline = run(only)
    compiled = step.train_steps._cache_size()
    for path, value in NUMBERS.items():
        changed = experiment.resolve(tiny)
        *parents, last = path.split(".")
        inner = changed
        for name in parents:
            inner = inner[name]
        inner[last] = value
        result = run(prepared(changed))
        assert step.train_steps._cache_size() == compiled, path
        assert any(not np.array_equal(result[leaf], baseline[leaf]) for leaf in baseline), path
    assert prepared({**base, "average": 0.0}).plan != only.plan  # no average: another program


def test_a_dispatch_after_a_dispatch_recompiles_nothing():
    """The state that a step returns is of the types that it takes."""
    plan, state, hyper, anchor = problem()
    types = [(x.shape, x.dtype, x.weak_type) for x in jax.tree.leaves(state)]
    state = walk(plan, state, hyper, anchor, fed(1))[-1]
    assert [(x.shape, x.dtype, x.weak_type) for x in jax.tree.leaves(state)] == types


def test_a_frozen_trunk_stays_bit_identical_and_has_no_optimiser_state():
    plan, state, hyper, anchor = problem(train=FROZEN_TRUNK)
    moving = trees.count(state.params["heads"])
    assert trees.count(state.optimizer) == moving  # sgd: one momentum an element
    assert trees.count(state.average) == moving
    last = walk(plan, state, hyper, anchor, fed(2))[-1]
    assert_equal(last.params["trunk"], anchor["trunk"])
    assert trees.count(last.optimizer) == trees.count(last.average) == moving
    for name in ("label", "domain"):
        before, after = (tree["heads"][name]["output"]["kernel"] for tree in (anchor, last.params))
        assert not np.array_equal(before, after)
    # What is evaluated is whole: the average where there is one, and the trunk as it is.
    params, _ = step.evaluated(last)
    assert_equal(params["trunk"], anchor["trunk"])
    assert_equal(params["heads"], last.average["heads"])


def test_freezing_saves_the_backward_pass():
    """FLOPs of the compiled steps against those of the matrix products, counted by hand.

    A convolution on `n` places from `i` to `o` channels is 2·9·n·i·o going forward, as much
    again for the gradient of its kernel, and as much for that of its input, which the first
    layer does not need. Frozen, a trunk costs its forward pass and no more.
    """
    size, batch = 8, 8
    streams = (Stream("source", batch),)
    trunk = {"name": "cnn", "channels": (8, 16)}

    def flops(train):
        given = problem((LABEL,), train, True, trunk, streams, size, shapes=True)
        arguments = (*given, {}, fed(1, streams, size))
        return step.single_step.lower(*arguments).compile().cost_analysis()["flops"]

    full, frozen = flops(BOTH), flops(FROZEN_TRUNK)
    frozen_head = flops((("heads/label/**", 0.0), ("**", 1.0)))
    places = batch * size * size
    first, second = 2 * 9 * places * 1 * 8, 2 * 9 * (places // 4) * 8 * 16
    forward, backward = first + second, first + 2 * second
    assert full - frozen >= backward
    # Forward only: heads, pooling and the optimiser are small beside half a pass.
    assert forward <= frozen < 1.5 * forward
    # A head's kernel gradient is 2 · batch · inputs · outputs; the trunk still needs the rest.
    kernel = 2 * batch * (2 * 2 * 16) * 3
    assert kernel <= full - frozen_head < 3 * kernel


def test_the_average_by_hand():
    """d = 0.9: after two steps 0.81·w₀ + 0.09·w₁ + 0.1·w₂."""
    plan, state, hyper, anchor = problem()
    assert_equal(state.average, anchor)
    one, two = walk(plan, state, hyper, anchor, fed(2))
    expected = jax.tree.map(
        lambda w0, w1, w2: 0.81 * w0 + 0.09 * w1 + 0.1 * w2, anchor, one.params, two.params
    )
    assert_close(two.average, expected)
    assert_equal(step.evaluated(two)[0], two.average)


def test_without_an_average_the_parameters_are_evaluated():
    _, state, _, anchor = problem(averaged=False)
    assert state.average is None
    assert_equal(step.evaluated(state)[0], anchor)


def test_scalars_are_summed_since_the_last_log():
    """Logging every 2 steps: after step 3 the totals hold the third step alone."""
    plan, state, hyper, anchor = problem()
    hyper = {**hyper, "log_every": jnp.int32(2)}
    one, two, three = walk(plan, state, hyper, anchor, fed(3))
    apart = walk(plan, two, {**hyper, "log_every": jnp.int32(1)}, anchor, part(fed(3), 2, 3))[0]
    assert_equal(three.totals, apart.totals)
    second = walk(plan, one, {**hyper, "log_every": jnp.int32(1)}, anchor, part(fed(3), 1, 2))[0]
    sums = jax.tree.map(lambda a, b: a + b, one.totals, second.totals)
    assert_close(two.totals, sums)
    assert_close(three.totals["loss"], three.totals["label"] + three.totals["domain"])
    # Rates 0.1 and 0.1·(1 + 10/7)^−0.75.
    rates = 0.1 + 0.1 * (1 + 10 / 7) ** -0.75
    assert float(two.totals["learning_rate"]) == pytest.approx(rates, rel=1e-5)


def broken(view):
    """Not a number from the fourth of 7 steps on, and so is its gradient."""
    return jnp.where(view.progress * 7 > 2.5, jnp.nan, 0.0) * view.features["source"].sum()


def test_a_fault_is_reported_with_its_term_and_step(tmp_path):
    """The term breaks at step 3; the other breaks at 4, when the parameters have been spoilt."""
    plan, state, hyper, anchor = problem((LABEL, Term("broken", broken)))
    source = {name: leaf.reshape(-1, *leaf.shape[2:]) for name, leaf in fed(2)["source"].items()}
    resident = jax.device_put({"source": source, "target": {"image": source["image"]}})
    count = jax.device_put(np.int32(7))
    _, report = step.train_steps(plan, copy(state), hyper, held(anchor), resident, {}, count)
    faults = {name: int(fault) for name, fault in report.faults.items()}
    assert faults == {"broken": 3, "loss": 3, "gradient_norm": 3, "label": 4}

    cadence = loop.Cadence(log=7, evaluate=7, checkpoint=7, dispatch=7)
    phase = loop.Phase("second", plan, hyper, 7, cadence, resident, {})
    checkpoints, records = Checkpoints(tmp_path / "checkpoints"), Records(tmp_path)
    display = Display(quiet=True)
    with pytest.raises(UserError, match=r"^phase second: broken was not finite at step 3; "):
        loop.train(
            phase, state, held(anchor), lambda state: {}, checkpoints, records, display, loop.Stop()
        )
    assert checkpoints.steps() == []  # nothing spoilt is saved
    checkpoints.close()
    records.close()


def test_a_sound_run_has_no_faults():
    plan, state, hyper, anchor = problem()
    faults = walk(plan, state, hyper, anchor, fed(1))[-1].faults
    assert set(faults) == {"label", "domain", "loss", "gradient_norm"}
    assert all(int(fault) == -1 for fault in faults.values())


def test_the_trunk_opposes_the_discriminator():
    """Both get a gradient; the trunk's is −λ times that without reversal, λ = 2·tanh(2.5)."""
    plan, state, _, anchor = problem((DOMAIN,))
    batch = jax.tree.map(lambda leaf: leaf[0], fed(1))
    progress, key = jnp.float32(0.5), jax.random.key(2)

    def plain(view):
        logits = [view.net.head("domain", view.features[name]) for name in ("source", "target")]
        return domain_confusion(*logits)

    def gradient(term, **numbers):
        spec = plan.objective._replace(terms=(term,))

        def loss(params):
            weights = {"domain": {"weight": 1.0, **numbers}}
            start = held(anchor)
            return objective.apply(spec, weights, params, {}, batch, start, progress, key)[0].sum()

        return jax.grad(loss)(state.params)

    against = gradient(DOMAIN, scale=2.0, gamma=10.0)
    along = gradient(Term("domain", plain))
    for room in ("heads", "trunk"):
        assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(along[room])) > 1e-3
    assert_close(against["heads"], along["heads"])
    expected = jax.tree.map(lambda x: -2 * math.tanh(2.5) * x, along["trunk"])
    assert_close(against["trunk"], expected)


def test_factors_follow_the_first_pattern_that_matches():
    """A tenth of the rate on the trunk: a tenth of the first step."""
    plan, state, hyper, anchor = problem(train=(("trunk/**", 1.0), ("**", 1.0)))
    slow = {**hyper, "factors": (jnp.float32(0.1), jnp.float32(1.0))}
    full, scaled = (walk(plan, state, h, anchor, fed(1))[0].params for h in (hyper, slow))
    moved = [
        jax.tree.map(lambda a, b: np.asarray(a - b), params, anchor) for params in (full, scaled)
    ]
    assert_close(moved[1]["trunk"], jax.tree.map(lambda x: 0.1 * x, moved[0]["trunk"]), atol=1e-7)
    assert_equal(moved[1]["heads"], moved[0]["heads"])

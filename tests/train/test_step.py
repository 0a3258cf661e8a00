"""The step: cutting into dispatches, λ = 0, what recompiles, what is frozen, averages, faults."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tljax
from tljax import experiment, trees
from tljax.errors import UserError
from tljax.experiment import start
from tljax.experiment.build import Opened
from tljax.losses.adversarial import domain_confusion
from tljax.phase.phase import numbers
from tljax.train import lanes, loop, starting, step
from tljax.train.checkpoint import Checkpoints
from tljax.train.records import Display, Records

STREAMS = (tljax.Stream("source", batch=4), tljax.Stream("target", batch=4))
LABEL = tljax.term("cross_entropy")
DOMAIN = tljax.term("domain_adversarial")
BOTH = {"label": LABEL, "domain": DOMAIN}
ALL = {"**": 1.0}
FROZEN_TRUNK = {"trunk/**": 0.0, "**": 1.0}


def problem(terms=BOTH, streams=STREAMS, size=4, count=3, trunk=None, **fields):
    """(phase, state before the first step, data) of a small DANN on `count` batches."""
    phase = tljax.Phase(
        network=tljax.Network(
            trunk=trunk or tljax.models.MLP(features=(6,)),
            heads={"label": tljax.models.Linear(), "domain": tljax.models.Linear(outputs=1)},
        ),
        streams=streams,
        terms=terms,
        optimizer=tljax.optimizer("sgd", learning_rate=0.1, momentum=0.9, schedule="inverse"),
        steps=7,
        average=0.9,
    ).changed(**fields)
    data = tables(streams, size, count)
    return phase, tljax.start(phase, data, jax.random.key(0)), data


def tables(streams=STREAMS, size=4, count=3):
    """Examples for `count` batches of each stream; the first is labelled."""
    draw = np.random.default_rng(0)
    made = {}
    for stream in streams:
        images = draw.normal(size=(count * stream.batch, size, size, 1)).astype(np.float32)
        made[stream.name] = tljax.Table(input=images, classes=("a", "b", "c"))
    first = streams[0].name
    labels = np.resize(draw.permutation(3), count * streams[0].batch)
    return {**made, first: made[first].with_column("label", labels)}


def fed(table, batch):
    """A table's examples as what is read from disk, `[steps, batch, ...]`."""
    return table.like({n: c.reshape(-1, batch, *c.shape[1:]) for n, c in table.columns.items()})


def copy(tree):
    """The step takes its state's buffers."""
    return jax.tree.map(jnp.copy, tree)


def walk(phase, state, data, count):
    """The state after each of `count` steps."""
    states = []
    for _ in range(count):
        state, _ = tljax.step(phase, copy(state), data)
        states.append(state)
    return states


def one_step(phase, state, data, batches, fresh=True):
    """The state after a step of its own dispatch, some of whose streams are fed."""
    arguments = (numbers(phase), copy(state), data, batches, np.bool_(fresh))
    return step.single_step(*arguments)[0]


def values(tree):
    """Keys as the numbers that they are."""
    keys = jax.dtypes.prng_key
    return jax.tree.map(
        lambda x: jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, keys) else x, tree
    )


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, values(one), values(other))


def assert_close(one, other, rtol=1e-5, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), one, other)


def test_a_run_does_not_depend_on_how_it_is_cut_into_dispatches():
    """7 looped steps are 3 + 4 looped steps, bit for bit; and 7 single ones but for a last bit.

    One stream is sampled on the device, the other is fed. A run uses one of the two programs
    throughout; of two, the compiler promises no bits.
    """
    phase, state, data = problem()
    anchor = state.start["params"]
    resident = {"source": data["source"]}
    batches = fed(tables(count=7)["target"], 4)

    def part(begin, end):
        return jax.tree.map(lambda leaf: leaf[begin:end], {"target": batches})

    def looped(state, begin, end):
        # As the loop does, the places after the last step repeat it.
        padded = jax.tree.map(
            lambda x: np.concatenate([x] + [x[-1:]] * (7 - (end - begin))), part(begin, end)
        )
        arguments = (numbers(phase), copy(state), resident, padded)
        return step.train_steps(*arguments, np.int32(end - begin), np.bool_(begin == 0))[0]

    before = step.train_steps._cache_size()
    whole = looped(state, 0, 7)
    cut = looped(looped(state, 0, 3), 3, 7)
    assert_equal(whole, cut)
    assert step.train_steps._cache_size() == before + 1  # one program for 3, 4 and 7
    single = state
    for i in range(7):
        single = one_step(phase, single, resident, part(i, i + 1), fresh=i == 0)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7)
    for one, other in ((single.params, whole.params), (single.totals, whole.totals)):
        jax.tree.map(close, one, other)
    assert int(single.step) == int(whole.step) == 7
    assert not np.array_equal(
        whole.params["trunk"]["dense_0"]["kernel"], anchor["trunk"]["dense_0"]["kernel"]
    )
    assert_equal(whole.start, state.start)


def test_without_reversal_the_trunk_is_that_of_source_only():
    """λ = 0: the discriminator learns, the trunk and the label head do not notice."""
    phase, state, data = problem()
    anchor = state.start["params"]
    off = phase.changed(terms={**BOTH, "domain": tljax.term("domain_adversarial", scale=0)})
    zero = walk(off, state, data, 5)
    source_only = walk(*problem({"label": LABEL}), 5)
    for one, other in zip(zero, source_only, strict=True):
        assert_close(one.params["trunk"], other.params["trunk"], rtol=0, atol=1e-6)
        label = other.params["heads"]["label"]
        assert_close(one.params["heads"]["label"], label, rtol=0, atol=1e-6)
    discriminator = zero[-1].params["heads"]["domain"]["output"]["kernel"]
    assert np.abs(discriminator - anchor["heads"]["domain"]["output"]["kernel"]).max() > 1e-3
    # With λ > 0 the same check fails, once the ramp has left 0.
    reversed_ = walk(phase, state, data, 5)
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
    """Every number of the config; and as a check of the check, something else.

    Of the seed it is the key, of `log_every` whether the sums begin anew at the second dispatch.
    """
    opened = Opened({}, {})

    def prepared(config):
        return experiment.build(experiment.check(config), opened)

    built = prepared(tiny)
    # Any parameters will do, as long as they are not those of a symmetric start.
    origin = jax.tree.map(
        lambda leaf: jnp.asarray(np.random.default_rng(0).normal(size=leaf.shape), leaf.dtype),
        start.fresh(built, "train", 0, {}).start,
    )

    def run(built):
        phase = numbers(built.phases["train"])
        state = starting.resumed(phase, origin, built.key("train"))
        for at, count in ((0, 2), (2, 1)):
            fresh = np.bool_(at % built.cadence.log == 0)
            state, _ = step.train_steps(phase, state, built.data, {}, np.int32(count), fresh)
        flat = trees.flatten(step.changing(state))
        return {path: np.asarray(leaf) for path, leaf in flat.items()}

    baseline = run(built)
    compiled = step.train_steps._cache_size()
    for path, value in NUMBERS.items():
        changed = tiny.copy_and_resolve_references()
        *parents, last = path.split(".")
        inner = changed
        for name in parents:
            inner = inner[name]
        with changed.unlocked():
            inner[last] = value
        result = run(prepared(changed))
        assert step.train_steps._cache_size() == compiled, path
        assert any(not np.array_equal(result[leaf], baseline[leaf]) for leaf in baseline), path
    structure = jax.tree.structure(built.phases["train"])
    tiny.average = 0.0  # no average: another program
    assert jax.tree.structure(prepared(tiny).phases["train"]) != structure


def test_a_dispatch_after_a_dispatch_recompiles_nothing():
    """The state that a step returns is of the types that it takes."""
    phase, state, data = problem()
    types = [(x.shape, x.dtype, x.weak_type) for x in jax.tree.leaves(values(state))]
    state = walk(phase, state, data, 1)[-1]
    assert [(x.shape, x.dtype, x.weak_type) for x in jax.tree.leaves(values(state))] == types
    compiled = step.single_step._cache_size()
    walk(phase, state, data, 2)
    assert step.single_step._cache_size() == compiled


def test_a_frozen_trunk_stays_bit_identical_and_has_no_optimiser_state():
    phase, state, data = problem(train=FROZEN_TRUNK)
    anchor = step.beginning(state)["params"]
    moving = trees.count(state.params["heads"])
    assert trees.count(state.optimizer) == moving  # sgd: one momentum an element
    assert trees.count(state.average) == moving
    last = walk(phase, state, data, 2)[-1]
    assert_equal(last.params["trunk"], anchor["trunk"])
    assert trees.count(last.optimizer) == trees.count(last.average) == moving
    for name in ("label", "domain"):
        before, after = (tree["heads"][name]["output"]["kernel"] for tree in (anchor, last.params))
        assert not np.array_equal(before, after)
    # What is evaluated is whole: the average where there is one, and the trunk as it is.
    params = step.evaluated(last)["params"]
    assert_equal(params["trunk"], anchor["trunk"])
    assert_equal(params["heads"], last.average["heads"])


def test_freezing_saves_the_backward_pass():
    """FLOPs of the compiled steps against those of the matrix products, counted by hand.

    A convolution on `n` places from `i` to `o` channels is 2·9·n·i·o going forward, as much
    again for the gradient of its kernel, and as much for that of its input, which the first
    layer does not need. Frozen, a trunk costs its forward pass and no more.
    """
    size, batch = 8, 8
    streams = (tljax.Stream("source", batch),)
    trunk = tljax.models.CNN(channels=(8, 16))

    def flops(train):
        phase, state, data = problem({"label": LABEL}, streams, size, 1, trunk, train=train)
        batches = {"source": fed(data["source"], batch)}
        arguments = (numbers(phase), state, {}, batches, np.bool_(True))
        return step.single_step.lower(*arguments).compile().cost_analysis()["flops"]

    full, frozen = flops(ALL), flops(FROZEN_TRUNK)
    frozen_head = flops({"heads/label/**": 0.0, "**": 1.0})
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
    phase, state, data = problem()
    anchor = state.start["params"]
    assert_equal(state.average, anchor)
    one, two = walk(phase, state, data, 2)
    expected = jax.tree.map(
        lambda w0, w1, w2: 0.81 * w0 + 0.09 * w1 + 0.1 * w2, anchor, one.params, two.params
    )
    assert_close(two.average, expected)
    assert_equal(step.evaluated(two)["params"], two.average)


def test_without_an_average_the_parameters_are_evaluated():
    for average in (None, 0.0):
        _, state, _ = problem(average=average)
        assert state.average is None
        assert_equal(step.evaluated(state)["params"], state.start["params"])


def test_scalars_are_summed_since_the_last_log():
    """Logging every 2 steps: after step 3 the totals hold the third step alone."""
    phase, state, data = problem()
    one = one_step(phase, state, data, {}, fresh=True)
    two = one_step(phase, one, data, {}, fresh=False)
    three = one_step(phase, two, data, {}, fresh=True)
    state, report = tljax.step(phase, copy(two), data)  # from Python each step is by itself
    assert_equal(three.totals, report.totals)
    assert_equal(state, three)
    second = tljax.step(phase, copy(one), data)[1]
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
    phase, state, data = problem({"label": LABEL, "broken": tljax.term(broken)})
    arguments = (numbers(phase), copy(state), data, {}, np.int32(7), np.bool_(True))
    _, report = step.train_steps(*arguments)
    faults = {name: int(fault) for name, fault in report.faults.items()}
    assert faults == {"broken": 3, "loss": 3, "gradient_norm": 3, "parameters": 3, "label": 4}

    cadence = loop.Cadence(log=7, evaluate=7, checkpoint=7, dispatch=7)
    checkpoints, records = Checkpoints(tmp_path / "checkpoints"), Records(tmp_path)
    program = lanes.Single(lanes.Lane(phase, copy(state), starting.in_memory(data)), 7)
    writer = loop.Writer("second", records, lambda state: {})
    display = Display(quiet=True)
    with pytest.raises(UserError, match=r"^phase second: broken was not finite at step 3; "):
        loop.train("second", program, [writer], 7, cadence, checkpoints, display, loop.Stop())
    assert checkpoints.steps() == []  # nothing spoilt is saved
    checkpoints.close()
    records.close()
    with pytest.raises(UserError, match=r"^phase train: broken was not finite at step 3; "):
        tljax.fit(phase, state, data)


def test_a_sound_run_has_no_faults():
    faults = walk(*problem(), 1)[-1].faults
    assert set(faults) == {"label", "domain", "loss", "gradient_norm", "parameters"}
    assert all(int(fault) == -1 for fault in faults.values())


def test_the_trunk_opposes_the_discriminator():
    """Both get a gradient; the trunk's is −λ times that without reversal, λ = 2·tanh(2.5)."""

    def plain(view):
        logits = [view.net.head("domain", view.features[name]) for name in ("source", "target")]
        return domain_confusion(*logits)

    def gradient(term):
        """What plain descent at a rate of 1 follows, half way through the phase."""
        descent = tljax.optimizer("sgd", learning_rate=1.0, momentum=0.0)
        phase, state, data = problem({"domain": term}, optimizer=descent, steps=10)
        before = copy(state.params)
        after, _ = tljax.step(phase, state._replace(step=jnp.int32(5)), data)
        return jax.tree.map(jnp.subtract, before, after.params)

    against = gradient(tljax.term("domain_adversarial", scale=2.0, gamma=10.0))
    along = gradient(tljax.term(plain))
    for room in ("heads", "trunk"):
        assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(along[room])) > 1e-3
    assert_close(against["heads"], along["heads"])
    expected = jax.tree.map(lambda x: -2 * math.tanh(2.5) * x, along["trunk"])
    assert_close(against["trunk"], expected)


def test_factors_follow_the_first_pattern_that_matches():
    """A tenth of the rate on the trunk: a tenth of the first step."""
    phase, state, data = problem(train={"trunk/**": 1.0, "**": 1.0})
    slow = phase.changed(train={"trunk/**": 0.1, "**": 1.0})
    moved = [
        jax.tree.map(lambda a, b: np.asarray(a - b), after.params, state.start["params"])
        for after in (walk(each, state, data, 1)[0] for each in (phase, slow))
    ]
    assert_close(moved[1]["trunk"], jax.tree.map(lambda x: 0.1 * x, moved[0]["trunk"]), atol=1e-7)
    assert_equal(moved[1]["heads"], moved[0]["heads"])

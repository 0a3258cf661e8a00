"""Phases as trees: what shares a program, what can be mapped and differentiated, layer transfer as
an optax transformation, and what terms, streams and networks make of columns."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tljax
from tljax import trees
from tljax.bind import Bound
from tljax.errors import UserError
from tljax.phase.optimizers import partitioned
from tljax.phase.phase import balance, numbers
from tljax.train import step

KEY = jax.random.key(0)
STREAMS = [tljax.Stream("source", batch=6), tljax.Stream("target", batch=6)]
NETWORK = tljax.Network(
    trunk=tljax.models.MLP(features=(5, 4)),
    heads={"label": tljax.models.Linear(), "domain": tljax.models.Linear()},
)
TERMS = {
    "label": tljax.term("cross_entropy"),
    "domain": tljax.term("domain_adversarial", weight=0.3),
}


@functools.cache
def data():
    """Twelve vectors of each domain, three classes."""
    draw = np.random.default_rng(0)
    source, target = draw.normal(size=(2, 12, 3)).astype(np.float32)
    classes = ("a", "b", "c")
    return {
        "source": tljax.Table(input=source, label=np.arange(12) % 3, classes=classes),
        "target": tljax.Table(input=target + 1, classes=classes),
    }


def phase_of(**fields):
    usual = dict(
        network=NETWORK,
        streams=STREAMS,
        terms=TERMS,
        optimizer=tljax.optimizer("adamw", learning_rate=0.01, schedule="cosine"),
        steps=8,
        average=0.9,
    )
    return tljax.Phase(**{**usual, **fields})


def copy(tree):
    return jax.tree.map(jnp.copy, tree)


def assert_close(one, other, **tolerances):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerances), one, other)


# One program for all numbers.

NUMBERS = [
    dict(steps=9),
    dict(average=0.5),
    dict(train={"**": 0.5}),
    dict(terms={**TERMS, "domain": tljax.term("domain_adversarial", weight=2, scale=0, gamma=1)}),
    dict(optimizer=tljax.optimizer("adamw", learning_rate=1, schedule="cosine", warmup=0.5, b1=0)),
]
STRUCTURES = [
    dict(terms={"label": TERMS["label"]}),
    dict(terms=dict(reversed(TERMS.items()))),
    dict(terms={**TERMS, "label": tljax.term("cross_entropy", head="domain")}),
    dict(terms={**TERMS, "label": tljax.term("cross_entropy", ramp=1.0)}),
    dict(streams=[tljax.Stream("source", batch=5), STREAMS[1]]),
    dict(optimizer=tljax.optimizer("adam", learning_rate=0.01, schedule="cosine")),
    dict(optimizer=tljax.optimizer("adamw", learning_rate=0.01)),
    dict(optimizer=tljax.optimizer("adamw", learning_rate=0.01, schedule="cosine", clip=1.0)),
    dict(network=NETWORK.clone(trunk=tljax.models.MLP(features=(5, 5)))),
    dict(average=None),
    dict(train={"trunk/**": 0.0, "**": 1.0}),
    dict(balance=balance("famo")),
    dict(statistics="separate"),
    dict(freeze_statistics=True),
    dict(accumulate=2),
    dict(start=(("**", "fresh"),)),
]


def test_structures_are_equal_exactly_where_only_numbers_differ():
    structure = jax.tree.structure(phase_of())
    assert structure == jax.tree.structure(phase_of())
    for fields in NUMBERS:
        changed = phase_of(**fields)
        assert jax.tree.structure(changed) == structure, fields
        assert hash(jax.tree.structure(changed)) == hash(structure)
        assert jax.tree.leaves(changed) != jax.tree.leaves(phase_of()), fields
    others = [jax.tree.structure(phase_of(**fields)) for fields in STRUCTURES]
    for i, other in enumerate(others):
        assert other != structure, STRUCTURES[i]
        assert others.index(other) == i  # nor are any two of them equal


def test_three_settings_of_the_numbers_are_one_trace_and_another_field_a_second():
    traced = []

    def noted(view, *, size: float = 1.0, stream="source"):
        traced.append(stream)
        return size * (view.features[stream] ** 2).mean()

    def stepped(**fields):
        fields = {"size": 1.0, "stream": "source", "rate": 0.01, **fields}
        noting = tljax.term(noted, size=fields["size"], stream=fields["stream"])
        phase = phase_of(
            terms={"noted": noting},
            optimizer=tljax.optimizer("sgd", learning_rate=fields["rate"]),
            steps=fields.get("steps", 8),
        )
        return tljax.step(phase, tljax.start(phase, data(), KEY), data())[1].totals["noted"]

    first = stepped()
    compiled, passes = step.single_step._cache_size(), len(traced)
    assert stepped(size=2, rate=0.5) == 2 * first
    assert stepped(size=0, steps=3) == 0
    assert step.single_step._cache_size() == compiled and len(traced) == passes
    stepped(stream="target")
    assert step.single_step._cache_size() == compiled + 1 and len(traced) > passes


def test_leaves_have_paths_that_name_them():
    photographs = tljax.transform("photographs", strength=0.5)
    streams = [STREAMS[0], tljax.Stream("target", batch=6, transforms=[photographs])]
    optimizer = tljax.optimizer(
        "sgd", learning_rate=0.1, schedule=dict(name="inverse", gamma=3.0), clip=1.0
    )
    phase = phase_of(
        streams=streams,
        optimizer=optimizer,
        train={"trunk/**": 0.5, "**": 1.0},
        balance=balance("cagrad", c=0.4),
        tables={"attributes": np.ones((3, 2), np.float32)},
    )
    leaves = trees.flatten(phase)
    attributes = leaves.pop("tables/attributes")
    assert attributes.shape == (3, 2)
    assert leaves == {
        "streams/target/transforms/0/strength": 0.5,
        "terms/label/weight": 1.0,
        "terms/label/smoothing": 0.0,
        "terms/domain/weight": 0.3,
        "terms/domain/scale": 1.0,
        "terms/domain/gamma": 10.0,
        "terms/domain/smoothing": 0.0,
        "optimizer/learning_rate": 0.1,
        "optimizer/momentum": 0.9,
        "optimizer/warmup": 0.0,
        "optimizer/clip": 1.0,
        "optimizer/schedule/gamma": 3.0,
        "optimizer/schedule/power": 0.75,
        "steps": 8,
        "train/trunk/**": 0.5,
        "train/**": 1.0,
        "average": 0.9,
        "balance/method/c": 0.4,
    }


def test_zeros_in_all_leaves_leave_the_structure():
    """What is absent is structure, and a leaf that is 0 is not absent."""
    phase = phase_of(balance=balance("cagrad"), train={"trunk/**": 0.1, "**": 1.0})
    zeros = jax.tree.map(lambda leaf: 0.0, phase)
    assert jax.tree.structure(zeros) == jax.tree.structure(phase)
    assert set(jax.tree.leaves(zeros)) == {0.0}
    again = jax.tree.map(lambda leaf: leaf + 1, zeros)
    assert jax.tree.structure(again) == jax.tree.structure(phase)
    assert again.terms["domain"].weight == 1.0 and isinstance(again.terms["domain"], Bound)
    # A factor of 0 that is given freezes; one that is swept to 0 moves by nothing.
    still = phase_of(train={"trunk/**": 0.1, "**": 1.0}, optimizer=tljax.optimizer(learning_rate=1))
    leaves, structure = jax.tree.flatten(still)
    leaves[list(trees.flatten(still)).index("train/trunk/**")] = 0.0
    still = jax.tree.unflatten(structure, leaves)
    state = tljax.start(still, data(), KEY)
    before = copy(state.params)
    after, _ = tljax.step(still, state, data())
    jax.tree.map(np.testing.assert_array_equal, after.params["trunk"], before["trunk"])
    heads = (tree["heads"]["label"]["output"]["kernel"] for tree in (after.params, before))
    assert not np.array_equal(*heads)


# Phases can be mapped and differentiated.


def test_a_step_of_stacked_phases_is_the_steps_of_each():
    weights, rates = (0.0, 0.3, 2.0), (0.1, 0.01, 0.05)
    phases = [
        phase_of(
            terms={**TERMS, "domain": tljax.term("domain_adversarial", weight=weight)},
            optimizer=tljax.optimizer("sgd", learning_rate=rate),
        )
        for weight, rate in zip(weights, rates, strict=True)
    ]
    states = [tljax.start(phases[0], data(), jax.random.key(i)) for i in range(3)]

    def stack(*leaves):
        return jnp.stack(leaves)

    phase = jax.tree.map(stack, *map(numbers, phases))
    mapped, report = jax.vmap(lambda p, s: tljax.step(p, s, data()))(
        phase, jax.tree.map(stack, *states)
    )
    singles = [tljax.step(p, s, data()) for p, s in zip(phases, states, strict=True)]
    assert len({float(each.totals["loss"]) for _, each in singles}) == 3
    for lane, (state, alone) in enumerate(singles):
        of_lane = jax.tree.map(lambda leaf, lane=lane: leaf[lane], (mapped, report))
        assert_close(of_lane[0].params, state.params, rtol=1e-5, atol=1e-6)
        assert_close(of_lane[0].average, state.average, rtol=1e-5, atol=1e-6)
        assert_close(of_lane[1].totals, alone.totals, rtol=1e-5)
        jax.tree.map(np.testing.assert_array_equal, of_lane[1].faults, alone.faults)


def test_the_gradient_of_the_loss_by_a_weight_is_the_terms_value():
    phase = phase_of(
        terms={
            "label": tljax.term("cross_entropy", weight=2.0),
            "square": tljax.term(lambda view: (view.features["target"] ** 2).mean(), weight=0.0),
        }
    )
    state = tljax.start(phase, data(), KEY)

    def loss(phase):
        report = tljax.step(phase, state, data())[1]
        return report.totals["loss"], report.totals

    slopes, totals = jax.jit(jax.grad(loss, has_aux=True))(numbers(phase))
    for name in phase.terms:
        assert float(totals[name]) > 0
        assert float(slopes.terms[name].weight) == pytest.approx(float(totals[name]), rel=1e-6)
    assert float(slopes.optimizer.learning_rate) == 0.0  # it acts after the loss


def test_a_phase_can_be_made_and_changed_inside_a_trace():
    """Its numbers may be traced: weights, rates, factors, decays."""
    state = tljax.start(phase_of(train={"trunk/**": 0.5, "**": 1.0}), data(), KEY)

    def loss(weight, phase):
        domain = tljax.term("domain_adversarial", weight=weight)
        optimizer = tljax.optimizer("adamw", learning_rate=0.1 * weight, schedule="cosine")
        phase = phase.changed(terms={**TERMS, "domain": domain}, optimizer=optimizer)
        report = tljax.step(phase, state, data())[1]
        return report.totals["loss"], report.totals

    phase = numbers(phase_of(train={"trunk/**": 0.5, "**": 1.0}))
    slope, totals = jax.jit(jax.grad(loss, has_aux=True))(0.3, phase)
    assert float(slope) == pytest.approx(float(totals["domain"]), rel=1e-6)
    assert float(totals["learning_rate"]) == pytest.approx(0.03, rel=1e-6)


def test_the_gradient_by_the_rate_passes_through_the_first_of_two_steps():
    """Against the central difference, of a thousandth to both sides."""
    phase = phase_of(optimizer=tljax.optimizer("sgd", learning_rate=0.1))
    state = tljax.start(phase, data(), KEY)

    @jax.jit
    def second_loss(phase):
        after, _ = tljax.step(phase, state, data())
        return tljax.step(phase, after, data())[1].totals["loss"]

    def at(rate):
        of_rate = tljax.optimizer("sgd", learning_rate=rate)
        return float(second_loss(numbers(phase.changed(optimizer=of_rate))))

    slope = float(jax.grad(second_loss)(numbers(phase)).optimizer.learning_rate)
    assert slope == pytest.approx((at(0.101) - at(0.099)) / 0.002, rel=0.01, abs=1e-3)
    assert abs(slope) > 0.01


# Layer transfer is optax masking.

TRAIN = {"trunk/dense_0/**": 0.0, "trunk/**": 0.1, "**": 1.0}
OPTIMIZERS = {
    "sgd": dict(name="sgd", learning_rate=0.05, momentum=0.9, weight_decay=0.3),
    "adamw": dict(name="adamw", learning_rate=0.01, decay=0.3),
    "lion": dict(name="lion", learning_rate=0.01, decay=0.3),
}


def whole(name):
    """A phase of the label alone whose batch is all that there is, so that order does not matter,
    and its optimiser."""
    optimizer = tljax.optimizer(
        schedule="cosine",
        clip=0.1,
        decayed=("**/kernel",),
        **OPTIMIZERS[name],
    )
    phase = phase_of(
        streams=[tljax.Stream("source", batch=12)],
        terms={"label": TERMS["label"]},
        optimizer=optimizer,
        train=TRAIN,
    )
    return phase, {"source": data()["source"]}


def plain_loss(params):
    """Of all parameters, written out."""
    x, labels = data()["source"].input, data()["source"].label
    for layer in (params["trunk"]["dense_0"], params["trunk"]["dense_1"]):
        x = nn.relu(x @ layer["kernel"] + layer["bias"][None])
    head = params["heads"]["label"]["output"]
    logits = x @ head["kernel"] + head["bias"][None]
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_plain_loop_over_all_parameters_is_the_phase(name):
    """Frozen, a tenth and whole; decay of kernels alone; clipping by what moves alone."""
    phase, tables = whole(name)
    state = tljax.start(phase, tables, KEY)
    params = first = copy(state.params)
    layers = partitioned(phase.optimizer, TRAIN)
    assert isinstance(layers, optax.GradientTransformation)
    memory = layers.init(params)
    moving = trees.count(params) - trees.count(params["trunk"]["dense_0"])
    moments = {"sgd": 1, "adamw": 2, "lion": 1}[name]
    counters = {"sgd": 0, "adamw": 1, "lion": 1}[name]
    assert trees.count(memory) == moments * moving + counters  # none of what is frozen
    assert trees.count(state.optimizer) == trees.count(memory)
    clipped = []
    for i in range(5):
        gradients = jax.grad(plain_loss)(params)
        clipped.append(float(optax.tree.norm(gradients)) > 0.1)
        updates, memory = layers.update(gradients, memory, params, progress=i / 8)
        params = optax.apply_updates(params, updates)
        state, _ = tljax.step(phase, state, tables)
        assert_close(state.params, params, rtol=0, atol=1e-6)
    assert all(clipped)
    frozen, still = first["trunk"]["dense_0"], state.params["trunk"]["dense_0"]
    jax.tree.map(np.testing.assert_array_equal, frozen, still)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), params, first)
    assert moved["trunk"]["dense_1"]["kernel"] > 1e-4
    assert moved["heads"]["label"]["output"]["kernel"] > 1e-2


def test_layer_transfer_by_hand():
    """v ← 0.9 v + (clipped g + 0.3 w of kernels), w ← w − 0.05 · cosine · factor · v."""
    phase, tables = whole("sgd")
    state, norms = tljax.start(phase, tables, KEY), []
    params = trees.flatten(copy(state.params))
    factors = {path: trees.first(path, tuple(TRAIN.items()))[1] for path in params}
    velocity = dict.fromkeys(params, 0.0)
    for i in range(4):
        nested = jax.tree.unflatten(jax.tree.structure(state.params), list(params.values()))
        gradients = trees.flatten(jax.grad(plain_loss)(nested))
        norm = math.sqrt(sum(float((gradients[p] ** 2).sum()) for p in params if factors[p]))
        norms.append((norm, float(optax.tree.norm(gradients))))
        rate = 0.05 * 0.5 * (1 + math.cos(math.pi * i / 8))
        for path, w in params.items():
            decay = 0.3 * w if path.endswith("kernel") else 0.0
            g = gradients[path] * min(1.0, 0.1 / norm) + decay
            velocity[path] = 0.9 * velocity[path] + g
            params[path] = w - rate * factors[path] * velocity[path]
        state, _ = tljax.step(phase, state, tables)
        assert_close(trees.flatten(state.params), params, rtol=0, atol=1e-6)
    # Both are clipped, but that of all would be clipped to something else.
    assert all(norm > 0.1 and whole > 1.05 * norm for norm, whole in norms)


def test_an_optimiser_is_an_optax_transformation():
    """In a chain with others, without us, and a tree of its numbers."""
    optimizer = tljax.optimizer("adam", learning_rate=0.1, b1=0.8)
    assert isinstance(optimizer, optax.GradientTransformation)
    params, gradients = {"w": jnp.array([1.0, -2.0])}, {"w": jnp.array([3.0, 0.5])}
    ours = optax.chain(optax.clip(1.0), optimizer)
    theirs = optax.chain(optax.clip(1.0), optax.adam(0.1, 0.8))
    one, other = ours.init(params), theirs.init(params)
    for _ in range(3):
        mine, one = ours.update(gradients, one, params)
        wanted, other = theirs.update(gradients, other, params)
        assert_close(mine, wanted, rtol=1e-6)
    assert optimizer.learning_rate == 0.1 and optimizer.b1 == 0.8
    faster = jax.tree.map(lambda number: 2 * number, optimizer)
    assert isinstance(faster, optax.GradientTransformation) and faster.learning_rate == 0.2


def test_a_schedule_is_counted_over_steps_or_told_the_progress():
    """Falling in a line over four steps: rates 1, 0.75, 0.5, 0.25."""
    optimizer = tljax.optimizer("sgd", learning_rate=1.0, momentum=0.0, schedule="linear")
    params = {"w": jnp.array([0.0])}
    gradients = {"w": jnp.array([2.0])}
    counted = optimizer.over(4)
    assert isinstance(counted, optax.GradientTransformation)
    state, rates, told = counted.init(params), [], []
    for i in range(4):
        updates, state = counted.update(gradients, state, params)
        rates.append(float(updates["w"][0]) / -2)
        by_hand = optimizer.update(gradients, optimizer.init(params), params, progress=i / 4)[0]
        told.append(float(by_hand["w"][0]) / -2)
    assert rates == told == [1.0, 0.75, 0.5, 0.25]
    with pytest.raises(UserError, match=r"^optimizer: its schedule needs the progress; .*over"):
        optimizer.update(gradients, optimizer.init(params), params)


def plain_steps(transformation, params, count):
    state = transformation.init(params)
    for _ in range(count):
        updates, state = transformation.update(jax.grad(plain_loss)(params), state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize(
    ("optimizer", "plain", "rated"),
    [
        (
            tljax.optimizer("optax:lamb", learning_rate=0.02, b1=0.8, weight_decay=0.0),
            optax.lamb(0.02, b1=0.8),
            True,
        ),
        (tljax.optimizer(optax.adagrad, learning_rate=0.02), optax.adagrad(0.02), True),
        (optax.adam(0.02), optax.adam(0.02), False),
        (
            optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.1, 0.9)),
            optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.1, 0.9)),
            False,
        ),
    ],
    ids=["optax:lamb", "a function", "adam", "a chain"],
)
def test_a_phase_takes_any_optax_transformation(optimizer, plain, rated):
    phase, tables = whole("sgd")
    phase = phase.changed(optimizer=optimizer, train={"**": 1.0})
    state = tljax.start(phase, tables, KEY)
    wanted = plain_steps(plain, copy(state.params), 3)
    for _ in range(3):
        state, report = tljax.step(phase, state, tables)
    assert_close(state.params, wanted, rtol=0, atol=1e-6)
    # One with a rate of its own has none to tell.
    assert ("learning_rate" in report.totals) == rated
    assert jax.tree.structure(phase) == jax.tree.structure(phase.changed(steps=9))


def test_what_is_no_transformation_is_refused():
    with pytest.raises(UserError, match=r"^optimizer: got 'adam'; expected tljax\.optimizer"):
        phase_of(optimizer="adam")


# What spoils the very last update.


@pytest.mark.parametrize("spoilt", [jnp.inf, jnp.nan])
def test_parameters_that_are_not_finite_after_the_last_update_are_noticed(spoilt):
    """The loss and its gradient were finite to the end: only the update was not."""

    def late(progress):
        return jnp.where(progress > 0.6, spoilt, 1.0)  # of the third of three steps alone

    optimizer = tljax.optimizer("sgd", learning_rate=0.01, schedule=dict(name=late))
    phase = phase_of(optimizer=optimizer, steps=3)
    state, faults = tljax.start(phase, data(), KEY), []
    for _ in range(3):
        state, report = tljax.step(phase, state, data())
        faults.append({name: int(fault) for name, fault in report.faults.items()})
    sound = dict.fromkeys(("label", "domain", "loss", "gradient_norm", "parameters"), -1)
    assert faults == [sound, sound, {**sound, "parameters": 2}]
    with pytest.raises(UserError, match=r"^phase train: parameters was not finite at step 2"):
        tljax.fit(phase, tljax.start(phase, data(), KEY), data())


# Terms on features worked by hand.


class Same(nn.Module):
    """The input as features."""

    @nn.compact
    def __call__(self, x, *, train, stream=None):
        return x


def value(term, inputs, head="label", **columns):
    """What a term is worth where the head's outputs are the inputs, in the order of any batch."""
    inputs = np.asarray(inputs, np.float32)
    table = tljax.Table(input=inputs, **columns)
    phase = tljax.Phase(
        network=tljax.Network(trunk=Same(), heads={head: tljax.models.Linear()}),
        streams=[tljax.Stream("source", batch=len(inputs))],
        terms={"term": term},
        optimizer=tljax.optimizer(learning_rate=0.1),
    )
    state = tljax.start(phase, {"source": table}, KEY)
    size = inputs.shape[-1]
    same = {"output": {"kernel": jnp.eye(size), "bias": jnp.zeros(size)}}
    assert jax.tree.map(jnp.shape, state.params["heads"]) == {head: jax.tree.map(jnp.shape, same)}
    state = state._replace(params={**state.params, "heads": {head: same}})
    return float(tljax.step(phase, state, {"source": table})[1].totals["term"])


LN3 = math.log(3)


def test_binary_cross_entropy_of_several_labels_by_hand():
    """−log p: ½ at 0; of ln 3 it is ¾ for a label that is there, ¼ for one that is not."""
    term = tljax.term("binary_cross_entropy")
    found = value(term, [[0, LN3], [0, LN3]], labels=[[1, 1], [0, 0]])
    wanted = (2 * math.log(2) + math.log(4 / 3) + math.log(4)) / 4
    assert found == pytest.approx(wanted, rel=1e-6)


def test_squared_error_by_hand():
    """Errors 1, 0, 2, 3: squares 1, 0, 4, 9, without ½."""
    term = tljax.term("squared_error", head="value")
    found = value(term, [[1, 2], [3, 4]], "value", value=[[0.0, 2.0], [1.0, 1.0]])
    assert found == pytest.approx((1 + 0 + 4 + 9) / 4, rel=1e-6)
    one = value(term, [[1], [3]], "value", value=[0.0, 1.0])  # a value an example
    assert one == pytest.approx((1 + 4) / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, (0.5 + 0 + 1.5 + 2.5) / 4),  # δ = 1: beyond it |e| − ½
        ({"delta": 2.0}, (0.5 + 0 + 2 + 4) / 4),  # δ (|e| − ½ δ) = 2 · (3 − 1)
        ({"delta": 9.0}, (0.5 + 0 + 2 + 4.5) / 4),
    ],
)
def test_huber_by_hand(fields, wanted):
    """Errors 1, 0, −2, 3."""
    term = tljax.term("huber", **fields)
    found = value(term, [[1, 2], [3, 4]], "value", value=[[0.0, 2.0], [5.0, 1.0]])
    assert found == pytest.approx(wanted, rel=1e-6)


def test_class_weights_by_hand():
    """Losses log 2 of class 0, log 4/3 and log 4 of class 1: Σ wᵢ Lᵢ / Σ wᵢ."""
    inputs, labels = [[0, 0], [0, LN3], [LN3, 0]], [0, 1, 1]
    losses = [math.log(2), math.log(4 / 3), math.log(4)]
    for weights in ((1.0, 3.0), (2.0, 6.0), (0.5, 0.0)):
        term = tljax.term("cross_entropy", class_weights=weights)
        of_each = [weights[label] for label in labels]
        wanted = sum(w * loss for w, loss in zip(of_each, losses, strict=True)) / sum(of_each)
        assert value(term, inputs, label=labels) == pytest.approx(wanted, rel=1e-6)
    plain = value(tljax.term("cross_entropy"), inputs, label=labels)
    assert plain == pytest.approx(sum(losses) / 3, rel=1e-6)
    says = r"^terms\.term: class_weights: got \(1\.0,\); expected one weight for each of the 2"
    with pytest.raises(UserError, match=says):
        value(tljax.term("cross_entropy", class_weights=(1.0,)), inputs, label=labels)


# Streams and networks.


def test_a_balanced_stream_shows_all_classes_equally_often():
    """Nine, two and one of three classes; in batches of 6 there are two of each."""
    labels = [0] * 9 + [1] * 2 + [2]
    table = tljax.Table(input=np.zeros((12, 3), np.float32), label=labels)

    def counts(balanced):
        def share(view, *, of):
            return (view.batch["source"]["label"] == of) * 6.0

        phase = phase_of(
            streams=[tljax.Stream("source", batch=6, balanced=balanced)],
            terms={str(i): tljax.term(share, of=i) for i in range(3)},
        )
        state, found = tljax.start(phase, {"source": table}, KEY), []
        for _ in range(4):
            state, report = tljax.step(phase, state, {"source": table})
            found.append([round(float(report.totals[str(i)])) for i in range(3)])
        return found

    assert counts(True) == [[2, 2, 2]] * 4
    plain = np.array(counts(False))
    assert plain.sum(0).tolist() == [18, 4, 2]  # of two epochs


class Mapped(nn.Module):
    """Scaled inputs as features, and 2 and 3 times the input as maps of their own shapes."""

    @nn.compact
    def __call__(self, x, *, train, stream=None):
        scale = self.param("scale", nn.initializers.ones, ())
        return scale * x, {"double": 2 * x[:, :, None], "triple": 3 * x}


def test_maps_that_a_trunk_returns_are_seen_by_terms():
    """Each stream sees its own part of the batch that both pass as one."""
    shapes = []

    def distance(view, *, stream="source", layer="double", times: float = 2.0):
        layer = view.maps(stream, layer)
        shapes.append(layer.shape)
        return jnp.abs(layer.reshape(-1, 3) - times * view.batch[stream]["input"]).max()

    def totals(trunk=None, **fields):
        phase = phase_of(
            network=tljax.Network(trunk=trunk or Mapped()),
            streams=[STREAMS[0], tljax.Stream("target", batch=5)],
            terms={
                "double": tljax.term(distance),
                "target": tljax.term(distance, stream="target"),
                "triple": tljax.term(distance, **{"layer": "triple", "times": 3, **fields}),
            },
        )
        return tljax.step(phase, tljax.start(phase, data(), KEY), data())[1].totals

    right = totals()
    # A product that is fused with a sum is not rounded, another is.
    assert max(right[name] for name in ("double", "target", "triple")) < 1e-6
    assert set(shapes) == {(6, 3, 1), (5, 3, 1), (6, 3)}
    assert totals(times=2)["triple"] > 1e-3
    with pytest.raises(UserError, match=r"^terms\.triple: layer: .*'tripel'.*mean 'triple'\?"):
        totals(layer="tripel")
    with pytest.raises(UserError, match=r"^terms\.triple: stream: .*'sourc'.*mean 'source'\?"):
        totals(stream="sourc")
    with pytest.raises(UserError, match=r"^terms\.double: layer: unknown name 'double'"):
        totals(tljax.models.MLP(features=(3,)))  # whose features are all that it has


def head_of(outputs=None, **terms):
    """The outputs of the label head of a phase with these terms."""
    heads = {"label": tljax.models.Linear(outputs=outputs)}
    network = tljax.Network(trunk=tljax.models.MLP(features=(4,)), heads=heads)
    phase = phase_of(network=network, terms=terms)
    params = tljax.start(phase, data(), KEY).params
    return params["heads"]["label"]["output"]["kernel"].shape[-1]


def test_a_head_whose_width_nobody_gave_gets_the_one_that_is_asked_for():
    assert head_of(label=tljax.term("cross_entropy")) == 3  # a class each
    assert head_of(domain=tljax.term("domain_adversarial", head="label")) == 1
    decoder = tljax.term("reconstruction", head="label")
    assert head_of(decoder=decoder) == 3  # a number of an input each
    assert head_of(5, label=tljax.term("cross_entropy")) == 5


def test_a_head_that_is_too_narrow_is_refused_by_its_field():
    says = (
        r"^terms\.label: network\.heads\.label\.outputs: got 2; "
        r"expected at least 3, an output for each label"
    )
    with pytest.raises(UserError, match=says):
        head_of(2, label=tljax.term("cross_entropy"))
    # Nor is it made wide enough by a term that asks for less.
    domain = tljax.term("domain_adversarial", head="label")
    says = r"^terms\.label: network\.heads\.label\.outputs: got 1; expected at least 3"
    with pytest.raises(UserError, match=says):
        head_of(domain=domain, label=tljax.term("cross_entropy"))

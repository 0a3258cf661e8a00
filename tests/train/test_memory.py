"""Settings that trade time or digits for memory: accumulation, recomputation, bfloat16."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tljax
from tljax import experiment, trees
from tljax.errors import UserError
from tljax.experiment import start
from tljax.phase import objective
from tljax.phase.phase import numbers
from tljax.train import gradients, placing, step
from tljax.train.records import read


def begun(config):
    """(phase, first state, data) of a config's only phase, on its mesh."""
    built = experiment.build(experiment.check(config))
    phase, state = built.phases["train"], start.fresh(built, "train", 0, {})
    placed = placing.everywhere((numbers(phase), dict(built.data)), phase.mesh)
    return placed[0], placing.split(state, phase.mesh), placed[1]


def compiled(config):
    phase, state, data = begun(config)
    return step.single_step.lower(phase, state, data, {}, np.bool_(True)), state


def losses(config, workdir):
    config.update(steps=20, log_every=1, evaluate_every=20, checkpoint_every=20)
    experiment.run(config, workdir)
    return [r["loss"] for r in read(workdir) if r["kind"] == "train"]


@pytest.mark.parametrize("settings", [dict(accumulate=4), dict(remat="all"), dict(accumulate=2)])
def test_the_losses_are_those_without(tiny, tmp_path, settings):
    if settings.get("accumulate") == 2:
        tiny.mesh.update(data=2, shard=2)
        tiny.network.trunk.channels = (4, 8)
    plain = losses(tiny.copy_and_resolve_references(), tmp_path / "plain")
    tiny.update(settings)
    np.testing.assert_allclose(losses(tiny, tmp_path / "other"), plain, rtol=2e-5)


def test_parts_by_hand():
    """Two losses of a number w on four examples, in two parts: 0, 2 and 1, 3."""
    x = jnp.array([1.0, 2.0, 3.0, 4.0])

    def of(w, seen, batch, key):
        terms = jnp.stack([jnp.mean(w * batch["x"]), jnp.mean(w**2 * batch["x"])])
        return terms, ({"largest": batch["x"].max()}, seen + batch["x"].sum())

    given = (jnp.float32(3.0), jnp.float32(0.0), {"x": x}, jax.random.key(0))
    weighted, pull, (scalars, seen) = gradients.differentiated(of, *given, parts=2)
    np.testing.assert_allclose(weighted, [7.5, 22.5])  # means of (6, 9) and (18, 27)
    assert float(pull()) == 2.5 + 2 * 3 * 2.5
    assert float(pull(jnp.array([1.0, 0.0]))) == 2.5
    assert float(scalars["largest"]) == 3.5  # of 3 and 4
    assert float(seen) == 10.0  # what moves is handed from part to part


def test_every_part_has_a_key_of_its_own():
    def of(w, seen, batch, key):
        return jnp.stack([w * jax.random.uniform(key)]), ({}, seen)

    given = (jnp.float32(1.0), (), {"x": jnp.zeros(4)}, jax.random.key(0))
    drawn = [jax.random.uniform(jax.random.fold_in(jax.random.key(0), i)) for i in range(2)]
    weighted, _, _ = gradients.differentiated(of, *given, parts=2)
    np.testing.assert_allclose(weighted[0], np.mean(drawn))


@pytest.mark.parametrize("balance", ["pcgrad", "famo"])
def test_balancers_see_the_gradients_of_the_whole_batch(tiny, tmp_path, balance):
    tiny.balance = dict(name=balance)
    plain = losses(tiny.copy_and_resolve_references(), tmp_path / "plain")
    tiny.accumulate = 2
    np.testing.assert_allclose(losses(tiny, tmp_path / "parts"), plain, rtol=2e-5)


def test_parts_take_less_memory(tiny):
    def temporary():
        return compiled(tiny)[0].compile().memory_analysis().temp_size_in_bytes

    for stream in tiny.streams.values():
        stream.batch = 32
    whole = temporary()
    tiny.accumulate = 4
    assert temporary() < 0.4 * whole


def kept(config):
    """Bytes that a forward pass keeps for the backward pass (a CPU's compiler merges the two)."""
    phase, state, _ = begun(config)
    images, labels = np.zeros((64, 8, 8, 3), np.float32), np.arange(64) % 10
    tables = {name: tljax.Table(input=images, label=labels) for name in phase.streams}
    batch = {name: table.columns for name, table in tables.items()}
    wide = [tljax.Stream(name, batch=64) for name in phase.streams]
    phase = phase.changed(streams=wide)

    def forward(params):
        arguments = (batch, tables, state.start, jnp.float32(0.5), jax.random.key(0))
        return objective.apply(phase, params, {}, *arguments)[0].sum()

    back = jax.eval_shape(lambda params: jax.vjp(forward, params)[1], state.params)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(back))


def test_recomputation_keeps_less(tiny):
    tiny.network.trunk = dict(name="cnn", channels=(16,) * 3)
    everything = kept(tiny)
    tiny.remat = "products"
    products = kept(tiny)
    tiny.remat = "all"
    assert kept(tiny) < 0.8 * products < 0.8 * 0.6 * everything


def test_bfloat16_computes_in_it_and_keeps_float32(tiny, tmp_path):
    plain = losses(tiny.copy_and_resolve_references(), tmp_path / "plain")
    tiny.precision = "bfloat16"
    lowered, state = compiled(tiny)
    products = [line for line in lowered.as_text().splitlines() if "dot_general" in line]
    halves = [line for line in products if "bf16" in line]
    # The trunk's products, forward and back, are in bfloat16; the heads' are not.
    assert len(halves) >= 4 and len(products) - len(halves) >= 4
    for path, leaf in trees.flatten(step.changing(state)).items():
        assert leaf.dtype in (jnp.float32, jnp.int32), path
    rounded = losses(tiny, tmp_path / "rounded")
    np.testing.assert_allclose(rounded, plain, rtol=0.05)
    assert rounded != plain


def test_an_anchor_and_an_evaluation_compute_as_training_does(tiny):
    tiny.precision = "bfloat16"
    phase, state, _ = begun(tiny)
    network = phase.network
    images = jnp.linspace(0, 1, 8 * 8 * 8 * 3).reshape(8, 8, 8, 3)
    full = network.clone(precision="float32")
    predict = functools.partial(objective.predict, head="label")
    rounded, z = predict(network, state.params, {}, images)
    exact, _ = predict(full, state.params, {}, images)
    assert rounded.dtype == z.dtype == jnp.float32
    np.testing.assert_allclose(rounded, exact, atol=0.05 * float(jnp.abs(exact).max()))
    assert not np.array_equal(rounded, exact)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            dict(precision="bfloat61"),
            "precision: unknown name 'bfloat61'; expected one of: bfloat16, float32. Did you mean",
        ),
        (
            dict(remat="product"),
            "remat: unknown name 'product'; expected one of: all, none, products. Did you mean",
        ),
        (dict(accumulate=0), "accumulate: got 0; expected an integer of at least 1"),
        (dict(accumulate=3), "streams.source.batch: got 8; expected a multiple of the 3 parts of"),
        (
            dict(accumulate=4, mesh=dict(data=4)),
            "streams.source.batch: got 8; expected a multiple of the 4 devices of the mesh times "
            "the 4 parts of accumulate",
        ),
    ],
)
def test_bad_input(tiny, change, message):
    tiny.update(change)
    with pytest.raises(UserError) as caught:
        experiment.build(experiment.check(tiny))
    assert str(caught.value).startswith(message)

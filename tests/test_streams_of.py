"""Streams of another stream: the same examples with other looks, neighbours, whose statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tljax
from tljax import experiment
from tljax.data import streams
from tljax.data.streams import NEIGHBOURS, batch_of
from tljax.errors import UserError
from tljax.models import MLP, Linear
from tljax.phase import objective

KEY = jax.random.key(0)
ROWS = 12
INVERT, NOISE = ((tljax.transform(name),) for name in ("invert", "noise"))
SOURCE = tljax.Stream("source", 4)
INVERTED = tljax.Stream("inverted", 4, INVERT, of="source")
ONE, OTHER = (tljax.Stream(name, 4, NOISE, of="source") for name in ("one", "other"))
NEAR = tljax.Stream("near", 4, INVERT, of="source", neighbour=True)


def table(labelled=True):
    """Images that hold their number over 100, labels that repeat every 3."""
    values = np.arange(ROWS, dtype=np.float32) / 100
    images = np.broadcast_to(values[:, None, None, None], (ROWS, 2, 2, 1))
    return tljax.Table(input=images, label=np.arange(ROWS) % 3 if labelled else None)


def neighbours():
    """Row r has the neighbours r + 1, r + 2 and r + 5."""
    return ((np.arange(ROWS)[:, None] + np.array([1, 2, 5])) % ROWS).astype(np.int32)


@jax.jit
def _batches(specs, data, rows, steps, key):
    return jax.lax.map(lambda i: batch_of(specs, data, rows, {}, i, key), steps)


def batches(*specs, labelled=True, prepared=True, key=KEY):
    """Every stream's batches of nine steps, which are three epochs: `[steps, batch, ...]`."""
    rows = {"source": {NEIGHBOURS: neighbours()}} if prepared else {}
    by_name = {spec.name: spec for spec in specs}
    batch = _batches(by_name, {"source": table(labelled)}, rows, jnp.arange(9), key)
    return jax.tree.map(np.asarray, batch)


def numbers_of(images):
    """Which row each example is."""
    return np.rint(100 * images[..., 0, 0, 0]).astype(int)


@pytest.fixture(scope="module")
def flowing():
    return batches(SOURCE, INVERTED, ONE, OTHER, NEAR)


def test_a_stream_of_another_shows_the_same_examples_in_the_same_step(flowing):
    source, inverted = flowing["source"]["input"], flowing["inverted"]["input"]
    np.testing.assert_allclose(inverted, 1 - source, rtol=1e-6)
    assert len({tuple(rows) for rows in numbers_of(source)}) == 9
    for name in ("inverted", "one", "other"):
        np.testing.assert_array_equal(flowing[name]["label"], flowing["source"]["label"])
    np.testing.assert_array_equal(flowing["source"]["label"], numbers_of(source) % 3)


def test_every_look_is_drawn_by_itself(flowing):
    """The same transform, the same examples, and yet two looks; another in every step."""
    looks = [flowing[name]["input"].reshape(-1, 4) for name in ("one", "other")]
    source = flowing["source"]["input"].reshape(-1, 4)
    assert (np.abs(looks[0] - looks[1]).max(-1) > 0).all()
    assert (np.abs(looks[0] - source).max(-1) > 0).all()
    noise = (looks[0] - source)[: 2 * 4]
    assert len(np.unique(noise.round(6), axis=0)) == 8


def test_a_stream_of_another_changes_nothing_about_it(flowing):
    """Nor does the order in which they are written, nor that the other does not flow itself."""
    alone = batches(SOURCE)["source"]
    jax.tree.map(np.testing.assert_array_equal, alone, flowing["source"])
    turned = batches(NEAR, INVERTED, SOURCE)
    jax.tree.map(np.testing.assert_array_equal, turned["source"], alone)
    without = batches(INVERTED)
    assert set(without) == {"inverted"}
    jax.tree.map(np.testing.assert_array_equal, without["inverted"], flowing["inverted"])
    other = batches(SOURCE, INVERTED, key=jax.random.key(1))
    assert not np.array_equal(other["inverted"]["input"], flowing["inverted"]["input"])


def test_labels_come_along_if_and_only_if_the_other_has_some(flowing):
    unlabelled = batches(SOURCE, INVERTED, ONE, NEAR, labelled=False)
    assert all(set(batch) == {"input"} for batch in unlabelled.values())
    kinds = {name: set(batch) for name, batch in flowing.items()}
    labelled = {"input", "label"}
    assert kinds.pop("near") == {"input"}  # a neighbour need not be of the example's class
    assert kinds == dict.fromkeys(("source", "inverted", "one", "other"), labelled)


def test_neighbours_are_rows_of_the_given_table_alone(flowing):
    """1 − image undoes the stream's own transform; all three neighbours get their turn."""
    seen = numbers_of(1 - flowing["near"]["input"])
    steps_away = (seen - numbers_of(flowing["source"]["input"])) % ROWS
    assert set(steps_away.ravel()) == {1, 2, 5}
    assert any(len(set(steps)) > 1 for steps in steps_away)  # each example draws its own


def test_neighbours_that_were_not_prepared_are_asked_for():
    says = r"^streams\.near: 'source' has no neighbours; .* prepare=dict\(neighbours=dict\("
    with pytest.raises(UserError, match=says):
        batches(SOURCE, NEAR, prepared=False)


def test_a_stream_of_one_that_is_read_from_disk_shows_what_was_read():
    read = tljax.Table(input=np.full((4, 2, 2, 1), 0.25, np.float32), label=np.arange(4))
    specs = {"inverted": INVERTED, "source": SOURCE}
    batch = batch_of(specs, {}, {}, {"source": read}, jnp.int32(0), KEY)
    np.testing.assert_array_equal(batch["inverted"]["input"], 1 - read.input)
    np.testing.assert_array_equal(batch["inverted"]["label"], read.label)


def flowing_in(built):
    """The data that a config's one phase reads."""
    return {name: built.data[name] for name in built.phases["train"].streams if name in built.data}


@pytest.mark.parametrize("labelled", [True, False])
def test_a_config_gives_both_the_same_rows_and_classes(tiny, labelled):
    tiny.streams.view = dict(of="source", transforms=(dict(name="invert"),))
    tiny.streams.source.update(labelled=labelled, transforms=())
    tiny.network.heads.label.outputs = 10
    tiny.terms = dict(agree=dict(term="nt_xent", head=""))
    tiny.flow = ("source", "view")
    seen = {}

    def looking(view):
        seen.update(classes=dict(view.classes), names=dict(view.names))
        return view.features["source"].sum(-1)

    built = experiment.build(experiment.check(tiny))
    phase = built.phases["train"]
    assert set(phase.streams) == {"source", "view"}
    data = flowing_in(built)
    assert set(data) == {"source"}  # held once
    source, view = phase.streams.values()
    assert (view.of, view.batch) == ("source", source.batch)
    state = tljax.start(phase.changed(terms={"look": tljax.term(looking)}), data, KEY)
    assert seen["names"]["view"] == seen["names"]["source"] == data["source"].classes
    assert seen["classes"].get("view") == seen["classes"].get("source")
    assert ("source" in seen["classes"]) is labelled
    batch = batch_of(phase.streams, data, state.start["rows"], {}, jnp.int32(3), state.key)
    np.testing.assert_allclose(batch["view"]["input"], 1 - batch["source"]["input"], atol=1e-6)
    assert ("label" in batch["view"]) is ("label" in batch["source"]) is labelled


def test_a_config_that_forgets_to_prepare_neighbours_is_refused_in_its_first_step(tiny):
    tiny.streams.neighbour = dict(of="target", neighbour=True)
    tiny.terms = dict(together=dict(term="scan", head="label"))
    built = experiment.build(experiment.check(tiny))
    phase, data = built.phases["train"], flowing_in(built)
    state = tljax.start(phase, data, KEY)
    with pytest.raises(UserError, match=r"^streams\.neighbour: 'target' has no neighbours"):
        tljax.step(phase, state, data)


# Whose batch statistics.


def squares(view, *, stream="source"):
    return 0.5 * (view.features[stream] ** 2).sum(-1)


def images(name, count=1):
    draw = np.random.default_rng(streams.identity(name))
    return draw.normal(size=(count, 4, 2, 2, 1)).astype(np.float32)


PHASE = tljax.Phase(
    network=tljax.Network(trunk=MLP(features=(3,), norm="batch"), heads={"label": Linear()}),
    streams=(SOURCE, INVERTED),
    terms={name: tljax.term(squares, stream=name) for name in ("source", "inverted")},
)


def problem(separate, frozen):
    """(phase, variables): statistics that no batch has."""
    kind = "separate" if separate else "joint"
    phase = PHASE.changed(statistics=kind, freeze_statistics=frozen)
    batch = {name: {"input": jnp.zeros((4, 2, 2, 1))} for name in phase.streams}
    variables = objective.initialise(phase, batch, {"source": unlabelled()}, KEY)
    statistics = jax.tree.map(
        lambda leaf: jnp.linspace(0.5, 1.5, leaf.size, dtype=leaf.dtype), variables["batch_stats"]
    )
    return phase, {**variables, "batch_stats": statistics}


def unlabelled(rows=None):
    return tljax.Table(input=images("source")[0] if rows is None else rows)


def measured(separate, frozen):
    """(variables, values, moved statistics) on one batch; the view is 1 − it."""
    phase, variables = problem(separate, frozen)
    source = images("source")[0]
    batch = {"source": {"input": source}, "inverted": {"input": 1 - source}}
    stated = variables["params"], variables["batch_stats"], batch, {"source": unlabelled()}
    _, (values, moved) = objective.apply(phase, *stated, variables, jnp.float32(0), KEY)
    return variables, values, moved


def before_norm(variables, x):
    dense = jax.tree.map(np.asarray, variables["params"]["trunk"]["dense_0"])
    return x.reshape(len(x), -1) @ dense["kernel"] + dense["bias"]


def half_squares(x, mean, var):
    """At first scale is 1 and bias 0."""
    return 0.5 * (np.maximum((x - mean) / np.sqrt(var + 1e-5), 0) ** 2).sum(-1).mean()


def test_frozen_statistics_are_used_and_stay_bit_identical():
    for separate, name in ((False, "statistics"), (True, "statistics_source")):
        variables, values, moved = measured(separate, frozen=True)
        jax.tree.map(np.testing.assert_array_equal, moved, variables["batch_stats"])
        running = jax.tree.map(np.asarray, moved["trunk"]["norm_0"])
        assert set(running) == {name}  # a stream of another has the other's
        source = images("source")[0]
        for stream, x in (("source", source), ("inverted", 1 - source)):
            expected = half_squares(before_norm(variables, x), **running[name])
            assert float(values[stream]) == pytest.approx(expected, rel=1e-5)


def test_separate_statistics_of_a_stream_are_moved_by_those_of_it_too():
    """Each is normalised by its own batch; both move the source's averages, in order."""
    variables, values, moved = measured(separate=True, frozen=False)
    running = jax.tree.map(np.asarray, moved["trunk"]["norm_0"])
    assert set(running) == {"statistics_source"}
    source, mean = images("source")[0], np.linspace(0.5, 1.5, 3)
    var = mean
    for stream, x in (("source", source), ("inverted", 1 - source)):
        z = before_norm(variables, x)
        expected = half_squares(z, z.mean(0), z.var(0))
        assert float(values[stream]) == pytest.approx(expected, rel=1e-4)
        mean, var = 0.99 * mean + 0.01 * z.mean(0), 0.99 * var + 0.01 * z.var(0)
    np.testing.assert_allclose(running["statistics_source"]["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(running["statistics_source"]["var"], var, rtol=1e-5)


def test_joint_statistics_are_of_both():
    variables, values, moved = measured(separate=False, frozen=False)
    source = images("source")[0]
    both = before_norm(variables, np.concatenate([source, 1 - source]))
    for stream, z in (("source", both[:4]), ("inverted", both[4:])):
        expected = half_squares(z, both.mean(0), both.var(0))
        assert float(values[stream]) == pytest.approx(expected, rel=1e-4)
    running = np.asarray(moved["trunk"]["norm_0"]["statistics"]["mean"])
    expected = 0.99 * np.linspace(0.5, 1.5, 3) + 0.01 * both.mean(0)
    np.testing.assert_allclose(running, expected, rtol=1e-5)


def test_frozen_statistics_outlast_a_run_while_parameters_move():
    """And thawed ones do not: three steps of each."""
    data = {"source": unlabelled(images("source", 3).reshape(12, 2, 2, 1))}
    recipe = tljax.optimizer(learning_rate=0.1, weight_decay=0.1)
    for frozen in (True, False):
        phase, variables = problem(separate=False, frozen=frozen)
        phase = phase.changed(optimizer=recipe, steps=3)
        state = tljax.start(phase, data, KEY)._replace(batch_stats=variables["batch_stats"])
        before = jax.tree.map(np.array, {**variables, "params": state.params})
        for _ in range(3):
            state, _ = tljax.step(phase, state, data)
        same = jax.tree.map(np.array_equal, state.batch_stats, before["batch_stats"])
        assert all(jax.tree.leaves(same)) if frozen else not any(jax.tree.leaves(same))
        moved = jax.tree.map(np.array_equal, state.params["trunk"], before["params"]["trunk"])
        assert not moved["dense_0"]["kernel"]


def test_freezing_statistics_is_a_field_of_a_phase(tiny):
    for frozen in (False, True):
        tiny.freeze_statistics = frozen
        built = experiment.build(experiment.check(tiny))
        assert built.phases["train"].freeze_statistics is frozen
    with pytest.raises(UserError, match=r"^freeze_statistics: got 1; expected True or False"):
        experiment.resolve({**tiny.to_dict(), "freeze_statistics": 1})

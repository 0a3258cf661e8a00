"""One run on several devices: the same losses, a part of the bytes, and meshes that do not fit."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tljax import experiment, trees
from tljax.errors import UserError
from tljax.experiment import start
from tljax.phase.phase import numbers
from tljax.train import checkpoint, placing, step
from tljax.train.records import read


def wide(config, **mesh):
    """The shrunk DANN with layers that four devices divide."""
    config.network.trunk = dict(name="mlp", features=(64, 32))
    for head in config.network.heads.values():
        head.hidden = (64,)
    config.mesh.update(mesh)
    config.update(steps=20, log_every=1, evaluate_every=20, checkpoint_every=10)
    return config


def begun(config):
    """(phase, first state, data) of a config's only phase, before they are placed."""
    built = experiment.build(experiment.check(config))
    return built.phases["train"], start.fresh(built, "train", 0, {}), dict(built.data)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    from shrunk import shrunk_dann

    workdir = tmp_path_factory.mktemp("alone") / "run"
    experiment.run(wide(shrunk_dann()), workdir)
    return read(workdir)


@pytest.mark.parametrize("mesh", [dict(shard=4), dict(data=2, shard=2)])
def test_the_losses_are_those_of_one_device(tiny, alone, tmp_path, mesh):
    experiment.run(wide(tiny, **mesh), tmp_path / "run")
    together = read(tmp_path / "run")
    assert len(together) == len(alone)
    for one, other in zip(alone, together, strict=True):
        assert one.keys() == other.keys()
        if one["kind"] == "train":
            np.testing.assert_allclose(other["loss"], one["loss"], rtol=1e-5)


def test_a_device_holds_its_part_of_parameters_and_optimiser_state(tiny):
    phase, state, _ = begun(wide(tiny, shard=4))
    state = placing.split(state, phase.mesh)
    for part in (state.params, state.optimizer, state.average):
        whole = sum(leaf.nbytes for leaf in jax.tree.leaves(part))
        local = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(part))
        assert whole / 4 <= local < 1.1 * whole / 4


def test_it_stays_split_from_step_to_step(tiny, tmp_path):
    phase, state, data = begun(wide(tiny, shard=4))
    state = placing.split(state, phase.mesh)
    before = {path: leaf.sharding for path, leaf in trees.flatten(state).items()}
    phase, data = placing.everywhere((numbers(phase), data), phase.mesh)
    count, fresh = placing.everywhere((np.int32(2), np.bool_(True)), phase.mesh)
    after, _ = step.train_steps(phase, state, data, {}, count, fresh)
    for path, leaf in trees.flatten(after).items():
        assert leaf.sharding.is_equivalent_to(before[path], leaf.ndim), path


def test_a_run_goes_on_with_another_number_of_devices_only_by_its_own_config(tiny, tmp_path):
    experiment.run(wide(tiny, data=2), tmp_path / "run")
    tiny.mesh.data = 4
    with pytest.raises(UserError, match=r"mesh.data \(2 there, 4 here\)"):
        experiment.run(tiny, tmp_path / "run")


@pytest.mark.parametrize(
    ("mesh", "says"),
    [
        (dict(data=3), r"^mesh: got .*expected a product that divides the 4 devices"),
        (dict(data=8), r"^mesh: got .*expected a product that divides the 4 devices"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(mesh, says):
    with pytest.raises(UserError, match=says):
        placing.mesh(mesh, {"source": 8})


def test_a_batch_that_the_devices_do_not_divide_is_refused():
    with pytest.raises(UserError, match=r"^streams.few.batch: got 10; expected a multiple of"):
        placing.mesh(dict(data=4), {"source": 8, "few": 10})


def test_parameters_are_gathered_and_activations_are_not(tiny):
    """All that travels is no larger than the largest parameter; a batch of activations is."""
    tiny.network.trunk.channels = (8, 16)
    for stream in tiny.streams.values():
        stream.batch = 32
    tiny.mesh.update(shard=4)
    phase, state, data = begun(tiny)
    largest = max(leaf.nbytes for leaf in jax.tree.leaves(state.params))
    state = placing.split(state, phase.mesh)
    phase, data = placing.everywhere((numbers(phase), data), phase.mesh)
    arguments = (phase, state, data, {}, np.bool_(True))
    text = step.single_step.lower(*arguments).compile().as_text()
    travelling = re.findall(
        r"= f32\[([\d,]*)\]\S* (?:all-gather|all-to-all|collective-permute)\(", text
    )
    sizes = [4 * np.prod([int(n) for n in shape.split(",") if n]) for shape in travelling]
    assert sizes and max(sizes) <= largest
    assert 32 * 2 * 8 * 8 * 8 * 4 > largest  # the first layer's outputs


def test_gathering_compiles_once(tiny):
    phase, state, _ = begun(wide(tiny, shard=4))
    sizes = []
    for _ in range(3):
        split = placing.split(state.params, phase.mesh)
        whole = placing.gathered(split, phase.mesh)
        jax.tree.map(np.testing.assert_array_equal, whole, state.params)
        sizes.append(placing._gather(phase.mesh)._cache_size())
    assert sizes[0] == sizes[-1] > 0


def test_what_is_saved_of_wider_types_is_read_as_it_was_written(tmp_path):
    checkpoint.save(tmp_path / "wide", {"a": np.arange(3.0), "b": np.int64(4)})
    read = checkpoint.load(tmp_path / "wide")
    assert read["a"].dtype == np.float32 and read["b"].dtype == np.int32 and read["b"] == 4


def test_a_checksum_is_the_same_by_numpy_and_on_any_devices(monkeypatch):
    """And another for a bit that is flipped, or two elements that change places."""
    rng = np.random.default_rng(0)
    tree = {
        **{str(i): rng.normal(size=(8, 3, 2)[:i]).astype(np.float32) for i in range(4)},
        "half": rng.normal(size=(8, 5)).astype(jnp.bfloat16),
        "bytes": rng.integers(0, 255, (8, 4)).astype(np.uint8),
        "number": rng.integers(0, 9, 8).astype(np.int32),
        "none": np.zeros((0, 3), np.float32),
    }
    tree = jax.tree.map(jnp.asarray, tree)
    by_numpy = checkpoint._sums(tree)
    monkeypatch.setattr(checkpoint, "SMALL", -1)
    assert checkpoint._sums(tree) == by_numpy == checkpoint._sums(jax.tree.map(np.asarray, tree))
    mesh = jax.make_mesh((4,), ("data",))
    split = jax.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    spread = {n: jax.device_put(v, split) if v.shape[:1] == (8,) else v for n, v in tree.items()}
    assert checkpoint._sums(spread) == by_numpy
    monkeypatch.undo()
    for changed in (tree["2"].at[1, 2].multiply(1 + 2**-23), tree["2"][::-1]):
        assert checkpoint._sums({"2": changed})["2"] != by_numpy["2"]

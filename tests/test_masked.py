"""A mask goes from a table to every function that reads masks, in steps and in evaluations."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tljax
from tljax.data import transforms
from tljax.experiment import export
from tljax.masked import Masked
from tljax.models.network import Network

# Two sequences, of 2 and of 3 places; what is beyond them must not matter.
INPUT = np.array([[1.0, 3.0, 9.0, 9.0], [2.0, 4.0, 6.0, 9.0]], np.float32)
MASK = np.array([[1, 1, 0, 0], [1, 1, 1, 0]], bool)


class Mean(nn.Module):
    """The mean of the places that are there."""

    @nn.compact
    def __call__(self, x, *, train, stream=None, mask=None):
        mask = jnp.ones(x.shape) if mask is None else mask
        return ((x * mask).sum(-1) / mask.sum(-1))[:, None]


class Halves(nn.Module):
    """Every other place, and every other place of the mask."""

    @nn.compact
    def __call__(self, x, mask=None):
        return x[:, ::2], None if mask is None else mask[:, ::2]


class Blind(nn.Module):
    """Reads no mask."""

    @nn.compact
    def __call__(self, x):
        return 10.0 * x


def dropped(input, key, *, held_out=False, mask=None):
    """Without the first place."""
    return input, mask.at[0].set(False)


def features(inputs, stem="", **stems):
    return np.asarray(
        Network(trunk=Mean(), stems=stems).apply({}, inputs, stem=stem, method="features")
    )


def test_a_trunk_reads_the_mask():
    assert features(Masked(INPUT, MASK)).tolist() == [[2.0], [4.0]]
    assert features(INPUT).tolist() == [[5.5], [5.25]]


def test_a_stem_hands_on_a_mask_of_its_own_length():
    """Places 0 and 2 are left: 1 (9 is not there), and 2 and 6."""
    assert features(Masked(INPUT, MASK), "half", half=Halves()).tolist() == [[1.0], [4.0]]
    assert features(INPUT, "half", half=Halves()).tolist() == [[5.0], [4.0]]


def test_the_mask_passes_by_a_stem_that_reads_none():
    assert features(Masked(INPUT, MASK), "blind", blind=Blind()).tolist() == [[20.0], [40.0]]


def test_a_transform_may_change_the_mask():
    looks = transforms.parse((dict(name=dropped), dict(name="standardise", mean=0.0, std=1.0)), "f")
    keys = jax.random.split(jax.random.key(0))
    seen = transforms.apply(looks, Masked(INPUT, MASK), keys)
    assert seen.mask.tolist() == [[False, True, False, False], [False, True, True, False]]
    assert features(seen).tolist() == [[3.0], [5.0]]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Class 0 has small means, class 1 large ones; what is masked says the opposite."""
    rng, label = np.random.default_rng(0), np.arange(40) % 2
    mask = np.arange(6) < rng.integers(2, 5, 40)[:, None]
    signal = np.where(label, 1.0, -1.0)[:, None] + 0.1 * rng.normal(size=(40, 6))
    path = tmp_path_factory.mktemp("masked") / "sequences.npz"
    values = np.where(mask, signal, -100 * signal).astype(np.float32)
    np.savez(path, input=values, mask=mask, label=label)
    return f"npz:{path}"


def config_of(archive, limit=200.0):
    config = tljax.experiment.blank()
    config.network.trunk = dict(name=f"{__name__}:Mean")
    config.streams.source = dict(data=archive, split="train[:20]", batch=8)
    config.evaluate.rest = dict(data=archive, split="train[20:]")
    config.terms.label = dict(term="cross_entropy")
    config.optimizer = dict(name="sgd", learning_rate=1.0)
    config.steps, config.resident_megabytes = 30, limit
    return config


@pytest.mark.parametrize("limit", [200.0, 0.0], ids=["resident", "streamed"])
def test_a_run_reads_masks_of_streams_and_evaluations(archive, tmp_path, limit):
    result = tljax.experiment.run(config_of(archive, limit), tmp_path)
    assert result["evaluations"]["rest"]["accuracy"] == 1.0
    shown = tljax.data.load(archive, "train[20:]")
    model = tljax.load(tmp_path)
    assert (model.predict(shown).argmax(-1) == shown.label).all()
    blind = tljax.data.Table(input=shown.input)
    assert (model.predict(blind).argmax(-1) != shown.label).all()


def test_an_exported_program_takes_the_mask(archive, tmp_path):
    config = config_of(archive)
    tljax.experiment.run(config, tmp_path / "run")
    export.export(tmp_path / "run", tmp_path / "model.stablehlo")
    program = jax.export.deserialize((tmp_path / "model.stablehlo").read_bytes())
    shown = tljax.data.load(archive, "train[20:]")
    logits = program.call(shown.input, shown.mask)
    assert (np.asarray(logits).argmax(-1) == shown.label).all()


def test_streams_of_other_lengths_pass_one_trunk():
    network = Network(trunk=Mean(), heads={"label": tljax.models.Linear()})
    tables = {
        "source": tljax.data.Table(input=INPUT, mask=MASK, label=[0, 1]),
        "target": tljax.data.Table(input=INPUT[:, :3], mask=MASK[:, :3]),
        "whole": tljax.data.Table(input=INPUT, label=[0, 1]),
    }
    seen = {}

    def look(view, *, stream="source"):
        seen.update({name: view.features[name].shape for name in tables})
        return (
            view.features["target"].mean()
            + view.net.head("label", view.features["source"], 2).sum()
        )

    phase = tljax.Phase(
        network=network,
        streams=[tljax.Stream(name, batch=2) for name in tables],
        terms={"look": tljax.term(look)},
        steps=1,
    )
    state = tljax.start(phase, tables, jax.random.key(0))
    _, report = tljax.step(phase, state, tables)
    assert seen == dict.fromkeys(tables, (2, 1))

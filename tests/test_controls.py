"""Controls: what the resume tests compare would show a restore that is broken in any part."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tljax import experiment, trees
from tljax.train import checkpoint, lanes
from tljax.train.checkpoint import Checkpoints


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """One stream on the device, one from disk; momentum and batch statistics; 6 steps."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(48):
        path = root / "train" / str(i % 3) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
    np.savez(root / "a.npz", image=rng.random((24, 8, 8, 3), np.float32), label=np.arange(24) % 3)
    config = experiment.blank()
    config.streams.source = dict(data=f"npz:{root}/a.npz", batch=8)
    config.streams.target = dict(data=f"folder:{root}", batch=8)
    config.evaluate.target = dict(data=f"folder:{root}")
    config.network.trunk = dict(name="mlp", features=(8,), norm="batch")
    config.terms.label = dict(term="cross_entropy")
    config.terms.more = dict(term="cross_entropy", stream="target")
    config.optimizer = dict(name="sgd", momentum=0.9, learning_rate=0.1)
    config.update(steps=6, log_every=4, evaluate_every=2, checkpoint_every=3, keep=9)
    config.update(figures=False, resident_megabytes=48 * 8 * 8 * 3 / 2**20 - 1e-6)
    return config


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    experiment.run(config, path)
    return path


def left(run):
    """All that resuming must leave as it would have been."""
    state = trees.flatten(checkpoint.load(run / "checkpoints/train/6"))
    numbers = {path: np.asarray(leaf).tobytes() for path, leaf in state.items()}
    return (run / "metrics.jsonl").read_text(), (run / "result.json").read_text(), numbers


def resumed(config, whole, run):
    shutil.copytree(whole, run)
    (run / "result.json").unlink()
    (run / "phases/train/ended.json").unlink()
    shutil.rmtree(run / "checkpoints/train/6")
    experiment.run(config, run)
    return left(run)


def zeros(tree):
    return jax.tree.map(jnp.zeros_like, tree)


def flip(tree):
    """The lowest bit of the first number of a tree."""
    leaves, structure = jax.tree.flatten(tree)
    first = np.array(leaves[0])
    first.view(np.uint32).flat[0] ^= 1
    return jax.tree.unflatten(structure, [jax.device_put(first, leaves[0].sharding), *leaves[1:]])


BROKEN = {
    "the position in resident data": lambda s: s._replace(step=s.step + 1),
    "the optimiser's state": lambda s: s._replace(optimizer=zeros(s.optimizer)),
    "one bit of a parameter": lambda s: s._replace(params=flip(s.params)),
    "batch statistics": lambda s: s._replace(batch_stats=zeros(s.batch_stats)),
    "sums that are still to be logged": lambda s: s._replace(totals=zeros(s.totals)),
}


def test_a_sound_restore_leaves_the_same(config, whole, tmp_path):
    assert resumed(config, whole, tmp_path / "run") == left(whole)


@pytest.mark.parametrize("part", BROKEN)
def test_a_broken_restore_leaves_something_else(config, whole, tmp_path, monkeypatch, part):
    restore = Checkpoints.restore

    def broken(self, like):
        step, state = restore(self, like)
        return step, BROKEN[part](state)

    monkeypatch.setattr(Checkpoints, "restore", broken)
    assert resumed(config, whole, tmp_path / "run") != left(whole)


def test_streamed_data_off_by_one_leave_something_else(config, whole, tmp_path, monkeypatch):
    feed = lanes.Feed
    monkeypatch.setattr(
        lanes, "Feed", lambda readers, start, workers=0: feed(readers, start + 1, workers)
    )
    assert resumed(config, whole, tmp_path / "run") != left(whole)

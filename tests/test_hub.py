"""`hf:REPO` and `timm:NAME` as starts: fetched, pinned, told; or a line that says what to do."""

import json
import sys
import types
import warnings

import numpy as np
import pytest
from test_origins import same_as, started, tensors

from tljax import experiment
from tljax.errors import Noticed, UserError
from tljax.experiment import hub
from tljax.models.files import write_safetensors

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = {
    "pretrained_cfg": {
        "input_size": [3, 224, 224],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "crop_pct": 0.9,
    }
}


class EntryNotFoundError(Exception):
    pass


class LocalEntryNotFoundError(EntryNotFoundError):
    pass


@pytest.fixture
def repository(tmp_path):
    """A repository as the hub's cache lays it out: revisions are directories of snapshots."""
    root = tmp_path / "hub" / "models--timm--tiny"
    snapshot = root / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    write_safetensors(snapshot / "model.safetensors", tensors())
    (snapshot / "config.json").write_text(json.dumps(CONFIG))
    (snapshot / "README.md").write_text("---\ntags:\n- timm\nlicense: apache-2.0\n---\n# Tiny\n")
    return root


@pytest.fixture
def faked(repository, monkeypatch):
    """The hub's client in a few lines, and what was asked of it."""
    asked = []

    def download(repo, name, revision=None):
        asked.append((repo, name, revision))
        if repo != "timm/tiny":
            raise ConnectionError(f"cannot reach {repo}")
        path = repository / "snapshots" / COMMIT / name
        if not path.exists():
            raise EntryNotFoundError(name)
        return str(path)

    client, errors = types.ModuleType("huggingface_hub"), types.ModuleType("errors")
    client.hf_hub_download = download
    errors.EntryNotFoundError = EntryNotFoundError
    errors.LocalEntryNotFoundError = LocalEntryNotFoundError
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    return asked


@pytest.fixture
def single(small):
    small.network.trunk = dict(name="test_origins:Trunk")
    small.phases = ("first",)
    del small.second
    return small


@pytest.mark.parametrize("origin", ["timm:tiny", "hf:timm/tiny", "hf:timm/tiny@v1"])
def test_the_weights_of_a_repository_are_a_start(single, faked, origin):
    single.start = (("trunk/**", origin), ("**", "fresh"))
    with pytest.warns(Noticed) as told:
        same_as(tensors(), *started(single))
    [line] = {str(each.message) for each in told}
    assert line == (
        f"timm/tiny{'@v1' if '@' in origin else ''}: revision {COMMIT}, expects images in [0, 1] "
        "of size [3, 224, 224], less [0.5, 0.5, 0.5], divided by [0.5, 0.5, 0.5], bicubic, "
        "crop 0.9; licence: apache-2.0"
    )
    assert ("timm/tiny", "model.safetensors", "v1" if "@" in origin else None) in faked


def test_hash_commit_and_licence_stay_with_the_run(single, faked, tmp_path):
    single.start = (("trunk/**", "timm:tiny"), ("**", "fresh"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        experiment.run(single, tmp_path / "run")
    kept = json.loads((tmp_path / "run" / "data.json").read_text())["start timm:tiny"]
    assert (kept["revision"], kept["licence"], len(kept["sha256"])) == (COMMIT, "apache-2.0", 64)
    card = (tmp_path / "run" / "README.md").read_text()
    assert "license: apache-2.0\n" in card and f"revision {COMMIT}; licence: apache-2.0" in card
    # What has begun needs the hub no more.
    (tmp_path / "run" / "result.json").unlink()
    faked.clear()
    experiment.run(single, tmp_path / "run")
    assert not faked


def test_a_torch_file_where_there_is_no_other(repository, faked):
    snapshot = repository / "snapshots" / COMMIT
    (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")
    assert hub.fetch("timm/tiny").path.name == "pytorch_model.bin"
    (snapshot / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match="model.safetensors or pytorch_model.bin; timm/tiny has ne"):
        hub.fetch("timm/tiny")


def test_what_transformers_writes_of_images(repository, faked):
    snapshot = repository / "snapshots" / COMMIT
    (snapshot / "config.json").write_text("[]")
    (snapshot / "README.md").unlink()
    written = {"size": {"height": 224, "width": 224}, "image_mean": [0.5], "image_std": [0.2]}
    (snapshot / "preprocessor_config.json").write_text(json.dumps(written))
    fetched = hub.fetch("timm/tiny")
    assert fetched.licence == "" and "not stated" in fetched.told()
    assert fetched.images.endswith("less [0.5], divided by [0.2]")


@pytest.mark.parametrize(
    ("origin", "says"),
    [
        ("hf:some/where", r"first\.start\[0\]: got 'hf:some/where'; ConnectionError: cannot reach "
         r"some/where\. Or download model.safetensors of some/where from .*'weights:PATH/TO/model"),
        ("timm:other", r"got 'timm:other'; .*of timm/other"),
        ("hf:", r"got 'hf:'; expected OWNER/NAME"),
        ("hf:a/b/c", "expected OWNER/NAME"),
        ("tim:tiny", "unknown name 'tim:tiny'"),
    ],
)  # fmt: skip
def test_what_is_not_to_be_had_is_a_line(single, faked, origin, says):
    single.start = (("trunk/**", origin), ("**", "fresh"))
    with pytest.raises(UserError, match=says):
        started(single)


def test_without_the_extra_a_line_says_how(single, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    single.start = (("trunk/**", "timm:tiny"), ("**", "fresh"))
    with pytest.raises(UserError, match=r"pip install 'tljax\[hub\]'\. Or download model.safetens"):
        started(single)


def test_with_the_hubs_own_client_and_no_network(repository, single, monkeypatch):
    """Its cache is read; what is not there is to be downloaded by other means."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(repository.parent))
    fetched = hub.fetch("timm/tiny")
    assert (fetched.revision, fetched.licence) == (COMMIT, "apache-2.0")
    assert hub.fetch(f"timm/tiny@{COMMIT}").path == fetched.path
    single.start = (("trunk/**", "hf:timm/tiny"), ("**", "fresh"))
    with pytest.warns(Noticed):
        params, _ = started(single)
    np.testing.assert_array_equal(params["trunk/dense/bias"], tensors()["first.bias"])
    with pytest.raises(UserError, match="no network.*Or download model.safetensors of timm/none"):
        hub.fetch("timm/none")

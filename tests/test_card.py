"""The card of a run: what it is, what it reaches, how it is used; in words that stay true."""

import hashlib
import json
import re

import numpy as np
import pytest

from tljax import experiment, metrics
from tljax.experiment import sweep
from tljax.models.checkpoints import CHECKPOINTS
from tljax.train.files import read_json


def test_wilsons_interval_by_hand():
    """z = 1.96. All of 10: from n / (n + z²) to 1; none: the mirror of it. Half of 96: the middle
    stays, and the half-width is z · √(1/(4n) + z²/(4n²)) / (1 + z²/n) = .0981."""
    z = 1.959964
    low, high = metrics.wilson(1.0, 10)
    assert (low, high) == (pytest.approx(10 / (10 + z**2)), pytest.approx(1))
    assert metrics.wilson(0.0, 10) == (pytest.approx(0), pytest.approx(1 - 10 / (10 + z**2)))
    assert metrics.wilson(0.5, 96) == (
        pytest.approx(0.4019, abs=1e-4),
        pytest.approx(0.5981, abs=1e-4),
    )


@pytest.fixture
def ended(small, tmp_path):
    small.method, small.family = "Fine-tuning | twice", "fine-tuning"
    result = experiment.run(small, tmp_path / "run")
    return small, tmp_path / "run", result


def card(workdir):
    return (workdir / "README.md").read_text()


def test_it_says_what_the_run_was_and_reached(ended):
    _, workdir, result = ended
    text, target = card(workdir), result["evaluations"]["target"]
    head = text.split("---\n")[1]
    assert head.splitlines() == [
        "library_name: tljax",
        "license: unknown",
        "tags: [transfer-learning, fine-tuning]",
        "pipeline_tag: image-classification",
    ]
    assert "first (4 steps), second (4 steps)" in text
    low, high = metrics.wilson(target["accuracy"], 40)
    share = f"{target['accuracy']:.4f} | {low:.3f} to {high:.3f}"
    assert f"| target | digits | 40 | accuracy | {share} |" in text
    assert f"| loss | {target['loss']:.4f} |  |" in text
    kept = read_json(workdir / "data.json")["streams.source"]
    assert f"| streams.source | digits | train[:60] | yes | 60 | {kept['fingerprint']} |" in text
    assert hashlib.sha256((workdir / "config.json").read_bytes()).hexdigest() in text
    assert "Outputs of head `label`: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9." in text


def test_its_lines_of_python_run(ended, monkeypatch):
    _, workdir, _ = ended
    [code] = re.findall(r"```python\n(.*?)```", card(workdir), re.DOTALL)
    monkeypatch.chdir(workdir)
    scope = {}
    exec(code.replace('"folder:NEW"', '"digits"'), scope)
    assert scope["shares"].shape == (2 * 1797, 10)  # of both orders
    assert scope["model"].classes == {"label": tuple("0123456789")}


def test_it_is_the_same_wherever_it_lies(ended, small, tmp_path):
    experiment.run(small, tmp_path / "elsewhere")
    assert card(tmp_path / "elsewhere") == card(ended[1])


def test_it_is_written_again_for_more_steps(ended):
    small, workdir, _ = ended
    with small.unlocked():
        small.second.steps = 8
    result = experiment.run(small, workdir)
    assert "second (8 steps)" in card(workdir)
    assert f"{result['evaluations']['target']['loss']:.4f}" in card(workdir)


def test_a_member_of_a_sweep_has_its_own(small, tmp_path):
    rows = sweep.run(small, [{"seed": 0}, {"seed": 1}], tmp_path)
    texts = [card(tmp_path / "members" / row["member"]) for row in rows]
    for seed, text in enumerate(texts):
        assert f"seed {seed}." in text


def test_weights_are_named_with_their_licence(small, tmp_path, monkeypatch):
    """A file that is known by its hash has the licence that is known of it."""
    from test_origins import tensors

    from tljax.models.files import write_safetensors

    path = tmp_path / "w.safetensors"
    write_safetensors(path, tensors())
    sums = hashlib.sha256(path.read_bytes()).hexdigest()
    known = CHECKPOINTS["efficientnet_lite0"]._replace(sha256=sums)
    monkeypatch.setitem(CHECKPOINTS, "efficientnet_lite0", known)
    small.network.trunk = dict(name="test_origins:Trunk")
    small.start = (("trunk/**", f"weights:{path}"), ("**", "fresh"))
    small.phases = ("first",)
    del small.second
    with pytest.warns(match="licence: Apache-2.0"):
        experiment.run(small, tmp_path / "run")
    text = card(tmp_path / "run")
    assert "license: apache-2.0\n" in text
    assert f"- `weights:{path}`: sha256 {sums}; licence: Apache-2.0" in text


def test_what_failed_is_told(small, tmp_path):
    labels = np.arange(60) % 3
    np.savez(tmp_path / "d.npz", input=np.ones((60, 3)), label=labels)
    far = np.ones((4, 3)) * 1e6
    np.savez(tmp_path / "far.npz", input=far, label=labels[:4])
    config = experiment.blank()
    config.streams.source = dict(data=f"npz:{tmp_path}/d.npz", batch=8)
    config.evaluate.far = dict(data=f"npz:{tmp_path}/far.npz")
    config.network.trunk = dict(name="mlp", features=(5,))
    config.network.heads.label = dict(name="test_judging:Steep")
    config.terms.label = dict(term="cross_entropy")
    config.optimizer.learning_rate = 1e-4
    config.update(steps=2, figures=False)
    experiment.run(config, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["failed"]
    assert "| failed | evaluate.far: outputs: got NaN" in card(tmp_path / "run")

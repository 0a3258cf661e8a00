"""What the README says is tried as it stands there."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

import tljax
import tljax.errors
from tljax import experiment
from tljax.report import inventory, methods, reference
from tljax.train.records import read

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TERM, CONFIG, NOTEBOOK, PHASES, READ, WEIGHTS, ADAPTERS, LOAD = re.findall(
    r"```python\n(.*?)```", README, re.DOTALL
)


def shrunk(config):
    for fields in (*config.streams.values(), *config.evaluate.values()):
        if "of" not in fields:
            fields["size"], fields["batch"] = 8, 8
    config.network.trunk.channels = (4, 4)
    config.update(steps=4, log_every=2, evaluate_every=4, checkpoint_every=4, figures=False)
    return config


def test_the_new_term_runs(tmp_path, monkeypatch):
    (tmp_path / "my_terms.py").write_text(TERM)
    (tmp_path / "my_config.py").write_text(CONFIG)
    monkeypatch.syspath_prepend(tmp_path)
    config = shrunk(methods.load(tmp_path / "my_config.py"))
    experiment.run(config, tmp_path / "run")
    trained = [record for record in read(tmp_path / "run") if record["kind"] == "train"]
    assert all(record["align"] > 0 for record in trained)
    sys.modules.pop("my_terms")


def test_the_term_and_its_config_are_short():
    assert len((TERM + CONFIG).strip().splitlines()) <= 20


def test_the_phase_held_in_a_notebook_runs(capsys):
    exec(NOTEBOOK.replace("steps=2500", "steps=60"), {})
    assert eval(capsys.readouterr().out)["accuracy"] > 0.3


def test_the_fields_are_those_of_the_schema():
    assert (ROOT / "docs" / "fields.md").read_text() == reference.reference()


def test_the_phases_run(tmp_path):
    config = methods.load(ROOT / "configs" / "dann.py")
    exec(PHASES, {"config": config})
    shrunk(config)
    with config.unlocked():
        config.pretrain.steps = 2
    experiment.run(config, tmp_path / "run")
    assert [path.name for path in sorted((tmp_path / "run" / "checkpoints").iterdir())] == [
        "adapt",
        "pretrain",
    ]


def test_the_phase_that_only_fits_runs(tmp_path):
    config = methods.load(ROOT / "configs" / "self_taught_simclr.py")
    before = dict(config.read)
    exec(READ, {"config": config})
    assert set(before) == set(config.read)
    shrunk(config)
    config.represent.steps = 2
    result = experiment.run(config, tmp_path / "run")
    assert 0 <= result["evaluations"]["target"]["accuracy"] <= 1


def test_what_was_trained_is_used(tmp_path):
    config = shrunk(methods.load(ROOT / "configs" / "dann.py"))
    experiment.run(config, tmp_path / "run")
    images = tljax.data.load("digits", "train[:5]", size=8, channels=3).input
    scope = {"tljax": tljax, "images": images}
    exec(LOAD.replace("runs/demo", str(tmp_path / "run")), scope)
    model = scope["model"]
    assert model.classes["label"] == tuple("0123456789")
    np.testing.assert_allclose(model.predict(images).sum(-1), 1, rtol=1e-5)
    evaluated = experiment.outputs(config, tmp_path / "run")["source"]
    table = tljax.data.load("digits", config.evaluate.source.split, size=8, channels=3)
    np.testing.assert_array_equal(model.outputs(table.input, batch=8).logits, evaluated.logits)
    np.testing.assert_array_equal(model.features(table.input, batch=8), evaluated.features)


@pytest.mark.parametrize("damage", ["nowhere", "unfinished"])
def test_what_was_not_trained_is_refused(tmp_path, damage):
    if damage == "unfinished":
        (tmp_path / "config.json").write_text("{}")
    with pytest.raises(tljax.errors.UserError, match="workdir|streams"):
        tljax.load(tmp_path / damage if damage == "nowhere" else tmp_path)


def test_methods_are_compared_by_their_predictions(tmp_path):
    """Two seeds each on four examples; ours is right on one more, the same for both."""
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "runs.md").read_text(), re.DOTALL)
    made = {"OURS": [0, 1, 2, 0], "THEIRS": [0, 1, 0, 0]}
    names = {side: [tmp_path / f"{side}{seed}" for seed in range(2)] for side in made}
    for side, runs in names.items():
        for run in runs:
            run.mkdir()
            kept = {"target/predicted": made[side], "target/true": [0, 1, 2, 3]}
            np.savez_compressed(run / "predictions.npz", **kept)
    exec(code, names)
    found = tljax.metrics.crossed(names["ours"] - names["theirs"])
    assert found.mean == 0.25 and 0 < found.half_width < np.inf


PAGES = [
    "README.md",
    "RESULTS.md",
    "docs/backbones.md",
    "docs/finetuning.md",
    "docs/using.md",
    *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "experiments").glob("*/README.md")),
]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    path = ROOT / page
    for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / link).exists(), link


def test_every_config_is_linked():
    for path in methods.names(ROOT / "configs").values():
        assert f"(configs/{path.name})" in README


def test_a_start_from_public_weights_names_the_file_that_is_not_there(tmp_path):
    config = experiment.blank()
    config.streams.source = dict(data="digits", size=32, channels=3, split="train[:8]", batch=8)
    config.evaluate.target = dict(data="digits", size=32, channels=3, split="train[8:16]")
    config.terms.label = dict(term="cross_entropy")
    exec(WEIGHTS, {"config": config})
    says = r"start\[0\]: got 'weights:mobilenet_v2.pth'; expected a file"
    with pytest.raises(tljax.errors.UserError, match=says):
        experiment.run(config, tmp_path / "run")


def test_adapters_beside_a_public_trunk_are_found():
    config = experiment.blank()
    config.streams.source = dict(data="digits", size=32, channels=3, split="train[:8]", batch=8)
    config.evaluate.target = dict(data="digits", size=32, channels=3, split="train[8:16]")
    config.terms.label = dict(term="cross_entropy")
    exec(WEIGHTS + ADAPTERS, {"config": config})
    with config.unlocked():
        config.start = ()
    leaves = inventory.collect(config)["train"]
    moving = {leaf["path"].split("/")[0] for leaf in leaves if leaf.get("factor")}
    assert moving == {"adapters", "heads"}

"""docs/using.md is tried as it stands there, on a small network and a few pictures."""

import csv
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

import tljax
from tljax.main import main

GUIDE = (Path(__file__).parents[1] / "docs" / "using.md").read_text()
COMMANDS = [shlex.split(line) for line in GUIDE.splitlines() if line.startswith("tljax ")]
LOAD, SELECT = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
SMALL = [
    "--config.network.trunk={'name': 'cnn', 'channels': (4,)}",
    "--config.start=()",
    "--config.train=(('**', 1.0),)",
    "--config.steps=60",
    "--config.streams.photos.size=16",
    "--config.evaluate.held_out.size=16",
    "--config.figures=False",
]


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """Crops of two photographs by class, and others beside them without classes."""
    root = tmp_path_factory.mktemp("guide")
    rng = np.random.default_rng(0)
    for image, name in zip(load_sample_images().images, ("temple", "flower"), strict=True):
        for i in range(24):
            y, x = rng.integers(0, image.shape[0] - 64), rng.integers(0, image.shape[1] - 64)
            place = root / "new" / f"{name[0]}{i}.jpg"
            place = root / "photos" / name / f"{i}.jpg" if i < 20 else place
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[y : y + 64, x : x + 64]).save(place)
    (root / "new" / "t20.jpg").rename(root / "new" / "a.jpg")
    (root / "new" / "t21.jpg").rename(root / "new" / "b.jpg")
    return root


def test_every_command_runs_in_order(there, monkeypatch, capsys):
    monkeypatch.chdir(there)
    assert len(COMMANDS) == 8  # the weights are not fetched here
    for command in COMMANDS:
        more = SMALL if "--config" in command else []
        assert main([*command, *more]) == 0, capsys.readouterr().err
    rows = list(csv.reader(open("predictions.csv", newline="")))
    assert rows[0] == ["path", "predicted", "confidence", "flower", "temple"]
    assert len(rows) == 9 and all(row[1] in ("flower", "temple") for row in rows[1:])
    for name in ("predictions.jsonl", "features.npz", "model.npz", "model.stablehlo.json"):
        assert (there / name).stat().st_size
    scope = {}
    exec(LOAD.replace("model.predict([", "some = model.predict(["), scope)
    whole = scope["model"].predict("folder:new")
    np.testing.assert_allclose(scope["some"], whole[:2], rtol=1e-4)


def test_the_fields_of_a_choice_are_those_of_a_config():
    from tljax.configs import photos

    config = photos.get_config()
    exec(SELECT, {"config": config})
    fields = tljax.experiment.check(config).fields
    assert fields.evaluate["valid"].validation and fields.select.patience == 5

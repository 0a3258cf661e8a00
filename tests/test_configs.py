"""Every shipped config, shrunk, from its data to its result."""

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_digits

from tljax import experiment, methods

ROOT = Path(__file__).parents[1]
CONFIGS = methods.collect(ROOT / "configs")


class TinyScans(tfds.core.GeneratorBasedBuilder):
    """scikit-learn's digits as TFDS has MNIST."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 1)),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0), "test": self._generate_examples(100)}

    def _generate_examples(self, first):
        digits = load_digits()
        for i in range(first, first + 100):
            file = io.BytesIO()
            Image.fromarray((digits.images[i] * 15).astype(np.uint8)).save(file, "PNG")
            file.seek(0)
            yield i, {"image": file, "label": int(digits.target[i])}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A directory with small real data in the formats of the data sets that are not here."""
    root = tmp_path_factory.mktemp("data")
    TinyScans(data_dir=root, file_format="array_record").download_and_prepare()
    digits = load_digits()
    for part, kind, rows in (("train", "idx", range(100)), ("t10k", "idx", range(100, 160))):
        images = (digits.images[rows] * 15).astype(np.uint8)
        labels = digits.target[rows].astype(np.uint8)
        for name, array in ((f"images-{kind}3", images), (f"labels-{kind}1", labels)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (root / f"{part}-{name}-ubyte").write_bytes(header + array.tobytes())
    return root


def shrink(config, data: Path) -> None:
    """A few steps of small batches of a narrow network on little data, all else as shipped."""
    for fields in (*config.streams.values(), *config.evaluate.values()):
        scheme = fields.data.partition(":")[0]
        if scheme != "digits":
            fields.data = {"idx": f"idx:{data}", "tfds": "tfds:tiny_scans"}[scheme]
            fields.split = "test" if fields.split.startswith("test") else "train"
        fields["size"] = 8
        fields["batch"] = 8
    config.data_dir = str(data)
    config.network.trunk.channels = (4,) * len(config.network.trunk.channels)
    for head in config.network.heads.values():
        head.hidden = (8,) * len(head.hidden)
    config.update(steps=6, log_every=2, evaluate_every=3, checkpoint_every=3)


@pytest.mark.parametrize(("family", "name", "path"), CONFIGS, ids=[p.stem for *_, p in CONFIGS])
def test_it_runs(family, name, path, data, tmp_path):
    assert family in experiment.FAMILIES and name
    config = methods.load(path)
    shrink(config, data)
    result = experiment.run(config, tmp_path / "run")
    left = {each.name for each in (tmp_path / "run").iterdir()}
    assert {"config.json", "metrics.jsonl", "result.json", "checkpoints", "figures"} <= left
    assert (tmp_path / "run" / "figures" / "features.png").stat().st_size > 10_000
    records = [json.loads(line) for line in open(tmp_path / "run" / "metrics.jsonl")]
    assert {r["step"] for r in records if r["kind"] == "train"} == {2, 4, 6}
    assert {r["kind"] for r in records} == {"train", *config.evaluate}
    for evaluation in result["evaluations"].values():
        assert 0 <= evaluation["accuracy"] <= 1
        assert np.sum(evaluation["confusion"]) == evaluation["examples"]


@pytest.mark.parametrize("path", [path for *_, path in CONFIGS], ids=lambda path: path.stem)
def test_its_docstring_says_what_to_expect(path):
    assert "Expected:" in path.read_text() or "reports" in path.read_text()


def test_the_three_digits_configs_differ_only_in_the_method():
    dann, floor, ceiling = (
        methods.load(ROOT / "configs" / f"{name}.py")
        for name in ("dann", "source_only", "target_supervised")
    )
    for other in (floor, ceiling):
        for field in ("evaluate", "steps", "average", "seed"):
            assert other[field] == dann[field], field
        assert other.network.trunk == dann.network.trunk
        assert other.network.heads.label == dann.network.heads.label
        for name in ("name", "momentum", "schedule"):
            assert other.optimizer[name] == dann.optimizer[name]
    assert floor.streams.source == dann.streams.source
    taught = {**ceiling.streams.target, "labelled": False}
    assert taught == dict(dann.streams.target)

"""Every shipped config, shrunk, from its data to its result."""

import functools
import io
import json
import struct
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_digits

from tljax import experiment
from tljax.data import sources
from tljax.report import methods

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
    for i in range(60):
        path = root / "photos" / f"class {digits.target[i] % 3}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[i] * 15).astype(np.uint8)).save(path)
    return root


def shrink(config, data: Path) -> None:
    """A few steps of small batches of a narrow network on little data, all else as shipped."""
    for fields in (*config.streams.values(), *config.evaluate.values()):
        if "of" in fields:
            continue
        scheme = fields.data.partition(":")[0]
        if scheme in ("idx", "tfds"):
            fields.data = {"idx": f"idx:{data}", "tfds": "tfds:tiny_scans"}[scheme]
            fields.split = "test" if fields.split.startswith("test") else "train"
        if scheme != "pairs":  # they are small, and not square
            fields["size"] = 8
        fields["batch"] = 10 if "per_class" in fields else 8
    config.data_dir = str(data)
    if any(str(origin).startswith("weights:") for _, origin in config.start):  # of large trunks
        config.network.trunk, config.start = dict(name="cnn", channels=(4,)), ()
    for width in ("channels", "features"):
        if width in config.network.trunk:
            config.network.trunk[width] = (4,) * len(config.network.trunk[width])
    for name, head in config.network.heads.items():
        if "hidden" in head:
            head.hidden = (8,) * len(head.hidden)
        if name == "decoder":
            head.outputs = 64
    for phase in config.phases:
        config[phase].steps = min(config[phase].get("steps", 6), 6)
        if "restarts" in config[phase]:
            config[phase].restarts = 2
    config.update(steps=6, log_every=2, evaluate_every=3, checkpoint_every=3)


class Death(BaseException):
    """A kill between two dispatches: nothing of the run's own code has a word in it."""


@contextmanager
def dying(monkeypatch, after: int):
    """Within it a run dies when `after` dispatches have been shown."""
    left = [after]

    def advance(self, step):
        left[0] -= 1
        if not left[0]:
            raise Death

    with monkeypatch.context() as patch:
        patch.setattr("tljax.train.records.Display.advance", advance)
        yield


def permute(monkeypatch, unlabelled: bool):
    """Shuffles the labels of every unlabelled stream, or of every labelled one, in its file."""
    for scheme, reader in sources.SCHEMES.items():

        def shuffled(request, reader=reader):
            def open_one(opener):
                rows = opener()
                label = rows.table.label
                if rows.label is not None:
                    label = np.asarray(rows.label[np.arange(len(rows.table))])
                if request.labelled is unlabelled or label is None:
                    return rows
                label = np.random.default_rng(0).permutation(label)
                return rows._replace(table=rows.table.with_column("label", label), label=None)

            splits = reader(request)
            return {name: functools.partial(open_one, each) for name, each in splits.items()}

        monkeypatch.setitem(sources.SCHEMES, scheme, shuffled)


def left_by(workdir: Path) -> tuple[str, str]:
    return tuple((workdir / name).read_text() for name in ("metrics.jsonl", "result.json"))


DRAWN = ("dann", "finetune", "zero_shot_pairs", "cluster_scan")  # figures take a while


@pytest.mark.parametrize(("family", "name", "path"), CONFIGS, ids=[p.stem for *_, p in CONFIGS])
def test_it_runs_and_dies_and_ends_the_same_whatever_the_labels_it_must_not_see(
    family, name, path, data, tmp_path, monkeypatch
):
    """Run once; then with the labels of unlabelled streams permuted, killed and resumed."""
    assert family in experiment.FAMILIES and name
    config = methods.load(path)
    shrink(config, data)
    config.figures = path.stem in DRAWN
    result = experiment.run(config, tmp_path / "run")
    records = [json.loads(line) for line in open(tmp_path / "run" / "metrics.jsonl")]
    phases = {p: config[p].steps for p in config.phases} or {"train": config.steps}
    trained = [phase for phase, steps in phases.items() if steps]
    for phase in trained:
        steps = {r["step"] for r in records if r["phase"] == phase and r["kind"] == "train"}
        assert steps == {2, 4, 6}
    assert set(result["evaluations"]) == set(config.evaluate)
    for evaluation in result["evaluations"].values():
        assert 0 <= evaluation["accuracy"] <= 1
        if "confusion" in evaluation:
            assert np.sum(evaluation["confusion"]) == evaluation["examples"]
    if config.figures:
        assert (tmp_path / "run" / "figures" / "features.png").stat().st_size > 10_000

    permute(monkeypatch, unlabelled=True)
    config.figures = False
    dispatches = zlib.crc32(path.stem.encode()) % (4 * len(trained) - 1) + 1
    with dying(monkeypatch, dispatches), pytest.raises(Death):
        experiment.run(config, tmp_path / "again")
    assert not (tmp_path / "again" / "result.json").exists()
    experiment.run(config, tmp_path / "again")
    assert left_by(tmp_path / "again") == left_by(tmp_path / "run")


def test_labels_that_a_run_may_see_do_matter(data, tmp_path, monkeypatch):
    """The check of the check."""
    config = methods.load(ROOT / "configs" / "dann.py")
    shrink(config, data)
    config.figures = False
    experiment.run(config, tmp_path / "run")
    permute(monkeypatch, unlabelled=False)
    experiment.run(config, tmp_path / "other")
    assert left_by(tmp_path / "other") != left_by(tmp_path / "run")


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

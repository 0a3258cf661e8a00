"""Every shipped config, shrunk, from its data to its result."""

import functools
import io
import json
import struct
import zlib
from contextlib import contextmanager
from pathlib import Path

import drawing
import jax
import numpy as np
import pytest
import speaking
import tensorflow_datasets as tfds
import tokenizers
from PIL import Image
from sklearn.datasets import load_digits

import tljax
from tljax import experiment, trees
from tljax.data import sources, tokens
from tljax.models import weights
from tljax.models.trunks import TRUNKS
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


class TinyPairs(tfds.core.GeneratorBasedBuilder):
    """Pairs of sentences as TFDS has GLUE's."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        text = tfds.features.Text()
        label = tfds.features.ClassLabel(names=["same", "other"])
        features = dict(sentence1=text, sentence2=text, label=label)
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(n) for name, n in (("train", 24), ("test", 9))}

    def _generate_examples(self, count):
        for i in range(count):
            first = SENTENCES[i % 3]
            yield i, dict(sentence1=first, sentence2=SENTENCES[i % 2], label=int(i % 3 != i % 2))


SENTENCES = ("The red fox runs.", "A river is wide.", "Far away the fox sleeps.")


def worded(root: Path) -> None:
    """The three tasks of `text_tasks`, of a few sentences."""
    for split, count in (("train", 24), ("test", 9)):
        rows = {"pair": [], "single": [], "span": []}
        for i in range(count):
            first, second = SENTENCES[i % 3], SENTENCES[i % 2]
            pair = dict(text=first, text_pair=second)
            rows["pair"].append(dict(pair, label="same" if first == second else "other"))
            rows["single"].append(dict(text=first, label="fox" if "fox" in first else "none"))
            rows["span"].append(dict(pair, start=second.index(" "), end=len(second) - 1))
        for name, each in rows.items():
            (root / name).mkdir(exist_ok=True)
            (root / name / f"{split}.jsonl").write_text("\n".join(map(json.dumps, each)))
    tokens.learned(SENTENCES, 100).save(str(root / "words.json"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A directory with small real data in the formats of the data sets that are not here."""
    root = tmp_path_factory.mktemp("data")
    for builder in (TinyScans, TinyPairs):
        builder(data_dir=root, file_format="array_record").download_and_prepare()
    worded(root)
    digits = load_digits()
    for part, kind, rows in (("train", "idx", range(100)), ("t10k", "idx", range(100, 160))):
        images = (digits.images[rows] * 15).astype(np.uint8)
        labels = digits.target[rows].astype(np.uint8)
        for name, array in ((f"images-{kind}3", images), (f"labels-{kind}1", labels)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (root / f"{part}-{name}-ubyte").write_bytes(header + array.tobytes())
    for split, first in (("train", 0), ("test", 200)):
        for label in (0, 1):
            (root / "pictures" / split / f"kind{label}").mkdir(parents=True)
        for i in range(first, first + 100):
            if digits.target[i] < 2:
                image = Image.fromarray((digits.images[i] * 15).astype(np.uint8)).resize((48, 40))
                image.save(root / "pictures" / split / f"kind{digits.target[i]}" / f"{i}.png")
    prompted(root / "prompts", TOWER)
    speaking.write(root / "recordings")
    return root


TOWER = dict(name="text_tower", vocabulary=9, length=9, width=8, depth=1, heads=2, end=1)
TOWER["projection"] = 512  # as the image tower's
TINY = {  # of trunks: fields of a network that a test has time for
    "resnet": dict(depth=18),
    "vit": dict(width=8, depth=2, heads=2, mlp=8, image=32, patch=16),
    "mobilenet_v2": {},
    "bert": dict(vocabulary=100, length=32, width=32, depth=2, heads=2, separator=3),
}


def prompted(folder: Path, tower) -> None:
    """A tiny text tower of random weights, as a checkpoint comes, whose tokens are words."""
    words = ["<pad>", "<end>", *"a photo of kind0 kind1 the blurry".split()]
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, "a")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A <end>", special_tokens=[("<end>", 1)]
    )
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    randomised(TRUNKS["text_tower"](**without_name(tower)), folder / "model.safetensors")


def without_name(fields):
    return {key: value for key, value in fields.items() if key != "name"}


def randomised(trunk, path: Path) -> None:
    """Public weights of a trunk that are none."""
    numbers = np.zeros((1, 9), np.int32)
    of_text = isinstance(trunk, TRUNKS["text_tower"] | TRUNKS["bert"])
    example = numbers if of_text else np.zeros((1, 32, 32, 3))
    variables = drawing.variables(trunk, example, train=False)
    variables = {kind: {"trunk": tree} for kind, tree in variables.items()}
    clip = isinstance(trunk, TRUNKS["vit"]) and trunk.projection
    weights.save(trunk, {"batch_stats": {}} | variables, path, "clip" if clip else "")


def shrink(config, data: Path) -> None:
    """A few steps of small batches of a narrow network on little data, all else as shipped."""
    if "mel" in config.network.stems:
        speaking.shrink(config)
        config.data_dir = str(data)
        return
    trunk = config.network.trunk
    if trunk.name in TINY:
        trunk.update(TINY[trunk.name])
        file = (
            data / f"{trunk.name}{trunk.get('projection', '')}{trunk.get('pool', '')}.safetensors"
        )
        if not file.exists():
            randomised(TRUNKS[trunk.name](**without_name(trunk.to_dict())), file)
        for section in (config, *(config[phase] for phase in config.phases)):
            section.start = tuple(
                (pattern, f"weights:{file}" if ":" in origin else origin)
                for pattern, origin in section.get("start", ())
            )
    for table in config.tables.values():
        if table.data.startswith("prompts:"):
            table.update(data="prompts:prompts", tower=TOWER)
    for fields in (*config.streams.values(), *config.evaluate.values()):
        if "of" in fields:
            continue
        scheme = fields.data.partition(":")[0]
        if "length" in fields:
            fields.update(length=32, batch=8)
            if scheme == "tfds":
                split = "train" if fields.get("split", "train") == "train" else "test"
                fields.update(data="tfds:tiny_pairs", split=split)
            continue
        if scheme in ("idx", "tfds", "folder"):
            tiny = {"idx": f"idx:{data}", "tfds": "tfds:tiny_scans", "folder": "folder:pictures"}
            fields.data = tiny[scheme]
            fields.split = "test" if fields.get("split", "").startswith("test") else "train"
        if "per_class" in fields:
            fields.per_class = min(fields.per_class, 8)
        if "view" in fields:
            fields.view.size = 32
            fields.view.update({"resize": 36} if "resize" in fields.view else {})
        elif scheme != "pairs":  # they are small, and not square
            fields["size"] = 32 if trunk.name in TINY else 8
        fields["batch"] = 10 if "per_class" in fields else 8
    config.data_dir = str(data)
    if config.tokenizer.file:
        config.tokenizer.file = "words.json"
    for width in ("channels", "features"):
        if width in trunk:
            trunk[width] = (4,) * len(trunk[width])
    for name, head in config.network.heads.items():
        if "hidden" in head:
            head.hidden = (8,) * len(head.hidden)
        if name == "decoder":
            head.outputs = 64
    for phase in config.phases:
        config[phase].steps = min(config[phase].get("steps", 6), 6)
        if "restarts" in config[phase]:
            config[phase].restarts = 2
    config.update(steps=min(6, config.steps), log_every=2, evaluate_every=3, checkpoint_every=3)


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


DRAWN = (
    "dann",
    "finetune",
    "zero_shot_pairs",
    "cluster_scan",
    "zero_shot_clip",
)  # figures take a while


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
    phases = {p: config[p].steps for p in config.phases} or {"train": config.steps}
    trained = [phase for phase, steps in phases.items() if steps]
    for phase in trained:
        records = [json.loads(line) for line in open(tmp_path / "run" / "metrics.jsonl")]
        steps = {r["step"] for r in records if r["phase"] == phase and r["kind"] == "train"}
        assert steps == {2, 4, 6}
    assert set(result["evaluations"]) == set(config.evaluate) and "figures" not in result
    for evaluation in result["evaluations"].values():
        assert 0 <= evaluation["exact_match" if "f1" in evaluation else "accuracy"] <= 1
        if "confusion" in evaluation:
            assert np.sum(evaluation["confusion"]) == evaluation["examples"]
    if config.figures:
        assert (tmp_path / "run" / "figures" / "features.png").stat().st_size > 10_000

    permute(monkeypatch, unlabelled=True)
    config.figures = False
    if not trained:
        return
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


@pytest.mark.parametrize("way", ["head", "lora", "lp_ft"])
def test_the_ways_of_fine_tuning_a_transformer(way, data, tmp_path):
    config = methods.opened(f"finetune_vit:{way}")
    shrink(config, data)
    config.figures = False
    result = experiment.run(config, tmp_path)
    assert 0 <= result["evaluations"]["target"]["accuracy"] <= 1
    before = weights.load(
        TRUNKS["vit"](**without_name(config.network.trunk.to_dict())), data / "vit.safetensors"
    )
    after = tljax.load(tmp_path).variables["params"]["trunk"]
    same = jax.tree.map(lambda a, b: np.array_equal(a, b), before["params"]["trunk"], after)
    kept = [path for path, equal in trees.flatten(same).items() if equal]
    moved = [path for path, equal in trees.flatten(same).items() if not equal]
    assert kept and not moved if way == "head" else moved
    if way == "lora":
        assert all(path.endswith("qkv/kernel") for path in moved)


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

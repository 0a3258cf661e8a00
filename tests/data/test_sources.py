"""`sources.load`: what each format gives, and the one line that each mistake gets."""

import gzip
import io
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tljax.data import pictures
from tljax.data.decoded import materialise
from tljax.data.sources import SCHEMES, load
from tljax.errors import UserError

FASHION = Path("/usr/share/datasets/fashion-mnist")  # where Debian's dataset-fashion-mnist puts it


def refused(*says, **arguments):
    """Loads what must be refused, in one line that begins with the field and says `says`."""
    with pytest.raises(UserError) as caught:
        load(**{"split": "train", "field": "streams.source.data", **arguments})
    line = str(caught.value)
    assert line.startswith("streams.source.") and "\n" not in line
    for each in says:
        assert each in line


# What is common to all sources.


def test_slices_are_joined_in_order():
    whole, table = load("digits", "train"), load("digits", "train[-5:]+train[:10]")
    rows = [*range(1792, 1797), *range(10)]
    np.testing.assert_array_equal(table.input, whole.input[rows])
    np.testing.assert_array_equal(table.label, whole.label[rows])


def test_take_keeps_order():
    whole = load("digits", "train")
    table = whole.take([7, 3])
    assert table.label.tolist() == [whole.label[7], whole.label[3]] and len(table) == 2
    np.testing.assert_array_equal(table.input, whole.input[[7, 3]])


def test_unlabelled_data_has_no_labels():
    assert load("digits", "train", labelled=False).label is None


def test_skip_leaves_what_the_smaller_draw_holds():
    whole, part, rest = (
        load("digits", "train", per_class=count, seed=3, skip=skip)
        for count, skip in ((5, 0), (3, 0), (5, 3))
    )
    assert [len(table) for table in (whole, part, rest)] == [50, 30, 20]
    assert np.bincount(rest.label).tolist() == [2] * 10

    def pictures(table):
        return {np.asarray(image).tobytes() for image in table.input}

    assert not pictures(part) & pictures(rest)
    assert pictures(part) | pictures(rest) == pictures(whole)
    refused(
        "skip: got 5; expected less than streams.source.per_class",
        data="digits",
        per_class=5,
        skip=5,
    )
    refused("skip: got 1; expected less than streams.source.per_class", data="digits", skip=1)
    refused("skip: got -1", data="digits", per_class=5, skip=-1)


def test_per_class_draws_by_seed_and_keeps_order():
    whole = load("digits", "train")
    few, same, more, other = (
        load("digits", "train", per_class=count, seed=seed)
        for count, seed in ((2, 3), (2, 3), (5, 3), (2, 4))
    )
    assert np.bincount(few.label).tolist() == [2] * 10
    np.testing.assert_array_equal(few.input, same.input)
    assert not np.array_equal(few.input, other.input)
    rows = {image.tobytes(): row for row, image in enumerate(whole.input)}
    few_rows, more_rows = ([rows[i.tobytes()] for i in each.input] for each in (few, more))
    assert few_rows == sorted(few_rows)
    assert set(few_rows) < set(more_rows)


def test_classes_are_kept_by_name_or_number():
    whole = load("digits", "train")
    table = load("digits", "train", classes=("7", 3))
    at = np.flatnonzero((whole.label == 7) | (whole.label == 3))
    np.testing.assert_array_equal(table.input, whole.input[at])
    # Labels stay numbers in the full list of classes, so that heads are the same.
    np.testing.assert_array_equal(table.label, whole.label[at])
    assert table.classes == whole.classes and table.label.dtype == np.int32
    rest = load("digits", "train", classes=[0, 1, 2, 4, 5, 6, 8, 9])
    assert len(table) + len(rest) == 1797 and not {3, 7} & set(rest.label.tolist())
    same = load("digits", "train", classes=range(10))
    np.testing.assert_array_equal(same.input, whole.input)


def test_classes_of_unlabelled_data_are_read_and_dropped():
    table = load("digits", "train", classes=(3,), labelled=False)
    assert table.label is None and len(table) == 183
    np.testing.assert_array_equal(table.input, load("digits", "train", classes=(3,)).input)


def test_a_draw_of_one_class_does_not_depend_on_the_others():
    whole = load("digits", "train", per_class=4, seed=5)
    part = load("digits", "train", per_class=4, seed=5, classes=(2, "8"))
    at = np.flatnonzero(np.isin(whole.label, [2, 8]))
    assert len(part) == 8
    np.testing.assert_array_equal(part.input, whole.input[at])
    np.testing.assert_array_equal(part.label, whole.label[at])
    # Class 3 has 183 examples; that others have fewer does not matter where they are not kept.
    assert len(load("digits", "train", per_class=183, classes=(3,))) == 183


def test_unknown_classes():
    refused("source.classes: unknown name '10'", "Did you mean '1'?", data="digits", classes=["10"])
    refused("source.classes: got 10", "0 to 9", data="digits", classes=[1, 10])
    refused("source.classes: got -1", data="digits", classes=[-1])
    refused("source.classes: got True", data="digits", classes=[True])
    refused("source.classes: got '12'; expected a list", data="digits", classes="12")
    refused("source.classes: got 3; expected a list", data="digits", classes=3)
    refused("source.classes: got ()", data="digits", classes=())
    other = (int(load("digits", "train[:1]").label[0]) + 1) % 10
    refused(f"source.classes: got ({other},)", "examples in 'train[:1]'", data="digits",
            split="train[:1]", classes=(other,))  # fmt: skip
    refused("per_class: got 184; expected at most 183", "'3'", data="digits", classes=(3,),
            per_class=184)  # fmt: skip


def test_refusals_common_to_all_sources():
    refused("unknown name 'digit'", "Did you mean 'digits'?", *SCHEMES, data="digit")
    refused("'digits' alone", data="digits:8x8")
    refused("'pairs' alone", data="pairs:train")
    refused("expected 'idx:' and its place", data="idx")
    refused("got 3; expected a source such as", data=3)
    refused("source.split: unknown name 'test'", data="digits", split="test")
    refused("source.per_class: got 179; expected at most 178", "'0'", data="digits", per_class=179)
    refused("source.per_class: got 0", data="digits", per_class=0)
    refused("source.per_class: got 5", "labels", data="digits", per_class=5, labelled=False)
    refused("source.size: got 2.5", data="digits", size=2.5)
    refused("source.seed: got -1", data="digits", seed=-1)
    refused("source.seed: got None", data="digits", seed=None)
    refused("source.channels: got 2; expected 1, 3", data="digits", channels=2)
    refused("'nowhere'", "an existing directory", data="idx:nowhere")
    refused("'nowhere'", "an existing directory", data="folder:nowhere")
    refused("'nowhere.npz'", "an existing .npz file", data="npz:nowhere.npz")


# Size and channels.


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_size_and_channels_are_those_of_pil(tmp_path, dtype):
    colour = np.random.default_rng(0).integers(0, 256, (3, 9, 12, 3)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", image=colour.astype(dtype))
    image = load("npz:a.npz", "train", size=5, channels=1, labelled=False, root=str(tmp_path))
    expected = [Image.fromarray(each).convert("L") for each in colour]
    expected = [each.resize((5, 5), Image.Resampling.BILINEAR) for each in expected]
    assert image.input.shape == (3, 5, 5, 1) and image.input.dtype == dtype
    close = np.stack([np.asarray(each) for each in expected])[..., None].astype(float)
    np.testing.assert_allclose(image.input, close, atol=0 if dtype == np.uint8 else 1.1)


def test_grey_becomes_three_equal_channels():
    images = load("digits", "train[:4]", size=16, channels=3).input
    assert images.shape == (4, 16, 16, 3)
    assert (images == images[..., :1]).all()


def test_two_channels_cannot_be_converted(tmp_path):
    np.savez(tmp_path / "a.npz", image=np.zeros((2, 4, 4, 2), np.uint8), label=np.arange(2))
    refused("(4, 4, 2)", "1 or 3 channels", data=f"npz:{tmp_path}/a.npz", channels=3)


# IDX.


def idx_bytes(array):
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return head + array.astype(np.uint8).tobytes()


@pytest.fixture
def idx_files(tmp_path):
    """Six training images, gzipped; two test images in the other spelling, not gzipped."""
    images, labels = np.arange(6 * 4 * 3).reshape(6, 4, 3), np.arange(6) % 3
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        path = tmp_path / f"train-{name}-ubyte.gz"
        path.write_bytes(gzip.compress(idx_bytes(array)))
        name = name.replace("-idx", ".idx")
        (tmp_path / f"t10k-{name}-ubyte").write_bytes(idx_bytes(array[:2]))
    return tmp_path


def test_idx(idx_files):
    train, both = (load(f"idx:{idx_files}", split) for split in ("train", "train[4:]+test"))
    assert train.input.shape == (6, 4, 3, 1) and train.input[1, 0, 2, 0] == 14  # 12 + 2
    assert train.label.tolist() == [0, 1, 2, 0, 1, 2]
    assert both.label.tolist() == [1, 2, 0, 1]
    assert both.classes == ("0", "1", "2")


def test_idx_opens_only_what_is_asked_for(idx_files):
    (idx_files / "t10k-images.idx3-ubyte").write_bytes(b"")
    assert len(load(f"idx:{idx_files}", "train")) == 6
    (idx_files / "train-labels-idx1-ubyte.gz").write_bytes(b"")
    assert load(f"idx:{idx_files}", "train", labelled=False).label is None


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda raw: b"\0\0\r\3" + raw[4:], "magic 00000803; it begins with 00000d03"),
        (lambda raw: raw[:7], "an IDX file of unsigned bytes in 3 dimensions"),
        (lambda raw: raw[:-1], "72 bytes of data as its header says, [6, 4, 3]; it holds 71"),
        (lambda raw: raw + b"\0", "it holds 73"),
        (lambda raw: gzip.compress(raw)[:-9], "an undamaged gzip file"),
        (lambda raw: gzip.compress(raw)[:10] + b"\xff" * 20, "an undamaged gzip file"),
    ],
)
def test_damaged_idx(idx_files, damage, says):
    path = idx_files / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(gzip.decompress(path.read_bytes())))
    refused(str(path), says, data=f"idx:{idx_files}")


def test_incomplete_idx(idx_files):
    (idx_files / "train-labels-idx1-ubyte.gz").write_bytes(idx_bytes(np.arange(5)))
    refused("got 5; expected 6 examples in 'label'", data=f"idx:{idx_files}")
    (idx_files / "train-labels-idx1-ubyte.gz").unlink()
    refused("labels in its split 'train', or labelled=False", data=f"idx:{idx_files}")
    refused("source.classes: got (0,); expected None, as split 'train' holds no 'label'",
            data=f"idx:{idx_files}", labelled=False, classes=(0,))  # fmt: skip
    (idx_files / "empty").mkdir()
    refused("train-images-idx3-ubyte", data=f"idx:{idx_files}/empty")


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist():
    train, test = (load(f"idx:{FASHION}", split) for split in ("train", "test"))
    assert train.input.shape == (60_000, 28, 28, 1) and test.input.shape == (10_000, 28, 28, 1)
    assert np.bincount(train.label).tolist() == [6_000] * 10
    assert train.classes == tuple("0123456789")


# Folders.


def write_image(path, value=0, shape=(4, 5, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)
    return path


@pytest.fixture
def domains(tmp_path):
    """Two domains; classes `ant` and `bee`; the second domain lacks ants."""
    write_image(tmp_path / "photo" / "bee" / "0.png", 3)
    write_image(tmp_path / "photo" / "bee" / "1.JPG", 4)
    write_image(tmp_path / "photo" / "ant" / "0.bmp", 1, (4, 5))
    write_image(tmp_path / "Real World" / "bee" / "0.webp", 5)
    (tmp_path / "photo" / "ant" / "notes.md").write_text("not an image")
    (tmp_path / "photo" / "ant" / "._0.png").write_text("macOS leaves these")
    return tmp_path


def test_folder_of_splits(domains):
    table = load(f"folder:{domains}", "photo+Real World")
    assert not table.resident and table.classes == ("ant", "bee")
    assert table.label.tolist() == [0, 1, 1, 1]
    assert [int(image.mean()) for image in table.input] == [1, 3, 4, 5]
    assert table.input[0].shape == (4, 5, 3) and table.nbytes == 4 * (60 + 4)
    assert load(f"folder:{domains}", "Real World").label.tolist() == [1]
    refused("unknown name 'photos'", "Real World, photo", data=f"folder:{domains}", split="photos")
    refused("at most 0", "'ant'", data=f"folder:{domains}", split="Real World", per_class=1)


def test_folder_of_classes_is_train(domains):
    table = load("folder:photo", "train", root=str(domains))
    assert table.classes == ("ant", "bee") and table.label.tolist() == [0, 1, 1]


def test_lazy_images_stay_lazy_and_can_be_pickled(domains):
    table = load(f"folder:{domains}", "photo", size=2, channels=1).take([2, 0])
    table = pickle.loads(pickle.dumps(table))
    assert not table.resident and table.label.tolist() == [1, 0]
    assert table.input[-1].shape == (2, 2, 1) and table.input[0].mean() == 4


def test_classes_of_lazy_images(domains):
    table = load(f"folder:{domains}", "photo+Real World", classes=("bee",))
    assert not table.resident and table.label.tolist() == [1, 1, 1]
    assert [int(image.mean()) for image in table.input] == [3, 4, 5]
    table = load(f"folder:{domains}", "photo", classes=(0,), labelled=False, size=2)
    assert table.label is None and table.classes == ("ant", "bee")
    assert not table.resident and [int(image.mean()) for image in table.input] == [1]
    # A domain without ants still has bees to draw.
    assert len(load(f"folder:{domains}", "Real World", classes=("bee",), per_class=1)) == 1
    refused("unknown name 'ants'", "Did you mean 'ant'?", data=f"folder:{domains}", split="photo",
            classes=("ants",))  # fmt: skip


def test_materialise_within_the_limit(domains):
    table = load(f"folder:{domains}", "photo")
    assert materialise(table, 3 * 64 - 1) is table
    resident = materialise(table, 3 * 64)
    assert resident.input.shape == (3, 4, 5, 3) and resident.input.dtype == np.uint8
    assert resident.input[:, 0, 0, 0].tolist() == [1, 3, 4]
    streamed = materialise(resident, 0)
    assert not streamed.resident and streamed.input.shape == (3, 4, 5, 3)
    np.testing.assert_array_equal(materialise(streamed, 10**6).input, resident.input)
    assert resident.label is table.label


def test_images_of_different_shapes(domains):
    odd = write_image(domains / "photo" / "bee" / "0.png", 3, (6, 5, 3))
    table = load(f"folder:{domains}", "photo")
    for use in (lambda: table.input[1], lambda: materialise(table, 10**6)):
        with pytest.raises(UserError) as caught:
            use()
        for says in ("data: got (6, 5, 3)", str(odd), "(4, 5, 3)", "0.bmp", "size="):
            assert says in str(caught.value)
    assert materialise(load(f"folder:{domains}", "photo", size=4), 10**6).resident


def test_damaged_images_are_named(domains):
    for path, content in (("0.png", b"nonsense"), ("1.JPG", None)):
        file = domains / "photo" / "bee" / path
        file.write_bytes(content or file.read_bytes()[:-20])
        table = load(f"folder:{domains}", "photo", field="streams.source.data")
        with pytest.raises(UserError, match="streams.source.data: .*a readable image") as caught:
            materialise(table.take([1 if path == "0.png" else 2]), 10**6)
        assert str(file) in str(caught.value)


def test_folders_without_images(tmp_path):
    refused("DIR/<split>/<class>/", data=f"folder:{tmp_path}")
    (tmp_path / "ant").mkdir()
    refused(str(tmp_path), "*.png", data=f"folder:{tmp_path}")


def test_image_lists(domains):
    """Paths hold spaces, and start from DIR or from the list's own directory."""
    write_image(domains / "photo" / "ant" / "a 1.png", 7)
    (domains / "photo.txt").write_text("photo/bee/0.png 1\n\nphoto/ant/a 1.png 0\n")
    write_image(domains / "image_list" / "x.png", 9)
    (domains / "image_list" / "near.txt").write_text("x.png\t2\n")
    (domains / "README.txt").write_text("Not a list.")
    table = load(f"folder:{domains}", "photo")
    assert table.label.tolist() == [1, 0] and table.classes == ("0", "1")
    assert [int(image.mean()) for image in table.input] == [3, 7]
    both = load(f"folder:{domains}", "photo+near")
    assert both.label.tolist() == [1, 0, 2] and both.classes == ("0", "1", "2")
    assert both.input[2].mean() == 9
    assert load(f"folder:{domains}", "Real World").classes == ("ant", "bee")
    refused("splits of the same classes", data=f"folder:{domains}", split="photo+Real World")
    refused("line 1 of", "README.txt", data=f"folder:{domains}", split="README")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("photo/bee/0.png 1\nphoto/ant/0.bmp zero\n", "'relative/path label' in line 2 of"),
        ("photo/bee/0.png\n", "list.txt lists paths without labels"),
        ("photo/bee/0.png\nphoto/ant/0.bmp 1\n", "'relative/path label' in line 2 of"),
        ("photo/bee/0.png 1 0 1\n", "'relative/path label' in line 1 of"),
        ("\n", "it is empty"),
        ("elsewhere/0.png 1\n", "got 'elsewhere/0.png'; expected an image in"),
        ("photo/bee/0.png -1\n", "got -1; expected the label of example 0"),
        ("photo/bee/0.png 1000000\n", "got 1000000; expected labels that count classes from 0"),
    ],
)
def test_malformed_lists(domains, content, says):
    (domains / "list.txt").write_text(content)
    refused(says, data=f"folder:{domains}", split="list")


def test_lists_of_unlabelled_images_may_hold_any_number(domains):
    (domains / "list.txt").write_text("photo/bee/0.png -1\nphoto/ant/0.bmp 1000000\n")
    table = load(f"folder:{domains}", "list", labelled=False)
    assert table.label is None and len(table) == 2


# npz.


@pytest.mark.parametrize(
    ("image", "label", "split"),
    [
        ("image", "label", "train"),
        ("images", "labels", "train"),
        ("image", "labels", "train"),
        ("test_images", "test_labels", "test"),
        ("real_world_image", "real_world_label", "real_world"),
        ("x_train", "y_train", "train"),
        ("x_test", "y_test", "test"),
    ],
)
def test_npz_names(tmp_path, image, label, split):
    arrays = {image: np.arange(12, dtype=np.uint8).reshape(3, 2, 2), label: [[1], [0], [2]]}
    np.savez(tmp_path / "a.npz", **arrays)
    table = load(f"npz:{tmp_path}/a.npz", split)
    assert table.input.shape == (3, 2, 2, 1) and table.input.dtype == np.uint8
    assert table.label.tolist() == [1, 0, 2] and table.classes == ("0", "1", "2")


def test_npz_of_floats_without_labels(tmp_path):
    np.savez(tmp_path / "a.npz", image=np.full((2, 2, 2, 3), 0.5))
    table = load(f"npz:{tmp_path}/a.npz", "train", labelled=False)
    assert table.input.dtype == np.float32 and table.input[0, 0, 0, 0] == 0.5
    refused("labels in its split 'train', or labelled=False", data=f"npz:{tmp_path}/a.npz")


GOOD = np.zeros((3, 2, 2, 1), np.uint8)
NAN = np.where(np.arange(3)[:, None, None, None] == 1, np.nan, GOOD)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"image": GOOD.astype(int), "label": [0, 1, 2]}, "got 'int64'; expected images of uint8"),
        ({"image": NAN, "label": [0, 1, 2]}, "got 'image 1'; expected finite values"),
        ({"image": np.full((1, 2, 2), np.inf), "label": [0]}, "got 'image 0'; expected finite"),
        ({"image": np.zeros((3, 3, 8, 8)), "label": [0, 1, 2]}, "channels last"),
        ({"image": np.zeros((3, 4)), "label": [0, 1, 2]}, "got (3, 4); expected images [N, H, W]"),
        ({"image": GOOD, "label": [0.0, 1.0, 2.0]}, "got 'float64'; expected 'label': integers"),
        (
            {"image": GOOD, "label": np.eye(3, dtype=int)},
            "got (3, 3); expected 'label': integers [n]",
        ),
        ({"image": GOOD, "label": [0, 1]}, "got 2; expected 3 examples in 'label'"),
        ({"image": GOOD, "label": [0, -1, 1]}, "got -1; expected the label of example 1"),
        ({"image": GOOD[:0], "label": np.arange(0)}, "at least one example"),
        ({"image": np.array([None, 1]), "label": [0, 1]}, "'image' without pickled objects"),
        ({"data": GOOD}, "among ['data']"),
        (
            {"x_train": GOOD, "y_train": [0, 1, 2], "x_test": GOOD[:, :1], "y_test": [0, 1, 2]},
            "'input' of one type and shape; size= resizes images",
        ),
    ],
)
def test_unfit_npz(tmp_path, arrays, says):
    np.savez(tmp_path / "a.npz", **arrays)
    refused(says, data=f"npz:{tmp_path}/a.npz", split="all")


def test_damaged_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, image=GOOD, label=np.arange(3))
    raw = path.read_bytes()
    path.write_bytes(raw[:60] + b"\xff" * 20 + raw[80:])
    refused(str(path), "an undamaged array 'image'", data=f"npz:{path}")
    for content in (raw[:-30], b"hello", b"", pickle.dumps({"image": GOOD})):
        path.write_bytes(content)
        refused(str(path), "an archive that np.savez wrote", data=f"npz:{path}")
    refused("an existing .npz file", data=f"npz:{tmp_path}")


# TFDS.


class TinyInsects(tfds.core.GeneratorBasedBuilder):
    """Example i is all 10 i. Images are given as PNG: TFDS encodes arrays by TensorFlow."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        image = tfds.features.Image(shape=(None, None, 3))
        label = tfds.features.ClassLabel(names=["bee", "ant"])
        features = tfds.features.FeaturesDict({"image": image, "label": label})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(10), "test": self._generate_examples(4)}

    def _generate_examples(self, count):
        for i in range(count):
            file = io.BytesIO()
            Image.fromarray(np.full((4, 4, 3), 10 * i, np.uint8)).save(file, "PNG")
            file.seek(0)
            yield i, {"image": file, "label": i % 2}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data directory of TFDS with one data set, written without TensorFlow."""
    root = tmp_path_factory.mktemp("tfds")
    TinyInsects(data_dir=root, file_format="array_record").download_and_prepare()
    return root


def test_tfds(prepared, monkeypatch):
    decode, decoded = pictures.decode, []

    def counted(data, *where):
        decoded.append(where)
        return decode(data, *where)

    monkeypatch.setattr(pictures, "decode", counted)
    table = load("tfds:tiny_insects", "train[:50%]+test", root=str(prepared))
    assert table.classes == ("bee", "ant") and not table.resident
    assert len(table) == 9 and sorted(table.label[5:]) == [0, 0, 1, 1]
    assert not decoded, "labels are known without decoding images"
    table = materialise(pickle.loads(pickle.dumps(table)), 10**6)
    assert decoded and table.input.shape == (9, 4, 4, 3) and table.input.dtype == np.uint8
    np.testing.assert_array_equal(table.input[:, 0, 0, 0] // 10 % 2, table.label)
    assert load("tfds:tiny_insects", "test", labelled=False, root=str(prepared)).label is None
    ants = load("tfds:tiny_insects", "test", classes=("ant",), labelled=False, root=str(prepared))
    assert ants.label is None and {int(i[0, 0, 0]) for i in ants.input} == {10, 30}


def test_tfds_refusals(prepared):
    root = str(prepared)
    refused("got 'mnitt'", "Did you mean 'mnist'?", data="tfds:mnitt", root=root)
    refused("'tljax[tf]'", "tfds build mnist --file_format array_record --data_dir", root,
            data="tfds:mnist", root=root)  # fmt: skip
    refused("NAME/CONFIG", "foo", data="tfds:emnist/foo", root=root)
    refused("NAME/CONFIG", "9.9.9", data="tfds:mnist:9.9.9", root=root)
    refused("unknown name 'val'", data="tfds:tiny_insects", split="val", root=root)


def test_tfds_prepared_in_another_format(prepared, tmp_path):
    """TFDS's default is tfrecord, which cannot be read in any order."""
    target = tmp_path / "tiny_insects" / "1.0.0"
    target.mkdir(parents=True)
    for path in (prepared / "tiny_insects" / "1.0.0").iterdir():
        name = path.name.replace("array_record", "tfrecord")
        (target / name).write_bytes(path.read_bytes())
    info = json.loads((target / "dataset_info.json").read_text())
    (target / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    refused("--file_format array_record", data="tfds:tiny_insects", root=str(tmp_path))

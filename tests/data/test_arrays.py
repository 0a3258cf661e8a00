"""`npz:` as ordinary data of any kind, written by `np.savez` and read by `tljax.data.load`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tljax.data
from tljax.errors import UserError

VECTORS = np.linspace(-1.0, 1.0, 12).reshape(4, 3)
TOKENS = np.arange(20).reshape(4, 5)
IMAGES = np.arange(4 * 6 * 6, dtype=np.uint8).reshape(4, 6, 6)
NAMES = np.array(["ant", "bee", "wasp"])


@pytest.fixture
def saved(tmp_path):
    """Writes arrays and loads a split of them."""

    def load(arrays, split="train", **options):
        np.savez(tmp_path / "a.npz", **arrays)
        options.setdefault("field", "streams.source.data")
        return tljax.data.load("npz:a.npz", split, root=str(tmp_path), **options)

    return load


def refused(saved, *says, arrays, **options):
    with pytest.raises(UserError) as caught:
        saved(arrays, **options)
    line = str(caught.value)
    assert line.startswith("streams.source.") and "\n" not in line
    for part in says:
        assert part in line


@pytest.mark.parametrize(
    ("name", "split"),
    [("x_train", "train"), ("input", "train"), ("x", "train"), ("x_test", "test"),
     ("test_input", "test"), ("real_world_x", "real_world")],
)  # fmt: skip
def test_vectors(saved, name, split):
    table = saved({name: VECTORS, name.replace("input", "label").replace("x", "y"): [0, 2, 1, 0]},
                  split)  # fmt: skip
    assert table.input.dtype == np.float32 and table.label.tolist() == [0, 2, 1, 0]
    np.testing.assert_allclose(table.input, VECTORS, rtol=1e-6)
    assert table.classes == ("0", "1", "2") and table.seen == (0, 1, 2)


def test_tokens_stay_integers_and_have_masks_and_spans(saved):
    arrays = dict(x_train=TOKENS, train_mask=TOKENS > 2, train_span=[[0, 1]] * 4)
    table = saved(arrays)
    assert table.input.dtype == np.int32 and table.span.dtype == np.int32
    np.testing.assert_array_equal(table.input, TOKENS)
    np.testing.assert_array_equal(table.mask, TOKENS > 2)
    assert table.labelled and table.label is None and table.classes == ()
    assert saved(dict(input=TOKENS.astype(np.uint16), label=range(4))).input.dtype == np.uint16


def test_an_input_is_taken_as_it_is(saved):
    for array in (np.arange(4), np.zeros((4, 2, 3, 5)), np.zeros((4, 3, 8, 8), np.int16)):
        table = saved(dict(input=array), labelled=False)
        assert table.input.shape == array.shape
        assert (table.input.dtype.kind == "f") == (array.dtype.kind == "f")


@pytest.mark.parametrize("kind", [bool, int, np.uint8, float])
def test_several_labels_of_each_example(saved, kind):
    labels = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]], kind)
    table = saved(dict(image=IMAGES, labels=labels, classes=NAMES))
    assert table.labels.dtype == bool and table.label is None and table.seen == ()
    np.testing.assert_array_equal(table.labels, labels)
    assert table.classes == ("ant", "bee", "wasp")
    assert table.input.shape == (4, 6, 6, 1) and table.input.dtype == np.uint8


def test_labels_and_the_label_stand_side_by_side(saved):
    table = saved(dict(x=VECTORS, label=[0, 1, 2, 1], labels=np.eye(4, 3, dtype=bool)))
    assert table.label.tolist() == [0, 1, 2, 1] and table.labels.sum() == 3


@pytest.mark.parametrize(
    ("name", "values"),
    [("y", [0.5, 1, 2, 3]), ("y_train", np.ones((4, 2))), ("value", [1, 2, 3, 4])],
)
def test_values(saved, name, values):
    table = saved({"x_train": VECTORS, name: values})
    assert table.value.dtype == np.float32 and table.label is None and table.classes == ()
    np.testing.assert_array_equal(table.value, values)


def test_classes_have_the_names_of_the_file(saved):
    arrays = dict(x_train=VECTORS, y_train=[0, 1, 0, 1], x_test=VECTORS, y_test=[2, 2, 0, 1])
    table = saved({**arrays, "classes": NAMES}, "train[:2]+test[:1]", classes=("ant", "wasp"))
    assert table.classes == ("ant", "bee", "wasp") and table.label.tolist() == [0, 2]
    assert saved({**arrays, "classes": NAMES}, labelled=False).classes == tuple(NAMES)
    assert saved({**arrays, "classes": NAMES.astype(bytes)}).classes == tuple(NAMES)
    few = saved(arrays, "train", per_class=1, seed=1)
    assert sorted(few.label.tolist()) == [0, 1]


def test_unlabelled_data_does_not_read_what_it_drops(saved):
    pickled = np.array([None] * 4)
    arrays = dict(input=VECTORS, y=pickled, labels=pickled, value=pickled, span=pickled)
    table = saved(arrays, labelled=False)
    assert tuple(table.columns) == ("input",) and not table.labelled
    refused(saved, "'y' without pickled objects", arrays=arrays)
    # Classes are told by the label alone.
    arrays = dict(input=VECTORS, label=[0, 1, 0, 2], value=pickled, span=pickled)
    table = saved(arrays, labelled=False, classes=(0,))
    np.testing.assert_allclose(table.input, VECTORS[[0, 2]], rtol=1e-6)
    assert not table.labelled and table.classes == ("0", "1", "2")


def test_options_that_do_not_fit_name_their_field(saved):
    values = dict(input=VECTORS, value=np.arange(4.0))
    for option in (dict(size=4), dict(channels=3)):
        (name,) = option
        refused(saved, f"source.{name}: got", "None, as split 'train' holds no images",
                arrays=values, **option)  # fmt: skip
    for option in (dict(classes=(0,)), dict(per_class=1)):
        (name,) = option
        refused(saved, f"source.{name}: got", "None, as split 'train' holds no 'label'",
                arrays=values, **option)  # fmt: skip
    refused(saved, "source.classes: got", "holds no 'label'", labelled=False, classes=(0,),
            arrays=dict(input=VECTORS, labels=np.eye(4)))  # fmt: skip


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        (dict(x=VECTORS), "labels in its split 'train', or labelled=False"),
        (dict(x=VECTORS[0], y=[0, 1, 0]), "else name the array 'input'"),
        (dict(image=VECTORS, label=[0] * 4), "got (4, 3); expected images"),
        (dict(x=VECTORS, x_train=VECTORS, y=[0] * 4), "one array for its 'input', not 'x' and"),
        (dict(x=VECTORS, y=[0] * 4, label=[0] * 4), "one array for its 'label', not 'y' and"),
        (dict(x=VECTORS * np.inf, y=[0] * 4), "got 'x 0'; expected finite values"),
        (dict(x=VECTORS, y=[0, 1, np.nan, 0]), "got 'y 2'; expected finite values"),
        (dict(x=VECTORS, y=[0, 1e300, 0, 0]), "got 'y 1'; expected finite values"),
        (dict(x=VECTORS, labels=np.eye(4) + 1), "0 and 1"),
        (dict(x=VECTORS, y=np.eye(4, dtype=int)), "got (4, 4); expected 'label': integers [n]"),
        (dict(x=VECTORS, y=[0, 1]), "got 2; expected 4 examples in 'label'"),
        (dict(input=TOKENS, mask=TOKENS[:, :2] > 0, label=[0] * 4), "'mask' (4, 5)"),
        (dict(input=TOKENS > 2, label=[0] * 4), "got 'bool'; expected 'input': integers"),
        (dict(x=VECTORS, y=[0, 3, 0, 0], classes=NAMES), "label of example 1 from 0 to 2"),
        (dict(x=VECTORS, labels=np.eye(4), classes=NAMES), "3 columns in 'labels'"),
        (dict(x=VECTORS, y=[0] * 4, classes=[1, 2]), "'classes' to be strings"),
        (dict(x=VECTORS, y=[0] * 4, classes=np.array(["a", None])), "'classes' without pickled"),
    ],
)  # fmt: skip
def test_unfit_arrays(saved, arrays, says):
    refused(saved, says, arrays=arrays)


def test_splits_that_do_not_fit_together(saved):
    arrays = dict(x_train=VECTORS, y_train=[0] * 4, x_test=VECTORS[:, :2], y_test=[0] * 4)
    refused(saved, "'input' of one type and shape", arrays=arrays, split="all")
    arrays = dict(x_train=VECTORS, y_train=[0] * 4, x_test=VECTORS, test_value=[0] * 4)
    refused(saved, "splits of the same columns", arrays=arrays, split="all")


# `tljax.data.load`, whatever the source.


def test_images_are_decoded_within_the_limit(tmp_path):
    from PIL import Image

    (tmp_path / "ant").mkdir()
    for i in range(3):
        Image.fromarray(np.full((4, 5, 3), i, np.uint8)).save(tmp_path / "ant" / f"{i}.png")
    table = tljax.data.load(f"folder:{tmp_path}", "train")
    assert table.resident and table.input.shape == (3, 4, 5, 3)
    # Three images of 60 bytes and three labels of four.
    assert tljax.data.load(f"folder:{tmp_path}", "train", limit_bytes=192).resident
    lazy = tljax.data.load(f"folder:{tmp_path}", "train", limit_bytes=191)
    assert not lazy.resident and lazy[1:].input[0].mean() == 1 and lazy.nbytes == 192


def test_the_designs_example():
    table = tljax.data.load("digits", "train", size=16)
    assert table.input.shape == (1797, 16, 16, 1) and table.input.dtype == np.uint8
    data = {"source": table[:600], "target": table[600:1200].unlabelled()}
    assert data["target"].classes == table.classes and data["target"].label is None

    @jax.jit
    def means(data):
        pixels = data["source"].input.astype(jnp.float32).mean((1, 2, 3))
        return jax.ops.segment_sum(pixels, data["source"].label, len(data["source"].classes))

    source = data["source"]
    pixels = source.input.astype(float).mean((1, 2, 3))
    expected = np.bincount(source.label, pixels, minlength=10)
    np.testing.assert_allclose(means(data), expected, rtol=1e-5)


def test_the_name_of_a_field_and_of_a_class():
    assert tljax.data.Table is type(tljax.data.load("digits", "train[:3]"))
    with pytest.raises(UserError, match="^data: unknown name 'digit'"):
        tljax.data.load("digit", "train")
    with pytest.raises(AttributeError, match="tljax.data.*'tables'"):
        tljax.data.tables  # noqa: B018

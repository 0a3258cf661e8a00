"""`Table`: columns that pass through traces, class names that stay, and one line for mistakes."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tljax.data.lazy import Lazy
from tljax.data.table import COLUMNS, Table, class_weights
from tljax.errors import UserError

TOKENS = np.arange(12).reshape(4, 3)


def table(**changes):
    """Four examples of three tokens, with every column."""
    columns = dict(
        input=TOKENS,
        mask=TOKENS % 3 < 2,
        label=[2, 0, 2, 0],
        labels=np.eye(4, 3, dtype=int),
        value=[0.5, 1.5, 2.5, 3.5],
        span=[[0, 1]] * 4,
        classes=("a", "b", "c"),
    )
    return Table(**{**columns, **changes})


def refused(*says, **changes):
    with pytest.raises(UserError) as caught:
        table(**changes)
    line = str(caught.value)
    assert "\n" not in line
    for part in ("Table: ", *says):
        assert part in line


def test_columns_have_their_types():
    made = table()
    types = dict(input="int32", mask="bool", label="int32", labels="bool", value="float32")
    assert {n: str(c.dtype) for n, c in made.columns.items()} == {**types, "span": "int32"}
    assert len(made) == 4 and made.labelled and made.resident and made.seen == (0, 2)
    # 12 tokens, 4 labels, 4 values and 8 places of 4 bytes; 12 and 12 bools.
    assert made.nbytes == 28 * 4 + 24
    assert made.label.tolist() == [2, 0, 2, 0] and made.labels[1].tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        (np.uint8, np.uint8),
        (np.int16, np.int16),
        (np.int64, np.int32),
        (np.float64, np.float32),
        (np.float32, np.float32),
    ],
)
def test_integers_stay_integers(dtype, kept):
    array = np.ones((2, 3), dtype)
    made = Table(input=array)
    assert made.input.dtype == kept and made.label is None and not made.labelled
    assert made.seen == made.classes == ()
    assert (made.input is array) == (dtype == kept)


def test_columns_come_in_one_order():
    forward = Table(input=TOKENS, label=[0, 1, 0, 1])
    backward = Table(label=[0, 1, 0, 1], input=TOKENS)
    assert jax.tree.structure(forward) == jax.tree.structure(backward)
    assert tuple(table().columns) == COLUMNS


def test_classes_without_names_are_numbers():
    assert Table(input=TOKENS, label=[0, 3, 0, 0]).classes == ("0", "1", "2", "3")
    assert Table(input=TOKENS, labels=np.eye(4, 5)).classes == ("0", "1", "2", "3", "4")
    assert Table(input=TOKENS, value=[1, 2, 3, 4]).classes == ()


def test_labels_in_a_column_of_one_are_labels():
    assert Table(input=TOKENS, label=[[0], [1], [0], [2]]).label.tolist() == [0, 1, 0, 2]


def test_rows():
    made = table()
    for part, rows in (
        (made[1:3], [1, 2]),
        (made[-2:], [2, 3]),
        (made[[3, 0]], [3, 0]),
        (made.take(np.array([3, 0])), [3, 0]),
        (made.take(range(2)), [0, 1]),
        (made[made.label == 2], [0, 2]),
        (made[[False, True, True, False]], [1, 2]),
        (made[[]], []),
        (made[jnp.array([1])], [1]),
    ):
        assert len(part) == len(rows) and part.classes == made.classes
        for name, column in part.columns.items():
            np.testing.assert_array_equal(column, made.columns[name][np.array(rows, int)])
    assert made[1:2].seen == (0,) and made[:0].seen == () and made[[0, 2]].seen == (2,)
    for rows in (3, [0.5], [[1, 2]], "a"):
        with pytest.raises(UserError, match="a slice, or a list of indices"):
            made[rows]


def test_unlabelled_keeps_the_names():
    made = table().unlabelled()
    assert tuple(made.columns) == ("input", "mask") and made.classes == ("a", "b", "c")
    assert not made.labelled and made.seen == () and made.value is None
    assert table(label=None, labels=None, value=None).labelled  # by its spans


def test_with_column():
    made = table(label=None, labels=None).with_column("label", [1, 1, 1, 1])
    assert made.seen == (1,) and made.classes == ("a", "b", "c") and made.value is not None
    assert made.with_column("label", [0, 0, 0, 2]).seen == (0, 2) and made.seen == (1,)
    with pytest.raises(UserError, match="got 3; expected 4 examples in 'value'"):
        made.with_column("value", [1.0, 2.0, 3.0])
    with pytest.raises(UserError, match="Did you mean 'value'"):
        made.with_column("values", [1.0])


def test_tables_cannot_be_changed():
    with pytest.raises(AttributeError):
        table().classes = ()
    with pytest.raises(AttributeError):
        table().label = np.zeros(4)


def test_lazy_images_stay_lazy_and_can_be_pickled():
    made = Table(input=Lazy(np.ones, [(2, 2, 1)] * 3, "data"), label=[0, 1, 0])
    assert not made.resident and made.nbytes == 3 * 4 * 8 + 3 * 4
    part = pickle.loads(pickle.dumps(made[1:]))
    assert isinstance(part.input, Lazy) and len(part) == 2 and part.seen == (0, 1)
    assert "lazy[2, ...]" in repr(part) and "int32[2]" in repr(part)


def test_mistakes_have_one_line():
    refused("unknown name 'lable'", "Did you mean 'label'?", lable=[0] * 4)
    refused("an 'input' among the columns", input=None)
    refused("got 3", "4 examples in 'label', as 'input' has", label=[0, 1, 0])
    refused("got (4, 2)", "'mask' (4, 3)", mask=np.ones((4, 2), bool))
    refused("got 'float64'", "'label': integers [n]", label=[0.0, 1.0, 0.0, 1.0])
    refused("got (4, 3)", "'label': integers [n]", label=np.eye(4, 3, dtype=int))
    refused("got -1", "label of example 2 from 0 to 2", label=[0, 1, -1, 0])
    refused("got 3", "label of example 1 from 0 to 2", label=[0, 3, 0, 0])
    refused("got 2", "'labels': bools [n, classes], or 0 and 1", labels=np.eye(4, 3) * 2)
    refused("got (4,)", "'labels'", labels=[0, 1, 0, 1])
    refused("got 2", "3 columns in 'labels'", labels=np.eye(4, 2))
    refused("got (4, 3)", "'span': integers [n, 2]", span=TOKENS)
    refused("got (4, 1, 1)", "'value'", value=np.ones((4, 1, 1)))
    refused("got '<U1'", "'input': integers or floats", input=list("abcd"))
    refused("got 'bool'", "'input'", input=TOKENS > 3)
    refused("got ()", "'input'", input=3)
    refused(f"got {2**31}", "32 bits", input=TOKENS + 2**31 - 11)
    refused("got 'abc'", "a list of their names", classes="abc")
    refused("got [0, 1, 2]", "a list of their names", classes=[0, 1, 2])
    refused("got 'a'", "classes of different names", classes=("a", "b", "a"))
    refused("got 200000", "at most 100,000", classes=None, label=[0, 0, 0, 200_000])


# As a pytree.


def test_leaves_are_columns_and_the_rest_is_structure():
    made = table()
    leaves, structure = jax.tree.flatten_with_path(made)
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    assert tuple(paths) == COLUMNS and leaves[0][1] is made.input
    for leaf in (None, object(), jax.ShapeDtypeStruct((4,), jnp.int32)):
        again = jax.tree.unflatten(structure, [leaf] * 6)
        assert again.classes == made.classes and again.seen == made.seen and again.input is leaf
    shapes = jax.tree.map(lambda leaf: leaf.shape, made).columns
    assert shapes["labels"] == (4, 3)


def test_tables_of_one_kind_have_one_structure():
    made = table()
    assert jax.tree.structure(made) == jax.tree.structure(table(input=TOKENS + 1))
    assert jax.tree.structure(made) == jax.tree.structure(made[:2])  # both labels occur there
    for other in (
        made[:1],
        table(classes=("a", "b", "d")),
        table(mask=None),
        made.unlabelled(),
    ):
        assert jax.tree.structure(made) != jax.tree.structure(other)


def test_a_program_is_traced_once_for_tables_of_one_kind():
    traces = []

    @jax.jit
    def count(part):
        traces.append(part.seen)
        return jnp.bincount(part.label, length=len(part.classes))

    assert count(table()).tolist() == [2, 0, 2]
    assert count(table(label=[0, 0, 0, 2])).tolist() == [3, 0, 1]
    assert count(table(label=[0, 0, 0, 0])).tolist() == [4, 0, 0]
    assert traces == [(0, 2), (0,)]


def test_rows_and_columns_inside_a_trace():
    @jax.jit
    def change(made, rows):
        part = made[rows].with_column("value", made.value[rows] * 2)
        return part, part[:1].unlabelled()

    part, first = change(table(), jnp.array([1, 3]))
    assert part.seen == (0, 2)  # as outside, though class 2 is no longer there
    np.testing.assert_array_equal(part.value, [3.0, 7.0])
    np.testing.assert_array_equal(part.label, [0, 0])
    assert tuple(first.columns) == ("input", "mask") and len(first) == 1


def test_vmap_over_stacked_tables():
    tables = [table(), table(value=[1.0, 1.0, 2.0, 0.0], label=[2, 2, 0, 2])]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *tables)
    sums = jax.vmap(lambda part: jnp.where(part.label == 2, part.value, 0.0).sum())(stacked)
    assert sums.tolist() == [0.5 + 2.5, 1.0 + 1.0 + 0.0]
    axes = jax.tree.map(lambda _: 0, stacked)
    lengths = jax.vmap(lambda part: jnp.int32(len(part)), in_axes=(axes,))(stacked)
    assert lengths.tolist() == [4, 4]


# Weights of classes.


def test_class_weights_by_hand():
    """Six examples, two of three classes: 6 / (2 · 4) = 0.75 and 6 / (2 · 2) = 1.5."""
    made = Table(input=np.zeros((6, 1)), label=[0, 2, 0, 0, 2, 0], classes=("a", "b", "c"))
    weights = class_weights(made)
    assert weights.dtype == np.float32 and weights.tolist() == [0.75, 0.0, 1.5]
    assert weights[made.label].mean() == 1.0
    for wanting in (made.unlabelled(), made[:0]):
        with pytest.raises(UserError, match="class_weights: .*a 'label'"):
            class_weights(wanting)


def test_class_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    label = np.random.default_rng(0).integers(0, 5, 50) ** 2 // 5  # unequally many of 0 to 3
    made = Table(input=label[:, None], label=label)
    expected = compute_class_weight("balanced", classes=np.unique(label), y=label)
    np.testing.assert_allclose(class_weights(made)[list(made.seen)], expected, rtol=1e-6)

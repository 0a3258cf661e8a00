"""Public weights of a small trunk with names of its own: what fits, and what is refused."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from tljax import trees
from tljax.errors import UserError
from tljax.models import MLP, weights
from tljax.models.files import read, write_safetensors
from tljax.models.layers import Norm
from tljax.models.weights import Entry, linear, norm


class Trunk(nn.Module):
    """One dense layer of two inputs and a normalisation."""

    width: int = 3

    @nn.compact
    def __call__(self, x, *, train, stream=None):
        x = nn.Dense(self.width, name="dense")(x)
        return Norm("batch", name="norm")(x, train=train, stream=stream)


def _plain(trunk):
    entries = linear("params/trunk/dense", "first") + norm("trunk/norm", "second")
    return entries + linear("params/heads/HEAD/output", "classifier")


def _split(trunk):
    """Names of files that hold the kernel in two halves."""
    halves = Entry(
        "params/trunk/dense/kernel",
        ("upper", "lower"),
        lambda *parts: np.stack(parts),
        lambda leaf: (leaf[0], leaf[1]),
    )
    return [halves, *_plain(trunk)[1:]]


NAMINGS = {"plain": _plain, "split": _split}
IGNORED = ("*.num_batches_tracked",)
EXAMPLE = lambda trunk: np.zeros((1, 2), np.float32)  # noqa: E731


class Inheriting(Trunk):
    pass


TENSORS = {
    "first.weight": np.float32([[1, 2], [3, 4], [5, 6]]),  # [out, in]
    "first.bias": np.float32([7, 8, 9]),
    "second.weight": np.float32([1, 1, 2]),
    "second.bias": np.float32([0, 1, 0]),
    "second.running_mean": np.float32([8, 10, 9]),
    "second.running_var": np.float32([1, 4, 9]),
    "classifier.weight": np.float32([[1, 0, 0], [0, 1, 1]]),
    "classifier.bias": np.float32([0.5, 0]),
}


@pytest.fixture
def given(tmp_path):
    def write(**changes):
        tensors = {**TENSORS, **changes}
        tensors = {name: each for name, each in tensors.items() if each is not None}
        write_safetensors(tmp_path / "w", tensors)
        return tmp_path / "w"

    return write


def test_the_function_by_hand(given):
    """(1, 0) → (1, 3, 5) + (7, 8, 9) → less (8, 10, 9), by (1, 2, 3), times (1, 1, 2), plus 1."""
    variables = weights.load(Trunk(), given())
    own = {kind: tree["trunk"] for kind, tree in variables.items()}
    y = Trunk().apply(own, np.float32([[1, 0]]), train=False)
    np.testing.assert_allclose(y, [[0, 0.5 + 1, 5 / 3 * 2]], rtol=1e-4)
    head = variables["params"]["heads"]["HEAD"]["output"]
    np.testing.assert_array_equal(head["kernel"], [[1, 0], [0, 1], [0, 1]])
    np.testing.assert_array_equal(head["bias"], [0.5, 0])


def test_a_file_may_lack_the_classifier_and_hold_what_is_ignored(given):
    lacking = {"classifier.weight": None, "classifier.bias": None}
    path = given(**lacking, **{"second.num_batches_tracked": np.asarray(3)})
    assert set(weights.load(Trunk(), path)["params"]) == {"trunk"}


def test_other_types_become_float32(given):
    halved = {name: each.astype("float16") for name, each in TENSORS.items()}
    for leaf in jax.tree.leaves(weights.load(Trunk(), given(**halved))):
        assert leaf.dtype == np.float32


def test_the_naming_is_recognised(given):
    path = given(**{"first.weight": None}, upper=np.float32([1, 3, 5]), lower=np.float32([2, 4, 6]))
    assert weights.recognise(Trunk(), read(path)) == "split"
    jax.tree.map(
        np.testing.assert_array_equal,
        weights.load(Trunk(), path),
        weights.load(Trunk(), given()),
    )
    assert weights.recognise(Trunk(), TENSORS) == "plain"
    assert weights.recognise(Inheriting(), TENSORS) == "plain"


def test_streams_that_keep_statistics_of_their_own_all_get_the_files(given):
    trees_of = weights.load(Trunk(), given(), streams=("source", "target"))["batch_stats"]
    assert set(trees_of["trunk"]["norm"]) == {"statistics_source", "statistics_target"}
    for each in trees_of["trunk"]["norm"].values():
        np.testing.assert_array_equal(each["mean"], [8, 10, 9])


@pytest.mark.parametrize(
    ("changes", "items"),
    [
        ({"first.bias": None}, "- first.bias"),
        ({"third": np.ones(1, np.float32)}, r"\+ third"),
        (
            {"first.weight": np.ones((3, 5), np.float32)},
            r"! params/trunk/dense/kernel \(2, 3\) against \(5, 3\)",
        ),
        ({"second.bias": np.ones((3, 1), np.float32)}, r"! .*norm/bias \(3,\) against \(3, 1\)"),
    ],
)
def test_what_does_not_fit_is_listed(given, changes, items):
    says = r"^weights: got '.*w', which does not hold a Trunk by the names of plain \(.*\): "
    with pytest.raises(UserError, match=f"{says}{items}$"):
        weights.load(Trunk(), given(**changes))


def test_of_a_long_list_twenty_items_are_shown(given):
    path = given(**{f"x{i}": np.ones(1, np.float32) for i in range(30)}, **{"first.bias": None})
    with pytest.raises(UserError, match="- first.bias; .*; and 11 more$") as caught:
        weights.load(Trunk(), path)
    assert str(caught.value).count("+ x") == 19


def test_a_tensor_that_cannot_be_turned_is_told_by_its_shape(tmp_path):
    from tljax.models import ResNet

    trunk = ResNet(depth=18)
    entries = weights.namings(trunk)["torchvision"](trunk)
    tensors = {name: np.ones(1, np.float32) for each in entries for name in each.names}
    write_safetensors(tmp_path / "w", tensors)
    says = r"! .*kernel \(7, 7, 3, 64\) against \(1,\)|! batch_stats.* against \(1,\)"
    with pytest.raises(UserError, match=says):
        weights.load(trunk, tmp_path / "w")


def test_numbers_that_are_not_finite_are_refused(given):
    path = given(**{"first.bias": np.float32([1, np.nan, 2])})
    says = r"^weights: '.*w': params/trunk/dense/bias: got nan at \[1\]; expected finite numbers"
    with pytest.raises(UserError, match=says):
        weights.load(Trunk(), path)


def test_a_trunk_without_names_is_refused(given):
    for use in (lambda: weights.load(MLP(), given()), lambda: weights.save(MLP(), {}, "nowhere")):
        with pytest.raises(UserError, match="weights: network.trunk: got 'MLP'; expected a trunk"):
            use()


def test_export_is_under_the_public_names(given, tmp_path):
    tree = weights.load(Trunk(), given(), streams=("source", "target"))
    tree["params"]["heads"] = {"label": tree["params"]["heads"]["HEAD"]}
    for stream in ("source", "target"):
        weights.save(Trunk(), tree, tmp_path / "out", head="label", stream=stream)
        assert (tmp_path / "out").read_bytes() == given().read_bytes()
    weights.save(Trunk(), tree, tmp_path / "out", "split", stream="source")
    tensors = read(tmp_path / "out")
    np.testing.assert_array_equal(tensors["upper"], [1, 3, 5])
    assert not [name for name in tensors if name.startswith("classifier")]


def test_what_cannot_be_exported_is_refused(given, tmp_path):
    tree = weights.load(Trunk(), given())
    assert "params/heads/HEAD/output/bias" in trees.flatten(tree)
    says = "weights: naming: unknown name 'plian'.*mean 'plain'"
    with pytest.raises(UserError, match=says):
        weights.save(Trunk(), tree, tmp_path / "out", "plian")
    says = "weights: variables: unknown name 'params/heads/label/output/kernel'.*mean 'params/heads"
    with pytest.raises(UserError, match=says):
        weights.save(Trunk(), tree, tmp_path / "out", head="label")
    assert not (tmp_path / "out").exists()

"""`weights:FILE` as a start: what it brings, what is kept of it, what is refused."""

import hashlib
import io
import json
import pickle
import zipfile

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from tljax import experiment, trees
from tljax.errors import UserError
from tljax.experiment import start
from tljax.experiment.build import build
from tljax.experiment.check import check
from tljax.models.files import write_safetensors
from tljax.models.layers import Norm
from tljax.models.weights import linear, norm
from tljax.report import inventory

WIDTH = 5


class Trunk(nn.Module):
    """One dense layer on the pixels and a normalisation, by public names."""

    @nn.compact
    def __call__(self, x, *, train, stream=None):
        x = nn.Dense(WIDTH, name="dense")(x.reshape(x.shape[0], -1))
        return nn.relu(Norm("batch", name="norm")(x, train=train, stream=stream))


def _plain(trunk):
    entries = linear("params/trunk/dense", "first") + norm("trunk/norm", "second")
    return entries + linear("params/heads/HEAD/output", "classifier")


NAMINGS = {"plain": _plain}
EXAMPLE = lambda trunk: jnp.zeros((1, 4, 4, 1))  # noqa: E731


def tensors(classes=10, seed=0):
    draw = np.random.default_rng(seed)
    shapes = {
        "first.weight": (WIDTH, 16),
        "classifier.weight": (classes, WIDTH),
        "classifier.bias": (classes,),
        **dict.fromkeys(["first.bias", "second.weight", "second.bias"], (WIDTH,)),
        **dict.fromkeys(["second.running_mean", "second.running_var"], (WIDTH,)),
    }
    return {name: draw.uniform(0.5, 1.5, shape).astype("float32") for name, shape in shapes.items()}


@pytest.fixture
def path(tmp_path):
    write_safetensors(tmp_path / "w.safetensors", tensors())
    return tmp_path / "w.safetensors"


@pytest.fixture
def single(small):
    """One phase of a trunk with public names."""
    small.network.trunk = dict(name="test_origins:Trunk")
    small.phases = ("first",)
    del small.second
    return small


def started(config, phase="first"):
    """The first parameters and statistics of a phase, by path."""
    state = start.fresh(build(check(config)), phase, 0, {})
    return trees.flatten(state.params), trees.flatten(state.batch_stats)


def same_as(tensors, params, statistics, names=("statistics",)):
    np.testing.assert_array_equal(params["trunk/dense/kernel"], tensors["first.weight"].T)
    np.testing.assert_array_equal(params["trunk/dense/bias"], tensors["first.bias"])
    np.testing.assert_array_equal(params["trunk/norm/scale"], tensors["second.weight"])
    for name in names:
        mean, var = (statistics[f"trunk/norm/{name}/{each}"] for each in ("mean", "var"))
        np.testing.assert_array_equal(mean, tensors["second.running_mean"])
        np.testing.assert_array_equal(var, tensors["second.running_var"])


def test_a_trunk_with_its_statistics_beside_a_fresh_head(single, path):
    single.start = (("trunk/**", f"weights:{path}"), ("**", "fresh"))
    params, statistics = started(single)
    same_as(tensors(), params, statistics)
    kernel = params["heads/label/output/kernel"]
    assert (kernel != tensors()["classifier.weight"].T).all()


def test_the_classifier_comes_to_a_head_that_it_fits(single, path):
    single.start = (("**", f"weights:{path}"),)
    params, statistics = started(single)
    same_as(tensors(), params, statistics)
    kernel, bias = (params[f"heads/label/output/{each}"] for each in ("kernel", "bias"))
    np.testing.assert_array_equal(kernel, tensors()["classifier.weight"].T)
    np.testing.assert_array_equal(bias, tensors()["classifier.bias"])


def test_a_head_that_it_does_not_fit_is_to_start_fresh(single, path):
    write_safetensors(path, tensors(classes=1000))
    single.start = (("**", f"weights:{path}"),)
    with pytest.raises(UserError) as caught:
        started(single)
    line = str(caught.value)
    assert line.startswith(f"first.start: 'weights:{path}' does not hold what is to be copied")
    assert "! heads/label/output/kernel (5, 10) against (5, 1000)" in line
    assert "rules like ('heads/label/**', 'fresh') before the others" in line
    single.start = (("heads/label/**", "fresh"), ("**", f"weights:{path}"))
    same_as(tensors(classes=1000), *started(single))  # whose first tensor is the same


def test_a_file_without_a_classifier_leaves_the_head_to_others(single, path):
    bare = {n: each for n, each in tensors().items() if not n.startswith("classifier")}
    write_safetensors(path, bare)
    single.start = (("**", f"weights:{path}"),)
    with pytest.raises(UserError, match=r"- heads/label/output/bias.*\('heads/label/\*\*', 'fre"):
        started(single)
    single.start = (("heads/**", "fresh"), ("**", f"weights:{path}"))
    same_as(bare, *started(single))


def test_of_streams_each_gets_the_statistics(single, path):
    single.statistics = "separate"
    single.first.flow = ("source", "target")
    single.start = (("trunk/**", f"weights:{path}"), ("**", "fresh"))
    names = ("statistics_source", "statistics_target")
    same_as(tensors(), *started(single), names)


def test_a_frozen_trunk_keeps_what_the_file_brought(single, path, tmp_path):
    single.start = (("trunk/**", f"weights:{path}"), ("**", "fresh"))
    single.train = (("trunk/**", 0.0), ("**", 1.0))
    experiment.run(single, tmp_path / "run")
    ended, _ = start.final(tmp_path / "run", "first")
    params, statistics = (trees.flatten(ended[kind]) for kind in ("params", "batch_stats"))
    same_as(tensors(), params, statistics)


def test_the_file_is_kept_by_its_hash(single, path, tmp_path):
    """Another file is refused as long as the phase has not begun; then the file is not needed."""
    single.start = (("trunk/**", f"weights:{path}"), ("**", "fresh"))
    workdir = tmp_path / "run"
    experiment.run(single, workdir)
    sums = hashlib.sha256(path.read_bytes()).hexdigest()
    kept = json.loads((workdir / "data.json").read_text())
    assert kept[f"start weights:{path}"] == {"sha256": sums}
    path.unlink()
    (workdir / "result.json").unlink()
    experiment.run(single, workdir)


def test_another_file_in_its_place_is_refused(single, path, tmp_path):
    rules = (("trunk/**", f"weights:{path}"), ("**", "fresh"))
    single.phases = ("first", "second")
    with single.unlocked():
        single.second = dict(single.first.to_dict(), start=rules)
    single.first.steps = 2
    workdir = tmp_path / "run"
    experiment.run(single, workdir)
    for each in ("start", "final", "ended.json"):
        there = workdir / "phases" / "second" / each
        there.rename(tmp_path / each)
    (workdir / "result.json").unlink()
    write_safetensors(path, tensors(seed=1))
    with pytest.raises(UserError, match=r"start weights:.*: got \{'sha256': .*began with"):
        experiment.run(single, workdir)


def test_what_each_leaf_starts_from_is_shown(single, path):
    origin = f"weights:{path}"
    single.start = (("trunk/**", origin), ("**", "fresh"))
    leaves = {each["path"]: each["origin"] for each in inventory.collect(single)["first"]}
    assert leaves["trunk/dense/kernel"] == leaves["trunk/norm/statistics/mean"] == origin
    assert leaves["heads/label/output/kernel"] == "fresh"


@pytest.mark.parametrize(
    ("origin", "says"),
    [
        ("weights:nowhere", r"first\.start\[0\]: got 'weights:nowhere'; .*\(No such file"),
        ("wieghts:w", r"first\.start\[0\]: unknown name 'wieghts:w'.*mean 'weights:FILE'\?"),
        ("weights:", r"first\.start\[0\]: got 'weights:'; "),
    ],
)
@pytest.mark.parametrize("through", ["start", "run"])
def test_an_origin_that_is_not_there_is_refused(single, tmp_path, origin, says, through):
    single.start = (("trunk/**", origin), ("**", "fresh"))
    with pytest.raises(UserError, match=f"^{says}"):
        started(single) if through == "start" else experiment.run(single, tmp_path / "run")


def test_weights_for_a_trunk_without_names_are_refused(small, path):
    small.start = (("trunk/**", f"weights:{path}"), ("**", "fresh"))
    with pytest.raises(UserError, match=r"first\.start\[0\]: got .*trunk: got 'MLP'; expected a"):
        started(small)


def test_weights_of_another_architecture_are_refused(single, path):
    write_safetensors(path, {"conv1.weight": np.ones((2, 2), np.float32)})
    single.start = (("trunk/**", f"weights:{path}"), ("**", "fresh"))
    says = r"first\.start\[0\]: got .* does not hold a Trunk .*- first.bias; .*\+ conv1.weight"
    with pytest.raises(UserError, match=says):
        started(single)


class Opens:
    """In a pickle, what would leave a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def zipped(content):
    """A torch file of today's format."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("w.npz", r"it asks for _?io\.open; nothing but tensors"),
        ("w.pth", r"it asks for _?io\.open; nothing but tensors"),
        ("w.safetensors", "is said to lie at"),
        ("x.npz", "an archive that np.savez wrote"),
    ],
)
def test_a_bad_file_is_a_line_and_nothing_of_it_is_executed(single, path, tmp_path, name, says):
    """A pickle that is called npz, a torch file with another class in it, a file that is cut."""
    evil = pickle.dumps({"first.weight": Opens(tmp_path / "executed")}, 2)
    bad = {"w.pth": zipped(evil), "w.safetensors": path.read_bytes()[:-5]}.get(name, evil)
    (tmp_path / name).write_bytes(bad)
    if name == "x.npz":  # as data
        single.streams.source.data = f"npz:{tmp_path}/x.npz"
    else:
        single.start = (("trunk/**", f"weights:{tmp_path / name}"), ("**", "fresh"))
    with pytest.raises(UserError, match=says) as caught:
        started(single)
    assert "\n" not in str(caught.value) and not (tmp_path / "executed").exists()

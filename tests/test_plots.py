"""Figures: all there, readable, the same twice, and without what cannot be drawn."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import tljax
from tljax import experiment
from tljax.errors import UserError
from tljax.models import MLP, Linear
from tljax.phase import objective
from tljax.phase.scoring import Split
from tljax.report import figures

CLASSES = ("ant", "bee", "cat")
NET = tljax.Network(
    trunk=MLP(features=(6,)), heads={name: Linear(outputs=3) for name in ("label", "other")}
)


def split(name, seed, classes=CLASSES, head="label"):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (25, 4, 4, 1)).astype(np.uint8)
    labels = rng.integers(0, 3, 25).astype(np.int32)
    table = tljax.Table(input=images, label=labels, classes=classes)
    return Split(name, table, tljax.Stream(name, 10), head)


def variables(seed):
    """Parameters with one head; NET's other head has none, as no term called it."""

    def run(net):
        return net.head("label", net.features(jnp.zeros((1, 4, 4, 1)), train=True))

    made = jax.jit(objective.nn.init(run, NET))(jax.random.key(seed))
    return {"params": made["params"], "batch_stats": made.get("batch_stats", {})}


def record(phase, step, kind, **values):
    return {"phase": phase, "step": step, "kind": kind, **values}


RECORDS = [
    record("pretrain", 2, "train", label=2.0, loss=2.0, gradient_norm=3.0, learning_rate=0.1),
    record("pretrain", 4, "train", label=1.0, loss=1.0, gradient_norm=2.0, learning_rate=0.1),
    record("pretrain", 4, "source", accuracy=0.5, per_class_accuracy=0.4, loss=1.0),
    record("adapt", 3, "train", label=0.5, domain=-0.5, loss=0.0, gradient_norm=1, learning_rate=0),
    record("adapt", 3, "source", accuracy=0.9, per_class_accuracy=0.8, loss=0.3),
    record("adapt", 3, "target", accuracy=0.7, per_class_accuracy=0.7, loss=0.6),
]
FIRST, FINAL = variables(0), variables(1)


def drawn(workdir, *, first=FIRST, final=FINAL, splits=None, records=RECORDS):
    splits = splits or [split("source", 0), split("target", 1, classes=None)]
    figures.draw(
        workdir, NET, first, {"": final}, {judged.name: judged for judged in splits}, records
    )
    return {path.name: path.read_bytes() for path in (workdir / "figures").iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, drawn(workdir)


def test_every_figure_is_a_readable_png(whole):
    workdir, files = whole
    named = {"confusion_source.png", "confusion_target.png"}
    assert set(files) == {"losses.png", "accuracy.png", "features.png"} | named
    for name in files:
        with Image.open(workdir / "figures" / name) as image:
            assert image.format == "PNG" and min(image.size) > 300
            assert len(image.convert("L").getcolors()) > 10, f"{name} is blank"
            assert "Software" not in image.info


def test_the_same_run_gives_the_same_bytes(whole):
    workdir, files = whole
    assert drawn(workdir) == files  # over its own files, as on resume


def test_a_split_without_its_head_is_left_out(tmp_path, whole):
    splits = [split("source", 0), split("target", 1, None), split("letters", 2, head="other")]
    files = drawn(tmp_path, splits=splits, records=())
    assert set(files) == set(whole[1]) - {"losses.png", "accuracy.png"}
    assert files["confusion_source.png"] == whole[1]["confusion_source.png"]


def test_without_any_head_only_curves_are_drawn(tmp_path):
    files = drawn(tmp_path, final={**FINAL, "params": {"trunk": FINAL["params"]["trunk"]}})
    assert set(files) == {"losses.png", "accuracy.png"}


def test_a_run_without_any_accuracy_gets_no_figure_of_it(tmp_path):
    """One that is judged by its errors; beside one with accuracies it has no line in the legend."""
    errors = [record("adapt", step, "price", mae=1.0, rmse=2.0, r2=0.1) for step in (2, 4)]
    train = record("adapt", 4, "train", label=1.0, loss=1.0, gradient_norm=2.0, learning_rate=0.1)
    files = drawn(tmp_path, splits=[split("letters", 2, head="other")], records=[*errors, train])
    assert set(files) == {"losses.png"}
    both = drawn(tmp_path, splits=[split("letters", 2, head="other")], records=[*RECORDS, *errors])
    plain = drawn(tmp_path / "a", splits=[split("letters", 2, head="other")])
    assert both["accuracy.png"] == plain["accuracy.png"]


def test_the_start_needs_no_head(tmp_path, whole):
    """Features do not depend on heads: without its head the first state is drawn the same."""
    headless = {**FIRST, "params": {"trunk": FIRST["params"]["trunk"]}}
    files = drawn(tmp_path, first=headless, records=())
    assert files["features.png"] == whole[1]["features.png"]


def test_a_start_of_another_shape_is_left_out(tmp_path):
    """A trunk for 5 x 5 images cannot read 4 x 4 ones."""
    trunk = {"dense_0": {"kernel": jnp.zeros((25, 6)), "bias": jnp.zeros(6)}}
    files = drawn(tmp_path, first={**FIRST, "params": {"trunk": trunk}}, records=())
    assert set(files) == {"confusion_source.png", "confusion_target.png"}


@pytest.mark.parametrize("features", [np.zeros((40, 8)), np.full((40, 8), np.nan), np.eye(4)])
def test_features_that_cannot_be_embedded_are_left_out(features):
    """All alike (t-SNE divides by their spread), not finite, or too few."""
    assert figures._embedded(features.astype(np.float32)) is None


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    figures.intervals([("DANN", [0.9, 0.8])], path, "accuracy")
    before = path.read_bytes()
    from matplotlib.figure import Figure

    def torn(self, target, **_):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", torn)
    with pytest.raises(KeyboardInterrupt):
        figures.intervals([("DANN", [0.1, 0.2])], path, "accuracy")
    assert path.read_bytes() == before


def test_phases_follow_one_another(tmp_path, monkeypatch):
    """pretrain has 4 steps, so step 3 of adapt is step 7 of the run; a gap parts the two."""
    seen = {}
    monkeypatch.setattr(
        figures, "_curves", lambda panels, starts, path: seen.update(panels, at=starts)
    )
    drawn(tmp_path, splits=[split("letters", 2, head="other")])
    assert seen["at"] == {"pretrain": 0, "adapt": 4}
    np.testing.assert_equal(seen["loss"]["label"], [(2, 2.0), (4, 1.0), (np.nan, np.nan), (7, 0.5)])
    assert list(seen["loss"]) == ["domain", "label", figures.TOTAL]
    assert seen["accuracy"]["target"] == [(7, 0.7)]
    assert set(seen) == {"at", "loss", "gradient norm", "learning rate", "accuracy"}


def test_a_run_that_has_ended_is_drawn_again_from_its_directory(small, tmp_path):
    """Byte for byte, without its figures, its checkpoints or the run that it began from."""
    small.figures = True
    experiment.run(small, tmp_path / "origin")
    small.first.start = (("heads/**", "fresh"), ("**", f"run:{tmp_path / 'origin'}"))
    small.evaluate.early = dict(small.evaluate.target, phase="first")
    workdir = tmp_path / "run"
    experiment.run(small, workdir)
    files = {path.name: path.read_bytes() for path in (workdir / "figures").iterdir()}
    named = {"confusion_target.png", "confusion_early.png"}
    assert set(files) == {"losses.png", "accuracy.png", "features.png"} | named
    for folder in (workdir / "figures", workdir / "checkpoints", tmp_path / "origin"):
        shutil.rmtree(folder)
    experiment.draw(workdir)
    assert {path.name: path.read_bytes() for path in (workdir / "figures").iterdir()} == files
    shutil.rmtree(workdir / "phases" / "second")
    with pytest.raises(
        UserError, match=r"^workdir: got '.*run'; expected the end of phase 'second'"
    ):
        experiment.draw(workdir)


def test_intervals_take_a_single_run(tmp_path):
    rows = [("source only", [0.5, 0.6, 0.55]), ("DANN", [0.9])]
    for name in ("a.png", "b.png"):
        figures.intervals(rows, tmp_path / name, "target accuracy")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_few_values_are_ticks_and_many_numbers_are_places(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(figures, "save", lambda figure, path: saved.append(figure))
    few = [("adam", [0.5]), ("sgd", [0.25, 0.75])]
    many = [(10.0**i, [0.1 * i]) for i in range(-3, 5)]
    near = [(float(i), [0.1 * i]) for i in range(1, 9)]
    figures.effects({"name": few, "weight": many, "rate": near}, tmp_path / "a.png", "accuracy")
    name, weight, rate = saved[0].axes
    assert [label.get_text() for label in name.get_xticklabels()] == ["adam", "sgd"]
    assert name.get_xscale() == rate.get_xscale() == "linear" and weight.get_xscale() == "log"
    for axes, points in ((weight, many), (rate, near)):
        drawn = [tuple(map(float, line.get_xydata()[0])) for line in axes.lines]
        assert drawn == [(x, y) for x, [y] in points]
    low, high = name.containers[0].lines[2][0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((0.5 - 12.7062 * 0.25, 0.5 + 12.7062 * 0.25), rel=1e-4)

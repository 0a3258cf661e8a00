"""A run that has ended, used: pictures of somebody else in, tables of names and numbers out."""

import csv
import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import tljax
from tljax import experiment
from tljax.errors import UserError
from tljax.experiment import sweep, using
from tljax.main import main

NAMES = ("four", "one", "zero")


def bright(image, key, *, held_out=False, by: float = 1.0):
    """A transform that evaluation passes."""
    return by * image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Digits as pictures of 12 × 10 pixels, in DIR/CLASS/; and others without classes."""
    digits, base = load_digits(), tmp_path_factory.mktemp("pictures")
    for place, rows in (("old", range(0, 120)), ("new", range(200, 240))):
        for i in rows:
            label = digits.target[i]
            if label in (0, 1, 4):
                name = {0: "zero", 1: "one", 4: "four"}[label] if place == "old" else ""
                path = base / place / name / f"{i:04}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                image = Image.fromarray((digits.images[i] * 15).astype(np.uint8))
                image.resize((10, 12)).save(path)
    return base


def config_of(data, **evaluation):
    config = experiment.blank()
    common = dict(data=f"folder:{data}", size=6, channels=1)
    config.streams.source = dict(common, batch=8)
    look = (dict(name="test_using:bright", by=0.5),)
    config.evaluate.seen = dict(common, transforms=look, **evaluation)
    config.network.trunk = dict(name="mlp", features=(5,))
    config.terms.label = dict(term="cross_entropy")
    config.optimizer.learning_rate = 0.1
    config.update(steps=80, figures=False)
    return config


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run"
    experiment.run(config_of(folder / "old"), path)
    return path


@pytest.fixture(scope="module")
def model(run):
    return tljax.load(run)


def lines(path):
    return list(csv.reader(path.open(newline="")))


class TestModel:
    def test_what_the_evaluation_passed_is_passed_without_a_word(self, model, folder):
        """The pictures are sized, made grey and darkened as `seen` is; by hand it is the same."""
        outputs = model.outputs(f"folder:{folder}/old")
        table = tljax.data.load(f"folder:{folder}/old", "train", size=6, channels=1)
        kernels = model.variables["params"]
        z = table.input.astype(np.float32).reshape(len(table), -1) / 255 * 0.5
        dense = kernels["trunk"]["dense_0"]
        z = np.maximum(z @ dense["kernel"] + dense["bias"], 0)
        head = kernels["heads"]["label"]["output"]
        np.testing.assert_allclose(outputs.features, z, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(outputs.logits, z @ head["kernel"] + head["bias"], rtol=1e-4)

    def test_every_kind_of_input_is_the_same(self, model, folder):
        source = model.predict(f"folder:{folder}/new")
        paths = sorted((folder / "new").iterdir())
        arrays = np.stack([np.asarray(Image.open(path)) for path in paths])[..., None]
        table = tljax.Table(input=arrays)
        for inputs in (paths, list(map(str, paths)), arrays, jnp.asarray(arrays), table):
            np.testing.assert_allclose(model.predict(inputs), source, atol=0.01)
        np.testing.assert_allclose(source.sum(-1), 1, rtol=1e-6)
        assert model.features(paths).shape == (len(paths), 5)

    def test_a_field_may_differ(self, model, folder):
        darker = model.outputs(f"folder:{folder}/new", transforms=())
        assert np.abs(darker.logits - model.outputs(f"folder:{folder}/new").logits).max() > 1e-3
        with pytest.raises(UserError, match="evaluate.seen: unknown name 'sise'.*mean 'size'"):
            model.predict(f"folder:{folder}/new", sise=3)

    def test_preprocessing_is_what_is_not_of_the_data(self, model):
        fields = model.preprocessing
        assert (fields["size"], fields["channels"], fields["head"]) == (6, 1, "label")
        assert fields["transforms"] == [{"name": "test_using:bright", "by": 0.5}]
        assert not {"data", "split", "labelled", "classes"} & set(fields)
        assert json.dumps(fields)

    @pytest.mark.parametrize(
        ("inputs", "says"),
        [
            ("nowhere", "unknown name 'nowhere'"),
            ("folder:nowhere", "existing directory"),
            (["nowhere.png"], "nowhere.png.*No such file"),
            ([], "files of pictures"),
            (7, "a source such as 'folder:DIR', an array, a table or a list of files of"),
            (np.zeros((2, 6, 6)), "images|do not fit"),
            (np.zeros((2, 7), np.float32), "no.*images|holds no images"),
        ],
    )
    def test_other_inputs_are_refused_in_a_line(self, model, inputs, says):
        with pytest.raises(UserError, match=says):
            model.predict(inputs)

    def test_like_names_an_evaluation(self, run):
        with pytest.raises(UserError, match=r"like: unknown name 'sene'.*mean 'seen'"):
            tljax.load(run, like="sene")


class TestPredict:
    def test_a_line_a_picture_in_order(self, run, model, folder, tmp_path):
        out = tmp_path / "p.csv"
        count = using.predict(run, f"folder:{folder}/new", out)
        head, *rows = lines(out)
        assert head == ["path", "predicted", "confidence", *NAMES]
        paths = sorted(map(str, (folder / "new").iterdir()))
        assert [row[0] for row in rows] == paths and count == len(rows)
        shares = np.array([row[3:] for row in rows], float)
        np.testing.assert_allclose(shares, model.predict(f"folder:{folder}/new"), atol=1e-6)
        assert [row[1] for row in rows] == [NAMES[i] for i in shares.argmax(-1)]
        np.testing.assert_allclose([float(row[2]) for row in rows], shares.max(-1))

    def test_most_are_right(self, run, folder, tmp_path):
        using.predict(run, f"folder:{folder}/old", tmp_path / "p.csv")
        right = [row[1] == row[0].split("/")[-2] for row in lines(tmp_path / "p.csv")[1:]]
        assert np.mean(right) > 0.8

    def test_the_first_of_them(self, run, folder, tmp_path):
        using.predict(run, f"folder:{folder}/new", tmp_path / "p.csv", top=2)
        using.predict(run, f"folder:{folder}/new", tmp_path / "p.jsonl", top=2)
        head, first, *_ = lines(tmp_path / "p.csv")
        assert head == ["path", "predicted", "confidence", "class_2", "probability_2"]
        line = json.loads((tmp_path / "p.jsonl").read_text().splitlines()[0])
        assert list(line) == ["path", "predicted", "confidence", "probabilities"]
        assert list(line["probabilities"]) == [first[1], first[3]]
        assert list(line["probabilities"].values()) == [float(first[2]), float(first[4])]

    def test_batches_are_streamed_and_do_not_matter(self, run, folder, tmp_path):
        for batch in (3, 256):
            using.predict(run, f"folder:{folder}/new", tmp_path / f"{batch}.csv", batch=batch)
        few, many = (lines(tmp_path / f"{batch}.csv") for batch in (3, 256))
        assert [row[:2] for row in few] == [row[:2] for row in many]

    def test_by_the_command_line(self, run, folder, tmp_path, capsys):
        command = ["tljax", "predict", "--run", str(run), "--data", f"folder:{folder}/new"]
        assert main(command) == 0
        shown = capsys.readouterr().out
        out = tmp_path / "p.csv"
        assert main([*command, "--out", str(out)]) == 0
        assert out.read_text() == shown
        assert main([*command, "--out", str(out)]) == 2
        assert "--out: got" in (error := capsys.readouterr().err) and "--force" in error
        out.write_text("")
        assert main([*command, "--out", str(out), "--force", "--quiet"]) == 0
        assert out.read_text() == shown
        assert main([*command, "--out", str(tmp_path / "p.xls")]) == 2
        assert ".csv or .jsonl" in capsys.readouterr().err
        assert main([*command[:4]]) == 2 and "--data" in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]

    def test_a_list_and_an_array_file(self, run, folder, tmp_path):
        """A picture of a list has its path, a row of an array its number."""
        paths = sorted((folder / "new").iterdir())[:3]
        arrays = np.stack([np.asarray(Image.open(path)) for path in paths])
        np.savez(tmp_path / "n.npz", image=arrays)
        (tmp_path / "l.txt").write_text("".join(f"{path}\n" for path in paths))
        using.predict(run, f"npz:{tmp_path}/n.npz", tmp_path / "n.csv")
        using.predict(run, f"folder:{tmp_path}", tmp_path / "l.csv", split="l")
        numbered, named = lines(tmp_path / "n.csv"), lines(tmp_path / "l.csv")
        assert [row[0] for row in numbered] == ["index", "0", "1", "2"]
        assert [row[0] for row in named] == ["path", *map(str, paths)]
        assert [row[1] for row in numbered] == [row[1] for row in named]

    def test_of_a_member_of_a_sweep(self, folder, tmp_path):
        points = [{"seed": 0, "steps": 2}, {"seed": 1, "steps": 2}]
        rows = sweep.run(config_of(folder / "old"), points, tmp_path / "sweep")
        told = []
        for row in rows:
            out = tmp_path / f"{row['seed']}.csv"
            using.predict(
                tmp_path / "sweep" / "members" / row["member"], f"folder:{folder}/new", out
            )
            told.append(lines(out))
        assert [row[0] for row in told[0]] == [row[0] for row in told[1]] and told[0] != told[1]

    def test_a_damaged_picture_leaves_no_file(self, run, tmp_path):
        (tmp_path / "in").mkdir()
        Image.fromarray(np.zeros((6, 6), np.uint8)).save(tmp_path / "in" / "a.png")
        (tmp_path / "in" / "b.png").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:40])
        with pytest.raises(UserError, match=r"in/b.png.*readable image"):
            using.predict(run, f"folder:{tmp_path}/in", tmp_path / "p.csv")
        assert [path.name for path in tmp_path.iterdir()] == ["in"]


class TestOtherHeads:
    """What is not one class an example."""

    @pytest.fixture
    def trained(self, tmp_path):
        def run(term, **columns):
            draw = np.random.default_rng(0)
            np.savez(tmp_path / "d.npz", input=draw.normal(size=(24, 3)), **columns)
            config = experiment.blank()
            config.streams.source = dict(data=f"npz:{tmp_path}/d.npz", batch=8)
            config.evaluate.seen = dict(data=f"npz:{tmp_path}/d.npz")
            config.evaluate.blind = dict(data=f"npz:{tmp_path}/d.npz", labelled=False)
            config.network.trunk = dict(name="mlp", features=(4,))
            config.terms.label = dict(term=term, head="label")
            config.update(steps=2, figures=False)
            experiment.run(config, tmp_path / "run")
            return tmp_path / "run", f"npz:{tmp_path}/d.npz"

        return run

    @pytest.mark.parametrize("like", ["seen", "blind"])
    def test_values_are_values(self, trained, tmp_path, like):
        run, data = trained("squared_error", value=np.linspace(-2, 2, 24, dtype=np.float32))
        using.predict(run, data, tmp_path / "p.csv", like=like)
        head, *rows = lines(tmp_path / "p.csv")
        assert head == ["index", "value"]
        model = tljax.load(run, like=like)
        values = [float(row[1]) for row in rows]
        np.testing.assert_allclose(values, model.outputs(data).logits[:, 0], atol=1e-6)
        np.testing.assert_allclose(model.predict(data)[:, 0], values, atol=1e-6)

    @pytest.mark.parametrize("like", ["seen", "blind"])
    def test_several_classes_of_an_example(self, trained, tmp_path, like):
        """Each is predicted from ½ on: 0, 1 or both."""
        labels = np.stack([np.arange(24) % 2, np.arange(24) % 3 > 0], -1)
        run, data = trained("binary_cross_entropy", labels=labels, classes=["odd", "more"])
        using.predict(run, data, tmp_path / "p.csv", like=like)
        using.predict(run, data, tmp_path / "p.jsonl", like=like)
        head, *rows = lines(tmp_path / "p.csv")
        assert head == ["index", "predicted", "odd", "more"]
        for row, line in zip(rows, (tmp_path / "p.jsonl").read_text().splitlines(), strict=True):
            wanted = [name for name, x in zip(head[2:], row[2:], strict=True) if float(x) >= 0.5]
            assert row[1] == ";".join(wanted) and json.loads(line)["predicted"] == wanted

    def test_unseen_classes_by_their_attributes(self, tmp_path):
        """Among unseen ones, the others have no share."""
        config = experiment.blank()
        digits = dict(data="digits", size=4)
        config.streams.source = dict(digits, split="train[:400]", classes=tuple(range(8)), batch=16)
        config.evaluate.unseen = dict(
            digits, split="train[1400:]", classes=(8, 9), readout="compatibility", table="bits",
            head="bits", unseen=(8, 9), among="unseen",
        )  # fmt: skip
        config.tables.bits = dict(data="segments")
        config.network.trunk = dict(name="mlp", features=(8,))
        config.network.heads = dict(bits=dict(name="linear"))
        config.terms.label = dict(term="compatibility", head="bits", table="bits")
        config.update(steps=5, figures=False)
        experiment.run(config, tmp_path / "run")
        model = tljax.load(tmp_path / "run")
        images = tljax.data.load("digits", "train[1400:1420]", size=4).input
        shares = model.predict(images)
        assert shares.shape == (20, 10) and (shares[:, :8] == 0).all()
        np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-5)
        using.predict(tmp_path / "run", images, tmp_path / "p.csv", top=1)
        assert {row[1] for row in lines(tmp_path / "p.csv")[1:]} <= {"8", "9"}


class TestFeatures:
    def test_features_are_data_again(self, run, model, folder, tmp_path, capsys):
        out = tmp_path / "f.npz"
        command = ["tljax", "features", "--run", str(run), "--data", f"folder:{folder}/old"]
        assert main([*command, "--out", str(out)]) == 0
        table = tljax.data.load(f"npz:{out}", "train")
        there = tljax.data.load(f"folder:{folder}/old", "train")
        assert table.classes == there.classes
        np.testing.assert_array_equal(table.label, there.label)
        wanted = model.features(f"folder:{folder}/old")
        np.testing.assert_allclose(table.input, wanted, rtol=1e-5, atol=1e-6)
        with np.load(out) as arrays:
            assert [path.split("/")[-2] for path in arrays["path"]] == [
                there.classes[label] for label in there.label
            ]
        assert main([*command, "--out", str(out)]) == 2

    def test_as_text_and_without_labels(self, run, model, folder, tmp_path):
        using.features(run, f"folder:{folder}/new", tmp_path / "f.csv")
        head, *rows = lines(tmp_path / "f.csv")
        assert head == ["path", *(f"feature_{i}" for i in range(5))]
        wanted = model.features(f"folder:{folder}/new")
        np.testing.assert_allclose(np.array([r[1:] for r in rows], float), wanted, rtol=1e-5)
        with pytest.raises(UserError, match=".npz or .csv"):
            using.features(run, f"folder:{folder}/new", tmp_path / "f.txt")

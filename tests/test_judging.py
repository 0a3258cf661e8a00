"""What evaluations and figures need: asked before the first step, or no reason to lose a run."""

import json
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pyarrow import parquet
from sklearn import metrics as sklearn

import tljax
from tljax import experiment, metrics
from tljax.errors import UserError, failure
from tljax.experiment import choice, grid, results, sweep
from tljax.main import main
from tljax.metrics import validators
from tljax.phase import scoring
from tljax.phase.scoring import Outputs, Split, score
from tljax.report import confusion, figures, tables
from tljax.train.files import write_json
from tljax.train.records import Records, read


def outputs_of(logits, **columns):
    logits = np.asarray(logits, np.float32)
    named = {name: np.asarray(column) for name, column in columns.items()}
    return Outputs(logits, logits, **{"labels": None, **named})


def strict(path):
    """A JSON file in which NaN and Infinity are mistakes."""

    def refuse(constant):
        raise AssertionError(f"{path} holds {constant}")

    return json.loads(path.read_text(), parse_constant=refuse)


class Maps(nn.Module):
    """A head whose outputs are no class scores."""

    outputs: int = 2

    @nn.compact
    def __call__(self, z):
        return nn.Dense(4, name="map")(z).reshape(-1, 2, 2)


class Narrow(nn.Module):
    """A head of two outputs, as no field of it says."""

    @nn.compact
    def __call__(self, z):
        return nn.Dense(2, name="mine")(z)


class Steep(nn.Module):
    """A head whose outputs are finite for features as they are trained on, and no larger ones."""

    outputs: int = 3

    @nn.compact
    def __call__(self, z):
        return nn.Dense(self.outputs, name="output")(z) * jnp.exp(abs(z).max(-1, keepdims=True))


@pytest.fixture
def vectors(tmp_path):
    """The config of a linear model on vectors, of which those of `far` are far away."""
    draw = np.random.default_rng(0)
    inputs, label = draw.normal(size=(40, 3)).astype(np.float32), np.arange(40) % 3
    far = inputs[:6].copy()
    far[4] = 1e6
    few = {"near": (inputs, label), "far": (far, label[:6])}
    for name, (input, label) in few.items():
        np.savez(tmp_path / f"{name}.npz", input=input, label=label, classes=["ant", "$x^2", "cat"])
    config = experiment.blank()
    near = dict(data=f"npz:{tmp_path}/near.npz")
    config.streams.source = dict(near, batch=8)
    config.network.trunk = dict(name="mlp", features=(5,))
    config.terms.label = dict(term="cross_entropy")
    config.evaluate.near = dict(near)
    config.update(steps=4, log_every=2, evaluate_every=2, checkpoint_every=2, figures=False)
    return config


def far(config):
    config.network.heads.label = dict(name="test_judging:Steep")
    config.optimizer.learning_rate = 1e-4
    config.evaluate.far = dict(data=config.evaluate.near.data.replace("near.npz", "far.npz"))
    return config


class TestWhatIsKept:
    """What is said of every example, beside what is true, by hand."""

    def of(self, found, **fields):
        return scoring.answers(found, Split("test", None, None, **fields))

    def test_classes(self):
        found = outputs_of([[1.0, 0.0, 2.0], [3.0, 0.0, 2.0]], labels=[2, 1])
        kept = self.of(found)
        assert kept["predicted"].tolist() == [2, 0] and kept["true"].tolist() == [2, 1]
        # Of those that compete, as they are called among all.
        assert self.of(found, classes=(1, 2))["predicted"].tolist() == [2, 2]
        assert self.of(outputs_of([[0.0, 1.0]])).keys() == {"predicted"}

    def test_classes_by_embeddings(self):
        table = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        found = outputs_of([[-2.0, 1.0], [0.0, 3.0]], labels=[2, 1])
        kept = self.of(found, readout="compatibility", semantics=table)
        assert kept["predicted"].tolist() == [2, 1]

    def test_several_labels_attributes_values(self):
        several = self.of(outputs_of([[-1.0, 0.5]], several=[[1, 1]]))
        assert several["predicted"].tolist() == [[False, True]]
        assert several["true"].tolist() == [[True, True]]
        bits = self.of(outputs_of([[-1.0, 0.5]], labels=[3]), readout="attributes")
        assert bits["predicted"].tolist() == [[False, True]] and bits["true"].tolist() == [3]
        values = self.of(outputs_of([[0.5]], value=[0.25]))
        assert values["predicted"].tolist() == [[0.5]] and values["true"].tolist() == [0.25]

    def test_a_span(self):
        logits = np.array([[[0.0, 1.0], [2.0, 0.0], [0.0, 3.0]]])
        kept = self.of(outputs_of(logits, span=[[1, 1]]), readout="span")
        assert kept["predicted"].tolist() == [[1, 2]] and kept["true"].tolist() == [[1, 1]]

    def test_nothing_of_features(self):
        assert self.of(outputs_of([[0.0, 1.0]]), head="") == {}


class TestWhatIsNotDefined:
    def test_one_example_without_a_label_has_its_entropy(self):
        """Shares ¼ and ¾: entropy log 4 − ¾ log 3; the mean prediction is the only one."""
        values = score(outputs_of([[0.0, math.log(3)]]))
        assert values == {
            "information_maximisation": pytest.approx(0, abs=1e-6),
            "entropy": pytest.approx(math.log(4) - 0.75 * math.log(3), rel=1e-6),
        }

    def test_one_example_of_every_kind(self):
        """A class, labels of which none occurs, a value: what has no denominator is left out."""
        assert score(outputs_of([[0.0, 1.0]], labels=[1]))["accuracy"] == 1
        several = np.zeros((1, 2), bool)
        values = score(outputs_of([[-1.0, 1.0]], several=several))
        assert values == {"f1_macro": 0, "f1_micro": 0, "accuracy": 0.5}
        assert score(outputs_of([[3.0]], value=[[1.0]])) == {"mae": 2, "rmse": 2}
        table = tljax.Table(input=np.zeros((1, 1), np.float32), label=[0])
        clusters = Split("clusters", table, tljax.Stream("clusters"), readout="clusters")
        assert score(outputs_of([[0.0, 1.0]], labels=[0]), clusters)["accuracy"] == 1

    def test_a_run_of_one_example_ends_with_what_is_defined(self, vectors, tmp_path):
        vectors.evaluate.new = dict(vectors.evaluate.near, split="train[:1]", labelled=False)
        vectors.figures = True
        result = experiment.run(vectors, tmp_path / "run")
        assert set(result["evaluations"]["new"]) == {
            *("entropy", "information_maximisation", "examples"),
        }
        assert result == strict(tmp_path / "run" / "result.json") and "failed" not in result
        kinds = {record["kind"] for record in read(tmp_path / "run")}
        assert kinds == {"train", "near", "new"}

    def test_large_outputs_have_finite_metrics(self):
        """Differences and squares that float32 does not hold."""
        logits = [[3e38, -3e38], [-3e38, 3e38]]
        assert score(outputs_of(logits))["entropy"] == 0
        assert score(outputs_of(logits, labels=[0, 0]))["loss"] == pytest.approx(3e38)
        values = score(outputs_of([[1e30], [0.0]], value=[[0.0], [1.0]]))
        assert values["rmse"] == pytest.approx(1e30 / 2**0.5)

    def test_a_sweep_and_its_report_do_without_it(self, vectors, tmp_path, capsys):
        vectors.evaluate.new = dict(vectors.evaluate.near, split="train[:1]", labelled=False)
        rows = sweep.run(
            vectors, grid.parse(["seed=0,1", "terms.label.weight=0.5,1"]), tmp_path / "s"
        )
        assert all("new/entropy" in row for row in rows)
        assert not any("new/soft_neighbourhood_density" in row for row in rows)
        tables.show(tmp_path / "s", "new/entropy")
        assert "new/entropy" in capsys.readouterr().out

    def test_a_table_of_fields_of_two_kinds(self, tmp_path):
        rows = [
            {"member": "a", "status": "finished", "terms.label": 1.0, "x": None, "near/loss": 0.5},
            {"member": "b", "status": "finished", "terms.label": "cross_entropy", "x": 10**20},
        ]
        sweep.write(rows, tmp_path)
        table = parquet.read_table(tmp_path / "results.parquet").to_pylist()
        assert [row["terms.label"] for row in table] == ["1.0", "cross_entropy"]
        assert [row["near/loss"] for row in table] == [0.5, None]
        assert [row["x"] for row in table] == [None, str(10**20)]

    def test_what_some_members_lack_counts_as_worst(self):
        config = {"evaluate": {"blind": dict(data="digits", labelled=False)}}
        rows = [
            {"member": "a", "status": "finished", "x": 1, "blind/accuracy": 0.1},
            {"member": "b", "status": "finished", "x": 2},
        ]
        assert choice.best(rows[::-1], "blind/accuracy", config) == [(1,), (2,)]


class TestAskedBefore:
    def refused(self, config, workdir, match):
        with pytest.raises(UserError, match=match):
            experiment.run(config, workdir)
        assert not list(workdir.glob("checkpoints/*/[0-9]*")) and not list(workdir.glob("phases/*"))

    def test_outputs_that_cannot_be_judged(self, vectors, tmp_path):
        vectors.network.heads.maps = dict(name="test_judging:Maps")
        vectors.terms.maps = dict(term="test_judging:squares")
        vectors.evaluate.drawn = dict(vectors.evaluate.near, head="maps", labelled=False)
        message = r"^evaluate\.drawn: .*logits: got float32 \[40, 2, 2\]; expected float \[n, class"
        self.refused(vectors, tmp_path / "run", message.replace("float32", "float64"))

    def test_inputs_of_the_last_batch(self, vectors, tmp_path):
        spoilt = np.zeros((40, 3), np.float32)
        spoilt[39] = np.nan
        np.savez(tmp_path / "nan.npz", input=spoilt, label=np.arange(40) % 3)
        vectors.evaluate.late = dict(data=f"npz:{tmp_path}/nan.npz", batch=8)
        self.refused(vectors, tmp_path / "run", r"^evaluate\.late.*input 39.*holds NaN")

    @pytest.mark.parametrize(
        ("evaluation", "match"),
        [
            (dict(head="other"), r"^evaluate\.later\.head: unknown name 'other'"),
            (dict(head=""), r"^evaluate\.later\.head: got ''"),
            (dict(data="digits", size=8, labelled=False), r"^evaluate\.later: inputs \(8, 8, 1\)"),
        ],
    )
    def test_evaluations_of_a_later_phase(self, vectors, tmp_path, evaluation, match):
        vectors.network.heads.other = dict(name="linear")
        vectors.phases = ("first", "second")
        vectors.first = vectors.second = {}
        vectors.evaluate.later = {**vectors.evaluate.near, "phase": "second", **evaluation}
        self.refused(vectors, tmp_path / "run", match)

    @pytest.mark.parametrize(
        ("fields", "match"),
        [
            (dict(train=(("trnk/**", 0.0), ("**", 1.0))), r"^second\.train: pattern 'trnk/\*\*'"),
            (dict(start=(("**", "frist"),)), r"^second\.start\[0\]: unknown name 'frist'"),
            (dict(start=(("heads/**", "first"),)), r"^second\.start: no pattern matches"),
            (dict(terms=dict(label=dict(term="cross_entropy", head="lable"))), r"'lable'"),
        ],
    )
    def test_what_a_later_phase_starts_from(self, vectors, tmp_path, fields, match):
        vectors.phases = ("first", "second")
        vectors.first, vectors.second = {}, fields
        self.refused(vectors, tmp_path / "run", match)

    def test_statistics_that_would_stay_fresh(self, vectors, tmp_path):
        vectors.streams.other = dict(vectors.streams.source)
        vectors.network.trunk.norm = "batch"
        vectors.statistics = "separate"
        vectors.phases = ("first", "second")
        vectors.first = dict(flow=("source",))
        label = dict(term="cross_entropy", stream="other")
        frozen = (("trunk/**", 0.0), ("**", 1.0))
        vectors.second = dict(flow=("other",), terms=dict(label=label), train=frozen)
        vectors.evaluate.near.statistics = "other"
        self.refused(vectors, tmp_path / "run", r"^second\.freeze_statistics: got None.*False")
        vectors.second.freeze_statistics = False
        assert "failed" not in experiment.run(vectors, tmp_path / "run")

    def test_a_label_without_an_output_of_a_head_of_ones_own(self, vectors, tmp_path):
        """The head tells of its outputs only when it is called."""
        vectors.network.heads.narrow = dict(name="test_judging:Narrow")
        vectors.terms.narrow = dict(term="test_judging:squares", head="narrow")
        vectors.evaluate.near.head = "narrow"
        match = (
            r"^evaluate\.near: label 2 has no output in head 'narrow'; expected labels from 0 to 1"
        )
        self.refused(vectors, tmp_path / "run", match)

    def test_numbers_that_json_does_not_have(self, vectors, tmp_path):
        vectors.resident_megabytes = math.inf
        self.refused(vectors, tmp_path / "run", r"^resident_megabytes: got inf; expected a finite")

    def test_tables_of_a_phase_from_python(self):
        images = np.zeros((8, 2), np.float32)
        data = {"source": tljax.Table(input=images, label=np.arange(8) % 2)}
        network = tljax.Network(
            trunk=tljax.models.MLP(features=(3,)), heads={"label": tljax.models.Linear()}
        )
        streams = [tljax.Stream("source", 4)]
        phase = tljax.Phase(network, streams, {"label": tljax.term("cross_entropy")}, steps=2)
        state = tljax.start(phase, data, jax.random.key(0))
        two = tljax.Table(input=images, value=np.zeros((8, 3)))
        with pytest.raises(UserError, match=r"^evaluate\.table: "):
            tljax.fit(phase, state, data, judge={"other": two})
        assert int(state.step) == 0


def squares(view, *, head="maps"):
    return (view.net.head(head, view.features["source"]) ** 2).mean()


class TestFailedAtTheEnd:
    def test_outputs_that_are_not_finite(self, vectors, tmp_path, capsys):
        config = far(vectors)
        config.figures = True
        workdir = tmp_path / "run"
        result = experiment.run(config, workdir)
        why = (
            "evaluate.far: outputs: got NaN or infinity for 1 of 6 examples, the first of them 4; "
        )
        assert result["failed"] == why + "expected finite numbers"
        assert result["evaluations"]["far"] == {"failed": result["failed"]}
        assert 0 <= result["evaluations"]["near"]["accuracy"] <= 1
        assert result == strict(workdir / "result.json")
        assert (workdir / "timing.json").exists()
        drawn = {path.name for path in (workdir / "figures").iterdir()}
        assert drawn == {"losses.png", "accuracy.png", "confusion_near.png", "features.png"}
        assert list(result["figures"]) == ["confusion_far.png"]
        for line in (workdir / "metrics.jsonl").read_text().splitlines():
            assert "NaN" not in line and json.loads(line)["kind"] != "far"

    def test_the_command_says_so_in_a_line_again_and_again(self, vectors, tmp_path, capsys):
        (tmp_path / "config.json").write_text(json.dumps(far(vectors).to_dict()))
        file = tmp_path / "config.py"
        file.write_text(
            "import json\n"
            f"def get_config():\n    return json.load(open({str(tmp_path / 'config.json')!r}))\n"
        )
        for _ in range(2):
            command = ["tljax", f"--config={file}", f"--workdir={tmp_path / 'run'}", "--quiet"]
            assert main(command) == 2
            error = capsys.readouterr().err
            assert error.startswith("tljax: error: evaluate.far: ") and error.count("\n") == 1

    def test_a_member_of_a_sweep(self, vectors, tmp_path, capsys):
        config = far(vectors)
        config.evaluate.blind = dict(config.evaluate.near, labelled=False)
        rows = sweep.run(config, grid.parse(["seed=0,1"]), tmp_path / "sweep")
        assert all(row["status"].startswith("evaluate.far: ") for row in rows)
        assert all("near/accuracy" in row and "far/failed" not in row for row in rows)
        for row in rows:
            strict(tmp_path / "sweep" / "members" / row["member"] / "result.json")
        tables.show(tmp_path / "sweep")

    def test_a_factor_chosen_on_an_evaluation_that_failed(self, monkeypatch):
        def outputs(network, params, batch_stats, split):
            return outputs_of([[np.nan if split.name == "first" else 0.0, 1.0]], labels=[1])

        monkeypatch.setattr(results, "outputs", outputs)
        table = tljax.Table(input=np.zeros((1, 1), np.float32), label=[1])
        stream = tljax.Stream("source")
        splits = [
            Split("second", table, stream, phase="a", calibrate="first"),
            Split("first", table, stream, phase="a"),
            Split("third", table, stream, phase="a"),
        ]
        judged = results.judge(None, {"a": {"params": {}, "batch_stats": {}}}, splits)
        assert list(judged) == ["second", "first", "third"]
        assert judged["first"][1]["failed"].startswith("evaluate.first: outputs: got NaN")
        assert judged["second"][1]["failed"].startswith("evaluate.second: ")
        assert judged["third"][1]["accuracy"] == 1

    @pytest.mark.parametrize(
        "error", [ValueError("of\nsklearn"), MemoryError(), OSError(28, "full")]
    )
    def test_whatever_an_evaluation_raises(self, vectors, tmp_path, monkeypatch, error):
        vectors.evaluate.other = dict(vectors.evaluate.near)
        real = results.score

        def spoilt(outputs, split, gamma):
            if split.name == "other":
                raise error
            return real(outputs, split, gamma)

        monkeypatch.setattr(results, "score", spoilt)
        result = experiment.run(vectors, tmp_path / "run")
        assert result["failed"].startswith(f"evaluate.other: {type(error).__name__}")
        assert "\n" not in result["failed"] and "accuracy" in result["evaluations"]["near"]

    @pytest.mark.parametrize(
        ("fields", "passes"),
        [
            ({}, 1),  # what is judged as the phase ends is what the result tells
            (dict(evaluate_every=2), 2),
            (dict(select=dict(by="near/loss")), 2),  # another step might be kept
        ],
    )
    def test_a_final_network_is_asked_once(self, vectors, tmp_path, monkeypatch, fields, passes):
        asked, real = [], results.outputs

        def outputs(network, params, batch_stats, split):
            asked.append(split.name)
            return real(network, params, batch_stats, split)

        monkeypatch.setattr(results, "outputs", outputs)
        vectors.evaluate.near.validation = True
        vectors.update(dict(steps=4, evaluate_every=4, checkpoint_every=4), **fields)
        result = experiment.run(vectors, tmp_path / "run")
        assert asked.count("near") == passes
        last = [line for line in read(tmp_path / "run") if line["kind"] == "near"][-1]
        assert result["evaluations"]["near"]["accuracy"] == last["accuracy"]

    def test_a_failure_is_one_line_that_names_its_field_once(self):
        assert failure("a.b", UserError("a.b: got 1")) == {"failed": "a.b: got 1"}
        assert failure("a.b", KeyError("x\ny")) == {"failed": "a.b: KeyError: 'x\\ny'"}

    def test_a_figure_that_cannot_be_drawn(self, vectors, tmp_path, monkeypatch):
        def broken(*arguments):
            raise ValueError("no room\nfor the labels")

        vectors.figures = True
        plain = experiment.run(vectors, tmp_path / "plain")
        monkeypatch.setattr(figures, "_features", broken)
        result = experiment.run(vectors, tmp_path / "one")
        why = "figures/features.png: ValueError: no room for the labels"
        assert result.pop("figures") == {"features.png": {"failed": why}}
        assert result == plain == strict(tmp_path / "plain" / "result.json")
        drawn = {path.name for path in (tmp_path / "one" / "figures").iterdir()}
        assert drawn == {"losses.png", "accuracy.png", "confusion_near.png"}
        monkeypatch.setattr(figures, "draw", broken)
        result = experiment.run(vectors, tmp_path / "all")
        assert result.pop("figures")["all"]["failed"].startswith("figures: ValueError: no room")
        assert result == plain

    def test_json_has_no_other_numbers(self, tmp_path):
        for number in (math.nan, math.inf):
            with pytest.raises(ValueError):
                write_json(tmp_path / "a.json", {"a": number})
            assert not (tmp_path / "a.json").exists()
            with pytest.raises(ValueError):
                Records(tmp_path).write("train", 1, "train", {"loss": number})


class TestManyClasses:
    def test_metrics_of_70001_classes_are_those_of_scikit_learn(self):
        draw = np.random.default_rng(0)
        labels = np.concatenate([draw.integers(0, 70_001, 300), [5] * 20, [70_000] * 20])
        predicted = np.where(draw.random(340) < 0.5, labels, draw.integers(0, 70_001, 340))
        predicted[-15:] = 69_999
        accuracies = metrics.class_accuracies(predicted, labels, 70_001)
        present = np.unique(labels)
        recall = sklearn.recall_score(labels, predicted, labels=present, average=None)
        np.testing.assert_array_equal(accuracies[present], recall)
        assert np.isnan(np.delete(accuracies, present)).all()
        pairs = metrics.confused(predicted, labels)
        assert pairs[0] == (70_000, 69_999, 15)
        matrix = sklearn.confusion_matrix(labels, predicted, labels=np.union1d(labels, predicted))
        assert sum(n for *_, n in metrics.confused(predicted, labels, 1000)) == (
            matrix.sum() - np.trace(matrix)
        )
        assert len(pairs) == 100 and sorted((-n, i, j) for i, j, n in pairs) == [
            (-n, i, j) for i, j, n in pairs
        ]

    def test_they_are_those_of_the_matrix(self):
        """Of 0: one of two; of 1: one of one; 2 does not occur; of 3: two of three."""
        labels, predicted = np.array([0, 0, 1, 3, 3, 3]), np.array([0, 1, 1, 3, 0, 3])
        by_class = metrics.class_accuracies(predicted, labels, 4)
        np.testing.assert_array_equal(by_class, [1 / 2, 1, np.nan, 2 / 3])
        matrix = metrics.confusion_matrix(predicted, labels, 4)
        np.testing.assert_array_equal(by_class, metrics.per_class_accuracy(matrix))
        assert metrics.confused(predicted, labels) == [(0, 1, 1), (3, 0, 1)]
        assert metrics.confused(labels, labels) == []
        with pytest.raises(UserError, match="labels: got 4"):
            metrics.class_accuracies(predicted, labels + 1, 4)

    def test_a_run_of_70001_classes_is_judged(self, vectors, tmp_path):
        draw = np.random.default_rng(0)
        input, label = draw.normal(size=(16, 3)).astype(np.float32), np.arange(16) + 69_985
        np.savez(tmp_path / "many.npz", input=input, label=label)
        vectors.streams.source.data = vectors.evaluate.near.data = f"npz:{tmp_path}/many.npz"
        vectors.figures = True
        result = experiment.run(vectors, tmp_path / "run")
        near = result["evaluations"]["near"]
        assert near["classes"] == 70_001 and "confusion" not in near
        wrong = 16 - round(16 * near["accuracy"])
        assert sum(count for *_, count in near["confused"]) == wrong
        assert all(69_985 <= int(true) <= 70_000 for true, *_ in near["confused"])
        assert (tmp_path / "run" / "result.json").stat().st_size < 10_000
        assert (tmp_path / "run" / "figures" / "confusion_near.png").exists()
        assert "figures" not in result
        names = tljax.load(tmp_path / "run").classes["label"]
        assert len(names) == 70_001 and names[-1] == "70000"

    @pytest.mark.parametrize("classes", [100, 101])
    def test_names_of_their_own_are_always_written(self, classes):
        """Examples of class 3 that are taken for 7, twice, and one of 7 for 100: by name."""
        names = tuple(f"species {i}" for i in range(classes))
        table = tljax.Table(input=np.zeros((4, 1), np.float32), label=[3, 3, 7, 0], classes=names)
        logits = np.eye(classes)[[7, 7, classes - 1, 0]]
        found = outputs_of(logits, labels=[3, 3, 7, 0])
        split = Split("many", table, tljax.Stream("many"))
        evaluation = results.evaluation(split, found, score(found, split))
        assert evaluation["classes"] == list(names)
        assert evaluation["accuracy"] == 0.25 and evaluation["per_class_accuracy"] == 1 / 3
        wanted = [["species 3", "species 7", 2], ["species 7", f"species {classes - 1}", 1]]
        assert scoring.confused(found, names) == wanted
        if classes > 100:
            assert evaluation["confused"] == wanted and "confusion" not in evaluation
        else:
            assert np.array(evaluation["confusion"])[3, 7] == 2 and "confused" not in evaluation

    @pytest.mark.parametrize("classes", [3, 21, 61, 130])
    def test_figures_have_names_of_any_kind(self, tmp_path, classes):
        """Mathematics that is none, names that are too long, and signs that no font has."""
        names = [f"{i} {'long ' * (i % 9)}" for i in range(classes)]
        names[:3] = ["$\\frac", "a$b$^^", "_汉字 & <b>"]
        label = np.arange(2 * classes) % classes
        table = tljax.Table(
            input=np.zeros((2 * classes, 1), np.float32), label=label, classes=names
        )
        found = outputs_of(np.eye(classes)[(label * 2) % classes], labels=label)
        confusion.draw(Split("a$b$^", table, tljax.Stream("s")), found, tmp_path / "a.png")
        assert (tmp_path / "a.png").stat().st_size > 10_000

    def test_without_a_mistake_there_is_an_empty_figure(self, tmp_path):
        label = np.arange(80)
        table = tljax.Table(input=np.zeros((80, 1), np.float32), label=label)
        found = outputs_of(np.eye(80), labels=label)
        confusion.draw(Split("right", table, tljax.Stream("s")), found, tmp_path / "a.png")
        assert (tmp_path / "a.png").exists()


def test_validators_are_as_they_were_for_two():
    """Cosines of the two shares with each other: each has one neighbour, so density 0."""
    logits = np.array([[0.0, 1.0], [2.0, 0.0]], np.float32)
    values = score(outputs_of(logits))
    assert values["soft_neighbourhood_density"] == 0
    assert values["entropy"] == validators.entropy(logits)

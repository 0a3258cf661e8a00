"""Where phases start: from the one before, by rules, from another run, from what was prepared."""

import json
import re
import shutil
from contextlib import contextmanager

import jax
import numpy as np
import pytest

import tljax
from tljax import experiment, trees
from tljax.errors import UserError
from tljax.experiment import start
from tljax.train import checkpoint
from tljax.train.records import read

MINE = "heads/label/output"


def begin(config, index=0, earlier=None):
    """The flat parameters and statistics that a phase starts from."""
    state = state_of(config, index, earlier)
    return trees.flatten(jax.device_get(state.params)), jax.device_get(state.batch_stats)


def state_of(config, index=0, earlier=None):
    built = experiment.build(experiment.check(config))
    name = list(built.phases)[index]
    return start.fresh(built, name, 0, earlier or {})


def filled(config, value, index=0):
    """Variables like those that the phase starts from, filled with a value."""
    state = state_of(config, index)
    full = lambda leaf: np.full(leaf.shape, value, np.float32)  # noqa: E731
    kinds = {"params": state.params, "batch_stats": state.batch_stats}
    return jax.tree.map(full, jax.device_get(kinds))


def fillings(values):
    """path -> the value that fills it; None of one that is not filled by one."""
    return {p: float(v.flat[0]) if np.ptp(v) == 0 else None for p, v in values.items()}


def saved(workdir, phase, lane=None):
    """The newest state in a phase's checkpoints; of restarts that ran together, one of them."""
    folder = workdir / "checkpoints" / phase
    state = checkpoint.load(folder / max((path.name for path in folder.iterdir()), key=int))
    return state if lane is None else jax.tree.map(lambda leaf: leaf[lane], state)


def equal(one, other):
    one, other = trees.flatten(one), trees.flatten(other)
    assert one.keys() == other.keys()
    for path, leaf in one.items():
        np.testing.assert_array_equal(leaf, other[path], err_msg=path)


def params_of(state):
    return trees.flatten(state["params"])


def tree_of(flat, part):
    """The paths of a part, within it."""
    return {p.removeprefix(f"{part}/"): v for p, v in flat.items() if p.startswith(f"{part}/")}


def one_phase(config):
    config.phases = ("first",)
    del config.second


class Death(BaseException):
    """A kill between two dispatches."""


@contextmanager
def dying(monkeypatch, after):
    """Within it a run dies when `after` dispatches have been shown."""
    left = [after]

    def advance(self, step):
        left[0] -= 1
        if not left[0]:
            raise Death

    with monkeypatch.context() as patch:
        patch.setattr("tljax.train.records.Display.advance", advance)
        yield


def left_by(workdir):
    return tuple((workdir / name).read_text() for name in ("metrics.jsonl", "result.json"))


def heads(config, **more):
    """Another phase, which reads a head that the first one lacks."""
    config.network.heads.update(more)
    name = next(iter(more))
    config.second.terms = dict(label=dict(term="cross_entropy", stream="target", head=name))


@pytest.mark.parametrize(
    "other",
    [
        tljax.term("class_confusion", stream="target"),  # its stream knows of no classes
        tljax.term("nt_xent", first="source", second="target", head="label"),  # reads no labels
    ],
)
def test_labels_tell_a_heads_outputs_whatever_the_terms_are_called(other):
    inputs = np.zeros((8, 3), np.float32)
    known = tljax.Table(input=inputs, label=np.arange(8) % 4, classes=tuple("abcd"))
    phase = tljax.Phase(
        network=tljax.Network(
            trunk=tljax.models.MLP(features=(2,)), heads={"label": tljax.models.Linear()}
        ),
        streams=[tljax.Stream("source", batch=8), tljax.Stream("target", batch=8)],
        terms={
            "a": other,
            "label": tljax.term("cross_entropy", stream="source"),
        },
        steps=2,
    )
    data = {"source": known, "target": tljax.Table(input=inputs)}
    state = tljax.start(phase, data, jax.random.key(0))
    assert state.params["heads"]["label"]["output"]["bias"].shape == (4,)
    with pytest.raises(tljax.errors.UserError, match=r"^terms\.a: .*label\.outputs: got None"):
        tljax.start(phase.changed(terms={"a": other}), data, jax.random.key(0))


class TestRules:
    def test_by_default_all_is_of_the_phase_before_and_a_new_head_is_fresh(self, small):
        heads(small, other=dict(name="linear"))
        before = filled(small, 3.0)
        assert set(trees.flatten(before["params"])) == {
            *("trunk/dense_0/kernel", "trunk/dense_0/bias", f"{MINE}/kernel", f"{MINE}/bias")
        }
        started, _ = begin(small, 1, {"first": before})
        assert fillings(started) == {
            "trunk/dense_0/kernel": 3.0,
            "trunk/dense_0/bias": 3.0,
            "heads/other/output/kernel": None,  # drawn at random
            "heads/other/output/bias": 0.0,
        }

    def test_by_default_a_new_stem_and_a_learned_scalar_are_fresh(self, small):
        small.network.stems.other = dict(name="adapter", features=1)
        small.streams.target.stem = "other"
        two = dict(term="cross_entropy", stream="target")
        small.second.terms = dict(a=two, b=two)
        small.second.balance = dict(name="uncertainty")
        started, _ = begin(small, 1, {"first": filled(small, 3.0)})
        stem = [path for path in started if path.startswith("stems/other/")]
        assert stem and all(fillings(started)[path] != 3.0 for path in stem)
        scalars = {p: v for p, v in fillings(started).items() if p.startswith("scalars/")}
        assert scalars == {"scalars/log_variance_0": -0.5, "scalars/log_variance_1": -0.5}
        assert fillings(started)[f"{MINE}/kernel"] == fillings(started)["trunk/dense_0/bias"] == 3.0

    def test_it_is_the_phase_just_before(self, small):
        earlier = {"zeroth": filled(small, 2.0), "first": filled(small, 3.0)}
        small.phases, small.zeroth = ("zeroth", "first", "second"), small.first
        assert set(fillings(begin(small, 1, earlier)[0]).values()) == {3.0}

    def test_a_part_of_the_trunk_that_the_phase_before_lacks_is_refused(self, small):
        before = filled(small, 3.0)
        small.network.trunk.features = (6, 5)
        with pytest.raises(UserError) as caught:
            begin(small, 1, {"first": before})
        line = str(caught.value)
        assert line.startswith("second.start: phase 'first' does not hold what is to be copied")
        assert "- trunk/dense_1/kernel" in line
        assert f"! {MINE}/kernel (5, 10) against (6, 10)" in line

    def test_rules_say_which_is_copied_and_which_is_fresh(self, small):
        earlier = {"zeroth": filled(small, 2.0), "first": filled(small, 3.0)}
        small.phases, small.zeroth = ("zeroth", "first", "second"), small.first
        small.second.start = (("heads/**", "fresh"), ("**/bias", "zeroth"), ("**", "first"))
        started, _ = begin(small, 2, earlier)
        assert fillings(started) == {
            "trunk/dense_0/bias": 2.0,
            "trunk/dense_0/kernel": 3.0,
            f"{MINE}/bias": 0.0,
            f"{MINE}/kernel": None,
        }

    def test_a_fresh_phase_does_not_look_at_the_one_before(self, small):
        small.second.start = (("**", "fresh"),)
        alone, _ = begin(small, 1)
        after, _ = begin(small, 1, {"first": filled(small, 3.0)})
        equal(alone, after)

    def test_statistics_are_copied_by_the_rules_for_parameters(self, small):
        small.network.trunk.norm = "batch"
        before = filled(small, 3.0)
        _, copied = begin(small, 1, {"first": before})
        assert set(fillings(trees.flatten(copied)).values()) == {3.0}
        small.second.start = (("heads/**", "fresh"), ("trunk/norm_0/**", "fresh"), ("**", "first"))
        _, fresh = begin(small, 1, {"first": before})
        assert set(fillings(trees.flatten(fresh)).values()) == {0.0, 1.0}  # means and variances

    def test_statistics_of_a_new_stream_are_fresh_where_each_keeps_its_own(self, small):
        small.network.trunk.norm = "batch"
        small.statistics = "separate"
        before = filled(small, 3.0)
        small.second.flow = ("source", "target")
        started, statistics = begin(small, 1, {"first": before})
        assert set(fillings(started).values()) == {3.0}
        flat = fillings(trees.flatten(statistics))
        assert {v for p, v in flat.items() if "statistics_source" in p} == {3.0}
        assert {v for p, v in flat.items() if "statistics_target" in p} == {0.0, 1.0}
        # A pattern may be for statistics alone.
        small.second.start = (
            ("**/statistics_source/*", "fresh"),
            ("**/statistics_target/*", "fresh"),
            ("**", "first"),
        )
        started, statistics = begin(small, 1, {"first": before})
        assert set(fillings(started).values()) == {3.0}
        assert set(fillings(trees.flatten(statistics)).values()) == {0.0, 1.0}
        small.second.start = (("**/targt/*", "fresh"), ("**", "first"))
        with pytest.raises(UserError, match=r"^second.start: pattern '\*\*/targt/\*' matches no"):
            begin(small, 1, {"first": before})


class TestRun:
    """`run:WORKDIR`."""

    @pytest.fixture(scope="class")
    def workdir(self, tmp_path_factory):
        return tmp_path_factory.mktemp("runs") / "run"

    @pytest.fixture
    def run(self, small, workdir):
        """A finished run of one phase, with batch statistics and an average; made once."""
        small.network.trunk.norm = "batch"
        small.average = 0.9
        one_phase(small)
        experiment.run(small, workdir)
        return workdir

    def test_all_of_it_is_copied_the_average_for_the_parameters(self, small, run):
        state = saved(run, "first")
        small.start = (("**", f"run:{run}"),)
        started, statistics = begin(small)
        equal(started, trees.flatten(state["average"]))
        equal(statistics, state["batch_stats"])
        assert (
            state["params"]["trunk"]["dense_0"]["kernel"] != started["trunk/dense_0/kernel"]
        ).any()

    def test_without_an_average_the_parameters_are_copied(self, small, tmp_path):
        one_phase(small)
        small.first.train = (("trunk/**", 0.0), ("**", 1.0))
        experiment.run(small, tmp_path / "run")
        small.start = (("**", f"run:{tmp_path / 'run'}"),)
        equal(begin(small)[0], trees.flatten(saved(tmp_path / "run", "first")["params"]))

    def test_what_did_not_move_is_copied_beside_the_average_of_the_rest(self, small, tmp_path):
        """Of the run's end, and of the checkpoint of its last step."""
        one_phase(small)
        small.average = 0.9
        small.first.train = (("trunk/**", 0.0), ("**", 1.0))
        experiment.run(small, tmp_path / "run")
        state = saved(tmp_path / "run", "first")
        assert state["average"]["trunk"]["dense_0"]["kernel"] is None
        for origin in ("run", "run@4"):
            small.start = (("**", f"run:{tmp_path / origin}"),)
            started, _ = begin(small)
            equal(tree_of(started, "trunk"), trees.flatten(state["params"]["trunk"]))
            equal(tree_of(started, "heads"), trees.flatten(state["average"]["heads"]))
            assert (started[f"{MINE}/kernel"] != params_of(state)[f"{MINE}/kernel"]).any()

    def test_a_part_of_it_beside_fresh_ones(self, small, run):
        small.start = (("trunk/**", f"run:{run}"), ("**", "fresh"))
        started, _ = begin(small)
        trained = trees.flatten(saved(run, "first")["average"])
        np.testing.assert_array_equal(
            started["trunk/dense_0/kernel"], trained["trunk/dense_0/kernel"]
        )
        assert (started[f"{MINE}/kernel"] != trained[f"{MINE}/kernel"]).any()

    def test_a_network_of_another_shape_is_told_leaf_by_leaf(self, small, run):
        small.network.trunk.features = (7,)
        small.start = (("**", f"run:{run}"),)
        with pytest.raises(UserError) as caught:
            begin(small)
        assert f"'run:{run}'" in str(caught.value)
        assert "! trunk/dense_0/kernel (16, 7) against (16, 6)" in str(caught.value)

    def test_without_a_checkpoint_it_is_refused(self, small, run, tmp_path):
        for place in (tmp_path, tmp_path / "nowhere", run / "checkpoints"):
            small.start = (("**", f"run:{place}"),)
            with pytest.raises(UserError) as caught:
                begin(small)
            assert str(caught.value) == (
                f"first.start[0]: got 'run:{place}'; expected run:WORKDIR of a run that has a "
                "checkpoint"
            )

    @pytest.mark.parametrize("together", [True, False])
    def test_of_restarts_the_one_of_the_lowest_loss(self, small, tmp_path, together):
        """Of the run's end, and of the checkpoints of a step."""
        one_phase(small)
        small.update(restarts=3, seed=2)
        small.mesh.data = 1 if together else 2
        experiment.run(small, tmp_path / "run")
        places = [("first", lane) for lane in range(3)]
        if not together:
            places = [(name,) for name in TestRestarts.NAMES]
        states = [saved(tmp_path / "run", *place) for place in places]
        losses = [float(state["totals"]["loss"]) for state in states]
        assert np.argmin(losses) == 1  # the first by this seed would show nothing
        for origin in ("run", "run@4"):
            small.start = (("**", f"run:{tmp_path / origin}"),)
            equal(begin(small)[0], params_of(states[1]))

    def test_a_damaged_checkpoint_gets_one_line(self, small, run, tmp_path):
        (tmp_path / "config.json").write_text(json.dumps({"phases": ["first"], "streams": {}}))
        (tmp_path / "checkpoints" / "first" / "4").mkdir(parents=True)
        small.start = (("**", f"run:{tmp_path}@4"),)
        says = r"^first\.start\[0\]: got 'run:.*'; checkpoint '.*first/4' cannot be read"
        with pytest.raises(UserError, match=says):
            begin(small)


class TestOrigin:
    """The run that another begins from: read once, verified, and then no longer needed."""

    @pytest.fixture(scope="class")
    def whole(self, tmp_path_factory):
        return tmp_path_factory.mktemp("origins") / "run"

    @pytest.fixture
    def origin(self, small, whole, tmp_path):
        """A copy of a finished run of one phase, saved at steps 2 and 4."""
        one_phase(small)
        small.update(checkpoint_every=2, average=0.9)
        small.network.trunk.features = (128,)  # arrays that are stored apart from their index
        experiment.run(small, whole)
        shutil.copytree(whole, tmp_path / "origin")
        small.start = (("**", f"run:{tmp_path / 'origin'}"),)
        small.seed = 1
        return tmp_path / "origin"

    @pytest.mark.parametrize("seed", range(2))
    @pytest.mark.parametrize(
        ("step", "folder"), [("", "phases/first/final"), ("@2", "checkpoints/first/2")]
    )
    def test_a_flipped_bit_is_refused(self, small, origin, tmp_path, step, folder, seed):
        """Or has changed no number: nothing starts from others than those that were saved."""
        small.start = (("**", f"run:{origin}{step}"),)
        clean, _ = begin(small)
        files = sorted(path for path in (origin / folder).rglob("d/*") if path.is_file())
        sizes = [path.stat().st_size for path in files]
        assert sum(sizes) > 500
        draw, lines = np.random.default_rng(seed), []
        for _ in range(20):
            place = int(draw.integers(sum(sizes)))
            which = int(np.searchsorted(np.cumsum(sizes), place, side="right"))
            path, content = files[which], files[which].read_bytes()
            flipped = bytearray(content)
            flipped[place - sum(sizes[:which])] ^= 1 << int(draw.integers(8))
            path.write_bytes(flipped)
            try:
                equal(begin(small)[0], clean)
            except UserError as error:
                lines.append(str(error))
                if len(lines) == 1:  # a whole run says the same, and leaves no start
                    with pytest.raises(UserError, match=r"^first\.start\[0\]: got 'run:"):
                        experiment.run(small, tmp_path / "run")
                    assert not (tmp_path / "run" / "phases").exists()
            path.write_bytes(content)
        assert len(lines) >= 10
        says = (
            rf"first\.start\[0\]: got 'run:{origin}{step}'; checkpoint '.*' (is damaged|cannot be)"
        )
        assert all(re.match(says, line) and "\n" not in line for line in lines)
        assert any("has another checksum" in line for line in lines)  # what only we notice
        equal(begin(small)[0], clean)

    @pytest.mark.parametrize("fate", ["deleted", "another"])
    @pytest.mark.parametrize("dispatches", [1, 2])
    def test_what_becomes_of_it_changes_nothing_of_a_run_that_has_begun(
        self, small, origin, tmp_path, monkeypatch, dispatches, fate
    ):
        """Killed before its first checkpoint, and after it."""
        experiment.run(small, tmp_path / "run")
        with dying(monkeypatch, dispatches), pytest.raises(Death):
            experiment.run(small, tmp_path / "again")
        saves = list((tmp_path / "again" / "checkpoints" / "first").iterdir())
        assert [path.name for path in saves] == ["2"][: dispatches - 1]
        shutil.rmtree(origin)
        if fate == "another":
            other = small.copy_and_resolve_references()
            other.update(start=(), seed=7)
            experiment.run(other, origin)
        experiment.run(small, tmp_path / "again")
        assert left_by(tmp_path / "again") == left_by(tmp_path / "run")
        equal(saved(tmp_path / "again", "first"), saved(tmp_path / "run", "first"))
        for part in ("start", "final"):
            pair = [checkpoint.load(tmp_path / d / "phases/first" / part) for d in ("run", "again")]
            equal(*pair)

    def test_it_has_ended_or_a_step_of_it_is_named(self, small, origin, tmp_path, monkeypatch):
        small.start = ()
        with dying(monkeypatch, 2), pytest.raises(Death):
            experiment.run(small, tmp_path / "killed")
        small.start = (("**", f"run:{tmp_path / 'killed'}"),)
        with pytest.raises(UserError) as caught:
            begin(small)
        assert str(caught.value) == (
            f"first.start[0]: got 'run:{tmp_path / 'killed'}'; expected run:WORKDIR of a run that "
            "has ended, or run:WORKDIR@STEP of a checkpoint"
        )
        small.start = (("**", f"run:{tmp_path / 'killed'}@2"),)
        started, _ = begin(small)
        equal(started, trees.flatten(saved(tmp_path / "killed", "first")["average"]))
        experiment.run(small, tmp_path / "run")
        begun = checkpoint.load(tmp_path / "run" / "phases" / "first" / "start")
        equal(params_of(begun), started)
        for step in (3, 4):
            small.start = (("**", f"run:{tmp_path / 'killed'}@{step}"),)
            with pytest.raises(UserError, match=r"^first\.start\[0\]: .*; expected a step that '"):
                begin(small)


class TestRestarts:
    NAMES = ("first", "first@1", "first@2")

    @pytest.mark.parametrize("together", [True, False])
    def test_the_one_of_the_lowest_loss_is_kept(self, small, tmp_path, monkeypatch, together):
        """Lanes of one program; or one after another, where each wants several devices."""
        names = self.NAMES
        small.first.restarts = 3
        small.update(seed=2, checkpoint_every=2)
        small.mesh.data = 1 if together else 2
        experiment.run(small, tmp_path / "run")
        if together:
            states = {name: saved(tmp_path / "run", "first", i) for i, name in enumerate(names)}
            lines = [(name, step) for step in (2, 4) for name in names]
        else:
            states = {name: saved(tmp_path / "run", name) for name in names}
            lines = [(name, step) for name in names for step in (2, 4)]
        losses = {name: float(state["totals"]["loss"]) for name, state in states.items()}
        assert len(set(losses.values())) == 3
        best = min(losses, key=losses.__getitem__)
        assert best == "first@1"  # the first by this seed would show nothing
        records = [r for r in read(tmp_path / "run") if r["kind"] == "train"]
        lines += [("second", 2), ("second", 4)]
        assert [(r["phase"], r["step"]) for r in records] == lines
        last = {r["phase"]: r["loss"] for r in records if r["step"] == 4}
        for name in names:
            assert last[name] == pytest.approx(losses[name] / 2)  # the mean of its two steps
        # The second phase, without learning, stands where the best one ended.
        small.second.optimizer = dict(name="sgd", learning_rate=0.0)
        experiment.run(small, tmp_path / "still")
        equal(saved(tmp_path / "still", "second")["params"], states[best]["params"])

        # Killed in its midst, the second of three if they go one by one, it ends the same.
        with dying(monkeypatch, 2 if together else 4), pytest.raises(Death):
            experiment.run(small, tmp_path / "again")
        left = tmp_path / "again" / "checkpoints"
        assert sorted(path.name for path in left.iterdir()) == list(names[: 1 if together else 2])
        assert (left / names[0 if together else 1] / "2").exists()
        assert not (left / names[0 if together else 1] / "4").exists()
        experiment.run(small, tmp_path / "again")
        assert left_by(tmp_path / "again") == left_by(tmp_path / "still")

    def test_a_phase_of_preparations_alone_keeps_the_first(self, small, tmp_path):
        small.second = dict(
            flow=("target",), terms={}, steps=0, restarts=2, prepare=dict(ridge=dict())
        )
        once = experiment.run(small, tmp_path / "twice")
        small.second.restarts = 1
        assert experiment.run(small, tmp_path / "once") == once


class TestEvaluations:
    def test_each_judges_the_phase_that_it_names_with_the_heads_there_were(self, small, tmp_path):
        """Phase two reads a head of its own; the head of phase one is still asked after it."""
        heads(small, other=dict(name="linear"))
        for name, fields in {
            "after": dict(phase="first"),
            "old": dict(head="label"),
            "new": dict(head="other"),
        }.items():
            small.evaluate[name] = dict(small.evaluate.target, **fields)
        del small.evaluate.target
        result = experiment.run(small, tmp_path / "run")["evaluations"]
        first, second = (saved(tmp_path / "run", name)["params"] for name in ("first", "second"))
        images = tljax.data.load("digits", "train[1400:1440]", size=4)
        x = images.input.reshape(40, -1) / np.float32(255)

        def accuracy(trunk, head):
            z = np.maximum(x @ trunk["dense_0"]["kernel"] + trunk["dense_0"]["bias"], 0)
            predicted = (z @ head["output"]["kernel"] + head["output"]["bias"]).argmax(-1)
            return np.mean(predicted == images.label)

        assert result["after"]["accuracy"] == accuracy(first["trunk"], first["heads"]["label"])
        assert result["old"]["accuracy"] == accuracy(second["trunk"], first["heads"]["label"])
        assert result["new"]["accuracy"] == accuracy(second["trunk"], second["heads"]["other"])
        losses = {name: values["loss"] for name, values in result.items()}
        assert len(set(losses.values())) == 3
        kinds = [(r["phase"], r["kind"]) for r in read(tmp_path / "run") if r["kind"] != "train"]
        assert kinds == [("first", "after"), ("second", "new"), ("second", "old")]

    def test_statistics_of_a_stream_that_flowed_before_are_still_there(self, small, tmp_path):
        small.network.trunk.norm = "batch"
        small.statistics = "separate"
        small.second.flow = ("source", "target")
        small.phases = ("first", "second", "third")
        small.third = dict(flow=("target",), terms=small.second.terms)
        small.evaluate.target.statistics = "source"
        experiment.run(small, tmp_path / "run")
        assert (tmp_path / "run" / "result.json").exists()

    def test_a_head_that_the_phase_lacks_is_refused(self, small, tmp_path):
        heads(small, other=dict(name="linear"))
        small.evaluate.early = dict(small.evaluate.target, phase="first", head="other")
        with pytest.raises(UserError, match=r"^evaluate.early.head: unknown name 'other'.*: label"):
            experiment.run(small, tmp_path / "run")


class TestPrepared:
    @pytest.fixture
    def read_out(self, small):
        """The second phase is a ridge regression to the features of the first."""
        small.second = dict(
            flow=("target",), terms={}, steps=0, prepare=dict(ridge=dict(penalty=0.5))
        )
        return small

    def test_a_fitted_head_stands_beside_copied_parameters(self, read_out):
        before = filled(read_out, 0.25)
        started, _ = begin(read_out, 1, {"first": before})
        assert fillings(started)["trunk/dense_0/kernel"] == 0.25
        assert fillings(started)[f"{MINE}/kernel"] != 0.25  # not the head of the phase before
        # All features of an image are equal, and so are the rows of the regression.
        np.testing.assert_allclose(np.ptp(started[f"{MINE}/kernel"], axis=0), 0, atol=1e-5)

    def test_a_phase_of_preparations_alone_is_judged_and_leaves_no_checkpoint(
        self, read_out, tmp_path
    ):
        result = experiment.run(read_out, tmp_path / "run")
        assert [r["phase"] for r in read(tmp_path / "run")] == ["first"] * 2
        assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["first"]
        first = saved(tmp_path / "run", "first")["params"]
        started, _ = begin(read_out, 1, {"first": {"params": first, "batch_stats": {}}})
        images = tljax.data.load("digits", "train[1400:1440]", size=4)
        x = images.input.reshape(40, -1) / np.float32(255)
        z = np.maximum(
            x @ first["trunk"]["dense_0"]["kernel"] + first["trunk"]["dense_0"]["bias"], 0
        )
        scores = z @ started[f"{MINE}/kernel"] + started[f"{MINE}/bias"]
        right = np.mean(scores.argmax(-1) == images.label)
        assert result["evaluations"]["target"]["accuracy"] == right

    def test_the_phase_after_goes_on_from_what_was_fitted(self, read_out, tmp_path, monkeypatch):
        """A third phase, killed in its midst and resumed, is that of a run in one go."""
        read_out.phases = ("first", "second", "third")
        read_out.third = dict(
            flow=("target",), terms=dict(label=dict(term="cross_entropy", stream="target"))
        )
        read_out.checkpoint_every = 2
        experiment.run(read_out, tmp_path / "run")
        first = saved(tmp_path / "run", "first")["params"]
        second, _ = begin(read_out, 1, {"first": {"params": first, "batch_stats": {}}})
        judged = read(tmp_path / "run")[-1]
        assert judged["phase"] == "third" and judged["kind"] == "target"
        # Without learning, the third phase ends as the second stood.
        read_out.third.optimizer = dict(name="sgd", learning_rate=0.0)
        experiment.run(read_out, tmp_path / "still")
        equal(trees.flatten(saved(tmp_path / "still", "third")["params"]), second)

        with dying(monkeypatch, 4), pytest.raises(Death):  # at the end of the third
            experiment.run(read_out, tmp_path / "again")
        assert not (tmp_path / "again" / "checkpoints" / "third" / "4").exists()
        experiment.run(read_out, tmp_path / "again")
        assert left_by(tmp_path / "again") == left_by(tmp_path / "still")

    def test_a_preparation_may_feed_the_terms_of_its_own_phase(self, small):
        """DEC: the prototypes are k-means' centroids, and the term reads them."""
        small.network.heads.cluster = dict(name="prototypes", outputs=3)
        small.second = dict(
            flow=("target",),
            prepare=dict(kmeans=dict(stream="target")),
            terms=dict(embedded_clustering=1.0),
        )
        started, _ = begin(small, 1, {"first": filled(small, 0.25)})
        assert started["heads/cluster/centroids"].shape == (3, 6)
        np.testing.assert_allclose(  # as the features are, all of them equal
            np.ptp(started["heads/cluster/centroids"], axis=1), 0, atol=1e-5
        )

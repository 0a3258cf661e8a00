"""Features of a trunk that stands still are computed once, kept, and trained on."""

import shutil

import jax
import numpy as np
import pytest

import tljax
from tljax import experiment
from tljax.experiment import grid, sweep
from tljax.experiment.build import build
from tljax.experiment.cache import Cache
from tljax.experiment.check import check
from tljax.experiment.start import fresh
from tljax.experiment.workdir import recorded
from tljax.phase import evaluate
from tljax.train import loop
from tljax.train.records import Display
from tljax.train.step import evaluated


def config(**fields):
    """A head on a small frozen network of digits."""
    made = experiment.blank()
    made.network.trunk = dict(name="cnn", channels=(4,), norm="batch")
    made.streams.source = dict(data="digits", split="train[:200]", size=8, batch=32)
    made.evaluate.test = dict(data="digits", split="train[200:260]", size=8)
    made.terms.label = dict(term="cross_entropy", stream="source")
    made.train = (("heads/**", 1.0), ("**", 0.0))
    made.steps, made.figures = 12, False
    made.log_every = made.evaluate_every = made.checkpoint_every = 4
    for path, value in fields.items():
        made.update_from_flattened_dict({path.replace("__", "."): value})
    return made


def lane(made, tmp_path):
    built = build(check(made))
    state = fresh(built, "train", 0, {})
    return built, *Cache(tmp_path / "features", Display(quiet=True)).lane(built, "train", state)


def computed(made, tmp_path):
    built, found, _ = lane(made, tmp_path)
    return found.phase is not built.phases["train"]


MOVING = dict(train=(("**", 1.0),))


def test_only_heads_on_fixed_looks_are_trained_on_features(tmp_path):
    assert computed(config(), tmp_path)
    assert computed(config(streams__source__transforms=(dict(name="invert"),)), tmp_path)
    assert not computed(config(train=(("**", 1.0),)), tmp_path)
    assert not computed(config(freeze_statistics=False), tmp_path)
    assert not computed(config(network__trunk=dict(name="mlp", features=())), tmp_path)
    shifted = (dict(name="shift", pixels=1),)
    assert not computed(config(streams__source__transforms=shifted), tmp_path)


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet"])
def test_a_public_trunk_whose_statistics_stay_is_read_by_its_features(name, tmp_path):
    """In a step, too, convolutions are scaled by the statistics that stay."""
    made = config()
    made.network.trunk = dict(name=name)
    made.streams.source.update(size=32, channels=3)
    made.evaluate.test.update(size=32, channels=3)
    assert computed(made, tmp_path)


def reads_inputs(view, *, stream: str = "source"):
    return view.batch[stream]["input"].mean()


def reads_features(view, *, stream: str = "source"):
    return view.features[stream].mean() + view.anchored(stream).mean()


@pytest.mark.parametrize("term, fits", [(reads_inputs, False), (reads_features, True)])
def test_a_term_that_reads_inputs_keeps_the_trunk(tmp_path, term, fits):
    made = config()
    made.terms.own = dict(term=f"{__name__}:{term.__name__}", weight=0.1)
    assert computed(made, tmp_path) == fits


def test_the_heads_are_the_same_with_and_without(tmp_path, monkeypatch):
    on_features = experiment.run(config(), tmp_path / "a")
    assert len(list((tmp_path / "a" / "features").iterdir())) == 2
    monkeypatch.setattr("tljax.experiment.cache._stands", lambda *_: False)
    plain = experiment.run(config(), tmp_path / "b")
    assert not (tmp_path / "b" / "features").exists()
    a, b = (result["evaluations"]["test"] for result in (on_features, plain))
    assert a["accuracy"] == b["accuracy"] and a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    models = [tljax.load(tmp_path / name).variables for name in "ab"]
    leaves = [jax.tree.leaves(variables) for variables in models]
    assert jax.tree.structure(models[0]) == jax.tree.structure(models[1])
    for one, other in zip(*leaves, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_run_that_goes_on_reads_its_features(tmp_path):
    whole = experiment.run(config(), tmp_path / "whole")
    with pytest.raises(Exception, match="stopped"):
        stopped(tmp_path / "cut")
    read = (tmp_path / "cut" / "features").iterdir()
    before = {path.name: path.stat().st_mtime_ns for path in read}
    assert experiment.run(config(), tmp_path / "cut")["evaluations"] == whole["evaluations"]
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cut/features").iterdir()}
    assert before == after and len(after) == 2
    lines = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "cut")]
    assert lines[0] == lines[1]


def stopped(workdir):
    """A run that a signal has stopped after its first steps."""
    real = loop.to_next

    def after_four(step, steps, cadence):
        if step == 4:
            raise tljax.errors.Stopped("stopped", 15)
        return real(step, steps, cadence)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "to_next", after_four)
        experiment.run(config(), workdir)


def test_damaged_features_are_made_again(tmp_path):
    experiment.run(config(), tmp_path)
    paths = list((tmp_path / "features").iterdir())
    whole = {path.name: path.read_bytes() for path in paths}
    for path in paths:
        path.write_bytes(path.read_bytes()[:300])
    for name in ("result.json", "phases", "checkpoints"):
        path = tmp_path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    experiment.run(config(), tmp_path)
    assert {p.name: p.read_bytes() for p in (tmp_path / "features").iterdir()} == whole


def test_members_of_a_sweep_share_them_and_equal_their_own_runs(tmp_path):
    experiment.run(config(train=MOVING["train"]), tmp_path / "source")
    made = config(start=(("heads/**", "fresh"), ("**", f"run:{tmp_path / 'source'}")))
    points = grid.parse(["optimizer.learning_rate=0.01,0.1", "seed=0,1"])
    rows = sweep.run(made, points, tmp_path / "sweep")
    assert len(rows) == 4
    assert len(list((tmp_path / "sweep" / "features").iterdir())) == 2
    member = tmp_path / "sweep" / "members" / rows[-1]["member"]
    single = recorded(member).config
    experiment.run(single, tmp_path / "single")
    lines = [path / "metrics.jsonl" for path in (member, tmp_path / "single")]
    assert lines[0].read_bytes() == lines[1].read_bytes()


def test_large_features_stay_on_disk(tmp_path):
    resident = experiment.run(config(), tmp_path / "a")
    made = config(resident_megabytes=0.001)
    _, found, _ = lane(made, tmp_path)
    assert found.readers and not found.data
    streamed = experiment.run(made, tmp_path / "b")
    gap = resident["evaluations"]["test"]["loss"] - streamed["evaluations"]["test"]["loss"]
    assert abs(gap) < 0.5  # the order of examples is another


def test_statistics_of_each_stream_give_it_features_of_its_own(tmp_path):
    made = config(statistics="separate", evaluate__test__statistics="source")
    built, found, judged = lane(made, tmp_path)
    state = fresh(built, "train", 0, {})
    variables = evaluated(state)
    plain = evaluate.outputs(built.network, *variables.values(), built.splits["test"])
    above = evaluate.outputs(built.network, *variables.values(), judged["test"])
    np.testing.assert_allclose(above.features, plain.features, rtol=1e-6)
    np.testing.assert_allclose(above.logits, plain.logits, rtol=1e-5, atol=1e-6)


def test_what_is_prepared_reads_them_too(tmp_path):
    made = config(steps=0)
    made.prepare.probe = dict(solver="softmax", stream="source", head="label")
    first = experiment.run(made, tmp_path / "a")
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a/features").iterdir()}
    assert len(kept) == 2
    for name in ("result.json", "phases"):
        path = tmp_path / "a" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert experiment.run(made, tmp_path / "a")["evaluations"] == first["evaluations"]
    assert kept == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "a/features").iterdir()}


def test_features_alone_hold_a_directory_for_no_config(tmp_path):
    made = config()
    made.prepare.near = dict(solver="neighbours", stream="source", k=500)
    with pytest.raises(tljax.errors.UserError, match="k: got 500"):
        experiment.run(made, tmp_path)
    assert list((tmp_path / "features").iterdir())
    assert experiment.run(config(), tmp_path)["evaluations"]


def test_a_table_that_is_gone_is_never_taken_for_another(tmp_path):
    """Python gives the next table the place in memory, and the id, of one that is gone."""
    cache = Cache(tmp_path / "features", Display(quiet=True))
    placed = [
        cache._on_device(tljax.Table(input=np.full((2, 3), i, np.float32))) for i in range(20)
    ]
    assert [float(table.input[0, 0]) for table in placed] == list(range(20))
    same = [cache._on_device(tljax.Table(input=np.zeros((2, 3), np.float32))) for _ in range(2)]
    assert same[0] is same[1] is placed[0]

"""Runs on recordings: a shipped config, shrunk; used on other recordings, resumed, swept."""

import csv
import json

import numpy as np
import pytest
import soundfile
import speaking
from test_configs import Death, dying

import tljax
from tljax import experiment
from tljax.errors import UserError
from tljax.experiment import grid, sweep
from tljax.main import main


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("sounds")
    speaking.write(root / "recordings")
    for i, word in enumerate(speaking.WORDS):
        path = root / "new" / f"message {i}.flac"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, speaking.utterance(word, 1.02, i + 50, rate=8000), 8000)
    return root


def shrunk(root, **fields):
    """`configs/speaker.py` on words that are sums of tones."""
    from tljax.configs import speaker

    config = speaker.get_config()
    config.new.terms.label = dict(term="cross_entropy", stream="new", weight=1.0)
    speaking.shrink(config)
    config.update(data_dir=str(root), figures=False, **fields)
    return config


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run"
    config = shrunk(root)
    config.many.steps = 60
    config.optimizer = dict(name="adam", learning_rate=0.01)
    experiment.run(config, path)
    return path


def test_words_are_told_apart_and_predicted_of_a_folder_of_other_files(run, root, capsys):
    """The files are FLAC at twice the rate, of other lengths: rate, length and mels are the run's.

    By hand the same comes of the waves as an array and a mask."""
    reached = json.loads((run / "result.json").read_text())["evaluations"]
    assert reached["new"]["accuracy"] == 1.0
    out = run / "predictions.csv"
    command = ["tljax", "predict", f"--run={run}", f"--data=wav:{root}/new", f"--out={out}"]
    assert main(command) == 0, capsys.readouterr().err
    rows = list(csv.DictReader(out.open(newline="")))
    assert [row["predicted"] for row in rows] == list(speaking.WORDS)
    assert rows[1]["path"].endswith("message 1.flac")
    model = tljax.load(run)
    assert model.preprocessing["rate"] == 4000 and model.preprocessing["seconds"] == 0.25
    table = tljax.data.load(f"wav:{root}/new", "train", labelled=False, rate=4000, seconds=0.25)
    files = model.predict([row["path"] for row in rows])
    np.testing.assert_allclose(files, model.predict(table), rtol=1e-6)
    np.testing.assert_allclose(files[:, 0], [float(row["air"]) for row in rows], atol=1e-6)
    card = (run / "README.md").read_text()
    assert "audio-classification" in card and 'model.predict("wav:NEW")' in card


def test_a_trunk_of_waves_is_trained_written_read_again_and_used(root, tmp_path, capsys):
    """wav2vec2 without a stem: its file is where another run begins, whose convolutions stay."""
    config = experiment.blank()
    sounds = dict(data="wav:recordings", rate=4000, seconds=0.25)
    config.streams.source = dict(sounds, batch=8)
    config.evaluate.test = dict(sounds, batch=8)
    fields = dict(channels=(6, 8), kernels=(10, 8), strides=(5, 4), width=8, depth=1, heads=2)
    config.network.trunk = dict(name="wav2vec2", **fields, positions=4, groups=2)
    config.terms.label = dict(term="cross_entropy")
    config.update(data_dir=str(root), steps=2, log_every=2, evaluate_every=2, figures=False)
    experiment.run(config, tmp_path / "first")
    file, out = tmp_path / "trunk.safetensors", tmp_path / "predictions.csv"
    command = ["tljax", "export", f"--run={tmp_path / 'first'}", f"--out={file}"]
    assert main(command) == 0, capsys.readouterr().err
    config.start = (("trunk/**", f"weights:{file}"), ("**", "fresh"))
    config.train = (("trunk/conv_*/**", 0.0), ("**", 1.0))
    experiment.run(config, tmp_path / "second")
    first, second = (
        tljax.load(tmp_path / name).variables["params"]["trunk"] for name in ("first", "second")
    )
    for i in range(2):
        kernels = (each[f"conv_{i}"]["conv"]["kernel"] for each in (first, second))
        np.testing.assert_array_equal(*kernels)
    assert (first["embedding"]["kernel"] != second["embedding"]["kernel"]).any()
    command = ["tljax", "predict", f"--run={tmp_path / 'second'}", f"--data=wav:{root}/new"]
    assert main([*command, f"--out={out}"]) == 0, capsys.readouterr().err
    assert len(list(csv.DictReader(out.open(newline="")))) == len(speaking.WORDS)


def test_features_of_a_file_do_not_depend_on_what_is_beside_it(run, root):
    """Without `seconds` a longer file beside it only adds what is not there."""
    model = tljax.load(run)
    long, short = root / "long.wav", root / "new" / "message 0.flac"
    soundfile.write(long, np.tile(speaking.utterance("bee", 1, 0), 3), speaking.RATE)
    both, one = (
        model.features([str(path) for path in paths], seconds=None)
        for paths in ((short, long), (short,))
    )
    assert np.abs(one).max() > 0.1
    np.testing.assert_allclose(both[:1], one, rtol=1e-4, atol=1e-5)


def test_files_are_listed_once_and_their_headers_read_when_they_are_chosen(root, monkeypatch):
    """Of two speakers by turns: one walk for both, and no header of a file that `where` leaves."""
    from tljax.data import sound, sources

    listed, opened = [], []
    reader, header = sources.SCHEMES["wav"], sound.header
    monkeypatch.setitem(
        sources.SCHEMES, "wav", lambda request: listed.append(request) or reader(request)
    )
    monkeypatch.setattr(
        sound, "header", lambda path, field: opened.append(path) or header(path, field)
    )
    known = sources.Known()
    speakers = [path.stem.split("_")[1] for path in (root / "recordings").iterdir()]
    for speaker in sorted(set(speakers))[:2]:
        arguments = dict(rate=4000, seconds=0.25, where=dict(speaker=speaker), known=known)
        table = tljax.data.load(f"wav:{root}/recordings", "train", **arguments)
        assert len(table) == speakers.count(speaker)
    assert len(listed) == 1
    assert len(opened) == len(set(opened)) < len(speakers)


def one_phase(root, **fields):
    config = shrunk(root, **fields)
    config.phases, config.steps = (), 6
    config.terms.label = dict(term="cross_entropy", stream="new")
    config.network.trunk.norm = "none"  # whose sums XLA takes otherwise in another program
    del config.streams.many, config.evaluate.unheard, config.many, config.new
    return config


def lines(path):
    return (path / "metrics.jsonl").read_text(), (path / "result.json").read_text()


def test_a_streamed_run_dies_and_ends_the_same(root, tmp_path, monkeypatch):
    """Waves are read from their files, masks are made as they are."""
    monkeypatch.setattr("tljax.data.streams.AHEAD", 0)  # two batches, not hundreds
    config = one_phase(root, resident_megabytes=0.0)
    experiment.run(config, tmp_path / "run")
    with dying(monkeypatch, 2), pytest.raises(Death):
        experiment.run(config, tmp_path / "again")
    assert not (tmp_path / "again" / "result.json").exists()
    experiment.run(config, tmp_path / "again")
    assert lines(tmp_path / "again") == lines(tmp_path / "run")


def test_a_member_of_a_sweep_is_the_run_that_it_would_be_alone(root, tmp_path):
    """Mels are made by a transform, of which bands and times are hidden."""
    config = one_phase(root)
    mels = config.network.stems.mel.to_dict()
    looks = (dict(name="time_shift"), mels, dict(name="spec_augment", bands=4, frames=4))
    config.streams.new.update(stem="", transforms=looks)
    config.evaluate.new.update(stem="", transforms=(mels,))
    rows = sweep.run(config, grid.parse(["optimizer.learning_rate=0.05,0.2"]), tmp_path / "sweep")
    assert [row["status"] for row in rows] == ["finished", "finished"]
    config.optimizer.learning_rate = 0.2
    experiment.run(config, tmp_path / "alone")
    [row] = [row for row in rows if row["optimizer.learning_rate"] == 0.2]
    assert lines(tmp_path / "alone") == lines(tmp_path / "sweep" / "members" / row["member"])


class TestRates:
    def test_the_front_end_says_it_where_nothing_else_does(self, root):
        """As a stem and as a transform; without one, files of two rates are refused."""
        config = one_phase(root)
        stem = config.network.stems.mel.to_dict()
        evaluation = config.evaluate.new
        evaluation.update(data="wav:new", labelled=False, rate=None, skip=0, per_class=None)
        del evaluation.where
        looks = (dict(name="gain"), dict(stem, normalise="none"))
        for stem, transforms in (("mel", ()), ("", looks)):
            evaluation.update(stem=stem, transforms=transforms)
            built = experiment.build(experiment.check(config))
            assert built.splits["new"].table.input.shape == (5, 1000)
        evaluation.transforms = ()
        built = experiment.build(experiment.check(config))
        assert built.splits["new"].table.input.shape == (5, 2000)

    @pytest.mark.parametrize("where", ["network.stems.mel", r"evaluate.new.transforms\[0\]"])
    def test_another_is_refused(self, root, where):
        config = one_phase(root)
        config.evaluate.new.rate = 8000
        if "transforms" in where:
            looks = (config.network.stems.mel.to_dict(),)
            config.evaluate.new.update(stem="", transforms=looks)
        with pytest.raises(UserError, match=f"new.rate: got 8000; expected 4000, as {where}"):
            experiment.build(experiment.check(config))

    def test_a_speaker_who_is_not_there(self, root):
        config = one_phase(root)
        config.streams.new.where = dict(speaker="teo")
        with pytest.raises(UserError, match="streams.new.where.speaker: .*mean 'theo'"):
            experiment.build(experiment.check(config))

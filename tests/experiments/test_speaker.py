"""`experiments/speaker`, shrunk: tones for words, whose pitch is the voice's."""

import numpy as np
import pytest

from experiments.speaker import real, voices
from experiments.speaker import run as speaker

RATE = 2000
KNOWN, NEW = ("a", "b", "c"), ("d", "e")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Two words, one of them rising, by five voices of another pitch, in takes 0, 1 and 5."""
    soundfile = pytest.importorskip("soundfile")
    cache, time = tmp_path_factory.mktemp("cache"), np.arange(300) / RATE
    for kind in voices.KINDS:
        (cache / "voices" / kind).mkdir(parents=True)
        for (i, voice), take in ((v, t) for v in enumerate(KNOWN + NEW) for t in (0, 1, 5)):
            for word, rise in (("flat", 0.0), ("up", 900.0)):
                pitch = 200 + 30 * i + 5 * take
                tone = 0.5 * np.sin(2 * np.pi * (pitch + rise * time) * time)
                path = cache / "voices" / kind / f"{word}_{voice}_{take}.wav"
                soundfile.write(path, tone, RATE)
    return cache


@pytest.fixture
def shrunk(recordings, monkeypatch):
    monkeypatch.setenv("TLJAX_CACHE", str(recordings))
    of_time = dict(RATE=RATE, SECONDS=0.15, STEPS=2)
    of_takes = dict(TAKES=("0", "1", "5"), TOLD=(1,), TESTED=("5",))
    of_voices = dict(KNOWN=KNOWN, CHECKED=KNOWN[2:], NEW=NEW)
    tract = {"vocal tract": speaker.Condition("tract", 2)}
    fields = {**of_time, **of_takes, **of_voices, "CONDITIONS": tract}
    for name, value in fields.items():
        monkeypatch.setattr(speaker, name, value)

    def shrink(config):
        mel = dict(window=100, hop=50, n_fft=128, mels=8)
        config.network.stems.mel.update(mel)
        config.network.trunk.update(channels=(4,) * 4)
        config.network.heads.label.hidden = (6,)
        config.streams.target.batch = 2
        config.steps = min(config.steps, 2)
        config.log_every = config.evaluate_every = config.checkpoint_every = max(1, config.steps)

    return shrink


def test_every_way_runs_and_only_its_own_moves(shrunk, tmp_path, monkeypatch):
    names = ("untouched", "input layer", "LHUC")
    monkeypatch.setattr(speaker, "METHODS", {name: speaker.METHODS[name] for name in names})
    tuned = [dict(method=name, told=1, knob=0.1, test=0.5, seed=0) for name in names]
    monkeypatch.setattr(speaker.Experiment, "read", lambda _: speaker.Results(tuned))
    lines = speaker.EXPERIMENT._replace(rows=speaker.rows).collect(tmp_path, range(2), shrunk)
    ended = lines.where(condition="vocal tract")
    assert ended.of("method") == list(names) and len(ended) == 2 * len(names)
    assert all(0 <= line["test"] <= 1 for line in lines)
    assert len(lines.where(known=2)) == 2  # two models
    tables = speaker.tables(ended)
    assert "| input layer |" in tables["told_1"] and "– |" in tables["duels"]


def test_real_voices_are_told_by_those_of_others(shrunk, recordings, tmp_path, monkeypatch):
    """The tones stand for actors: a rising one is warped onto the rising ones of other pitches."""
    (recordings / "phrases").mkdir()
    for path in (recordings / "voices" / "plain").glob("*_0.wav"):
        (recordings / "phrases" / path.name).write_bytes(path.read_bytes())
    for name, value in dict(PACKS=KNOWN, RATE=RATE, SECONDS=0.15, STEPS=2).items():
        monkeypatch.setattr(real, name, value)
    real.clips.cache_clear()
    small = dict(name="log_mel", rate=RATE, window=100, hop=50, n_fft=128, mels=20)
    monkeypatch.setattr(real.tasks, "mels", lambda c, _, **f: c.network.stems.update(mel=small))
    lines = speaker.REAL._replace(rows=lambda: real.rows(of_mels)).collect(
        tmp_path, range(3), shrunk
    )
    real.clips.cache_clear()
    assert len(lines) == 9 and all(0 <= line["test"] <= 1 for line in lines)
    warped = lines.where(method="dynamic time warping, nearest clip")
    assert warped.values("test") == [1.0] * 3
    real.known(heard := of_mels(False), KNOWN[0])
    assert heard.streams.target.where.speaker == KNOWN[1:]
    assert heard.evaluate.test.where.speaker == KNOWN[:1]


def of_mels(normalised):
    config = speaker.blank()
    config.data_dir = speaker.tasks.cache()
    config.network.stems.mel = dict(name="log_mel", rate=RATE)
    config.network.trunk = dict(name="cnn1d", channels=(4,))
    config.network.heads.label = dict(name="mlp", hidden=(6,))
    config.terms.label = dict(term="cross_entropy", stream="target")
    return config


def test_a_clip_warps_onto_itself_at_no_cost():
    """By hand: 0 1 onto 0 0 1 is free, onto 1 1 the first frame costs 1, over four frames."""
    clip, slower, other = (np.array([x], float).T for x in ([0, 1], [0, 0, 1], [1, 1]))
    np.testing.assert_allclose(real.warped(clip, [clip, slower, other]), [0, 0, 1 / 4])


def test_the_voices_that_are_checked_are_heard_by_no_recogniser(shrunk):
    rows = speaker.candidates()
    heard = rows["known-2"].config().streams.target.where.speaker
    assert heard and not set(heard) & set(speaker.CHECKED)
    shown = rows["all move-1-0.01"].config().evaluate.test.where.speaker
    assert set(shown) <= set(speaker.CHECKED)


def test_the_best_value_by_hand(shrunk, monkeypatch):
    tuned = speaker.Results(
        dict(method="all move", told=1, knob=knob, seed=seed, test=test)
        for knob, seed, test in ((0.003, 0, 0.5), (0.003, 1, 0.9), (0.01, 0, 0.8), (0.01, 1, 0.8))
    )  # means .7 and .8
    monkeypatch.setattr(speaker.Experiment, "read", lambda _: tuned)
    monkeypatch.setattr(speaker, "METHODS", {"all move": speaker.METHODS["all move"]})
    rows = speaker.rows()
    assert rows["all move-vocal tract-1"].columns["knob"] == 0.01


def test_a_clip_is_found_again_whatever_its_loudness_and_delay():
    clip, other = np.random.default_rng(0).normal(size=(2, 500))
    later = np.concatenate([np.zeros(100), 0.3 * clip])
    assert voices.same(clip, later) and not voices.same(clip, other)

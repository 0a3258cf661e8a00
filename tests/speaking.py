"""Recordings for the tests: a word is a tone and then another, a speaker moves all of them."""

import numpy as np

WORDS = {"air": (300, 800), "bee": (800, 300), "car": (300, 1500), "dew": (1500, 300)}  # hertz
WORDS["eye"] = (800, 1500)
SPEAKERS = {"anna": 1.05, "bert": 0.95, "theo": 1.12}
RATE = 4000


def utterance(word, factor, take, rate=RATE):
    """0.15 to 0.2 s of two tones and some noise."""
    rng = np.random.default_rng(take)
    time = np.arange(int(rate * (0.15 + 0.05 * rng.random()))) / rate
    hertz = np.where(time < time[-1] / 2, *WORDS[word])
    tone = np.sin(2 * np.pi * (hertz * factor * time + rng.random()))
    return (0.3 * tone + 0.01 * rng.standard_normal(len(time))).astype(np.float32)


def write(folder, takes=8):
    """Every word by every speaker as `WORD_SPEAKER_TAKE.wav`."""
    import soundfile

    folder.mkdir(parents=True)
    for word in WORDS:
        for speaker, factor in SPEAKERS.items():
            for take in range(takes):
                path = folder / f"{word}_{speaker}_{take}.wav"
                soundfile.write(path, utterance(word, factor, take), RATE)


def shrink(config):
    """`configs/speaker.py`, small: 6 steps of 10 recordings in each phase."""
    for fields in (*config.streams.values(), *config.evaluate.values()):
        fields.update(rate=RATE, seconds=0.25, batch=10)
        if fields.get("skip"):
            fields.per_class = 8
    config.network.stems.mel.update(rate=RATE, window=100, hop=40, n_fft=128, mels=16)
    config.network.trunk.update(channels=(8, 8), strides=(1, 2))
    config.many.steps = config.new.steps = 6
    config.update(log_every=2, evaluate_every=3, checkpoint_every=3)

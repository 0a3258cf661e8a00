"""A recogniser of words for one speaker: trained on many, then moved with two utterances a word.

    tljax --config speaker --workdir runs/speaker
    tljax predict --run runs/speaker --data wav:new --out predictions.csv

Recordings lie in recordings/, as LABEL_SPEAKER_TAKE.wav or SPEAKER/LABEL/TAKE.wav, at least ten
takes of each word by the speaker `theo`: the Free Spoken Digit Dataset is so (its directory
recordings/, 8 kHz). --config.FIELD=VALUE takes other places, rates and speakers. The last eight of
ten takes judge. Here the first two blocks move, which hold what differs between speakers; which
layers to move when is `experiments/speaker`.
About 3 minutes on two cores. Expected: `new`, after the phase of that name, well above `unheard`,
the same takes before it. On voices/plain of `python -m experiments.speaker.voices`, 55 synthetic
voices and a new one, with batch 40: 0.61 before and 0.86 after (zac-en-gb-scotland), 0.83 and 0.92
(steph3-en-029).
"""

from tljax.configs import tasks
from tljax.experiment import blank

SPEAKER = "theo"


def get_config():
    config = blank()
    config.method = "speaker adaptation"
    config.family = "fine-tuning"
    sounds = dict(data="wav:recordings", rate=8000, seconds=1.0, stem="mel")
    own = dict(sounds, where=dict(speaker=(SPEAKER,)))
    looks = ("time_shift", "speed", "white_noise")
    heard = dict(transforms=tuple(dict(name=name) for name in looks))
    others = dict(where=dict(speaker=("not", SPEAKER)))
    config.streams.many = dict(sounds, batch=64, **others, **heard)
    config.streams.new = dict(own, per_class=2, batch=20, **heard)
    config.evaluate.unheard = dict(own, per_class=10, skip=2, phase="many")
    config.evaluate.new = dict(own, per_class=10, skip=2)
    config.network.stems.mel = dict(
        name="log_mel", rate=8000, window=200, hop=80, n_fft=256, mels=40, normalise="mean"
    )
    config.network.trunk = dict(name="cnn1d", channels=(64, 64, 64, 64), strides=(1, 2, 2, 1))
    config.phases = ("many", "new")
    config.many = dict(flow=("many",), steps=1500)
    config.many.terms = dict(label=dict(term="cross_entropy", stream="many"))
    config.new = dict(flow=("new",), steps=150)
    config.new.terms = dict(label=dict(term="cross_entropy", stream="new"))
    config.new.train = (("trunk/block_[01]/**", 1.0), ("**", 0.0))
    config.optimizer = {**tasks.sgd(0.02), "clip": 1.0}
    config.update(log_every=50, evaluate_every=150, checkpoint_every=150)
    return config

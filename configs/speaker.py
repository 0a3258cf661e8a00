"""A recogniser of words for one speaker: trained on many, then moved with two utterances a word.

    tljax --config speaker --workdir runs/speaker
    tljax predict --run runs/speaker --data wav:new --out predictions.csv

recordings/ holds LABEL_SPEAKER_TAKE.wav or SPEAKER/LABEL/TAKE.wav, ten takes of each word by the
speaker `theo`, of which eight judge: the Free Spoken Digit Dataset is so. Here the first two blocks
move; which layers to move when is `experiments/speaker`.
Expected: `new`, after the phase of that name, well above `unheard`,
the same takes before it. On voices/plain of `python -m experiments.speaker.voices`, 55 synthetic
voices and a new one, with batch 40: 0.61 before and 0.86 after (zac-en-gb-scotland), 0.83 and 0.92
(steph3-en-029).
"""

from tljax.configs import tasks
from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "speaker adaptation"
    config.family = "fine-tuning"
    sounds = dict(data="wav:recordings", rate=8000, seconds=1.0, stem="mel")
    own = dict(sounds, where=dict(speaker=("theo",)))
    heard = [dict(name=name) for name in ("time_shift", "speed", "white_noise")]
    others = dict(speaker=("not", "theo"))
    config.streams.many = dict(sounds, where=others, batch=64, transforms=heard)
    config.streams.new = dict(own, per_class=2, batch=20, transforms=heard)
    for name, phase in (("unheard", "many"), ("new", "")):
        config.evaluate[name] = dict(own, per_class=10, skip=2, phase=phase)
    tasks.mels(config, 8000, normalise="mean")
    config.phases = ("many", "new")
    for name, steps in (("many", 1500), ("new", 150)):
        label = dict(term="cross_entropy", stream=name)
        config[name] = dict(flow=(name,), steps=steps, terms=dict(label=label))
    config.new.train = (("trunk/block_[01]/**", 1.0), ("**", 0.0))
    config.optimizer = {**tasks.sgd(0.02), "clip": 1.0}
    config.update(log_every=50, evaluate_every=150, checkpoint_every=150)
    return config

"""DANN (Ganin et al. 2016): labelled digits to unlabelled digits pasted over photographs.

    tljax --config dann --workdir runs/dann

About a minute on two cores, figures and compilation included.
Expected: target accuracy 0.90 to 0.97; RESULTS.md has the interval.
"""

from tljax.configs import tasks
from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "DANN"
    config.family = "domain-adversarial"
    # 267 epochs of the source, judged by the mean over about 500 steps, as the game oscillates.
    tasks.digits_shift(config, steps=2500, average=0.998)
    # The discriminator hangs on the flattened convolution output, as the paper's does for digits.
    # SGD and the paper's schedule; Adam loses the game.
    # No smoothing, no spectral norm: at this λ no seed of ten is lost without them; take both at
    # three times as much (experiments/stability).
    tasks.adversarial(config)
    return config

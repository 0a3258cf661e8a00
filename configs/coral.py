"""Deep CORAL (Sun & Saenko 2016): the covariances of the features are brought together.

    tljax --config coral --workdir runs/coral

The task of dann.py, in under a minute on two cores.
Expected: target accuracy 0.80 to 0.88; RESULTS.md has the interval.
"""

from tljax.configs import tasks
from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "Deep CORAL"
    config.family = "domain-adversarial"
    tasks.digits_shift(config)
    # The loss is divided by 4·D², so its weight is large. The validator of
    # experiments/adaptation would rather have none of it.
    config.terms.covariance = dict(term="coral", weight=300.0, ramp=10.0)
    return config

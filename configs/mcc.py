"""MCC (Jin et al. 2020): predictions on the target are not to confuse classes.

    tljax --config mcc --workdir runs/mcc

The task of dann.py, in under a minute on two cores.
Expected: target accuracy 0.60 to 0.90, no better than source only; RESULTS.md has the interval.
"""

from tljax.configs import tasks
from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "MCC"
    config.family = "domain-adversarial"
    tasks.digits_shift(config)
    # Ramped up as DANN's λ is. The weight was chosen in experiments/adaptation without target
    # labels; T = 2.5 is the paper's.
    config.terms.confusion = dict(
        term="class_confusion", weight=10.0, ramp=10.0, stream="target", temperature=2.5
    )
    return config

"""Self-taught learning by SimCLR (Chen et al. 2020): unlabelled digits, then one label a class.

    tljax --config self_taught_simclr --workdir runs/self_taught_simclr

A trunk learns, from 1,000 digits without labels, that two augmented views of an image are one
thing. It is then frozen, and a softmax regression on its features sees ten labelled digits. About
30 s on two cores.
Expected: accuracy 0.66 to 0.85 with one label a class, against about 0.67 of a logistic regression
on pixels; RESULTS.md has the intervals.
"""

from tljax.configs import tasks
from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "self-taught: SimCLR"
    config.family = "self-taught learning"
    tasks.self_taught(config, penalty=1.0)
    tasks.simclr(config, "source", temperature=1.0, steps=500)
    return config

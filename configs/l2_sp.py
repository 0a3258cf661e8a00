"""L2-SP (Li et al. 2018): fine-tuning that pays for every step away from where it started.

    tljax --config l2_sp --workdir runs/l2_sp

The task of finetune.py, about 15 s on two cores.
Expected: target accuracy 0.75 to 0.90 with source accuracy afterwards still above 0.75; RESULTS.md
has the intervals.
"""

from tljax.configs import tasks
from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "L2-SP"
    config.family = "fine-tuning"
    tasks.inverted_digits(config, learning_rate=0.1)
    # All layers were trained on the source, so all of them are held.
    config.target.terms.near = dict(term="l2_sp", weight=0.01, only=("**",))
    return config

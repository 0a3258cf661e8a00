"""The floor of the digits shift: trained on labelled source digits alone, judged on the target.

    tljax --config source_only --workdir runs/source_only

About 15 s on two cores.
Expected: target accuracy 0.70 to 0.83; RESULTS.md has the interval.
"""

from tljax.configs import tasks
from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "source only"
    config.family = "baseline"
    # The source, test digits, network and budget of dann.py.
    tasks.digits_shift(config, steps=2500, average=0.998)
    del config.streams.target
    config.optimizer.learning_rate = 0.05
    return config

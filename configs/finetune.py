"""Fine-tuning: digits, then digits in inverted ink with five labels a class.

    tljax --config finetune --workdir runs/finetune

About 15 s on two cores. The rate is tuned for the target alone; 0.002 loses 0.03 of the target and
keeps most of the source.
Expected: target accuracy 0.80 to 0.92, source accuracy afterwards 0.2 to 0.7; RESULTS.md has the
intervals, of this and of what keeps the source.
"""

from tljax.configs import tasks
from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "fine-tuning"
    config.family = "fine-tuning"
    tasks.inverted_digits(config, learning_rate=0.02)
    return config

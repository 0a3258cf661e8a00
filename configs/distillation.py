"""Learning without forgetting (Li & Hoiem 2016): outputs stay near those before fine-tuning.

    tljax --config distillation --workdir runs/distillation

The task of finetune.py: a new head learns the inverted digits, while the old head's answers on the
same images are held to what they were. About 15 s on two cores.
Expected: target accuracy 0.80 to 0.92; source accuracy, of the old head, above 0.93. RESULTS.md has
the intervals.
"""

from tljax.configs import tasks
from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "distillation (LwF)"
    config.family = "fine-tuning"
    tasks.inverted_digits(config, learning_rate=0.05)
    config.network.heads.target = dict(name="mlp", hidden=(256,))
    config.evaluate.target.head = config.target.terms.label.head = "target"
    config.target.terms.old = dict(
        term="distillation", weight=1.0, stream="target", head="label", temperature=3.0
    )
    return config

"""Layer transfer: copy layers from the source, and train only some of them on the target.

    tljax --config layer_transfer --workdir runs/layer_transfer

The task of finetune.py. Which layers is two lists of patterns; other choices are
`experiments/which_layers`. Here all layers are copied and the first convolution alone moves: what
suits inputs that look different and mean the same. About 15 s on two cores.
Expected: target accuracy 0.90 to 0.98, source accuracy afterwards near zero; RESULTS.md has the
intervals.
"""

from tljax.configs import tasks
from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "layer transfer"
    config.family = "fine-tuning"
    tasks.inverted_digits(config, learning_rate=1.0)
    # Copied: everything. Head only would be train = (("heads/**", 1.0), ("**", 0.0)); the first
    # n layers copied, the rest new: start = (("trunk/**", "source"), ("**", "fresh")).
    config.target.start = (("**", "source"),)
    config.target.train = (("trunk/conv_0/**", 1.0), ("**", 0.0))
    return config

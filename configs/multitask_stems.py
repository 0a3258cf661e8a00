"""Multitask with inputs that differ: tinted colour digits and grey ones, a stem for each.

    tljax --config multitask_stems --workdir runs/multitask_stems

Few labels of three-channel tinted digits, 800 of one-channel digits. Each kind passes a 1×1
convolution of its own into the shared trunk and head. About 10 s on two cores.
Expected: accuracy on tinted digits 0.65 to 0.95, against 0.55 to 0.85 without the grey ones (drop
terms.grey, flow=("target",)); RESULTS.md has the intervals.
"""

from tljax.configs import tasks
from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "multitask: a stem for each input"
    config.family = "multitask"
    tint = (dict(name="colour", strength=0.8),)  # a gain for each channel and image
    tinted = dict(data="digits", size=16, channels=3, transforms=tint, stem="tinted")
    grey = dict(data="digits", size=16, channels=1, stem="grey")
    tasks.few_and_many(config, tinted, grey)
    config.evaluate.source = dict(grey, split="train[1400:]")
    # A 1×1 convolution to as many channels from either kind of input.
    config.network.stems.tinted = dict(name="adapter", features=4)
    config.network.stems.grey = dict(name="adapter", features=4)
    config.terms.grey = dict(term="cross_entropy", weight=1.0, stream="source")
    config.optimizer = tasks.sgd(0.01)
    return config

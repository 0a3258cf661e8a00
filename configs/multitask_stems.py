"""Multitask with inputs that differ: tinted colour digits and grey ones, a stem for each.

Few labels of three-channel tinted digits, 800 of one-channel digits. Each kind passes a 1×1
convolution of its own into the shared trunk and head.

Expected: accuracy on tinted digits 0.65 to 0.95, against 0.55 to 0.85 without the grey ones (drop
terms.grey, flow=("target",)), in about 10 s on two cores; RESULTS.md has the intervals.
"""

from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "multitask: a stem for each input"
    config.family = "multitask"

    tint = (dict(name="colour", strength=0.8),)  # a gain for each channel and image
    tinted = dict(data="digits", size=16, channels=3, transforms=tint, stem="tinted")
    grey = dict(data="digits", size=16, channels=1, stem="grey")
    config.streams.target = dict(tinted, split="train[800:1200]", per_class=2, batch=20)
    config.streams.source = dict(grey, split="train[:800]", batch=64)
    config.evaluate.target = dict(tinted, split="train[1400:]")
    config.evaluate.source = dict(grey, split="train[1400:]")

    # A 1×1 convolution to as many channels from either kind of input.
    config.network.stems.tinted = dict(name="adapter", features=4)
    config.network.stems.grey = dict(name="adapter", features=4)
    config.network.trunk = dict(name="mlp", features=(128, 64))
    config.network.heads.label = dict(name="linear")

    config.terms.label = dict(term="cross_entropy", weight=1.0, stream="target")
    config.terms.grey = dict(term="cross_entropy", weight=1.0, stream="source")

    config.steps = 1000
    config.optimizer = dict(
        name="sgd", learning_rate=0.01, momentum=0.9, schedule=dict(name="cosine")
    )
    return config

"""Multitask: few-label digits, helped by the seven segments of 800 other digits.

The main task has two labels a class. The second task does not say which digit an image is, but
which of the seven segments of a digital display its digit would light.

Expected: accuracy 0.78 to 0.93, against 0.63 to 0.84 of the main task alone (drop terms.segments,
flow=("target",)), in about 10 s on two cores; RESULTS.md has the intervals and the controls.
"""

from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "multitask: digits and segments"
    config.family = "multitask"

    digits = dict(data="digits", size=16)
    config.streams.target = dict(digits, split="train[800:1200]", per_class=2, batch=20)
    config.streams.source = dict(digits, split="train[:800]", batch=64)
    config.tables.segments = dict(data="segments")  # permute=0 gives every digit another's bits
    config.evaluate.target = dict(digits, split="train[1400:]")
    config.evaluate.segments = dict(
        digits, split="train[1400:]", head="segments", readout="attributes", table="segments"
    )

    # Tasks share all but their last layer: 20 labels alone would not train a layer of their own.
    config.network.trunk = dict(name="mlp", features=(128, 64))
    config.network.heads.label = dict(name="linear")
    config.network.heads.segments = dict(name="linear", outputs=7)

    config.terms.label = dict(term="cross_entropy", weight=1.0, stream="target")
    config.terms.segments = dict(
        term="attributes", weight=1.0, stream="source", head="segments", table="segments"
    )
    # "sum" adds the weighted losses; also "uncertainty", "dwa", "pcgrad", "mgda", "cagrad",
    # "gradnorm", "famo", over the parameters that `shared` matches.
    config.balance = dict(name="sum")

    config.steps = 1000
    config.optimizer = dict(
        name="sgd", learning_rate=0.1, momentum=0.9, schedule=dict(name="cosine")
    )
    return config

"""Multitask: few-label digits, helped by the seven segments of 800 other digits.

    tljax --config multitask_digits --workdir runs/multitask_digits

The main task has two labels a class. The second task does not say which digit an image is, but
which of the seven segments of a digital display its digit would light. About 10 s on two cores.
Expected: accuracy 0.78 to 0.93, against 0.63 to 0.84 of the main task alone (drop terms.segments,
flow=("target",)); RESULTS.md has the intervals and the controls.
"""

from tljax.configs import tasks
from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "multitask: digits and segments"
    config.family = "multitask"
    digits = dict(data="digits", size=16)
    tasks.few_and_many(config, digits, digits)
    config.tables.segments = dict(data="segments")  # permute=0 gives every digit another's bits
    config.evaluate.segments = dict(
        digits, split="train[1400:]", head="segments", readout="attributes", table="segments"
    )
    config.network.heads.segments = dict(name="linear", outputs=7)
    config.terms.segments = dict(
        term="attributes", weight=1.0, stream="source", head="segments", table="segments"
    )
    # "sum" adds the weighted losses; also "uncertainty", "dwa", "pcgrad", "mgda", "cagrad",
    # "gradnorm", "famo", over the parameters that `shared` matches.
    config.balance = dict(name="sum")
    config.optimizer = tasks.sgd(0.1)
    return config

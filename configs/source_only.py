"""The floor of the digits shift: trained on labelled source digits alone, judged on the target.

Expected: target accuracy 0.70 to 0.83 after about 15 s on two cores; RESULTS.md has the interval.
"""

from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "source only"
    config.family = "baseline"

    # The source, test digits, network and budget of dann.py.
    digits = dict(data="digits", size=16, channels=3)
    photographs = (dict(name="photographs", strength=0.7),)
    config.streams.source = dict(digits, split="train[:600]", batch=64)
    config.evaluate.target = dict(digits, split="train[1400:]", transforms=photographs)
    config.evaluate.source = dict(digits, split="train[1400:]")

    config.network.trunk = dict(name="cnn", channels=(16, 32))
    config.network.heads.label = dict(name="mlp", hidden=(128,))
    config.terms.label = dict(term="cross_entropy", weight=1.0, stream="source", smoothing=0.0)

    config.steps = 2500
    inverse = dict(name="inverse", gamma=10.0, power=0.75)
    config.optimizer = dict(name="sgd", learning_rate=0.05, momentum=0.9, schedule=inverse)
    config.average = 0.998
    return config

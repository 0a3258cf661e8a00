"""DANN (Ganin et al. 2016): labelled digits to unlabelled digits pasted over photographs.

Expected: target accuracy 0.90 to 0.97 after about 25 s on two cores; RESULTS.md has the interval.
"""

from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "DANN"
    config.family = "domain-adversarial"

    # 600 labelled digits, and 600 others without labels over fresh crops of photographs.
    digits = dict(data="digits", size=16, channels=3, batch=64)
    photographs = (dict(name="photographs", strength=0.7),)
    config.streams.source = dict(digits, split="train[:600]")
    config.streams.target = dict(
        digits, split="train[600:1200]", labelled=False, transforms=photographs
    )
    # Digits that no stream holds, over the halves of the photographs that training never shows.
    held_out = dict(data="digits", size=16, channels=3)
    config.evaluate.target = dict(held_out, split="train[1400:]", transforms=photographs)
    config.evaluate.source = dict(held_out, split="train[1400:]")

    # The discriminator hangs on the flattened convolution output, as the paper's does for digits.
    config.network.trunk = dict(name="cnn", channels=(16, 32))
    config.network.heads.label = dict(name="mlp", hidden=(128,))
    config.network.heads.domain = dict(name="mlp", hidden=(128,), outputs=1)

    config.terms.label = dict(term="cross_entropy", weight=1.0, stream="source", smoothing=0.0)
    # The gradient that reaches the trunk is reversed by scale · ramp(progress, gamma): the paper's
    # λ and γ = 10.
    config.terms.domain = dict(term="domain_adversarial", weight=1.0, scale=1.0, gamma=10.0)

    config.steps = 2500  # 267 epochs of the source
    # SGD and the paper's schedule; Adam loses the game. The rate is tuned in experiments/.
    inverse = dict(name="inverse", gamma=10.0, power=0.75)
    config.optimizer = dict(name="sgd", learning_rate=0.02, momentum=0.9, schedule=inverse)
    config.average = 0.998  # judged by its mean over about 500 steps, as the game oscillates
    return config

"""DANN on digits: labelled scans to unlabelled scans pasted over photographs."""

from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "DANN"
    config.family = "domain-adversarial"

    # 700 labelled digits, and 700 others without labels over fresh crops of photographs.
    digits = dict(data="digits", size=16, channels=3, batch=64)
    photographs = (dict(name="photographs", strength=0.7),)
    config.streams.source = dict(digits, split="train[:700]")
    config.streams.target = dict(
        digits, split="train[700:1400]", labelled=False, transforms=photographs
    )
    # 397 digits that no stream holds, over parts of the photographs that training never shows.
    test = dict(digits, split="train[1400:]", batch=397)
    config.evaluate.target = dict(test, transforms=photographs)
    config.evaluate.source = dict(test)

    config.network.trunk = dict(name="cnn", channels=(16, 32))
    config.network.heads.label = dict(name="mlp", hidden=(128,))
    config.network.heads.domain = dict(name="mlp", hidden=(128,), outputs=1)

    config.terms.label = dict(term="cross_entropy", weight=1.0, stream="source")
    # The trunk's gradient is reversed by λ = scale · ramp(progress, gamma).
    config.terms.domain = dict(term="domain_adversarial", weight=1.0, scale=1.0, gamma=10.0)

    config.steps = 2500
    config.optimizer = dict(
        name="sgd",
        momentum=0.9,
        learning_rate=0.03,
        schedule=dict(name="inverse", gamma=10.0, power=0.75),
    )
    config.average = 0.998  # evaluates the mean of the last few hundred steps
    return config

"""DANN on Fashion-MNIST: labelled garments to unlabelled garments under noise.

Needs the IDX files in /usr/share/datasets/fashion-mnist: `apt install dataset-fashion-mnist` on
Debian and Ubuntu; or any directory of the MNIST family by
`--config.data_dir=DIR --config.streams.source.data=idx:.` and the like for the others.

Expected: seed 0 ended at a target accuracy of 0.83, and at 0.51 without adaptation
(`--config.terms.domain.weight=0`); 2 to 5 minutes on two cores. One seed each: no claim.
"""

from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "DANN, Fashion-MNIST"
    config.family = "domain-adversarial"

    # The two domains share no garment: each has its own half of the training images.
    garments = dict(data="idx:/usr/share/datasets/fashion-mnist")
    noise = (dict(name="noise", std=0.3),)
    config.streams.source = dict(garments, split="train[:25000]", batch=64)
    config.streams.target = dict(
        garments, split="train[25000:50000]", labelled=False, batch=64, transforms=noise
    )
    config.evaluate.target = dict(garments, split="test", batch=500, transforms=noise)
    config.evaluate.source = dict(garments, split="test", batch=500)

    config.network.trunk = dict(name="cnn", channels=(16, 32))
    config.network.heads.label = dict(name="mlp", hidden=(128,))
    config.network.heads.domain = dict(name="mlp", hidden=(128,), outputs=1)

    config.terms.label = dict(term="cross_entropy", weight=1.0, stream="source", smoothing=0.0)
    config.terms.domain = dict(term="domain_adversarial", weight=1.0, scale=1.0, gamma=10.0)

    config.steps = 5000  # 13 epochs
    inverse = dict(name="inverse", gamma=10.0, power=0.75)  # Ganin & Lempitsky 2015, section 4
    config.optimizer = dict(name="sgd", learning_rate=0.02, momentum=0.9, schedule=inverse)
    config.average = 0.998
    config.evaluate_every = 1000
    config.checkpoint_every = 500
    return config

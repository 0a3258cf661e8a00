"""DANN from SVHN to MNIST through TFDS, the pair of Ganin et al. 2016, section 5.

Needs both prepared in TFDS's data directory (or `--config.data_dir=DIR`) as array_record files:
`pip install 'tljax[tf]'`, then `tfds build svhn_cropped mnist --file_format array_record`. Reading
them needs no TensorFlow. The paper reports 0.739 on MNIST, and 0.549 of the source alone.

Meant for an accelerator. It has been run here on small prepared data only, not at full length.
"""

from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "DANN, SVHN to MNIST"
    config.family = "domain-adversarial"

    # MNIST is brought to SVHN's 32 × 32 pixels and three channels.
    common = dict(size=32, channels=3)
    config.streams.source = dict(common, data="tfds:svhn_cropped", split="train", batch=128)
    config.streams.target = dict(
        common, data="tfds:mnist", split="train", labelled=False, batch=128
    )
    config.evaluate.target = dict(common, data="tfds:mnist", split="test", batch=500)
    config.evaluate.source = dict(common, data="tfds:svhn_cropped", split="test", batch=500)

    # About the paper's SVHN network (fig. 4): three convolutions, then dense layers in the heads.
    config.network.trunk = dict(name="cnn", channels=(64, 64, 128), norm="batch")
    config.network.heads.label = dict(name="mlp", hidden=(1024,))
    config.network.heads.domain = dict(name="mlp", hidden=(1024, 1024), outputs=1)
    config.statistics = "joint"  # of source and target in one batch, as in the authors' code

    config.terms.label = dict(term="cross_entropy", weight=1.0, stream="source", smoothing=0.0)
    config.terms.domain = dict(term="domain_adversarial", weight=1.0, scale=1.0, gamma=10.0)

    config.steps = 60_000
    inverse = dict(name="inverse", gamma=10.0, power=0.75)  # Ganin & Lempitsky 2015, section 4
    config.optimizer = dict(name="sgd", learning_rate=0.01, momentum=0.9, schedule=inverse)
    config.average = 0.999
    config.evaluate_every = 5000
    config.checkpoint_every = 5000
    config.log_every = 100
    return config

"""DANN from SVHN to MNIST through TFDS, the pair of Ganin et al. 2016, section 5.

    tljax --config dann_svhn_mnist --workdir runs/dann_svhn_mnist

Needs both prepared in TFDS's data directory (or `--config.data_dir=DIR`) as array_record files:
`pip install 'tljax[tf]'`, then `tfds build svhn_cropped mnist --file_format array_record`. Reading
them needs no TensorFlow. Meant for an accelerator.
Expected: the paper reports 0.739 on MNIST, and 0.549 of the source alone. It has been run here on
small prepared data only, not at full length: no time and no result of our own.
"""

from tljax.configs import tasks
from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "DANN, SVHN to MNIST"
    config.family = "domain-adversarial"

    # MNIST is brought to SVHN's 32 × 32 pixels and three channels.
    svhn, mnist = (dict(size=32, channels=3, data=f"tfds:{n}") for n in ("svhn_cropped", "mnist"))
    config.streams.source = dict(svhn, split="train", batch=128)
    config.streams.target = dict(mnist, split="train", labelled=False, batch=128)
    config.evaluate.target = dict(mnist, split="test", batch=500)
    config.evaluate.source = dict(svhn, split="test", batch=500)

    tasks.supervised(config, learning_rate=0.01)
    tasks.adversarial(config)
    # About the paper's SVHN network (fig. 4): three convolutions, then dense layers in the heads.
    config.network.trunk = dict(name="cnn", channels=(64, 64, 128), norm="batch")
    config.network.heads.label.hidden = (1024,)
    config.network.heads.domain.hidden = (1024, 1024)
    config.statistics = "joint"  # of source and target in one batch, as in the authors' code
    config.update(steps=60_000, average=0.999)
    config.update(evaluate_every=5000, checkpoint_every=5000, log_every=100)
    return config

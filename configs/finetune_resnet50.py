"""Fine-tuning ResNet-50 from ImageNet: the protocol of the tables of L2-SP, DELTA, BSS, co-tuning.

    tljax --config finetune_resnet50 --workdir runs/finetune_resnet50 \
        --config.streams.target.data=folder:DIR --config.evaluate.target.data=folder:DIR

DIR has train/CLASS/*.jpg and test/CLASS/*.jpg, of CUB-200-2011 say. Weights come by the extra `hub`
(or `weights:FILE`, of torchvision). Meant for an accelerator; here it is run on tiny folders only.
Expected: on CUB-200-2011, all labels (You et al. 2020, table 1): 0.780 by fine-tuning,
0.784 by L2-SP, 0.786 by DELTA, 0.789 by BSS, 0.812 by co-tuning; with 15 % of the labels 0.453,
0.451, 0.468, 0.477, 0.526.
"""

from tljax.configs import tasks
from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "fine-tuning of ResNet-50"
    config.family = "fine-tuning"
    config.network.trunk = dict(name="resnet", depth=50)
    config.network.heads.label = dict(name="linear")
    tasks.pictures(config, "folder:data/cub200", batch=48)
    config.start = (("heads/**", "fresh"), ("**", "timm:resnet50.tv_in1k"))
    config.train = (("heads/**", 10.0), ("**", 1.0))
    config.terms.label = dict(term="cross_entropy", stream="target")
    config.optimizer = {**tasks.sgd(0.003), "weight_decay": 5e-4}
    config.update(steps=9000, evaluate_every=1000, checkpoint_every=1000, log_every=100)
    return config

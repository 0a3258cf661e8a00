"""CDAN from one domain of Office-31 to another, from ResNet-50: the protocol of the field's tables.

    tljax --config adapt_resnet50 --workdir runs/adapt_resnet50 --config.data_dir=DIR

DIR/amazon and DIR/webcam have CLASS/*.jpg; a list of paths and labels does as well. Both domains
are seen whole, the target without labels, and the target is judged whole, as in the papers; the
last step is reported, so that no label of the target chooses. Meant for an accelerator; here it is
run on tiny folders only. DANN: the discriminator on the features alone.
Expected: from Amazon to Webcam (Long et al. 2018, table 1): 0.684 by the source alone, 0.820 by
DANN, 0.941 by CDAN+E.
"""

from tljax.configs import tasks
from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "CDAN of ResNet-50"
    config.family = "domain-adversarial"
    config.network.trunk = dict(name="resnet", depth=50)
    config.network.heads.label = dict(name="mlp", hidden=(256,))
    tasks.pictures(config, "folder:amazon", 36, stream="source", test="")
    tasks.pictures(config, "folder:webcam", 36, test="train", labelled=False)
    config.start = (("heads/**", "fresh"), ("**", "timm:resnet50.tv_in1k"))
    config.train = (("heads/**", 10.0), ("**", 1.0))
    config.terms.label = dict(term="cross_entropy", stream="source")
    config.network.heads.domain = dict(name="mlp", hidden=(1024, 1024), outputs=1)
    config.terms.domain = dict(term="conditional_adversarial", weight=1.0)
    config.optimizer = {**tasks.sgd(0.001, "inverse"), "weight_decay": 1e-3}
    config.update(steps=10_000, evaluate_every=1000, checkpoint_every=1000, log_every=100)
    return config

"""Photographs by class: a linear head on MobileNetV2's features of ImageNet.

    python -m experiments.pretrained.fetch mobilenet_v2
    tljax --config photos --workdir runs/photos
    tljax predict --run runs/photos --data folder:new --out predictions.csv

Pictures lie in photos/CLASS/; --config.streams.photos.data and --config.evaluate.held_out.data
take other places (folder:DIR). A fifth of every class is held out. The trunk does not move and each
picture has one look, so that its features are computed once. About half a minute on two cores.
Expected: well above chance from ten pictures a class on, where ImageNet's features suit them.
"""

from tljax.configs import tasks
from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "linear probe of photographs"
    config.family = "fine-tuning"
    photos = dict(data="folder:photos", stratified=True, size=128, channels=3)
    photos["transforms"] = (dict(name="imagenet"),)  # what these weights expect
    config.streams.photos = dict(photos, split="train[:80%]", batch=16)
    config.evaluate.held_out = dict(photos, split="train[80%:]", batch=32)
    config.network.trunk = dict(name="mobilenet_v2")
    config.terms.label = dict(term="cross_entropy", stream="photos")
    config.start = (("trunk/**", tasks.weights("mobilenet_v2")), ("**", "fresh"))
    config.train = (("trunk/**", 0.0), ("**", 1.0))
    config.optimizer = dict(name="adam", learning_rate=3e-3, schedule=dict(name="cosine"))
    config.update(steps=300, log_every=100, evaluate_every=100, checkpoint_every=300)
    return config

"""Photographs by class: a linear head on MobileNetV2's features of ImageNet.

    python -m experiments.pretrained.fetch mobilenet_v2
    tljax --config photos --workdir runs/photos
    tljax predict --run runs/photos --data folder:new --out predictions.csv

Pictures lie in photos/CLASS/; --config.streams.photos.data and --config.evaluate.held_out.data
take other places (folder:DIR). A fifth of every class is held out. About a minute on two cores.
Expected: well above chance from ten pictures a class on, where ImageNet's features suit them.
"""

import os
from pathlib import Path

from tljax.experiment import blank

CACHE = os.environ.get("TLJAX_CACHE") or f"{os.environ.get('XDG_CACHE_HOME', '~/.cache')}/tljax"
WEIGHTS = Path(CACHE, "mobilenet_v2-b0353104.pth").expanduser()  # where `fetch` puts them


def get_config():
    config = blank()
    config.method = "linear probe of photographs"
    config.family = "fine-tuning"
    photos = dict(data="folder:photos", stratified=True, size=128, channels=3)
    normalised = dict(name="imagenet")  # what these weights expect
    config.streams.photos = dict(
        photos, split="train[:80%]", batch=16, transforms=(dict(name="flip"), normalised)
    )
    config.evaluate.held_out = dict(photos, split="train[80%:]", batch=32, transforms=(normalised,))
    config.network.trunk = dict(name="mobilenet_v2")
    config.terms.label = dict(term="cross_entropy", stream="photos")
    config.start = (("trunk/**", f"weights:{WEIGHTS}"), ("**", "fresh"))
    config.train = (("trunk/**", 0.0), ("**", 1.0))
    config.optimizer = dict(name="adam", learning_rate=3e-3, schedule=dict(name="cosine"))
    config.update(steps=100, log_every=25, evaluate_every=50, checkpoint_every=100)
    return config

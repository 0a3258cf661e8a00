"""Zero-shot learning on Fashion-MNIST: two garments that no training image shows.

    tljax --config zero_shot_fashion --workdir runs/zero_shot_fashion

Images are placed among 18 garment attributes (`tables.garments`, a published table) by
compatibility with eight seen classes. Needs the data of dann_fashion.py. About 15 s on two cores.
Expected: per-class accuracy on these two unseen classes above 0.85; for other pairs from 0.5 to 1.
RESULTS.md has the mean over five pairs and the permuted control.
"""

from tljax.configs import tasks
from tljax.experiment import blank

UNSEEN = (0, 1)  # the first of the five pairs of experiments/zero_shot, of consecutive labels
SEEN = tuple(label for label in range(10) if label not in UNSEEN)


def get_config():
    config = blank()
    config.method = "zero-shot: garment attributes"
    config.family = "zero-shot"
    config.streams.source = dict(tasks.GARMENTS, split="train[:10000]", classes=SEEN, batch=64)
    config.tables.garments = dict(data="garments", normalise=True)  # permute=0: the control
    # Told apart among themselves, and among all ten (generalised zero-shot).
    read = dict(head="embed", readout="compatibility", table="garments")
    judged = dict(tasks.GARMENTS, **read, batch=500, split="test", unseen=UNSEEN)
    config.evaluate.unseen = dict(judged, classes=UNSEEN, among="unseen")
    config.evaluate.generalised = judged
    config.network.trunk = dict(name="mlp", features=(256, 128))
    config.network.heads.embed = dict(name="linear", outputs=18)
    # `loss` is also "devise", "sje" or "ale", rankings with a margin.
    term = dict(stream="source", head="embed", table="garments", scale=1.0)
    config.terms.compatibility = dict(term="compatibility", **term)
    config.steps = 600  # about 5 times over the images
    config.optimizer = tasks.sgd(0.03)
    return config

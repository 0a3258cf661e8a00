"""Zero-shot learning on Fashion-MNIST: two garments that no training image shows.

A network learns to place images among 18 garment attributes (`tables.garments`, a published
table), by compatibility with the eight seen classes; the unseen two are told apart by theirs.

Needs `apt install dataset-fashion-mnist`, or another directory as in dann_fashion.py.
Expected: per-class accuracy on the unseen classes above 0.77 in about 1 minute on two cores, at
chance (0.5) with permuted attributes (tables.garments.permute=0); RESULTS.md has the intervals.
"""

from tljax.experiment import blank

SEEN = (0, 1, 2, 3, 5, 6, 7, 9)
UNSEEN = (4, 8)  # coat and bag


def get_config():
    config = blank()
    config.method = "zero-shot: garment attributes"
    config.family = "zero-shot"

    garments = dict(data="idx:/usr/share/datasets/fashion-mnist")
    config.streams.source = dict(garments, split="train[:20000]", classes=SEEN, batch=64)
    config.tables.garments = dict(data="garments", normalise=True)

    # Told apart among themselves, and among all ten (generalised zero-shot).
    judged = dict(garments, head="embed", readout="compatibility", table="garments", batch=500)
    config.evaluate.unseen = dict(
        judged, split="test", classes=UNSEEN, unseen=UNSEEN, among="unseen"
    )
    config.evaluate.generalised = dict(judged, split="test", unseen=UNSEEN)

    config.network.trunk = dict(name="cnn", channels=(16, 32))
    config.network.heads.embed = dict(name="mlp", hidden=(64,), outputs=18)

    config.terms.compatibility = dict(
        term="compatibility", stream="source", head="embed", table="garments", scale=1.0
    )
    config.steps = 1500
    config.optimizer = dict(
        name="sgd", learning_rate=0.02, momentum=0.9, schedule=dict(name="cosine")
    )
    return config

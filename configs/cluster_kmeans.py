"""Self-taught clustering: SimCLR on source and target, then k-means of the target's features.

No label is read, of neither domain; clusters are matched to classes only to be judged.

Expected: clustering accuracy 0.75 to 0.95, against about 0.79 of k-means on pixels, in about
30 s on two cores; RESULTS.md has the intervals.
"""

from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "SimCLR + k-means"
    config.family = "self-taught clustering"

    # The digits as they come, 8×8: enlarged ones cost four times as much and cluster no better.
    digits = dict(data="digits", size=8, labelled=False)
    # The same digits twice in every step, each time moved and turned at random.
    views = (dict(name="affine", degrees=15.0, scale=0.15, shear=0.15, shift=0.1),)
    config.streams.both = dict(digits, split="train", batch=128, transforms=views)
    config.streams.view = dict(of="both", transforms=views)
    config.streams.target = dict(digits, split="train[900:]", batch=128)
    config.evaluate.target = dict(
        data="digits", size=8, split="train[900:]", head="cluster", readout="clusters"
    )

    config.network.trunk = dict(name="cnn", channels=(32, 64))
    config.network.heads.projection = dict(name="mlp", hidden=(128,), outputs=64)
    config.network.heads.cluster = dict(name="prototypes", outputs=10)

    config.phases = ("represent", "cluster")
    config.represent = dict(
        flow=("both", "view"),
        terms=dict(agree=dict(term="nt_xent", first="both", second="view", temperature=0.5)),
        optimizer=dict(name="adam", learning_rate=1e-3, schedule=dict(name="cosine")),
        steps=600,
    )
    config.cluster = dict(
        flow=("target",),
        terms={},
        steps=0,
        prepare=dict(kmeans=dict(stream="target", head="cluster", restarts=10)),
    )
    return config

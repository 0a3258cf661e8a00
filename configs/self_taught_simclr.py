"""Self-taught learning by SimCLR (Chen et al. 2020): unlabelled digits, then one label a class.

A trunk learns, from 1,000 digits without labels, that two augmented views of an image are one
thing. It is then frozen, and a softmax regression on its features sees ten labelled digits.

Expected: accuracy 0.66 to 0.85 with one label a class, against about 0.67 of a logistic regression
on pixels, in about 30 s on two cores; RESULTS.md has the intervals.
"""

from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "self-taught: SimCLR"
    config.family = "self-taught learning"

    # The digits as they come, 8×8: enlarged ones cost four times as much and serve no better.
    digits = dict(data="digits", size=8)
    # The same digits twice in every step, each time moved and turned at random.
    views = (dict(name="affine", degrees=15.0, scale=0.15, shear=0.15, shift=0.1),)
    config.streams.source = dict(
        digits, split="train[:1000]", labelled=False, batch=128, transforms=views
    )
    config.streams.view = dict(of="source", transforms=views)
    # train[1200:1400] is left for choosing settings.
    config.streams.target = dict(digits, split="train[1000:1200]", per_class=1, batch=10)
    config.evaluate.target = dict(digits, split="train[1400:]")

    config.network.trunk = dict(name="cnn", channels=(32, 64))
    config.network.heads.projection = dict(name="mlp", hidden=(128,), outputs=64)
    config.network.heads.label = dict(name="linear")

    config.phases = ("represent", "read")
    config.represent = dict(
        flow=("source", "view"),
        terms=dict(agree=dict(term="nt_xent", first="source", second="view", temperature=1.0)),
        optimizer=dict(name="adam", learning_rate=1e-3, schedule=dict(name="cosine")),
        steps=500,
    )
    # Nothing is trained: a closed fit on frozen features. Instead of `prepare`, terms and steps
    # with train=(("trunk/**", 0.1), ("**", 1.0)) would fine-tune.
    config.read = dict(
        flow=("target",),
        terms={},
        steps=0,
        prepare=dict(softmax=dict(stream="target", head="label", penalty=1.0)),
    )
    return config

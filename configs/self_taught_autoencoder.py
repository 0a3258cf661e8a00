"""Self-taught learning by a denoising autoencoder (Vincent et al. 2008; Raina et al. 2007).

A trunk learns, from 1,000 digits without labels, to restore images from noisy ones. It is then
frozen, and a softmax regression on its features sees ten labelled digits.

Expected: accuracy 0.62 to 0.82 with one label a class, in about 15 s on two cores; RESULTS.md has
the intervals, and what a logistic regression on pixels reaches.
"""

from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "self-taught: denoising autoencoder"
    config.family = "self-taught learning"

    digits = dict(data="digits", size=8)
    config.streams.source = dict(digits, split="train[:1000]", labelled=False, batch=128)
    config.streams.noisy = dict(of="source", transforms=(dict(name="noise", std=0.3),))
    # train[1200:1400] is left for choosing settings.
    config.streams.target = dict(digits, split="train[1000:1200]", per_class=1, batch=10)
    config.evaluate.target = dict(digits, split="train[1400:]")

    # A narrow code: 32 numbers for 64 pixels.
    config.network.trunk = dict(name="mlp", features=(256, 32))
    config.network.heads.decoder = dict(name="mlp", hidden=(256,), outputs=64)
    config.network.heads.label = dict(name="linear")

    config.phases = ("represent", "read")
    config.represent = dict(
        flow=("source", "noisy"),
        terms=dict(restore=dict(term="reconstruction", stream="noisy", clean="source")),
        optimizer=dict(name="adam", learning_rate=1e-3, schedule=dict(name="cosine")),
        steps=1500,
    )
    config.read = dict(
        flow=("target",),
        terms={},
        steps=0,
        prepare=dict(softmax=dict(stream="target", head="label", penalty=0.1)),
    )
    return config

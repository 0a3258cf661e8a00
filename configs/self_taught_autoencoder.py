"""Self-taught learning by a denoising autoencoder (Vincent et al. 2008; Raina et al. 2007).

    tljax --config self_taught_autoencoder --workdir runs/self_taught_autoencoder

A trunk learns, from 1,000 digits without labels, to restore images from noisy ones. It is then
frozen, and a softmax regression on its features sees ten labelled digits. About 15 s on two cores.
Expected: accuracy 0.62 to 0.82 with one label a class; RESULTS.md has the intervals, and what a
logistic regression on pixels reaches.
"""

from tljax.configs import tasks
from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "self-taught: denoising autoencoder"
    config.family = "self-taught learning"
    tasks.self_taught(config, penalty=0.1)
    config.streams.noisy = dict(of="source", transforms=(dict(name="noise", std=0.3),))
    # A narrow code: 32 numbers for 64 pixels.
    config.network.trunk = dict(name="mlp", features=(256, 32))
    config.network.heads.decoder = dict(name="mlp", hidden=(256,), outputs=64)
    config.represent = dict(
        flow=("source", "noisy"),
        terms=dict(restore=dict(term="reconstruction", stream="noisy", clean="source")),
        optimizer=tasks.adam(1e-3),
        steps=1500,
    )
    return config

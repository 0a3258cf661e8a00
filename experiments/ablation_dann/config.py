"""DANN over λ × ramp × learning rate × seeds; `sweep()` yields the points.

tljax sweep --config experiments/ablation_dann/config.py --workdir runs/ablation_dann
"""

from collections.abc import Iterator
from typing import Any

from configs.dann import get_config as dann

SCALES = (0.3, 1.0, 3.0)  # λ at full strength; 0 beside them, where the ramp is without effect
RAMPS = (10.0, 1000.0)  # γ of the ramp of λ: the paper's, and at once
RATES = (0.005, 0.02, 0.05)
SEEDS = range(5)


def get_config():
    config = dann()
    # What a choice may read: the target as it is trained on, without labels.
    target = config.streams.target
    config.evaluate.unlabelled = dict(
        data=target.data,
        size=target.size,
        channels=target.channels,
        split=target.split,
        labelled=False,
        transforms=target.transforms,
    )
    config.evaluate_every = 500
    config.checkpoint_every = 500
    return config


def sweep() -> Iterator[dict[str, Any]]:
    pairs = [(0.0, 10.0), *((scale, ramp) for scale in SCALES for ramp in RAMPS)]
    for scale, ramp in pairs:
        for rate in RATES:
            for seed in SEEDS:
                yield {
                    "terms.domain.scale": scale,
                    "terms.domain.gamma": ramp,
                    "optimizer.learning_rate": rate,
                    "seed": seed,
                }

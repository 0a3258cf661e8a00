"""DANN over λ × ramp × learning rate × seeds; `sweep()` yields the points.

tljax sweep --config experiments/ablation_dann/config.py --workdir runs/ablation_dann_sweep
"""

from collections.abc import Iterator
from typing import Any

from tljax.configs.dann import get_config as dann

SCALES = (0.3, 1.0, 3.0)  # λ at full strength; 0 beside them, where the ramp is without effect
RAMPS = (10.0, 1000.0)  # γ of the ramp of λ: the paper's, and at once
RATES = (0.005, 0.02, 0.05)
SEEDS = range(5)
FIELDS = {  # of what is swept, its paths
    "rate": "optimizer.learning_rate",
    "scale": "terms.domain.scale",
    "gamma": "terms.domain.gamma",
}


def get_config():
    config = dann()
    # What a choice may read: the target as it is trained on, without labels.
    config.evaluate.unlabelled = dict(config.streams.target)
    del config.evaluate.unlabelled.batch
    config.evaluate_every = 500
    config.checkpoint_every = 500
    return config


def cells() -> list[dict[str, float]]:
    """What differs beside the seed."""
    pairs = [(0.0, 10.0), *((scale, ramp) for scale in SCALES for ramp in RAMPS)]
    return [dict(rate=rate, scale=s, gamma=ramp) for s, ramp in pairs for rate in RATES]


def sweep() -> Iterator[dict[str, Any]]:
    for cell in cells():
        for seed in SEEDS:
            yield {**{FIELDS[name]: value for name, value in cell.items()}, "seed": seed}

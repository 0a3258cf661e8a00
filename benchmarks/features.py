"""The first epoch and the later ones of a head on features that are kept:
python -m benchmarks.features, after `python -m experiments.pretrained.fetch mobilenet_v2 elpv`.

A head is trained on all 1,574 photographs of solar cells, through MobileNetV2, which does not move.
Three runs: of one epoch without features, of one epoch and of many with them. What they have in
common (imports, compilation, decoding) falls out of the differences.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from tljax import experiment
from tljax.configs import tasks
from tljax.experiment import blank

EXAMPLES, BATCH = 1574, 20
STEPS = -(-EXAMPLES // BATCH)  # an epoch


def config_of(epochs: int, features: Path, size: int) -> Any:
    """A head on the trunk's features, for so many epochs."""
    config = blank()
    tasks.cells(config, size=size)
    config.streams.target.per_class = None
    config.streams.target.transforms = config.evaluate.test.transforms
    config.evaluate.test.update(split="train[:20]", batch=20)
    config.start = (("heads/**", "fresh"), ("**", tasks.weights("mobilenet_v2")))
    config.train = (("heads/**", 1.0), ("**", 0.0))
    config.terms.label = dict(term="cross_entropy", stream="target")
    config.features_dir, config.figures = str(features), False
    config.steps = config.log_every = config.evaluate_every = epochs * STEPS
    config.checkpoint_every = config.steps
    return config


def seconds(epochs: int, features: Path, size: int) -> float:
    """How long a run takes."""
    with tempfile.TemporaryDirectory() as there:
        began = time.perf_counter()
        experiment.run(config_of(epochs, features, size), Path(there, "run"))
        return time.perf_counter() - began


def main() -> None:
    """Prints both epochs, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=160, help="pixels of a side")
    parser.add_argument("--epochs", type=int, default=101)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as there:
        seconds(1, Path(there, "warm"), options.size)  # compiles
        without = seconds(1, Path(there, "kept"), options.size)
        kept = seconds(1, Path(there, "kept"), options.size)
        many = seconds(options.epochs, Path(there, "kept"), options.size)
    later = (many - kept) / (options.epochs - 1)
    first = without - kept + later
    print(f"first epoch {first:.2f} s, later {1e3 * later:.1f} ms: {first / later:.0f} times")


if __name__ == "__main__":
    main()

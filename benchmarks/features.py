"""The first epoch and the later ones of a head on features that are kept:
python -m benchmarks.features, after `python -m experiments.pretrained.fetch mobilenet_v2 elpv`.

A head is trained on all 1,574 photographs of solar cells, through MobileNetV2, which does not move.
Three runs: of one epoch without features, of one epoch and of many with them. What they have in
common (imports, compilation, decoding) falls out of the differences.
"""

import itertools
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import frame
from tljax import experiment
from tljax.configs import tasks
from tljax.experiment import blank
from tljax.memory import keep_freed

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


def train(epochs: int, features: Path, size: int) -> None:
    """A run from its start to its end."""
    with tempfile.TemporaryDirectory() as there:
        experiment.run(config_of(epochs, features, size), Path(there, "run"))


def main() -> None:
    """Prints both epochs, and their ratio."""
    parser = frame.flags(__doc__, rounds=3)
    parser.add_argument("--size", type=int, default=160, help="pixels of a side")
    parser.add_argument("--epochs", type=int, default=101)
    options = parser.parse_args()
    keep_freed()
    with (
        frame.measured("features", options) as record,
        tempfile.TemporaryDirectory() as there,
    ):
        fresh = (Path(there, str(i)) for i in itertools.count())
        last = [Path(there)]

        def without() -> None:
            last[0] = next(fresh)
            train(1, last[0], options.size)

        contestants = {
            "without features": without,
            "with them": lambda: train(1, last[0], options.size),
            "many epochs": lambda: train(options.epochs, last[0], options.size),
        }
        record |= {"size": options.size, "epochs": options.epochs}
        record["s"] = times = frame.rounds(contestants, options.rounds)
        both = list(zip(*times.values(), strict=True))
        later = [(many - kept) / (options.epochs - 1) for _, kept, many in both]
        first = [none - kept + epoch for (none, kept, _), epoch in zip(both, later, strict=True)]
        record.head("first epoch: s", "later: s", "first / later")
        ratios = frame.spread(frame.ratios(first, later), 0)
        record.row(frame.spread(first), frame.spread(later, 4), ratios)


if __name__ == "__main__":
    main()

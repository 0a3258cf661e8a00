"""Times the stream of photographs beside the bare decoder: python -m benchmarks.pipeline."""

import dataclasses
import functools
import gc
import importlib.util
import io
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import frame
from tljax.data import pictures, sources, views
from tljax.data.streams import Feed, reader
from tljax.memory import cores

SIZE, BATCH, SEED = 224, 64, 0
TIMES = 100  # that each file stands in the list: so short an order as theirs alone is slow to draw
VIEW = dict(name="random_resized_crop", size=SIZE)
DECODERS = ("simplejpeg", "pillow")
Batches = Iterator[int]  # the number of images in each
Contestant = Callable[[list[str], int], Batches]


def photographs(folder: Path, count: int) -> list[str]:
    """JPEGs of 500 × 375, quality 90: windows of scikit-learn's and scikit-image's photographs."""
    from sklearn.datasets import load_sample_images

    originals = [Image.fromarray(image) for image in load_sample_images().images]
    if importlib.util.find_spec("skimage"):
        from skimage import data

        originals += [
            Image.fromarray(getattr(data, n)()) for n in ("astronaut", "coffee", "rocket")
        ]
    rng, paths = np.random.default_rng(SEED), []
    for i in range(count):
        image = originals[i % len(originals)]
        width = int(image.width * rng.uniform(0.6, 1.0))
        height = min(image.height, width * 3 // 4)
        left, top = rng.integers(image.width - width + 1), rng.integers(image.height - height + 1)
        window = image.resize(
            (500, 375), Image.Resampling.BICUBIC, (left, top, left + width, top + height)
        )
        path = folder / "train" / f"{i % 10}" / f"{i:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        window.save(path, quality=90)
        paths.append(str(path))
    lines = (f"{Path(path).relative_to(folder)} {Path(path).parent.name}\n" for path in paths)
    (folder / "many.txt").write_text("".join(list(lines) * TIMES))
    return paths


def window(path: str, rng: np.random.Generator, decoder: str) -> np.ndarray:
    """A picture's random window, written straight down with one library to decode it."""
    data = Path(path).read_bytes()
    if decoder == "simplejpeg":
        image = Image.fromarray(pictures.simplejpeg().decode_jpeg(data, "RGB"))
    else:
        image = Image.open(io.BytesIO(data)).convert("RGB")
    shape = (image.height, image.width)
    top, left, height, width = views._window(shape, rng, (0.08, 1.0), (3 / 4, 4 / 3))
    cut = image.crop((left, top, left + width, top + height))
    return np.asarray(cut.resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def bare(decoder: str) -> Contestant:
    """Threads, one a core, that decode and cut one picture after another; nothing is kept."""

    def one(task: tuple[str, int]) -> int:
        return len(window(task[0], np.random.default_rng(task[1]), decoder)) > 0

    def batches(paths: list[str], seed: int) -> Batches:
        rng = np.random.default_rng(seed)
        with ThreadPoolExecutor(cores()) as pool:
            while True:
                chosen = rng.integers(len(paths), size=BATCH)
                yield sum(pool.map(one, ((paths[i], int(i)) for i in chosen)))

    return batches


def stream(decoder: str, workers: int = 0) -> Contestant:
    """The stream of a run: a folder, a random view, batches as a step takes them."""

    def batches(paths: list[str], seed: int) -> Batches:
        root = Path(paths[0]).parents[2]
        table = sources.load(f"folder:{root}", "many", view=VIEW)
        if decoder == "pillow":
            table = table.with_column("input", dataclasses.replace(table.input, decode=by_pillow))
        feed = Feed({"source": reader(table, BATCH, seed)}, 0, workers)
        while True:
            yield len(feed.take(1, 1)["source"].input[0])

    return batches


def by_pillow(path: str) -> np.ndarray:
    """What a table decodes where simplejpeg is not installed."""
    pictures.simplejpeg = lambda: None  # also in a loader process
    return pictures.decode(pictures.content(path, "data"), path, "data", (255, 255, 255))


def torch_loader(decoder: str) -> Contestant:
    """PyTorch's DataLoader, a process a core; torchvision's crop is written down above."""

    def batches(paths: list[str], seed: int) -> Batches:
        import torch

        loader = torch.utils.data.DataLoader(
            Photographs(paths * TIMES, decoder), BATCH, shuffle=True, drop_last=True,
            num_workers=cores(), generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        while True:
            for images, _ in loader:
                yield len(images)

    return batches


class Photographs:
    """What PyTorch reads: windows `[224, 224, 3]`, and labels."""

    def __init__(self, paths: list[str], decoder: str):
        self.paths, self.decoder = paths, decoder

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        import torch

        rng = np.random.default_rng(torch.randint(2**31, ()).item())
        image = window(self.paths[index], rng, self.decoder)
        return torch.from_numpy(image.copy()), index % 10


def timed(batches: Batches, count: int, ahead: int) -> tuple[float, float]:
    """Images a second of `count` batches after those that are read ahead, and CPU ms an image."""
    for _ in range(ahead):
        next(batches)
    began, cpu = time.perf_counter(), time.process_time()
    images = sum(next(batches) for _ in range(count))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    batches.close()  # type: ignore[attr-defined]
    gc.collect()  # ends what still reads ahead
    return images / seconds, 1000 * cpu / images


def main() -> None:
    parser = frame.flags(__doc__, rounds=5)
    parser.add_argument("--photographs", type=frame.positive, default=200)
    parser.add_argument("--batches", type=frame.positive, default=16, help="timed, of 64 each")
    options = parser.parse_args()
    made: dict[str, Contestant] = {}
    for decoder in DECODERS:
        if decoder == "simplejpeg" and not pictures.simplejpeg():
            continue
        made[f"{decoder}, bare"] = bare(decoder)
        made[f"{decoder}, stream"] = stream(decoder)
        made[f"{decoder}, stream, workers"] = stream(decoder, cores())
        if importlib.util.find_spec("torch"):
            made[f"{decoder}, torch"] = torch_loader(decoder)
    kept, counted = pictures.simplejpeg, itertools.count()
    with frame.measured("pipeline", options) as record, tempfile.TemporaryDirectory() as there:
        paths = photographs(Path(there), options.photographs)

        def measure(name: str) -> tuple[float, float]:
            ahead = 20 if "stream" in name else 3  # a stream begins as many as threads
            seed = next(counted) // len(made)
            try:
                return timed(made[name](paths, seed), options.batches, ahead)
            finally:
                pictures.simplejpeg = kept

        turns = {name: functools.partial(measure, name) for name in made}
        pairs = frame.rounds(turns, options.rounds, lambda run: run())
        rates, cpu = ({n: [pair[i] for pair in p] for n, p in pairs.items()} for i in (0, 1))
        record |= {"batches": options.batches, "images/s": rates, "CPU ms an image": cpu}
        record.head("", "images/s: median (least–most)", "/ bare decoder", "CPU ms an image")
        for name, values in rates.items():
            base = rates[f"{name.partition(',')[0]}, bare"]
            inside = not name.endswith(("workers", "torch"))
            own = f"{statistics.median(cpu[name]):.2f}" if inside else "–"
            record.row(name, frame.spread(values, 0), frame.spread(frame.ratios(values, base)), own)


if __name__ == "__main__":
    main()

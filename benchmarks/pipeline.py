"""Times the stream of photographs beside the bare decoder: python -m benchmarks.pipeline."""

import argparse
import dataclasses
import gc
import importlib.metadata
import importlib.util
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tljax.data import pictures, sources, views
from tljax.data.streams import Feed, reader

ROOT = Path(__file__).resolve().parents[1]
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
        with ThreadPoolExecutor(os.cpu_count()) as pool:
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
            num_workers=os.cpu_count() or 1, generator=torch.Generator().manual_seed(seed),
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=int, default=200)
    parser.add_argument("--batches", type=int, default=16, help="that are timed, of 64 each")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="to benchmarks/results/pipeline.json")
    options = parser.parse_args()
    if min(options.photographs, options.batches, options.repeats) < 1:
        parser.error("--photographs, --batches and --repeats must be at least 1")
    contestants: dict[str, Contestant] = {}
    for decoder in DECODERS:
        if decoder == "simplejpeg" and not pictures.simplejpeg():
            continue
        contestants[f"{decoder}, bare"] = bare(decoder)
        contestants[f"{decoder}, stream"] = stream(decoder)
        contestants[f"{decoder}, stream, workers"] = stream(decoder, os.cpu_count() or 1)
        if importlib.util.find_spec("torch"):
            contestants[f"{decoder}, torch"] = torch_loader(decoder)
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    cpu: dict[str, list[float]] = {name: [] for name in contestants}
    loads = [os.getloadavg()]
    with tempfile.TemporaryDirectory() as directory:
        paths = photographs(Path(directory), options.photographs)
        kept = pictures.simplejpeg
        for seed in range(options.repeats):
            for name, contestant in contestants.items():
                ahead = 20 if "stream" in name else 3  # a stream begins 16 at once
                rate, used = timed(contestant(paths, seed), options.batches, ahead)
                pictures.simplejpeg = kept
                rates[name].append(rate)
                cpu[name].append(used)
            loads.append(os.getloadavg())
    print(f"load averages before, and after each round: {loads}")
    print("| | images/s: median (least–most) | / bare decoder | CPU ms an image |")
    print("|---|---|---|---|")
    for name, values in rates.items():
        base = rates[f"{name.partition(',')[0]}, bare"]
        ratios = [value / one for value, one in zip(values, base, strict=True)]
        own = "–" if name.endswith(("workers", "torch")) else f"{statistics.median(cpu[name]):.2f}"
        print(f"| {name} | {spread(values, 0)} | {spread(ratios, 2)} | {own} |")
    if options.write:
        results: dict[str, Any] = {n: importlib.metadata.version(n) for n in ("grain", "pillow")}
        for name in ("simplejpeg", "torch"):
            if importlib.util.find_spec(name):
                results[name] = importlib.metadata.version(name)
        results |= {"cores": os.cpu_count(), "load averages": loads, "batches": options.batches}
        results |= {"images/s": rates, "CPU ms an image": cpu}
        file = ROOT / "benchmarks" / "results" / "pipeline.json"
        file.write_text(json.dumps(results, indent=1) + "\n")


def spread(values: list[float], digits: int) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


if __name__ == "__main__":
    main()

"""Tables of files in memory: what is decoded, and what cannot be."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tljax.data.formats import first
from tljax.data.lazy import Damaged, Lazy, rows_of, too_many
from tljax.data.table import Table
from tljax.errors import warn
from tljax.memory import cores


def materialise(table: Table, limit_bytes: float, field: str = "data") -> Table:
    """A table in memory if it then takes at most `limit_bytes`, else one of lazy inputs.

    Lazy it stays, too, through a random view. Damaged pictures are left out of what is in memory,
    and named, up to the share that may be.

    Raises:
      UserError: images of different shapes, or more that cannot be decoded.
    """
    images = table.input
    if table.resident and table.nbytes > limit_bytes:
        return table.with_column("input", rows_of(np.asarray(images), first, field))
    if table.resident or images.random or table.nbytes > limit_bytes:
        return table
    decoded = np.empty((len(images), *images.first.shape), images.first.dtype)
    kept: list[int] = []
    for i, image in _readable(images, field):
        decoded[len(kept)] = image
        kept.append(i)
    table = _only(table, kept).with_column("input", decoded[: len(kept)])
    return table.with_column("mask", table.mask.stacked()) if not table.resident else table


def readable(table: Table, field: str) -> Table:
    """A table without its damaged pictures, which are named; all are decoded to find them."""
    if table.resident or not table.input.damaged:
        return table
    return _only(table, [i for i, _ in _readable(table.input, field)])


def _only(table: Table, rows: list[int]) -> Table:
    return table if len(rows) == len(table) else table.take(rows)


def _readable(images: Lazy, field: str) -> Iterator[tuple[int, np.ndarray]]:
    """The images that can be decoded, with their places, in order; on all cores."""
    lost: list[str] = []

    def tried(index: int) -> np.ndarray | Damaged:
        try:
            return images[index]
        except Damaged as error:
            return error

    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(images), 256):  # so many wait for the one that takes them
            places = range(start, min(start + 256, len(images)))
            for i, image in zip(places, pool.map(tried, places), strict=True):
                if isinstance(image, np.ndarray):
                    yield i, image
                    continue
                lost.append(str(images.items[i]))
                if len(lost) > images.tolerated:
                    raise image if not images.damaged else too_many(lost, images, field)
    if lost:
        warn(f"{field}: {len(lost)} of {len(images)} are damaged and left out: {', '.join(lost)}")

"""Inputs that are read when they are asked for: pictures in files, rows of large arrays."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tljax.errors import UserError, reading, wrong
from tljax.memory import cores


class Damaged(UserError):
    """A picture that is there and cannot be decoded: of these a share may be skipped."""


@dataclasses.dataclass(frozen=True)
class Lazy:
    """Inputs of one shape, each decoded when it is asked for, and then viewed."""

    decode: Callable[[Any], np.ndarray]  # the input of an item: an image [H, W, C], or a row
    items: Sequence[Any] | np.ndarray  # what stands for an input: a path, a split and row, a row
    field: str
    view: Any = None  # views.HostView: what makes pictures of differing sizes alike
    damaged: float = 0.0  # the share that may be

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.seen(index)

    def seen(self, index: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """An input, by a random view as `rng` has it; without one, always in the same way."""
        image, first = self._viewed(index, rng), self.first
        if image.shape != first.shape:
            expected = f"{first.shape}, the shape of {self.items[0]}; size= resizes them all"
            raise wrong(self.field, image.shape, f"{self.items[index]} to have {expected}")
        if image.dtype != first.dtype:
            expected = f"input {index} to be {first.dtype}, as the first is"
            raise wrong(self.field, str(image.dtype), expected)
        return image

    def _viewed(self, index: int, rng: np.random.Generator | None = None) -> np.ndarray:
        item = self.items[index]
        with reading(self.field, str(item)):
            image = self.decode(item)
        if self.view is None:
            return image
        if self.random and rng is None:
            rng = np.random.default_rng(index % len(self))
        return self.view(image, rng)

    @functools.cached_property
    def first(self) -> np.ndarray:
        """The first that is not damaged."""
        for index in range(self.tolerated):
            with contextlib.suppress(Damaged):
                return self._viewed(index)
        return self._viewed(self.tolerated)

    @property
    def tolerated(self) -> int:
        """How many of them may be damaged."""
        return min(int(self.damaged * len(self)), len(self) - 1)

    @property
    def random(self) -> bool:
        """Whether an input is another each time that a stream shows it."""
        return self.view is not None and self.view.random

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self), *self.first.shape

    @property
    def nbytes(self) -> int:
        return len(self) * self.first.nbytes

    def take(self, rows: Any) -> "Lazy":
        """The inputs of a slice, of indices, or of a bool each."""
        if isinstance(self.items, np.ndarray):
            return dataclasses.replace(self, items=self.items[rows])
        return dataclasses.replace(self, items=[self.items[i] for i in np.arange(len(self))[rows]])

    def stacked(self) -> np.ndarray:
        """All inputs, `[n, ...]`, decoded on all cores."""
        with ThreadPoolExecutor(cores()) as threads:
            return np.stack(list(threads.map(self.__getitem__, range(len(self)))))

    @staticmethod
    def concatenate(parts: Sequence["Lazy"]) -> "Lazy":
        """One sequence of several; those of files decode alike."""
        if any(isinstance(part.items, np.ndarray) for part in parts):
            rows = np.arange(sum(map(len, parts)))
            return Lazy(functools.partial(_row_of, parts=tuple(parts)), rows, parts[0].field)
        return dataclasses.replace(parts[0], items=[item for part in parts for item in part.items])


def too_many(lost: Sequence[str], images: Lazy, field: str) -> UserError:
    """More pictures are damaged than may be."""
    expected = f"at most {images.tolerated} of {len(images)} pictures to be damaged"
    named = f"{lost[-1]!r} is one of {len(lost)}"
    beside = f"{field.rpartition('.')[0]}.damaged".lstrip(".")
    return wrong(beside, images.damaged, f"{expected}; {named}")


def _row_of(row: int, parts: Sequence[Lazy]) -> np.ndarray:
    """The input at `row` of several sequences, one after another."""
    for part in parts:
        if row < len(part):
            return part[row]
        row -= len(part)
    raise IndexError(row)


@dataclasses.dataclass(frozen=True)
class Stored:
    """An array within a file, as numpy lays one out; its rows are read from the mapped file."""

    path: Path
    offset: int  # bytes before its first value
    dtype: np.dtype
    shape: tuple[int, ...]
    order: str = "C"  # or "F", Fortran's

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self._mapped[rows]

    @functools.cached_property
    def _mapped(self) -> np.ndarray:
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, self.order)  # type: ignore[call-overload]

    def __getstate__(self) -> dict[str, Any]:
        """Without what is mapped: each process that reads maps the file itself."""
        return {name: value for name, value in vars(self).items() if name != "_mapped"}

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=object))


def rows_of(array: np.ndarray | Stored, decode: Callable[..., np.ndarray], field: str) -> Lazy:
    """The rows of an array, each as `decode([1, ...], row)` gives it, `[...]`."""
    read = functools.partial(_decode_row, array=array, decode=decode)
    return Lazy(read, np.arange(len(array)), field)


def _decode_row(row: int, array: np.ndarray | Stored, decode: Callable) -> np.ndarray:
    return decode(array[row : row + 1], row)

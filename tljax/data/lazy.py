"""Images that are decoded when they are asked for."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tljax.errors import wrong


@dataclasses.dataclass(frozen=True)
class Lazy:
    """Images of one shape, each decoded when it is asked for."""

    decode: Callable[[Any], np.ndarray]  # the image [H, W, C] of an item
    items: Sequence[Any]  # what stands for an image: its path, or its split and row
    field: str

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> np.ndarray:
        item = self.items[index]
        image = self.decode(item)
        if image.shape != self.first.shape:
            expected = f"{self.first.shape}, the shape of {self.items[0]}; size= resizes them all"
            raise wrong(self.field, image.shape, f"{item} to have {expected}")
        return image

    @functools.cached_property
    def first(self) -> np.ndarray:
        return self.decode(self.items[0])

    @property
    def nbytes(self) -> int:
        return len(self) * self.first.nbytes

    def take(self, rows: Any) -> "Lazy":
        """The images of a slice, of indices, or of a bool each."""
        return dataclasses.replace(self, items=[self.items[i] for i in np.arange(len(self))[rows]])

    @staticmethod
    def concatenate(parts: Sequence["Lazy"]) -> "Lazy":
        """One sequence of several that decode alike."""
        return dataclasses.replace(parts[0], items=[item for part in parts for item in part.items])

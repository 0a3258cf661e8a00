"""Public weight files."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Entry(NamedTuple):
    """One leaf of ours, and the tensors of a public file that it is made of."""

    path: str  # "params/trunk/block_0/attention/qkv/kernel", "params/heads/HEAD/output/kernel"
    names: tuple[str, ...]  # in the file
    load: Callable[..., np.ndarray]  # the tensors -> our leaf
    save: Callable[[np.ndarray], tuple[np.ndarray, ...]]  # and back

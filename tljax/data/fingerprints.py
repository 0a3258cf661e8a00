"""What tells the data of a run from any other."""

import hashlib
import os
import weakref
from typing import Any

import numpy as np

from tljax.data.lazy import Damaged, Lazy
from tljax.data.table import Table

SIZED, READ = 100_000, 64  # of images on disk: how many are asked for their size, and are read
_known: weakref.WeakKeyDictionary[Table, str] = weakref.WeakKeyDictionary()


def fingerprint(table: Table) -> str:
    """A hash of all columns, 16 hexadecimal digits; the same wherever the files lie.

    Of images on disk it reads the names below what all have in common, sizes (of 100,000 evenly
    spaced ones, if there are more) and 64 whole images: hashing all would take an epoch.
    """
    if table not in _known:
        digest = hashlib.sha256()
        for name, column in table.columns.items():
            digest.update(name.encode())
            (_lazy if isinstance(column, Lazy) else _array)(digest, column)
        _known[table] = digest.hexdigest()[:16]
    return _known[table]


def _array(digest: Any, column: Any) -> None:
    array = np.ascontiguousarray(column)
    digest.update(f"{array.dtype}{array.shape}".encode())
    digest.update(array)


def _lazy(digest: Any, images: Lazy) -> None:
    items = images.items
    if not isinstance(items, np.ndarray) and isinstance(items[0], str):
        common = len(os.path.commonpath([os.path.dirname(item) for item in items]))
        digest.update("\n".join(item[common:] for item in items).encode(errors="surrogateescape"))
        sizes = [os.path.getsize(items[i]) for i in _spaced(len(items), SIZED)]
        digest.update(np.array(sizes))
    else:
        digest.update(repr(len(items)).encode())
    for i in _spaced(len(items), READ):
        try:
            _array(digest, images[i])
        except Damaged:
            if not images.damaged:
                raise
            digest.update(b"damaged")


def _spaced(length: int, most: int) -> list[int]:
    return np.unique(np.linspace(0, length - 1, min(length, most)).astype(int)).tolist()

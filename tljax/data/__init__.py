"""Sources of data, their transforms, and the streams that feed a step."""

import importlib
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tljax.data.table import Table


def load(data: str, split: str, *, limit_bytes: float = math.inf, **options: Any) -> "Table":
    """A split of a data set as a table of columns, in memory.

    Args:
      data: `digits`, `pairs`, `idx:DIR`, `folder:DIR`, `tar:PATTERN`, `wav:DIR`, `npz:FILE`,
        `text:FILE` or `tfds:NAME[/CONFIG]`. Texts are to be made tokens: `tljax.data.tokenised`.
      split: in TFDS's grammar, for every source: `train[:80%]+test`.
      limit_bytes: a table that would take more stays lazy, its inputs read when asked for.
      options: `labelled`, `classes`, `per_class`, `seed`, `size`, `view`, `channels`, `background`,
        `rate`, `seconds`, `damaged`, `root` and `field`, as `tljax.data.sources` has them.

    Returns:
      The table, columns `[n, ...]`.

    Raises:
      UserError: what cannot be read, or does not fit together.
    """
    from tljax.data import decoded, sources
    from tljax.data.texts import is_text

    table = sources.load(data, split, limit_bytes=limit_bytes, **options)
    if is_text(table):
        return table
    return decoded.materialise(table, limit_bytes, options.get("field", "data"))


def __getattr__(name: str) -> Any:
    """`Table`, `class_weights`, `meet` and `tokenised`, imported when first asked for."""
    rooms = {"Table": "table", "class_weights": "table", "meet": "classes"}
    rooms["tokenised"] = "tokens"
    if name in rooms:
        return getattr(importlib.import_module(f"tljax.data.{rooms[name]}"), name)
    raise AttributeError(f"module 'tljax.data' has no attribute {name!r}")

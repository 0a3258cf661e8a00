"""The columns of one split: what a model reads, and what is known of each example."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import jax
import numpy as np

from tljax.data.lazy import Lazy
from tljax.errors import unknown, wrong
from tljax.masked import inputs_of

TARGETS = ("label", "labels", "value", "span")  # what an unlabelled table lacks
COLUMNS = ("input", "mask", *TARGETS)


def _column(name: str) -> Any:
    return property(lambda table: table.columns.get(name))


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True, init=False, eq=False, repr=False)
class Table:
    """Examples by columns; as a pytree its leaves are the columns, and the rest is structure.

    So a table passes through `jit` and `vmap` as it is, and a program is compiled once for all
    tables of the same columns, class names and labels that occur. Inside a trace columns are
    tracers; `seen` is then what it was outside.

    Args:
      classes: names of the classes, all different. Without them they are "0" to the highest
        label, or to the last column of `labels`.
      field: where the data was given, for error messages.
      columns: numpy or jax arrays, or `Lazy` inputs and masks; None for one that is absent.
        `input` `[n, ...]`: images `[n, height, width, channels]`, feature vectors `[n, size]`,
        tokens `[n, length]` or waveforms `[n, length]`. Integers stay integers, of at most 32
        bits; floats are float32.
        `mask` bool `[n, length]`: which places of the input are there.
        `label` int32 `[n]`: the class of each example.
        `labels` bool `[n, classes]`: which classes each example has.
        `value` float32 `[n]` or `[n, size]`: numbers to be predicted.
        `span` int32 `[n, 2]`: the first place and the last.

    Raises:
      UserError: an unknown column, no input, or columns that do not fit together.
    """

    columns: dict[str, Any]  # by name, in the order of COLUMNS
    classes: tuple[str, ...]  # their names; () where only labels would tell
    seen: tuple[int, ...]  # the numbers in `label` that occur, ascending; () without that column

    input, mask, label, labels, value, span = map(_column, COLUMNS)  # None where one is absent

    def __init__(self, *, classes: Sequence[str] | None = None, field: str = "Table", **columns):
        columns = {name: column for name, column in columns.items() if column is not None}
        for name in columns:
            if name not in COLUMNS:
                raise unknown(field, name, COLUMNS)
        if "input" not in columns:
            raise wrong(field, list(columns), "an 'input' among the columns")
        columns = {n: _fitted(n, columns[n], field) for n in COLUMNS if n in columns}
        length = len(columns["input"])
        for name, column in columns.items():
            if len(column) != length:
                raise wrong(field, len(column), f"{length} examples in {name!r}, as 'input' has")
        mask = columns.get("mask")
        if mask is not None and mask.shape != columns["input"].shape[:2]:
            expected = f"'mask' {columns['input'].shape[:2]}, a place for each of 'input'"
            raise wrong(field, mask.shape, expected)
        seen = _seen(columns)
        names = _names(classes, seen, columns, field)
        self._fill(columns, names, tuple(range(len(names))) if seen is None else seen)

    def _fill(self, columns: dict[str, Any], classes: tuple[str, ...], seen: tuple) -> Self:
        vars(self).update(columns=columns, classes=classes, seen=seen)
        return self

    def _with(self, columns: dict[str, Any]) -> "Table":
        """The same kind of table, of other columns that are known to fit."""
        seen, table = _seen(columns), self.like(columns)
        return table if seen is None else table._fill(columns, self.classes, seen)

    def tree_flatten_with_keys(self) -> tuple:
        leaves = [(jax.tree_util.GetAttrKey(name), leaf) for name, leaf in self.columns.items()]
        return leaves, (tuple(self.columns), self.classes, self.seen)

    @classmethod
    def tree_unflatten(cls, structure: tuple, leaves: Sequence[Any]) -> "Table":
        names, classes, seen = structure
        return object.__new__(cls)._fill(dict(zip(names, leaves, strict=True)), classes, seen)

    def like(self, columns: dict[str, Any]) -> "Table":
        """A table of other columns, with these names of classes and these labels that may occur."""
        return object.__new__(Table)._fill(columns, self.classes, self.seen)

    def __len__(self) -> int:
        return len(self.input)

    def __repr__(self) -> str:
        shown = (
            f"{name}=lazy[{len(column)}, ...]"
            if isinstance(column, Lazy)
            else f"{name}={getattr(column, 'dtype', '')}{list(getattr(column, 'shape', '?'))}"
            for name, column in self.columns.items()
        )
        return f"Table({', '.join(shown)}, {len(self.classes)} classes)"

    def __getitem__(self, rows: Any) -> "Table":
        """The examples of a slice, of indices `[m]` in their order, or of a bool `[n]`."""
        if not isinstance(rows, slice):
            rows = rows if isinstance(rows, jax.Array) else np.asarray(rows)
            rows = rows.astype(np.int64) if not rows.size else rows
            if rows.ndim != 1 or rows.dtype.kind not in "iub":
                raise wrong("Table[...]", rows, "a slice, or a list of indices")
        columns = {
            name: column.take(rows) if isinstance(column, Lazy) else column[rows]
            for name, column in self.columns.items()
        }
        return self._with(columns)

    def take(self, indices: Sequence[int] | np.ndarray) -> "Table":
        """The examples at `indices` `[m]`, in that order; lazy images stay lazy."""
        return self[indices]

    def inputs(self, rows: Any) -> Any:
        """The inputs of some rows, decoded, `[m, ...]`; `Masked`, if they have a mask."""
        columns = self[rows].columns
        lazy = {n: each.stacked() for n, each in columns.items() if isinstance(each, Lazy)}
        return inputs_of({**columns, **lazy})

    def unlabelled(self) -> "Table":
        """The table without `label`, `labels`, `value` and `span`; the names of classes stay."""
        return self._with({n: column for n, column in self.columns.items() if n not in TARGETS})

    def with_column(self, name: str, column: Any) -> "Table":
        """The table with a column added or replaced, checked as when a table is made."""
        made = Table(**{**self.columns, name: column}, classes=self.classes or None)
        return made if name == "label" else made._fill(made.columns, made.classes, self.seen)

    @property
    def labelled(self) -> bool:
        """Whether anything is known of the examples: a label, labels, a value or a span."""
        return any(name in self.columns for name in TARGETS)

    @property
    def resident(self) -> bool:
        """Whether all columns are in memory, none to be decoded."""
        return not any(isinstance(column, Lazy) for column in self.columns.values())

    @property
    def kind(self) -> tuple[Any, ...]:
        """The type and the shape of one input: ("uint8", 28, 28, 1)."""
        lazy = isinstance(self.input, Lazy)
        first = self.input.first if lazy else self.input
        return (str(first.dtype), *first.shape[not lazy :])

    @property
    def nbytes(self) -> int:
        """Bytes of all columns once decoded; of lazy images, by the first."""
        return sum(column.nbytes for column in self.columns.values())


def _fitted(name: str, column: Any, field: str) -> Any:
    """A column in its type, if its type and shape allow."""
    if isinstance(column, Lazy) and name in ("input", "mask"):
        return column
    column = column if isinstance(column, jax.Array) else np.asarray(column)
    if name == "label" and column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    kinds, shapes, expected, dtype = _KINDS[name]
    binary = dtype is bool and isinstance(column, np.ndarray) and column.dtype.kind in "iuf"
    if column.dtype.kind not in kinds + ("iuf" if binary else ""):
        raise wrong(field, str(column.dtype), f"{name!r}: {expected}")
    if not shapes(column.shape):
        raise wrong(field, column.shape, f"{name!r}: {expected}")
    if binary and not np.isin(column, (0, 1)).all():
        other = column[~np.isin(column, (0, 1))][0]
        raise wrong(field, other.item(), f"{name!r}: {expected}, or 0 and 1")
    if name == "input" and column.dtype.kind == "f":
        dtype = np.float32
    elif name == "input" and column.dtype.itemsize == 8:
        dtype = np.int32
    if dtype is np.int32 and isinstance(column, np.ndarray) and column.size:
        furthest = max(column.max().item(), -1 - column.min().item())
        if furthest > np.iinfo(np.int32).max:
            raise wrong(field, furthest, f"{name!r}: whole numbers that 32 bits hold")
    return column if dtype is None else column.astype(dtype, copy=False)


# Of each column: its kinds of numpy type, its shapes, both in words, and the type it is given.
_KINDS: dict[str, tuple] = {
    "input": ("iuf", lambda shape: len(shape) >= 1, "integers or floats [n, ...]", None),
    "mask": ("b", lambda shape: len(shape) == 2, "bools [n, length]", bool),
    "label": ("iu", lambda shape: len(shape) == 1, "integers [n]", np.int32),
    "labels": ("b", lambda shape: len(shape) == 2 and shape[1], "bools [n, classes]", bool),
    "value": ("iuf", lambda s: len(s) in (1, 2), "numbers [n] or [n, size]", np.float32),
    "span": ("iu", lambda shape: shape[1:] == (2,), "integers [n, 2]", np.int32),
}


def _seen(columns: dict[str, Any]) -> tuple[int, ...] | None:
    """The labels that occur; None where a trace hides them."""
    label = columns.get("label")
    if isinstance(label, jax.core.Tracer):
        return None
    return () if label is None else tuple(np.unique(np.asarray(label)).tolist())


def _names(
    classes: Sequence[str] | None, seen: tuple[int, ...] | None, columns: dict[str, Any], field: str
) -> tuple[str, ...]:
    """The names of classes, made of numbers where there are none, that all labels fit."""
    if classes is None:
        if "label" in columns and seen is None:
            raise wrong(field, None, "classes: a trace hides how many there are")
        if seen and seen[-1] >= 100_000:
            expected = "labels that count classes from 0, at most 100,000 of them"
            raise wrong(field, seen[-1], expected)
        count = columns["labels"].shape[1] if "labels" in columns else 0
        classes = list(map(str, range(max(count, seen[-1] + 1, 1) if seen else count)))
    names = tuple(classes)
    if isinstance(classes, str) or not all(isinstance(name, str) for name in names):
        raise wrong(field, classes, "classes: a list of their names")
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise wrong(field, twice, "classes of different names")
    if seen and not 0 <= seen[0] <= seen[-1] < len(names):
        label = np.asarray(columns["label"])
        first = int(np.flatnonzero((label < 0) | (label >= len(names)))[0])
        expected = f"the label of example {first} from 0 to {len(names) - 1}"
        raise wrong(field, int(label[first]), expected)
    if "labels" in columns and columns["labels"].shape[1] != len(names):
        expected = f"{len(names)} columns in 'labels', one for each class"
        raise wrong(field, columns["labels"].shape[1], expected)
    return names


def class_weights(table: Table) -> np.ndarray:
    """Weights by which all classes count the same: n / (classes that occur · examples of one).

    Their mean over the examples is 1: scikit-learn's `class_weight="balanced"`.

    Args:
      table: with a `label` of each of n examples.

    Returns:
      float32 `[classes]`; 0 for a class that does not occur.

    Raises:
      UserError: a table without that column, or without examples.
    """
    if table.label is None or not len(table):
        raise wrong("class_weights", table, "a table of examples with a 'label'")
    counts = np.bincount(np.asarray(table.label), minlength=len(table.classes))
    weights = len(table) / (np.maximum(counts, 1) * len(table.seen))
    return np.where(counts, weights, 0.0).astype(np.float32)

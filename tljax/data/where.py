"""Examples chosen by what is known of them: `where=dict(speaker=("not", "jackson"))`."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from tljax.data.formats import Rows
from tljax.data.table import Table
from tljax.errors import unknown, wrong

NOT = "not"


def told(
    names: Collection[str], rows: Rows, at: np.ndarray, table: Table, field: str
) -> dict[str, np.ndarray]:
    """Columns by which examples may be chosen, as strings `[m]`.

    Args:
      names: of the columns: one that the format knows, or `label`, by the names of classes.
      rows: a whole split.
      at: which of its examples are meant, `[m]`.
      table: these examples.
      field: where the names were given, for error messages.

    Raises:
      UserError: a column that is not there.
    """
    labelled = ("label",) if table.label is not None else ()
    found = {}
    for name in names:
        if name in rows.about:
            found[name] = np.asarray(rows.about[name])[at].astype(str)
        elif name in labelled:
            found[name] = np.asarray(table.classes)[np.asarray(table.label)]
        else:
            raise unknown(field, name, (*rows.about, *labelled))
    return found


def chosen(
    conditions: Mapping[str, Any], columns: Mapping[str, np.ndarray], field: str
) -> np.ndarray:
    """Which examples fulfil all conditions, bool `[n]`.

    Args:
      conditions: column -> a value, a list of them, or a list that begins with "not".
      columns: column -> strings `[n]`, with which values are compared as strings.
      field: where the conditions were given, for error messages.

    Raises:
      UserError: a value that no example has, or conditions that no example fulfils.
    """
    kept = np.ones(len(next(iter(columns.values()))), bool)
    for name, condition in conditions.items():
        here, values = f"{field}.{name}", _values(condition, f"{field}.{name}")
        without = values[0] == NOT and len(values) > 1
        values, held = values[without:], np.unique(columns[name])
        for value in values:
            if value not in held:
                raise unknown(here, value, held.tolist())
        kept &= np.isin(columns[name], values) != without
    if not kept.any():
        raise wrong(field, dict(conditions), "conditions that some example fulfils")
    return kept


def _values(condition: Any, field: str) -> list[str]:
    listed = list(condition) if isinstance(condition, list | tuple) else [condition]
    if not listed or not all(isinstance(value, str | int) for value in listed):
        raise wrong(field, condition, 'a value, a list of them, or ("not", value, ...)')
    return list(map(str, listed))

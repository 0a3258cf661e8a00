"""Tables that meet by the names of their classes, never by the numbers that each gives them."""

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

import numpy as np

from tljax.data.table import Table
from tljax.errors import UserError, unknown, wrong


def meet(tables: Mapping[str, Table], judged: Collection[str] = ()) -> dict[str, Table]:
    """Tables with one list of classes, in which equal names have equal numbers.

    The list is that of the first table, then what the next ones add to it. Without labels to go by
    a table adds nothing, and neither does one that is judged; tables that agree stay as they are.

    Args:
      tables: by where each was given, for error messages.
      judged: names of those that are to be predicted: all classes of their examples must be among
        those of the others, if any of the others has labels.

    Returns:
      The tables by the same names, their `label` and `labels` renumbered.

    Raises:
      UserError: a class of a judged table that no other has; names that differ in case, spaces or
        leading zeros only; labels that count from 0 in one table and from 1 in another.
    """
    named = {name: table for name, table in tables.items() if table.classes and table.labelled}
    for (one, table), (other, second) in combinations(named.items(), 2):
        if table.classes != second.classes:
            _check_names(one, table, other, second)
        _check_counting(one, table, other, second)
    leading = [name for name in named if name not in judged] or list(named)
    classes = tuple(dict.fromkeys(c for name in leading for c in named[name].classes))
    met = {}
    for name, table in tables.items():
        met[name] = renumbered(table, classes, name) if table.classes and classes else table
    return met


def renumbered(table: Table, classes: Sequence[str], field: str) -> Table:
    """A table whose labels are numbers in another list of classes.

    Raises:
      UserError: an example of a class that is not in the list.
    """
    classes = tuple(classes)
    if table.classes == classes:
        return table
    of_name = {name: number for number, name in enumerate(classes)}
    numbers = np.array([of_name.get(name, -1) for name in table.classes])
    columns = dict(table.columns)
    held: Collection[int] = table.seen
    if table.labels is not None:
        wide = np.zeros((len(table), len(classes)), bool)
        wide[:, numbers[numbers >= 0]] = np.asarray(table.labels)[:, numbers >= 0]
        held = np.flatnonzero(np.asarray(table.labels).any(axis=0)).tolist()
        columns["labels"] = wide
    lacking = [table.classes[number] for number in held if numbers[number] < 0]
    if lacking:
        listed = ", ".join(map(repr, classes[:20])) + (", …" if len(classes) > 20 else "")
        expected = f"classes by the names that they are learned by: {listed}; or classes=(...)"
        raise wrong(f"{field}: classes", lacking[:20], expected)
    if table.label is not None:
        columns["label"] = numbers[np.asarray(table.label)]
    return Table(**columns, classes=classes, field=field)


def _check_names(one: str, table: Table, other: str, second: Table) -> None:
    """Refuses names that are the same to a reader and not to a computer."""
    theirs = {_folded(name): name for name in second.classes}
    for name in table.classes:
        like = theirs.get(_folded(name), name)
        if like != name and like not in table.classes and name not in second.classes:
            raise UserError(
                f"{other}: class {like!r} is {name!r} in {one}; expected a class to have one name "
                "in all data, as classes meet by name"
            )


def _folded(name: str) -> str:
    """A name without what two writers may write differently."""
    folded = re.sub(r"[\s_\-]+", "", unicodedata.normalize("NFKC", name).casefold())
    return folded.lstrip("0") or "0" if folded.isdecimal() else folded


def _check_counting(one: str, table: Table, other: str, second: Table) -> None:
    """Refuses labels without names of which one table's begin at 0 and the other's at 1."""
    if not (table.seen and second.seen and _counted(table) and _counted(second)):
        return
    (first, last), (begins, ends) = ((t.seen[0], t.seen[-1]) for t in (table, second))
    if {first, begins} == {0, 1} and ends - last == begins - first and last > first:
        raise UserError(
            f"{other}: labels {begins} to {ends}, those of {one} are {first} to {last}; expected "
            "both to count from 0, or classes with names"
        )


def _counted(table: Table) -> bool:
    """Whether the classes are numbers for want of names."""
    return table.classes == tuple(map(str, range(len(table.classes))))


def class_numbers(
    classes: Sequence[str | int] | None, names: tuple[str, ...], field: str
) -> list[int]:
    """The numbers of `classes`, given as names or numbers; of all of them, for None."""
    if classes is None:
        return list(range(len(names)))
    if isinstance(classes, str) or not isinstance(classes, Sequence) or not classes:
        raise wrong(field, classes, "a list of names or numbers of classes, at least one, or None")
    numbers = []
    for entry in classes:
        if isinstance(entry, str):
            if entry not in names:
                raise unknown(field, entry, names)
            numbers.append(names.index(entry))
        elif type(entry) is int and 0 <= entry < len(names):
            numbers.append(entry)
        else:
            raise wrong(field, entry, f"a name, or a whole number from 0 to {len(names) - 1}")
    return numbers

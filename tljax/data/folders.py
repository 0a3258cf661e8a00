"""Directories of pictures: `folder:DIR`, its layouts and what of it is left out."""

import functools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tljax.data import lists, pictures
from tljax.data.formats import Request, Rows, Splits, check_file, in_order
from tljax.data.table import Table
from tljax.errors import UserError, reading, warn, wrong

# What systems leave in directories; and the names by which parts of a data set go.
_LEFT = {"__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information",
         "lost+found", "thumbs.db", "desktop.ini"}  # fmt: skip
SPLIT = re.compile(
    r"(train|test|val|valid|dev|eval|unlabell?ed|extra|query|gallery|hold[ _.-]?out)(ing|idation|"
    r"uation)?([ _.-]?(set|data|images?|imgs?|split))?[ _.-]?([a-d]|\d+)?",
    re.IGNORECASE,
)
UNREAD = "no picture that PIL reads"
QUIET = ("hidden", "beside")  # how reasons begin for which nobody is warned


def read_folder(request: Request) -> Splits:
    """Pictures in DIR/<split>/<class>/**, in DIR/<class>/** (`train`), without classes, in lists.

    Pictures straight in DIR/<split>/ or in DIR (`train`) are unlabelled. Directories that hold
    pictures are classes, but for names such as `train` and `test`; what may be both is refused. A
    list DIR/NAME.txt or DIR/image_list/NAME.txt is the split NAME, see `lists.read`. Classes are
    sorted by name, as numbers if all are, and the same for every split; a directory is one if it
    holds a picture in any of them.
    """
    base = request.directory()
    top = _listed(base, request)
    holders = [d for d in top.directories if _holds(d, request)]
    texts = lists.texts(base)
    begun = {path for path in texts if lists.begins(path, base, request)}
    try:
        homes, classes = _homes(base, top, holders, request)
    except UserError:
        if not begun:  # lists need no layout
            raise
        homes, classes = {}, ()
    splits: dict[str, Callable[[], Rows]] = {
        name: functools.partial(_home_rows, home, classes, request) for name, home in homes.items()
    }
    read = functools.cache(functools.partial(lists.read, base=base, request=request))
    for path in texts:
        name = Path(path).stem
        rows = functools.partial(lists.rows, path, texts, read, classes, request)
        if (homes or begun) and path not in begun:
            request.skipped[path] = "beside the splits, and no list of pictures"
            if name not in splits:
                request.aside[name] = rows  # if it is asked for, it says what is wrong
            continue
        if name in homes:
            request.skipped[homes[name]] = f"beside the list {path}, which has its name"
        splits[name] = rows
    if not splits:
        expected = (
            "pictures, *.png, *.jpg and what else PIL reads, in DIR/<split>/<class>/, DIR/<class>/,"
            " DIR/<split>/ or DIR, or lists of them DIR/NAME.txt"
        )
        raise wrong(request.field, str(base), f"{expected}{lacking(request)}")
    return {**request.aside, **splits}


# Layouts.


class _Listed(NamedTuple):
    """What a directory shows, by paths in order."""

    directories: list[str]
    files: list[str]  # pictures, or of the suffixes that are asked for
    others: list[str]


def _listed(folder: str | Path, request: Request) -> _Listed:
    shown, suffixes = _Listed([], [], []), request.suffixes or pictures.suffixes()
    with reading(request.field, folder, "a directory that can be read"), os.scandir(folder) as all_:
        for entry in sorted(all_, key=lambda entry: entry.name):
            if _hidden(entry.name):
                request.skipped[entry.path] = "hidden, or left by the system"
            elif entry.name == "image_list" and folder == request.path:
                continue
            elif _is_directory(entry):
                shown.directories.append(entry.path)
            elif os.path.splitext(entry.name)[1].lower() not in suffixes:
                shown.others.append(entry.path)
            else:
                if entry.is_symlink() or not entry.is_file():
                    check_file(entry.path, request.field)
                shown.files.append(entry.path)
    return shown


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LEFT


def _is_directory(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; if it is called like a picture, it is refused as one
        return False


def walk(folder: str, request: Request, above: tuple = ()) -> Iterator[_Listed]:
    """What a directory shows, then those in it; one that leads back to itself is refused."""
    with reading(request.field, folder):
        status = os.stat(folder)
    at = (status.st_dev, status.st_ino)
    if at in above:
        raise wrong(request.field, folder, "a directory, not a link back to one that it is in")
    shown = _listed(folder, request)
    yield shown
    for directory in shown.directories:
        yield from walk(directory, request, (*above, at))


def _holds(folder: str, request: Request) -> bool:
    return any(shown.files for shown in walk(folder, request))


def _homes(
    base: Path, top: _Listed, holders: list[str], request: Request
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The directory of each split, and the names of the classes."""
    flat = [directory for directory in holders if _listed(directory, request).files]
    named = [directory for directory in holders if SPLIT.fullmatch(_name(directory))]
    rest = [directory for directory in holders if directory not in named]
    if not holders or not (named or len(flat) < len(holders)):  # classes, or pictures alone
        if holders and top.files:
            _refuse_both(base, top.files, holders, request)
        homes = {"train": str(base)} if holders or top.files else {}
    elif (named and (not rest or len(flat) < len(holders))) or not flat:
        homes = {_name(directory): directory for directory in holders}
        request.skip(top.files, "a picture in no split")
    else:
        one = _name((named or flat)[0])
        other = _name(next(d for d in holders if (d in rest if named else d not in flat)))
        expected = f"splits alone or classes alone; {one!r} looks like the one, {other!r} like the "
        expected += f"other. Put all classes into {base / 'train'}, or rename"
        raise wrong(request.field, str(base), expected)
    inner = [d for home in homes.values() for d in _listed(home, request).directories]
    classes = {_name(directory) for directory in inner if _holds(directory, request)}
    if str(base) not in homes.values():
        for directory in set(top.directories) - set(holders):
            if SPLIT.fullmatch(_name(directory)):
                homes[_name(directory)] = directory  # it says what it lacks when it is asked for
            else:
                inner.append(directory)
        request.skip(top.others, "beside the splits, and no picture")
    lacking = [directory for directory in inner if _name(directory) not in classes]
    for directory in lacking:
        if directory not in holders:
            request.skipped[directory] = "a directory without pictures in any split"
    return homes, in_order(classes)


def _refuse_both(
    home: str | Path, images: Sequence[str], directories: Sequence[str], request: Request
) -> None:
    found = f"{len(images)} pictures such as {_name(images[0])!r} lie beside the directory"
    expected = f"pictures in directories of classes, or all straight in it; {found}"
    raise wrong(request.field, str(home), f"{expected} {_name(directories[0])!r}")


def _name(path: str) -> str:
    return os.path.basename(path)


def _home_rows(home: str, classes: tuple[str, ...], request: Request) -> Rows:
    """The pictures of one split, each labelled by the directory of its class; or without labels."""
    shown = _listed(home, request)
    holders = [directory for directory in shown.directories if _holds(directory, request)]
    if shown.files and holders:
        _refuse_both(home, shown.files, holders, request)
    if holders and all(SPLIT.fullmatch(_name(directory)) for directory in holders):
        _refuse_level(home, "holds splits, not classes", request)
    request.skip(shown.others, "beside the classes, and no picture" if holders else UNREAD)
    place = {name: label for label, name in enumerate(classes)}
    paths, labels = list(shown.files), []
    for directory in sorted(shown.directories, key=lambda path: place.get(_name(path), -1)):
        first, *deeper = walk(directory, request)
        if len(classes) == 1 and not first.files and len(first.directories) > 1:
            _refuse_level(directory, "would be the only class, and holds directories", request)
        for within in (first, *deeper):
            request.skip(within.others, UNREAD)
        images = sorted(path for within in (first, *deeper) for path in within.files)
        paths += images
        labels += [place[_name(directory)]] * len(images) if images else []
    if not paths:
        expected = f"pictures, *.png, *.jpg and what else PIL reads{lacking(request)}"
        raise wrong(request.field, home, expected)
    table = Table(
        input=pictures.files(paths, request),
        label=labels if holders else None,
        classes=classes,
        field=request.field,
    )
    return Rows(table, bare="" if holders else f"{home} holds pictures, no directories of classes")


def _refuse_level(home: str, found: str, request: Request) -> None:
    expected = f"directories of classes; it {found}: name 'folder:{home}'"
    raise wrong(request.field, home, expected)


# What was left out.


def loud(request: Request) -> list[tuple[str, str]]:
    """What was skipped that a user may miss: path and why, in order."""
    return sorted(item for item in request.skipped.items() if not item[1].startswith(QUIET))


def lacking(request: Request) -> str:
    """Of a refusal for want of pictures: what is there instead."""
    items = loud(request)
    return f"; there is {items[0][0]!r}, {items[0][1]}, and {len(items) - 1} more" if items else ""


@functools.cache
def tell(where: str, items: tuple[tuple[str, str], ...]) -> None:
    """One line for what was skipped, once in a process."""
    named = ", ".join(f"{os.path.relpath(path, where)} ({why})" for path, why in items[:3])
    more = f", and {len(items) - 3} more" if len(items) > 3 else ""
    line = f"{where}: {len(items)} skipped: {named}{more}; tljax data lists them"
    warn(line.encode(errors="backslashreplace").decode())

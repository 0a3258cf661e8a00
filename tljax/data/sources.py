"""Where data comes from: `load("folder:~/office31", "amazon[:80%]")` and the like."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tljax.checks import SHARE, positive
from tljax.data import pictures, views
from tljax.data import splits as splitting
from tljax.data import where as choosing
from tljax.data.arrays import read_npz
from tljax.data.bundled import BUNDLED, read_digits, read_pairs
from tljax.data.classes import class_numbers
from tljax.data.folders import loud, read_folder, tell
from tljax.data.formats import Request, Rows, Splits, first, read_idx
from tljax.data.given import at_hand, strata
from tljax.data.lazy import Lazy, rows_of
from tljax.data.prepared import read_tfds
from tljax.data.recordings import read_wav
from tljax.data.shards import read_tar
from tljax.data.table import TARGETS, Table
from tljax.data.texts import read_text
from tljax.errors import reading, unknown, wrong


def load(
    data: Any,
    split: str,
    *,
    field: str = "data",
    labelled: bool = True,
    stratified: bool = False,
    where: Mapping[str, Any] | None = None,
    classes: Sequence[str | int] | None = None,
    per_class: int | None = None,
    skip: int = 0,
    seed: int = 0,
    size: int | None = None,
    view: Mapping[str, Any] | views.HostView | None = None,
    channels: int | None = None,
    background: str = "white",
    rate: int | None = None,
    seconds: float | None = None,
    damaged: float = 0.0,
    root: str | None = None,
    limit_bytes: float = math.inf,
    known: "Known | None" = None,
) -> Table:
    """Opens a split of a data set; arrays are read at once, files are decoded when asked for.

    Args:
      data: `digits`, `pairs`, `idx:DIR`, `folder:DIR`, `tar:PATTERN`, `wav:DIR`, `npz:FILE`,
        `text:FILE` or `tfds:NAME[/CONFIG]`; `SCHEMES` holds the reader of each. Or what is at hand:
        an array `[n, ...]`, a table, a list of files of pictures or sounds.
      split: in TFDS's grammar, for every source: `train[:80%]+test`.
      field: where `data` was given, for error messages; its siblings are named after it.
      labelled: whether `label`, `labels`, `value` and `span` are kept. If not, they are not read,
        but for `label` to tell which examples are of `classes`.
      stratified: whether slices, by percent then, are of every class, of examples in an order that
        their names alone decide; see `splits.stratified`. Of data without labels, of all at once.
      where: keeps only the examples that fulfil these conditions, column -> a value, a list of
        them, or ("not", value, ...): `dict(speaker=("not", "jackson"), label="yes")`. Columns are
        `label`, by the names of classes, and those that the format knows.
      classes: keeps only the examples of these, given by name or, if integers, by number. Their
        labels stay what they are, numbers in the full list of classes.
      per_class: draws that many examples of each class, at least 1, and keeps them in the order of
        the split. A larger draw by the same seed contains the smaller, and `classes` takes
        whole classes out of a draw without changing what it holds of the others.
      skip: leaves out what the draw of so many examples holds: those that are left can judge what
        was trained on that one.
      seed: of that draw.
      size: resizes images to size x size pixels, bilinear with antialiasing (PIL's).
      view: makes pictures of differing sizes alike, instead of `size`: a name of `views.VIEWS`
        and its fields, `dict(name="resize_crop", resize=256, size=224)`. Through a random one the
        table stays lazy.
      channels: 1 or 3: grey by the luma of ITU-R 601, or colour. As stored, if left out; image
        files are then read as colour.
      background: the colour behind transparent picture files, by PIL's names.
      rate: samples a second, to which sounds are resampled; None: as stored, the same for all.
      seconds: cuts sounds to so many, or fills them up with zeros; None: as long as the longest.
      damaged: the share of pictures that may be damaged, in [0, 1]; 0: the first one is refused.
      root: the directory that relative paths start from, and TFDS's data directory.
      limit_bytes: inputs of an array of more bytes stay in their file, which is mapped; those of
        a compressed one are read.
      known: what other calls have found; added to, so that files are listed once.

    Returns:
      The table; images are uint8 in 0..255, or float32 as stored. Texts are texts still:
      `tokens.tokenised`.

    Raises:
      UserError: what cannot be read, or does not fit together.
    """
    beside = f"{field.rpartition('.')[0]}.".lstrip(".")
    whole = (("per_class", per_class, 1), ("size", size, 1), ("seed", seed, 0), ("skip", skip, 0))
    for name, count, least in (*whole, ("rate", rate, 1)):
        optional = count is None and name in ("per_class", "size", "rate")
        if not optional and (type(count) is not int or count < least):
            raise wrong(beside + name, count, f"a whole number of at least {least}")
    if skip and skip >= (per_class or 0):
        raise wrong(beside + "skip", skip, f"less than {beside}per_class, which is {per_class}")
    if channels not in (None, 1, 3):
        raise wrong(beside + "channels", channels, "1, 3 or None")
    if view and not isinstance(view, views.HostView):
        view = views.parse(view, beside + "view")
    if view and size:
        raise wrong(beside + "size", size, "None, as the view makes pictures alike")
    SHARE.fit(damaged, beside + "damaged")
    if seconds is not None:
        positive(beside + "seconds", seconds)
    if per_class and not labelled:
        raise wrong(beside + "per_class", per_class, "None for unlabelled data, as it uses labels")

    conditions = dict(where or {})
    reads = classes is not None or stratified or "label" in conditions
    targets = TARGETS if labelled else ("label",) if reads else ()
    behind = pictures.colour(background, beside + "background")
    with reading(field, str(data)):
        options = (field, targets, root, behind, limit_bytes, rate, seconds)
        known = Known() if known is None else known
        same = repr((data, options)) if isinstance(data, str) else ""
        request, found = known.get(same) or opened(data, *options)
        splits = {n: rows for n, rows in found.items() if split != "all" or n not in request.aside}
        # A split that is not mentioned stays closed: its size plays no part.
        asked = splits if split == "all" else [name for name in splits if name in str(split)]
        held = {name: splits[name]() for name in asked}
        files = {name: rows for name, rows in held.items() if isinstance(rows.table.input, Lazy)}
        if same and files:  # arrays are not held twice
            known[same] = request, {**found, **{n: _same(rows) for n, rows in files.items()}}
    if items := loud(request):
        tell(str(request.path), tuple(items))
    sizes = {name: len(held[name].table) if name in held else 0 for name in splits}
    pieces, columns = [], []
    if stratified:
        of_split = functools.partial(strata, request, held)
        chosen = splitting.stratified(split, sizes, of_split, beside + "split")
    else:
        ranges = splitting.resolve(split, sizes, beside + "split")
        chosen = [(name, np.arange(start, stop)) for name, start, stop in ranges]
    for name, at in chosen:
        rows = held[name]
        piece = rows.table.take(at)
        if rows.label is not None and targets:
            with reading(field, data):
                piece = piece.with_column("label", rows.label[at])
        piece = piece if targets else piece.unlabelled()
        if labelled and not piece.labelled:
            bare = f" ({rows.bare})" if rows.bare else ""
            raise wrong(field, data, f"labels in its split {name!r}, or labelled=False{bare}")
        columns.append(choosing.told(conditions, rows, at, piece, beside + "where"))
        of_labels = dict(classes=classes, per_class=per_class) if piece.label is None else {}
        of_images = {} if rows.image else dict(size=size, view=view, channels=channels)
        of_sounds = {} if rows.sound else dict(rate=rate, seconds=seconds)
        for option, value in {**of_labels, **of_images, **of_sounds}.items():
            if value is not None:
                lacking = "'label'" if option in of_labels else "images"
                lacking = "sounds" if option in of_sounds else lacking
                raise wrong(beside + option, value, f"None, as split {name!r} holds no {lacking}")
        if size or channels:
            piece = piece.with_column("input", views.fitted(piece.input, size, channels, field))
        pieces.append(piece)
    table = _joined(pieces, field)
    if conditions:
        joined = {n: np.concatenate([each[n] for each in columns]) for n in conditions}
        table = table[choosing.chosen(conditions, joined, beside + "where")]
    if isinstance(view, views.HostView):
        table = views.viewed(table, view, field)
    if damaged and isinstance(table.input, Lazy):
        table = table.with_column("input", dataclasses.replace(table.input, damaged=damaged))
    kept = class_numbers(classes, table.classes, beside + "classes")
    if per_class:
        few = (per_class, skip, seed, beside + "per_class")
        table = table.take(splitting.drawn(table, kept, *few))
    elif classes is not None:
        table = table[np.isin(table.label, kept)]
        if not len(table):
            raise wrong(beside + "classes", tuple(classes), f"classes with examples in {split!r}")
    return table if labelled else table.unlabelled()


class Known(dict[str, tuple[Request, Splits]]):
    """The lists of files that sources have been found to hold."""


def _same(rows: Rows) -> Callable[[], Rows]:
    return lambda: rows


def opened(
    data: Any,
    field: str,
    targets: tuple[str, ...] = TARGETS,
    root: str | None = None,
    background: tuple[int, int, int] = (255, 255, 255),
    limit_bytes: float = math.inf,
    rate: int | None = None,
    seconds: float | None = None,
) -> tuple[Request, Splits]:
    """What is asked of the reader of a source, and the splits that it finds, none opened."""
    options = (field, targets, root, background, limit_bytes, rate, seconds)
    if not isinstance(data, str):
        return at_hand(data, Request("", *options))
    scheme, _, where = data.partition(":")
    if scheme not in SCHEMES:
        raise unknown(field, scheme, SCHEMES)
    if bool(where) == (scheme in BUNDLED):
        expected = f"{scheme!r} alone" if where else f"'{scheme}:' and its place or name"
        raise wrong(field, data, expected)
    request = Request(where, *options)
    return request, SCHEMES[scheme](request)


def _joined(pieces: Sequence[Table], field: str) -> Table:
    """One table of several, of the same source."""
    if len(pieces) == 1:
        return pieces[0]
    classes = max((piece.classes for piece in pieces), key=len)
    for piece in pieces:
        if piece.classes != classes[: len(piece.classes)]:
            raise wrong(field, piece.classes, f"splits of the same classes, {classes}")
        if piece.columns.keys() != pieces[0].columns.keys():
            expected = f"splits of the same columns, {list(pieces[0].columns)}"
            raise wrong(field, list(piece.columns), expected)
    columns: dict[str, Any] = {}
    for name in pieces[0].columns:
        parts = [piece.columns[name] for piece in pieces]
        if any(isinstance(part, Lazy) for part in parts):
            parts = [p if isinstance(p, Lazy) else rows_of(p, first, field) for p in parts]
            columns[name] = Lazy.concatenate(parts)
            continue
        kinds = sorted({(str(part.dtype), *part.shape[1:]) for part in parts})
        if len(kinds) > 1:
            raise wrong(field, kinds, f"{name!r} of one type and shape; size= resizes images")
        columns[name] = np.concatenate(parts)
    return Table(**columns, classes=classes or None, field=field)


SCHEMES: dict[str, Callable[[Request], Splits]] = {
    "digits": read_digits,
    "pairs": read_pairs,
    "idx": read_idx,
    "folder": read_folder,
    "tar": read_tar,
    "wav": read_wav,
    "npz": read_npz,
    "text": read_text,
    "tfds": read_tfds,
}

"""Where images and labels come from: `load("folder:~/office31", "amazon[:80%]")` and the like."""

import dataclasses
import difflib
import functools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tljax.data.formats import (
    Lazy,
    Request,
    Rows,
    Splits,
    read_digits,
    read_folder,
    read_idx,
    read_npz,
)
from tljax.data.splits import resolve
from tljax.errors import unknown, wrong


@dataclasses.dataclass(frozen=True)
class Table:
    """Images and labels of one split, with random access."""

    images: Any  # array [N, H, W, C], uint8 or float32; or lazy: len(), images[i] -> [H, W, C]
    labels: np.ndarray | None  # int32 [N], None when unlabelled
    classes: tuple[str, ...]  # names of classes; () where only labels would tell

    def __len__(self) -> int:
        return len(self.images)

    @property
    def resident(self) -> bool:
        """Whether the images are decoded and in memory."""
        return isinstance(self.images, np.ndarray)

    @property
    def nbytes(self) -> int:
        """Bytes of all images once decoded; of lazy ones, by the first."""
        return self.images.nbytes

    def take(self, indices: Sequence[int] | np.ndarray) -> "Table":
        """The examples at `indices`, in that order; lazy images stay lazy."""
        at = np.asarray(indices, np.int64)
        images = self.images.take(at) if isinstance(self.images, Lazy) else self.images[at]
        labels = None if self.labels is None else self.labels[at]
        return dataclasses.replace(self, images=images, labels=labels)


def load(
    data: str,
    split: str,
    *,
    field: str = "data",
    labelled: bool = True,
    per_class: int | None = None,
    seed: int = 0,
    size: int | None = None,
    channels: int | None = None,
    root: str | None = None,
) -> Table:
    """Opens a split of a data set; arrays are read at once, files are decoded when asked for.

    Args:
      data: `digits`, `idx:DIR`, `folder:DIR`, `npz:FILE` or `tfds:NAME[/CONFIG]`; `SCHEMES` holds
        the reader of each.
      split: in TFDS's grammar, for every source: `train[:80%]+test`.
      field: where `data` was given, for error messages; its siblings are named after it.
      labelled: whether labels are read. If not, they are dropped here.
      per_class: draws that many examples of each class, at least 1, and keeps them in the order of
        the split. A larger draw by the same seed contains the smaller.
      seed: of that draw.
      size: resizes images to size x size pixels, bilinear with antialiasing (PIL's).
      channels: 1 or 3: grey by the luma of ITU-R 601, or colour. As stored, if left out; image
        files are then read as colour.
      root: the directory that relative paths start from, and TFDS's data directory.

    Returns:
      The table, its images uint8 in 0..255 or float32 as stored.

    Raises:
      UserError: an unknown source or split, files missing or damaged, labels missing or out of
        range, a class with too few examples, images that do not fit together.
    """
    if not isinstance(data, str):
        raise wrong(field, data, "a source such as 'folder:DIR'")
    scheme, _, where = data.partition(":")
    if scheme not in SCHEMES:
        raise unknown(field, scheme, SCHEMES)
    if bool(where) == (scheme == "digits"):
        expected = "'digits' alone" if where else f"'{scheme}:' and its place or name"
        raise wrong(field, data, expected)
    beside = f"{field.rpartition('.')[0]}.".lstrip(".")
    for name, value, least in (("per_class", per_class, 1), ("size", size, 1), ("seed", seed, 0)):
        optional = value is None and name != "seed"
        if not optional and (type(value) is not int or value < least):
            raise wrong(beside + name, value, f"a whole number of at least {least}")
    if channels not in (None, 1, 3):
        raise wrong(beside + "channels", channels, "1, 3 or None")
    if per_class and not labelled:
        raise wrong(beside + "per_class", per_class, "None for unlabelled data, as it uses labels")

    splits = SCHEMES[scheme](Request(where, field, labelled, root))
    # A split that is not mentioned stays closed: its size plays no part.
    asked = splits if split == "all" else [name for name in splits if name in str(split)]
    rows = {name: splits[name]() for name in asked}
    sizes = {name: len(rows[name].images) if name in rows else 0 for name in splits}
    pieces = []
    for name, start, stop in resolve(split, sizes, beside + "split"):
        images, labels, classes = rows[name]
        if labelled and labels is None:
            raise wrong(field, data, f"labels in its split {name!r}, or labelled=False")
        piece = Table(images, labels if labelled else None, classes).take(range(start, stop))
        images = _fitted(piece.images, size, channels, field)
        pieces.append(dataclasses.replace(piece, images=images))
    table = _joined(pieces, field)
    if table.labels is not None:
        table = dataclasses.replace(table, labels=_checked(table.labels, table.classes, field))
    if per_class:
        table = table.take(_draw(table, per_class, seed, beside + "per_class"))
    return table


def materialise(table: Table, limit_bytes: int) -> Table:
    """Decodes a lazy table if its images then take at most `limit_bytes`; else returns it as it is.

    Raises:
      UserError: images of different shapes, or one that cannot be decoded.
    """
    if table.resident or table.nbytes > limit_bytes:
        return table
    first = table.images[0]
    images = np.empty((len(table), *first.shape), first.dtype)
    for i in range(len(table)):
        images[i] = table.images[i]
    return dataclasses.replace(table, images=images)


def _fitted(
    images: np.ndarray | Lazy, size: int | None, channels: int | None, field: str
) -> np.ndarray | Lazy:
    """Images of the given size and channels: arrays at once, lazy ones as they are decoded."""
    if not size and not channels:
        return images
    fit = functools.partial(_fit, size=size, channels=channels, field=field)
    if isinstance(images, Lazy):
        decode = functools.partial(_decode_and_fit, decode=images.decode, fit=fit)
        return dataclasses.replace(images, decode=decode)
    return np.stack([fit(image) for image in images])


def _decode_and_fit(item: Any, decode: Callable, fit: Callable) -> np.ndarray:
    return fit(decode(item))  # not a lambda: loader processes need to pickle it


_LUMA = np.array([19595, 38470, 7471])  # .299, .587, .114 in units of 2**-16, as PIL has them


def _fit(image: np.ndarray, size: int | None, channels: int | None, field: str) -> np.ndarray:
    """One image [H, W, C] as [size, size, channels], of the same type."""
    if channels and image.shape[-1] != channels:
        if image.shape[-1] not in (1, 3):
            raise wrong(field, image.shape, "images of 1 or 3 channels, to convert them")
        if channels == 3:
            image = np.repeat(image, 3, axis=-1)
        elif image.dtype == np.uint8:
            image = ((image @ _LUMA + 2**15) >> 16).astype(np.uint8)[..., None]
        else:
            image = (image @ (_LUMA / 2**16).astype(np.float32))[..., None]
    if size and image.shape[:2] != (size, size):
        from PIL import Image

        planes = [Image.fromarray(plane) for plane in np.moveaxis(image, -1, 0)]
        planes = [plane.resize((size, size), Image.Resampling.BILINEAR) for plane in planes]
        image = np.stack([np.asarray(plane) for plane in planes], axis=-1)
    return image


def _joined(pieces: Sequence[Table], field: str) -> Table:
    """One table of several, of the same source."""
    if len(pieces) == 1:
        return pieces[0]
    classes = max((piece.classes for piece in pieces), key=len)
    for piece in pieces:
        if piece.classes != classes[: len(piece.classes)]:
            raise wrong(field, piece.classes, f"splits of the same classes, {classes}")
    lazy = [piece.images for piece in pieces if isinstance(piece.images, Lazy)]
    arrays = [piece.images for piece in pieces if isinstance(piece.images, np.ndarray)]
    kinds = sorted({(str(array.dtype), *array.shape[1:]) for array in arrays})
    if len(kinds) > 1:
        raise wrong(field, kinds, "images of one type and shape; size= resizes them")
    images = np.concatenate(arrays) if arrays else Lazy.concatenate(lazy)
    labels = [piece.labels for piece in pieces if piece.labels is not None]
    return Table(images, np.concatenate(labels) if labels else None, classes)


def _checked(labels: np.ndarray, classes: tuple[str, ...], field: str) -> np.ndarray:
    """Labels as int32, all of them names of classes."""
    if not classes:
        raise wrong(field, classes, "at least one class")
    outside = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if outside.size:
        first = outside[0]
        expected = f"from 0 to {len(classes) - 1}, or labelled=False"
        raise wrong(field, int(labels[first]), f"the label of example {first} {expected}")
    return labels.astype(np.int32)


def _draw(table: Table, count: int, seed: int, field: str) -> np.ndarray:
    """The indices, ascending, of `count` examples of each class."""
    rng = np.random.default_rng(seed)
    chosen = []
    for label, name in enumerate(table.classes):
        members = np.flatnonzero(table.labels == label)
        if len(members) < count:
            raise wrong(field, count, f"at most {len(members)}, all that class {name!r} has")
        chosen.append(rng.permutation(members)[:count])
    return np.sort(np.concatenate(chosen))


def read_tfds(request: Request) -> Splits:
    """A data set with `image` and `label` that TFDS holds as array_record files; no TensorFlow."""
    import tensorflow_datasets as tfds

    field, name = request.field, request.where
    try:
        builder: Any = tfds.builder(name, data_dir=request.root)
    except tfds.core.DatasetNotFoundError:
        known = tfds.list_builders(with_community_datasets=False)
        near = difflib.get_close_matches(name.partition("/")[0], known, n=1, cutoff=0.5)
        hint = f". Did you mean {near[0]!r}?" if near else ""
        raise wrong(field, name, f"one of the names in tfds.list_builders(){hint}") from None
    except (ValueError, AssertionError, ImportError) as error:
        expected = textwrap.shorten(f"NAME or NAME/CONFIG of TFDS ({error})", 400)
        raise wrong(field, name, expected) from None
    features, names = builder.info.features, list(builder.info.splits)
    formats = {each.value for each in builder.info.available_file_formats()}
    if not names or "array_record" not in formats:
        command = f"tfds build {name} --file_format array_record"
        command += f" --data_dir {request.root}" if request.root else ""
        expected = f"a prepared data set: pip install 'tljax[tf]', then {command}"
        raise wrong(field, name, expected)
    if "image" not in features or features["image"].np_dtype not in (np.uint8, np.float32):
        raise wrong(field, name, f"uint8 or float32 'image' among its features {list(features)}")

    classes: tuple[str, ...] = ()
    label = features["label"] if "label" in features else None
    if isinstance(label, tfds.features.ClassLabel):
        classes = tuple(label.int2str(i) for i in range(label.num_classes or 0))
    records = builder.as_data_source(file_format="array_record")
    skip = {"image": tfds.decode.SkipDecoding()}
    encoded = builder.as_data_source(file_format="array_record", decoders=skip)

    def rows(split: str) -> Rows:
        items = [(split, row) for row in range(len(records[split]))]
        images = Lazy(functools.partial(_decode_record, records=records), items, field)
        return Rows(images, _RecordLabels(encoded[split]) if classes else None, classes)

    return {split: functools.partial(rows, split) for split in names}


def _decode_record(item: tuple[str, int], records: Mapping[str, Any]) -> np.ndarray:
    split, row = item
    return np.asarray(records[split][row]["image"])


class _RecordLabels:
    """The labels of records, read for the indices that are asked for; no image is decoded."""

    def __init__(self, records: Any):
        self.records = records

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return np.array([self.records[int(i)]["label"] for i in indices])


SCHEMES: dict[str, Callable[[Request], Splits]] = {
    "digits": read_digits,
    "idx": read_idx,
    "folder": read_folder,
    "npz": read_npz,
    "tfds": read_tfds,
}

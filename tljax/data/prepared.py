"""Data sets that TFDS has prepared, read without TensorFlow."""

import difflib
import functools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tljax.data import pictures
from tljax.data.formats import Request, Rows, Splits
from tljax.data.lazy import Lazy
from tljax.data.table import Table
from tljax.data.texts import splits_of
from tljax.errors import wrong


def read_tfds(request: Request) -> Splits:
    """A data set with `image` and `label` that TFDS holds as array_record files; no TensorFlow.

    Of one without images the texts, see `texts.read_text`.
    """
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
    formats = {entry.value for entry in builder.info.available_file_formats()}
    if not names or "array_record" not in formats:
        command = f"tfds build {name} --file_format array_record"
        command += f" --data_dir {request.root}" if request.root else ""
        expected = f"a prepared data set: pip install 'tljax[tf]', then {command}"
        raise wrong(field, name, expected)
    worded = [each for each in features if isinstance(features[each], tfds.features.Text)]
    if "image" not in features and worded:
        return _texts(builder, names, request)
    if "image" not in features or features["image"].np_dtype not in (np.uint8, np.float32):
        raise wrong(field, name, f"uint8 or float32 'image' among its features {list(features)}")

    classes = _classes(features)
    records = builder.as_data_source(file_format="array_record")
    skip = {"image": tfds.decode.SkipDecoding()}
    encoded = builder.as_data_source(file_format="array_record", decoders=skip)

    coloured = features["image"].np_dtype == np.uint8 and features["image"].shape[-1] == 3

    def rows(split: str) -> Rows:
        items = [(split, row) for row in range(len(records[split]))]
        read: Any = functools.partial(_decode_record, records=records)
        if coloured:  # as those of files are
            read = functools.partial(_decode_picture, records=encoded, name=name, request=request)
        images = Lazy(read, items, field)
        table = Table(input=images, classes=classes, field=field)
        return Rows(table, label=_RecordLabels(encoded[split]) if classes else None)

    return {split: functools.partial(rows, split) for split in names}


def _classes(features: Any) -> tuple[str, ...]:
    """The names of classes, where labels have them."""
    label = features["label"] if "label" in features else None
    names = getattr(label, "int2str", None)
    return tuple(map(names, range(label.num_classes or 0))) if label and names else ()


def _texts(builder: Any, names: Sequence[str], request: Request) -> Splits:
    """The splits of a data set of texts."""
    classes = _classes(builder.info.features)

    def read(split: str) -> list[dict[str, Any]]:
        records = [
            _plain(each) for each in builder.as_data_source(split, file_format="array_record")
        ]
        for record in records:
            if classes and record["label"] >= 0:
                record["label"] = classes[record["label"]]
        return records

    kept = {split: functools.cache(functools.partial(read, split)) for split in names}
    return splits_of(kept, request, classes)


def _plain(value: Any) -> Any:
    """Bytes as texts, arrays as lists, at any depth."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.ndarray):
        return [_plain(each) for each in value] if value.ndim else _plain(value.item())
    return value.item() if isinstance(value, np.generic) else value


def _decode_record(item: tuple[str, int], records: Mapping[str, Any]) -> np.ndarray:
    split, row = item
    return np.asarray(records[split][row]["image"])


def _decode_picture(
    item: tuple[str, int], records: Mapping[str, Any], name: str, request: Request
) -> np.ndarray:
    split, row = item
    data = records[split][row]["image"]
    return pictures.decode(data, f"{name}/{split}[{row}]", request.field, request.background)


class _RecordLabels:
    """The labels of records, read for the indices that are asked for; no image is decoded."""

    def __init__(self, records: Any):
        self.records = records

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return np.array([self.records[int(i)]["label"] for i in indices])

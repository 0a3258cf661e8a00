"""Shards of webdataset's convention."""

import io
import json
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from tljax.data.describe import lines
from tljax.data.sources import load
from tljax.errors import UserError


def png(value, size=4):
    file = io.BytesIO()
    Image.new("RGB", (size, size), (value, value, value)).save(file, "PNG")
    return file.getvalue()


def write(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            content = content if isinstance(content, bytes) else str(content).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def numbered(path, *values, kind="cls", label=lambda value: value % 3):
    files = {}
    for value in values:
        files[f"{value:06d}.png"] = png(value)
        files[f"{value:06d}.{kind}"] = label(value)
    return write(path, files)


def refused(tmp_path, says, pattern="*.tar"):
    with pytest.raises(UserError, match=says) as caught:
        load(f"tar:{tmp_path}/{pattern}", "train", field="streams.source.data").input[0]
    assert str(caught.value).startswith("streams.source.data: got")


def test_numbers_of_classes(tmp_path):
    numbered(tmp_path / "a-000.tar", 4, 7)
    numbered(tmp_path / "a-001.tar", 9, 11, 20)
    for pattern in ("a-*.tar", "a-{000..001}.tar", "*"):
        table = pickle.loads(pickle.dumps(load(f"tar:{tmp_path}/{pattern}", "train")))
        assert [int(image[0, 0, 0]) for image in table.input] == [4, 7, 9, 11, 20]
        assert table.label.tolist() == [1, 1, 0, 2, 2] and table.classes == ("0", "1", "2")
    assert len(load(f"tar:{tmp_path}/a-{{000..000}}.tar", "train")) == 2
    assert load(f"tar:{tmp_path}/*.tar", "train", classes=(2,), size=2).input.shape == (2, 2, 2, 3)


def test_names_of_classes_are_those_of_all_splits(tmp_path):
    kinds = {3: "owl", 4: "ant", 5: "bee"}
    numbered(tmp_path / "photos-train-0.tar", 3, 4, kind="txt", label=lambda v: kinds[v] + "\n")
    fields = {"label": "bee", "width": 4}
    numbered(tmp_path / "photos_val.tar", 5, kind="json", label=lambda v: json.dumps(fields))
    train, val = (load(f"tar:{tmp_path}/*.tar", split) for split in ("train", "val"))
    assert train.classes == val.classes == ("ant", "bee", "owl")
    assert train.label.tolist() == [2, 0] and val.label.tolist() == [1]


def test_without_labels(tmp_path):
    files = {"a/1.png": png(1), "b/1.png": png(2), "b/1.json": '{"width": 3}', "b/readme": "x"}
    write(tmp_path / "a.tar", {**files, "b/2.seg.png": png(3), "._b/3": ""})
    table = load(f"tar:{tmp_path}/a.tar", "train", labelled=False)
    assert [int(image[0, 0, 0]) for image in table.input] == [1, 2]
    refused(tmp_path, r"labels in its split 'train', or labelled=False \(.*holds no KEY.cls")


def test_it_is_described(tmp_path):
    numbered(tmp_path / "a-0.tar", 4, 7)
    write(tmp_path / "b-0.tar", {"1.png": png(9)[:50], "1.cls": 2, "2.dat": b""})
    said = "\n".join(lines(f"tar:{tmp_path}/*.tar"))
    assert "train: 3 examples of input, label" in said and "sizes: 4 x 4 (3)" in said
    assert "skipped: 1, no picture" in said and "modes: RGB (3)" in said


def test_damaged_pictures_are_named(tmp_path):
    write(tmp_path / "a.tar", {"1.png": png(9)[:50], "1.cls": 1, "2.png": png(7), "2.cls": 0})
    refused(tmp_path, r"a\.tar/1\.png'; expected a readable image")
    table = load(f"tar:{tmp_path}/a.tar", "train", damaged=0.5)
    assert table.input.first[0, 0, 0] == 7


def test_what_is_no_shard_is_refused(tmp_path):
    refused(tmp_path, "a pattern of shards")
    refused(tmp_path, "an existing tar file", "a-{0..1}.tar")
    write(tmp_path / "packed.tar", {"1.png": png(1), "1.cls": 1}, "w:gz")
    refused(tmp_path, r"packed.tar'; expected an undamaged tar file, not compressed", "packed*")
    whole = numbered(tmp_path / "cut.tar", 1, 2, 3).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2 - 700])
    refused(tmp_path, "cut.tar'; expected an undamaged tar file", "cut*")
    write(tmp_path / "empty.tar", {"1.txt": "no picture"})
    refused(tmp_path, "empty.tar'; expected pictures", "empty*")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"1.png": png(1), "1.cls": "owl"}, r"1\.cls'; expected the number of a class.*'owl'"),
        ({"1.png": png(1), "1.json": '{"label": [1]}'}, r"1\.json'; expected the number or"),
        ({"1.png": png(1), "1.cls": 1, "2.png": png(1)}, r"2\.png'; expected the number of"),
        ({"1.png": png(1), "1.cls": 1, "2.png": png(1), "2.txt": "a"}, r"2\.png'; expected the"),
        ({"1.png": png(1), "1.jpg": png(1)}, "one picture of a key; '1.jpg' is the second"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, files, says):
    write(tmp_path / "a.tar", files)
    refused(tmp_path, says)


def test_pictures_of_differing_sizes_meet_in_a_view(tmp_path):
    write(tmp_path / "a.tar", {"1.png": png(1, 9), "1.cls": 0, "2.png": png(2, 12), "2.cls": 1})
    view = dict(name="resize_crop", resize=8, size=5)
    table = load(f"tar:{tmp_path}/a.tar", "train", view=view)
    np.testing.assert_array_equal(table.input[1], np.full((5, 5, 3), 2))

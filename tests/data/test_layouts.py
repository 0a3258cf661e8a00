"""Directories of pictures as people keep them: read as they are, or refused with what is amiss."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tljax.data import describe, folders, semantics
from tljax.data.sources import load
from tljax.errors import Noticed, UserError
from tljax.main import main


@pytest.fixture
def put(tmp_path):
    """Writes files: a picture all of one value, counted up, or a text where one is given."""

    def write(*names, text=None):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is not None:
                path.write_text(text)
            elif path.suffix in (".png", ".tga", ".jp2", ".PNG", ".ppm"):
                value = len(list(tmp_path.rglob("*.*"))) % 250
                Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(path)
            else:
                path.write_bytes(b"?")
        return tmp_path

    folders.tell.cache_clear()
    return write


def names(table):
    return [Path(path).name for path in table.input.items]


def refused(root, *says, split="train", **options):
    with pytest.raises(UserError) as caught:
        table = load(f"folder:{root}", split, field="streams.source.data", **options)
        [table.input[i] for i in range(len(table))]
    line = str(caught.value)
    assert line.startswith("streams.source.") and "\n" not in line
    for each in says:
        assert each in line, line


@pytest.mark.parametrize(
    "splits",
    [
        ("train", "test"),
        ("Train", "Val"),
        ("trainA", "testB"),
        ("unlabeled", "train2017"),
        ("training", "validation_set"),
    ],
)
def test_pictures_straight_in_their_splits_are_unlabelled(put, splits):
    first, second = splits
    root = put(f"{first}/a.png", f"{first}/b.png", f"{second}/c.png")
    table = load(f"folder:{root}", first, labelled=False)
    assert names(table) == ["a.png", "b.png"] and not table.labelled
    assert names(load(f"folder:{root}", second, labelled=False)) == ["c.png"]
    refused(root, "labels in its split", "no directories of classes", split=first)


def test_pictures_alone_are_train(put):
    root = put("a.png", "b.png")
    put("notes.md")
    assert names(load(f"folder:{root}", "train", labelled=False)) == ["a.png", "b.png"]
    refused(root, "labels in its split 'train', or labelled=False")


def test_a_flat_test_beside_classes_has_their_names(put):
    root = put("train/cat/0.png", "train/dog/1.png", "test/2.png", "test/3.png")
    table = load(f"folder:{root}", "test", labelled=False)
    assert len(table) == 2 and table.classes == ("cat", "dog")
    assert load(f"folder:{root}", "train").label.tolist() == [0, 1]
    assert len(load(f"folder:{root}", "train+test", labelled=False)) == 4
    refused(root, "'test'", "labelled=False", split="test")


@pytest.mark.parametrize("deep", ["day1", "a/b/c"])
@pytest.mark.parametrize("home", ["train/", "photo/"])
def test_pictures_deeper_than_their_class_are_read(put, deep, home):
    root = put(f"{home}cat/0.png", f"{home}dog/{deep}/1.png", f"{home}dog/2.png")
    table = load(f"folder:{root}", home[:-1])
    assert sorted(names(table)) == ["0.png", "1.png", "2.png"]
    assert table.label.tolist() == [0, 1, 1] and table.classes == ("cat", "dog")


def test_classes_that_are_integers_are_ordered_as_numbers(put):
    root = put("train/10/a.png", "train/2/b.png", "train/1/c.png", "test/10/d.png")
    assert load(f"folder:{root}", "train").classes == ("1", "2", "10")
    assert load(f"folder:{root}", "test").label.tolist() == [2]
    root = put("mixed/train/10/a.png", "mixed/train/9b/b.png")
    assert load(f"folder:{root}/mixed", "train").classes == ("10", "9b")


def test_what_systems_leave_is_no_class(put):
    root = put("train/cat/0.png", "train/dog/1.png", "train/.ipynb_checkpoints/2.png",
               "__MACOSX/train/cat/._0.png", "train/cat/.hidden.png", "train/@eaDir/3.png",
               ".git/4.png", "train/cat/Thumbs.db")  # fmt: skip
    table = load(f"folder:{root}", "all")
    assert table.classes == ("cat", "dog") and names(table) == ["0.png", "1.png"]


def test_an_empty_class_counts_only_if_another_split_has_it(put, tmp_path):
    root = put("train/cat/0.png", "train/dog/1.png", "test/cat/2.png")
    for empty in ("test/dog", "train/ghost"):
        (tmp_path / empty).mkdir()
    assert load(f"folder:{root}", "test").classes == ("cat", "dog")
    said = "\n".join(describe.lines(f"folder:{root}"))
    assert "ghost" in said and "test/dog" not in said


def test_every_suffix_of_pil_is_read(put):
    root = put("train/a/0.tga", "train/a/1.jp2", "train/b/2.PNG", "train/b/3.ppm")
    assert load(f"folder:{root}", "train").label.tolist() == [0, 0, 1, 1]


def test_files_that_are_not_understood_are_counted_and_named(put, recwarn):
    root = put("train/a/0.png", "train/b/1.png", "train/a/2.heic", "train/b/deep/3.svg")
    put("README.md", "train/about.txt", "train/a/.hidden")
    load(f"folder:{root}", "train")
    load(f"folder:{root}", "train[:1]")
    [warning] = recwarn
    line = str(warning.message)
    assert "2 skipped" in line and "2.heic" in line and "3.svg" in line and "\n" not in line


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["a.png", "cat/0.png", "dog/1.png"], ["'a.png'", "beside", "'cat'"]),
        (["train/a.png", "train/cat/0.png"], ["'a.png'", "beside", "'cat'"]),
        (["train/0.png", "cat/1.png"], ["'train'", "'cat'", "splits alone or classes alone"]),
        (["cat/0.png", "dog/day1/1.png"], ["'cat'", "'dog'"]),
        (["data/train/a/0.png", "data/test/a/1.png"], ["unknown name 'train'", "data"]),
        (["train/cat/0.heic"], ["0.heic", "*.png"]),
        (["train/images/cat/0.png", "train/images/dog/1.png"], ["the only class", "train/images"]),
    ],
)  # fmt: skip
def test_layouts_that_may_mean_two_things(put, files, says):
    refused(put(*files), *says)


def test_a_level_too_high(put):
    refused(put("data/train/a/0.png", "data/test/a/1.png"), "holds splits", "data", split="data")


def test_a_picture_beside_splits_is_named(put):
    root = put("cover.png", "train/cat/0.png", "test/cat/1.png")
    with pytest.warns(Noticed, match="cover.png"):
        assert len(load(f"folder:{root}", "all")) == 2


# What is no picture, whatever its name.


def _socket(path):
    with socket.socket(socket.AF_UNIX) as end:
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's path is short
        try:
            end.bind(path.name)
        finally:
            os.chdir(here)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (os.mkfifo, "not a FIFO"),
        (_socket, "not a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "not a device"),
        (lambda path: path.symlink_to(path), "Too many levels"),
        (lambda path: path.symlink_to("nowhere"), "No such file"),
        (lambda path: path.symlink_to(path.parent), "directory"),
        (lambda path: path.write_bytes(b""), "a readable image"),
        (lambda path: path.mkdir() or (path / "loop").symlink_to(path), "link back"),
    ],
)
@pytest.mark.parametrize("listed", [False, True])
def test_what_is_no_file_is_refused_at_once(put, make, says, listed):
    root = put("train/cat/0.png", "train/cat/1.png")
    path = root / "train" / "cat" / "x.png"
    make(path)
    if listed:
        put("mine.txt", text="train/cat/0.png 0\ntrain/cat/x.png 0\n")
        if path.is_dir():
            return
    refused(root, "x.png", says, split="mine" if listed and not path.is_dir() else "train")


def test_links_are_followed(put):
    root = put("elsewhere/a/0.png", "data/train/b/1.png")
    (root / "data" / "train" / "a").symlink_to(root / "elsewhere" / "a")
    assert load(f"folder:{root}/data", "train").classes == ("a", "b")


@pytest.mark.parametrize("data", ["folder:", "idx:", "npz:"])
@pytest.mark.parametrize(
    ("place", "says"),
    [("x" * 5000, "too long"), ("\udcff", "No such"), ("a\0b", "null"), ("~nobody/x", "No such")],
)
def test_paths_that_no_system_has(data, place, says):
    with pytest.raises(UserError, match=says) as caught:
        load(data + place, "train", field="streams.source.data")
    assert str(caught.value).startswith("streams.source.data: ")


def test_a_directory_that_is_closed_to_us(put, monkeypatch):
    root = put("train/cat/0.png", "train/dog/1.png")
    scan = os.scandir

    def closed(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    refused(root, "dog", "Permission denied")


def test_a_picture_that_is_closed_to_us(put, monkeypatch):
    root = put("train/cat/0.png", "train/dog/1.png")
    table = load(f"folder:{root}", "train", field="streams.source.data")

    def closed(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Image, "open", closed)
    with pytest.raises(UserError, match=r"streams.source.data: .*0.png.*Permission denied"):
        table.input[0]


# Lists.


@pytest.mark.parametrize(
    "text",
    [
        "im/0.png 1\nim/1.png 0\n",
        "\ufeffim/0.png 1\nim/1.png 0",
        "# a list\n\nim/0.png,1\nim/1.png, 0",
        "im/0.png\t1\r\nim/1.png\t0\r\n",
        "im/0.png; 1\n   \nim/1.png;0\n",
    ],
)
def test_lists_of_numbers(put, text):
    root = put("im/0.png", "im/1.png")
    put("mine.txt", text=text)
    table = load(f"folder:{root}", "mine")
    assert table.label.tolist() == [1, 0] and names(table) == ["0.png", "1.png"]


def test_lists_of_names(put):
    root = put("im/my cat.png", "im/1.png", "im/2.png")
    put("mine.txt", text="im/my cat.png cat\nim/1.png golden retriever\n")
    put("other.txt", text="im/2.png ant\n")
    put("README.txt", text="About these data.\n")
    table = load(f"folder:{root}", "mine")
    assert table.classes == ("ant", "cat", "golden retriever") and table.label.tolist() == [1, 2]
    assert load(f"folder:{root}", "other").label.tolist() == [0]
    # The names of directories of classes, where there are such.
    root = put("d/train/ant/0.png", "d/train/cat/1.png", "d/train/yak/2.png")
    put("d/few.txt", text="train/cat/1.png cat\n")
    assert load(f"folder:{root}/d", "few").label.tolist() == [1]


def test_lists_without_labels(put):
    root = put("im/my cat.png", "im/1.png")
    put("mine.txt", text="im/my cat.png\nim/1.png\n")
    assert names(load(f"folder:{root}", "mine", labelled=False)) == ["my cat.png", "1.png"]
    refused(root, "mine.txt lists paths without labels", split="mine")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("im/0.png 1\nim/1.png\n", "line 2"),
        ("im/0.png 1\nim/1.png cat\n", "line 2"),
        ("im/0.png 0.5\n", "line 1"),
        ("im/0.png 1\nim/9.png 1\n", "'im/9.png'"),
        ("# nothing\n", "empty"),
    ],
)
def test_lists_that_cannot_be_read(put, text, says):
    root = put("im/0.png", "im/1.png")
    put("mine.txt", text=text)
    refused(root, says, "mine.txt", split="mine")


# What is understood, in print.


def test_the_command_says_what_is_understood(put, capsys):
    root = put("train/cat/0.png", "train/dog/1.png", "train/dog/2.heic", "test/3.png", "LICENSE")
    assert main(["tljax", "data", "--data", f"folder:{root}"]) == 0
    said = capsys.readouterr().out
    for part in ("train: 2 examples", "cat: 1", "4 x 4 (2)", "RGB (2)", "2.heic", "no picture",
                 "test: 1 examples", "no directories of classes", "LICENSE"):  # fmt: skip
        assert part in said
    assert main(["tljax", "data", "--data", f"folder:{root}", "--split", "test"]) == 0
    assert "train:" not in capsys.readouterr().out
    for flags in (["--data", "folder:nowhere"], ["--split", "x", "--data", f"folder:{root}"], []):
        assert main(["tljax", "data", *flags]) == 2
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1 and not captured.out


def test_what_cannot_be_opened_is_told_beside_the_rest(put, capsys):
    root = put("im/0.png")
    put("some.txt", text="im/0.png 1\nim/0.png x\n")
    assert main(["tljax", "data", "--data", f"folder:{root}"]) == 0
    assert "some: cannot be opened" in capsys.readouterr().out
    assert main(["tljax", "data", "--data", f"folder:{root}", "--split", "sone"]) == 2
    assert "Did you mean 'some'?" in capsys.readouterr().err


def test_arrays_in_print(tmp_path):
    np.savez(
        tmp_path / "a.npz", x_train=np.zeros((3, 5)), y_train=[0, 1, 1], x_test=np.ones((2, 5))
    )
    said = "\n".join(describe.lines(f"npz:{tmp_path}/a.npz"))
    assert (
        "train: 3 examples" in said and "1: 2" in said and "float32" in said and "test: 2" in said
    )


# Tables of classes.


@pytest.mark.parametrize(("sign", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_other_signs_between_cells(tmp_path, sign, name):
    path = tmp_path / "a.csv"
    path.write_text(f"class{sign}legs\nant{sign}6\n")
    with pytest.raises(UserError, match=f"tables.a.data: .*not {name}"):
        semantics.load_semantics(f"csv:{path}", ["ant"], field="tables.a.data")


@pytest.mark.parametrize("scheme", ["csv", "npz", "glove", "word2vec"])
def test_tables_in_a_fifo(tmp_path, scheme):
    os.mkfifo(tmp_path / "a")
    with pytest.raises(UserError, match="not a FIFO"):
        semantics.load_semantics(f"{scheme}:{tmp_path}/a", ["ant"])

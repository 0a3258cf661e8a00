"""Directories are read by where the pictures are; nothing vanishes without a word."""

import os
import socket

import numpy as np
import pytest
from PIL import Image

from tljax.data.sources import load, materialise
from tljax.errors import Noticed, UserError
from tljax.main import main


def write(root, *names, size=4):
    for place, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((size, size, 3), place * 10, np.uint8)).save(path)


def labels(root, split="train", **options):
    table = load(f"folder:{root}", split, **options)
    return table.classes, None if table.label is None else table.label.tolist()


def refused(root, *needles, split="train", **options):
    with pytest.raises(UserError) as caught:
        load(f"folder:{root}", split, **options)
    assert all(needle in str(caught.value) for needle in needles), caught.value


class TestLayouts:
    def test_pictures_straight_in_splits_are_unlabelled(self, tmp_path):
        write(tmp_path, "train/0.png", "train/1.png", "test/2.png")
        assert labels(tmp_path, "train", labelled=False) == ((), None)
        assert len(load(f"folder:{tmp_path}", "test", labelled=False)) == 1
        refused(tmp_path, "labels in its split 'train', or labelled=False")

    def test_pictures_straight_in_the_directory_are_its_train_split(self, tmp_path):
        write(tmp_path, "0.png", "1.jpg")
        assert len(load(f"folder:{tmp_path}", "train", labelled=False)) == 2

    def test_a_labelled_split_beside_a_flat_one(self, tmp_path):
        write(tmp_path, "train/cat/0.png", "train/dog/1.png", "test/2.png", "test/3.png")
        assert labels(tmp_path) == (("cat", "dog"), [0, 1])
        assert len(load(f"folder:{tmp_path}", "test", labelled=False)) == 2

    def test_pictures_deeper_than_their_class_are_read(self, tmp_path):
        write(tmp_path, "train/cat/0.png", "train/dog/day1/a/1.png", "train/dog/day2/2.png")
        assert labels(tmp_path) == (("cat", "dog"), [0, 1, 1])

    def test_pictures_beside_classes_are_refused(self, tmp_path):
        write(tmp_path, "train/cat/0.png", "train/stray.png")
        refused(tmp_path, "stray.png", "beside the directory 'cat'")

    def test_numbers_are_in_the_order_of_numbers(self, tmp_path):
        write(tmp_path, *(f"train/{number}/0.png" for number in (10, 2, 1)))
        assert labels(tmp_path) == (("1", "2", "10"), [0, 1, 2])

    @pytest.mark.parametrize(
        "name", ["__MACOSX", ".ipynb_checkpoints", "@eaDir", "__pycache__", ".thumbnails"]
    )
    def test_what_systems_leave_is_no_class(self, tmp_path, name):
        write(tmp_path, "train/cat/0.png", f"train/{name}/1.png", f"{name}/2.png")
        assert labels(tmp_path) == (("cat",), [0])

    def test_a_class_that_one_split_lacks_keeps_its_number(self, tmp_path):
        write(tmp_path, "train/cat/0.png", "train/dog/1.png", "test/dog/2.png")
        assert labels(tmp_path, "test") == (("cat", "dog"), [1])

    def test_every_ending_that_the_decoder_knows_is_read(self, tmp_path):
        endings = ("png", "JPG", "jpeg", "jfif", "bmp", "webp", "tif", "gif", "ppm", "tga", "jp2")
        write(tmp_path, *(f"train/a/{i}.{end}" for i, end in enumerate(endings)))
        assert len(load(f"folder:{tmp_path}", "train")) == len(endings)

    def test_files_that_are_no_pictures_are_counted_and_named(self, tmp_path):
        write(tmp_path, "train/cat/0.png", "train/dog/1.png")
        for name in ("a.heic", "b.txt", "c.npy", "d.mp4"):
            (tmp_path / "train/dog" / name).write_bytes(b"x")
        with pytest.warns(Noticed, match=r"4 skipped: train/dog/a\.heic .*and 1 more"):
            load(f"folder:{tmp_path}", "train")

    def test_a_class_of_nothing_that_is_understood_is_named(self, tmp_path):
        write(tmp_path, "train/cat/0.png")
        (tmp_path / "train/dog").mkdir()
        (tmp_path / "train/dog/1.heic").write_bytes(b"x")
        with pytest.warns(Noticed, match="train/dog"):
            assert labels(tmp_path) == (("cat",), [0])

    def test_pictures_in_a_directory_beside_a_split_are_one_without_classes(self, tmp_path):
        write(tmp_path, "train/cat/0.png", "new photos/1.png")
        assert labels(tmp_path) == (("cat",), [0])
        assert len(load(f"folder:{tmp_path}", "new photos", labelled=False)) == 1

    def test_splits_beside_classes_are_refused(self, tmp_path):
        write(tmp_path, "train/0.png", "test/1.png", "dog/2.png")
        refused(tmp_path, "splits alone or classes alone")

    def test_a_link_back_to_a_directory_above_is_refused(self, tmp_path):
        write(tmp_path, "train/cat/0.png")
        (tmp_path / "train/cat/again").symlink_to(tmp_path / "train")
        refused(tmp_path, "not a link back")


class TestLists:
    @pytest.mark.parametrize(
        ("text", "classes", "expected"),
        [
            ("im/0.png\nim/1.png\n", (), None),
            ("\ufeffim/0.png 1\nim/1.png 0\n", ("0", "1"), [1, 0]),
            ("# a comment\n\nim/0.png 1\n  \nim/1.png 0\n", ("0", "1"), [1, 0]),
            ("im/0.png,1\nim/1.png,0\n", ("0", "1"), [1, 0]),
            ("im/0.png\tdog\nim/1.png\tcat\n", ("cat", "dog"), [1, 0]),
            ("im/0.png;dog\r\nim/1.png;cat\r\n", ("cat", "dog"), [1, 0]),
            ("im/with space.png 1\nim/1.png 0", ("0", "1"), [1, 0]),
        ],
    )
    def test_lists_as_people_write_them(self, tmp_path, text, classes, expected):
        write(tmp_path, "im/0.png", "im/1.png", "im/with space.png")
        (tmp_path / "some.txt").write_text(text, encoding="utf-8")
        assert labels(tmp_path, "some", labelled=expected is not None) == (classes, expected)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("im/0.png 1\nim/1.png\n", "line 2"),
            ("im/0.png 1\nim/1.png dog\n", "line 2"),
            ("im/0.png 1\nim/nine.png 0\n", "line 2"),
            ("im/0.png\n", "lists paths without labels"),
        ],
    )
    def test_lists_that_are_not_of_one_kind_are_refused(self, tmp_path, text, says):
        write(tmp_path, "im/0.png", "im/1.png")
        (tmp_path / "some.txt").write_text(text)
        refused(tmp_path, says, split="some")

    def test_a_text_that_is_no_list_is_no_part_of_all(self, tmp_path):
        write(tmp_path, "train/cat/0.png", "test/cat/1.png")
        (tmp_path / "README.txt").write_text("Pictures of cats.\n")
        assert len(load(f"folder:{tmp_path}", "all")) == 2


class TestStrangeFiles:
    def fifo(self, path):
        os.mkfifo(path)

    def socket(self, path):
        socket.socket(socket.AF_UNIX).bind(str(path))

    def loop(self, path):
        path.symlink_to(path)

    def broken(self, path):
        path.symlink_to(path.parent / "nowhere.png")

    def device(self, path):
        path.symlink_to("/dev/zero")

    def empty(self, path):
        path.write_bytes(b"")

    def cut(self, path):
        whole = (path.parent / "0.png").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])

    def bomb(self, path):
        Image.new("1", (12000, 12000)).save(path)

    @pytest.mark.parametrize(
        "kind", ["fifo", "socket", "loop", "broken", "device", "empty", "cut", "bomb"]
    )
    def test_they_are_refused_at_once_by_name(self, tmp_path, monkeypatch, kind):
        write(tmp_path, "train/a/0.png")
        monkeypatch.chdir(tmp_path / "train/a")  # a socket's path is short
        getattr(self, kind)(tmp_path / "train/a/9.png")
        with pytest.raises(UserError, match=r"data: got '.*9\.png'"):
            materialise(load(f"folder:{tmp_path}", "train", field="streams.source.data"), 10**9)

    def test_a_path_that_is_too_long_or_no_text_is_a_line(self, tmp_path, capsys):
        for name in ("x" * 300, "a\udcff"):
            assert main(["tljax", "data", f"--data=folder:{tmp_path}/{name}"]) == 2
            assert capsys.readouterr().err.count("\n") == 1


def test_what_cannot_be_opened_is_told_beside_the_rest(tmp_path, capsys):
    write(tmp_path, "im/0.png")
    (tmp_path / "some.txt").write_text("im/0.png 1\nim/0.png x\n")
    assert main(["tljax", "data", f"--data=folder:{tmp_path}"]) == 0
    assert "some: cannot be opened" in capsys.readouterr().out
    assert main(["tljax", "data", f"--data=folder:{tmp_path}", "--split=sone"]) == 2
    assert "Did you mean 'some'?" in capsys.readouterr().err

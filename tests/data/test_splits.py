"""`splits.resolve`: TFDS's grammar, and a line of our own for what it cannot mean."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_datasets.core.splits import SplitDict

from tljax.data import sources
from tljax.data.splits import resolve, stratified
from tljax.errors import UserError

SIZES = {"train": 200, "test": 50, "Real World": 9}


@pytest.mark.parametrize(
    ("split", "ranges"),
    [
        ("train", [("train", 0, 200)]),
        ("train[:50%]", [("train", 0, 100)]),
        ("train[80%:]+test", [("train", 160, 200), ("test", 0, 50)]),
        ("train[100:150] + train[:10]", [("train", 100, 150), ("train", 0, 10)]),
        ("train[-20:]", [("train", 180, 200)]),
        ("train[-20:-5]", [("train", 180, 195)]),
        ("test[0.5%:]", [("test", 0, 50)]),  # 0.25 of an example, rounded to the closest
        ("test[33%:67%]", [("test", 16, 34)]),  # 16.5 and 33.5: Python rounds halves to even
        ("Real World[:3]", [("Real World", 0, 3)]),
        ("all", [("train", 0, 200), ("test", 0, 50), ("Real World", 0, 9)]),
    ],
)
def test_ranges(split, ranges):
    assert resolve(split, SIZES, "split") == ranges


def test_a_split_named_all_is_that_split():
    assert resolve("all", {"all": 3, "train": 5}, "split") == [("all", 0, 3)]


@pytest.mark.parametrize(
    ("split", "says"),
    [
        ("trian", "unknown name 'trian'; expected one of: Real World, test, train. Did you mean"),
        ("train+", "unknown name ''"),
        ("", "unknown name ''"),
        ("train[", "got 'train['; expected a slice such as [:50%]"),
        ("train[:]", "expected a slice such as"),
        ("train[5]", "expected a slice such as"),
        ("train[a:b]", "expected a slice such as"),
        ("train[:5:2]", "expected a slice such as"),
        ("test+train[:101%]", "got 'train[:101%]'; expected a slice such as [:50%]"),
        ("train[-150%:]", "percentages from -100 to 100"),
        ("train[:201]", "got 'train[:201]'; expected bounds within its 200 examples"),
        ("train[-201:]", "bounds within its 200 examples"),
        ("train[50:20]", "at least one example of the 200 in 'train', not none"),
        ("train[5:5]", "at least one example"),
        ("Real World[:1%]", "at least one example of the 9"),
        ("train[:1shard]", "shards are TFDS's own"),
        (7, "got 7; expected a split such as 'train[:80%]+test'"),
    ],
)
def test_refusals_are_one_line(split, says):
    with pytest.raises(UserError) as caught:
        resolve(split, SIZES, "streams.source.split")
    assert str(caught.value).startswith("streams.source.split: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_split_is_refused():
    with pytest.raises(UserError, match="at least one example of the 0"):
        resolve("train", {"train": 0}, "split")


bounds = st.one_of(st.none(), st.integers(-120, 120))


@settings(max_examples=100, deadline=None)
@given(size=st.integers(1, 150), low=bounds, high=bounds, unit=st.sampled_from(["", "%"]))
def test_bounds_are_those_of_tfds(size, low, high, unit):
    """TFDS's `SplitDict` counts as many examples in the slice, or refuses it as we do."""
    low, high = ("" if bound is None else f"{bound}{unit}" for bound in (low, high))
    spec = f"train[{low}:{high}]"
    template = tfds.core.ShardedFileTemplate(
        data_dir=Path(), dataset_name="any", split="train", filetype_suffix="array_record"
    )
    info = tfds.core.SplitInfo("train", [size], 0, filename_template=template)
    try:
        expected = SplitDict([info])[spec].file_instructions
        [absolute] = tfds.core.ReadInstruction.from_spec(spec).to_absolute({"train": info})
        if (absolute.from_ or 0) >= (size if absolute.to is None else absolute.to):
            expected = []  # it ends before it begins, of which TFDS reads an example at times
    except ValueError:
        expected = []
    try:
        actual = [(start, stop - start) for _, start, stop in resolve(spec, {"train": size}, "")]
    except UserError:
        actual = []
    assert actual == [(each.skip, each.take) for each in expected if each.take > 0]


class TestStratified:
    """Slices of every class, by a hash of names."""

    @staticmethod
    def rows(split, labels, names=None):
        labels = np.asarray(labels)
        names = list(map(str, range(len(labels)))) if names is None else names
        [(name, rows)] = stratified(split, {"train": len(labels)}, lambda _: (labels, names), "s")
        assert name == "train"
        return rows.tolist()

    labels = st.lists(st.integers(0, 4), min_size=1, max_size=60)
    percents = st.integers(1, 99)

    @given(labels=labels, percent=percents)
    def test_two_sides_of_a_cut_part_every_class(self, labels, percent):
        def of(split):
            try:
                return self.rows(split, labels)
            except UserError:  # of classes of one example it may be empty
                return []

        before, after = of(f"train[:{percent}%]"), of(f"train[{percent}%:]")
        assert sorted(before + after) == list(range(len(labels)))
        assert before == sorted(before) and after == sorted(after)
        for label in set(labels):
            size = labels.count(label)
            held = sum(labels[row] == label for row in before)
            if size > 1:
                assert 0 < held < size
                assert abs(held - size * percent / 100) <= 1

    @given(labels=labels, cuts=st.lists(percents, min_size=1, max_size=4))
    def test_slices_one_after_another_hold_all_once(self, labels, cuts):
        ends = ["", *(f"{cut}%" for cut in sorted(set(cuts))), ""]
        held = []
        for low, high in zip(ends, ends[1:], strict=False):
            try:
                held += self.rows(f"train[{low}:{high}]", labels)
            except UserError:
                continue
        assert sorted(held) == list(range(len(labels)))

    @given(names=st.sets(st.text(max_size=5), min_size=2, max_size=40), percent=percents)
    def test_the_order_of_the_files_has_no_say(self, names, percent):
        names = sorted(names)
        labels = [len(name) % 2 for name in names]
        split = f"train[:{percent}%]"
        try:
            chosen = {names[row] for row in self.rows(split, labels, names)}
        except UserError:
            return
        turned = self.rows(split, labels[::-1], names[::-1])
        assert chosen == {names[::-1][row] for row in turned}

    @given(count=st.integers(2, 200), percent=percents)
    def test_another_file_moves_one_other_at_most(self, count, percent):
        names, split = [f"{i}.png" for i in range(count + 1)], f"train[:{percent}%]"
        fewer = set(self.rows(split, [0] * count, names[:-1]))
        more = set(self.rows(split, [0] * (count + 1), names)) - {count}
        assert len(fewer ^ more) <= 1

    def test_negative_percents_and_whole_splits(self):
        labels = [0] * 10 + [1] * 20
        assert self.rows("train[-20%:]", labels) == self.rows("train[80%:]", labels)
        assert self.rows("train", labels) == list(range(30))
        assert len(self.rows("train[12.5%:50%]", labels)) == (5 - 1) + (10 - 2)

    @pytest.mark.parametrize("split", ["train[:5]", "train[:]", "train[:120%]", "train[1%:5]"])
    def test_other_slices_are_refused(self, split):
        with pytest.raises(UserError, match=r"^s: got .*by percent, as every class has its own"):
            self.rows(split, [0, 0, 1])
        with pytest.raises(UserError, match="unknown name 'tain'"):
            self.rows("tain[:5%]", [0])

    def test_of_a_folder_and_of_an_array(self, tmp_path):
        """Of either class four fifths; moved elsewhere, the same files; without labels, too."""
        from PIL import Image

        for name, count in (("cat", 10), ("dog", 5)):
            for i in range(count):
                path = tmp_path / "here" / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((4, 4), i, np.uint8)).save(path)

        def load(place, split="train[:80%]", **fields):
            return sources.load(f"folder:{tmp_path}/{place}", split, stratified=True, **fields)

        table = load("here")
        assert np.bincount(table.label).tolist() == [8, 4]
        (tmp_path / "here").rename(tmp_path / "there")
        names = [path.removeprefix(f"{tmp_path}/here") for path in table.input.items]
        moved = load("there", labelled=False)
        assert [path.removeprefix(f"{tmp_path}/there") for path in moved.input.items] == names
        assert moved.label is None
        few = load("there", classes=["dog"])
        assert len(few) == 4
        rest = load("there", "train[80%:]").input.items
        assert not set(rest) & set(moved.input.items) and len(rest) == 3
        np.savez(tmp_path / "a.npz", input=np.ones((9, 2)), y=[0, 1, 2] * 3)
        three = sources.load(f"npz:{tmp_path}/a.npz", "train[:30%]", stratified=True)
        assert sorted(three.label.tolist()) == [0, 1, 2]

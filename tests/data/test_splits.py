"""`splits.resolve`: TFDS's grammar, and a line of our own for what it cannot mean."""

from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_datasets.core.splits import SplitDict

from tljax.data.splits import resolve
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

"""The images that come with scikit-learn: digits, and pairs of them."""

import numpy as np
import pytest

from tljax.data.sources import load


def test_digits_are_real_uint8_grey_images():
    table = load("digits", "train")
    assert len(table) == 1797 and table.resident
    assert table.input.shape == (1797, 8, 8, 1) and table.input.dtype == np.uint8
    assert table.input.max() == 255 and table.nbytes == 1797 * (64 + 4)
    # In the file the first image is a 0, its first row 0 0 5 13 9 1 0 0 of 16; 5 * 255 / 16 = 79.7.
    rows = table.input[table.label == 0][:, 0, :, 0].tolist()
    assert [0, 0, 80, 207, 143, 16, 0, 0] in rows
    # The order is shuffled, so that slices hold all writers; it is the same every time.
    assert table.label.dtype == np.int32 and table.label[:10].tolist() != list(range(10))
    np.testing.assert_array_equal(table.label, load("digits", "train").label)
    assert np.bincount(table.label).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert table.classes == tuple("0123456789")


def test_writers_are_in_the_order_of_the_file():
    """A digit is nearer to those of its writer, which stand around it."""
    shuffled, table = load("digits", "train"), load("digits", "writers")
    assert table.label[:10].tolist() == list(range(10))
    rows = [[tuple(x.ravel()) for x in each.input] for each in (shuffled, table)]
    assert sorted(rows[0]) == sorted(rows[1]) and rows[0] != rows[1]

    def near(table):
        pixels = table.input.reshape(len(table), -1).astype(float)
        gaps = ((pixels[:, None, ::2] - pixels[None, :, ::2]) ** 2).sum(-1)
        gaps[table.label[:, None] != table.label] = np.inf
        np.fill_diagonal(gaps, np.inf)
        return np.mean(np.abs(gaps.argmin(1) - np.arange(len(table))) < 100)

    assert near(table) > 0.4 > 0.2 > near(shuffled)


@pytest.fixture(scope="module")
def pairs():
    return load("pairs", "train"), load("pairs", "test")


def test_pairs_are_balanced_and_shuffled(pairs):
    for table, each in zip(pairs, (60, 20), strict=True):
        assert table.input.shape == (100 * each, 8, 16, 1) and table.input.dtype == np.uint8
        assert table.classes == tuple(f"{n:02d}" for n in range(100))
        assert np.bincount(table.label).tolist() == [each] * 100
        assert table.label.dtype == np.int32
        # In a random order neighbours are of the same class about once in 100.
        assert np.mean(table.label[1:] == table.label[:-1]) < 0.03
        assert len(np.unique(table.input, axis=0)) == len(table), "no pair comes twice"


def named(images, labels):
    return [(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)]


def test_both_halves_of_a_pair_are_digits_as_its_class_says(pairs):
    digits = load("digits", "train")
    known = named(digits.input, digits.label)
    parts = (known[:1200], known[1200:])
    seen = []
    for table, part in zip(pairs, parts, strict=True):
        lefts = named(table.input[:, :, :8], table.label // 10)
        found = {*lefts, *named(table.input[:, :, 8:], table.label % 10)}
        assert found <= set(part)
        # 12,000 or 4,000 halves out of 1,200 or 597 digits: hardly any is never drawn.
        assert len(found) > 0.98 * len(part)
        seen.append({image for image, _ in found})
    assert not seen[0] & seen[1], "training and test share no image of a digit"


def test_pairs_are_the_same_every_time_and_safe_to_change(pairs):
    again = load("pairs", "train")
    np.testing.assert_array_equal(again.input, pairs[0].input)
    again.input[:] = 0
    again.label[:] = 0
    np.testing.assert_array_equal(load("pairs", "train").input, pairs[0].input)
    np.testing.assert_array_equal(load("pairs", "train").label, pairs[0].label)


def test_pairs_as_other_sources(pairs):
    assert load("pairs", "test[:10]", size=16, channels=3).input.shape == (10, 16, 16, 3)
    table = load("pairs", "all", classes=("07", 70), per_class=2)
    assert sorted(table.label.tolist()) == [7, 7, 70, 70]
    assert len(load("pairs", "train+test", classes=("99",))) == 80

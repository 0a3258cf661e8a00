"""`load_semantics`: whose row is whose, and the one line that each mistake gets."""

import gzip
import pickle
import tracemalloc
from importlib import resources

import numpy as np
import pytest

from tljax.data.semantics import SCHEMES, load_semantics
from tljax.errors import UserError

FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
           "Bag", "Ankle boot")  # fmt: skip
DIGITS = tuple("0123456789")


def refused(*says, classes=("cat", "dog"), **arguments):
    """Reads what must be refused, in one line that begins with the field and says `says`."""
    with pytest.raises(UserError) as caught:
        load_semantics(classes=classes, **{"field": "tables.animals.data", **arguments})
    line = str(caught.value)
    assert line.startswith("tables.animals.") and "\n" not in line
    for each in says:
        assert each in line, line


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


# Tables that need no file.


def test_garments_are_in_the_order_of_fashion_mnist():
    values, names = load_semantics("garments", FASHION)
    assert values.shape == (10, len(names)) and len(names) >= 14 and values.dtype == np.float32
    assert set(np.unique(values)) == {0.0, 1.0}
    of = {name: {FASHION[i] for i in np.flatnonzero(values[:, n])} for n, name in enumerate(names)}
    assert of["worn"] == set(FASHION) - {"Bag"}
    assert of["footwear"] == {"Sandal", "Sneaker", "Ankle boot"}
    assert of["lower_body"] == {"Trouser", "Dress"}
    assert of["front_opening"] == {"Coat", "Shirt"}
    # By position where classes have numbers only, as in IDX files, and by name otherwise.
    np.testing.assert_array_equal(load_semantics("garments", DIGITS).values, values)
    two = load_semantics("garments", ("bag", "Trouser")).values
    np.testing.assert_array_equal(two, values[[8, 1]])


def test_every_garment_can_be_told_by_attributes_that_others_show():
    values, names = load_semantics("garments", FASHION)
    assert len(np.unique(values, axis=0)) == 10 and len(np.unique(values, axis=1).T) == len(names)
    # No attribute is one class's own: without that class a model could not learn it.
    assert values.sum(axis=0).min() >= 2
    for unseen in range(10):
        seen = np.delete(np.arange(10), unseen)
        moving = np.ptp(values[seen], axis=0) > 0  # attributes that the other nine teach
        assert len(np.unique(values[:, moving], axis=0)) == 10


def test_garments_are_package_data():
    text = (resources.files("tljax.data") / "garments.csv").read_text()
    assert text.startswith("class,worn,") and len(text.splitlines()) == 11


def test_segments():
    values, names = load_semantics("segments", ("8", "1", "0"))
    assert names == tuple("abcdefg")
    # All seven; the two at the right; all but the middle one.
    assert values.tolist() == [[1] * 7, [0, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0]]
    whole = load_semantics("segments", DIGITS).values
    assert whole.sum(axis=1).tolist() == [6, 2, 5, 5, 4, 5, 6, 3, 7, 6]
    assert len(np.unique(whole, axis=0)) == 10


def test_pair_digits():
    values, names = load_semantics("pair_digits", ("07", "70"))
    assert names[0] == "first_0" and names[17] == "second_7" and len(names) == 20
    assert [np.flatnonzero(row).tolist() for row in values] == [[0, 17], [7, 10]]
    every = load_semantics("pair_digits", [f"{n:02d}" for n in range(100)]).values
    numbered = load_semantics("pair_digits", [str(n) for n in range(100)]).values
    np.testing.assert_array_equal(every, numbered)
    assert len(np.unique(every, axis=0)) == 100 and (every.sum(axis=1) == 2).all()


def test_one_hot():
    values, names = load_semantics("one_hot", ("b", "a", "c"))
    np.testing.assert_array_equal(values, np.eye(3))
    assert names == ("b", "a", "c")


# CSV.

ANIMALS = 'class, has tail ,legs\n"dog",1,4\nant,0,6\nCat,0.5,4e0\n\n'


def test_csv_by_name(tmp_path):
    write(tmp_path / "a.csv", "\ufeff" + ANIMALS)
    values, names = load_semantics("csv:a.csv", ("Cat", "dog"), root=str(tmp_path))
    assert names == ("has tail", "legs") and values.dtype == np.float32
    assert values.tolist() == [[0.5, 4.0], [1.0, 4.0]]  # extra rows are ignored
    assert load_semantics(f"csv:{tmp_path}/a.csv", ("CAT",)).values.tolist() == [[0.5, 4.0]]


def test_an_exact_name_comes_before_one_in_other_case(tmp_path):
    path = write(tmp_path / "a.csv", "class,x\ncat,1\nCat,2\n")
    assert load_semantics(f"csv:{path}", ("Cat", "cat")).values.tolist() == [[2.0], [1.0]]
    refused("got 'CAT'", "not 'cat' and 'Cat'", data=f"csv:{path}", classes=("CAT",))


def test_position_only_for_plain_numbers_and_as_many_rows(tmp_path):
    path = write(tmp_path / "a.csv", "class,x\nant,1\nbee,2\n")
    assert load_semantics(f"csv:{path}", ("0", "1")).values.tolist() == [[1.0], [2.0]]
    refused("no row in", "'0', '1', '2'", data=f"csv:{path}", classes=("0", "1", "2"))
    refused("'1', '0'", data=f"csv:{path}", classes=("1", "0"))
    # Rows that are named by numbers are found by name, whatever their order.
    path = write(tmp_path / "b.csv", "class,x\n1,1\n0,2\n")
    assert load_semantics(f"csv:{path}", ("0", "1")).values.tolist() == [[2.0], [1.0]]
    # Those that count from 1 are not taken for rows that count from 0.
    path = write(tmp_path / "c.csv", "class,x\n1,1\n2,2\n")
    refused("no row in", "'0'", data=f"csv:{path}", classes=("0", "1"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (ANIMALS, ["no row in", "'cow', 'snt' (nearest: 'ant'); expected one for every class"]),
        ("class,x,y\ncow,1,2\nsnt,1\n", ["got 2; expected 3 cells in line 3 of"]),
        (
            "class,x,y\ncow,1,2\nsnt,1,many\n",
            ["'many'", "number in line 3, column 'y' of", "a.csv"],
        ),
        (
            "class,x,y\ncow,,2\nsnt,1,2\n",
            ["got ''; expected a finite number in line 2, column 'x'"],
        ),
        ("class,x\n\n\ncow,nan\nsnt,1\n", ["got 'nan'; expected a finite number in line 4"]),
        ("class,x\ncow,1\nsnt,-inf\n", ["got '-inf'; expected a finite number in line 3"]),
        ("class,x\ncow,1e39\nsnt,1\n", ["got '1e39'; expected a finite number in line 2"]),
        ("class,x\ncow,1\nsnt,1\ncow,1\n", ["got 'cow'; expected one row of each class", "not 2"]),
        ("class,x\n", ["at least one row"]),
        ("class\ncow\nsnt\n", ["at least one row and one attribute"]),
        ("", ["at least one row"]),
        ("class,x\ncow," + "1" * 200_000, ["a CSV file (field larger than field limit"]),
    ],
)
def test_unfit_csv(tmp_path, text, says):
    path = write(tmp_path / "a.csv", text)
    refused(*says, data=f"csv:{path}", classes=("cow", "snt"))


def test_csv_files_that_cannot_be_read(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"class,x\n\xff\xfe,1\n")
    refused("UTF-8", data=f"csv:{tmp_path}/a.csv")
    refused("an existing CSV file", data=f"csv:{tmp_path}/b.csv")
    refused("an existing CSV file", data=f"csv:{tmp_path}")


# npz.


@pytest.mark.parametrize("kind", [str, bytes])
def test_npz(tmp_path, kind):
    classes = np.array(["dog", "ant", "cat"]).astype(np.dtype(kind))
    np.savez(tmp_path / "a.npz", classes=classes, attributes=[[1, 2], [3, 4], [5, 6]])
    values, names = load_semantics("npz:a.npz", ("cat", "dog"), root=str(tmp_path))
    assert values.tolist() == [[5, 6], [1, 2]] and values.dtype == np.float32
    assert names == ("attribute_0", "attribute_1")
    np.savez(tmp_path / "b.npz", classes=classes, attributes=np.ones((3, 1)), names=["soft"])
    assert load_semantics(f"npz:{tmp_path}/b.npz", ("ant",)).names == ("soft",)


PAIR = np.array(["cat", "dog"])


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"classes": PAIR}, "not without 'attributes'"),
        ({"attributes": np.eye(2)}, "not without 'classes'"),
        ({"classes": PAIR, "attributes": np.eye(3)}, "got '<U3[2]'; expected 3 strings in the"),
        ({"classes": [0, 1], "attributes": np.eye(2)}, "expected 2 strings in the array 'classes'"),
        ({"classes": PAIR, "attributes": np.ones(2)}, "numbers [classes, attributes]"),
        ({"classes": PAIR, "attributes": [["a"], ["b"]]}, "numbers [classes, attributes]"),
        ({"classes": PAIR, "attributes": np.eye(2), "names": ["x"]}, "2 strings in the array 'nam"),
        ({"classes": PAIR, "attributes": [[0, 1], [2, np.nan]], "names": ["x", "y"]},
         "got nan; expected a finite number for class 'dog', attribute 'y'"),
        ({"classes": PAIR, "attributes": [[0, np.inf], [2, 3]]}, "class 'cat', attribute 'attribu"),
        ({"classes": PAIR, "attributes": np.ones((2, 0))}, "at least one row and one attribute"),
        ({"classes": PAIR[[0, 0]], "attributes": np.eye(2)}, "got 'cat'; expected one row of each"),
        ({"classes": PAIR[::-1].astype(object), "attributes": np.eye(2)}, "without pickled"),
        ({"classes": np.array(["cat", "dogs"]), "attributes": np.eye(2)}, "(nearest: 'dogs')"),
    ],
)  # fmt: skip
def test_unfit_npz(tmp_path, arrays, says):
    np.savez(tmp_path / "a.npz", **arrays)
    refused(says, data=f"npz:{tmp_path}/a.npz")


def test_damaged_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, classes=PAIR, attributes=np.eye(2))
    raw = path.read_bytes()
    for content in (raw[:-30], b"hello", b"", pickle.dumps({"classes": PAIR})):
        path.write_bytes(content)
        refused(str(path), "an undamaged archive that np.savez wrote", data=f"npz:{path}")
    np.save(tmp_path / "b.npy", np.eye(2))
    refused("an undamaged archive that np.savez wrote", data=f"npz:{tmp_path}/b.npy")
    refused("an existing .npz file", data=f"npz:{tmp_path}/c.npz")


# Vectors of words.

GLOVE = """the 9 9
. . 8 8
polar 1 2
bear 3 -4
t 1 0
shirt 0 1
top 2 2
Shirt 7 7
polar 5 5
naïve 6 6
"""
WORD2VEC = "10 2\n" + GLOVE.replace("\n", " \n")  # the original program ends lines with a space


@pytest.fixture(params=["glove", "word2vec", "glove.gz", "word2vec.gz"])
def vectors(request, tmp_path):
    scheme, _, zipped = request.param.partition(".")
    raw = {"glove": GLOVE, "word2vec": WORD2VEC}[scheme].encode()
    (tmp_path / "vectors").write_bytes(gzip.compress(raw) if zipped else raw)
    return f"{scheme}:{tmp_path}/vectors"


def test_a_class_has_the_mean_of_its_words(vectors):
    classes = ("polar bear", "Polar_Bear", "bear", "T-shirt/top", "Shirt", "naïve")
    values, names = load_semantics(vectors, classes)
    # ((1, 2) + (3, -4)) / 2; the first `polar` counts; ((1, 0) + (0, 1) + (2, 2)) / 3.
    expected = [[2, -1], [2, -1], [3, -4], [1, 1], [7, 7], [6, 6]]
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert names == ("dimension_0", "dimension_1") and values.dtype == np.float32


def test_all_missing_words_are_listed_once(vectors):
    classes = ("polar fox", "bear", "Fox-like", "Owl")
    refused("for 'fox', 'Fox', 'like', 'Owl'; expected one", data=vectors, classes=classes)
    refused("got '_'; expected a class with a word", data=vectors, classes=("bear", "_"))


def test_words_that_hold_spaces_are_not_the_word_before_them(tmp_path):
    path = write(tmp_path / "v", "the 1 1\nat a@b 5 5\nat 2 2\n")
    assert load_semantics(f"glove:{path}", ("at",)).values.tolist() == [[2, 2]]


@pytest.mark.parametrize(
    ("data", "text", "says"),
    [
        ("glove", "cat 1 2\ndog 1 2 3\n", "got 'dog 1 2 3'; expected a word and 2 finite numbers"),
        ("glove", "cat 1 2\ndog 1\n", "2 finite numbers in line 2 of"),
        ("glove", "cat 1 2\ndog 1 x\n", "2 finite numbers in line 2 of"),
        ("glove", "cat 1 2\ndog 1 nan\n", "2 finite numbers in line 2 of"),
        ("glove", "the a b\ncat 1 2\ndog 1 2\n", "2 finite numbers in line 1 of"),
        ("glove", WORD2VEC, "got '10 2'; expected line 1 of"),
        ("glove", WORD2VEC, "or 'word2vec:'"),
        ("glove", "", "got ''; expected line 1 of"),
        ("word2vec", GLOVE, "got 'the 9 9'; expected line 1 of"),
        ("word2vec", GLOVE, "'count size', or 'glove:'"),
        ("word2vec", "2 3\ncat 1 2\ndog 1 2\n", "3 finite numbers in line 2 of"),
        ("word2vec", "2 2\n\0\1\2\3\4", "2 finite numbers in line 2 of"),  # its binary format
        ("word2vec", "", "got ''"),
    ],
)
def test_unfit_vectors(tmp_path, data, text, says):
    refused(says, data=f"{data}:{write(tmp_path / 'v', text)}")


def test_files_of_vectors_that_cannot_be_read(tmp_path):
    raw = gzip.compress("".join(f"w{n} {n} {n * n}\n" for n in range(9_999)).encode())
    path = tmp_path / "v.gz"
    for damaged in (raw[:-2000], raw[:500] + b"\xff" * 200 + raw[700:], raw[:2]):
        path.write_bytes(damaged)
        refused("an undamaged gzip file", str(path), data=f"glove:{path}")
    refused("an existing file of word vectors", data=f"glove:{tmp_path}/w")
    refused("an existing file of word vectors", data=f"word2vec:{tmp_path}")


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_vectors_are_never_all_in_memory(tmp_path, compress):
    line = " ".join(["0.25"] * 50)
    text = "".join(f"w{n} {line}\n" for n in range(20_000))  # 5 MB
    (tmp_path / "v").write_bytes(compress(text.encode()))
    tracemalloc.start()
    values = load_semantics(f"glove:{tmp_path}/v", ("w19999", "w3")).values
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert values.shape == (2, 50) and peak < len(text) / 4


# What is done to a table.


def test_standardise_is_over_the_classes_asked_for(tmp_path):
    path = write(tmp_path / "a.csv", "class,x,y,z\na,1,0.1,5\nb,3,0.1,5\nc,99,0.1,7\n")
    values = load_semantics(f"csv:{path}", ("a", "b"), standardise=True).values
    # Mean 2, deviation 1; the other two are constant over a and b.
    np.testing.assert_allclose(values, [[-1, 0, 0], [1, 0, 0]], atol=1e-7)


def test_normalise_comes_after_standardise(tmp_path):
    path = write(tmp_path / "a.csv", "class,x,y\na,3,4\nb,0,2\nc,0,0\n")
    values = load_semantics(f"csv:{path}", ("a", "b"), normalise=True).values
    np.testing.assert_allclose(values, [[0.6, 0.8], [0, 1]], rtol=1e-6)
    refused("animals.normalise: got True", "'c'", data=f"csv:{path}", classes=("a", "c"),
            normalise=True)  # fmt: skip
    # Standardised, the rows of a and b are (1, 1) and (-1, -1).
    both = load_semantics(f"csv:{path}", ("a", "b"), standardise=True, normalise=True).values
    np.testing.assert_allclose(both, np.array([[1, 1], [-1, -1]]) / np.sqrt(2), rtol=1e-6)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_permuted_no_class_keeps_its_row(count):
    classes = DIGITS[:count]
    drawn = [load_semantics("one_hot", classes, permute=seed).values for seed in range(20)]
    for values in drawn:
        np.testing.assert_array_equal(np.sort(values.argmax(axis=1)), np.arange(count))
        assert not values.diagonal().any()
    np.testing.assert_array_equal(drawn[3], load_semantics("one_hot", classes, permute=3).values)
    # There are as many cycles through n classes as orders of n - 1.
    different = len({values.tobytes() for values in drawn})
    assert different == {2: 1, 3: 2}.get(count, 20)


def test_refusals_common_to_all():
    refused("unknown name 'garment'", "Did you mean 'garments'?", *SCHEMES, data="garment")
    refused("'garments' alone", data="garments:a.csv")
    refused("expected 'csv:' and its file", data="csv")
    refused("for 'cat' (nearest: 'Coat'), 'dog'", data="garments")
    refused("'7x'", data="segments", classes=("7", "7x"))
    refused("got (); expected at least one class", data="one_hot", classes=())
    refused("animals.permute: got 0; expected None for a single class, 'cat'", data="one_hot",
            permute=0, classes=("cat",))  # fmt: skip

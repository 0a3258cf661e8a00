"""Classes meet by name: tables of one list, or a refusal; never by numbers."""

import numpy as np
import pytest

from tljax.data import Table, meet
from tljax.errors import UserError


def table(classes, label=None, **columns):
    label = np.arange(len(classes)) if label is None else label
    return Table(input=np.zeros((len(label), 2)), label=label, classes=classes, **columns)


def test_tables_that_agree_stay_as_they_are():
    one, other = table(("a", "b")), table(("a", "b"))
    met = meet({"one": one, "other": other})
    assert met["one"] is one and met["other"] is other


def test_a_table_that_lacks_a_class_is_renumbered():
    met = meet({"source": table(("bird", "cat", "dog")), "target": table(("cat", "dog"))})
    assert met["target"].classes == ("bird", "cat", "dog")
    assert met["target"].label.tolist() == [1, 2] and met["target"].seen == (1, 2)


def test_two_sources_share_the_list_of_both():
    met = meet({"one": table(("a", "b")), "two": table(("c", "b"))})
    assert met["one"].classes == met["two"].classes == ("a", "b", "c")
    assert met["two"].label.tolist() == [2, 1]


def test_several_labels_move_their_columns():
    labels = np.array([[True, False], [True, True]])
    two = Table(input=np.zeros((2, 1)), labels=labels, classes=("c", "a"))
    met = meet({"one": table(("a", "b", "c")), "two": two})
    assert met["two"].labels.tolist() == [[False, False, True], [True, False, True]]


def test_what_is_judged_adds_no_class_but_may_list_some_without_examples():
    judged = table(("cat", "horse"), label=[0, 0])
    met = meet({"source": table(("bird", "cat")), "test": judged}, judged=("test",))
    assert met["test"].classes == ("bird", "cat") and met["test"].label.tolist() == [1, 1]
    with pytest.raises(UserError, match=r"test: classes: got \['horse'\]; .*'bird', 'cat'"):
        meet({"source": table(("bird", "cat")), "test": table(("cat", "horse"))}, ("test",))


def test_an_unlabelled_table_takes_the_list_and_adds_nothing():
    target = table(("dog", "horse")).unlabelled()
    met = meet({"source": table(("cat", "dog")), "target": target})
    assert met["target"].classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Dog", "dog"),
        ("alarm_clock", "Alarm Clock"),
        ("t-shirt", "tshirt"),
        ("7", "07"),
        ("Straße", "STRASSE"),
        ("ｄog", "dog"),
    ],
)
def test_names_that_differ_to_a_computer_only_are_refused(one, other):
    with pytest.raises(UserError, match=f"target: class '{other}' is '{one}' in source"):
        meet({"source": table(("cat", one)), "target": table(("cat", other))})


def test_both_spellings_as_classes_of_one_table_are_two_classes():
    met = meet({"source": table(("Dog", "dog")), "target": table(("dog",))})
    assert met["target"].label.tolist() == [1]


def test_numbers_from_1_do_not_meet_numbers_from_0():
    def counted(first, last):
        label = np.arange(first, last + 1)
        return Table(input=np.zeros((len(label), 1)), label=label)

    with pytest.raises(UserError, match="test: labels 1 to 10, those of train are 0 to 9"):
        meet({"train": counted(0, 9), "test": counted(1, 10)})
    with pytest.raises(UserError, match="test: labels 0 to 9, those of train are 1 to 10"):
        meet({"train": counted(1, 10), "test": counted(0, 9)})
    met = meet({"train": counted(1, 10), "test": counted(2, 5)})  # classes that happen to lack
    assert met["test"].label.tolist() == [2, 3, 4, 5]


def test_numeric_names_meet_as_names_whatever_their_order():
    texts = tuple(sorted(map(str, range(12))))  # 0, 1, 10, 11, 2: as directories are listed
    met = meet({"folders": table(texts), "numbers": table(tuple(map(str, range(12))))})
    assert met["numbers"].label.tolist() == [texts.index(str(number)) for number in range(12)]

"""The rule that floats are traced and everything else is static."""

import numpy as np
import pytest

from tljax.errors import UserError
from tljax.signature import split


def loss(view, *, weight: float = 0.5, steps: int = 3, head="label", widths=(8, 4), on=False):
    return view, weight, steps, head, widths, on


def teacher(view, *, path, temperature: float = 2.0, layers=None):
    return view, path, temperature, layers


def test_defaults_are_split_by_kind():
    static, numbers = split(loss, {}, "terms.loss")
    assert static == (("head", "label"), ("on", False), ("steps", 3), ("widths", (8, 4)))
    assert numbers == {"weight": 0.5}


def test_the_kind_of_the_default_decides_not_that_of_the_value():
    static, numbers = split(loss, {"weight": 2, "steps": np.int64(5), "widths": [1, 2]}, "f")
    assert type(numbers["weight"]) is float and numbers == {"weight": 2.0}
    assert type(dict(static)["steps"]) is int and dict(static)["steps"] == 5
    assert dict(static)["widths"] == (1, 2)
    assert type(split(loss, {"weight": np.float32(0.25)}, "f")[1]["weight"]) is float


def test_static_part_is_hashable_and_does_not_depend_on_the_order_given():
    one = split(loss, {"steps": 4, "head": "domain"}, "f")[0]
    other = split(loss, {"head": "domain", "steps": 4}, "f")[0]
    assert one == other and hash(one) == hash(other)


def test_nested_lists_become_tuples():
    static, _ = split(teacher, {"path": "a", "layers": [["conv1", 0.5], "conv2"]}, "f")
    assert static == (("layers", (("conv1", 0.5), "conv2")), ("path", "a"))


def test_skipped_parameters_are_the_callers_own():
    static, _ = split(teacher, {}, "f", skip={"path"})
    assert static == (("layers", None),)
    with pytest.raises(UserError, match="unknown name 'path'"):
        split(teacher, {"path": "a"}, "f", skip={"path"})


def test_positional_parameters_cannot_be_given():
    with pytest.raises(UserError, match="unknown name 'view'"):
        split(loss, {"view": 1}, "f")


def test_a_missing_value_without_default_is_refused():
    with pytest.raises(UserError, match=r"^terms\.t: .* a value for 'path', which has no default"):
        split(teacher, {"temperature": 1.0}, "terms.t")


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"^terms\.loss: .* Did you mean 'weight'\?"):
        split(loss, {"wieght": 1.0}, "terms.loss")


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("weight", True, "a finite number"),
        ("weight", "0.1", "a finite number"),
        ("weight", None, "a finite number"),
        ("weight", float("nan"), "a finite number"),
        ("weight", float("inf"), "a finite number"),
        ("weight", [0.1], "a finite number"),
        ("steps", 3.0, "an integer"),
        ("steps", True, "an integer"),
        ("steps", "3", "an integer"),
        ("on", 1, "True or False"),
        ("head", 1, "a string"),
        ("widths", 8, "a list"),
        ("widths", "84", "a list"),
    ],
)
def test_another_kind_of_value_is_refused(name, value, expected):
    with pytest.raises(UserError, match=rf"^terms\.loss\.{name}: got .*; expected {expected}$"):
        split(loss, {name: value}, "terms.loss")


def test_a_wrong_entry_of_a_list_is_named():
    with pytest.raises(UserError, match=r"^f\.widths\[1\]: got 'x'; expected an integer$"):
        split(loss, {"widths": [8, "x"]}, "f")


def test_what_cannot_be_hashed_is_refused():
    with pytest.raises(UserError, match=r"^f\.layers\[0\]: got \{'a': 1\}"):
        split(teacher, {"path": "p", "layers": [{"a": 1}]}, "f")

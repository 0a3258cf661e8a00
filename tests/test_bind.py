"""The rule that floats are leaves and everything else is structure, and the trees it makes."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tljax
from tljax import trees
from tljax.bind import Bound, bind, defaults, find, split
from tljax.errors import UserError


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


# What is bound is a tree.


def test_a_bound_functions_leaves_are_its_numbers_by_name():
    bound = bind(loss, {"weight": 2, "steps": 5}, "f")
    assert jax.tree.leaves(bound) == [2.0]
    assert trees.flatten({"mine": bound}) == {"mine/weight": 2.0}
    several = Bound(loss, (), {"weight": 1.0, "alpha": 2.0})  # sorted, whatever the order given
    assert list(trees.flatten(several)) == ["alpha", "weight"]
    assert jax.tree.leaves(several) == [2.0, 1.0]


def test_a_bound_function_fills_its_fields_in():
    bound = bind(loss, {"weight": 2, "head": "domain"}, "f")
    assert bound("a view") == ("a view", 2.0, 3, "domain", (8, 4), False)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, bound)
    assert doubled("a view") == ("a view", 4.0, 3, "domain", (8, 4), False)
    assert bound("a view") == ("a view", 2.0, 3, "domain", (8, 4), False)


def test_structures_are_equal_exactly_where_all_but_the_numbers_is():
    structure = jax.tree.structure(bind(loss, {}, "f"))
    assert jax.tree.structure(bind(loss, {"weight": 0}, "f")) == structure
    assert hash(jax.tree.structure(bind(loss, {"weight": 0}, "f"))) == hash(structure)
    for fields in ({"steps": 4}, {"head": "domain"}, {"widths": [8, 5]}, {"on": True}):
        assert jax.tree.structure(bind(loss, fields, "f")) != structure, fields
    assert jax.tree.structure(bind(teacher, {"path": "a"}, "f")) != structure
    # A term with the same fields is another kind of node than what it is made of.
    term = tljax.term(loss, weight=0.5)
    assert jax.tree.structure(term) != jax.tree.structure(Bound(*vars(term).values()))


def test_taking_a_bound_function_apart_and_together_gives_it_again():
    bound = bind(loss, {"weight": 0, "steps": 5}, "f")
    leaves, structure = jax.tree.flatten(bound)
    for same in (
        jax.tree.unflatten(structure, leaves),
        jax.tree.map(lambda leaf: leaf, bound),
        copy.deepcopy(bound),
        pickle.loads(pickle.dumps(bound)),
    ):
        assert type(same) is Bound and same == bound
        assert jax.tree.structure(same) == structure and same.weight == 0.0


def test_a_field_is_read_as_an_attribute():
    bound = bind(loss, {"weight": 2}, "f")
    assert (bound.weight, bound.head, bound.widths) == (2.0, "label", (8, 4))
    with pytest.raises(AttributeError, match="^Bound has no field 'wieght'$"):
        bound.wieght  # noqa: B018


def test_a_bound_function_passes_through_jit_grad_and_vmap_with_traced_numbers():
    def power(x, *, base: float = 2.0, times: int = 3):
        return base**times * x

    traces = []

    @jax.jit
    def run(bound):
        traces.append(bound.static)
        return bound(1.0)

    first, second = bind(power, {}, "f"), bind(power, {"base": 3.0}, "f")
    assert float(run(first)) == 8.0 and float(run(second)) == 27.0
    assert len(traces) == 1
    assert float(run(bind(power, {"times": 2}, "f"))) == 4.0
    assert len(traces) == 2
    assert float(jax.grad(run)(first).base) == 12.0  # 3 · 2²
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second)
    np.testing.assert_array_equal(jax.vmap(run)(stacked), [8.0, 27.0])


def test_a_number_on_the_device_may_be_given():
    """So that a term can be made inside a trace; it is checked only where it can be."""
    assert bind(loss, {"weight": jnp.float32(2)}, "f").weight == 2.0
    assert float(jax.jit(lambda w: bind(loss, {"weight": w}, "f").weight)(3.0)) == 3.0
    with pytest.raises(UserError, match=r"^f\.weight: got .*; expected a finite number$"):
        bind(loss, {"weight": jnp.ones(2)}, "f")


def test_defaults_are_what_may_be_given_by_keyword():
    assert list(defaults(loss)) == ["weight", "steps", "head", "widths", "on"]
    assert list(defaults(teacher, skip=("layers",))) == ["path", "temperature"]


def test_a_function_is_found_by_its_name_its_importable_name_or_itself():
    registry = {"loss": loss}
    assert find("loss", registry, "f") is loss
    assert find(teacher, registry, "f") is teacher
    assert find("math:sqrt", registry, "f")(4) == 2
    with pytest.raises(UserError, match=r"^f: unknown name 'los'.*Did you mean 'loss'\?"):
        find("los", registry, "f")
    with pytest.raises(UserError, match=r"^f: unknown name 'squrt'.*Did you mean 'sqrt'\?"):
        find("math:squrt", registry, "f")
    with pytest.raises(UserError, match=r"^f: cannot import 'no_such_module' of "):
        find("no_such_module:sqrt", registry, "f")

"""Paths, patterns and the trees that they take apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tljax import trees
from tljax.errors import UserError

SEGMENTS = st.text("abcAB_01.-", min_size=1, max_size=5)
PATHS = st.lists(SEGMENTS, min_size=1, max_size=4)
TREES = st.recursive(
    st.integers(0, 9),
    lambda inner: st.dictionaries(SEGMENTS, inner, min_size=1, max_size=3),
    max_leaves=8,
)

NETWORK = {
    "heads": {"label": {"bias": jnp.zeros(3), "kernel": jnp.zeros((4, 3))}},
    "trunk": {"conv_0": {"kernel": jnp.zeros((3, 3, 1, 2))}, "conv_1": {"kernel": jnp.zeros(())}},
}


@given(PATHS)
def test_two_stars_match_every_path(path):
    assert trees.match("**", "/".join(path))
    assert trees.match("**/" + path[-1], "/".join(path))
    assert trees.match(path[0] + "/**", "/".join(path))


@given(PATHS)
def test_a_path_matches_itself_and_nothing_longer(path):
    whole = "/".join(path)
    assert trees.match(whole, whole)
    assert not trees.match(whole, whole + "/kernel")
    assert not trees.match(whole, whole + "x")
    assert not trees.match(whole, "x/" + whole)


@given(PATHS, st.integers(1, 5))
def test_one_star_matches_one_segment(path, stars):
    assert trees.match("/".join("*" * stars), "/".join(path)) == (stars == len(path))


@given(PATHS, PATHS, PATHS)
def test_two_stars_in_the_middle_match_any_number_of_segments(before, between, after):
    pattern = "/".join([*before, "**", *after])
    assert trees.match(pattern, "/".join([*before, *after]))
    assert trees.match(pattern, "/".join([*before, *between, *after]))


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("trunk", "trunk/conv_0/kernel", False),  # a prefix is not the whole
        ("conv_0", "trunk/conv_0/kernel", False),
        ("trunk/conv", "trunk/conv_0", False),  # nor is part of a segment
        ("trunk/conv_?", "trunk/conv_0", True),
        ("trunk/conv_?", "trunk/conv_10", False),
        ("trunk/conv_[01]", "trunk/conv_1", True),
        ("trunk/conv_[01]", "trunk/conv_2", False),
        ("trunk/*", "trunk/conv_0/kernel", False),
        ("**/kernel", "kernel", True),
        ("**/**", "trunk/conv_0", True),
        ("Trunk/**", "trunk/conv_0", False),
        ("tr**", "trunk/conv_0", False),  # ** is special only as a whole segment
    ],
)
def test_patterns_match_whole_segments(pattern, path, matches):
    assert trees.match(pattern, path) == matches


def test_flatten_names_leaves_in_the_order_of_the_tree():
    flat = trees.flatten(NETWORK)
    assert list(flat) == [
        "heads/label/bias",
        "heads/label/kernel",
        "trunk/conv_0/kernel",
        "trunk/conv_1/kernel",
    ]
    for one, other in zip(flat.values(), jax.tree.leaves(NETWORK), strict=True):
        assert one is other


def test_the_first_match_wins():
    rules = (("trunk/conv_0/**", "a"), ("trunk/**", "b"), ("**", "c"))
    assert trees.flatten(trees.label(NETWORK, rules, "train")) == {
        "heads/label/bias": "c",
        "heads/label/kernel": "c",
        "trunk/conv_0/kernel": "a",
        "trunk/conv_1/kernel": "b",
    }


def test_a_pattern_that_never_comes_to_its_turn_is_refused():
    rules = (("trunk/**", 0.0), ("trunk/conv_0/**", 1.0), ("**", 1.0))
    with pytest.raises(UserError) as caught:
        trees.label(NETWORK, rules, "train")
    assert str(caught.value) == (
        "train: pattern 'trunk/conv_0/**' never applies: 'trunk/**' before it matches all that it "
        "does, with another value"
    )
    several = (("**/conv_0/*", 0.0), ("**/conv_1/*", 1.0), ("trunk/**", 1.0), ("**", 1.0))
    with pytest.raises(
        UserError, match=r"'trunk/\*\*' never .*conv_0/\*' and '.*conv_1/\*' before"
    ):
        trees.label(NETWORK, several, "train")
    with pytest.raises(UserError, match="'trunk/.*' never applies: '.*' before it matches"):
        trees.label(NETWORK, (("**", "c"), ("trunk/**", "b")), "train")


def test_a_pattern_without_a_turn_is_no_contradiction_with_the_same_value_or_as_the_last_rest():
    same = (("trunk/**", 0.0), ("trunk/conv_0/**", 0.0), ("**", 1.0))
    assert set(jax.tree.leaves(trees.label(NETWORK, same, "train"))) == {0.0, 1.0}
    whole = (("trunk/**", 0.0), ("heads/**", 1.0), ("**", 0.5))
    assert set(jax.tree.leaves(trees.label(NETWORK, whole, "train"))) == {0.0, 1.0}
    with pytest.raises(UserError, match="never applies"):
        trees.label(NETWORK, (("**", 1.0), ("**", 0.5), ("**", 0.5)), "train")
    # Numbers on the device cannot be compared while a step is traced.
    traced = jax.jit(
        lambda x: trees.label(NETWORK, (("trunk/**", x), ("trunk/*/*", 2 * x), ("**", x)), "f")
    )
    assert set(map(float, jax.tree.leaves(traced(3.0)))) == {3.0}


def test_a_pattern_without_a_match_lists_the_paths():
    with pytest.raises(UserError) as caught:
        trees.label(NETWORK, (("trunck/**", 0.0), ("**", 1.0)), "phase.train")
    assert str(caught.value) == (
        "phase.train: pattern 'trunck/**' matches no parameter; the paths are: heads/label/bias, "
        "heads/label/kernel, trunk/conv_0/kernel, trunk/conv_1/kernel"
    )


def test_a_leaf_that_no_pattern_covers_is_named():
    with pytest.raises(UserError, match=r"^train: no pattern matches parameter 'heads/label/bias'"):
        trees.label(NETWORK, (("trunk/**", 0.0), ("**/kernel", 1.0)), "train")


@given(TREES, st.randoms(use_true_random=False))
def test_partition_and_combine_are_a_round_trip(tree, random):
    mask = jax.tree.map(lambda _: random.random() < 0.5, tree)
    kept, rest = trees.partition(tree, mask)
    assert trees.combine(kept, rest) == tree
    paths = trees.flatten(mask)
    assert set(trees.flatten(kept)) == {path for path, keep in paths.items() if keep}
    assert set(trees.flatten(rest)) == {path for path, keep in paths.items() if not keep}


def test_combine_keeps_zeros_and_false():
    """What is missing is None, not what is falsy."""
    tree = {"a": 0, "b": False, "c": 0.0}
    assert trees.combine(*trees.partition(tree, {"a": True, "b": False, "c": True})) == tree


def test_differences_are_missing_unexpected_and_other_shapes():
    expected = {"a": np.zeros(2), "b": np.zeros((2, 3)), "c": np.zeros(1)}
    given_ = {"b": np.zeros((3, 2)), "c": np.zeros(1), "d": np.zeros(4)}
    assert trees.differences(expected, given_) == ["- a", "+ d", "! b (2, 3) against (3, 2)"]
    assert trees.differences(expected, expected) == []


def test_count_is_of_elements():
    assert trees.count(NETWORK) == 3 + 4 * 3 + 3 * 3 * 1 * 2 + 1
    assert trees.count({"a": None, "b": {}}) == 0

"""What a phase starts from, and what moves."""

import jax
import numpy as np
import pytest

import tljax
from tljax import trees
from tljax.errors import UserError
from tljax.phase.transfer import moving, start


def parameters(value, classes=3):
    """A trunk and a head, filled with `value`."""
    full = lambda *shape: np.full(shape, value, np.float32)  # noqa: E731
    return {
        "trunk": {"conv_0": {"kernel": full(2, 2)}, "conv_1": {"kernel": full(2, 3)}},
        "heads": {"label": {"kernel": full(3, classes), "bias": full(classes)}},
    }


def values(tree):
    return {path: float(leaf.flat[0]) for path, leaf in trees.flatten(tree).items()}


def test_fresh_starts_from_the_new_parameters():
    fresh = parameters(1)
    started = start(fresh, {"source": parameters(2)}, (("**", "fresh"),))
    assert jax.tree.all(jax.tree.map(lambda a, b: a is b, started, fresh))


def test_copied_parameters_are_those_of_the_phase():
    earlier = {"source": parameters(2), "other": parameters(3)}
    started = start(parameters(1), earlier, (("**", "source"),))
    assert jax.tree.all(jax.tree.map(lambda a, b: a is b, started, earlier["source"]))


def test_rules_mix_fresh_and_several_phases():
    earlier = {"source": parameters(2), "other": parameters(3)}
    rules = (("heads/**", "fresh"), ("trunk/conv_1/**", "other"), ("**", "source"))
    assert values(start(parameters(1), earlier, rules)) == {
        "heads/label/bias": 1,
        "heads/label/kernel": 1,
        "trunk/conv_0/kernel": 2,
        "trunk/conv_1/kernel": 3,
    }


def test_a_head_of_another_width_may_be_fresh_beside_a_copied_trunk():
    rules = (("heads/**", "fresh"), ("**", "source"))
    started = start(parameters(1, classes=5), {"source": parameters(2, classes=3)}, rules)
    assert started["heads"]["label"]["bias"].shape == (5,)
    assert values(started)["trunk/conv_0/kernel"] == 2


def test_what_the_phase_lacks_or_has_in_another_shape_is_listed():
    earlier = parameters(2, classes=5)
    del earlier["trunk"]["conv_1"]
    earlier["trunk"]["conv_9"] = {"kernel": np.zeros(1)}  # more than is asked for is no mistake
    with pytest.raises(UserError) as caught:
        start(parameters(1), {"source": earlier}, (("**", "source"),), "second.start")
    line = str(caught.value)
    assert line.startswith("second.start: phase 'source' does not hold")
    assert "- trunk/conv_1/kernel" in line
    assert "! heads/label/bias (3,) against (5,)" in line
    assert "! heads/label/kernel (3, 3) against (3, 5)" in line
    assert "conv_0" not in line and "conv_9" not in line


def test_an_unknown_phase_is_refused_with_the_nearest():
    rules = (("trunk/**", "fresh"), ("**", "sorce"))
    with pytest.raises(UserError, match=r"^start\[1\]: unknown name 'sorce'.*mean 'source'\?"):
        start(parameters(1), {"source": parameters(2)}, rules)


def test_a_phase_may_not_start_from_one_that_has_not_run():
    with pytest.raises(UserError, match="expected one of: fresh"):
        start(parameters(1), {}, (("**", "source"),))


def moved(train, field="train"):
    """Which of `parameters` move in a phase with these factors."""
    phase = tljax.Phase(network=None, train=train)
    return moving(parameters(1), phase.train, field)


@pytest.mark.parametrize("frozen", [0.0, 0, None])
def test_a_factor_of_zero_freezes(frozen):
    mask = moved({"trunk/conv_0/**": frozen, "trunk/**": 0.1, "**": 1.0})
    assert trees.flatten(mask) == {
        "heads/label/bias": True,
        "heads/label/kernel": True,
        "trunk/conv_0/kernel": False,
        "trunk/conv_1/kernel": True,
    }


def test_freezing_everything_is_refused():
    with pytest.raises(UserError, match=r"^second\.train: .* freezes every parameter"):
        moved({"trunk/**": 0.0, "**": 0}, "second.train")


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(UserError, match="train: pattern 'trunc/.*' matches no parameter"):
        moved({"trunc/**": 0.0, "**": 1.0})


def test_a_pattern_that_never_comes_to_its_turn_is_refused():
    with pytest.raises(UserError, match=r"^train: pattern 'trunk/conv_0/\*\*' never applies"):
        moved({"trunk/**": 0.0, "trunk/conv_0/**": 1.0, "**": 1.0})

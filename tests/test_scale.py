"""What benchmarks/scale.py makes of losses and bytes; the runs themselves are compared there."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def scale(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    from benchmarks import scale

    return scale


def test_the_greatest_relative_difference_of_a_step_counts(scale):
    one = np.array([[2.0, 4.0], [-1.0, 10.0]])
    other = np.array([[2.5, 4.0], [-1.5, 9.0]])
    assert scale.apart(one, other) == [0.5, 0.1]  # ½ of -1, 1 of 10


def test_what_is_not_as_it_must_be_is_named(scale):
    small, large, never = [1e-6] * 20, [1e-6] * 19 + [1e-4], [float("nan")] + [1e-6] * 19
    held = {"data=4": {"params": 1.0}, "shard=4": {"params": 0.25, "average": 0.2749}}
    assert scale.faults({"float64": {"a": small}, "float32": {"a": large}}, held) == []
    differences = {"float64": {"a": large}, "float32": {"a": large[::-1], "b": never}}
    held = {"data=4": {"params": 0.25}, "shard=4": {"params": 0.276, "average": 0.249}}
    assert scale.faults(differences, held) == [
        "a, float64: losses differ by 1.0e-04",
        "a, float32: losses differ by 1.0e-04",
        "b, float32: losses differ by nan",
        "data=4: a device holds 0.2500 of the bytes of params",
        "shard=4: a device holds 0.2760 of the bytes of params",
        "shard=4: a device holds 0.2490 of the bytes of average",
    ]

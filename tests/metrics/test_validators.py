"""Validators against values worked by hand, and against the quantity that they estimate."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tljax.errors import UserError
from tljax.metrics import validators

RANDOM = np.random.default_rng(0)
LOGITS = np.log([[0.75, 0.25], [0.25, 0.75]])
OF_QUARTER = math.log(4) - 0.75 * math.log(3)  # the entropy of (¾, ¼)


def test_entropy_by_hand():
    assert validators.entropy(LOGITS) == pytest.approx(OF_QUARTER)
    assert validators.entropy(np.zeros((3, 5))) == pytest.approx(math.log(5))
    assert validators.entropy([[1e5, 0.0], [-1e5, 1e5]]) == 0.0


class TestCollapse:
    """Twenty examples of three classes and four units."""

    same = np.tile([0.1, 0.3, 0.2], (20, 1))
    units = np.tile([0.0, 2.0, 3.0, 0.0], (20, 1))

    def test_by_hand(self):
        units = self.units.copy()
        units[7, 1] = 2.5
        assert validators.collapse(self.same) == {"constant_class": 1.0}
        assert validators.collapse(self.same, units) == dict(
            constant_class=1.0, constant_units=0.75
        )
        assert validators.collapse(self.same, 0 * units)["constant_units"] == 1.0

    def test_it_says_nothing_of_a_network_that_tells_two_apart_or_of_too_little(self):
        other = self.same.copy()
        other[3, 0] = 1.0
        assert validators.collapse(other, self.units) == {}
        assert validators.collapse(self.same[:19], self.units[:19]) == {}
        assert validators.collapse(self.same[:, :1], self.units) == {}

    @given(arrays(np.float64, (20, 3), elements=st.integers(-3, 3).map(float)))
    def test_whom_it_names_is_the_only_class(self, logits):
        found = validators.collapse(logits)
        assert bool(found) == (len(set(logits.argmax(1))) == 1)


def test_information_by_hand():
    """The mean of (¾, ¼) and (¼, ¾) is (½, ½)."""
    result = validators.information_maximisation(LOGITS)
    assert result == pytest.approx(math.log(2) - OF_QUARTER)


def test_information_tells_collapse_from_certainty_where_entropy_does_not():
    collapsed, covering = np.array([[50.0, 0.0]] * 4), 50 * np.eye(2)[[0, 1, 0, 1]]
    assert validators.entropy(collapsed) == pytest.approx(validators.entropy(covering))
    assert validators.information_maximisation(collapsed) == pytest.approx(0, abs=1e-12)
    assert validators.information_maximisation(covering) == pytest.approx(math.log(2))


@given(arrays(np.float64, (6, 3), elements=st.floats(-1e3, 1e3)), st.permutations(range(3)))
def test_bounds_and_invariances(logits, classes):
    result = validators.entropy(logits)
    information = validators.information_maximisation(logits)
    assert -1e-12 <= result <= math.log(3) + 1e-9
    assert -1e-9 <= information <= math.log(3) + 1e-9
    moved = logits[::-1, classes] + np.arange(6.0)[:, None]
    assert validators.entropy(moved) == pytest.approx(result, abs=1e-9)
    assert validators.information_maximisation(moved) == pytest.approx(information, abs=1e-9)


@pytest.mark.parametrize("score", [validators.entropy, validators.information_maximisation])
def test_scores_of_logits_refuse(score):
    with pytest.raises(UserError, match=r"logits: got nan at \[0, 1\]; expected finite numbers"):
        score([[0.0, np.nan]])
    with pytest.raises(UserError, match=r"got float64 \[2\]; expected float \[n, classes\]"):
        score([0.0, 1.0])


def test_density_by_hand():
    """Vectors e₁, e₁, e₂ at T = 1/log 3. The first two see cosines 1 and 0, so (¾, ¼).

    The third sees 0 and 0, so (½, ½).
    """
    x = [[2.0, 0.0], [0.5, 0.0], [0.0, 1.0]]
    result = validators.soft_neighbourhood_density(x, temperature=1 / math.log(3))
    assert result == pytest.approx((2 * OF_QUARTER + math.log(2)) / 3)


def test_density_of_a_collapse_is_the_largest():
    assert validators.soft_neighbourhood_density(np.ones((9, 4))) == pytest.approx(math.log(8))
    assert validators.soft_neighbourhood_density(np.zeros((9, 4))) == pytest.approx(math.log(8))
    two = validators.soft_neighbourhood_density([[1.0, 0.0], [0.0, 1.0]])
    assert two == pytest.approx(0.0, abs=1e-12)  # a single neighbour leaves no doubt


def test_density_is_higher_in_tight_clusters():
    """Five clusters of 20: the softmax spreads over the 19 others of one's own."""
    centres = 10 * np.eye(5)[np.arange(100) % 5]
    tight, loose = (centres + s * RANDOM.normal(size=(100, 5)) for s in (0.01, 6.0))
    dense = validators.soft_neighbourhood_density(tight)
    assert dense == pytest.approx(math.log(19), abs=1e-3)
    assert validators.soft_neighbourhood_density(loose) < dense - 0.1


@pytest.mark.parametrize("block", [1, 7, 50, 64])
def test_density_does_not_depend_on_blocks_order_or_lengths(block):
    x = RANDOM.normal(size=(50, 4))
    result = validators.soft_neighbourhood_density(x)
    moved = RANDOM.uniform(1e-9, 1e9, size=(50, 1)) * x[RANDOM.permutation(50)]
    assert validators.soft_neighbourhood_density(moved, block=block) == pytest.approx(result)


def test_density_refuses():
    with pytest.raises(UserError, match=r"features: got \[1, \d\]; .* at least 2"):
        validators.soft_neighbourhood_density([[1.0, 2.0]])
    with pytest.raises(UserError, match="temperature: got 0; expected a finite number above 0"):
        validators.soft_neighbourhood_density(np.ones((3, 2)), 0)
    with pytest.raises(UserError, match="features: got inf"):
        validators.soft_neighbourhood_density([[1.0, 2.0], [np.inf, 0.0]])


def test_ratio_of_two_normal_distributions():
    """N(0, 1) and N(1, 1): p_t(x)/p_s(x) = exp(x − ½)."""
    source, target = RANDOM.normal(size=(4000, 1)), 1 + RANDOM.normal(size=(4000, 1))
    x = np.linspace(-2, 2, 9)[:, None]
    result = validators.density_ratio(source, target, x)
    np.testing.assert_allclose(np.log(result), x[:, 0] - 0.5, atol=0.2)
    few = validators.density_ratio(source, target[:1000], x)  # their sizes play no part
    np.testing.assert_allclose(np.log(few), x[:, 0] - 0.5, atol=0.3)


def test_ratio_of_equal_domains_is_one():
    x = RANDOM.normal(size=(3000, 2))
    result = validators.density_ratio(x[:1000], x[1000:], x[:50])
    np.testing.assert_allclose(result, np.ones(50), atol=0.35)


def test_ratio_stays_finite_and_is_repeatable():
    x = RANDOM.normal(size=(40, 2))
    result = validators.density_ratio(x, x + 1e6, x, seed=3)
    assert np.isfinite(result).all() and (result > 0).all() and result.max() < 1e-2
    np.testing.assert_array_equal(result, validators.density_ratio(x, x + 1e6, x, seed=3))


def test_ratio_refuses():
    x = np.ones((6, 2))
    with pytest.raises(UserError, match=r"target: got \[4, \d\]; .* at least 5"):
        validators.density_ratio(x, x[:4], x)
    with pytest.raises(UserError, match=r"source_validation: got float64 \[6, 1\]; .*width=2"):
        validators.density_ratio(x, x, x[:, :1])
    with pytest.raises(UserError, match="source_train: got nan"):
        validators.density_ratio(x * np.nan, x, x)


LOSSES, WEIGHTS = np.array([1.0, 3.0]), np.array([0.5, 2.5])


def test_weighted_validation_by_hand():
    """(½·1 + 2.5·3)/2."""
    assert validators.importance_weighted_validation(LOSSES, WEIGHTS) == 4.0
    assert validators.importance_weighted_validation(LOSSES, [1, 1]) == 2.0


def test_dev_by_hand():
    """w·l = ½, 7.5 deviates by ∓3.5 from its mean 4, w by ∓1 from 1.5: η = −3.5.

    4 − 3.5·1.5 + 3.5.
    """
    assert validators.dev(LOSSES, WEIGHTS) == pytest.approx(2.25)


def test_dev_is_scaled_by_the_losses_and_moved_by_a_constant():
    """A constant loss c: w·l = c·w, η = −c, and the estimate is c exactly, whatever the weights."""
    losses, weights = RANDOM.uniform(size=30), RANDOM.exponential(size=30)
    result = validators.dev(losses, weights)
    assert validators.dev(np.full(30, 0.7), weights) == pytest.approx(0.7)
    assert validators.dev(3 * losses + 2, weights) == pytest.approx(3 * result + 2)


@pytest.mark.parametrize("weight", [1.0, 0.1, 0.3, 0.0])
def test_dev_with_constant_weights_is_the_plain_estimate(weight):
    """Even where the mean of a constant misses it by rounding, as that of 0.1 does."""
    losses, weights = RANDOM.uniform(size=7), np.full(7, weight)
    plain = validators.importance_weighted_validation(losses, weights)
    assert validators.dev(losses, weights) == pytest.approx(plain)
    assert validators.dev(losses[:1], weights[:1]) == pytest.approx(weight * losses[0])


def test_dev_varies_less_than_the_plain_estimate():
    """Source N(0, 1), target N(1, 1), loss x² + 1: the target's is 3."""
    estimates = []
    for _ in range(200):
        x = RANDOM.normal(size=200)
        losses, weights = x**2 + 1, np.exp(x - 0.5)
        score = validators.importance_weighted_validation(losses, weights)
        estimates.append((score, validators.dev(losses, weights)))
    plain, controlled = np.array(estimates).T
    assert plain.mean() == pytest.approx(3, abs=0.3)
    assert controlled.std() < 0.9 * plain.std()


@pytest.mark.parametrize("score", [validators.importance_weighted_validation, validators.dev])
def test_weighted_scores_refuse(score):
    with pytest.raises(UserError, match=r"weights: got float64 \[1\]; .*n=2 of losses"):
        score(LOSSES, [1.0])
    with pytest.raises(UserError, match="weights: got -1.0; expected numbers of at least 0"):
        score(LOSSES, [1.0, -1.0])
    with pytest.raises(UserError, match=r"losses: got nan at \[1\]"):
        score([1.0, np.nan], WEIGHTS)


Y = np.arange(60) % 3
CLUSTERS = 6 * np.eye(3)[Y] + RANDOM.normal(size=(60, 3))


def test_reverse_validation_of_right_permuted_and_part_right_labels():
    """Pseudo-labels shifted by one lead back to the wrong class everywhere; one swap of two classes
    leaves the third, so ⅓."""
    target = CLUSTERS + 0.5

    def score(names):
        return validators.reverse_validation(CLUSTERS, Y, target, np.array(names)[Y], 3)

    assert score([0, 1, 2]) == 1.0
    assert score([1, 2, 0]) == 0.0
    assert score([1, 0, 2]) == pytest.approx(1 / 3)


def test_reverse_validation_of_a_collapse_is_that_class():
    score = validators.reverse_validation(CLUSTERS, Y * (Y < 2), CLUSTERS, np.zeros(60, int), 3)
    assert score == pytest.approx(2 / 3)


def test_reverse_validation_refuses():
    with pytest.raises(UserError, match=r"target_pseudo_labels: got 3 at \[0\]; expected classes"):
        validators.reverse_validation(CLUSTERS, Y, CLUSTERS, Y + 3, 3)
    with pytest.raises(UserError, match=r"target_features: got float64 \[60, 2\]"):
        validators.reverse_validation(CLUSTERS, Y, CLUSTERS[:, :2], Y, 3)
    with pytest.raises(UserError, match=r"source_labels: got int64 \[59\]; .*n_s=60"):
        validators.reverse_validation(CLUSTERS, Y[:-1], CLUSTERS, Y, 3)
    with pytest.raises(UserError, match="source_features: got nan"):
        validators.reverse_validation(CLUSTERS * np.nan, Y, CLUSTERS, Y, 3)

"""Mixup and cutmix: the share of each label is that of its image, and λ = 1 is the baseline."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tljax
from tljax.data.mixing import LABELS, MIX, MIXES, mix, mixed, parse
from tljax.errors import UserError
from tljax.phase import objective

KEY = jax.random.key(0)
BATCH = 64
VALUES = jnp.arange(BATCH, dtype=jnp.float32) / 100  # every image is all its number over 100
IMAGES = jnp.broadcast_to(VALUES[:, None, None, None], (BATCH, 8, 10, 3))
EXAMPLES = {"input": IMAGES, "label": jnp.arange(BATCH)}


@pytest.mark.parametrize("name", MIXES)
def test_an_image_holds_as_much_of_each_example_as_its_labels_say(name):
    """The mean over the pixels is λ · first + (1 − λ) · second, for both."""
    batch = mixed(EXAMPLES, mix(name, alpha=1.0), KEY)
    first, second = batch[LABELS].T
    np.testing.assert_array_equal(first, np.arange(BATCH))
    np.testing.assert_array_equal(np.sort(second), np.arange(BATCH))
    np.testing.assert_allclose(batch[MIX].sum(-1), 1, rtol=1e-6)
    expected = (batch[MIX] * VALUES[batch[LABELS]]).sum(-1)
    np.testing.assert_allclose(batch["input"].mean((1, 2, 3)), expected, rtol=1e-5)
    assert len(np.unique(batch[MIX][:, 0])) > 20


def test_mixup_is_a_mean_and_cutmix_a_rectangle():
    blended = mixed(EXAMPLES, mix("mixup", alpha=1.0), KEY)["input"]
    assert float(jnp.ptp(blended, (1, 2, 3)).max()) < 1e-6
    batch = mixed(EXAMPLES, mix("cutmix", alpha=1.0), KEY)
    for image, (own, other), (share, _) in zip(
        np.asarray(batch["input"]), batch[LABELS], batch[MIX], strict=True
    ):
        pasted = ~np.isclose(image[..., 0], VALUES[own])
        np.testing.assert_allclose(image[..., 0][pasted], VALUES[other], rtol=1e-6)
        rows, columns = (np.flatnonzero(pasted.any(axis)) for axis in (1, 0))
        if own != other:
            assert pasted.sum() == len(rows) * len(columns) == round(80 * (1 - float(share)))
            for side in filter(len, (rows, columns)):
                assert len(side) == np.ptp(side) + 1


def test_shares_are_of_a_beta_distribution():
    """Beta(α, α) has the mean ½ and the variance 1 / (4 (2 α + 1)): 0.125 for ½."""
    many = {"input": jnp.zeros((20_000, 1))}
    shares = np.asarray(mixed(many, mix("mixup", alpha=0.5), KEY)[MIX][:, 0])
    assert abs(shares.mean() - 0.5) < 0.01 and abs(shares.var() - 0.125) < 0.005


@pytest.mark.parametrize("name", MIXES)
def test_alpha_0_mixes_nothing(name):
    batch = mixed(EXAMPLES, mix(name, alpha=0.0), KEY)
    np.testing.assert_array_equal(batch["input"], IMAGES)
    np.testing.assert_array_equal(batch[MIX][:, 0], np.ones(BATCH))
    assert set(mixed({"input": IMAGES}, mix(name), KEY)) == {"input", MIX}


def weighted(*batches, **fields):
    """The term's loss of a network that gives its inputs as logits."""
    network = tljax.Network(trunk=tljax.models.MLP(features=()), heads={"label": Same()})
    term = tljax.term("cross_entropy", weight=1.0, **fields)
    phase = tljax.Phase(
        network=network, streams=[tljax.Stream("source", 2)], terms={"label": term}, steps=1
    )
    table = tljax.Table(input=np.zeros((2, 3), np.float32), label=[0, 2])
    tables, zero = {"source": table}, jnp.zeros(())
    return [
        float(objective.apply(phase, {}, {}, {"source": b}, tables, {}, zero, KEY)[0].sum())
        for b in batches
    ]


class Same(tljax.models.Linear):
    def __call__(self, z):
        return z


LOGITS = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]))
PLAIN = {"input": LOGITS, "label": jnp.array([0, 2])}
WHOLE = {"input": LOGITS, LABELS: jnp.array([[0, 1], [2, 1]]), MIX: jnp.array([[1.0, 0], [1, 0]])}
HALF = {**WHOLE, MIX: jnp.array([[0.75, 0.25], [0.5, 0.5]])}


def test_a_label_counts_by_its_share():
    """¾ · −ln ½ + ¼ · −ln ¼ = 0.8664; ½ · −ln 0.7 + ½ · −ln 0.2 = 0.9831; their mean 0.9247."""
    plain, whole, half = weighted(PLAIN, WHOLE, HALF)
    assert plain == whole == pytest.approx((np.log(2) - np.log(0.7)) / 2, rel=1e-6)
    assert half == pytest.approx((0.86643 + 0.98306) / 2, rel=1e-4)
    smooth = weighted(PLAIN, WHOLE, smoothing=0.1)
    assert smooth[0] == pytest.approx(smooth[1], rel=1e-6)


def test_weights_of_classes_weigh_each_label():
    """Weights 1, 2, 4 of labels 0 and 1, 2 and 1, times shares: ¾, ½, 2, 1 of 4¼."""
    plain, whole, half = weighted(PLAIN, WHOLE, HALF, class_weights=(1.0, 2.0, 4.0))
    assert plain == pytest.approx(whole, rel=1e-6)
    losses = -np.log([0.5, 0.25, 0.7, 0.2])
    assert half == pytest.approx(losses @ [0.75, 0.5, 2.0, 1.0] / 4.25, rel=1e-6)


def run(stream, **terms):
    table = tljax.Table(input=np.asarray(IMAGES), label=np.arange(BATCH) % 3)
    network = tljax.Network(
        trunk=tljax.models.MLP(features=(4,)), heads={"label": tljax.models.Linear()}
    )
    phase = tljax.Phase(network=network, streams=[stream], terms=terms, steps=2)
    state = tljax.start(phase, {"source": table}, KEY)
    return float(tljax.step(phase, state, {"source": table})[1].totals["label"])


def test_a_stream_that_mixes_nothing_is_the_baseline():
    term = tljax.term("cross_entropy")
    plain, still, moved = (
        run(tljax.Stream("source", 8, mix=each), label=term)
        for each in (None, mix("mixup", alpha=0.0), mix("cutmix"))
    )
    assert plain == pytest.approx(still, rel=1e-6) and plain != moved


def test_a_term_that_reads_one_label_is_refused():
    stream = tljax.Stream("source", 8, mix=mix("mixup"))
    with pytest.raises(UserError, match="reads labels that streams.source.mix has mixed"):
        run(stream, label=tljax.term(needs_labels))


def needs_labels(view):
    return view.batch["source"]["label"].mean()


def first_half(images, key, *, share: float = 0.5):
    return images, jnp.arange(len(images)), jnp.full(len(images), share)


def test_a_mix_of_ones_own():
    own = parse({"name": first_half, "share": 0.3}, "streams.source.mix")
    np.testing.assert_allclose(mixed(EXAMPLES, own, KEY)[MIX][0], [0.3, 0.7], rtol=1e-6)
    with pytest.raises(UserError, match="^mix.alpha: got -1"):
        mix("mixup", alpha=-1)

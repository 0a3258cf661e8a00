"""Text towers: what a token reads, which one is pooled, half precision, and names in files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mapping import check_alive, check_covered, check_half, drawn, entries_of

from tljax.errors import UserError
from tljax.models.clip import NAMINGS, TextTower, class_vectors

TINY = TextTower(vocabulary=30, length=12, width=16, depth=2, heads=2, end=29, projection=5)
BOTH_WAYS = TINY.clone(causal=False, pool="last", projection_bias=True)
X = jnp.array([[3, 7, 29, 4, 0, 0], [5, 1, 2, 9, 8, 29]])


@pytest.fixture(scope="module")
def variables():
    return {"params": drawn(TINY, X)}


def test_what_follows_the_end_does_not_matter(variables):
    """Read forwards; read both ways it does, unless a mask says otherwise."""
    z, maps = TINY.apply(variables, X, train=False)
    assert z.shape == (2, 5)
    shapes = dict.fromkeys(("block_0", "block_1", "tokens"), (2, 6, 16))
    assert {name: each.shape for name, each in maps.items()} == shapes
    alone, _ = TINY.apply(variables, X[:1, :3], train=False)
    np.testing.assert_allclose(z[:1], alone, rtol=1e-5, atol=1e-6)
    both = TINY.clone(causal=False)
    read, _ = both.apply(variables, X[:1], train=False)
    alone, _ = both.apply(variables, X[:1, :3], train=False)
    assert jnp.abs(read - alone).max() > 1e-2
    mask = jnp.array([[1, 1, 1, 0, 0, 0]])
    masked, _ = both.apply(variables, X[:1], train=False, mask=mask)
    np.testing.assert_allclose(masked, alone, rtol=1e-5, atol=1e-6)


def test_features_are_what_pool_says(variables):
    """The third token and the sixth are the ends."""
    kernel = variables["params"]["projection"]["kernel"]
    for pool, places in {"end": (2, 5), "last": (5, 5)}.items():
        z, maps = TINY.clone(pool=pool).apply(variables, X, train=False)
        tokens = jnp.stack([maps["tokens"][i, at] for i, at in enumerate(places)])
        np.testing.assert_allclose(z, tokens @ kernel, rtol=1e-5, atol=1e-6)
    z, maps = TINY.clone(pool="none", projection=0).apply(variables, X, train=False)
    np.testing.assert_array_equal(z, maps["tokens"])


@pytest.mark.parametrize("text", [TINY, BOTH_WAYS, TINY.clone(projection=0)])
def test_a_gradient_reaches_every_parameter(text):
    check_alive(text, X)


def test_half_precision_in_a_network(variables):
    check_half(TINY, variables["params"], X)


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("text", [TINY, BOTH_WAYS, TINY.clone(projection=0)])
def test_names_cover_every_leaf_once(naming, text):
    check_covered(entries_of(NAMINGS[naming], text), drawn(text, X))


def test_vectors_of_classes(variables):
    """Two classes of two prompts: a long feature counts as much as a short one."""
    tokens = jnp.stack([X, X[::-1, ::-1]])
    vectors = class_vectors(TINY, variables["params"], tokens)
    assert vectors.shape == (2, 5)
    z, _ = TINY.apply(variables, X, train=False)
    lengths = jnp.sqrt((z**2).sum(axis=1))
    mean = z[0] / lengths[0] + z[1] / lengths[1]
    cosine = vectors[0] @ mean / jnp.sqrt(mean @ mean)
    np.testing.assert_allclose(cosine, 1.0, rtol=1e-5)
    np.testing.assert_allclose((vectors**2).sum(axis=1), 1.0, rtol=1e-5)


def test_size_of_clip_vit_b_32s():
    """63.4 million: 49408·512 + 77·512 + 12·(12·512² + 13·512) + 2·512 + 512² = 63,428,096."""
    params = jax.eval_shape(lambda: TextTower().init(jax.random.key(0), X, train=True))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 63_428_096


def test_inputs_that_do_not_fit():
    with pytest.raises(UserError, match="^length: got 12; expected at least 13, the tokens of"):
        TINY.init(jax.random.key(0), jnp.ones((1, 13), int), train=False)

"""BERT: what is not read, pools, half precision, and names in files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mapping import KEY, check_alive, check_covered, check_half, drawn, entries_of

import tljax
from tljax.errors import UserError
from tljax.models import Linear, Network, weights
from tljax.models.bert import BERT, NAMINGS

TINY = BERT(vocabulary=30, length=12, width=16, depth=2, heads=2)
X = jnp.array([[3, 7, 29, 4, 0, 0], [5, 1, 2, 9, 8, 6]])


@pytest.fixture(scope="module")
def variables():
    return {"params": drawn(TINY, X)}


def test_padding_changes_nothing(variables):
    """Four tokens have the same features alone, with two of padding, and masked by hand."""
    padded, maps = TINY.apply(variables, X, train=False)
    assert {name: each.shape for name, each in maps.items()} == dict.fromkeys(
        ("block_0", "block_1", "tokens"), (2, 6, 16)
    )
    alone, _ = TINY.apply(variables, X[:1, :4], train=False)
    np.testing.assert_allclose(padded[:1], alone, rtol=1e-5, atol=1e-6)
    others = X[:1].at[:, 4:].set(11)
    mask = jnp.array([[1, 1, 1, 1, 0, 0]])
    masked, _ = TINY.apply(variables, others, train=False, mask=mask)
    np.testing.assert_allclose(masked, alone, rtol=1e-5, atol=1e-6)
    read, _ = TINY.apply(variables, others, train=False)
    assert jnp.abs(read - alone).max() > 1e-2


def test_features_are_what_pool_says(variables):
    mean, maps = TINY.apply(variables, X, train=False)
    last = maps["block_1"]
    np.testing.assert_allclose(mean[0], last[0, :4].mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mean[1], last[1].mean(axis=0), rtol=1e-5, atol=1e-6)
    for pool, features in {"first": last[:, 0], "none": last}.items():
        z, _ = TINY.clone(pool=pool).apply(variables, X, train=False)
        np.testing.assert_array_equal(z, features)
    with_pooler = TINY.clone(pool="pooler")
    params = with_pooler.init(KEY, X, train=False)["params"]
    z, maps = with_pooler.apply({"params": params}, X, train=False)
    first = maps["block_1"][:, 0]
    np.testing.assert_allclose(z, jnp.tanh(first @ params["pooler"]["kernel"]), rtol=1e-5)


def test_what_follows_a_separator_is_another_segment(variables):
    """9 ends the first segment, to which it belongs: [3 7 9 | 4 9]; without it nothing differs."""
    x = jnp.array([[3, 7, 9, 4, 9, 0]])
    pairs = TINY.clone(separator=9)
    segments = pairs.bind(variables)._segments(x)
    np.testing.assert_array_equal(segments, [[0, 0, 0, 1, 1, 1]])  # no third: there are two rows
    one, _ = TINY.apply(variables, x, train=False)
    two, _ = pairs.apply(variables, x, train=False)
    assert jnp.abs(one - two).max() > 1e-3
    same = jnp.array([[3, 7, 4, 9, 0, 0]])
    for x in (same, X[:1]):
        one, _ = TINY.apply(variables, x, train=False)
        np.testing.assert_array_equal(pairs.apply(variables, x, train=False)[0], one)


def test_an_input_of_padding_alone_is_finite(variables):
    z, _ = TINY.apply(variables, jnp.zeros((1, 3), "int32"), train=False)
    np.testing.assert_array_equal(z, np.zeros((1, 16)))


@pytest.mark.parametrize("pool", ["mean", "first", "pooler", "none"])
def test_a_gradient_reaches_every_parameter(pool):
    check_alive(TINY.clone(pool=pool), X)


def test_half_precision_in_a_network(variables):
    check_half(TINY, variables["params"], X)


def test_a_phase_learns_from_token_numbers():
    """Whether the first token is above 15, from 500 texts; padding comes after it."""
    draw = np.random.default_rng(0)
    tokens = draw.integers(1, 30, (600, 8)).astype("int32")
    tokens[:300, 6:] = 0
    label = (tokens[:, 0] > 15).astype("int32")
    table = tljax.data.Table(input=tokens, label=label, classes=("low", "high"))
    net = Network(trunk=TINY, heads={"label": Linear()})
    phase = tljax.Phase(
        network=net,
        streams=[tljax.Stream("source", batch=64)],
        terms={"label": tljax.term("cross_entropy")},
        optimizer=tljax.optimizer("adamw", learning_rate=1e-2),
        steps=80,
    )
    data = {"source": table[:500]}
    state = tljax.fit(phase, tljax.start(phase, data, KEY), data)
    assert tljax.evaluate(phase, state, table[500:])["accuracy"] > 0.9


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("pool", ["mean", "pooler"])
def test_names_cover_every_leaf_once(naming, pool):
    bert = TINY.clone(pool=pool)
    entries = entries_of(NAMINGS[naming], bert)
    check_covered(entries, drawn(bert, X))
    names = [name for entry in entries for name in entry.names]
    assert any(name.endswith("LayerNorm.gamma") for name in names) == ("gamma" in naming)
    assert all(name.startswith("bert.") for name in names) == ("bare" not in naming)


def test_a_pooler_of_a_file_is_read_where_it_is_asked_for(tmp_path):
    path, bert = tmp_path / "bert.safetensors", TINY.clone(pool="pooler")
    params = {"trunk": drawn(bert, X)}
    weights.save(bert, {"params": params, "batch_stats": {}}, path)
    for pool in ("pooler", "mean"):
        read = weights.load(TINY.clone(pool=pool), path)["params"]["trunk"]
        assert ("pooler" in read) == (pool == "pooler")
    jax.tree.map(np.testing.assert_array_equal, weights.load(bert, path)["params"], params)


def test_sizes_of_bert_base():
    """109,482,240 parameters with the pooler, as published for bert-base-uncased."""
    params = jax.eval_shape(lambda: BERT(pool="pooler").init(KEY, X, train=True))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 109_482_240


@pytest.mark.parametrize(
    ("x", "line"),
    [
        (jnp.ones((2, 6)), r"input: got 'float32 \(2, 6\)'; expected integers \(batch, tokens\)"),
        (jnp.ones((2, 2, 6), int), r"input: got 'int32 \(2, 2, 6\)'; expected integers"),
        (jnp.ones((2, 13), int), "length: got 12; expected at least 13, the tokens of an input"),
    ],
)
def test_inputs_that_do_not_fit(x, line):
    with pytest.raises(UserError, match=f"^{line}"):
        TINY.init(KEY, x, train=False)

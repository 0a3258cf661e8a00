"""wav2vec 2.0 and HuBERT: padding that is nothing, half precision, and names in files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mapping import KEY, check_alive, check_covered, check_half, drawn, entries_of

from tljax.errors import UserError
from tljax.models import Wav2Vec2, files, weights
from tljax.models.wav2vec import NAMINGS, Positions, shortest

FIELDS = dict(channels=(6, 8), kernels=(4, 3), strides=(2, 2), width=8, depth=2, heads=2)
FIELDS |= dict(positions=4, groups=2)
FORMS = {
    "base": Wav2Vec2(**FIELDS),
    "large": Wav2Vec2(**FIELDS, norm="layer", conv_bias=True, before=True),
}
WAVES = jnp.asarray(np.random.default_rng(0).normal(0.3, 1.0, (2, 40)), jnp.float32)
MASK = jnp.arange(40)[None] < jnp.array([[23], [40]])
each = pytest.mark.parametrize("trunk", FORMS.values(), ids=FORMS)


@each
def test_padding_changes_nothing(trunk):
    """23 samples alone, and 23 of 40 behind which others stand: (23 − 4) // 2 + 1 = 10 and then
    (10 − 3) // 2 + 1 = 4 frames; of 40 there are 9."""
    variables = {"params": drawn(trunk, WAVES)}
    run = jax.jit(lambda x, mask: trunk.apply(variables, x, train=False, mask=mask))
    z, maps = run(WAVES.at[0, 23:].set(7.0), MASK)
    alone, of_four = run(WAVES[:1, :23], None)
    assert {name: x.shape for name, x in maps.items()} == dict.fromkeys(
        ("block_0", "block_1"), (2, 9, 8)
    )
    assert of_four["block_1"].shape == (1, 4, 8)
    np.testing.assert_allclose(z[0], alone[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(maps["block_1"][0, :4], of_four["block_1"][0], rtol=1e-4, atol=1e-5)
    assert jnp.abs(run(WAVES.at[0, 23:].set(7.0), None)[0] - z).max() > 1e-3  # else not read
    nothing, _ = run(WAVES, jnp.arange(40)[None] < jnp.array([[5], [40]]))
    assert not nothing[0].any() and jnp.isfinite(nothing).all()


def test_loudness_and_offset_change_nothing_unless_asked():
    """Of the base form its own first norm sees to that."""
    trunk = FORMS["large"]
    variables = {"params": drawn(trunk, WAVES)}
    z, _ = trunk.apply(variables, WAVES, train=False)
    louder, _ = trunk.apply(variables, 5 * WAVES + 2, train=False)
    np.testing.assert_allclose(louder, z, rtol=1e-3, atol=1e-4)
    as_it_is, _ = trunk.clone(normalise=False).apply(variables, 5 * WAVES + 2, train=False)
    assert jnp.abs(as_it_is - z).max() > 1e-3


@pytest.mark.parametrize(("size", "groups"), [(4, 2), (5, 4), (3, 1)])
def test_positions_are_xlas_convolution(size, groups, monkeypatch):
    """Value and gradients, by a product a group, as on a CPU, and by XLA's, as elsewhere."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 8)), jnp.float32)
    layer = Positions(size, groups)
    params = layer.init(KEY, x)["params"]
    params["bias"] = jnp.arange(8.0)
    made = []
    for backend in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)

        def loss(params, x):
            return jnp.sin(layer.apply({"params": params}, x)).sum()

        made.append(jax.value_and_grad(loss, (0, 1))(params, x))
    for one, other in zip(*map(jax.tree.leaves, made), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@each
def test_a_gradient_reaches_every_parameter(trunk):
    check_alive(trunk, WAVES, mask=MASK)


@each
def test_half_precision_in_a_network(trunk):
    check_half(trunk, drawn(trunk, WAVES), WAVES)


@each
@pytest.mark.parametrize("naming", NAMINGS)
def test_names_cover_every_leaf_once(trunk, naming):
    entries = entries_of(NAMINGS[naming], trunk)
    check_covered(entries, drawn(trunk, WAVES))
    names = [name for entry in entries for name in entry.names]
    assert any(name.endswith("conv.weight_g") for name in names) == ("old" in naming)


def test_a_file_is_recognised_and_its_heads_are_left(tmp_path):
    path, trunk = tmp_path / "hubert.safetensors", FORMS["large"]
    params = {"trunk": drawn(trunk, WAVES)}
    weights.save(trunk, {"params": params}, path, "transformers, hubert, old")
    more = {"lm_head.weight": np.zeros((3, 8), "float32")}
    more["hubert.masked_spec_embed"] = np.zeros(8, "float32")
    tensors = files.read(path)
    files.write_safetensors(path, {**tensors, **more})
    assert weights.recognise(trunk, tensors) == "transformers, hubert, old"
    read = weights.load(trunk, path)["params"]
    jax.tree.map(np.testing.assert_array_equal, read, params)
    with pytest.raises(UserError, match="does not hold a Wav2Vec2 by the names of .*hubert, old"):
        weights.load(trunk.clone(depth=3), path)


def test_sizes_of_the_published_ones():
    """94,371,712 parameters of wav2vec2-base, 315,438,720 of wav2vec2-large-lv60, as transformers
    counts them with `masked_spec_embed` (of a width), and 20 ms a frame."""
    large = dict(norm="layer", conv_bias=True, before=True, width=1024, depth=24, heads=16)
    for trunk, wanted in ((Wav2Vec2(), 94_371_712), (Wav2Vec2(**large), 315_438_720)):
        params = jax.eval_shape(
            lambda trunk=trunk: trunk.init(KEY, jnp.zeros((1, 16000)), train=True)
        )
        assert sum(leaf.size for leaf in jax.tree.leaves(params)) == wanted - trunk.width
        assert shortest(trunk) == 400 and np.prod(trunk.strides) == 320


@pytest.mark.parametrize(
    ("fields", "x", "line"),
    [
        ({}, jnp.ones((2, 9, 3)), r"input: got 'float32 \(2, 9, 3\)'; expected waves"),
        ({}, jnp.ones((2, 40), int), r"input: got 'int32 \(2, 40\)'; expected waves"),
        ({}, jnp.ones((2, 7)), "input: got '7 samples'; expected at least 8 samples, one frame"),
        (dict(kernels=(4,)), WAVES, r"kernels: got \(4,\); expected one for each of 2 channels"),
        (dict(groups=3), WAVES, "groups: got 3; expected a divisor of the width, 8"),
    ],
)
def test_what_does_not_fit(fields, x, line):
    with pytest.raises(UserError, match=f"^{line}"):
        FORMS["base"].clone(**fields).init(KEY, x, train=False)

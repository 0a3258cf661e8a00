"""Vision transformers: images of any size, named maps, half precision, and names in files."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mapping import KEY, check_alive, check_covered, drawn, entries_of, saved, unflatten

from tljax import experiment
from tljax.errors import UserError
from tljax.models import Network, build, weights
from tljax.models.positions import cubic, resized
from tljax.models.vit import NAMINGS, ViT

TINY = dict(width=16, depth=2, heads=2, patch=4, image=16)
DINO = dict(layer_scale=1.0, registers=3)
CLIP = dict(pre_norm=True, patch_bias=False, gelu="quick", norm="pooled", projection=5)
X = jax.random.normal(KEY, (2, 16, 16, 3))


@pytest.mark.parametrize("size", [(16, 16), (24, 16), (9, 30), (4, 4)])
@pytest.mark.parametrize("resize", ["smooth", "plain"])
def test_images_of_any_size(size, resize):
    """One set of parameters; whole patches count."""
    vit = ViT(**TINY, registers=3, resize=resize)
    params = vit.init(KEY, X, train=False)
    x = jnp.ones((2, *size, 3))
    z, maps = jax.jit(lambda p, x: vit.apply(p, x, train=False))(params, x)
    tokens = 1 + 3 + (size[0] // 4) * (size[1] // 4)
    assert z.shape == (2, 16)
    assert {name: each.shape for name, each in maps.items()} == dict.fromkeys(
        ("block_0", "block_1", "tokens"), (2, tokens, 16)
    )


def test_sizes_of_the_variants():
    """Parameters of ViT-S/16, B/16 and L/16 without classifiers: 21.67, 85.80 and 303.30 million.

    Base, by hand: 12 · (12·768² + 13·768) + 768·768 + 768 + 198·768 + 2·768 = 85,798,656.
    """
    for variant, count in dict(small=21_665_664, base=85_798_656, large=303_301_632).items():
        vit = ViT(variant=variant)
        params = jax.eval_shape(lambda vit=vit: vit.init(KEY, jnp.ones((1, 16, 16, 3)), train=True))
        assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_features_are_what_pool_says():
    """Mean and both leave the class token and the registers out of the mean."""
    vit = ViT(**TINY, registers=3)
    variables = {"params": drawn(vit, X)}
    _, maps = vit.apply(variables, X, train=False)
    tokens = maps["tokens"]
    mean = tokens[:, 4:].mean(axis=1)
    expected = {
        "class": tokens[:, 0],
        "mean": mean,
        "both": jnp.concatenate([tokens[:, 0], mean], axis=1),
        "none": tokens,
    }
    for pool, features in expected.items():
        z, _ = vit.clone(pool=pool).apply(variables, X, train=False)
        np.testing.assert_allclose(z, features, rtol=1e-5, atol=1e-6)
    z, maps = vit.clone(pool="mean", norm="none").apply(variables, X, train=False)
    np.testing.assert_allclose(z, maps["block_1"][:, 4:].mean(axis=1), rtol=1e-5, atol=1e-6)


def test_a_norm_of_what_is_pooled():
    """With the pool "class" it does not matter which comes first; with "mean" it does."""
    vit = ViT(**TINY)
    variables = {"params": drawn(vit, X)}

    def features(**fields):
        return vit.clone(**fields).apply(variables, X, train=False)[0]

    one, other = (features(norm=norm) for norm in ("tokens", "pooled"))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    one, other = (features(norm=norm, pool="mean") for norm in ("tokens", "pooled"))
    assert jnp.abs(one - other).max() > 1e-2


@pytest.mark.parametrize(
    "fields",
    [{}, DINO, CLIP, dict(class_token=False, pool="attention"), dict(pool="mean", norm="pooled")],
)
def test_a_gradient_reaches_every_parameter(fields):
    check_alive(ViT(**TINY, **fields), X)


def test_half_precision():
    """bfloat16 throughout a network, and near float32 (8 bits of mantissa: 2⁻⁸ a rounding)."""
    net = Network(trunk=ViT(**TINY, **DINO))
    params = {"trunk": drawn(net.trunk, X)}
    z = net.apply({"params": params}, X, method="features")
    half = net.clone(precision="bfloat16")
    z_half, maps = half.apply({"params": half.rounded(params)}, X, method="features_and_maps")
    assert {each.dtype for each in maps.values()} == {jnp.dtype("bfloat16")}
    np.testing.assert_allclose(z_half, z, atol=0.05 * float(jnp.abs(z).max()))


def test_plain_positions_by_hand():
    """Two points to four, with a = −¾: the kernel at ¼, ¾ and 1¼, 1¾ from a point.

    W(d) = 1.25d³ − 2.25d² + 1 up to 1, −0.75d³ + 3.75d² − 6d + 3 up to 2: W(¼) = 0.87890625,
    W(¾) = 0.26171875, W(1¼) = −0.10546875, W(1¾) = −0.03515625. The new point 0 lies at −¼: the
    old point 0, repeated, weighs W(¼) + W(¾) + W(1¾), the old point 1 W(1¼).
    """
    near, far = 0.87890625 + 0.26171875 - 0.03515625, -0.10546875
    np.testing.assert_allclose(cubic(2, 4)[0], [near, far])
    # At ¼: points −1, 0, 1, 2 at 1¼, ¼, ¾, 1¾; the ends are repeated.
    np.testing.assert_allclose(cubic(2, 4)[1], [0.87890625 - 0.10546875, 0.26171875 - 0.03515625])
    np.testing.assert_allclose(cubic(2, 4)[2:], cubic(2, 4)[1::-1, ::-1])


@pytest.mark.parametrize("resize", ["smooth", "plain"])
def test_interpolated_positions_keep_a_constant(resize):
    table = jnp.ones((1, 9, 2)) * jnp.array([1.0, -2.0]).reshape(1, 1, 2)
    moved = resized(table, (2, 5), resize)
    np.testing.assert_allclose(moved, jnp.broadcast_to(table[:, :1], (1, 10, 2)), rtol=1e-6)
    np.testing.assert_array_equal(resized(table, (3, 3), resize), table)


FREE = dict(class_position=False)
CASES = [
    *(("timm", fields) for fields in ({}, {**DINO, **FREE}, dict(pool="mean", norm="pooled"))),
    ("timm", dict(class_token=False, pool="attention")),
    ("timm", dict(qkv_bias=False, pre_norm=True, patch_bias=False)),
    ("dinov2", DINO),
    *((name, fields) for name in ("transformers", "transformers, bare") for fields in ({}, DINO)),
    ("transformers", dict(pool="mean", class_token=False, qkv_bias=False)),
    *(("npz", {}), ("npz opt/target/", {}), ("big_vision params/", FREE)),
    *((name, CLIP) for name in ("clip", "clip, bare")),
    ("clip", dict(class_token=False, pool="attention")),
    ("big_vision params/img/", dict(class_token=False, pool="attention")),
]


@pytest.mark.parametrize(("naming", "fields"), CASES)
def test_names_cover_every_leaf_once(naming, fields):
    vit = ViT(**TINY, **fields)
    check_covered(entries_of(NAMINGS[naming], vit), drawn(vit, X))


@pytest.mark.parametrize(("naming", "fields"), CASES)
def test_a_naming_is_recognised_among_those_that_cannot_be(naming, fields):
    vit = ViT(**TINY, **fields)
    names = [name for entry in NAMINGS[naming](vit) for name in entry.names]
    known = weights.recognise(vit, names)
    assert {n for entry in NAMINGS[known](vit) for n in entry.names} >= set(names)
    assert weights.recognise(vit, ["nothing"]) in NAMINGS


@pytest.mark.parametrize(
    ("naming", "fields", "line"),
    [
        ("big_vision", {}, "ViT.class_position: got True; expected False"),
        ("timm", DINO, "ViT.class_position: got True; expected False"),
        ("npz", DINO, "ViT.registers: got 3; expected 0"),
        ("transformers", dict(pool="attention"), "ViT.pool: got 'attention'; expected 'class'"),
    ],
)
def test_names_that_do_not_express_a_field(naming, fields, line):
    with pytest.raises(UserError, match=f"^{line}"):
        NAMINGS[naming](ViT(**TINY, **fields))


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (dict(heads=3), "heads: got 3; expected a divisor of the width, 16"),
        (dict(patch=32, image=32), "patch: got 32; expected at most the image's size, 16 × 16"),
        (dict(class_token=False), "pool: got 'class'; expected mean, attention or none"),
    ],
)
def test_fields_that_do_not_fit(fields, line):
    vit = ViT(**{**TINY, **fields})
    with pytest.raises(UserError, match=f"^{line}"):
        vit.init(KEY, X, train=False)


def test_four_devices_and_less_memory_give_the_run_of_one(small, tmp_path):
    """Parameters and batch divided over a mesh, everything computed twice: the same loss."""
    del small.first, small.second
    small.phases = ()
    small.terms = dict(label=dict(term="cross_entropy", stream="source"))
    small.network.trunk = dict(name="vit", **TINY, pool="both")
    for table in (small.streams.source, small.streams.target, small.evaluate.target):
        table.size = 16
    losses = []
    for name, mesh, remat in (("one", (1, 1), "none"), ("four", (2, 2), "all")):
        small.mesh.data, small.mesh.shard = mesh
        small.remat = remat
        result = experiment.run(small, tmp_path / name)
        losses.append(result["evaluations"]["target"]["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_a_config_says_it():
    net = build({}, dict(name="vit", **TINY, pool="mean"), {})
    assert net.trunk == ViT(**TINY, pool="mean")
    with pytest.raises(UserError, match=r"^network.trunk.variant: unknown name 'smal'; .*'small'"):
        build({}, dict(name="vit", variant="smal"), {})


class LinenViT(nn.Module):
    """vision_transformer's or big_vision's ViT by hand, with linen's own attention: its names."""

    big_vision: bool

    @nn.compact
    def __call__(self, x):
        token = self.param("cls", nn.initializers.zeros, (1, 1, 16))
        token = jnp.broadcast_to(token, (len(x), 1, 16))
        x = nn.Conv(16, (4, 4), strides=(4, 4), padding="VALID", name="embedding")(x)
        x = x.reshape(len(x), -1, 16)
        if self.big_vision:  # before the class token is there
            x = x + self.param("pos_embedding", nn.initializers.zeros, (1, 16, 16))
        x = jnp.concatenate([token, x], axis=1)
        return LinenEncoder(self.big_vision, name="Transformer")(x)[:, 0]


class LinenEncoder(nn.Module):
    big_vision: bool

    @nn.compact
    def __call__(self, x):
        if not self.big_vision:
            x = LinenPositions(name="posembed_input")(x)
        for i in range(2):
            x = LinenBlock((0, 1, 0) if self.big_vision else (1, 2, 3), name=f"encoderblock_{i}")(x)
        return nn.LayerNorm(name="encoder_norm")(x)


class LinenPositions(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x + self.param("pos_embedding", nn.initializers.zeros, (1, 17, 16))


class LinenBlock(nn.Module):
    numbers: tuple[int, int, int]  # of attention, the second norm and the MLP

    @nn.compact
    def __call__(self, x):
        attention, norm, mlp = self.numbers
        y = nn.LayerNorm(name="LayerNorm_0")(x)
        name = f"MultiHeadDotProductAttention_{attention}"
        x = x + nn.MultiHeadDotProductAttention(2, name=name)(y)
        y = nn.LayerNorm(name=f"LayerNorm_{norm}")(x)
        return x + LinenMLP(name=f"MlpBlock_{mlp}")(y)


class LinenMLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(16, name="Dense_1")(nn.gelu(nn.Dense(64, name="Dense_0")(x)))


@pytest.mark.parametrize("big_vision", [False, True])
def test_npz_by_linens_own_attention(big_vision):
    vit = ViT(**TINY, gelu="tanh", class_position=not big_vision)
    params = drawn(vit, X)
    entries = entries_of(NAMINGS["big_vision" if big_vision else "npz"], vit)
    linen = unflatten(saved(entries, {"trunk": params}))
    with jax.default_matmul_precision("highest"):
        z, _ = vit.apply({"params": params}, X, train=False)
        theirs = LinenViT(big_vision).apply({"params": linen}, X)
    np.testing.assert_allclose(z, theirs, rtol=1e-4, atol=1e-5)

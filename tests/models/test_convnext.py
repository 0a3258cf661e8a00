"""ConvNeXt: maps of its stages, half precision, and names in files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mapping import KEY, check_alive, check_covered, drawn, entries_of

from tljax.errors import UserError
from tljax.models import Network
from tljax.models.convnext import NAMINGS, ConvNeXt

TINY = ConvNeXt(widths=(8, 12, 16), depths=(1, 2, 1))
X = jax.random.normal(KEY, (2, 33, 48, 3))


def test_maps_of_stages():
    """33 × 48 pixels: 8 × 12 patches, then 4 × 6 and 2 × 3 of them."""
    z, maps = TINY.apply({"params": drawn(TINY, X)}, X, train=False)
    assert z.shape == (2, 16)
    shapes = {"stage_0": (2, 8, 12, 8), "stage_1": (2, 4, 6, 12), "stage_2": (2, 2, 3, 16)}
    assert {name: each.shape for name, each in maps.items()} == shapes


def test_sizes_of_the_variants():
    """Published counts without the classifier: 28,589,128 − 769,000 and 88,591,464 − 1,025,000."""
    for variant, count in dict(tiny=27_820_128, base=87_566_464).items():
        net = ConvNeXt(variant=variant)
        params = jax.eval_shape(lambda net=net: net.init(KEY, jnp.ones((1, 32, 32, 3)), train=True))
        assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_a_gradient_reaches_every_parameter(scale):
    check_alive(TINY.clone(layer_scale=scale), X)


def test_half_precision():
    net = Network(trunk=TINY)
    params = {"trunk": drawn(TINY, X)}
    half = net.clone(precision="bfloat16")
    z = net.apply({"params": params}, X, method="features")
    variables = {"params": half.rounded(params)}
    z_half, maps = half.apply(variables, X, method="features_and_maps")
    assert {each.dtype for each in maps.values()} == {jnp.dtype("bfloat16")}
    np.testing.assert_allclose(z_half, z, atol=0.05 * float(jnp.abs(z).max()))


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_names_cover_every_leaf_once(naming, scale):
    net = TINY.clone(layer_scale=scale)
    check_covered(entries_of(NAMINGS[naming], net), drawn(net, X))


def test_fields_that_do_not_fit():
    with pytest.raises(UserError, match=r"^depths: got \(1,\); expected one for each of the wid"):
        ConvNeXt(widths=(8, 8), depths=(1,)).init(KEY, X, train=False)
    with pytest.raises(UserError, match="^patch: got 2; expected at most the image's size, 1 × 1"):
        TINY.init(KEY, jnp.ones((1, 4, 4, 3)), train=False)

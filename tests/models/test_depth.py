"""The order of a trunk's layers, and rules that go by it."""

import pytest

import tljax
from tljax.errors import UserError
from tljax.models import depth

STEM = ("trunk/conv1/**", "trunk/bn1/**")
FAMILIES = {
    "resnet": (dict(name="resnet", depth=18), 9, STEM, ("trunk/layer4_1/**",)),
    "vit": (
        dict(name="vit", width=16, depth=3, heads=2),
        4,
        ("trunk/class_token", "trunk/position", "trunk/patches/**"),
        ("trunk/block_2/**",),
    ),
    "convnext": (
        dict(name="convnext", widths=(4, 6), depths=(2, 1)),
        4,
        ("trunk/patches_0/**", "trunk/norm_0/**"),
        ("trunk/norm_1/**", "trunk/patches_1/**", "trunk/block_1_0/**"),
    ),
    "bert": (
        dict(name="bert", vocabulary=20, width=16, depth=2, heads=2),
        3,
        ("trunk/tokens/**", "trunk/positions/**", "trunk/segments/**", "trunk/norm/**"),
        ("trunk/block_1/**",),
    ),
    "mobilenet_v2": (dict(name="mobilenet_v2"), 19, ("trunk/stem/**",), ("trunk/last/**",)),
    "efficientnet_lite0": (
        dict(name="efficientnet_lite0"),
        18,
        ("trunk/stem/**",),
        ("trunk/last/**",),
    ),
    "text_tower": (
        dict(name="text_tower", vocabulary=20, width=16, depth=2, heads=2),
        3,
        ("trunk/tokens/**", "trunk/positions/**"),
        ("trunk/block_1/**",),
    ),
    "cnn": (
        dict(name="cnn", channels=(4, 6), norm="layer"),
        2,
        ("trunk/conv_0/**", "trunk/norm_0/**"),
        ("trunk/conv_1/**", "trunk/norm_1/**"),
    ),
    "cnn1d": (dict(name="cnn1d"), 4, ("trunk/block_0/**",), ("trunk/block_3/**",)),
    "cnn2d": (dict(name="cnn2d"), 3, ("trunk/block_0/**",), ("trunk/block_2/**",)),
    "conformer": (
        dict(name="conformer", width=8, depth=2, heads=2),
        3,
        ("trunk/halving_0/**", "trunk/halving_1/**", "trunk/embedding/**"),
        ("trunk/block_1/**",),
    ),
    "wav2vec2": (
        dict(
            **dict(name="wav2vec2", channels=(4, 6), kernels=(4, 3), strides=(2, 2), width=8),
            **dict(depth=2, heads=2, positions=4, groups=2),
        ),
        4,
        ("trunk/conv_0/**",),
        ("trunk/block_1/**",),
    ),
    "mlp": (dict(name="mlp", features=(4, 6)), 2, ("trunk/dense_0/**",), ("trunk/dense_1/**",)),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_layers_of_every_family(family):
    trunk, number, first, last = FAMILIES[family]
    found = depth.by_depth(trunk)
    assert (len(found), found[0], found[-1]) == (number, first, last)
    patterns = [pattern for layer in found for pattern in layer]
    assert len(set(patterns)) == len(patterns)


def test_every_family_is_here():
    assert set(FAMILIES) == set(tljax.models.trunks.TRUNKS)


def test_the_rate_falls_from_layer_to_layer():
    """Two layers: ½ for the last and ¼ for the first; heads, and all else, move whole."""
    trunk = tljax.models.MLP(features=(4, 6))
    expected = (("trunk/dense_0/**", 0.25), ("trunk/dense_1/**", 0.5), ("**", 1.0))
    assert depth.layerwise(trunk, 0.5) == expected
    for decay in (0.0, 1.5, "a"):
        with pytest.raises(UserError, match="decay: got"):
            depth.layerwise(trunk, decay)


def test_layers_are_unfrozen_one_by_one():
    trunk = tljax.models.MLP(features=(4, 6))
    first, last = ("trunk/dense_0/**", 0.0), ("trunk/dense_1/**", 0.0)
    rest = ("**", 1.0)
    assert depth.unfreezing(trunk) == [(first, last, rest), (first, rest), (rest,)]

"""Trunks and stems of sounds: what is not there has no part in anything; a speaker's own layers."""

import drawing
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tljax
from tljax import trees
from tljax.errors import UserError
from tljax.masked import Masked
from tljax.models import CNN1D, CNN2D, LHUC, Conformer, InputLayer, LogMel, Network
from tljax.models.speech import Conv1D, mean_over, sines

TRUNKS = {
    "cnn1d": CNN1D(channels=(6, 8), strides=(1, 2), kernel=3),
    "cnn2d": CNN2D(channels=(3, 4)),
    "conformer": Conformer(width=8, depth=1, heads=2, kernel=3, halvings=1),
    "transformer": Conformer(width=8, depth=1, heads=2, kernel=0, halvings=1),
}
MELS = jnp.asarray(np.random.default_rng(0).standard_normal((2, 24, 8)), jnp.float32)
MASK = jnp.arange(24)[None] < jnp.array([[13], [24]])


@pytest.fixture(scope="module", params=TRUNKS)
def trunk(request):
    """A trunk, its variables, and what it makes of mels and a mask."""
    made = TRUNKS[request.param]
    variables = drawing.variables(made, MELS, train=False)
    run = jax.jit(lambda v, x, mask: made.apply(v, x, train=False, mask=mask))
    return made, variables, run


def test_how_far_an_utterance_is_filled_up_changes_nothing(trunk):
    """13 frames alone, and 13 of 24 behind which stand others."""
    made, variables, run = trunk
    z, maps = run(variables, MELS, MASK)
    alone, _ = run(variables, MELS[:1, :13], None)
    np.testing.assert_allclose(z[0], alone[0], rtol=2e-4, atol=2e-5)
    other, _ = run(variables, MELS.at[0, 13:].set(9.0), MASK)
    np.testing.assert_allclose(other, z, rtol=1e-5, atol=1e-6)
    assert np.abs(run(variables, MELS, None)[0][0] - z[0]).max() > 1e-3  # else it is not read
    assert all(name == f"block_{i}" for i, name in enumerate(maps)) and z.dtype == jnp.float32


def test_no_gradient_comes_from_what_is_not_there(trunk):
    _, variables, run = trunk
    slope = jax.grad(lambda x: run(variables, x, MASK)[0].sum())(MELS)
    assert not slope[0, 13:].any() and slope[0, :13].any(-1).all()
    assert slope[1].any(-1).sum() > 20  # but for units that ReLU keeps at 0
    nothing, _ = run(variables, MELS, jnp.zeros_like(MASK))
    assert jnp.isfinite(nothing).all()


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (1, 4), (2, 4)])
def test_a_convolution_is_xlas(stride, groups, monkeypatch):
    """By slices, as on a CPU, and by XLA's own, as elsewhere."""
    x = MELS[:, :11, :4]
    layer = Conv1D(4 if groups > 1 else 6, 5, stride, groups)
    params = layer.init(jax.random.key(0), x)["params"]
    params["bias"] = jnp.arange(params["bias"].size, dtype=jnp.float32)
    expected = jax.lax.conv_general_dilated(
        x, params["kernel"], (stride,), [(2, 2)], dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=groups,
    )  # fmt: skip
    for backend in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        y = layer.apply({"params": params}, x)
        np.testing.assert_allclose(y, expected + params["bias"].reshape(1, 1, -1), atol=1e-5)


def test_means_by_hand():
    """Of 1, 3 and 8 the first two are there: 2; of none: 0."""
    x = jnp.array([[[1.0], [3.0], [8.0]]] * 2)
    mask = jnp.array([[True, True, False], [False] * 3])
    assert mean_over(x, mask).tolist() == [[2.0], [0.0]] and mean_over(x, None)[0, 0] == 4


def test_places_by_hand():
    """Width 4: wavelengths 2π and 200π; place 1 is sin 1, sin .01, cos 1, cos .01."""
    expected = [[0, 0, 1, 1], [0.8415, 0.01, 0.5403, 0.99995]]
    np.testing.assert_allclose(sines(2, 4), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("trunk", "x", "says"),
    [
        (CNN1D(), jnp.zeros((1, 100)), r"input: got .*expected floats \(batch, frames, mels\)"),
        (CNN1D(channels=(4,)), MELS, "strides: got .*one for each of 1 channels"),
        (CNN1D(kernel=4), MELS, "kernel: got 4; expected an odd size"),
        (CNN2D(channels=(2,) * 4), MELS, "channels: got .*halve 24 frames and 8 mels"),
    ],
)
def test_what_does_not_fit_is_refused(trunk, x, says):
    with pytest.raises(UserError, match=says):
        trunk.init(jax.random.key(0), x, train=False)


WAVES = Masked(
    jnp.asarray(np.random.default_rng(1).standard_normal((2, 400)), jnp.float32),
    jnp.arange(400)[None] < jnp.array([[300], [400]]),
)
FRONT = dict(rate=4000, window=100, hop=40, n_fft=128, mels=8)


class TestStems:
    def test_an_input_layer_begins_as_the_identity(self):
        plain, own = LogMel(**FRONT), LogMel(**FRONT, input_layer=True)
        variables = own.init(jax.random.key(0), WAVES.input, mask=WAVES.mask)
        assert list(trees.flatten(variables["params"])) == [
            "input_layer/linear/bias",
            "input_layer/linear/kernel",
        ]
        y, mask = own.apply(variables, WAVES.input, mask=WAVES.mask)
        expected, frames = plain.apply({}, WAVES.input, mask=WAVES.mask)
        np.testing.assert_allclose(y, expected, rtol=1e-6)
        assert (mask == frames).all() and mask.sum(1).tolist() == [8, 11]
        moved = jax.tree.map(lambda leaf: leaf + 1, variables)
        assert not own.apply(moved, WAVES.input, mask=WAVES.mask)[0][0, 8:].any()

    def test_an_axis_of_channels_for_trunks_of_pictures(self):
        y, _ = LogMel(**FRONT, channel=True, input_layer=True).init_with_output(
            jax.random.key(0), WAVES.input
        )[0]
        assert y.shape == (2, 11, 8, 1)

    def test_mels_that_a_transform_made_have_an_input_layer_too(self):
        (y, mask), _ = InputLayer().init_with_output(jax.random.key(0), MELS, MASK)
        np.testing.assert_array_equal(y, np.where(MASK[..., None], MELS, 0))
        assert mask is MASK


def test_an_input_layer_alone_moves():
    """By the pattern of its path, through the public face; everything else stays bit for bit."""
    network = Network(
        trunk=TRUNKS["cnn1d"],
        stems={"mel": LogMel(**FRONT, input_layer=True)},
        heads={"label": tljax.models.Linear()},
    )
    table = tljax.data.Table(input=WAVES.input, mask=WAVES.mask, label=[0, 1])
    phase = tljax.Phase(
        network=network,
        streams=[tljax.Stream("new", batch=2, stem="mel")],
        terms={"label": tljax.term("cross_entropy", stream="new")},
        train={"stems/mel/input_layer/**": 1.0, "**": 0.0},
        steps=1,
    )
    state = tljax.start(phase, {"new": table}, jax.random.key(0))
    before = jax.tree.map(np.asarray, trees.flatten(state.params))
    state, _ = tljax.step(phase, state, {"new": table})
    moved = [p for p, leaf in trees.flatten(state.params).items() if (leaf != before[p]).any()]
    assert moved == ["stems/mel/input_layer/linear/bias", "stems/mel/input_layer/linear/kernel"]


def test_hidden_units_are_scaled_behind_the_nonlinearity():
    """At 0 nothing changes; 2 sigmoid(log 3) = 1.5 times what the last block gives."""
    network = Network(trunk=TRUNKS["cnn1d"], adapters={"own": LHUC(only=("trunk/block_1",))})
    bare = Network(trunk=TRUNKS["cnn1d"])
    params = bare.init(jax.random.key(0), MELS, method="features")["params"]

    def features(net, amplitude=None):
        own = {"trunk": {"block_1": {"amplitude": jnp.full(8, amplitude or 0.0)}}}
        tree = params if amplitude is None else {**params, "adapters": {"own": own}}
        return net.apply({"params": tree}, Masked(MELS, MASK), method="features")

    np.testing.assert_array_equal(features(network, 0.0), features(bare))
    np.testing.assert_allclose(features(network, np.log(3.0)), 1.5 * features(bare), rtol=1e-5)


def test_amplitudes_of_all_blocks_alone_are_trained():
    network = Network(
        trunk=TRUNKS["cnn1d"], adapters={"own": LHUC()}, heads={"label": tljax.models.Linear()}
    )
    table = tljax.data.Table(input=MELS, mask=MASK, label=[0, 1])
    phase = tljax.Phase(
        network=network,
        streams=[tljax.Stream("new", batch=2)],
        terms={"label": tljax.term("cross_entropy", stream="new")},
        train={"adapters/**": 1.0, "**": 0.0},
        steps=1,
    )
    state = tljax.start(phase, {"new": table}, jax.random.key(0))
    own = trees.flatten(state.params["adapters"])
    assert {path: leaf.shape for path, leaf in own.items()} == {
        "own/trunk/block_0/amplitude": (6,),
        "own/trunk/block_1/amplitude": (8,),
    }
    state, _ = tljax.step(phase, state, {"new": table})
    assert all(leaf.any() for leaf in jax.tree.leaves(state.params["adapters"]))

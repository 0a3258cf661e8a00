"""Layers against XLA's own, batch statistics, and the paths and errors of a network."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tljax import experiment, models, trees
from tljax.errors import UserError
from tljax.models import build
from tljax.models.convolution import chosen, convolve, pads_of
from tljax.models.layers import Conv, Norm, max_pool, max_pool_3, relu
from tljax.train.lanes import BACKWARD

KEY = jax.random.key(0)
GEOMETRIES = [
    # height, width, kernel, stride
    (6, 6, 3, 1),
    (7, 5, 3, 1),
    (7, 6, 3, 2),
    (5, 7, 1, 1),
    (7, 4, 1, 2),
    (9, 6, 5, 3),
    (2, 1, 5, 1),  # a kernel larger than the image
]


@pytest.mark.parametrize(("height", "width", "kernel", "stride"), GEOMETRIES)
def test_shifted_convolution_is_xlas(height, width, kernel, stride):
    """Value and both gradients, in float64."""
    draw = np.random.default_rng(0).normal
    shape = (2, -(-height // stride), -(-width // stride), 4)

    @functools.partial(jax.jit, static_argnums=3)
    def all_three(x, k, w, form):
        value, pull = jax.vjp(lambda x, k: convolve(x, k, stride, form=form), x, k)
        return value, *pull(w)

    with jax.enable_x64(True):
        x, k = draw(size=(2, height, width, 3)), draw(size=(kernel, kernel, 3, 4))
        w = draw(size=shape)
        expected = all_three(x, k, w, "xla")
        tiles = ("tiles",) * (kernel == 3 and stride == 1)
        for form in ("slices", "forward", *tiles):
            one = all_three(x, k, w, form)
            assert one[0].shape == shape and one[0].dtype == jnp.float64
            for mine, xlas in zip(one, expected, strict=True):
                np.testing.assert_allclose(mine, xlas, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("height", "width", "kernel", "stride"), GEOMETRIES)
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_depthwise_convolution_by_products_is_xlas(height, width, kernel, stride, times, padding):
    """Value and both gradients, in float64; of "same" also XLA's own padding of that name."""
    draw = np.random.default_rng(0).normal
    pads = [pads_of(size, kernel, stride, padding) for size in (height, width)]
    shape = (2, -(-height // stride), -(-width // stride), 3 * times)

    @functools.partial(jax.jit, static_argnums=(3, 4))
    def all_three(x, k, w, form, pads):
        run = functools.partial(convolve, stride=stride, form=form, pads=pads, groups=3)
        value, pull = jax.vjp(lambda x, k: run(x, k), x, k)
        return value, *pull(w)

    with jax.enable_x64(True):
        x, k = draw(size=(2, height, width, 3)), draw(size=(kernel, kernel, 1, 3 * times))
        w = draw(size=shape)
        given = tuple(pads) if padding == "symmetric" else "SAME"
        one = all_three(x, k, w, "slices", tuple(pads))
        other = all_three(x, k, w, "xla", given)
        assert one[0].shape == shape
        for mine, xlas in zip(one, other, strict=True):
            np.testing.assert_allclose(mine, xlas, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        (dict(kernel=7, stride=2), 9),
        (dict(kernel=3, stride=2, padding="same"), 8),
        (dict(kernel=5, groups=4), 5),
        (dict(kernel=3, groups=2), 5),
        (dict(kernel=1, stride=2), 5),
        (dict(kernel=3), 66),
    ],
)
def test_a_layer_takes_whichever_form_pays_and_gives_the_same(fields, size):
    x = np.random.default_rng(0).normal(size=(1, size, size, 4)).astype(np.float32)
    y, variables = jax.jit(
        lambda key: Conv(6 if "groups" not in fields else 4, **fields).init_with_output(key, x)
    )(KEY)
    stride, groups = fields.get("stride", 1), fields.get("groups", 1)
    kernel = variables["params"]["kernel"]
    assert kernel.shape[:3] == (*[fields["kernel"]] * 2, 4 // groups)
    pads = "SAME" if "padding" in fields else None
    expected = convolve(x, kernel, stride, form="xla", pads=pads, groups=groups)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_same_padding_by_hand():
    """Of 4 pixels at a stride of 2 three are seen from 0 and from 2: one is padded, behind; of 5,
    from −1, 1 and 3: one on either side."""
    assert pads_of(4, 3, 2, "same") == (0, 1)
    assert pads_of(5, 3, 2, "same") == (1, 1)
    assert pads_of(4, 1, 2, "same") == (0, 0)
    assert pads_of(4, 3, 2, "symmetric") == (1, 1)


def test_convolution_by_hand():
    """A kernel with a 1 above its centre shows each pixel the one above it; zeros come in."""
    x = jnp.arange(1.0, 5.0).reshape(1, 2, 2, 1)
    kernel = jnp.zeros((3, 3, 1, 1)).at[0, 1].set(1.0)
    for form in ("slices", "xla", "forward", "tiles"):
        y = convolve(x, kernel, 1, form=form)
        np.testing.assert_array_equal(y[0, :, :, 0], [[0, 0], [1, 2]])


def test_the_form_by_shape():
    """As benchmarks/convolutions.py measured: XLA's own of slices that leave the caches, but for
    tiles of wide maps; slices else, and of maps smaller than the kernel."""
    assert chosen((8, 56, 56, 64), 3, 1, 1) == chosen((8, 14, 14, 256), 3, 1, 1) == "tiles"
    assert chosen((8, 56, 56, 64), 3, 2, 1) == chosen((128, 14, 14, 32), 5, 1, 1) == "forward"
    assert chosen((8, 224, 224, 3), 7, 2, 1) == chosen((16, 64, 64, 3), 7, 2, 1) == "forward"
    assert chosen((128, 8, 8, 16), 3, 1, 1) == chosen((8, 7, 7, 512), 3, 1, 1) == "slices"
    assert chosen((16, 2, 2, 512), 3, 1, 1) == chosen((10_000, 2, 2, 512), 3, 1, 1) == "slices"
    assert chosen((8, 224, 224, 3), 1, 1, 1) == chosen((8, 112, 112, 32), 3, 1, 32) == "slices"
    assert chosen((8, 112, 112, 32), 3, 1, 4) == "xla"


@pytest.mark.parametrize(
    ("trunk", "shape"),
    [
        (models.CNN(kernel=5), (128, 28, 28, 3)),  # XLA's own convolutions
        (models.ConvNeXt(widths=(4, 6), depths=(1, 1)), (2, 32, 32, 3)),
        (models.ResNet(depth=18), (8, 64, 64, 3)),  # tiles, slices, a stride of 2
    ],
)
def test_the_gradient_of_a_trunk_is_of_convolutions_forward(trunk, shape):
    """So that a CPU's steps are looped, where others take tens of times as long."""
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    run = functools.partial(trunk.apply, train=False)
    variables = jax.eval_shape(functools.partial(trunk.init, train=False), KEY, x)
    gradient = jax.grad(
        lambda variables, x: sum(y.sum() for y in jax.tree.leaves(run(variables, x)))
    )
    program = jax.jit(gradient).lower(variables, x).as_text()
    assert not BACKWARD.search(program)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 7), (14, 14), (5, 3)])
def test_tiles_of_any_size_and_padding_lose_no_digits(height, width):
    """In float32, of a hundred inputs, against float64: as near as the sum itself."""
    draw = np.random.default_rng(0).normal
    x, k = draw(size=(2, height, width, 100)), draw(size=(3, 3, 100, 5))
    for pads in (((1, 1), (1, 1)), ((0, 2), (3, 1))):
        runs = [
            jax.jit(functools.partial(convolve, stride=1, form=form, pads=pads))
            for form in ("xla", "tiles")
        ]
        with jax.enable_x64(True):
            exact = np.asarray(runs[0](x, k))
        usual, tiles = (np.asarray(run(x.astype("f4"), k.astype("f4"))) for run in runs)
        assert tiles.shape == exact.shape
        most = np.abs(exact).max()
        assert np.abs(usual - exact).max() < 1e-5 * most
        assert np.abs(tiles - exact).max() < 1e-5 * most


def test_a_spectral_layer_has_a_largest_singular_value_of_one():
    """Of a kernel in which one value stands out; its gradient is that of W / σ(W)."""
    draw = np.random.default_rng(0).normal
    layer = models.heads.Spectral(5)
    z, kernel = draw(size=(3, 9)), draw(size=(9, 5)) + 2 * draw(size=(9, 1)) * draw(size=(1, 5))
    params = {"kernel": jnp.asarray(7 * kernel, jnp.float32), "bias": jnp.arange(5.0)}

    def of(kernel):
        return layer.apply({"params": {**params, "kernel": kernel}}, jnp.asarray(z, jnp.float32))

    def exact(kernel):
        return z @ (kernel / jnp.linalg.svd(kernel, compute_uv=False)[0]) + jnp.arange(5.0)[None]

    np.testing.assert_allclose(of(params["kernel"]), exact(params["kernel"]), rtol=1e-4, atol=1e-4)
    ours, theirs = (
        jax.grad(lambda k, f=f: jnp.sin(f(k)).sum())(params["kernel"]) for f in (of, exact)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-4)


def test_a_depthwise_kernels_gradient_of_any_height_is_xlas():
    """Heights that bands of 4 to 8 rows divide and that they do not, in a form of 25 sums too."""
    draw = np.random.default_rng(0).normal
    for height, size in ((8, 3), (11, 3), (26, 5)):
        x = draw(size=(2, height, 3, 2)).astype(np.float32)
        w, k = draw(size=x.shape).astype(np.float32), draw(size=(size, size, 1, 2))

        @functools.partial(jax.jit, static_argnums=2)
        def gradient(k, x, form, w=w):
            return jax.grad(lambda k: (convolve(x, k, 1, form=form, groups=2) * w).sum())(k)

        mine, xlas = (gradient(k.astype(np.float32), x, form) for form in ("slices", "xla"))
        np.testing.assert_allclose(mine, xlas, rtol=1e-4, atol=1e-4)


def test_relu_by_hand():
    x = jnp.array([-1.0, 0.0, 2.0, 6.0, 7.0])
    for most, y, slope in (
        (6.0, [0, 0, 2, 6, 6], [0, 0, 1, 0, 0]),
        (None, x.clip(0), [0, 0, 1, 1, 1]),
    ):
        function = functools.partial(relu, **({} if most is None else {"most": most}))
        np.testing.assert_array_equal(function(x), y)
        np.testing.assert_array_equal(jax.grad(lambda x, f=function: f(x).sum())(x), slope)


@pytest.mark.parametrize("groups", [1, 4])
def test_a_norm_by_running_statistics_folds_into_the_convolution(groups):
    """Value and all gradients are those of the two by themselves."""

    class Both(nn.Module):
        folded: bool

        @nn.compact
        def __call__(self, x):
            conv = Conv(4, use_bias=False, groups=groups, name="conv")
            bn = Norm("batch", 0.01, name="bn")
            if self.folded:
                return bn(x, train=False, conv=conv)
            return bn(conv(x), train=False)

    draw = np.random.default_rng(0).normal
    x, w = (jnp.asarray(draw(size=(2, 5, 5, 4)), jnp.float32) for _ in range(2))
    variables = Both(True).init(KEY, x)
    variables = jax.tree.map(
        lambda leaf: leaf + 0.3 * jnp.sin(jnp.arange(leaf.size)).reshape(leaf.shape), variables
    )

    def both(folded):
        def loss(params, x):
            y = Both(folded).apply({**variables, "params": params}, x)
            return (y * w).sum(), y

        return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(variables["params"], x)

    assert jax.tree.structure(variables) == jax.tree.structure(Both(False).init(KEY, x))
    close = functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5)
    jax.tree.map(close, both(True), both(False))


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 4), (4, 7), (5, 7)])
def test_max_pool_is_linens(height, width):
    draw = np.random.default_rng(0).normal
    x = draw(size=(2, height, width, 3)).astype(np.float32)
    w = draw(size=(2, height // 2, width // 2, 3)).astype(np.float32)

    @jax.jit
    def both(x, w):
        one, pull = jax.vjp(max_pool, x)
        other, pull_linen = jax.vjp(lambda x: nn.max_pool(x, (2, 2), (2, 2)), x)
        return (one, *pull(w)), (other, *pull_linen(w))

    jax.tree.map(np.testing.assert_array_equal, *both(x, w))


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 4), (1, 7)])
def test_max_pool_3_is_linens(height, width):
    """Of maps below 0 too, where padding by zeros would win."""
    draw = np.random.default_rng(0).normal
    x = draw(size=(2, height, width, 3)).astype(np.float32) - 2
    w = draw(size=(2, -(-height // 2), -(-width // 2), 3)).astype(np.float32)

    @jax.jit
    def both(x, w):
        one, pull = jax.vjp(max_pool_3, x)
        theirs = functools.partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2))
        other, pull_linen = jax.vjp(lambda x: theirs(x, padding=((1, 1), (1, 1))), x)
        return (one, *pull(w)), (other, *pull_linen(w))

    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), *both(x, w))


def test_max_pool_divides_the_gradient_among_equals():
    """Nothing is lost or doubled where an image is flat."""
    gradient = jax.grad(lambda x: max_pool(x).sum())(jnp.zeros((1, 2, 2, 1)))
    np.testing.assert_array_equal(gradient, jnp.full((1, 2, 2, 1), 0.25))


def test_epsilon_and_momentum_of_a_norm_by_hand():
    """Variance 3 and ε 1 divide by 2; of the running mean 0, half is kept and half is 4."""
    x = 4 + np.sqrt(3) * jnp.array([[-1.0], [1.0]])
    norm = Norm("batch", epsilon=1.0, momentum=0.5)
    variables = norm.init(KEY, x, train=False)
    y, moved = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y, (x - 4) / 2, rtol=1e-5)
    np.testing.assert_allclose(moved["batch_stats"]["statistics"]["mean"], [2], rtol=1e-6)
    # Layers are normalised each by itself: here by √(0 + 4).
    y = Norm("layer", epsilon=4.0).init_with_output(KEY, jnp.array([[1.0, 3.0]]), train=True)[0]
    np.testing.assert_allclose(y, jnp.array([[-1.0, 1.0]]) / np.sqrt(5), rtol=1e-5)


SOURCE = jnp.array([[0.0], [2.0]])  # mean 1, variance 1
TARGET = jnp.array([[10.0], [16.0]])  # mean 13, variance 9


class Both(nn.Module):
    """One normalisation that two streams pass, each by itself."""

    separate: bool

    @nn.compact
    def __call__(self, source, target, train):
        norm = Norm("batch", name="norm")
        names = ("source", "target") if self.separate else (None, None)
        pairs = zip((source, target), names, strict=True)
        return [norm(x, train=train, stream=name) for x, name in pairs]


def normalised(separate, source=SOURCE, target=TARGET):
    """(outputs, first variables, moved batch statistics) of a training pass."""
    net = Both(separate)
    variables = net.init(KEY, source, target, True)
    outputs, moved = net.apply(variables, source, target, True, mutable=["batch_stats"])
    return outputs, variables, moved["batch_stats"]["norm"]


def test_separate_statistics_by_hand():
    """Running averages start at mean 0, variance 1 and keep 0.99 of what they were."""
    (source, target), variables, moved = normalised(separate=True)
    np.testing.assert_allclose(source, [[-1], [1]], rtol=1e-4)
    np.testing.assert_allclose(target, [[-1], [1]], rtol=1e-4)
    assert set(moved) == {"statistics_source", "statistics_target"}
    np.testing.assert_allclose(moved["statistics_source"]["mean"], [0.01 * 1], rtol=1e-5)
    np.testing.assert_allclose(moved["statistics_source"]["var"], [0.99 + 0.01 * 1], rtol=1e-5)
    np.testing.assert_allclose(moved["statistics_target"]["mean"], [0.01 * 13], rtol=1e-5)
    np.testing.assert_allclose(moved["statistics_target"]["var"], [0.99 + 0.01 * 9], rtol=1e-5)
    # Scale and bias exist once.
    assert list(trees.flatten(variables["params"])) == ["norm/bias", "norm/scale"]


def test_separate_statistics_of_a_stream_depend_on_that_stream_alone():
    (before, target), _, moved = normalised(separate=True)
    (after, other), _, moved_too = normalised(separate=True, target=5 * TARGET**2)
    np.testing.assert_array_equal(before, after)
    for name in ("mean", "var"):
        one, two = (each["statistics_source"][name] for each in (moved, moved_too))
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(
        moved["statistics_target"]["mean"], moved_too["statistics_target"]["mean"]
    )


def test_joint_statistics_have_one_running_average():
    _, _, moved = normalised(separate=False)
    assert set(moved) == {"statistics"}
    # Both passes move it: 0.99·0.01·1 + 0.01·13.
    np.testing.assert_allclose(moved["statistics"]["mean"], [0.0099 + 0.13], rtol=1e-5)


def test_evaluation_uses_the_running_averages_of_the_stream_and_moves_nothing():
    net = Both(separate=True)
    variables = net.init(KEY, SOURCE, TARGET, True)
    _, moved = net.apply(variables, SOURCE, TARGET, True, mutable=["batch_stats"])
    variables = {"params": variables["params"], **moved}
    (source, target), still = net.apply(variables, SOURCE, TARGET, False, mutable=["batch_stats"])
    # (x − running mean)/√(running variance), with the numbers worked above.
    np.testing.assert_allclose(source, SOURCE - 0.01, rtol=1e-4)
    np.testing.assert_allclose(target, (TARGET - 0.13) / np.sqrt(1.08), rtol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, still["batch_stats"], moved["batch_stats"])


def test_scale_and_bias_act_on_every_stream():
    net = Both(separate=True)
    variables = net.init(KEY, SOURCE, TARGET, True)
    params = {"norm": {"scale": jnp.array([3.0]), "bias": jnp.array([-2.0])}}
    variables = {**variables, "params": params}
    outputs, _ = net.apply(variables, SOURCE, TARGET, True, mutable=["batch_stats"])
    for output in outputs:
        np.testing.assert_allclose(output, [[-5], [1]], rtol=1e-4)


def network(**changes):
    return build(**fields(**changes))


def fields(**changes):
    usual = {
        "stems": {"grey": {"name": "adapter", "features": 2}},
        "trunk": {"name": "cnn", "channels": (3, 5)},
        "heads": {
            "label": {"name": "linear"},
            "domain": {"name": "mlp", "hidden": (6,), "outputs": 1},
        },
    }
    return {**usual, **changes}


IMAGES = jnp.zeros((2, 8, 8, 1))


def initialised(net, use):
    """The shapes of the variables."""
    return jax.eval_shape(nn.init(use, net), KEY)


def test_parameters_stand_under_stems_trunk_and_heads():
    def use(net):
        z = net.features(IMAGES, stem="grey", train=True)
        assert z.shape == (2, 2 * 2 * 5)  # 8×8 halved twice, 5 channels
        return net.head("label", z, 4), net.head("domain", z)

    params = initialised(network(), use)["params"]
    shapes = {path: leaf.shape for path, leaf in trees.flatten(params).items()}
    assert shapes == {
        "heads/domain/dense_0/bias": (6,),
        "heads/domain/dense_0/kernel": (20, 6),
        "heads/domain/output/bias": (1,),
        "heads/domain/output/kernel": (6, 1),
        "heads/label/output/bias": (4,),
        "heads/label/output/kernel": (20, 4),
        "stems/grey/mix/bias": (2,),
        "stems/grey/mix/kernel": (1, 2),
        "trunk/conv_0/bias": (3,),
        "trunk/conv_0/kernel": (3, 3, 2, 3),
        "trunk/conv_1/bias": (5,),
        "trunk/conv_1/kernel": (3, 3, 3, 5),
    }


def test_a_head_takes_the_width_that_it_is_fed_and_is_not_made_unless_called():
    def use(net):
        z = net.features(IMAGES, train=True)
        return net.head("domain", jnp.concatenate([z, z, z], axis=-1))

    params = initialised(network(), use)["params"]
    assert set(params) == {"trunk", "heads"}
    assert set(params["heads"]) == {"domain"}
    assert params["heads"]["domain"]["dense_0"]["kernel"].shape == (3 * 20, 6)


def test_first_parameters_of_a_module_do_not_depend_on_the_others():
    trunk = {"name": "mlp", "features": (3,)}
    net = network(trunk=trunk)

    def use(net, heads):
        z = net.features(IMAGES, train=True)
        return [net.head(name, z, default=4) for name in heads]

    one, other = (
        nn.init(functools.partial(use, heads=heads), net)(KEY)["params"]
        for heads in (["label"], ["domain", "label"])
    )
    assert set(other["heads"]) == {"domain", "label"}
    for path, leaf in trees.flatten(one).items():
        np.testing.assert_array_equal(leaf, trees.flatten(other)[path])


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("pool", [True, False])
def test_every_trunk_has_features_of_its_images(norm, pool):
    trunks = (
        {"name": "cnn", "channels": (3, 5), "pool": pool, "norm": norm},
        {"name": "mlp", "features": (7, 20), "norm": norm},
    )
    for trunk in trunks:
        use = lambda net: net.features(IMAGES, train=True)  # noqa: E731
        z, variables = jax.eval_shape(nn.init_with_output(use, network(trunk=trunk)), KEY)
        assert z.shape == (2, 20)
        assert ("batch_stats" in variables) == (norm == "batch")


def test_relu_after_the_maximum_is_relu_before_it():
    """The trunk's order and the textbook's give the same features."""
    net = network(trunk={"name": "cnn", "channels": (3,)})
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 2)).astype(np.float32)
    z, variables = jax.jit(nn.init_with_output(lambda net: net.features(x), net))(KEY)
    conv = variables["params"]["trunk"]["conv_0"]
    y = convolve(x, conv["kernel"], 1, form="xla") + conv["bias"].reshape(1, 1, 1, -1)
    expected = nn.max_pool(nn.relu(y), (2, 2), (2, 2)).reshape(2, -1)
    np.testing.assert_allclose(z, expected, rtol=1e-5, atol=1e-6)


def test_equal_configs_give_equal_networks():
    one, other = network(), network()
    lists = network(trunk={"name": "cnn", "channels": [3, 5]})
    assert one == other == lists and hash(one) == hash(other) == hash(lists)
    assert network(heads={"label": {"name": "linear", "outputs": 5}}) != one
    assert network(trunk={"name": "cnn", "channels": (3, 6)}) != one


def test_a_network_from_python_is_that_of_its_config():
    """Whatever the order in which its heads are given."""
    heads = {
        "domain": models.MLPHead(hidden=(6,), outputs=1),
        "label": models.Linear(),
    }
    stems = {"grey": models.Adapter(features=2)}
    trunk = models.CNN(channels=(3, 5))
    for ordered in (heads, dict(reversed(heads.items()))):
        made = models.Network(trunk=trunk, heads=ordered, stems=stems)
        assert made == network() and hash(made) == hash(network())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"trunk": {"name": "cnm"}}, r"network\.trunk\.name: .*'cnm'.*mean 'cnn'\?"),
        ({"trunk": {"name": "cnn", "chanels": (3,)}}, r"network\.trunk: .*mean 'channels'\?"),
        ({"trunk": {"name": "cnn", "channels": (3, 0)}}, r"network\.trunk\.channels\[1\]: got 0"),
        ({"trunk": {"name": "cnn", "channels": ("3",)}}, r"network\.trunk\.channels\[0\]: .*'3'"),
        ({"trunk": {"name": "cnn", "norm": "bacth"}}, r"network\.trunk\.norm: .*mean 'batch'\?"),
        ({"trunk": {"channels": (3,)}}, r"network\.trunk: .*a name among \['bert', 'cnn', "),
        ({"trunk": "cnn"}, r"network\.trunk: got 'cnn'; expected dict\(name=\.\.\."),
        (
            {"heads": {"label": {"name": "linaer"}}},
            r"network\.heads\.label\.name: .*mean 'linear'\?",
        ),
        (
            {"heads": {"label": {"name": "linear", "output": 3}}},
            r"network\.heads\.label: .*mean 'outputs'\?",
        ),
        ({"heads": {"label": 10}}, r"network\.heads\.label: got 10; expected dict"),
        (
            {"stems": {"grey": {"name": "adaptor"}}},
            r"network\.stems\.grey\.name: .*mean 'adapter'\?",
        ),
    ],
)
def test_mistakes_are_refused_with_the_field_and_the_nearest_name(changes, says):
    with pytest.raises(UserError, match="^" + says):
        network(**changes)


def test_an_unknown_part_of_a_network_is_refused():
    config = experiment.blank()
    with config.network.unlocked():
        config.network.trnuk = {"name": "cnn"}
    with pytest.raises(UserError, match=r"^network: unknown name 'trnuk'.*mean 'trunk'\?"):
        experiment.check(config)


# How many outputs a head has.


def outputs(*asked, **head):
    """The outputs of a linear head with these fields, after terms have asked for at least so many,
    and for so many by default."""

    def use(net):
        return [net.head("label", jnp.zeros((2, 3)), n, default=default) for n, default in asked]

    heads = {"label": {"name": "linear", **head}}
    logits, variables = jax.eval_shape(nn.init_with_output(use, network(heads=heads)), KEY)
    width = variables["params"]["heads"]["label"]["output"]["kernel"].shape[-1]
    assert {each.shape for each in logits} == {(2, width)}
    return width


def test_a_head_without_a_width_gets_what_the_first_term_asks_for():
    assert outputs((4, None)) == outputs((None, 4)) == 4
    assert outputs((4, None), (4, None)) == 4
    assert outputs((4, None), (2, None)) == 4  # enough for the second
    assert outputs((3, 5)) == 5  # at least 3, and 5 where the head says nothing
    assert outputs((4, None), outputs=7) == 7
    assert outputs((None, 5), outputs=7) == 7


def test_a_head_that_is_too_narrow_is_refused_by_its_field():
    says = r"^network\.heads\.label\.outputs: got 3; expected at least 4, an output for each label"
    with pytest.raises(UserError, match=says):
        outputs((4, None), outputs=3)
    with pytest.raises(UserError, match=says):
        outputs((3, None), (4, None))


def test_a_head_that_nobody_gives_a_width_is_refused():
    says = r"^network\.heads\.label\.outputs: got None; expected a number of outputs"
    with pytest.raises(UserError, match=says):
        outputs((None, None))


@pytest.mark.parametrize(
    ("use", "says"),
    [
        (lambda net: net.head("lable", jnp.zeros((2, 3))), r"network\.heads: .*mean 'label'\?"),
        (lambda net: net.features(IMAGES, stem="gray"), r"network\.stems: .*mean 'grey'\?"),
    ],
)
def test_an_unknown_head_or_stem_is_refused_when_called(use, says):
    with pytest.raises(UserError, match="^" + says):
        initialised(network(), use)

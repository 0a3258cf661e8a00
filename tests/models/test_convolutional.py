"""Backbones against the same layers written in PyTorch, by the names of public files."""

import functools

import drawing
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tljax import models, trees
from tljax.models import weights

TRUNKS = {
    "resnet18": models.ResNet(depth=18),
    "resnet34": models.ResNet(depth=34),
    "resnet50": models.ResNet(depth=50),
    "resnet101": models.ResNet(depth=101),
    "mobilenet_v2": models.MobileNetV2(),
    "efficientnet_lite0": models.EfficientNetLite0(),
}
# Numbers of trainable parameters without the classifier, and features, as the papers' and
# torchvision's tables have them: 11.69 M − 0.513 M for ResNet-18, and so on.
SIZES = {
    "resnet18": (11_689_512 - 513_000, 512),
    "resnet34": (21_797_672 - 513_000, 512),
    "resnet50": (25_557_032 - 2_049_000, 2048),
    "resnet101": (44_549_160 - 2_049_000, 2048),
    "mobilenet_v2": (3_504_872 - 1_281_000, 1280),
    "efficientnet_lite0": (4_652_008 - 1_281_000, 1280),
}
NAMED = [(name, naming) for name, trunk in TRUNKS.items() for naming in weights.namings(trunk)]


KEY = jax.random.key(0)


def shapes(trunk, size=64):
    """The shapes of features, maps and variables."""
    x = jnp.zeros((2, size, size, 3))
    return jax.eval_shape(lambda: trunk.init_with_output(KEY, x, train=False))


@pytest.mark.parametrize("name", TRUNKS)
def test_features_maps_and_parameters_are_as_many_as_they_should_be(name):
    (z, maps), variables = shapes(TRUNKS[name])
    parameters, features = SIZES[name]
    assert trees.count(variables["params"]) == parameters
    assert z.shape == (2, features)
    sides = [16, 8, 4, 2] if "resnet" in name else [32, 16, 8, 4, 4, 2, 2]
    assert [each.shape[1] for each in maps.values()] == sides
    assert list(maps) == [f"layer{i + 1}" for i in range(len(sides))]


@pytest.mark.parametrize(("name", "naming"), NAMED)
def test_names_reach_every_leaf_once(name, naming):
    trunk = TRUNKS[name]
    entries = weights.namings(trunk)[naming](trunk)
    paths = [entry.path for entry in entries if "/HEAD/" not in entry.path]
    _, variables = shapes(trunk)
    expected = trees.flatten({kind: {"trunk": tree} for kind, tree in variables.items()})
    assert sorted(paths) == sorted(expected)
    names = [each for entry in entries for each in entry.names]
    assert len(set(names)) == len(names)


def test_in_bfloat16_the_features_are_near_those_of_float32():
    x = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype(np.float32)
    net = models.build({}, {"name": "resnet", "depth": 18}, {}, precision="bfloat16")
    variables = drawing.variables(net, x, method="features")
    features = [
        jax.jit(functools.partial(net.clone(precision=precision).apply, method="features"))(
            {**variables, "params": net.clone(precision=precision).rounded(variables["params"])}, x
        )
        for precision in ("bfloat16", "float32")
    ]
    assert features[0].dtype == features[1].dtype == jnp.float32
    np.testing.assert_allclose(*features, rtol=0.1, atol=0.02)
    assert (features[0] != features[1]).any()


# The same in PyTorch.


def in_torch(name):
    """A module of torchvision's layers and names, random throughout."""
    torch = pytest.importorskip("torch")
    from benchmarks.mobilenet_torch import MobileNetV2

    nn = torch.nn

    class BasicBlock(nn.Module):
        widening = 1

        def __init__(self, inputs, width, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            self.downsample = shortcut(inputs, width, stride)

        def forward(self, x):
            y = self.bn1(self.conv1(x)).relu()
            y = self.bn2(self.conv2(y))
            return (y + (self.downsample(x) if self.downsample else x)).relu()

    class Bottleneck(nn.Module):
        widening = 4

        def __init__(self, inputs, width, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(4 * width)
            self.downsample = shortcut(inputs, 4 * width, stride)

        def forward(self, x):
            y = self.bn1(self.conv1(x)).relu()
            y = self.bn2(self.conv2(y)).relu()
            y = self.bn3(self.conv3(y))
            return (y + (self.downsample(x) if self.downsample else x)).relu()

    def shortcut(inputs, width, stride):
        if stride == 1 and inputs == width:
            return None
        conv = nn.Conv2d(inputs, width, 1, stride, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(width))

    class ResNet(nn.Module):
        def __init__(self, block, blocks):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            self.maxpool = nn.MaxPool2d(3, 2, 1)
            inputs = 64
            for stage, count in enumerate(blocks):
                width, layer = 64 * 2**stage, []
                for i in range(count):
                    layer.append(block(inputs, width, 2 if stage and not i else 1))
                    inputs = width * block.widening
                setattr(self, f"layer{stage + 1}", nn.Sequential(*layer))
            self.fc = nn.Linear(inputs, 10)

        def forward(self, x):
            x = self.maxpool(self.bn1(self.conv1(x)).relu())
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(x.mean((2, 3)))

    class Same(nn.Conv2d):
        """TensorFlow's padding, from its documentation."""

        def forward(self, x):
            pads = []
            for size in reversed(x.shape[2:]):
                out = -(-size // self.stride[0])
                pad = max((out - 1) * self.stride[0] + self.kernel_size[0] - size, 0)
                pads += [pad // 2, pad - pad // 2]
            return super().forward(nn.functional.pad(x, pads))

    class Lite(nn.Module):
        """A block of efficientnet_lite_pytorch."""

        def __init__(self, inputs, widening, width, stride, kernel):
            super().__init__()
            wide = inputs * widening
            if widening > 1:
                self._expand_conv = Same(inputs, wide, 1, bias=False)
                self._bn0 = nn.BatchNorm2d(wide, 1e-3)
            self._depthwise_conv = Same(wide, wide, kernel, stride, groups=wide, bias=False)
            self._bn1 = nn.BatchNorm2d(wide, 1e-3)
            self._project_conv = Same(wide, width, 1, bias=False)
            self._bn2 = nn.BatchNorm2d(width, 1e-3)
            self.adds = stride == 1 and inputs == width

        def forward(self, x):
            y = x
            if hasattr(self, "_expand_conv"):
                y = nn.functional.relu6(self._bn0(self._expand_conv(y)))
            y = nn.functional.relu6(self._bn1(self._depthwise_conv(y)))
            y = self._bn2(self._project_conv(y))
            return x + y if self.adds else y

    class EfficientNetLite0(nn.Module):
        def __init__(self):
            super().__init__()
            # (blocks, kernel, stride, widening, width) as the package writes it out.
            table = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)]
            self._conv_stem = Same(3, 32, 3, 2, bias=False)
            self._bn0 = nn.BatchNorm2d(32, 1e-3)
            blocks, inputs = [], 32
            for n, k, s, t, c in [*table, (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]:
                for i in range(n):
                    blocks.append(Lite(inputs, t, c, s if i == 0 else 1, k))
                    inputs = c
            self._blocks = nn.Sequential(*blocks)
            self._conv_head = Same(320, 1280, 1, bias=False)
            self._bn1 = nn.BatchNorm2d(1280, 1e-3)
            self._fc = nn.Linear(1280, 10)

        def forward(self, x):
            x = self._blocks(nn.functional.relu6(self._bn0(self._conv_stem(x))))
            return self._fc(nn.functional.relu6(self._bn1(self._conv_head(x))).mean((2, 3)))

    torch.manual_seed(0)
    module = {
        "resnet18": lambda: ResNet(BasicBlock, (2, 2, 2, 2)),
        "resnet50": lambda: ResNet(Bottleneck, (3, 4, 6, 3)),
        "mobilenet_v2": MobileNetV2,
        "efficientnet_lite0": EfficientNetLite0,
    }[name]()
    return randomised(module)


def randomised(module):
    """Statistics, scales and offsets as after training; momentum is PyTorch's own."""
    torch = pytest.importorskip("torch")
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(layer.running_mean, 0, 0.3)
            torch.nn.init.uniform_(layer.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.normal_(layer.bias, 0, 0.3)
    return module.eval()


def applied(trunk, variables, x, train=False):
    """(logits, features' moved statistics) of the trunk and its classifier."""

    def run(variables, x):
        own = {kind: tree["trunk"] for kind, tree in variables.items()}
        (z, _), moved = trunk.apply(own, x, train=train, mutable=["batch_stats"])
        dense = variables["params"]["heads"]["HEAD"]["output"]
        return z @ dense["kernel"] + dense["bias"].reshape(1, -1), moved

    with jax.default_matmul_precision("highest"):
        return jax.jit(run)(variables, x)


def deviation(mine, theirs):
    """The largest difference, relative to the largest number."""
    theirs = np.asarray(theirs)
    return float(np.abs(np.asarray(mine) - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2", "efficientnet_lite0"])
@pytest.mark.parametrize("size", [(64, 64), (77, 50)])
def test_logits_are_pytorchs(name, size, tmp_path):
    """Also of odd sizes, whose padding the stride of 2 splits otherwise."""
    torch = pytest.importorskip("torch")
    module, trunk = in_torch(name), TRUNKS[name]
    torch.save(module.state_dict(), tmp_path / "w.pth")
    variables = weights.load(trunk, tmp_path / "w.pth")
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = module(torch.from_numpy(x.transpose(0, 3, 1, 2)))
    assert deviation(applied(trunk, variables, x)[0], theirs) < 1e-5


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_logits_are_transformers(kind, tmp_path):
    torch, hub = pytest.importorskip("torch"), pytest.importorskip("transformers")
    depths, widths = (2, 2, 2, 2), [64, 128, 256, 512]
    if kind == "bottleneck":
        depths, widths = (3, 4, 6, 3), [4 * width for width in widths]
    config = hub.ResNetConfig(
        depths=depths, hidden_sizes=widths, layer_type=kind, num_labels=10, hidden_act="relu"
    )
    torch.manual_seed(0)
    module = randomised(hub.ResNetForImageClassification(config))
    module.save_pretrained(tmp_path)
    trunk = TRUNKS["resnet50" if kind == "bottleneck" else "resnet18"]
    variables = weights.load(trunk, tmp_path / "model.safetensors")
    x = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = module(torch.from_numpy(x.transpose(0, 3, 1, 2))).logits
    assert deviation(applied(trunk, variables, x)[0], theirs) < 1e-5
    # And back: the library reads what is written, by its own names.
    metadata = {"format": "pt"}
    out = tmp_path / "model.safetensors"
    weights.save(trunk, variables, out, "transformers", head="HEAD", metadata=metadata)
    again = hub.ResNetForImageClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert deviation(again(torch.from_numpy(x.transpose(0, 3, 1, 2))).logits, theirs) < 1e-6


def test_a_step_of_training_is_pytorchs(tmp_path):
    """Batch statistics, what they leave behind, and the gradient of the classifier's loss."""
    torch = pytest.importorskip("torch")
    module, trunk = in_torch("mobilenet_v2"), TRUNKS["mobilenet_v2"]
    torch.save(module.state_dict(), tmp_path / "w.pth")
    variables = weights.load(trunk, tmp_path / "w.pth")
    x = np.random.default_rng(0).normal(size=(8, 64, 64, 3)).astype(np.float32)
    module.train().classifier[0].eval()
    before = {name: each.clone() for name, each in module.state_dict().items()}
    logits = module(torch.from_numpy(x.transpose(0, 3, 1, 2)))
    logits.square().mean().backward()

    def loss(params):
        mine, moved = applied(trunk, {**variables, "params": params}, x, train=True)
        return jnp.mean(mine**2), (mine, moved)

    gradient, (mine, moved) = jax.grad(loss, has_aux=True)(variables["params"])
    assert deviation(mine, logits.detach()) < 1e-4
    weight = module.features[0][0].weight.grad.permute(2, 3, 1, 0)
    assert deviation(gradient["trunk"]["stem"]["conv"]["kernel"], weight) < 2e-2
    weight = module.features[16].conv[1][0].weight.grad.permute(2, 3, 1, 0)
    assert deviation(gradient["trunk"]["block6_2"]["depthwise"]["conv"]["kernel"], weight) < 2e-2
    statistics = moved["batch_stats"]["stem"]["bn"]["statistics"]
    assert deviation(statistics["mean"], module.features[0][1].running_mean) < 1e-5
    # Both keep 0.9; torch adds the unbiased variance, of 8 · 32 · 32 numbers.
    old, n = before["features.0.1.running_var"].numpy(), 8 * 32 * 32
    theirs = module.features[0][1].running_var.numpy()
    np.testing.assert_allclose(
        (np.asarray(statistics["var"]) - 0.9 * old) * n / (n - 1), theirs - 0.9 * old, rtol=1e-3
    )


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "efficientnet_lite0"])
def test_the_round_trip_is_exact(name, tmp_path):
    """From variables to a file, to variables, to a file of the same bytes; by every naming."""
    trunk = TRUNKS[name]
    _, variables = shapes(trunk)
    draw = np.random.default_rng(0)
    leaves = jax.tree.map(lambda leaf: draw.random(leaf.shape, np.float32), variables)
    tree = {kind: {"trunk": each} for kind, each in leaves.items()}
    width = SIZES[name][1]
    dense = {"kernel": draw.random((width, 3), np.float32), "bias": np.float32([1, 2, 3])}
    tree["params"]["heads"] = {"label": {"output": dense}}
    for naming in weights.namings(trunk):
        weights.save(trunk, tree, tmp_path / "one", naming, head="label")
        again = weights.load(trunk, tmp_path / "one")
        again["params"]["heads"] = {"label": again["params"]["heads"]["HEAD"]}
        jax.tree.map(np.testing.assert_array_equal, again, tree)
        weights.save(trunk, again, tmp_path / "other", naming, head="label")
        assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()

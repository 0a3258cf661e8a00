"""Adapters: by hand, at their start, merged, alone in moving; on every family of trunks."""

import drawing
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tljax
from tljax import experiment, trees
from tljax.errors import UserError
from tljax.models import adapters, weights
from tljax.models.adapters import IA3, Bottleneck, DoRA, LoRA
from tljax.models.files import read
from tljax.phase import objective, transfer
from tljax.phase.phase import numbers
from tljax.train import starting, step

ALONE = {"adapters/**": 1.0, "heads/**": 1.0, "**": 0}
IMAGES = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)
TOKENS = np.random.default_rng(0).integers(1, 50, (4, 6))
TRUNKS = {
    "vit": (tljax.models.ViT(width=16, depth=2, heads=2, patch=8, image=32), IMAGES),
    "bert": (tljax.models.BERT(vocabulary=50, width=16, depth=2, heads=2, length=8), TOKENS),
    "cnn": (tljax.models.CNN(channels=(4, 6), norm="batch"), IMAGES),
}
MERGING = {
    "lora": LoRA(rank=2),
    "rslora": LoRA(rank=4, rslora=True),
    "dora": DoRA(rank=2),
    "ia3": IA3(),
    "ia3 of inputs": IA3(of="inputs"),
}
KINDS = {**MERGING, "bottleneck": Bottleneck(width=3)}
PAIRS = [(trunk, kind) for trunk in ("vit", "cnn") for kind in KINDS] + [("bert", "lora")]


def phase(trunk="vit", adapter=None, **fields):
    own = {} if adapter is None else {"own": adapter}
    heads = {"label": tljax.models.Linear()}
    network = tljax.Network(trunk=TRUNKS[trunk][0], heads=heads, adapters=own)
    usual = dict(network=network, train=ALONE if own else {"**": 1.0}, steps=3)
    usual["streams"] = [tljax.Stream("target", batch=4)]
    usual["terms"] = {"label": tljax.term("cross_entropy", stream="target")}
    return tljax.Phase(
        optimizer=tljax.optimizer("adamw", learning_rate=0.1),
        **{**usual, **fields},
    )


def data(trunk="vit"):
    table = tljax.Table(input=TRUNKS[trunk][1], label=np.arange(4) % 2, classes=("a", "b"))
    return {"target": table}


def begun(trunk, adapter, **fields):
    if isinstance(adapter, Bottleneck) and trunk == "cnn":
        adapter = Bottleneck(only=("trunk/conv_*",), width=3)
    made = phase(trunk, adapter, **fields)
    return made, tljax.start(made, data(trunk), jax.random.key(0))


def logits(network, params, batch_stats, trunk):
    inputs = jnp.asarray(TRUNKS[trunk][1])
    return objective.predict(network, params, batch_stats, inputs, head="label")[0]


def by_hand(adapter, path, kernel, own, **others):
    leaves = {path: jnp.asarray(kernel, float), **{k: jnp.asarray(v) for k, v in others.items()}}
    own = {name: jnp.asarray(leaf, float) for name, leaf in own.items()}
    return adapter.merge(path, leaves, own)


def test_lora_by_hand():
    """A = (1, 2)ᵀ and B = (3, 4): AB = [[3, 4], [6, 8]], times α/rank = 2 or α/√rank."""
    pair = {"a": [[1.0], [2.0]], "b": [[3.0, 4.0]]}
    merged = by_hand(LoRA(rank=1, alpha=2.0), "trunk/d/kernel", np.eye(2), pair)
    np.testing.assert_allclose(merged["trunk/d/kernel"], [[7, 8], [12, 17]])
    four = {"a": np.full((2, 4), 0.5), "b": np.ones((4, 2))}  # AB = 2
    for rslora, scale in ((False, 3 / 4), (True, 3 / 2)):
        adapter = LoRA(rank=4, alpha=3.0, rslora=rslora)
        merged = by_hand(adapter, "trunk/d/kernel", np.zeros((2, 2)), four)
        np.testing.assert_allclose(merged["trunk/d/kernel"], np.full((2, 2), 2 * scale))


def test_dora_by_hand():
    """V = I + AB = [[1, 0], [3, 1]] has columns of length √10 and 1; they become 1 + 1 and 1."""
    own = {"a": [[0.0], [3.0]], "b": [[1.0, 0.0]], "magnitude": [1.0, 0.0]}
    merged = by_hand(DoRA(rank=1, alpha=1.0), "trunk/d/kernel", np.eye(2), own)
    expected = np.array([[1, 0], [3, 1]]) / [10**0.5, 1] * [2, 1]
    np.testing.assert_allclose(merged["trunk/d/kernel"], expected, rtol=1e-6)


def test_ia3_by_hand():
    """Outputs are columns and the bias; inputs are rows, the channels of a convolution."""
    own = {"scale": [2.0, 3.0]}
    bias = {"trunk/d/bias": np.ones(2)}
    merged = by_hand(IA3(), "trunk/d/kernel", np.ones((2, 2)), own, **bias)
    np.testing.assert_array_equal(merged["trunk/d/kernel"], [[2, 3], [2, 3]])
    np.testing.assert_array_equal(merged["trunk/d/bias"], [2, 3])
    merged = by_hand(IA3(of="inputs"), "trunk/d/kernel", np.ones((5, 5, 2, 1)), own, **bias)
    np.testing.assert_array_equal(merged["trunk/d/kernel"][4, 0], [[2], [3]])
    assert list(merged) == ["trunk/d/kernel"]


@pytest.mark.parametrize(
    ("path", "shape", "matrix"),
    [
        ("trunk/dense/kernel", (3, 4), (3, 4)),
        ("trunk/conv/kernel", (3, 3, 2, 5), (18, 5)),
        ("trunk/attention/query/kernel", (8, 2, 4), (8, 8)),
        ("trunk/attention/out/kernel", (2, 3, 8), (6, 8)),
        ("trunk/conv/kernel", (5, 2, 3), (10, 3)),  # in one dimension
    ],
)
def test_a_kernel_is_the_matrix_that_it_is(path, shape, matrix):
    pair = DoRA(rank=2).begin(path, shape, jax.random.key(0))
    assert (pair["a"].shape, pair["b"].shape) == ((matrix[0], 2), (2, matrix[1]))
    kernel = np.random.default_rng(0).normal(size=shape)
    pair = {**pair, "b": jnp.ones_like(pair["b"])}
    merged = by_hand(LoRA(rank=2, alpha=2.0), path, kernel, pair)[path]
    added = (pair["a"] @ pair["b"]).reshape(shape)
    np.testing.assert_allclose(merged - kernel, added, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("trunk", "kind"), PAIRS)
def test_what_starts_is_the_network_without(trunk, kind):
    plain, state = begun(trunk, None)
    expected = logits(plain.network, state.params, state.batch_stats, trunk)
    made, state = begun(trunk, KINDS[kind])
    found = logits(made.network, state.params, state.batch_stats, trunk)
    np.testing.assert_allclose(
        found, expected, rtol=1e-5, atol=1e-5 * float(jnp.abs(expected).max())
    )
    if kind != "dora":  # ‖W‖/‖W‖ may be compiled to 1 but for the last bit
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("trunk", "kind"), [pair for pair in PAIRS if pair[1] in MERGING])
def test_merged_is_unmerged(trunk, kind):
    """After steps of a large rate. Nothing but adapters and heads has moved, or has a state."""
    made, first = begun(trunk, MERGING[kind])
    before, size = jax.device_get(first.params), trees.count(first.optimizer)
    state = tljax.fit(made, first, data(trunk))
    moved = {
        path.split("/")[0]
        for path, leaf in trees.flatten(state.params).items()
        if not np.array_equal(leaf, trees.flatten(before)[path])
    }
    assert moved == {"adapters", "heads"}
    own = trees.count({part: before[part] for part in moved})
    assert 2 * own <= size < 2 * own + 10  # Adam's two moments, and its counts
    merged = made.network.effective(state.params)
    assert "adapters" not in merged
    bare = made.network.adapted({})
    expected = logits(made.network, state.params, state.batch_stats, trunk)
    found = logits(bare, merged, state.batch_stats, trunk)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * float(jnp.abs(found).max()))
    start = logits(bare, {k: before[k] for k in merged}, state.batch_stats, trunk)
    assert not np.allclose(found, start, atol=1e-2)  # so that there is something to merge


def test_bottlenecks_learn_and_stay():
    made, state = begun("vit", Bottleneck(width=3))
    paths = trees.flatten(state.params["adapters"])
    assert "own/trunk/block_1/mlp/down/kernel" in paths and len(paths) == 2 * 2 * 4
    expected = logits(made.network, state.params, {}, "vit")
    state = tljax.fit(made, state, data())
    assert made.network.effective(state.params) is state.params
    assert not np.allclose(logits(made.network, state.params, {}, "vit"), expected, atol=1e-2)


def test_a_bottleneck_by_hand():
    """y = 1: down gives (1, −1), of which gelu makes .8413 and −.1587; up adds 2 and 0 of them."""
    own = {
        "down": {"kernel": jnp.array([[1.0, -1.0]]), "bias": jnp.zeros(2)},
        "up": {"kernel": jnp.array([[2.0], [0.0]]), "bias": jnp.array([0.5])},
    }
    found = Bottleneck(width=2).behind(jnp.ones((1, 1)), own)
    np.testing.assert_allclose(found, [[1 + 2 * 0.8413447 + 0.5]], rtol=1e-5)


@pytest.mark.parametrize(
    ("adapter", "line"),
    [
        (LoRA(only=("trunk/**/bias",)), r"adapters.own.only: trunk/.*/bias: got \(.*a matrix"),
        (IA3(only=("trunk/**/scale",)), r"adapters.own.only: trunk/.*/scale: got \(.*a matrix"),
        (LoRA(only=("trunk/nothing",)), r"'trunk/nothing' matches nothing .*trunk/block_0/mlp"),
        (Bottleneck(only=("trunk/no",)), r"'trunk/no' matches nothing .*trunk/block_0/mlp"),
        (LoRA(only=()), "matches nothing"),
    ],
)
def test_what_cannot_be_adapted_is_refused(adapter, line):
    with pytest.raises(UserError, match=line):
        begun("vit", adapter)


def filled(params):
    """All numbers of adapters 1."""
    return {**params, "adapters": jax.tree.map(jnp.ones_like, params["adapters"])}


def test_a_resnet_is_adapted():
    images = jnp.asarray(IMAGES)
    own = {"own": LoRA(only=("trunk/layer4_1/conv?/kernel",), rank=1, alpha=0.01)}
    net = tljax.Network(trunk=tljax.models.ResNet(depth=18), heads={}, adapters=own)
    variables = drawing.variables(net, images, method="features")
    params, batch_stats = variables["params"], variables["batch_stats"]
    made = adapters.begin(net.adapters, params, {}, jax.random.key(0))
    assert list(made["own"]["trunk"]) == ["layer4_1"]

    @jax.jit
    def features(params):
        return objective.predict(net, params, batch_stats, images, head="")[0]

    plain, adapted = features(params), features({**params, "adapters": made})
    np.testing.assert_array_equal(plain, adapted)
    changed = filled({**params, "adapters": made})
    found, expected = features(changed), features(net.effective(changed))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert not np.allclose(found, plain, atol=1e-3)


@pytest.fixture
def tuned(small):
    """A source phase, then one that tunes nothing but LoRA and the head."""
    lora = dict(name="lora", only=("trunk/**/kernel",), rank=2)
    small.second.update(
        adapters=dict(own=lora), train=(("adapters/**", 1.0), ("heads/**", 1.0), ("**", 0))
    )
    return small


def test_a_run_with_adapters_is_loaded_merged(tuned, tmp_path):
    experiment.run(tuned, tmp_path)
    model = tljax.load(tmp_path)
    assert set(model.variables["params"]) == {"trunk", "heads"}
    first = tljax.load(tmp_path, "first").variables["params"]["trunk"]["dense_0"]
    last = model.variables["params"]["trunk"]["dense_0"]
    np.testing.assert_array_equal(first["bias"], last["bias"])
    assert np.linalg.matrix_rank(last["kernel"] - first["kernel"], tol=1e-5) == 2
    evaluated = experiment.outputs(tuned, tmp_path)["target"]
    table = tljax.data.load("digits", "train[1400:1440]", size=4)
    np.testing.assert_allclose(
        model.outputs(table.input).logits, evaluated.logits, rtol=1e-5, atol=1e-6
    )


def test_a_later_phase_starts_from_what_is_merged(tuned, tmp_path):
    tuned.phases = ("first", "second", "third")
    tuned.third = dict(tuned.first, optimizer=dict(name="sgd", learning_rate=0.0))
    experiment.run(tuned, tmp_path)
    second, third = (tljax.load(tmp_path, each).variables["params"] for each in ("second", "third"))
    jax.tree.map(np.testing.assert_array_equal, second["trunk"], third["trunk"])


def test_a_run_starts_from_another_merged(tuned, tmp_path):
    experiment.run(tuned, tmp_path / "one")
    start = (("adapters/**", "fresh"), ("**", f"run:{tmp_path / 'one'}"))
    tuned.second.update(start=start, steps=0)
    experiment.run(tuned, tmp_path / "two")
    one, two = (tljax.load(tmp_path / each).variables["params"] for each in ("one", "two"))
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_a_phase_goes_on_with_the_adapters_that_it_lists(tuned, tmp_path):
    tuned.phases = ("first", "second", "third")
    tuned.third = dict(tuned.second, optimizer=dict(name="sgd", learning_rate=0.0))
    experiment.run(tuned, tmp_path)
    found = [experiment.origins.finals(tmp_path, tuned.phases)[n] for n in ("second", "third")]
    jax.tree.map(np.testing.assert_array_equal, found[0]["params"], found[1]["params"])


def test_a_bottleneck_that_a_later_phase_lacks_is_refused(tuned, tmp_path):
    tuned.phases = ("first", "second", "third")
    tuned.second.adapters = dict(own=dict(name="bottleneck", only=("trunk/dense_0",), width=2))
    tuned.third = dict(tuned.first)
    with pytest.raises(UserError, match="adapters: got .*; expected also 'own' of phase 'second'"):
        experiment.run(tuned, tmp_path)


def test_adapters_of_one_name_are_one(tuned, tmp_path):
    tuned.first.adapters = dict(own=dict(name="dora"))
    with pytest.raises(UserError, match="second.adapters.own: got .*; expected the same"):
        experiment.run(tuned, tmp_path)


def test_l2_sp_holds_what_the_network_computes_with():
    """½‖s·A·B‖²; of the plain trunk it would be 0."""
    near, moves = {"near": tljax.term("l2_sp")}, {"adapters/**": 1.0, "**": 0}
    made = phase(adapter=LoRA(rank=2, alpha=4.0), terms=near, train=moves)
    state = tljax.start(made, data(), jax.random.key(0))
    state = state._replace(params=filled(state.params))
    kernels = [w for p, w in trees.flatten(state.params["trunk"]).items() if p.endswith("/kernel")]
    expected = sum(0.5 * 4**2 * kernel.size for kernel in kernels)
    _, report = tljax.step(made, state, data())
    np.testing.assert_allclose(report.totals["near"], expected, rtol=1e-4)


def test_bitfit_moves_biases_and_heads_alone():
    """Ben Zaken et al. 2022: a rule of `train`."""
    made = phase(train={"trunk/**/bias": 1.0, "heads/**": 1.0, "**": 0})
    state = tljax.start(made, data(), jax.random.key(0))
    before = trees.flatten(jax.device_get(state.params))
    after = trees.flatten(tljax.fit(made, state, data()).params)
    moved = {path for path in before if not np.array_equal(before[path], after[path])}
    assert moved == {p for p in before if p.endswith("/bias") or p.startswith("heads/")} - {
        "trunk/patches/kernel"
    }


def test_what_is_exported_is_merged(tmp_path):
    made, state = begun("vit", LoRA(rank=2))
    state = tljax.fit(made, state, data())
    variables = {"params": state.params, "batch_stats": {}}
    with pytest.raises(UserError, match="params: got 'adapters'; expected .*effective"):
        weights.save(made.network.trunk, variables, tmp_path / "bare.safetensors")
    merged = {**variables, "params": made.network.effective(state.params)}
    weights.save(made.network.trunk, merged, tmp_path / "m.safetensors", naming="transformers")
    held = read(tmp_path / "m.safetensors")["vit.encoder.layer.0.output.dense.weight"]
    kernel = merged["params"]["trunk"]["block_0"]["mlp"]["contract"]["kernel"]
    np.testing.assert_array_equal(held, np.asarray(kernel).T)


def test_lora_moves_what_the_issue_allows():
    """ViT-B: at most 0.6 % of the parameters, and the optimiser's state for them alone."""
    own = {"own": LoRA(only=("trunk/**/attention/**/kernel",))}
    trunk, heads = tljax.models.ViT(variant="base"), {"label": tljax.models.Linear()}
    network = tljax.Network(trunk=trunk, heads=heads, adapters=own)
    made = phase(adapter=own["own"], network=network)
    columns = {"input": np.zeros((4, 224, 224, 3), np.float32), "label": np.arange(4) % 2}
    tables = {"target": data()["target"].like(columns)}
    shapes = starting.check(made, tables, {}, jax.random.key(0), {})
    moving = trees.partition(shapes["params"], transfer.moving(shapes["params"], made.train))[0]
    assert trees.count(moving) <= 0.006 * trees.count(shapes["params"]["trunk"])
    start = {**shapes, "tables": {}, "rows": {}}
    state = jax.eval_shape(step.initialise, made, start, jax.random.key(0))
    assert trees.count(state.optimizer) <= 2 * trees.count(moving) + 2


def test_lora_takes_the_memory_that_the_issue_allows():
    """At most 0.6 of full fine-tuning, where weights and not activations fill it: one example."""
    trunk = tljax.models.ViT(width=192, depth=2, heads=3, patch=16, image=32)
    heads = {"label": tljax.models.Linear()}
    taken = []
    for own in ({}, {"own": LoRA(only=("trunk/**/attention/**/kernel",))}):
        network = tljax.Network(trunk=trunk, heads=heads, adapters=own)
        made = phase(adapter=own.get("own"), network=network, streams=[tljax.Stream("target", 1)])
        shapes = starting.check(made, data(), {}, jax.random.key(0), {})
        start = {**shapes, "tables": {}, "rows": {}}
        state = jax.eval_shape(step.initialise, made, start, jax.random.key(0))
        lowered = step.single_step.lower(numbers(made), state, data(), {}, np.bool_(True))
        memory = lowered.compile().memory_analysis()
        taken.append(memory.argument_size_in_bytes + memory.temp_size_in_bytes)
    assert taken[1] <= 0.6 * taken[0]

"""Batch statistics of frozen modules: they stay, and are used, unless they are asked to move."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tljax
from tljax import experiment, trees
from tljax.errors import UserError
from tljax.main import main
from tljax.models.layers import Norm
from tljax.phase import objective, transfer
from tljax.report import inventory

FROZEN = {"trunk/**": 0.0, "**": 1.0}


class Centred(nn.Module):
    """Statistics of a user's own kind, with a parameter or without one."""

    shifted: bool = False

    @nn.compact
    def __call__(self, x, train):
        mean = self.variable("batch_stats", "centre", lambda: jnp.zeros(x.shape[-1]))
        if train and not self.is_initializing():
            mean.value = 0.5 * mean.value + 0.5 * x.mean(0)
        now = x.mean(0) if train else mean.value
        y = x - now[None]
        return y + self.param("shift", nn.initializers.zeros, (1, 1)) if self.shifted else y


class Several(nn.Module):
    """Statistics of every kind, one after another."""

    @nn.compact
    def __call__(self, x, *, train, stream=None):
        x = x.reshape(x.shape[0], -1)
        x = nn.Dense(5, name="first")(x)
        x = Norm("batch", name="norm")(x, train=train, stream=stream)
        x = nn.BatchNorm(name="linen")(x, use_running_average=not train)
        x = nn.BatchNorm(not train, use_scale=False, use_bias=False, name="bare")(x)
        x = nn.Dropout(0.0)(x, deterministic=not train)
        x = Centred(name="own")(x, train)
        x = Centred(shifted=True, name="shifted")(x, train=train)
        return nn.tanh(nn.Dense(3, name="last")(x))


HOLDERS = ("norm/statistics", "linen", "bare", "own", "shifted")


def phase(**fields):
    network = tljax.Network(
        trunk=Several(), heads={"label": tljax.models.Linear()}, remat=fields.pop("remat", "none")
    )
    defaults = dict(
        network=network,
        streams=[tljax.Stream("source", 8)],
        terms={"label": tljax.term("cross_entropy")},
        optimizer=tljax.optimizer("sgd", learning_rate=0.1),
        steps=4,
    )
    return tljax.Phase(**{**defaults, **fields})


@pytest.fixture(scope="module")
def data():
    draw = np.random.default_rng(0)
    images = draw.normal(2.0, 3.0, size=(24, 2, 2, 1)).astype(np.float32)
    return {"source": tljax.Table(input=images, label=np.arange(24) % 3)}


@pytest.fixture(scope="module")
def learned(data):
    """Variables whose statistics are no longer the first ones."""
    state = tljax.start(phase(), data, jax.random.key(0))
    state = tljax.fit(phase(), state, data)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    first = trees.flatten(tljax.start(phase(), data, jax.random.key(0)).batch_stats)
    moved = trees.flatten(variables["batch_stats"])
    assert not any(np.array_equal(moved[path], first[path]) for path in first)
    return jax.device_get(variables)


def after(data, learned, **fields):
    """What moved: the state after a phase that goes on from `learned`, and the paths."""
    later = phase(**fields)
    state = tljax.start(later, data, jax.random.key(1), earlier={"before": learned})
    state = jax.device_get(tljax.fit(later, state, data))
    pairs = [
        (trees.flatten(new), trees.flatten(learned[kind]))
        for kind, new in (("params", state.params), ("batch_stats", state.batch_stats))
    ]
    return state, [{p for p, leaf in new.items() if (leaf != old[p]).any()} for new, old in pairs]


def holders(paths):
    return {path.rpartition("/")[0].removeprefix("trunk/") for path in paths}


def features(phase, variables, data):
    rest = (variables["params"], variables["batch_stats"], data["source"].input)
    return np.asarray(objective.predict(phase.network, *rest, head="")[1])


@pytest.mark.parametrize(
    "fields", [{}, dict(remat="all"), dict(accumulate=2), dict(average=0.9)], ids=str
)
def test_a_frozen_trunk_is_the_same_function_bit_for_bit(data, learned, fields):
    state, (params, statistics) = after(data, learned, train=FROZEN, **fields)
    assert not statistics
    assert params and all(path.startswith("heads/") for path in params)
    later = {"params": state.params, "batch_stats": state.batch_stats}
    before = features(phase(), learned, data)
    np.testing.assert_array_equal(features(phase(), later, data), before)


def test_the_head_learns_on_the_features_that_it_is_judged_on(data, learned):
    """The loss of a step is that of the running statistics, which no batch has."""
    later = phase(train=FROZEN)
    batch = {"source": {"input": data["source"].input[:8], "label": data["source"].label[:8]}}
    rest = (batch, data, {}, jnp.zeros(()), jax.random.key(0))
    variables = (learned["params"], learned["batch_stats"])
    weighted, (_, state) = objective.apply(later, *variables, *rest)
    logits = objective.predict(later.network, *variables, batch["source"]["input"], head="label")[0]
    log = jax.nn.log_softmax(logits)
    wanted = -np.mean([log[i, label] for i, label in enumerate(batch["source"]["label"])])
    np.testing.assert_allclose(weighted[0], wanted, rtol=1e-6)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, state, learned["batch_stats"])))
    moving, _ = objective.apply(later.changed(freeze_statistics=False), *variables, *rest)
    assert abs(float(moving[0]) - wanted) > 1e-3


@pytest.mark.parametrize(
    ("train", "moves"),
    [
        ({"**": 1.0}, HOLDERS),
        ({"trunk/**": 0.0, "**": 1.0}, ()),
        # Its own scale moves; what has no parameter goes with the trunk around it.
        ({"trunk/norm/**": 1.0, "trunk/**": 0.0, "**": 1.0}, ("norm/statistics", "bare", "own")),
        ({"trunk/norm/**": 0.0, "**": 1.0}, ("linen", "bare", "own", "shifted")),
        ({"trunk/linen/bias": 1.0, "trunk/**": 0.0, "**": 1.0}, ("linen", "bare", "own")),
        ({"trunk/last/**": 1.0, "trunk/**": 0.0, "**": 1.0}, ("bare", "own")),
        ({"trunk/s*/**": 0.5, "trunk/**": 0.0, "**": 1.0}, ("shifted", "bare", "own")),
        ({"trunk/**": 1.0, "**": 0.0}, HOLDERS),
    ],
    ids=str,
)
def test_statistics_move_with_the_parameters_of_their_module(data, learned, train, moves):
    state, (params, statistics) = after(data, learned, train=train)
    assert holders(statistics) == set(moves)
    still = transfer.still(phase(train=train), state.params, state.batch_stats)
    assert {path.removeprefix("trunk/") for path in still} == set(HOLDERS) - set(moves)


@pytest.mark.parametrize(("frozen", "moves"), [(False, HOLDERS), (True, ())])
@pytest.mark.parametrize("train", [FROZEN, {"**": 1.0}], ids=str)
def test_they_can_be_told_to_move_or_to_stay(data, learned, frozen, moves, train):
    _, (params, statistics) = after(data, learned, train=train, freeze_statistics=frozen)
    assert holders(statistics) == set(moves)
    assert any(path.startswith("trunk/") for path in params) == (train != FROZEN)


def test_fresh_statistics_of_a_copied_frozen_trunk_are_refused(data, learned):
    """Each stream has its own, so those of a new one begin at mean 0 and variance 1."""
    apart = dict(statistics="separate", train=FROZEN)
    with pytest.raises(UserError, match=r"^freeze_statistics: got None.*norm/statistics_source"):
        after(data, learned, **apart)
    later = phase(**apart, freeze_statistics=False)
    state = tljax.start(later, data, jax.random.key(1), earlier={"before": learned})
    before = jax.device_get(state.batch_stats["trunk"]["norm"])
    state = tljax.fit(later, state, data)
    moved = jax.tree.map(np.array_equal, state.batch_stats["trunk"]["norm"], before)
    assert not any(jax.tree.leaves(moved))


def test_random_features_may_stay_as_they_are(data):
    later = phase(train=FROZEN)
    state = tljax.start(later, data, jax.random.key(0))
    before = jax.device_get(state.batch_stats)
    state = tljax.fit(later, state, data)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, state.batch_stats, before)))


def configured(small, **second):
    small.network.trunk = dict(name="mlp", features=(6, 5), norm="batch")
    small.second = {"flow": ("target",), **small.second.to_dict(), **second}
    small.evaluate.before = dict(small.evaluate.target, phase="first")
    return small


def test_an_evaluation_before_and_after_a_frozen_phase_is_the_same(small, tmp_path):
    small.network.heads.new = dict(name="linear")
    new = dict(new=dict(term="cross_entropy", stream="target", head="new"))
    frozen = (("trunk/**", 0.0), ("**", 1.0))
    config = configured(small, train=frozen, terms=new)
    judged = experiment.run(config, tmp_path / "stays")["evaluations"]
    assert judged["before"] == judged["target"]
    config.second.freeze_statistics = False
    judged = experiment.run(config, tmp_path / "moves")["evaluations"]
    assert judged["before"]["loss"] != judged["target"]["loss"]


def test_the_inventory_tells_of_statistics_what_it_tells_of_parameters(small):
    frozen = (("trunk/norm_0/**", 0.0), ("**", 1.0))
    phases = inventory.collect(configured(small, train=frozen))
    told = {
        name: {leaf["path"]: (leaf["origin"], leaf["moves"]) for leaf in leaves if "moves" in leaf}
        for name, leaves in phases.items()
    }
    paths = [f"trunk/norm_{i}/statistics/{kind}" for i in (0, 1) for kind in ("mean", "var")]
    assert told["first"] == dict.fromkeys(paths, ("fresh", True))
    assert told["second"] == {path: ("first", "norm_1" in path) for path in paths}
    assert not any("factor" in leaf for leaf in phases["second"] if "moves" in leaf)


def test_the_command_names_statistics(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    path = tmp_path / "config.py"
    path.write_text(
        "from tljax.configs import dann_svhn_mnist\n"
        "def get_config():\n"
        "    config = dann_svhn_mnist.get_config()\n"
        "    for name in ('source', 'target'):\n"
        "        stream = dict(data='digits', split='train[:80]', size=8, channels=1, batch=8)\n"
        "        config.streams[name].update(stream)\n"
        "    for each in config.evaluate.values():\n"
        "        each.update(data='digits', split='train[80:90]', size=8, channels=1)\n"
        "    config.train = (('trunk/norm_0/**', 0.0), ('**', 1.0))\n"
        "    return config\n"
    )
    assert main(["tljax", "params", f"--config={path}"]) == 0
    printed = capsys.readouterr().out
    assert "512 batch statistics: 384 move, 128 stay" in printed  # 2 · (64 + 64 + 128)
    rows = [line for line in printed.splitlines() if "statistics/mean" in line]
    assert [line.split("│")[-2].strip() for line in rows] == ["stay", "move", "move"]


def test_a_share_of_channels_is_normalised_by_running_statistics(data, learned):
    """StochNorm: of 1 all are, of a half some are; statistics move as without."""
    images = {"source": dict(input=data["source"].input[:8], label=data["source"].label[:8])}

    def looks(share):
        later = phase(stochastic_norm=share, network=tljax.Network(trunk=Norms(), heads=HEAD))
        rest = (images, data, {}, jnp.float32(0.5), jax.random.key(3))
        state = tljax.start(later, data, jax.random.key(0))
        statistics = jax.tree.map(lambda leaf: leaf + 1.0, state.batch_stats)
        params = {**state.params, "heads": {"label": {"output": EYE}}}
        loss, (_, moved) = objective.apply(later, params, statistics, *rest)
        z = objective.predict(later.network, params, statistics, images["source"]["input"], head="")
        return loss, moved, z[1]

    plain, moved, running = looks(0.0)
    every, moved_too, *_ = looks(1.0)
    some, moved_three, *_ = looks(0.5)
    for other in (moved_too, moved_three):
        jax.tree.map(np.testing.assert_array_equal, moved, other)
    logits = np.asarray(running)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log(shares[np.arange(8), np.arange(8) % 3]).mean()
    np.testing.assert_allclose(every[0], expected, rtol=1e-5)
    assert len({float(each[0]) for each in (plain, every, some)}) == 3


class Norms(nn.Module):
    """A norm and nothing else."""

    @nn.compact
    def __call__(self, x, *, train, stream=None):
        return Norm("batch", name="norm")(x.reshape(x.shape[0], -1)[:, :3], train=train)


HEAD = {"label": tljax.models.Linear(outputs=3)}
EYE = {"kernel": jnp.eye(3), "bias": jnp.zeros(3)}

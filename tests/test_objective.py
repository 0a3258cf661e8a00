"""Terms and their weighted sum: what a term sees, what it may return, and what is refused."""

import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tljax
from tljax import experiment, trees
from tljax.bind import Bound
from tljax.errors import UserError
from tljax.experiment import start
from tljax.experiment.build import flowing
from tljax.phase import objective
from tljax.phase.phase import numbers

STREAMS = [tljax.Stream("source", batch=4), tljax.Stream("target", batch=2)]
CLASSES = ("a", "b", "c")


def network(norm="none"):
    heads = {"label": tljax.models.Linear(), "domain": tljax.models.Linear(outputs=1)}
    return tljax.Network(trunk=tljax.models.MLP(features=(5,), norm=norm), heads=heads)


def examples():
    """A labelled source of 4 and an unlabelled target of 2."""
    images = np.random.default_rng(0).normal(size=(6, 2, 2, 1)).astype(np.float32)
    source = tljax.Table(input=images[:4], label=[0, 1, 2, 1], classes=CLASSES)
    return {"source": source, "target": tljax.Table(input=images[4:], classes=CLASSES)}


def total(terms, data=None, progress=0.5, norm="none", **fields):
    """(total, values by name, moved batch statistics) of terms at their first parameters.

    A batch is all that a stream has. `terms` are terms, or functions that need no fields.
    """
    terms = {n: t if isinstance(t, Bound) else tljax.term(t) for n, t in terms.items()}
    phase = tljax.Phase(network=network(norm), streams=STREAMS, terms=terms, steps=100, **fields)
    data = data or examples()
    state = tljax.start(phase, data, jax.random.key(0))
    state = state._replace(step=jnp.int32(100 * progress))
    state, report = tljax.step(phase, state, data)
    values = {name: float(report.totals[name]) for name in terms}
    return float(report.totals["loss"]), values, state.batch_stats


def per_example(view):
    return view.batch["source"]["label"] * 2.0


def constant(view, *, value: float = 3.0):
    return jnp.float32(value)


def noise(view):
    return jax.random.uniform(view.key)


def mean_feature(view, *, stream="source"):
    return view.features[stream].mean()


def matrix(view):
    return view.features["source"]


def reads_target_labels(view):
    return view.batch["target"]["label"]


def test_a_term_per_example_is_averaged():
    """Labels 0, 1, 2, 1, twice: mean 2."""
    value, values, _ = total({"mine": per_example})
    assert value == values["mine"] == 2.0


def test_the_total_is_the_weighted_sum_of_unweighted_values():
    """0.5 · 2 + 2 · 3 + 0 · 7."""
    value, values, _ = total(
        {
            "one": tljax.term(per_example, weight=0.5),
            "two": tljax.term(constant, weight=2.0),
            "three": tljax.term(constant, weight=0.0, value=7.0),
        }
    )
    assert value == 7.0
    assert values == {"one": 2.0, "two": 3.0, "three": 7.0}


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_a_ramp_multiplies_the_weight_and_not_the_value(progress):
    value, values, _ = total(
        {"mine": tljax.term(constant, weight=2.0, ramp=10.0)}, progress=progress
    )
    assert values["mine"] == 3.0
    expected = 2.0 * (2 / (1 + math.exp(-10 * progress)) - 1) * 3.0
    assert value == pytest.approx(expected, rel=1e-6)


def test_a_term_of_wrong_rank_is_refused():
    with pytest.raises(
        UserError, match=r"^terms\.mine: returned shape \(4, 5\); expected .*\[batch\]"
    ):
        total({"mine": matrix})


def test_reading_labels_of_an_unlabelled_stream_is_refused():
    with pytest.raises(UserError) as caught:
        total({"fine": per_example, "mine": reads_target_labels})
    assert str(caught.value) == (
        "terms.mine: reads the labels of stream 'target', which is declared unlabelled "
        "(streams.target.labelled=False)"
    )


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda view: view.features["sorce"], r"stream: unknown name 'sorce'.*mean 'source'\?"),
        (lambda view: view.batch["targets"], r"stream: unknown name 'targets'.*mean 'target'\?"),
        (lambda view: view.batch["source"]["inputs"], r"batch\['source'\]: .*mean 'input'\?"),
        (
            lambda view: view.net.head("lable", view.features["source"]),
            r"network\.heads: .*mean 'label'\?",
        ),
    ],
)
def test_what_is_not_there_is_refused_with_the_term_and_the_nearest_name(function, says):
    with pytest.raises(UserError, match=r"^terms\.mine: " + says):
        total({"mine": function})


def test_a_second_term_changes_neither_the_value_nor_the_randomness_of_the_first():
    label, domain = tljax.term("cross_entropy"), tljax.term("domain_adversarial")
    alone = total({"label": label, "noise": noise})[1]
    others = {"another": noise, "domain": domain}
    joined = total({**others, "label": label, "noise": noise})[1]
    for name in ("label", "noise"):
        assert alone[name] == joined[name]
    assert joined["another"] != joined["noise"]  # every term has randomness of its own


def test_features_of_streams_in_one_pass_are_those_of_each_by_itself():
    """Without batch statistics, passing the trunk together or apart is the same."""
    for stream in ("source", "target"):
        term = tljax.term(mean_feature, stream=stream)
        joint = total({"mine": term}, statistics="joint")[0]
        apart = total({"mine": term}, statistics="separate")[0]
        np.testing.assert_allclose(joint, apart, rtol=1e-5)


def test_statistics_are_of_all_streams_or_of_each():
    """A stream sees the images of another only through joint batch statistics."""
    data, other = examples(), examples()
    images = 10 * other["target"].input + 3
    other["target"] = other["target"].with_column("input", images)

    def square(view):
        return (view.features["source"] ** 2).mean()

    for separate in (False, True):
        values, statistics = [], []
        for tables in (data, other):
            value, _, moved = total(
                {"mine": square},
                tables,
                norm="batch",
                statistics="separate" if separate else "joint",
            )
            values.append(value)
            statistics.append(moved["trunk"]["norm_0"])
        assert (values[0] == values[1]) == separate
        names = {"statistics_source", "statistics_target"} if separate else {"statistics"}
        assert set(statistics[0]) == names
        if separate:
            one, two = (each["statistics_source"] for each in statistics)
            jax.tree.map(np.testing.assert_array_equal, one, two)


def test_joint_statistics_are_of_the_concatenated_batch():
    _, _, moved = total({"mine": mean_feature}, norm="batch")
    data = examples()
    phase = tljax.Phase(network=network("batch"), streams=STREAMS)
    params = tljax.start(phase, data, jax.random.key(0)).params
    images = np.concatenate([data["source"].input, data["target"].input])
    dense = params["trunk"]["dense_0"]
    before = images.reshape(6, -1) @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])
    statistics = moved["trunk"]["norm_0"]["statistics"]
    np.testing.assert_allclose(statistics["mean"], 0.01 * before.mean(0), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(statistics["var"], 0.99 + 0.01 * before.var(0), rtol=1e-5)


def test_prediction_is_the_head_on_the_features():
    data, terms = examples(), {"label": tljax.term("cross_entropy")}
    phase = tljax.Phase(network=network(), streams=STREAMS, terms=terms)
    params = tljax.start(phase, data, jax.random.key(0)).params
    images = data["source"].input
    logits, z = objective.predict(phase.network, params, {}, images, head="label")
    trunk, head = params["trunk"]["dense_0"], params["heads"]["label"]
    expected = np.maximum(images.reshape(4, -1) @ trunk["kernel"] + trunk["bias"][None], 0)
    np.testing.assert_allclose(z, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits, z @ head["output"]["kernel"], rtol=1e-5, atol=1e-6)


# Terms as a config names them.


@pytest.fixture
def ideas(tmp_path, monkeypatch):
    """A module of the user's, importable."""
    (tmp_path / "users_ideas.py").write_text(
        "import jax.numpy as jnp\n"
        "WIDTH = 3\n"
        "def shrink(view, *, stream='source', power: float = 2.0):\n"
        "    return jnp.mean(jnp.abs(view.features[stream]) ** power, axis=-1)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("users_ideas", None)


def built(config):
    """A config's only phase, and all that was built of it."""
    made = experiment.build(experiment.check(config))
    return made.phases["train"], made


def test_a_term_of_the_users_own_needs_only_its_importable_name(tiny, ideas):
    tiny.terms.shrink = dict(term="users_ideas:shrink", weight=0.1, power=3.0)
    phase, _ = built(tiny)
    shrink = phase.terms["shrink"]
    assert shrink.static == (("stream", "source"),)
    assert shrink.numbers == {"weight": 0.1, "power": 3.0}
    value, values, _ = total({"shrink": shrink})
    _, cubes, _ = total({"mine": lambda view: (view.features["source"] ** 3).mean()})
    assert values["shrink"] > 0  # the features are not negative, so |z|³ = z³
    np.testing.assert_allclose(values["shrink"], cubes["mine"], rtol=1e-5)
    np.testing.assert_allclose(value, 0.1 * values["shrink"], rtol=1e-6)
    # From Python by the same name.
    from_python = tljax.term("users_ideas:shrink", weight=0.1, power=3.0)
    assert jax.tree.structure(from_python) == jax.tree.structure(shrink)
    assert from_python == shrink


def test_a_term_may_be_a_number_alone_its_weight(tiny):
    tiny.terms = dict(cross_entropy=0.5, domain_adversarial=dict(weight=2))
    weights = {name: term.weight for name, term in built(tiny)[0].terms.items()}
    assert weights == {"cross_entropy": 0.5, "domain_adversarial": 2.0}


def test_a_term_may_ramp(tiny):
    tiny.terms.label.ramp = 5.0
    terms = built(tiny)[0].terms
    ramped = {name: "ramp" in term.numbers for name, term in terms.items()}
    assert ramped == {"label": True, "domain": False}
    assert terms["label"].ramp == 5.0


@pytest.mark.parametrize(
    ("term", "fields", "says"),
    [
        ("label", {"weight": -1.0}, r"terms\.label\.weight: got -1\.0; expected .* at least 0"),
        ("label", {"weight": math.nan}, r"terms\.label\.weight: got nan"),
        ("label", {"weight": True}, r"terms\.label\.weight: got True"),
        ("label", {"ramp": -1.0}, r"terms\.label\.ramp: got -1\.0; expected .* at least 0"),
        ("label", {"term": "cross_entropi"}, r"terms\.label\.term: .*mean 'cross_entropy'\?"),
        ("domain", {"gama": 1.0}, r"terms\.domain: unknown name 'gama'.*mean 'gamma'\?"),
        ("domain", {"scale": "1"}, r"terms\.domain\.scale: got '1'; expected a finite number"),
        ("mine", {"term": "users_idea:shrink"}, r"terms\.mine\.term: cannot import 'users_idea'"),
        ("mine", {"term": "users_ideas:shrunk"}, r"terms\.mine\.term: .*mean 'shrink'\?"),
        ("mine", {"term": "users_ideas:WIDTH"}, r"terms\.mine\.term: unknown name 'WIDTH'"),
        ("mine", {"term": "users_ideas:shrink", "powr": 1.0}, r"terms\.mine: .*mean 'power'\?"),
    ],
)
def test_mistakes_in_terms_are_refused(tiny, ideas, term, fields, says):
    tiny.terms[term] = {**tiny.terms.get(term, {}), **fields}
    with pytest.raises(UserError, match="^" + says):
        built(tiny)


def test_an_infinite_weight_is_refused(tiny):
    tiny.terms.label.weight = math.inf
    with pytest.raises(UserError, match=r"^terms\.label\.weight: got inf"):
        built(tiny)


def test_a_stream_that_does_not_flow_is_refused_with_the_nearest(tiny):
    tiny.terms.label.stream = "sourse"
    _, made = built(tiny)
    with pytest.raises(UserError, match=r"^terms\.label: stream: .*'sourse'.*mean 'source'\?"):
        start.fresh(made, "train", 0, {})


def test_labels_of_an_unlabelled_stream_reach_nothing(tiny, tmp_path):
    """Permuting the labels in the file leaves every input of the step as it was."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 8, 8, 3), np.uint8), rng.integers(0, 10, 40)
    inputs = []
    for name, each in (("one", labels), ("other", rng.permutation(labels))):
        np.savez(tmp_path / f"{name}.npz", image=images, label=each)
        tiny.streams.target = dict(
            data=f"npz:{tmp_path / name}.npz", split="train", labelled=False, batch=8
        )
        phase, made = built(tiny)
        data = flowing(made, "train")
        assert set(data["target"].columns) == {"input"} and not data["target"].seen
        assert set(data["source"].columns) == {"input", "label"}
        key = jax.random.key_data(made.key("train"))
        inputs.append((numbers(phase), data, made.readers["train"], key))
    one, other = inputs
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert list(trees.flatten(one)) == list(trees.flatten(other))
    for path, leaf in trees.flatten(one).items():
        np.testing.assert_array_equal(leaf, trees.flatten(other)[path])


@pytest.mark.parametrize("outputs", [10, None])
def test_labelled_terms_on_an_unlabelled_source_are_refused(tiny, outputs):
    tiny.streams.source.labelled = False
    if outputs:
        tiny.network.heads.label.outputs = outputs
    _, made = built(tiny)
    with pytest.raises(UserError, match=r"^terms\.label: reads the labels of stream 'source'"):
        start.fresh(made, "train", 0, {})


def test_delta_of_a_trunks_map():
    """½ Σ(m − m⁰)² of the first block's tokens; 0 where nothing has moved."""
    trunk = tljax.models.ViT(width=8, depth=2, heads=2, patch=4, image=8)
    phase = tljax.Phase(
        network=tljax.Network(trunk=trunk, heads={}),
        streams=[tljax.Stream("target", 3)],
        terms={"near": tljax.term("delta", layer="block_0")},
        optimizer=tljax.optimizer("sgd", learning_rate=0.1),
    )
    images = np.random.default_rng(0).random((3, 8, 8, 3), np.float32)
    data = {"target": tljax.Table(input=images)}
    start = tljax.start(phase, data, jax.random.key(0)).start
    moved = jax.tree.map(lambda leaf: 1.1 * leaf, start["params"])

    def near(params):
        rest = ({"target": {"input": images}}, data, start, jnp.float32(0.5), jax.random.key(0))
        return float(objective.apply(phase, params, {}, *rest)[0][0])

    def tokens(params):
        return trunk.apply({"params": params["trunk"]}, images, train=False)[1]["block_0"]

    expected = 0.5 * jnp.square(tokens(moved) - tokens(start["params"])).sum((1, 2)).mean()
    assert near(moved) == pytest.approx(float(expected), rel=1e-4)
    assert near(start["params"]) == pytest.approx(0, abs=1e-6)
    wrong = phase.changed(terms={"near": tljax.term("delta", layer="blok_0")})
    with pytest.raises(UserError, match="terms.near: layer: .*'blok_0'.*mean 'block_0'"):
        tljax.start(wrong, data, jax.random.key(0))

"""Terms and their weighted sum: what a term sees, what it may return, and what is refused."""

import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tljax import experiment, objective, starting, terms, trees
from tljax.data.streams import Stream
from tljax.errors import UserError
from tljax.models import build
from tljax.objective import Objective, Term

KEY = jax.random.key(0)
STREAMS = (Stream("source", 4), Stream("target", 2))


def network(norm="none"):
    heads = {"label": {"name": "linear"}, "domain": {"name": "linear", "outputs": 1}}
    trunk = {"name": "mlp", "features": (5,), "norm": norm}
    return build({"stems": {}, "trunk": trunk, "heads": heads}, classes=3)


def examples():
    """A labelled source of 4 and an unlabelled target of 2."""
    images = np.random.default_rng(0).normal(size=(6, 2, 2, 1)).astype(np.float32)
    source = {"image": jnp.asarray(images[:4]), "label": jnp.array([0, 1, 2, 1])}
    return {"source": source, "target": {"image": jnp.asarray(images[4:])}}


def total(*parsed, numbers=None, batch=None, separate=False, progress=0.5, norm="none"):
    """(total, values by name, moved batch statistics) of terms at their first parameters."""
    numbers = {t.name: {"weight": 1.0} | (numbers or {}).get(t.name, {}) for t in parsed}
    batch = examples() if batch is None else batch
    spec = Objective(network(norm), parsed, STREAMS, separate)
    variables = objective.initialise(spec, numbers, batch, KEY)
    value, (values, moved) = objective.apply(
        spec,
        numbers,
        variables["params"],
        variables["batch_stats"],
        batch,
        variables,
        jnp.float32(progress),
        jax.random.key(1),
    )
    return value.sum(), values, moved


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
    value, values, _ = total(Term("mine", per_example))
    assert value == values["mine"] == 2.0


def test_the_total_is_the_weighted_sum_of_unweighted_values():
    """0.5 · 2 + 2 · 3 + 0 · 7."""
    numbers = {
        "one": {"weight": 0.5},
        "two": {"weight": 2.0},
        "three": {"weight": 0.0, "value": 7.0},
    }
    value, values, _ = total(
        Term("one", per_example), Term("two", constant), Term("three", constant), numbers=numbers
    )
    assert value == 7.0
    assert values == {"one": 2.0, "two": 3.0, "three": 7.0}


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_a_ramp_multiplies_the_weight_and_not_the_value(progress):
    numbers = {"mine": {"weight": 2.0, "ramp": 10.0}}
    term = Term("mine", constant, ramped=True)
    value, values, _ = total(term, numbers=numbers, progress=progress)
    assert values["mine"] == 3.0
    expected = 2.0 * (2 / (1 + math.exp(-10 * progress)) - 1) * 3.0
    assert float(value) == pytest.approx(expected, rel=1e-6)


def test_a_term_of_wrong_rank_is_refused():
    with pytest.raises(
        UserError, match=r"^terms\.mine: returned shape \(4, 5\); expected .*\[batch\]"
    ):
        total(Term("mine", matrix))


def test_reading_labels_of_an_unlabelled_stream_is_refused():
    with pytest.raises(UserError) as caught:
        total(Term("fine", per_example), Term("mine", reads_target_labels))
    assert str(caught.value) == (
        "terms.mine: reads the labels of stream 'target', which is declared unlabelled "
        "(streams.target.labelled=False)"
    )


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda view: view.features["sorce"], r"stream: unknown name 'sorce'.*mean 'source'\?"),
        (lambda view: view.batch["targets"], r"stream: unknown name 'targets'.*mean 'target'\?"),
        (lambda view: view.batch["source"]["images"], r"batch\['source'\]: .*mean 'image'\?"),
        (
            lambda view: view.net.head("lable", view.features["source"]),
            r"network\.heads: .*mean 'label'\?",
        ),
    ],
)
def test_what_is_not_there_is_refused_with_the_term_and_the_nearest_name(function, says):
    with pytest.raises(UserError, match=r"^terms\.mine: " + says):
        total(Term("mine", function))


def test_a_second_term_changes_neither_the_value_nor_the_randomness_of_the_first():
    alone = total(Term("label", terms.cross_entropy, CROSS), Term("noise", noise))[1]
    others = (
        Term("another", noise),
        Term("domain", terms.domain_adversarial, DOMAIN),
    )
    joined = total(*others, Term("label", terms.cross_entropy, CROSS), Term("noise", noise))[1]
    for name in ("label", "noise"):
        assert alone[name] == joined[name]
    assert joined["another"] != joined["noise"]  # every term has randomness of its own


CROSS = (("head", "label"), ("smoothing", 0.0), ("stream", "source"))
DOMAIN = (("gamma", 10.0), ("head", "domain"), ("scale", 1.0), ("source", "source"))


def test_features_of_streams_in_one_pass_are_those_of_each_by_itself():
    """Without batch statistics, passing the trunk together or apart is the same."""
    for stream in ("source", "target"):
        static = (("stream", stream),)
        joint = total(Term("mine", mean_feature, static), separate=False)[0]
        apart = total(Term("mine", mean_feature, static), separate=True)[0]
        np.testing.assert_allclose(joint, apart, rtol=1e-5)


def test_statistics_are_of_all_streams_or_of_each():
    """A stream sees the images of another only through joint batch statistics."""
    batch, other = examples(), examples()
    other["target"]["image"] = 10 * other["target"]["image"] + 3
    square = Term("mine", lambda view: (view.features["source"] ** 2).mean())
    for separate in (False, True):
        values, statistics = [], []
        for each in (batch, other):
            value, _, moved = total(square, batch=each, separate=separate, norm="batch")
            values.append(float(value))
            statistics.append(moved["trunk"]["norm_0"])
        assert (values[0] == values[1]) == separate
        names = {"statistics_source", "statistics_target"} if separate else {"statistics"}
        assert set(statistics[0]) == names
        if separate:
            one, two = (each["statistics_source"] for each in statistics)
            jax.tree.map(np.testing.assert_array_equal, one, two)


def test_joint_statistics_are_of_the_concatenated_batch():
    _, _, moved = total(Term("mine", mean_feature), norm="batch")
    spec = Objective(network("batch"), (Term("mine", mean_feature),), STREAMS)
    batch = examples()
    params = objective.initialise(spec, {"mine": {"weight": 1.0}}, batch, KEY)["params"]
    images = jnp.concatenate([batch["source"]["image"], batch["target"]["image"]])
    dense = params["trunk"]["dense_0"]
    before = np.asarray(images.reshape(6, -1) @ dense["kernel"] + dense["bias"].reshape(1, -1))
    statistics = moved["trunk"]["norm_0"]["statistics"]
    np.testing.assert_allclose(statistics["mean"], 0.01 * before.mean(0), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(statistics["var"], 0.99 + 0.01 * before.var(0), rtol=1e-5)


def test_prediction_is_the_head_on_the_features():
    net, batch = network(), examples()
    spec = Objective(net, (Term("label", terms.cross_entropy, CROSS),), STREAMS)
    variables = objective.initialise(spec, {"label": {"weight": 1.0}}, batch, KEY)
    images = batch["source"]["image"]
    logits, z = objective.predict(net, variables["params"], {}, images, head="label")
    trunk, head = variables["params"]["trunk"]["dense_0"], variables["params"]["heads"]["label"]
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


def phase(config):
    resolved = experiment.resolve(config)
    built = experiment.build(resolved)
    return built.phase(0), built


def test_a_term_of_the_users_own_needs_only_its_importable_name(tiny, ideas):
    tiny.terms.shrink = dict(term="users_ideas:shrink", weight=0.1, power=3.0)
    only, _ = phase(tiny)
    parsed = {term.name: term for term in only.plan.objective.terms}
    assert parsed["shrink"].static == (("stream", "source"),)
    numbers = only.hyper["terms"]["shrink"]
    assert {name: float(x) for name, x in numbers.items()} == {
        "weight": pytest.approx(0.1),
        "power": 3.0,
    }
    value, values, _ = total(parsed["shrink"], numbers={"shrink": numbers})
    _, cubes, _ = total(Term("mine", lambda view: (view.features["source"] ** 3).mean()))
    assert float(values["shrink"]) > 0  # the features are not negative, so |z|³ = z³
    np.testing.assert_allclose(values["shrink"], cubes["mine"], rtol=1e-5)
    np.testing.assert_allclose(value, 0.1 * values["shrink"], rtol=1e-6)


def test_a_term_may_be_a_number_alone_its_weight(tiny):
    tiny.terms = dict(cross_entropy=0.5, domain_adversarial=dict(weight=2))
    only, _ = phase(tiny)
    weights = {name: float(each["weight"]) for name, each in only.hyper["terms"].items()}
    assert weights == {"cross_entropy": 0.5, "domain_adversarial": 2.0}


def test_a_term_may_ramp(tiny):
    tiny.terms.label.ramp = 5.0
    only, _ = phase(tiny)
    ramped = {term.name: term.ramped for term in only.plan.objective.terms}
    assert ramped == {"label": True, "domain": False}
    assert float(only.hyper["terms"]["label"]["ramp"]) == 5.0


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
    given = tiny.terms.get(term, {})
    tiny.terms[term] = {**given, **fields}
    with pytest.raises(UserError, match="^" + says):
        phase(tiny)


def test_an_infinite_weight_is_refused(tiny):
    tiny.terms.label.weight = math.inf
    with pytest.raises(UserError, match=r"^terms\.label\.weight: got inf"):
        phase(tiny)


def test_a_stream_that_does_not_flow_is_refused_with_the_nearest(tiny):
    tiny.terms.label.stream = "sourse"
    only, built = phase(tiny)
    with pytest.raises(UserError, match=r"^terms\.label: stream: .*'sourse'.*mean 'source'\?"):
        starting.begin(only, built.fields[0], {}, built.data)


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
        only, _ = phase(tiny)
        assert set(only.resident["target"]) == {"image"}
        assert set(only.resident["source"]) == {"image", "label"}
        hyper = {**only.hyper, "key": jax.random.key_data(only.hyper["key"])}
        inputs.append((only.plan, trees.flatten((hyper, only.resident))))
    (plan, one), (other_plan, other) = inputs
    assert plan == other_plan and list(one) == list(other)
    for path in one:
        np.testing.assert_array_equal(one[path], other[path])


@pytest.mark.parametrize(
    "outputs",
    [
        10,
        None,
    ],
)
def test_labelled_terms_on_an_unlabelled_source_are_refused(tiny, outputs):
    tiny.streams.source.labelled = False
    if outputs:
        tiny.network.heads.label.outputs = outputs
    only, built = phase(tiny)
    with pytest.raises(UserError, match=r"^terms\.label: reads the labels of stream 'source'"):
        starting.begin(only, built.fields[0], {}, built.data)

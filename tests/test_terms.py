"""Every term against its pure loss, on features and outputs that are computed apart from it."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tljax
from tljax import terms, trees
from tljax.bind import find
from tljax.errors import UserError
from tljax.losses import (
    adversarial,
    alignment,
    clustering,
    conservative,
    self_taught,
    text,
    zero_shot,
)
from tljax.models import MLP, Adapter, Linear, MLPHead, Prototypes
from tljax.phase import objective

KEY = jax.random.key(0)
PROGRESS = 0.3
SEEN = (0, 2, 3)  # of five classes
# Batches differ, so that streams which are mistaken for each other do not fit or do not agree.
STREAMS = (
    tljax.Stream("source", 5),
    tljax.Stream("view", 5, of="source"),
    tljax.Stream("target", 4),
    tljax.Stream("augmented", 4, of="target"),
    tljax.Stream("unlabelled", 4),
    tljax.Stream("odd", 3),
)
HEADS = {
    "label": Linear(outputs=5),
    "domain": Linear(outputs=1),
    "conditional": MLPHead(hidden=(3,), outputs=1),
    "adversary": Linear(outputs=5),
    "attributes": Linear(outputs=4),
    "embed": Linear(outputs=4, bias=False),
    "source_label": Linear(outputs=6),
    "decoder": Linear(outputs=8),
    "projection": MLPHead(hidden=(6,), outputs=3),
    "cluster": Linear(outputs=3),
    "prototypes": Prototypes(outputs=3, alpha=2.0),
    "several": Linear(outputs=3),
    "value": Linear(outputs=2),
}
NETWORK = tljax.Network(trunk=MLP(features=(6,), norm="batch"), heads=HEADS)


def examples():
    draw = np.random.default_rng(0)
    images = {s.name: draw.normal(size=(s.batch, 2, 2, 2)) for s in STREAMS}
    batch = {name: {"input": jnp.asarray(x, jnp.float32)} for name, x in images.items()}
    for name, labels in LABELS.items():
        batch[name]["label"] = jnp.array(labels)
    batch["source"]["labels"] = jnp.array(SEVERAL)
    batch["target"]["value"] = jnp.array(VALUES)
    return batch


LABELS = {"source": [3, 0, 2, 3, 0], "target": [4, 0, 1, 4]}
SEVERAL = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1], [0, 0, 1]], bool)
VALUES = np.array([[0.5, -4.0], [3.0, 0.1], [-0.2, 0.3], [-2.0, 1.0]], np.float32)
BATCH = examples()
CLASSES = ("a", "b", "c", "d", "e")
# What the streams' tables know: source holds the classes SEEN of five, target all of them.
KNOWN = {
    name: tljax.Table(input=np.zeros((n, 2, 2, 2), np.float32), label=label, classes=CLASSES)
    for name, n, label in (
        ("source", 3, SEEN),
        ("target", 5, range(5)),
        ("unlabelled", 4, None),
        ("odd", 3, None),
    )
}
TABLES = {
    "attributes": jnp.asarray(np.random.default_rng(1).uniform(size=(5, 4)), jnp.float32),
    "bits": jnp.asarray(np.random.default_rng(2).integers(0, 2, (5, 4)), jnp.float32),
    "relationship": jnp.asarray(np.random.default_rng(3).dirichlet(np.ones(6), 5), jnp.float32),
    "importance": jnp.array([0.7, 0.1, 0.2]),
    "few": jnp.ones((3, 4)),
    "fisher": {"trunk": {"dense_0": {"kernel": jnp.full((8, 6), 2.0), "bias": jnp.full(6, 3.0)}}},
}


def written(name, function, fields):
    """A term as a config names it."""
    return tljax.term(function, field=name, **fields)


# What a term is given -> the pure loss. `of` has the outputs of both models, `of.params` etc.
CASES = {}


def case(function, variant="", **fields):
    def register(reference):
        name = f"{function}_{variant}" if variant else function
        CASES[name] = (function, fields, reference)
        return reference

    return register


class Of:
    """Outputs with running statistics: `of("source", "label")`, and `of.anchor(...)`."""

    def __init__(self, params, batch_stats, anchor):
        self.params, self.anchor_params = params, anchor["params"]
        self._variables = {
            "now": (params, batch_stats),
            "then": (anchor["params"], anchor["batch_stats"]),
        }
        self._features = {}

    def __call__(self, stream, head="", when="now"):
        """One stream by itself through the network, and one head."""
        params, batch_stats = self._variables[when]
        if (stream, when) not in self._features:
            images = BATCH[stream]["input"]
            z = objective.predict(NETWORK, params, batch_stats, images, head="")[1]
            self._features[stream, when] = z
        z = self._features[stream, when]
        return objective.respond(NETWORK, params, head, z) if head else z

    def anchor(self, stream, head=""):
        return self(stream, head, "then")

    def head(self, name, z):
        return objective.respond(NETWORK, self.params, name, z)


@case("cross_entropy", stream="target", smoothing=0.1)
def _(of):
    """−Σ t log p, t = 0.9 on the label plus 0.02 everywhere."""
    wanted = 0.9 * np.eye(5, dtype=np.float32)[[4, 0, 1, 4]] + np.float32(0.02)
    return -(wanted * jax.nn.log_softmax(of("target", "label"))).sum(-1).mean()


@case("cross_entropy", "plain")
def _(of):
    return -jax.nn.log_softmax(of("source", "label"))[
        jnp.arange(5), BATCH["source"]["label"]
    ].mean()


@case("attributes", table="bits", stream="target")
def _(of):
    logits, wanted = of("target", "attributes"), TABLES["bits"][jnp.array([4, 0, 1, 4])]
    p = jax.nn.sigmoid(logits)
    return -(wanted * jnp.log(p) + (1 - wanted) * jnp.log(1 - p)).mean()


PLACES = jnp.array([2, 0, 1, 2, 0])  # of the labels 3, 0, 2, 3, 0 among the seen 0, 2, 3


def scores(of, scale=1.0):
    kernel = of.params["heads"]["embed"]["output"]["kernel"]
    seen = TABLES["attributes"][jnp.array(SEEN)]
    return scale * zero_shot.compatibility(of("source"), seen, kernel)


@case("compatibility", scale=3.0)
def _(of):
    return -jax.nn.log_softmax(scores(of, 3.0))[jnp.arange(5), PLACES].mean()


@case("compatibility", "devise", loss="devise", margin=0.7, scale=2.0)
def _(of):
    return zero_shot.devise(scores(of, 2.0), PLACES, 0.7).mean()


@case("compatibility", "sje", loss="sje", margin=0.7)
def _(of):
    return zero_shot.sje(scores(of), PLACES, 0.7).mean()


@case("compatibility", "ale", loss="ale", margin=0.7)
def _(of):
    return zero_shot.ale(scores(of), PLACES, 0.7).mean()


def half_squares(*differences):
    return 0.5 * sum(jnp.sum(leaf**2) for leaf in differences)


@case("l2_sp")
def _(of):
    now, then = trees.flatten(of.params["trunk"]), trees.flatten(of.anchor_params)
    return half_squares(*(leaf - then[f"trunk/{path}"] for path, leaf in now.items()))


@case("l2_sp", "only", only=("trunk/*/kernel", "heads/label/**"))
def _(of):
    now, then = of.params, of.anchor_params
    pairs = [(tree["heads"]["label"]["output"]) for tree in (now, then)]
    return half_squares(
        now["trunk"]["dense_0"]["kernel"] - then["trunk"]["dense_0"]["kernel"],
        pairs[0]["kernel"] - pairs[1]["kernel"],
        pairs[0]["bias"] - pairs[1]["bias"],
    )


@case("ewc", only=("trunk/dense_0/**",))
def _(of):
    pairs = [tree["trunk"]["dense_0"] for tree in (of.params, of.anchor_params)]
    moved = jax.tree.map(jnp.subtract, *pairs)
    return half_squares(moved["kernel"] * 2**0.5, moved["bias"] * 3**0.5)


@case("bi_tuning", stream="source", keys="view", temperature=0.5)
def _(of):
    """Label 3 at 0 and 3, 0 at 1 and 4, 2 at 2: each example's own class, in its row."""

    def unit(x):
        return x / jnp.linalg.norm(x, axis=-1, keepdims=True)

    rows = jnp.array([[1, 0, 0, 1, 0], [0, 1, 0, 0, 1], [0, 0, 1, 0, 0]])
    alike = rows[jnp.array([0, 1, 2, 0, 1])]
    layer = jax.lax.stop_gradient(of.params["heads"]["label"]["output"])
    weights = unit(jnp.concatenate([layer["kernel"].T, layer["bias"][:, None]], axis=1))
    z, keys = unit(of("source", "projection")), unit(of("view", "projection"))
    ones = jnp.concatenate([of("source"), jnp.ones((5, 1))], axis=1)
    looks = (z @ jax.lax.stop_gradient(keys).T, weights[jnp.array(LABELS["source"])] @ unit(ones).T)
    shares = [-(alike * jax.nn.log_softmax(look / 0.5)).sum(1) / alike.sum(1) for look in looks]
    return sum(shares).mean()


@case("l2_penalty", only=("heads/embed/**",))
def _(of):
    return half_squares(of.params["heads"]["embed"]["output"]["kernel"])


@case("distillation", stream="source", head="source_label", temperature=2.0)
def _(of):
    student, teacher = of("source", "source_label"), of.anchor("source", "source_label")
    return conservative.distillation(student, teacher, 2.0).mean()


@case("delta", stream="source")
def _(of):
    return half_squares(of("source") - of.anchor("source")) / 5


@case("delta", "weighted", channels=3, table="importance")
def _(of):
    """Six features are two places of three channels: ½ Σ_c (3/2) a_c Σ_places Δ²."""
    squares = ((of("target") - of.anchor("target")) ** 2).reshape(4, 2, 3).sum(1)
    return 0.5 * 1.5 * (squares @ TABLES["importance"]).mean()


@case("spectral_shrinkage", k=2)
def _(of):
    return jnp.sum(jnp.linalg.svd(of("target"), compute_uv=False)[-2:] ** 2)


@case("co_tuning")
def _(of):
    wanted = TABLES["relationship"][jnp.array([4, 0, 1, 4])]
    return -(wanted * jax.nn.log_softmax(of("target", "source_label"))).sum(-1).mean()


@case("domain_adversarial", target="odd", scale=0.5)
def _(of):
    return adversarial.domain_confusion(of("source", "domain"), of("odd", "domain"))


def confusion(of, weighted):
    outputs, weights = [], []
    for stream in ("source", "unlabelled"):
        logits = jax.lax.stop_gradient(of(stream, "label"))
        joint = adversarial.conditional_map(of(stream), jax.nn.softmax(logits))
        outputs.append(of.head("conditional", joint))
        weights.append(adversarial.entropy_weights(logits) if weighted else None)
    return adversarial.domain_confusion(*outputs, *weights)


CONDITIONAL = dict(target="unlabelled", head="conditional")


@case("conditional_adversarial", **CONDITIONAL)
def _(of):
    return confusion(of, weighted=True)


@case("conditional_adversarial", "plain", **CONDITIONAL, entropy=False, scale=0.5, gamma=4.0)
def _(of):
    return confusion(of, weighted=False)


@case("margin_disparity", target="unlabelled", margin=3.0, scale=0.5, gamma=4.0)
def _(of):
    source, target = (of(s, "label") for s in ("source", "unlabelled"))
    others = [of(s, "adversary") for s in ("source", "unlabelled")]
    return adversarial.margin_disparity(source, others[0], target, others[1], 3.0)


@case("mk_mmd", target="odd")
def _(of):
    return alignment.mk_mmd(of("source"), of("odd"))


@case("mk_mmd", "linear", source="target", target="unlabelled", estimator="linear")
def _(of):
    return alignment.mk_mmd(of("target"), of("unlabelled"), estimator="linear")


@case("joint_mmd", target="odd")
def _(of):
    one, other = ([of(s), jax.nn.softmax(of(s, "label"))] for s in ("source", "odd"))
    return alignment.joint_mmd(one, other)


@case("coral", target="odd")
def _(of):
    return alignment.coral(of("source"), of("odd"))


@case("class_confusion", stream="unlabelled", head="source_label", temperature=1.5)
def _(of):
    return alignment.minimum_class_confusion(of("unlabelled", "source_label"), 1.5)


@case("reconstruction")
def _(of):
    return ((of("source", "decoder") - BATCH["source"]["input"].reshape(5, 8)) ** 2).mean()


@case("reconstruction", "denoising", stream="view", clean="source")
def _(of):
    return ((of("view", "decoder") - BATCH["source"]["input"].reshape(5, 8)) ** 2).mean()


@case("info_nce", first="target", second="augmented", head="projection", temperature=0.3)
def _(of):
    return text.info_nce(of("target", "projection"), of("augmented", "projection"), 0.3)


@case("nt_xent", temperature=0.3)
def _(of):
    return self_taught.nt_xent(of("source", "projection"), of("view", "projection"), 0.3)


@case("nt_xent", "headless", first="target", second="augmented", head="")
def _(of):
    return self_taught.nt_xent(of("target"), of("augmented"), 0.5)


@case("barlow_twins", off_diagonal=0.2)
def _(of):
    return self_taught.barlow_twins(of("source", "projection"), of("view", "projection"), 0.2)


@case("vicreg", similarity=2.0, variance=3.0, covariance=5.0)
def _(of):
    views = of("source", "projection"), of("view", "projection")
    return self_taught.vicreg(*views, 2.0, 3.0, 5.0)


@case("scan", neighbour="augmented", entropy_weight=2.0)
def _(of):
    return clustering.scan(of("target", "cluster"), of("augmented", "cluster"), 2.0)


@case("self_label", threshold=0.4)
def _(of):
    return clustering.self_label(of("target", "cluster"), of("augmented", "cluster"), 0.4)


@case("embedded_clustering", head="prototypes")
def _(of):
    """KL(p ‖ q) of Student's t with two degrees of freedom, p sharpened and held still."""
    centroids = of.params["heads"]["prototypes"]["centroids"]
    q = clustering.soft_assignment(of("target"), centroids, 2.0)
    p = clustering.target_distribution(q)
    return (p * jnp.log(p / q)).sum(-1).mean()


@case("binary_cross_entropy", head="several")
def _(of):
    """−[y log σ + (1 − y) log(1 − σ)], the mean over three classes."""
    p = jax.nn.sigmoid(of("source", "several"))
    return -jnp.where(SEVERAL, jnp.log(p), jnp.log(1 - p)).mean()


@case("squared_error", stream="target")
def _(of):
    return ((of("target", "value") - VALUES) ** 2).mean()


@case("huber", stream="target", delta=0.7)
def _(of):
    """½ e² up to 0.7, then 0.7 (|e| − 0.35); both occur."""
    e = jnp.abs(of("target", "value") - VALUES)
    return jnp.where(e <= 0.7, 0.5 * e**2, 0.7 * (e - 0.35)).mean()


def phase_of(names, frozen=True, streams=STREAMS):
    return tljax.Phase(
        network=NETWORK,
        streams=streams,
        terms={name: written(name, *CASES[name][:2]) for name in names},
        tables=TABLES,
        freeze_statistics=frozen,
    )


@pytest.fixture(scope="module")
def start():
    """(phase of all cases, variables, anchor): two models that nobody has trained."""
    phase = phase_of(CASES)
    shapes, models = jax.eval_shape(objective.initialise, phase, BATCH, KNOWN, KEY), []
    for seed in (1, 2):
        draw = np.random.default_rng(seed)
        params = jax.tree.map(lambda x, d=draw: d.normal(0, 0.5, x.shape), shapes["params"])
        statistics = jax.tree.map(
            lambda x, d=draw: d.uniform(0.2, 1, x.shape), shapes["batch_stats"]
        )
        both = {"params": params, "batch_stats": statistics}
        models.append(jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), both))
    return phase, *models


def losses(phase, params, batch_stats, anchor):
    """Each term's value, in the order of the cases."""
    return objective.apply(
        phase,
        params,
        batch_stats,
        BATCH,
        KNOWN,
        anchor,
        jnp.float32(PROGRESS),
        jax.random.key(5),
    )[0]


def with_jacobian(function, params):
    """The values of several losses, and each one's gradient: one program for all of them."""

    def twice(p):
        values = function(p)
        return values, values

    gradients, values = jax.jit(jax.jacrev(twice, has_aux=True))(params)
    return values, gradients


@pytest.fixture(scope="module")
def measured(start):
    phase, now, anchor = start
    return with_jacobian(lambda p: losses(phase, p, now["batch_stats"], anchor), now["params"])


@pytest.fixture(scope="module")
def expected(start):
    _, now, anchor = start

    def references(params):
        of = Of(params, now["batch_stats"], anchor)
        return jnp.stack([reference(of) for _, _, reference in CASES.values()])

    return with_jacobian(references, now["params"])


def of_case(jacobian, name):
    values, gradients = jacobian
    place = list(CASES).index(name)
    flat = trees.flatten(jax.tree.map(lambda leaf: np.asarray(leaf[place]), gradients))
    return float(values[place]), flat


def test_every_term_has_a_case():
    of_text = {"span", "masked_language_model"}  # they read maps: in test_text
    assert {function for function, _, _ in CASES.values()} == set(terms.TERMS) - of_text


def reversal(name):
    """The factor on the gradient of the trunk: −scale · tanh(γ·p/2) of a reversed one."""
    defaults = {"conditional_adversarial": 1.0, "margin_disparity": 0.1, "domain_adversarial": 1.0}
    function, fields, _ = CASES[name]
    if function not in defaults:
        return 1.0
    scale = fields.get("scale", defaults[function])
    return -scale * math.tanh(fields.get("gamma", 10.0) * PROGRESS / 2)


@pytest.mark.parametrize("name", CASES)
def test_a_term_is_its_loss(measured, expected, name):
    """Values, and gradients of every parameter; the trunk's reversed by an adversary."""
    (value, gradient), (wanted, pull) = of_case(measured, name), of_case(expected, name)
    assert value == pytest.approx(wanted, rel=1e-4, abs=1e-6) and abs(value) > 1e-3
    assert list(gradient) == list(pull)
    assert max(np.abs(leaf).max() for leaf in pull.values()) > 1e-3
    for path, leaf in gradient.items():
        factor = reversal(name) if path.startswith("trunk/") else 1.0
        np.testing.assert_allclose(
            leaf, factor * pull[path], rtol=1e-3, atol=1e-5, err_msg=f"{name}: {path}"
        )


def touched(jacobian, name):
    """The rooms and heads whose parameters have a gradient."""
    rooms = set()
    for path, leaf in of_case(jacobian, name)[1].items():
        if np.abs(leaf).max() > 0:
            first, second, *_ = path.split("/")
            rooms.add(second if first == "heads" else first)
    return rooms


@pytest.mark.parametrize(
    ("name", "rooms"),
    [
        ("domain_adversarial", {"trunk", "domain"}),
        ("conditional_adversarial", {"trunk", "conditional"}),  # the label head is only looked at
        ("margin_disparity", {"trunk", "adversary"}),
        ("distillation", {"trunk", "source_label"}),
        ("delta", {"trunk"}),
        ("self_label", {"trunk", "cluster"}),
        ("joint_mmd", {"trunk", "label"}),
        ("compatibility", {"trunk", "embed"}),
        ("l2_penalty", {"embed"}),
        ("nt_xent_headless", {"trunk"}),
    ],
)
def test_a_term_moves_what_it_should(measured, name, rooms):
    assert touched(measured, name) == rooms


ANCHORED = ("distillation", "delta", "delta_weighted")


def test_nothing_flows_into_the_anchored_model(start):
    """And it does matter which model that is."""
    _, now, anchor = start
    only = phase_of(ANCHORED)

    def total(anchor):
        return losses(only, now["params"], now["batch_stats"], anchor)

    values, gradients = with_jacobian(total, anchor)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradients))
    assert (np.asarray(values) > 1e-3).all()
    # Where it is the model itself, there is nothing to pay.
    np.testing.assert_allclose(total(now), 0, atol=1e-6)


def test_the_anchored_model_has_running_statistics_while_the_current_one_has_the_batchs(start):
    """Both have the same parameters, yet ½ Σ(z − z⁰)² is that of the two ways to normalise."""
    _, now, _ = start
    only = phase_of(["delta"], frozen=False, streams=STREAMS[:1])
    value = float(losses(only, now["params"], now["batch_stats"], now)[0])
    trunk = jax.tree.map(np.asarray, now["params"]["trunk"])
    before = np.asarray(BATCH["source"]["input"]).reshape(5, 8) @ trunk["dense_0"]["kernel"]
    before = before + trunk["dense_0"]["bias"]
    running = jax.tree.map(np.asarray, now["batch_stats"]["trunk"]["norm_0"]["statistics"])
    looks = []
    for mean, variance in ((before.mean(0), before.var(0)), (running["mean"], running["var"])):
        z = (before - mean) / np.sqrt(variance + 1e-5)
        looks.append(np.maximum(z * trunk["norm_0"]["scale"] + trunk["norm_0"]["bias"], 0))
    expected = 0.5 * ((looks[0] - looks[1]) ** 2).sum(-1).mean()
    assert expected > 0.1
    assert value == pytest.approx(expected, rel=1e-4)


def products(names, start):
    """The number of matrix products in the program of some terms."""
    _, now, anchor = start
    program = jax.make_jaxpr(functools.partial(losses, phase_of(names)))
    return str(program(now["params"], now["batch_stats"], anchor)).count("dot_general")


def test_the_anchored_model_is_passed_once_a_step(start):
    """Two models with a trunk and a head of one product each, whatever the number of readers."""
    assert products(["reconstruction"], start) == 2
    assert products(["distillation"], start) == 4
    assert products(["distillation", "delta"], start) == 4


def test_only_the_seen_classes_compete(start):
    """Another embedding of an unseen class changes nothing; of a seen one, it does."""
    _, now, anchor = start
    phase = phase_of(["compatibility"])

    @jax.jit
    def value(table):
        tables = {**TABLES, "attributes": table}
        return losses(phase.changed(tables=tables), now["params"], now["batch_stats"], anchor).sum()

    slopes = np.abs(jax.grad(value)(TABLES["attributes"])).max(-1)
    assert (slopes[[1, 4]] == 0).all() and (slopes[list(SEEN)] > 1e-3).all()
    assert value(TABLES["attributes"].at[1].set(9.0)) == value(TABLES["attributes"])


# Mistakes: `fields` of a term -> the line that names it.

MISTAKES = [
    (
        ("attributes", dict(head="label")),
        r"head 'label' has 5 outputs; expected 4, one for each attribute of table 'attributes' "
        r"\(network\.heads\.label\.outputs\)",
    ),
    (
        ("attributes", dict(table="few")),
        r"table 'few' has 3 rows; expected one for label 3 of stream 'source' "
        r"\(tables\.few\.like='source'\)",
    ),
    (("compatibility", dict(table="few", stream="target")), r"table 'few' .* label 4 of stream "),
    (("compatibility", dict(head="cluster")), r"head 'cluster' has 3 outputs; expected 4, "),
    (("compatibility", dict(loss="sjee")), r"loss: unknown name 'sjee'.*mean 'sje'\?"),
    (("compatibility", dict(loss="softmx")), r"loss: unknown name 'softmx'.*mean 'softmax'\?"),
    (
        ("compatibility", dict(stream="unlabelled")),
        r"reads the labels of stream 'unlabelled', which is declared unlabelled "
        r"\(streams\.unlabelled\.labelled=False\)",
    ),
    (("cross_entropy", dict(stream="unlabelled")), r"reads the labels of stream 'unlabelled'"),
    (("attributes", dict(stream="view")), r"reads the labels of stream 'view'"),
    (("co_tuning", dict(stream="unlabelled")), r"reads the labels of stream 'unlabelled'"),
    (("co_tuning", dict(head="label")), r"table 'relationship' relates to 6 source classes; .* 5 "),
    (("co_tuning", dict(table="relation")), r"table: .*'relation'.*mean 'relationship'\?"),
    (("attributes", dict(table="atributes")), r"table: .*'atributes'.*mean 'attributes'\?"),
    (("delta", dict(table="importence")), r"table: .*'importence'.*mean 'importance'\?"),
    (("delta", dict(channels=4)), r"channels: got 4; expected a divisor of 6"),
    (
        ("delta", dict(channels=2, table="importance")),
        r"feature_map_distance: channel_weights: got float32 \[3\]; expected float \[c=2 of maps",
    ),
    (("delta", dict(stream="targt")), r"stream: unknown name 'targt'.*mean 'target'\?"),
    (("distillation", dict(stream="sorce")), r"stream: .*'sorce'.*mean 'source'\?"),
    (("distillation", dict(head="lable")), r"network\.heads: .*'lable'.*mean 'label'\?"),
    (("coral", dict(source="sources")), r"stream: .*'sources'.*mean 'source'\?"),
    (
        ("reconstruction", dict(head="projection")),
        r"head 'projection' has 3 outputs; expected 8, one for each number of an input "
        r"\(2, 2, 2\) \(network\.heads\.projection\.outputs\)",
    ),
    (("reconstruction", dict(clean="sorce")), r"stream: .*'sorce'.*mean 'source'\?"),
    (
        ("nt_xent", dict(second="odd")),
        r"second: stream 'odd' has a batch of 3, 'source' of 5; expected two views of one batch "
        r"\(streams\.odd\.of='source'\)",
    ),
    (("scan", dict(neighbour="odd")), r"second: stream 'odd' has a batch of 3, 'target' of 4"),
    (("self_label", dict(augmented="view")), r"second: stream 'view' has a batch of 5, 'target'"),
    (("spectral_shrinkage", dict(k=5)), r"batch_spectral_shrinkage: k: got 5; expected 1…4"),
    (("mk_mmd", dict(estimator="linear")), r"batches of source and target: got \[5, 4\]"),
    (("mk_mmd", dict(estimator="cubic")), r"estimator: unknown name 'cubic'; expected"),
]


def shapes(*wired):
    """What the first parameters of terms look like; nothing is compiled."""
    mine = {f"mine_{i}": written(f"mine_{i}", *term) for i, term in enumerate(wired)}
    phase = phase_of(()).changed(terms=mine)
    return phase, jax.eval_shape(objective.initialise, phase, BATCH, KNOWN, KEY)


@pytest.mark.parametrize(("wired", "says"), MISTAKES, ids=itertools.count())
def test_a_mistake_is_one_line_that_names_the_term(wired, says):
    with pytest.raises(UserError, match=rf"^(terms\.)?mine_0(: |\.){says}") as caught:
        shapes(wired)
    assert "\n" not in str(caught.value)


def test_two_terms_that_feed_one_head_with_different_widths_are_refused():
    wired = ("domain_adversarial", {}), ("conditional_adversarial", dict(target="unlabelled"))
    with pytest.raises(UserError, match=r"^terms\.mine_1: .*heads/domain/output"):
        shapes(*wired)


@pytest.mark.parametrize("function", ["l2_sp", "l2_penalty"])
def test_a_pattern_that_matches_no_parameter_is_refused_with_the_paths(function):
    wired = (function, dict(only=("trunks/**", "head/**"))), ("cross_entropy", {})
    phase, variables = shapes(*wired)
    with pytest.raises(UserError, match=r"^terms\.mine_0: only: .*trunks.*: .*trunk/dense_0/bias"):
        jax.eval_shape(
            functools.partial(losses, phase),
            variables["params"],
            variables["batch_stats"],
            variables,
        )


def test_a_head_that_the_anchored_model_lacks_is_refused():
    """Nothing is to be learnt from a head that has no start."""
    phase, variables = shapes(("distillation", {}))
    bare = {**variables, "params": {"trunk": variables["params"]["trunk"], "heads": {"lable": {}}}}
    with pytest.raises(UserError, match=r"^terms\.mine_0: anchored head: unknown name 'label'"):
        jax.eval_shape(
            functools.partial(losses, phase), variables["params"], variables["batch_stats"], bare
        )


def test_streams_of_unlike_images_are_refused_unless_they_have_a_stem():
    """Three channels beside two."""
    batch = {name: BATCH[name] for name in ("source", "target")}
    batch["target"] = {**batch["target"], "input": jnp.zeros((4, 2, 2, 3))}
    network = tljax.Network(
        trunk=MLP(features=(6,)), heads=HEADS, stems={"wide": Adapter(features=2)}
    )
    for stem in ("", "wide"):
        phase = tljax.Phase(
            network=network,
            streams=(STREAMS[0], tljax.Stream("target", 4, stem=stem)),
            terms={"coral": tljax.term("coral")},
        )
        make = functools.partial(jax.eval_shape, objective.initialise, phase, batch, KNOWN, KEY)
        if stem:
            assert make()["params"]["stems"]["wide"]
        else:
            with pytest.raises(UserError, match=r"streams\.target: inputs \(2, 2, 3\) do not fit"):
                make()


def test_terms_of_a_config_are_found_by_name_or_import():
    scan = terms.TERMS["scan"]
    assert tljax.term("scan").function is scan
    assert tljax.term("tljax.terms.unsupervised:scan").function is scan
    assert find("scan", terms.TERMS, "f") is scan
    with pytest.raises(UserError, match=r"^f\.term: unknown name 'l2sp'.*mean 'l2_sp'\?"):
        tljax.term("l2sp", field="f")

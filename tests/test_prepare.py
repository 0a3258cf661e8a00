"""What is fitted before a phase, against the solvers called on features worked out here."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tljax
from tljax import experiment, trees
from tljax.errors import UserError
from tljax.experiment.build import place_errors
from tljax.losses import conservative
from tljax.phase import objective, prepare
from tljax.solvers import cluster, readout, zero_shot

N, CLASSES, WIDTH = 60, 10, 6
SEEN = (0, 1, 2, 3, 4, 5)


def whitened(context, *, stream: str = "target", head: str = "label", scale: float = 2.0):
    """A user's own preparation: a head of two layers, a table and rows."""
    z = context.outputs(stream).features
    hidden = dict(kernel=np.eye(WIDTH), bias=np.zeros(WIDTH))
    output = dict(kernel=np.full((WIDTH, CLASSES), scale), bias=z.mean(0) @ np.ones((WIDTH, 10)))
    rows = {"norm": np.linalg.norm(z, axis=1)}
    head = {head: {"dense_0": hidden, "output": output}}
    return prepare.Prepared(head, {"mean": z.mean(0)}, {stream: rows})


def shapeless(context, *, head: str = "label"):
    """One that gives what no head has."""
    return prepare.Prepared({head: {"kernel": np.zeros((WIDTH, CLASSES))}})


def looking(context):
    """One that tells what it sees."""
    seen = {
        "heads": context.params["heads"],
        "tables": context.tables,
        "trunk": trees.flatten(context.params["trunk"]),
    }
    return prepare.Prepared(tables={name: sorted(names) for name, names in seen.items()})


@pytest.fixture(scope="module")
def setting():
    """A context with untrained parameters, and the features of its streams and of other images."""
    config = experiment.blank()
    digits = dict(data="digits", size=4)
    config.streams.source = dict(digits, split="train[:60]", batch=24)
    config.streams.target = dict(digits, split="train[600:660]", batch=24)
    config.streams.seen = dict(digits, split="train[:90]", classes=SEEN, batch=24)
    config.streams.blind = dict(digits, split="train[600:660]", labelled=False, batch=24)
    config.streams.view = dict(of="target", transforms=(dict(name="invert"),))
    config.streams.near = dict(of="target", neighbour=True)
    config.evaluate.target = dict(digits, split="train[1400:1440]")
    config.tables.segments = dict(data="segments")
    config.network.trunk = dict(name="mlp", features=(WIDTH,))
    config.network.heads = dict(
        label=dict(name="linear"),
        ten=dict(name="linear", outputs=10),
        plain=dict(name="linear", bias=False),
        two=dict(name="mlp", hidden=(WIDTH,)),
        embed=dict(name="linear", outputs=7, bias=False),
        narrow=dict(name="linear", outputs=6, bias=False),
        points=dict(name="prototypes", outputs=4),
        crowd=dict(name="prototypes", outputs=61),
        bank=dict(name="neighbours", k=5),
        wide=dict(name="neighbours", k=61),
        few=dict(name="neighbours", k=5, outputs=3),
    )
    config.steps = 0
    config.prepare = dict(ridge=dict())
    built = experiment.build(experiment.check(config))
    phase, data = built.phases["train"], built.tables
    params = jax.device_get(tljax.start(phase, built.data, built.key("train")).params)
    context = prepare.Context(phase, params, {}, data, phase.tables, 0)

    def features(table, inverted=False):
        dense = params["trunk"]["dense_0"]
        x = table.input.reshape(len(table), -1) / np.float32(255)
        return np.maximum((1 - x if inverted else x) @ dense["kernel"] + dense["bias"], 0)

    z = {name: features(table, name == "view") for name, table in data.items()}
    labels = {name: table.label for name, table in data.items()}
    return context, z, labels, features(built.splits["target"].table)


def fitted(context, name, **fields):
    return several(context, {name: fields})


def several(context, fields):
    """What a phase called `second` prepares."""
    with place_errors("second"):
        solvers = prepare.parse(fields, "prepare")
        return prepare.run(context._replace(phase=context.phase.changed(prepare=solvers)))


def outputs(context, prepared, head, z):
    """What the network says with a fitted head."""
    params = {"heads": jax.tree.map(jnp.asarray, dict(prepared.heads))}
    return np.asarray(objective.respond(context.phase.network, params, head, jnp.asarray(z)))


class TestHeads:
    @pytest.mark.parametrize("name", ["ridge", "softmax"])
    def test_a_linear_readout(self, setting, name):
        context, z, labels, others = setting
        prepared = fitted(context, name, stream="source", head="label", penalty=0.5)
        assert set(prepared.heads) == {"label"} and not prepared.tables and not prepared.rows
        kernel, bias = getattr(readout, name)(z["source"], labels["source"], CLASSES, 0.5)
        np.testing.assert_allclose(
            outputs(context, prepared, "label", others),
            others @ kernel + bias,
            rtol=1e-3,
            atol=1e-3,
        )
        # The penalty and the stream have a say.
        other = fitted(context, name, stream="source", head="label", penalty=5.0)
        assert np.abs(other.heads["label"]["output"]["kernel"] - kernel).max() > 1e-2
        target = fitted(context, name, stream="target", head="label", penalty=0.5)
        assert np.abs(target.heads["label"]["output"]["kernel"] - kernel).max() > 1e-2

    def test_neighbours_vote(self, setting):
        context, z, labels, others = setting
        prepared = fitted(context, "knn", stream="source", head="bank")
        wanted = readout.knn_logits(
            others, z["source"], labels["source"], CLASSES, k=5, temperature=0.07
        )
        np.testing.assert_allclose(
            outputs(context, prepared, "bank", others), wanted, rtol=1e-4, atol=1e-4
        )

    def test_kmeans(self, setting):
        context, z, _, others = setting
        prepared = fitted(context, "kmeans", stream="blind", head="points", restarts=3)
        centroids = cluster.kmeans(z["blind"], 4, seed=0, restarts=3)
        np.testing.assert_allclose(prepared.heads["points"]["centroids"], centroids, atol=1e-5)
        distances = ((others[:, None] - centroids[None]) ** 2).sum(-1)
        scores = outputs(context, prepared, "points", others)
        np.testing.assert_array_equal(scores.argmax(-1), distances.argmin(-1))
        other = fitted(
            context._replace(seed=1), "kmeans", stream="blind", head="points", restarts=1
        )
        assert np.abs(other.heads["points"]["centroids"] - centroids).max() > 1e-3

    def test_eszsl_reads_the_rows_of_the_classes_that_it_sees(self, setting):
        context, z, labels, others = setting
        fields = dict(stream="seen", head="embed", table="segments", gamma=0.1, lam=0.2)
        prepared = fitted(context, "eszsl", **fields)
        table = context.tables["segments"]
        solution = zero_shot.eszsl(z["seen"], labels["seen"], table[:6], gamma=0.1, lam=0.2)
        scores = outputs(context, prepared, "embed", others) @ table.T
        wanted = others @ np.asarray(solution) @ table.T
        np.testing.assert_allclose(scores, wanted, rtol=1e-3, atol=1e-3)
        # The rows of unseen classes have no say.
        changed = np.concatenate([table[:6], 1 - table[6:]])
        other = fitted(context._replace(tables={"segments": changed}), "eszsl", **fields)
        np.testing.assert_array_equal(
            other.heads["embed"]["output"]["kernel"], prepared.heads["embed"]["output"]["kernel"]
        )

    def test_eszsl_of_classes_that_are_not_the_first_ones(self, setting):
        """Labels 0 to 5 called 4 to 9: the same map, from the table's last rows."""
        context, z, labels, _ = setting
        later = context.data["seen"].with_column("label", labels["seen"] + 4)
        moved = context._replace(data={**context.data, "seen": later})
        prepared = fitted(moved, "eszsl", stream="seen", head="embed", table="segments")
        wanted = zero_shot.eszsl(z["seen"], labels["seen"], context.tables["segments"][4:])
        np.testing.assert_allclose(
            prepared.heads["embed"]["output"]["kernel"], wanted, rtol=1e-3, atol=1e-3
        )

    def test_sae(self, setting):
        context, z, labels, others = setting
        prepared = fitted(context, "sae", stream="seen", head="embed", table="segments", lam=0.3)
        solution = zero_shot.sae(z["seen"], context.tables["segments"][labels["seen"]], 0.3)
        np.testing.assert_allclose(
            outputs(context, prepared, "embed", others), others @ solution.T, rtol=1e-3, atol=1e-4
        )


class TestTablesAndRows:
    def test_neighbours_are_rows_beside_the_stream(self, setting):
        context, z, _, _ = setting
        prepared = fitted(context, "neighbours", stream="target", k=3)
        rows = prepared.rows["target"]["neighbours"]
        np.testing.assert_array_equal(rows, readout.neighbours(z["target"], 3))
        assert rows.shape == (N, 3) and rows.dtype == np.int32
        assert (rows != np.arange(N)[:, None]).all()

    def test_neighbours_as_another_stream_shows_the_examples(self, setting):
        """The features are the view's, the rows those of the stream whose examples they are."""
        context, z, _, _ = setting
        prepared = fitted(context, "neighbours", stream="view", k=3)
        np.testing.assert_array_equal(
            prepared.rows["target"]["neighbours"], readout.neighbours(z["view"], 3)
        )

    def test_the_relationship_of_classes(self, setting):
        """The head that is read was fitted by the preparation before."""
        context, z, labels, _ = setting
        prepared = several(
            context,
            dict(
                ridge=dict(stream="source", head="label"),
                related=dict(solver="class_relationship", stream="target", head="label", table="r"),
            ),
        )
        kernel, bias = readout.ridge(z["source"], labels["source"], CLASSES)
        shares = jax.nn.softmax(z["target"] @ kernel + bias)
        wanted = readout.class_relationship(np.asarray(shares), labels["target"], CLASSES)
        np.testing.assert_allclose(prepared.tables["r"], wanted, rtol=1e-3)
        np.testing.assert_allclose(prepared.tables["r"].sum(1), 1, rtol=1e-5)

    def test_the_importance_of_channels_by_hand(self, setting):
        """Two channels to a place, three places: features 0, 2, 4 are the first channel."""
        context, z, labels, _ = setting
        kernel = np.random.default_rng(0).normal(size=(WIDTH, CLASSES)).astype(np.float32)
        kernel[1::2] *= 5  # the second channel says much
        head = {"output": {"kernel": jnp.asarray(kernel), "bias": jnp.zeros(CLASSES)}}
        context = context._replace(params={**context.params, "heads": {"label": head}})
        fields = dict(stream="source", head="label", table="importance")

        def loss(features):
            cross = optax.losses.softmax_cross_entropy_with_integer_labels
            return float(cross(jnp.asarray(features @ kernel), labels["source"]).mean())

        for channels in (2, 3, 6, 1):
            prepared = fitted(context, "channel_importance", channels=channels, **fields)
            rises = []
            for c in range(channels):
                without = z["source"].copy()
                without[:, c::channels] = 0
                rises.append(loss(without) - loss(z["source"]))
            wanted = conservative.channel_importance(jnp.asarray(rises, jnp.float32))
            np.testing.assert_allclose(prepared.tables["importance"], wanted, rtol=1e-2)
            assert prepared.tables["importance"].sum() == pytest.approx(1)


class TestOwn:
    OWN = f"{__name__}:whitened"

    def test_of_a_user(self, setting):
        context, z, _, others = setting
        prepared = fitted(context, "mine", solver=self.OWN, head="two", scale=3.0)
        np.testing.assert_allclose(prepared.tables["mean"], z["target"].mean(0), rtol=1e-5)
        np.testing.assert_allclose(
            prepared.rows["target"]["norm"], np.linalg.norm(z["target"], axis=1), rtol=1e-5
        )
        wanted = 3 * others.sum(-1, keepdims=True) + z["target"].mean(0).sum()
        np.testing.assert_allclose(
            outputs(context, prepared, "two", others), np.repeat(wanted, CLASSES, 1), rtol=1e-4
        )

    def test_its_arguments_are_checked(self, setting):
        for fields, needle in [
            (dict(scale="x"), r"second.prepare.mine.scale: got 'x'; expected a finite number"),
            (dict(scal=1.0), r"second.prepare.mine: unknown name 'scal'.*mean 'scale'"),
            (dict(solver=f"{__name__}:whitend"), r"solver: unknown name 'whitend'.*'whitened'"),
            (dict(solver="no_such_module:f"), r"mine.solver: cannot import 'no_such_module'"),
        ]:
            with pytest.raises(UserError, match=needle):
                fitted(setting[0], "mine", **{"solver": self.OWN, "head": "two", **fields})

    def test_parameters_that_no_head_has(self, setting):
        with pytest.raises(
            UserError, match=r"mine: network.heads.label: .*- output/bias.*\+ kernel"
        ):
            fitted(setting[0], "mine", solver=f"{__name__}:shapeless")


def test_each_sees_what_those_before_it_have_fitted(setting):
    context, _, _, _ = setting
    prepared = several(
        context,
        dict(
            a=dict(solver="ridge"),
            b=dict(solver="kmeans", head="points"),
            c=dict(solver=f"{__name__}:whitened", head="two"),
            d=dict(solver=f"{__name__}:looking"),
        ),
    )
    assert set(prepared.heads) == {"label", "points", "two"}
    assert set(prepared.tables["heads"]) == {"label", "points", "two"}
    assert set(prepared.tables["tables"]) == {"segments", "mean"}
    assert set(prepared.tables["trunk"]) == set(trees.flatten(context.params["trunk"]))


@pytest.mark.parametrize(
    ("name", "fields", "needle"),
    [
        ("ridge", dict(stream="sorce"), r"ridge: stream: unknown name 'sorce'.*mean 'source'\?"),
        ("ridge", dict(head="labl"), r"ridge: head: unknown name 'labl'.*mean 'label'\?"),
        ("ridge", dict(stream="blind"), "ridge: stream: got 'blind'; expected a labelled stream"),
        ("knn", dict(stream="blind", head="bank"), "knn: stream: got 'blind'; expected a labelled"),
        ("neighbours", dict(stream="near"), "neighbours: stream: got 'near'; expected a stream wi"),
        ("ridge", dict(penalty=-1.0), r"ridge.penalty: got -1.0; expected a finite number above 0"),
        ("ridge", dict(penalty="x"), r"ridge.penalty: got 'x'; expected a finite number"),
        ("ridge", dict(penlty=1.0), r"ridge: unknown name 'penlty'.*mean 'penalty'\?"),
        ("rigde", dict(), r"rigde.solver: unknown name 'rigde'.*mean 'ridge'\?"),
        ("kmeans", dict(head="points", restarts=0), "kmeans.restarts: got 0"),
        ("kmeans", dict(head="crowd"), "kmeans: clusters: got 61; expected .*1…60"),
        ("kmeans", dict(head="label"), r"Linear does not hold .*- output/bias; .*\+ centroids"),
        ("ridge", dict(head="two"), r"heads.two: a head of kind MLPHead .*- dense_0/bias; "),
        ("ridge", dict(head="plain"), r"heads.plain: .* Linear does not hold .*\+ output/bias"),
        ("ridge", dict(head="crowd"), r"Prototypes does not hold .*- centroids; \+ output/bias"),
        ("ridge", dict(head="bank"), r"heads.bank: .* Neighbours .*- bank; .*\+ output/kernel"),
        ("knn", dict(head="label"), r"knn: network.heads.label: .* Linear .*- output/kernel; \+ b"),
        (
            "knn",
            dict(head="wide"),
            r"network.heads.wide.k: got 61; expected at most the 60 example",
        ),
        ("knn", dict(head="few"), r"knn: labels: got "),
        ("neighbours", dict(k=60), r"neighbours: k: got 60; expected an integer in 1…59"),
        ("neighbours", dict(k="3"), r"neighbours.k: got '3'; expected an integer"),
        ("eszsl", dict(table="segmnts"), r"eszsl: table: unknown name 'segmnts'.*mean 'segments'"),
        (
            "eszsl",
            dict(table="segments", head="narrow"),
            r"! output/kernel \(6, 6\) against \(6, 7",
        ),
        ("eszsl", dict(table="segments", head="ten"), r"- output/bias; ! output/kernel"),
        ("eszsl", dict(table="segments", head="label"), r"- output/bias$"),  # as wide as fitted
        ("eszsl", dict(table="segments", gamma=0.0), r"eszsl.gamma: got 0.0; .* above 0"),
        (
            "eszsl",
            dict(table="short"),
            r"table: got 'short'; .* each of the 10 classes of 'source'",
        ),
        ("sae", dict(table="short"), r"table: got 'short'; .* \(tables.short.like\); it has 4"),
        ("channel_importance", dict(channels=4), r"channels: got 4; expected a divisor of the 6"),
        (
            "channel_importance",
            dict(channels=0),
            r"channels: got 0; .* of at least 1",
        ),
        ("channel_importance", dict(head="missing"), r"head: unknown name 'missing'"),
        ("class_relationship", dict(head="label", stream="blind"), "expected a labelled stream"),
    ],
)
def test_a_mistake_is_told(setting, name, fields, needle):
    context = setting[0]
    blank = {"output": {"kernel": jnp.zeros((WIDTH, CLASSES)), "bias": jnp.zeros(CLASSES)}}
    context = context._replace(
        params={**context.params, "heads": {"label": blank}},
        tables={**context.tables, "short": context.tables["segments"][:4]},
    )
    with pytest.raises(UserError, match=f"^second.prepare.*{needle}"):
        fitted(context, name, **fields)


def test_the_file_tells_every_preparation():
    """A new one is to be tested as these are."""
    tested = {"ridge", "softmax", "knn", "kmeans", "eszsl", "sae"}
    tested |= {"neighbours", "class_relationship", "channel_importance", "fisher"}
    assert set(prepare.PREPARATIONS) == tested


def test_the_fisher_information_by_hand(setting):
    """Of a head of zeros p is 1/10 for each class: whichever is drawn, (∂ log p/∂b)² is .9² of it
    and .1² of the others, which sum to .9 over all; times z² of the kernel. The trunk is not
    reached through zeros."""
    context, features, _, _ = setting
    zeros = {"kernel": jnp.zeros((WIDTH, CLASSES)), "bias": jnp.zeros(CLASSES)}
    heads = {"ten": {"output": zeros}}
    context = context._replace(params={**context.params, "heads": heads})
    found = prepare.fisher(context, stream="source", head="ten").tables["fisher"]
    layer = found["heads"]["ten"]["output"]
    assert layer["bias"].sum() == pytest.approx(0.9**2 + 9 * 0.1**2, rel=1e-5)
    expected = np.mean(features["source"] ** 2, axis=0) * 0.9
    np.testing.assert_allclose(layer["kernel"].sum(1), expected, rtol=1e-4)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(found["trunk"]))
    drawn = prepare.fisher(context._replace(seed=1), stream="source", head="ten").tables["fisher"]
    assert not np.allclose(drawn["heads"]["ten"]["output"]["bias"], layer["bias"])


def test_the_fisher_information_of_what_is_not_there(setting):
    context = setting[0]
    for fields in (dict(stream="no"), dict(stream="near"), dict(stream="source", head="no")):
        with pytest.raises(UserError):
            prepare.fisher(context, **fields)

"""What a phase may fit before its first step, without training: a solver over features.

A preparation reads the features that the phase's starting parameters give a stream, calls one
solver, and returns parameters of a head, a table that terms read, or rows beside a stream's data.
A phase may be nothing but that: closed forms, k-means, a probe. A resumed run makes it again.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tljax import checks, trees
from tljax.bind import Bound, bind, find
from tljax.checks import Count, Positive
from tljax.data.streams import NEIGHBOURS
from tljax.data.table import Table
from tljax.errors import UserError, calling, unknown, wrong
from tljax.losses.conservative import channel_importance as importance
from tljax.models.heads import Neighbours
from tljax.models.network import head_shapes, outputs_of
from tljax.phase import objective
from tljax.phase.evaluate import Computed, check_fit, outputs
from tljax.phase.fisher import diagonal
from tljax.phase.phase import Phase, numbers
from tljax.phase.scoring import Outputs, Split
from tljax.solvers import cluster, readout, zero_shot


class Context(NamedTuple):
    """All that a preparation may look at."""

    phase: Phase
    params: Any
    batch_stats: Any
    data: Mapping[str, Table]  # of every stream, also of one that shows another's
    tables: Mapping[str, Any]
    seed: int
    computed: Computed | None = None  # puts features that are kept in the place of inputs

    def outputs(self, stream: str, head: str = "") -> Outputs:
        """Outputs, features and labels of a whole stream, each example in one look."""
        split = self.split(stream, head)
        variables = self.phase.network, self.params, self.batch_stats
        return outputs(*variables, self.computed(split, *variables) if self.computed else split)

    def split(self, stream: str, head: str = "") -> Split:
        """A whole stream, and a head that is there; "": none."""
        if stream not in self.data:
            raise unknown("stream", stream, self.data)
        if self.phase.streams[stream].neighbour:
            raise wrong("stream", stream, "a stream with data of its own, not of neighbours")
        if head and head not in self.params.get("heads", {}):
            raise unknown("head", head, self.params.get("heads", {}))
        spec = self.phase.streams[stream]
        statistics = spec.base if self.phase.separate else None
        return Split(stream, self.data[stream], numbers(spec), head, statistics, held_out=False)

    def width(self) -> int:
        """The number of features."""
        split = self.split(next(n for n, s in self.phase.streams.items() if not s.neighbour))
        variables = {"params": self.params, "batch_stats": self.batch_stats}
        return check_fit(self.phase.network, variables, split)[-1]

    def labelled(self, stream: str, head: str = "") -> tuple[Outputs, np.ndarray]:
        """As `outputs`, with the labels, which must be there."""
        outputs = self.outputs(stream, head)
        if outputs.labels is None:
            raise wrong("stream", stream, "a labelled stream")
        return outputs, outputs.labels

    def classes(self, head: str, stream: str = "") -> Any:
        """The number of outputs of a head; of one that gives none, the classes of a stream."""
        heads = dict(self.phase.network.heads.modules)
        if head not in heads:
            raise unknown("head", head, heads)
        known = len(self.data[stream].classes) if stream in self.data else None
        stored = outputs_of(self.params.get("heads", {}).get(head))
        labels = stream in self.data and self.data[stream].label is not None
        return heads[head].outputs or (known if labels else stored or known)  # not another task's

    def table(self, name: str, stream: str) -> np.ndarray:
        """A class × attribute table, of a row for each class of a stream."""
        if name not in self.tables:
            raise unknown("table", name, self.tables)
        table, classes = np.asarray(self.tables[name]), len(self.data[stream].classes)
        if len(table) != classes:
            expected = f"a row for each of the {classes} classes of {stream!r} (tables.{name}.like)"
            raise wrong("table", name, f"{expected}; it has {len(table)}")
        return table


class Prepared(NamedTuple):
    """What a preparation gives."""

    heads: Mapping[str, Any] = {}  # name -> its parameters
    tables: Mapping[str, Any] = {}  # arrays, or trees of them
    rows: Mapping[str, Mapping[str, np.ndarray]] = {}  # stream -> name -> [n, ...]


def _linear(kernel: np.ndarray, bias: np.ndarray | None = None) -> dict[str, Any]:
    """The parameters of a head of kind "linear"."""
    return {"output": {"kernel": kernel} | ({} if bias is None else {"bias": bias})}


def kmeans(
    context: Context, *, stream: str = "target", head: str = "cluster", restarts: Count = 10
) -> Prepared:
    """k-means of the features, into a head of kind "prototypes" (scikit-learn's, best of n)."""
    features = context.outputs(stream).features
    centroids = cluster.kmeans(features, context.classes(head, stream), context.seed, restarts)
    return Prepared({head: {"centroids": centroids}})


def ridge(
    context: Context, *, stream: str = "target", head: str = "label", penalty: Positive = 1.0
) -> Prepared:
    """A ridge regression to the labels, one-hot, into a head of kind "linear"."""
    return _readout(readout.ridge, context, stream, head, penalty)


def softmax(
    context: Context, *, stream: str = "target", head: str = "label", penalty: Positive = 1.0
) -> Prepared:
    """A logistic regression on the features, into a head of kind "linear"."""
    return _readout(readout.softmax, context, stream, head, penalty)


def _readout(
    solver: Callable, context: Context, stream: str, head: str, penalty: float
) -> Prepared:
    outputs, labels = context.labelled(stream)
    solution = solver(outputs.features, labels, context.classes(head, stream), penalty)
    return Prepared({head: _linear(*solution)})


def knn(context: Context, *, stream: str = "target", head: str = "label") -> Prepared:
    """The features and labels of a stream as the bank of a head of kind "neighbours"."""
    outputs, labels = context.labelled(stream)
    checks.within("labels", labels, context.classes(head, stream))
    k = getattr(dict(context.phase.network.heads.modules)[head], "k", 0)  # 0 of another kind
    if k > len(labels):
        raise wrong(f"network.heads.{head}.k", k, f"at most the {len(labels)} examples of {stream}")
    return Prepared({head: {"bank": outputs.features, "labels": labels.astype(np.float32)}})


def eszsl(
    context: Context,
    *,
    stream: str = "source",
    head: str = "embed",
    table: str = "attributes",
    gamma: Positive = 1.0,
    lam: Positive = 1.0,
) -> Prepared:
    """ESZSL's closed form, into a head of kind "linear" without bias; read by `compatibility`."""
    outputs, labels = context.labelled(stream)
    seen, places = np.unique(labels, return_inverse=True)
    attributes = context.table(table, stream)[seen]
    solution = zero_shot.eszsl(outputs.features, places, attributes, gamma, lam)
    return Prepared({head: _linear(np.asarray(solution))})


def sae(
    context: Context,
    *,
    stream: str = "source",
    head: str = "embed",
    table: str = "attributes",
    lam: Positive = 1.0,
) -> Prepared:
    """The semantic autoencoder, into a head of kind "linear" without bias; read by `cosine`."""
    outputs, labels = context.labelled(stream)
    solution = zero_shot.sae(outputs.features, context.table(table, stream)[labels], lam)
    return Prepared({head: _linear(np.asarray(solution).T)})


def neighbours(context: Context, *, stream: str = "target", k: Count = 10) -> Prepared:
    """The k nearest neighbours of every example, without itself, for streams with `neighbour`."""
    nearest = readout.neighbours(context.outputs(stream).features, k)
    base = context.phase.streams[stream].base
    return Prepared(rows={base: {NEIGHBOURS: np.asarray(nearest, np.int32)}})


def class_relationship(
    context: Context,
    *,
    stream: str = "target",
    head: str = "source_label",
    table: str = "relationship",
) -> Prepared:
    """p(source class | target class), for co-tuning (You et al. 2020)."""
    outputs, labels = context.labelled(stream, head)
    shares = np.asarray(jax.nn.softmax(jnp.asarray(outputs.logits)))
    classes = len(context.data[stream].classes)
    relationship = readout.class_relationship(shares, labels, classes)
    return Prepared(tables={table: np.asarray(relationship, np.float32)})


def channel_importance(
    context: Context,
    *,
    stream: str = "source",
    head: str = "label",
    channels: Count = 1,
    table: str = "importance",
) -> Prepared:
    """DELTA's weights: how much the loss on a stream rises when a channel is zeroed."""
    outputs, labels = context.labelled(stream, head)
    width = outputs.features.shape[-1]
    if width % channels:
        raise wrong("channels", channels, f"a divisor of the {width} features")
    checks.within("labels", labels, outputs.logits.shape[-1])
    shaped = outputs.features.reshape(len(labels), -1, channels)

    def loss(features: np.ndarray) -> float:
        flat = jnp.asarray(features.reshape(len(labels), -1))
        logits = objective.respond(context.phase.network, context.params, head, flat)
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
        return float(losses.mean())

    without = [loss(np.where(np.arange(channels) == c, 0.0, shaped)) for c in range(channels)]
    increases = jnp.asarray(without, jnp.float32) - loss(shaped)
    return Prepared(tables={table: np.asarray(importance(increases), np.float32)})


def fisher(
    context: Context, *, stream: str = "source", head: str = "label", table: str = "fisher"
) -> Prepared:
    """EWC's weights: the diagonal of the Fisher information of the parameters, on a stream."""
    split, net = context.split(stream, head), context.phase.network
    params = net.effective(context.params)
    return Prepared(tables={table: diagonal(net, params, context.batch_stats, split, context.seed)})


FILLERS = (kmeans, ridge, softmax, knn, eszsl, sae, neighbours)
READERS = (class_relationship, channel_importance, fisher)
"""Those that read the head that they name; the others fill it."""
APART = (class_relationship,)
"""Those whose head has other classes than their stream."""
PREPARATIONS: dict[str, Callable[..., Prepared]] = {
    function.__name__: function for function in (*FILLERS, *READERS)
}


def parse(preparations: Mapping[str, Any], field: str) -> dict[str, Bound]:
    """Reads `dict(NAME=dict(solver="kmeans", stream="target", ...))`.

    `solver` names a preparation, or `package.module:function`; left out, the entry's name does.
    """
    parsed = {}
    for name, config in preparations.items():
        here = f"{field}.{name}"
        if not isinstance(config, Mapping):
            raise wrong(here, config, "dict(solver=..., ...)")
        fields = {"solver": name, **config}
        function = find(fields.pop("solver"), PREPARATIONS, f"{here}.solver", ("context",))
        parsed[name] = bind(function, fields, here)
    return parsed


def run(context: Context) -> Prepared:
    """All preparations of a phase, in order; each sees the heads and tables of those before."""
    fitted = Prepared({}, {}, {})
    for name, preparation in context.phase.prepare.items():
        with calling(f"prepare.{name}"):
            fields = {key: float(value) for key, value in preparation.numbers.items()}
            new = preparation.function(context, **dict(preparation.static), **fields)
            if not isinstance(new, Prepared):
                raise wrong("its result", new, "tljax.phase.prepare.Prepared(heads, tables, rows)")
            for head, values in new.heads.items():
                _check_head(context, head, values)
        heads = {**context.params.get("heads", {}), **new.heads}
        tables = {**context.tables, **new.tables}
        context = context._replace(params={**context.params, "heads": heads}, tables=tables)
        fitted = Prepared(*({**old, **more} for old, more in zip(fitted, new, strict=True)))
    return fitted


def _check_head(context: Context, head: str, values: Any) -> None:
    """Refuses parameters that are not those of the head's kind."""
    heads = dict(context.phase.network.heads.modules)
    if head not in heads:
        raise unknown("head", head, heads)
    width, held = context.width(), trees.flatten(jax.tree.map(np.asarray, values))
    if isinstance(heads[head], Neighbours):  # of as many examples as there are
        labels = held.get("labels", np.zeros(0))
        wanted: dict[str, Any] = {"bank": np.zeros((len(labels), width)), "labels": labels}
    else:
        size = outputs_of(values) or context.classes(head) or 1  # without one: any will do
        wanted = trees.flatten(head_shapes(context.phase.network, head, width, size))
    lines = trees.differences(wanted, held)
    if lines:
        raise UserError(
            f"network.heads.{head}: a head of kind {type(heads[head]).__name__} does not hold what "
            f"was fitted (- missing, + without a place, ! shape against fitted): {'; '.join(lines)}"
        )

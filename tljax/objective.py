"""One objective for every method: features once, then every term, then their weighted losses."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import FlaxError, ScopeParamShapeError
from jax import Array

from tljax.data.streams import Examples, Stream, identity
from tljax.errors import UserError, unknown
from tljax.losses.adversarial import ramp

Incomplete = FlaxError
"""Raised by `predict` where the variables lack what the network asks for."""


class View(NamedTuple):
    """All that a term may look at."""

    net: Any  # the bound network: `net.head(name, z)`, `net.scalar(name, value)`
    batch: Mapping[str, Mapping[str, Array]]  # stream -> {"image" [batch, ...], "label" [batch]}
    features: Mapping[str, Array]  # stream -> [batch, features], computed once a step
    params: Any  # the current parameters
    anchor: Any  # the parameters that the phase started from
    progress: Array  # the part of the phase that is done, 0 to 1
    key: Array  # this step's randomness, different for every term
    tables: Mapping[str, Array]  # name -> [classes, attributes], or what a solver prepared
    classes: Mapping[str, tuple[int, ...]]  # labelled stream -> the labels that it may hold
    anchored: Callable[..., Array]
    """`anchored(stream)`: the features `[batch, features]` that the anchored model has of a stream;
    `anchored(stream, head)`: its head's outputs. Running statistics, no gradient, once a step."""


class Term(NamedTuple):
    """What is static of a term in an objective."""

    name: str
    function: Callable[..., Array]
    static: tuple[tuple[str, Any], ...] = ()
    ramped: bool = False


class Objective(NamedTuple):
    """What is static of an objective; hashable, part of the compiled step's identity."""

    network: Any
    terms: tuple[Term, ...]
    streams: tuple[Stream, ...]
    separate: bool = False  # batch statistics of each stream by itself
    frozen: bool = False  # the running statistics are used, and stay as they are


class _Named(dict):
    """A dictionary whose missing keys are a user's mistake."""

    def __init__(self, values: Mapping[str, Any], explain: Callable[[str, Any], Exception]):
        super().__init__(values)
        self.explain = explain

    def __missing__(self, key: str) -> Any:
        raise self.explain(key, self)


def _absent(kind: str) -> Callable[[str, Any], Exception]:
    return lambda key, known: unknown(kind, key, known)


def _features(net: Any, objective: Objective, batch: Mapping[str, Examples], train: bool) -> dict:
    """The features of every stream. Streams of one kind of input pass the trunk as one batch,
    unless each keeps its own batch statistics."""
    groups: dict[Any, list[Stream]] = {}
    for stream in objective.streams:
        alike = (stream.stem, batch[stream.name]["image"].shape[1:])
        groups.setdefault(stream.name if objective.separate else alike, []).append(stream)
    features = {}
    for streams in groups.values():
        images = jnp.concatenate([batch[stream.name]["image"] for stream in streams])
        own = (streams[0].of or streams[0].name) if objective.separate else None
        try:
            z = net.features(images, stem=streams[0].stem, train=train, stream=own)
        except ScopeParamShapeError:
            raise UserError(
                f"streams.{streams[0].name}: images {images.shape[1:]} do not fit a network that "
                "other streams pass, too; expected images alike, or a stem for them (network.stems)"
            ) from None
        start = 0
        for stream in streams:
            features[stream.name] = z[start : start + stream.batch]
            start += stream.batch
    return features


def _anchored(
    net: Any, objective: Objective, batch: Any, anchor: Any, features: Mapping[str, Array]
) -> Callable[..., Array]:
    """`View.anchored`. While parameters are being initialised there is no anchor yet: the network
    itself stands in, whose outputs have the same shapes."""
    known: dict[Any, Any] = {}

    def run(other: Any) -> dict[str, Array]:
        return _features(other, objective, batch, train=False)

    def outputs(stream: str, head: str | None = None) -> Array:
        if not anchor:
            z = features[stream]
            return jax.lax.stop_gradient(z if head is None else net.head(head, z))
        if None not in known:
            params = net.rounded(anchor["params"])
            known.update({None: nn.apply(run, objective.network)({**anchor, "params": params})})
        z = _Named(known[None], _absent("stream"))[stream]
        if head is not None and (stream, head) not in known:
            if head not in anchor["params"].get("heads", {}):
                raise unknown("anchored head", head, anchor["params"].get("heads", {}))
            of_head = nn.apply(lambda other: other.head(head, z), objective.network)(anchor)
            known[stream, head] = of_head
        return jax.lax.stop_gradient(z if head is None else known[stream, head])

    return outputs


def _evaluate(
    net: Any,
    objective: Objective,
    numbers: Mapping[str, Mapping[str, Any]],
    batch: Mapping[str, Examples],
    params: Any,
    anchor: Any,
    progress: Array,
    key: Array,
    tables: Mapping[str, Array],
) -> tuple[Array, dict[str, Array]]:
    features = _features(net, objective, batch, train=not objective.frozen)
    features = _Named(features, _absent("stream"))
    classes = {stream.name: stream.classes for stream in objective.streams if stream.classes}
    view = View(
        net=net,
        batch=_Named({s: _Named(b, _explain(s)) for s, b in batch.items()}, _absent("stream")),
        features=features,
        params=params,
        anchor=anchor.get("params", {}),
        progress=progress,
        key=key,
        tables=_Named(tables, _absent("table")),
        classes=_Named(classes, lambda key, _: _explain(key)("label", {})),
        anchored=_anchored(net, objective, batch, anchor, features),
    )
    weighted, scalars = [], {}
    for term in objective.terms:
        own = dict(numbers[term.name])
        weight = own.pop("weight")
        if term.ramped:
            weight = weight * ramp(progress, own.pop("ramp"))
        seen = view._replace(key=jax.random.fold_in(key, identity(term.name)))
        try:
            value = term.function(seen, **dict(term.static), **own)
        except (ValueError, ScopeParamShapeError) as error:  # of a loss, of two that share a head
            cause = None if isinstance(error, UserError) else error
            raise UserError(f"terms.{term.name}: {error}") from cause
        if jnp.ndim(value) > 1:
            raise UserError(
                f"terms.{term.name}: returned shape {jnp.shape(value)}; expected () or [batch]"
            )
        scalars[term.name] = jnp.mean(value)
        weighted.append(weight * scalars[term.name])
    return jnp.stack(weighted) if weighted else jnp.zeros(0), scalars


def _explain(stream: str) -> Callable[[str, Any], Exception]:
    def explain(key: str, fields: Any) -> Exception:
        if key == "label":
            return UserError(
                f"reads the labels of stream {stream!r}, which is declared unlabelled "
                f"(streams.{stream}.labelled=False)"
            )
        return unknown(f"batch[{stream!r}]", key, fields)

    return explain


def initialise(
    objective: Objective,
    numbers: Any,
    batch: Any,
    key: Array,
    tables: Mapping[str, Array] | None = None,
    scalars: Sequence[tuple[str, float]] = (),
) -> dict[str, Any]:
    """Fresh variables `{"params": ..., "batch_stats": ...}`, with every head that a term calls.

    Args:
      objective: what to initialise.
      numbers: the terms' numbers, by term name.
      batch: stream -> examples; only shapes matter.
      key: of the initialisation. The same network has the same first parameters whatever the
        terms are, since a module's key depends on its path.
      tables: name -> array that terms may read.
      scalars: learned scalars to create beside those that terms ask for, with their first values.

    Raises:
      UserError: a term that reads a stream, label, head, table or field that is not there.
    """
    progress = jnp.zeros(())

    def run(net: Any) -> Array:
        for name, value in scalars:
            net.scalar(name, value)
        return _evaluate(net, objective, numbers, batch, {}, {}, progress, key, tables or {})[0]

    variables = nn.init(run, objective.network)(key)
    return {"params": variables.get("params", {}), "batch_stats": variables.get("batch_stats", {})}


def apply(
    objective: Objective,
    numbers: Any,
    params: Any,
    batch_stats: Any,
    batch: Mapping[str, Examples],
    anchor: Any,
    progress: Array,
    key: Array,
    tables: Mapping[str, Array] | None = None,
) -> tuple[Array, tuple[dict[str, Array], Any]]:
    """The weighted losses of all terms on a batch; their sum is what a phase minimises.

    Args:
      objective: what to compute.
      numbers: term name -> {"weight", "ramp" if it is ramped, and the term's own numbers}.
      params, batch_stats: the network's variables.
      batch: stream -> examples, transformed.
      anchor: the variables `{"params", "batch_stats"}` that the phase started from.
      progress: 0 to 1.
      key: this step's randomness.
      tables: name -> array that terms may read.

    Returns:
      The weighted losses `[terms]`; each term's unweighted value by name, and the moved batch
      statistics.
    """

    def run(net: Any) -> tuple[Array, dict[str, Array]]:
        return _evaluate(
            net, objective, numbers, batch, params, anchor, progress, key, tables or {}
        )

    rounded = objective.network.rounded(params)
    variables = {"params": rounded, "batch_stats": batch_stats}
    (weighted, scalars), moved = nn.apply(run, objective.network, mutable=["batch_stats"])(
        variables
    )
    return weighted, (scalars, {**batch_stats, **moved.get("batch_stats", {})})


def predict(
    network: Any,
    params: Any,
    batch_stats: Any,
    images: Array,
    *,
    head: str,
    stem: str = "",
    stream: str | None = None,
) -> tuple[Array, Array]:
    """(outputs `[batch, outputs]`, features `[batch, features]`) with the running statistics.

    Without a head (""), the outputs are the features.
    """

    def run(net: Any) -> tuple[Array, Array]:
        z = net.features(images, stem=stem, train=False, stream=stream)
        return net.head(head, z) if head else z, z

    rounded = network.rounded(params)
    return nn.apply(run, network)({"params": rounded, "batch_stats": batch_stats})


def head_shapes(network: Any, head: str, width: int) -> Any:
    """The shapes of the parameters that a head has on features of `width` numbers."""
    init = nn.init(lambda net: net.head(head, jnp.zeros((1, width))), network)
    return jax.eval_shape(init, jax.random.key(0))["params"]["heads"][head]


def respond(network: Any, params: Any, head: str, features: Array) -> Array:
    """The outputs `[batch, outputs]` of a head on features that have been computed."""
    return nn.apply(lambda net: net.head(head, features), network)({"params": params})

"""One objective for every method: features once, then every term, then the weighted sum."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import FlaxError
from jax import Array

from tljax.data.streams import Examples, Stream, identity
from tljax.errors import UserError, unknown
from tljax.losses.adversarial import ramp

Incomplete = FlaxError
"""Raised by `predict` where the variables lack what the network asks for."""


class View(NamedTuple):
    """All that a term may look at."""

    net: Any  # the bound network: `net.head(name, z)`, `net.features(x, ...)`
    batch: Mapping[str, Mapping[str, Array]]  # stream -> {"image" [batch, ...], "label" [batch]}
    features: Mapping[str, Array]  # stream -> [batch, features], computed once a step
    params: Any  # the current parameters
    anchor: Any  # the parameters that the phase started from
    progress: Array  # the part of the phase that is done, 0 to 1
    key: Array  # this step's randomness, different for every term


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


class _Named(dict):
    """A dictionary whose missing keys are a user's mistake."""

    def __init__(self, values: Mapping[str, Any], explain: Callable[[str, Any], Exception]):
        super().__init__(values)
        self.explain = explain

    def __missing__(self, key: str) -> Any:
        raise self.explain(key, self)


def _no_stream(key: str, streams: Any) -> Exception:
    return unknown("stream", key, streams)


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
        own = streams[0].name if objective.separate else None
        z = net.features(images, stem=streams[0].stem, train=train, stream=own)
        start = 0
        for stream in streams:
            features[stream.name] = z[start : start + stream.batch]
            start += stream.batch
    return features


def _evaluate(
    net: Any,
    objective: Objective,
    numbers: Mapping[str, Mapping[str, Any]],
    batch: Mapping[str, Examples],
    params: Any,
    anchor: Any,
    progress: Array,
    key: Array,
) -> tuple[Array, dict[str, Array]]:
    view = View(
        net=net,
        batch=_Named({s: _Named(b, _explain(s)) for s, b in batch.items()}, _no_stream),
        features=_Named(_features(net, objective, batch, train=True), _no_stream),
        params=params,
        anchor=anchor,
        progress=progress,
        key=key,
    )
    total, scalars = jnp.zeros(()), {}
    for term in objective.terms:
        own = dict(numbers[term.name])
        weight = own.pop("weight")
        if term.ramped:
            weight = weight * ramp(progress, own.pop("ramp"))
        seen = view._replace(key=jax.random.fold_in(key, identity(term.name)))
        try:
            value = term.function(seen, **dict(term.static), **own)
        except UserError as error:
            raise UserError(f"terms.{term.name}: {error}") from None
        if jnp.ndim(value) > 1:
            raise UserError(
                f"terms.{term.name}: returned shape {jnp.shape(value)}; expected () or [batch]"
            )
        scalars[term.name] = jnp.mean(value)
        total = total + weight * scalars[term.name]
    return total, scalars


def _explain(stream: str) -> Callable[[str, Any], Exception]:
    def explain(key: str, fields: Any) -> Exception:
        if key == "label":
            return UserError(
                f"reads the labels of stream {stream!r}, which is declared unlabelled "
                f"(streams.{stream}.labelled=False)"
            )
        return unknown(f"batch[{stream!r}]", key, fields)

    return explain


def initialise(objective: Objective, numbers: Any, batch: Any, key: Array) -> dict[str, Any]:
    """Fresh variables `{"params": ..., "batch_stats": ...}`, with every head that a term calls.

    Args:
      objective: what to initialise.
      numbers: the terms' numbers, by term name.
      batch: stream -> examples; only shapes matter.
      key: of the initialisation. The same network has the same first parameters whatever the
        terms are, since a module's key depends on its path.

    Raises:
      UserError: a term that reads a stream, label, head or field that is not there.
    """
    progress = jnp.zeros(())

    def run(net: Any) -> Array:
        return _evaluate(net, objective, numbers, batch, {}, {}, progress, key)[0]

    variables = nn.init(run, objective.network)(key)
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


def apply(
    objective: Objective,
    numbers: Any,
    params: Any,
    batch_stats: Any,
    batch: Mapping[str, Examples],
    anchor: Any,
    progress: Array,
    key: Array,
) -> tuple[Array, tuple[dict[str, Array], Any]]:
    """The weighted sum of all terms on a batch.

    Args:
      objective: what to compute.
      numbers: term name -> {"weight", "ramp" if it is ramped, and the term's own numbers}.
      params, batch_stats: the network's variables.
      batch: stream -> examples, transformed.
      anchor: the parameters that the phase started from.
      progress: 0 to 1.
      key: this step's randomness.

    Returns:
      The total, a scalar; each term's unweighted value by name, and the moved batch statistics.
    """

    def run(net: Any) -> tuple[Array, dict[str, Array]]:
        return _evaluate(net, objective, numbers, batch, params, anchor, progress, key)

    variables = {"params": params, "batch_stats": batch_stats}
    (total, scalars), moved = nn.apply(run, objective.network, mutable=["batch_stats"])(variables)
    return total, (scalars, moved.get("batch_stats", {}))


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
    """(logits `[batch, outputs]`, features `[batch, features]`) with the running statistics."""

    def run(net: Any) -> tuple[Array, Array]:
        z = net.features(images, stem=stem, train=False, stream=stream)
        return net.head(head, z), z

    return nn.apply(run, network)({"params": params, "batch_stats": batch_stats})

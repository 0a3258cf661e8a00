"""One objective for every method: features once, then every term, then their weighted losses."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import FlaxError, ScopeParamShapeError
from jax import Array

from tljax import trees
from tljax.data.streams import Examples, identity
from tljax.data.table import Table
from tljax.errors import Named, Unsized, UserError, absent, calling, unknown
from tljax.losses.adversarial import ramp
from tljax.masked import inputs_of
from tljax.models import adapters
from tljax.models.network import Computed, check_memory
from tljax.models.statistics import staying, stochastic
from tljax.phase import transfer
from tljax.phase.phase import Phase, Stream

KINDS = ("params", "batch_stats")  # of variables

Incomplete = FlaxError
"""Raised by `predict` where the variables lack what the network asks for."""


class View(NamedTuple):
    """All that a term may look at."""

    net: Any  # the bound network: `net.head(name, z, outputs)`, `net.scalar(name, value)`
    batch: Mapping[str, Mapping[str, Array]]  # stream -> {"input" [batch, ...], "label" [batch]}
    features: Mapping[str, Array]  # stream -> [batch, features], computed once a step
    params: Any  # the current parameters, adapters merged
    anchor: Any  # the parameters that the phase started from, adapters merged
    progress: Array  # the part of the phase that is done, 0 to 1
    key: Array  # this step's randomness, different for every term
    tables: Mapping[str, Array]  # name -> [classes, attributes], or what a solver prepared
    classes: Mapping[str, tuple[int, ...]]  # labelled stream -> the labels that it may hold
    names: Mapping[str, tuple[str, ...]]  # stream -> the names of all classes of its data
    anchored: Callable[..., Array]
    """`anchored(stream)`: the features `[batch, features]` that the anchored model has of a stream;
    `anchored(stream, head)`: its head's outputs; `anchored(stream, layer=)`: a map. Running
    statistics, no gradient, once a step."""
    maps: Callable[[str, str], Array]
    """`maps(stream, layer)`: a map that the trunk returned by name, `[batch, ...]`."""


def _features(
    net: Any, phase: Phase, batch: Mapping[str, Examples], train: bool
) -> dict[str, tuple[Array, Mapping[str, Array]]]:
    """The features and the named maps of every stream. Streams of one kind of input pass the trunk
    as one batch, unless each keeps its own batch statistics."""
    groups: dict[Any, list[Stream]] = {}
    for name, stream in phase.streams.items():
        inputs = inputs_of(batch[name])
        alike = (stream.stem, inputs.shape[1:], inputs.dtype, jax.tree.structure(inputs))
        groups.setdefault(name if phase.separate else alike, []).append(stream)
    features = {}
    for streams in groups.values():
        parts = [inputs_of(batch[stream.name]) for stream in streams]
        inputs = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
        of = streams[0].base if phase.separate else None  # whose statistics
        with calling("network"):
            try:
                z = net.features_and_maps(inputs, stem=streams[0].stem, train=train, stream=of)
            except ScopeParamShapeError:
                raise UserError(
                    f"streams.{streams[0].name}: inputs {inputs.shape[1:]} do not fit a network "
                    "that other streams pass, too; expected inputs alike, or a stem (network.stems)"
                ) from None
        start = 0
        for stream in streams:
            stop = start + len(batch[stream.name]["input"])
            rows = slice(start, stop)
            features[stream.name] = jax.tree.map(lambda leaf, rows=rows: leaf[rows], z)
            start = stop
    return features


def _anchored(
    net: Any,
    phase: Phase,
    batch: Any,
    anchor: Any,
    passed: Mapping[str, Any],
    names: Mapping[str, tuple[str, ...]],
) -> Callable[..., Array]:
    """`View.anchored`. While parameters are being initialised there is no anchor yet: the network
    itself stands in, whose outputs have the same shapes."""
    known: dict[Any, Any] = {}

    def run(other: Any) -> dict[str, Any]:
        return _features(other, phase, batch, train=False)

    def outputs(stream: str, head: str | None = None, layer: str | None = None) -> Array:
        if not anchor:
            z, classes = _of(passed, stream, layer), len(names[stream])
            z = z if head is None else net.head(head, z, default=classes)
            return jax.lax.stop_gradient(z)
        if None not in known:
            params = net.rounded(anchor["params"])
            known[None] = nn.apply(run, phase.network)({**anchor, "params": params})
        z = _of(known[None], stream, layer)
        if head is not None and (stream, head) not in known:
            if head not in anchor["params"].get("heads", {}):
                raise unknown("anchored head", head, anchor["params"].get("heads", {}))
            known[stream, head] = nn.apply(lambda other: other.head(head, z), phase.network)(anchor)
        return jax.lax.stop_gradient(z if head is None else known[stream, head])

    return outputs


def _of(passed: Mapping[str, Any], stream: str, layer: str | None) -> Array:
    """The features of a stream, or a map of them by name."""
    z, maps = Named(passed, absent("stream"))[stream]
    return z if layer is None else Named(maps, absent("layer"))[layer]


def _evaluate(
    net: Any,
    phase: Phase,
    batch: Mapping[str, Examples],
    tables: Mapping[str, Table],
    params: Any,
    start: Mapping[str, Any],
    progress: Array,
    key: Array,
) -> tuple[Array, dict[str, Array]]:
    passed = _features(net, phase, batch, train=not phase.freeze_statistics)
    features = Named({name: z for name, (z, _) in passed.items()}, absent("stream"))

    hidden = "input" if isinstance(phase.network.trunk, Computed) else ""  # features are there
    visible = {s: {k: x for k, x in b.items() if k != hidden} for s, b in batch.items()}
    of_streams = {name: tables[stream.base] for name, stream in phase.streams.items()}
    seen, names = ({n: getattr(t, of) for n, t in of_streams.items()} for of in ("seen", "classes"))

    def unseen(stream: str, _: Any) -> Exception:
        known = stream in of_streams
        return _explain(stream)("label", {}) if known else unknown("stream", stream, of_streams)

    anchor = {kind: start[kind] for kind in KINDS} if start.get("params") else {}
    anchor |= {"params": phase.network.effective(anchor["params"])} if anchor else {}
    view = View(
        net=net,
        batch=Named({s: Named(b, _explain(s)) for s, b in visible.items()}, absent("stream")),
        features=features,
        params=params,
        anchor=anchor.get("params", {}),
        progress=progress,
        key=key,
        tables=Named({**phase.tables, **start.get("tables", {})}, absent("table")),
        classes=Named({name: labels for name, labels in seen.items() if labels}, unseen),
        names=Named(names, absent("stream")),
        anchored=_anchored(net, phase, batch, anchor, passed, names),
        maps=functools.partial(_of, passed),
    )
    weighted, scalars, order = [], {}, list(phase.terms)
    for place, name in enumerate(order):
        term = phase.terms[name]
        fields = dict(term.numbers)
        weight = fields.pop("weight")
        if "ramp" in fields:
            weight = weight * ramp(progress, fields.pop("ramp"))
        seen_by = view._replace(key=jax.random.fold_in(key, identity(name)))
        try:
            with calling(f"terms.{name}"):
                value = term.function(seen_by, **dict(term.static), **fields)
                if jnp.ndim(value) > 1:
                    raise UserError(f"returned shape {jnp.shape(value)}; expected () or [batch]")
                scalars[name] = jnp.mean(value)
        except Unsized:
            if name in order[:place]:
                raise
            order.append(name)  # a term that comes later may tell
            continue
        weighted.append(weight * scalars[name])
    return jnp.stack(weighted) if weighted else jnp.zeros(0), scalars


def _explain(stream: str) -> Callable[[str, Any], Exception]:
    def explain(key: str, fields: Any) -> Exception:
        if key == "label" and "mix" in fields:
            return UserError(f"reads labels that streams.{stream}.mix has mixed; cross_entropy can")
        if key == "label":
            return UserError(
                f"reads the labels of stream {stream!r}, which is declared unlabelled "
                f"(streams.{stream}.labelled=False)"
            )
        return unknown(f"batch[{stream!r}]", key, fields)

    return explain


def initialise(
    phase: Phase,
    batch: Mapping[str, Examples],
    tables: Mapping[str, Table],
    key: Array,
    scalars: Sequence[tuple[str, float]] = (),
) -> dict[str, Any]:
    """Fresh variables `{"params": ..., "batch_stats": ...}`, with every head that a term calls.

    Args:
      phase: what to initialise.
      batch: stream -> examples; only shapes matter.
      tables: stream -> where they are from; only the classes matter.
      key: of the initialisation. The same network has the same first parameters whatever the
        terms are, since a module's key depends on its path.
      scalars: learned scalars to create beside those that terms ask for, with their first values.

    Raises:
      UserError: a term that reads a stream, label, head, table or field that is not there.
    """
    progress = jnp.zeros(())

    def run(net: Any) -> Array:
        for name, value in scalars:
            net.scalar(name, value)
        return _evaluate(net, phase, batch, tables, {}, {}, progress, key)[0]

    with adapters.watched() as outputs:
        variables = nn.init(run, phase.network)(key)
    params = variables.get("params", {})
    if phase.network.adapters:
        made = adapters.begin(phase.network.adapters, params, outputs, key)
        params = {**params, "adapters": made}
    check_memory(params)
    return {"params": params, "batch_stats": variables.get("batch_stats", {})}


def apply(
    phase: Phase,
    params: Any,
    batch_stats: Any,
    batch: Mapping[str, Examples],
    tables: Mapping[str, Table],
    start: Mapping[str, Any],
    progress: Array,
    key: Array,
) -> tuple[Array, tuple[dict[str, Array], Any]]:
    """The weighted losses of all terms on a batch; their sum is what a phase minimises.

    Args:
      phase: what to compute.
      params, batch_stats: the network's variables.
      batch: stream -> examples, transformed.
      tables: stream -> where they are from; only the classes matter.
      start: what the phase started from, `{"params", "batch_stats", "tables"}`.
      progress: 0 to 1.
      key: this step's randomness.

    Returns:
      The weighted losses `[terms]`; each term's unweighted value by name, and the moved batch
      statistics.
    """

    def run(net: Any) -> tuple[Array, dict[str, Array]]:
        return _evaluate(net, phase, batch, tables, whole, start, progress, key)

    whole = phase.network.effective(params)
    variables = {"params": phase.network.rounded(whole), "batch_stats": batch_stats}
    still = transfer.still(phase, params, batch_stats)
    with stochastic(phase.stochastic_norm, key), staying(still):
        (weighted, scalars), new = nn.apply(run, phase.network, mutable=["batch_stats"])(variables)
    moved = {**batch_stats, **new.get("batch_stats", {})}
    return weighted, (scalars, trees.over(moved, batch_stats, still))


def predict(
    network: Any,
    params: Any,
    batch_stats: Any,
    inputs: Any,
    *,
    head: str,
    layer: str = "",
    stem: str = "",
    stream: str | None = None,
) -> tuple[Array, Array]:
    """(outputs `[batch, outputs]`, features `[batch, features]`) with the running statistics. The
    head reads the features, or the map `layer`; without a head ("") that is the outputs."""

    def run(net: Any) -> tuple[Array, Array]:
        z, maps = net.features_and_maps(inputs, stem=stem, train=False, stream=stream)
        read = _of({"": (z, maps)}, "", layer or None)
        return net.head(head, read) if head else read, z

    rounded = network.rounded(network.effective(params))
    return nn.apply(run, network)({"params": rounded, "batch_stats": batch_stats})


def respond(network: Any, params: Any, head: str, features: Array) -> Array:
    """The outputs `[batch, outputs]` of a head on features that have been computed."""
    return nn.apply(lambda net: net.head(head, features), network)({"params": params})

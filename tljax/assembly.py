"""From a resolved config to what runs: tables, a network, phases with plans and numbers."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from tljax import objective, terms, transfer, trees
from tljax.data import sources, streams, transforms
from tljax.errors import UserError, number, unknown, wrong
from tljax.evaluate import Split
from tljax.models import Network, build
from tljax.signature import split
from tljax.train import optimizers, step
from tljax.train.loop import Cadence, Phase

STREAM: dict[str, Any] = {
    "data": "",
    "split": "train",
    "labelled": True,
    "per_class": None,
    "seed": None,
    "size": None,
    "channels": None,
    "transforms": (),
    "batch": 64,
    "stem": "",
}
"""The fields of a stream and their defaults. `seed` is of the few-shot draw; None: the run's."""

EVALUATION: dict[str, Any] = {
    **{k: v for k, v in STREAM.items() if k not in ("labelled", "per_class", "seed")},
    "batch": 256,
    "head": "label",
    "statistics": None,
}
"""The fields of an evaluation and their defaults. `statistics` is the stream whose batch statistics
are used where each stream keeps its own; None: the stream of the evaluation's name."""

_TERM = ("term", "weight", "ramp")


class Data(NamedTuple):
    """The tables of an experiment: streams' and evaluations', by name."""

    streams: dict[str, sources.Table]
    splits: dict[str, Split]


def complete(given: Any, defaults: Mapping[str, Any], field: str) -> dict[str, Any]:
    """`given` with the defaults filled in; an unknown field is refused."""
    if not isinstance(given, Mapping):
        raise wrong(field, given, f"dict(...) of the fields {', '.join(sorted(defaults))}")
    for name in given:
        if name not in defaults:
            raise unknown(field, name, defaults)
    return {**defaults, **given}


def open_data(config: Mapping[str, Any]) -> Data:
    """Loads what the streams and evaluations name; small sets are decoded, large ones stay lazy."""
    limit = int(config["resident_megabytes"] * 2**20)

    def table(fields: Mapping[str, Any], field: str) -> sources.Table:
        opened = sources.load(
            fields["data"],
            fields["split"],
            field=f"{field}.data",
            labelled=fields.get("labelled", True),
            per_class=fields.get("per_class"),
            seed=config["seed"] if fields.get("seed") is None else fields["seed"],
            size=fields["size"],
            channels=fields["channels"],
            root=config["data_dir"] or None,
        )
        return sources.materialise(opened, limit)

    tables, splits = {}, {}
    for name, given in config["streams"].items():
        fields = complete(given, STREAM, f"streams.{name}")
        tables[name] = table(fields, f"streams.{name}")
        streams.check_batch(fields["batch"], len(tables[name]), f"streams.{name}.batch")
    for name, given in config["evaluate"].items():
        field = f"evaluate.{name}"
        if name == "train":
            raise wrong("evaluate", name, "another name: the records of training have this one")
        fields = complete(given, EVALUATION, field)
        stream, numbers = _stream(name, fields, field, config["network"])
        statistics = None
        if config["statistics"] == "separate":
            statistics = fields["statistics"] or name
            if statistics not in config["streams"]:
                raise unknown(f"{field}.statistics", statistics, config["streams"])
        if fields["head"] not in config["network"]["heads"]:
            raise unknown(f"{field}.head", fields["head"], config["network"]["heads"])
        opened = table(fields, field)
        if type(fields["batch"]) is not int or fields["batch"] < 1:
            raise wrong(f"{field}.batch", fields["batch"], "an integer of at least 1")
        splits[name] = Split(name, opened, stream, numbers, fields["head"], statistics)
    return Data(tables, splits)


def _stream(
    name: str, fields: Mapping[str, Any], field: str, network: Mapping[str, Any]
) -> tuple[streams.Stream, Any]:
    static, numbers = transforms.parse(fields["transforms"], f"{field}.transforms")
    if fields["stem"] and fields["stem"] not in network["stems"]:
        raise unknown(f"{field}.stem", fields["stem"], network["stems"])
    return streams.Stream(name, fields["batch"], static, fields["stem"]), numbers


def network(config: Mapping[str, Any], data: Data) -> Network:
    """The network; a head that gives no width has one output a class of the labelled streams."""
    tables = [table for table in data.streams.values() if table.labels is not None]
    tables = tables or [split.table for split in data.splits.values()]
    return build(config["network"], max(len(table.classes) for table in tables))


def phase(
    name: str,
    index: int,
    fields: Mapping[str, Any],
    config: Mapping[str, Any],
    data: Data,
    net: Network,
) -> Phase:
    """A phase from its fields: everything static in a plan, every number on the device.

    Args:
      name, index: the phase's name and its place among the phases.
      fields: the config's fields, with the phase's own in place of the common ones.
      config: the whole resolved config.
      data: the opened tables.
      net: the network.
    """
    flow = fields["flow"] or tuple(config["streams"])
    specs, stream_numbers = [], {}
    for stream in flow:
        if stream not in config["streams"]:
            raise unknown(f"{name}.flow", stream, config["streams"])
        given = complete(config["streams"][stream], STREAM, f"streams.{stream}")
        spec, stream_numbers[stream] = _stream(
            stream, given, f"streams.{stream}", config["network"]
        )
        specs.append(spec)
    parsed, term_numbers = _terms(fields["terms"])
    _check_labels(parsed, net, data)
    optimizer, optimizer_numbers = optimizers.parse(fields["optimizer"], "optimizer")
    rules = _rules(fields["train"], "train")
    for i, (_, factor) in enumerate(rules):
        number(f"train[{i}]", factor, "a factor on the learning rate of at least 0")
    decay = number("average", fields["average"])
    if decay >= 1:
        raise wrong("average", decay, "a decay in [0, 1); 0 keeps no average")
    plan = step.Plan(
        objective.Objective(net, parsed, tuple(specs), config["statistics"] == "separate"),
        optimizer,
        tuple((pattern, factor != 0) for pattern, factor in rules),
        averaged=decay > 0,
    )
    base = jax.random.fold_in(jax.random.key(config["seed"]), index)
    hyper = {
        "key": base,
        "steps": np.float32(fields["steps"]),
        "log_every": np.int32(config["log_every"]),
        "decay": np.float32(decay),
        "factors": tuple(np.float32(factor) for _, factor in rules),
        "terms": term_numbers,
        "streams": stream_numbers,
        "optimizer": optimizer_numbers,
    }
    hyper = jax.tree.map(lambda x: np.float32(x) if isinstance(x, float) else x, hyper)
    resident, readers = {}, {}
    for spec in specs:
        table = data.streams[spec.name]
        if table.resident:
            resident[spec.name] = jax.device_put(streams.resident(table, f"streams.{spec.name}"))
        else:
            seed = (config["seed"] + streams.identity(f"{spec.name}/{index}")) % 2**31
            readers[spec.name] = streams.reader(table, spec.batch, seed)
    cadence = Cadence(
        log=config["log_every"],
        evaluate=config["evaluate_every"],
        checkpoint=config["checkpoint_every"],
        dispatch=config["steps_per_dispatch"],
    )
    return Phase(
        name,
        plan,
        jax.device_put(hyper),
        fields["steps"],
        cadence,
        resident,
        readers,
        config["workers"],
    )


def _terms(given: Mapping[str, Any]) -> tuple[tuple[objective.Term, ...], dict[str, Any]]:
    if not given:
        raise wrong("terms", given, "at least one term: dict(NAME=dict(term=..., weight=...))")
    parsed, numbers = [], {}
    for name, config in given.items():
        field = f"terms.{name}"
        if isinstance(config, int | float) and not isinstance(config, bool):
            config = {"weight": config}
        if not isinstance(config, Mapping):
            raise wrong(field, config, "a weight, or dict(term=..., weight=..., ...)")
        config = {"term": name, "weight": 1.0, "ramp": None, **config}
        function = terms.find(config["term"], f"{field}.term")
        own = {key: value for key, value in config.items() if key not in _TERM}
        static, traced = split(function, own, field)
        traced["weight"] = number(f"{field}.weight", config["weight"])
        ramped = config["ramp"] is not None
        if ramped:
            traced["ramp"] = number(f"{field}.ramp", config["ramp"])
        parsed.append(objective.Term(name, function, static, ramped))
        numbers[name] = traced
    return tuple(parsed), numbers


def _check_labels(parsed: tuple[objective.Term, ...], net: Network, data: Data) -> None:
    """Refuses labels that the head of a term or evaluation has no output for."""
    heads = dict(net.heads.modules)
    pairs = [
        (f"streams.{static['stream']}", data.streams.get(static["stream"]), static["head"])
        for static in (dict(term.static) for term in parsed)
        if "stream" in static and "head" in static
    ]
    pairs += [(f"evaluate.{split.name}", split.table, split.head) for split in data.splits.values()]
    for field, table, head in pairs:
        if table is None or table.labels is None or head not in heads:
            continue  # a missing stream, label or head is refused where a term asks for it
        outputs = getattr(heads[head], "outputs", None)
        if outputs is not None and table.labels.max(initial=0) >= outputs:
            raise UserError(
                f"{field}: label {table.labels.max()} has no output in head {head!r}; "
                f"expected labels from 0 to {outputs - 1} (network.heads.{head}.outputs)"
            )


def _rules(given: Any, field: str) -> tuple[tuple[str, Any], ...]:
    try:
        rules = tuple((str(pattern), value) for pattern, value in given)
    except (TypeError, ValueError):
        raise wrong(field, given, "pairs ((pattern, value), ...)") from None
    return rules


def first_state(phase: Phase, fields: Mapping[str, Any], earlier: Mapping[str, Any]) -> step.State:
    """The state that a phase starts from.

    Args:
      phase: the phase.
      fields: its fields; `start` says what is copied from which earlier phase.
      earlier: phase name -> {"params", "batch_stats"} of the phases before, in order.
    """
    examples = {
        spec.name: jax.tree.map(lambda leaf, n=spec.batch: leaf[:n], phase.resident[spec.name])
        if spec.name in phase.resident
        else phase.readers[spec.name][0]
        for spec in phase.plan.objective.streams
    }
    batch = jax.eval_shape(
        functools.partial(step.batch_of, phase.plan), phase.hyper, {}, examples, np.int32(0)
    )

    default = (("**", list(earlier)[-1] if earlier else transfer.FRESH),)
    rules = _rules(fields["start"], f"{phase.name}.start") or default

    @jax.jit  # one program, where every leaf by itself would be compiled for its shape
    def first(key: jax.Array, earlier: Mapping[str, Any]) -> step.State:
        blank = jax.tree.map(lambda each: jax.numpy.zeros(each.shape, each.dtype), batch)
        fresh = objective.initialise(phase.plan.objective, phase.hyper["terms"], blank, key)
        params, batch_stats = (
            transfer.start(
                fresh[kind],
                {name: each[kind] for name, each in earlier.items()},
                rules if kind == "params" else _reaching(rules, fresh[kind]),
                f"{phase.name}.start",
            )
            if jax.tree.leaves(fresh[kind])
            else fresh[kind]
            for kind in ("params", "batch_stats")
        )
        return step.initialise(phase.plan, params, batch_stats)

    return first(jax.random.fold_in(phase.hyper["key"], 1), earlier)


def _reaching(rules: tuple[tuple[str, Any], ...], tree: Any) -> tuple[tuple[str, Any], ...]:
    """The rules that match something: a pattern for parameters need not match a statistic."""
    paths = list(trees.flatten(tree))
    return tuple(r for r in rules if any(trees.match(r[0], path) for path in paths))

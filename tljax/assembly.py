"""From a resolved config to what runs: tables, a network, phases with plans and numbers."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from tljax import balance, objective, opening, terms
from tljax.data import streams
from tljax.errors import UserError, number, unknown, wrong
from tljax.evaluate import READOUTS, Split
from tljax.models import Network, build
from tljax.opening import Data
from tljax.signature import split
from tljax.train import gradients, optimizers, placing, step
from tljax.train.loop import Cadence, Phase

_TERM = ("term", "weight", "ramp")


def network(config: Mapping[str, Any], data: Data) -> Network:
    """The network; a head that gives no width has one output a class of the labelled streams."""
    tables = [table for table in data.streams.values() if table.labels is not None]
    tables = tables or [split.table for split in data.splits.values()]
    classes = max(len(table.classes) for table in tables)
    return build(config["network"], classes, precision=config["precision"], remat=config["remat"])


def phase(
    name: str,
    index: int,
    fields: Mapping[str, Any],
    config: Mapping[str, Any],
    data: Data,
    net: Network,
    restart: int = 0,
) -> Phase:
    """A phase from its fields: everything static in a plan, every number on the device.

    Args:
      name, index: the phase's name and its place among the phases.
      fields: the config's fields, with the phase's own in place of the common ones.
      config: the whole resolved config.
      data: the opened tables.
      net: the network.
      restart: which of several runs of the phase, each with randomness of its own.
    """
    flow = fields["flow"] or tuple(config["streams"])
    specs, stream_numbers = [], {}
    for stream in flow:
        if stream not in config["streams"]:
            raise unknown(place(name, "flow"), stream, config["streams"])
        given = opening.stream_fields(stream, config["streams"])
        labels = data.streams[stream].labels
        spec, stream_numbers[stream] = opening.stream(
            stream,
            given,
            f"streams.{stream}",
            config["network"],
            () if labels is None else tuple(np.unique(labels).tolist()),
        )
        specs.append(spec)
    parsed, term_numbers = _terms(fields["terms"], fields["steps"])
    _check_labels(parsed, net, data)
    for each in data.splits.values():
        _check_readout(each, dict(net.heads.modules).get(each.head))
    optimizer, optimizer_numbers = optimizers.parse(fields["optimizer"], "optimizer")
    factors = rules(fields["train"], "train")
    for i, (_, factor) in enumerate(factors):
        number(f"train[{i}]", factor, "a factor on the learning rate of at least 0")
    decay = number("average", fields["average"])
    if decay >= 1:
        raise wrong("average", decay, "a decay in [0, 1); 0 keeps no average")
    weighing, balance_numbers = _balance(fields["balance"], parsed)
    batches = {spec.name: spec.batch for spec in specs}
    parts = config["accumulate"]
    plan = step.Plan(
        objective.Objective(
            net,
            parsed,
            tuple(specs),
            separate=config["statistics"] == "separate",
            frozen=fields["freeze_statistics"],
        ),
        optimizer,
        tuple((pattern, factor != 0) for pattern, factor in factors),
        averaged=decay > 0,
        balance=weighing,
        mesh=placing.mesh(config["mesh"], batches, parts),
        parts=parts,
    )
    base = jax.random.fold_in(jax.random.key(config["seed"]), index)
    if restart:
        base = jax.random.fold_in(base, restart)
    hyper = {
        "key": base,
        "steps": np.float32(fields["steps"]),
        "log_every": np.int32(config["log_every"]),
        "decay": np.float32(decay),
        "factors": tuple(np.float32(factor) for _, factor in factors),
        "terms": term_numbers,
        "streams": stream_numbers,
        "optimizer": optimizer_numbers,
        "balance": balance_numbers,
        "tables": data.tables,
    }
    hyper = jax.tree.map(lambda x: np.float32(x) if isinstance(x, float) else x, hyper)
    resident, readers = {}, {}
    for spec in specs:
        base_name, table = spec.of or spec.name, data.streams[spec.name]
        if table.resident:
            if id(table) not in data.placed:
                arrays = streams.resident(table, f"streams.{base_name}")
                data.placed[id(table)] = jax.device_put(arrays)
            resident[base_name] = data.placed[id(table)]
        else:
            seed = (config["seed"] + streams.identity(f"{base_name}/{index}")) % 2**31
            own = (jax.process_index(), jax.process_count())
            readers[base_name] = streams.reader(table, spec.batch, seed, *own)
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


def _terms(
    given: Mapping[str, Any], steps: int
) -> tuple[tuple[objective.Term, ...], dict[str, Any]]:
    if not given and steps:
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


def _balance(
    given: Mapping[str, Any], parsed: tuple[objective.Term, ...]
) -> tuple[gradients.Balance | None, dict[str, Any]]:
    """How tasks are weighed: `dict(name="pcgrad", tasks=(...), shared=(...), ...)`."""
    config = {"name": "sum", "tasks": (), "shared": ("trunk/**",), **given}
    name, names = config["name"], [term.name for term in parsed]
    kinds = ("sum", "uncertainty", *balance.BALANCERS)
    if name not in kinds:
        raise unknown("balance.name", name, kinds)
    for task in _strings(config["tasks"], "balance.tasks", "names of terms"):
        if task not in names:
            raise unknown("balance.tasks", task, names)
    own = {key: value for key, value in config.items() if key not in ("name", "tasks", "shared")}
    static: tuple[tuple[str, Any], ...] = ()
    numbers: dict[str, Any] = {}
    if name in balance.BALANCERS:
        skip = ("state", "losses", "gramian", "key")
        static, numbers = split(balance.BALANCERS[name].weigh, own, "balance", skip)
    elif own:
        raise unknown("balance", next(iter(own)), ("name", "tasks", "shared"))
    if name == "sum":
        return None, {}
    tasks = tuple(i for i, each in enumerate(names) if each in (config["tasks"] or names))
    if len(tasks) < 2:
        raise wrong("balance.tasks", config["tasks"], f"at least two of the terms {names}")
    patterns = _strings(config["shared"], "balance.shared", "patterns of shared parameters")
    shared = tuple((pattern, True) for pattern in patterns)
    return gradients.Balance(name, tasks, (*shared, ("**", False)), static), numbers


def _strings(given: Any, field: str, what: str) -> tuple[str, ...]:
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
        raise wrong(field, given, f"a list of {what}")
    return tuple(given)


def _check_labels(parsed: tuple[objective.Term, ...], net: Network, data: Data) -> None:
    """Refuses labels that the head of a term or evaluation has no output for."""
    heads = dict(net.heads.modules)
    pairs = [
        (f"streams.{static['stream']}", data.streams.get(static["stream"]), static["head"])
        for static in (dict(t.static) for t in parsed if t.function is terms.cross_entropy)
    ]
    pairs += [
        (f"evaluate.{each.name}", each.table, each.head)
        for each in data.splits.values()
        if each.readout == "logits"
    ]
    for field, table, head in pairs:
        if table is None or table.labels is None or head not in heads:
            continue  # a missing stream, label or head is refused where a term asks for it
        outputs = getattr(heads[head], "outputs", None)
        if outputs is not None and table.labels.max(initial=0) >= outputs:
            raise UserError(
                f"{field}: label {table.labels.max()} has no output in head {head!r}; "
                f"expected labels from 0 to {outputs - 1} (network.heads.{head}.outputs)"
            )


def _check_readout(split: Split, head: Any) -> None:
    """Refuses a head whose outputs are not what the readout of an evaluation reads."""
    if head is None and not split.head and split.table.labels is not None:
        if split.readout in ("logits", "clusters", "conse"):
            raise wrong(f"evaluate.{split.name}.head", split.head, f"one, for {split.readout!r}")
    outputs = getattr(head, "outputs", None)  # without a head, or of a user's own kind
    if outputs is None or split.semantics is None or not READOUTS[split.readout]:
        return
    classes, attributes = split.semantics.shape
    wanted, of = (classes, "class") if split.readout == "conse" else (attributes, "attribute")
    if outputs != wanted:
        raise UserError(
            f"evaluate.{split.name}.head: head {split.head!r} has {outputs} outputs; {wanted} are "
            f"read by {split.readout!r}, one for each {of} (network.heads.{split.head}.outputs)"
        )


def place(phase: str, field: str) -> str:
    """Where a field of a phase stands: a config without phases has it at the top."""
    return field if phase == "train" else f"{phase}.{field}"


def rules(given: Any, field: str) -> tuple[tuple[str, Any], ...]:
    """`((pattern, value), ...)` as a config gives them."""
    try:
        return tuple((str(pattern), value) for pattern, value in given)
    except (TypeError, ValueError):
        raise wrong(field, given, "pairs ((pattern, value), ...)") from None

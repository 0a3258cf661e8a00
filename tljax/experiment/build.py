"""From the fields of a config to what runs: tables, a network, phases. Past this room nobody reads
a field by its name."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from tljax import terms
from tljax.data import semantics, sources, streams, transforms
from tljax.data.streams import Reader
from tljax.data.table import Table, class_weights
from tljax.errors import UserError, number, unknown, wrong
from tljax.experiment.check import Checked, place
from tljax.experiment.fields import EvaluationFields, PhaseFields, StreamFields
from tljax.models import Network
from tljax.models import build as build_network
from tljax.phase import evaluate, optimizers, prepare
from tljax.phase.evaluate import READOUTS, Split
from tljax.phase.phase import Phase, Stream, Term, balance
from tljax.train import placing, starting
from tljax.train.loop import Cadence


class Opened(NamedTuple):
    """Tables that several runs share, by what they are; and where they are on the device."""

    tables: dict[str, Table]
    placed: dict[int, Table]


class Built(NamedTuple):
    """A config's data, network and phases, ready to run."""

    config: Checked
    phases: Mapping[str, Phase]
    tables: Mapping[str, Table]  # of every stream, also of one that shows another's
    data: Mapping[str, Table]  # of streams that live on the device
    readers: Mapping[str, Mapping[str, Reader]]  # phase -> stream -> what reads it from disk
    splits: Mapping[str, Split]
    cadence: Cadence

    @property
    def network(self) -> Network:
        """The network, the same in all phases."""
        return next(iter(self.phases.values())).network

    def key(self, phase: str, restart: int = 0) -> jax.Array:
        """The key of a phase; a restart of it has randomness of its own."""
        index = list(self.phases).index(phase)
        key = jax.random.fold_in(jax.random.key(self.config.fields.seed), index)
        return jax.random.fold_in(key, restart) if restart else key


def build(config: Checked, opened: Opened | None = None) -> Built:
    """The data, the network and the phases of a config.

    Args:
      config: checked.
      opened: what other runs have opened; added to.

    Raises:
      UserError: a mistake in the config or its data.
    """
    opened, fields = opened or Opened({}, {}), config.fields
    tables = _stream_tables(config, opened)
    judged = {
        name: _table(each, config, f"evaluate.{name}", opened)
        for name, each in fields.evaluate.items()
    }
    if "train" in judged:
        raise wrong("evaluate", "train", "another name: the records of training have this one")
    attributes = _attributes(config, {**tables, **judged})
    splits = {
        name: _split(name, each, judged[name], config, attributes)
        for name, each in fields.evaluate.items()
    }
    for name, split in splits.items():
        if split.calibrate and split.calibrate not in splits:
            raise unknown(f"evaluate.{name}.calibrate", split.calibrate, splits)
        evaluate.check(split, f"evaluate.{name}")
        if split.calibrate:
            evaluate.check_calibration(split, splits[split.calibrate], f"evaluate.{name}")
    net = _network(config, [*tables.values(), *judged.values()])
    phases = {
        name: _phase(name, each, config, net, tables, attributes)
        for name, each in config.phases.items()
    }
    data = {}
    for name, table in tables.items():
        if table.resident and not fields.streams[name].of:
            if id(table) not in opened.placed:
                streams.check_finite(table.input, f"streams.{name}")
                opened.placed[id(table)] = jax.device_put(table)
            data[name] = opened.placed[id(table)]
    readers = {
        name: _readers(phase, index, tables, fields.seed)
        for index, (name, phase) in enumerate(phases.items())
    }
    cadence = Cadence(
        log=fields.log_every,
        evaluate=fields.evaluate_every,
        checkpoint=fields.checkpoint_every,
        dispatch=fields.steps_per_dispatch,
    )
    built = Built(config, phases, tables, data, readers, splits, cadence)
    for index, (name, phase) in enumerate(phases.items()):
        _check_unseen(built, index)
        if index and not phase.prepare:  # what a later phase lacks is better said now than then
            with place_errors(name):
                starting.check(phase, flowing(built, name), readers[name], built.key(name))
    return built


class place_errors:
    """Within it a mistake in a field of a phase is named with the phase."""

    def __init__(self, phase: str):
        self.phase = phase

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, _: Any) -> None:
        if isinstance(error, UserError) and self.phase != "train":
            field = str(error).partition(":")[0].partition(".")[0].partition("[")[0]
            if field in PhaseFields.model_fields:
                raise UserError(f"{self.phase}.{error}") from error.__cause__


def flowing(built: Built, phase: str) -> dict[str, Table]:
    """The tables on the device that a phase reads."""
    bases = {stream.base for stream in built.phases[phase].streams.values()}
    return {name: table for name, table in built.data.items() if name in bases}


def _stream_tables(config: Checked, opened: Opened) -> dict[str, Table]:
    """The table of every stream; one `of` another has the other's."""
    fields = config.fields.streams
    tables: dict[str, Table] = {}
    for name, stream in fields.items():
        _check_stream(name, stream, fields)
        if not stream.of:
            table = tables[name] = _table(stream, config, f"streams.{name}", opened)
            streams.check_batch(stream.batch, len(table), f"streams.{name}.batch")
            if stream.balanced and not table.seen:
                raise wrong(f"streams.{name}.balanced", True, "a labelled stream")
            if stream.balanced and not table.resident:
                expected = "a stream that fits into resident_megabytes"
                raise wrong(f"streams.{name}.balanced", True, expected)
    return {name: tables[stream.of or name] for name, stream in fields.items()}


def _check_stream(name: str, stream: StreamFields, streams: Mapping[str, StreamFields]) -> None:
    """Refuses fields that a stream `of` another has from that one."""
    field = f"streams.{name}"
    if not stream.of:
        if stream.neighbour:
            raise wrong(f"{field}.neighbour", True, "of= a stream whose neighbours are shown")
        return
    if stream.of not in streams or stream.of == name:
        raise unknown(f"{field}.of", stream.of, [other for other in streams if other != name])
    base = streams[stream.of]
    if base.of:
        raise wrong(f"{field}.of", stream.of, "a stream with data of its own")
    for other in StreamFields.model_fields:  # in one order, whatever the config's
        if other not in stream.model_fields_set:
            continue
        if other == "batch" and stream.batch != base.batch:
            raise wrong(f"{field}.batch", stream.batch, f"{base.batch}, that of {stream.of!r}")
        if other not in ("of", "neighbour", "transforms", "stem", "batch"):
            value = getattr(stream, other)
            raise wrong(f"{field}.{other}", value, f"nothing: its data is {stream.of!r}'s")


def _table(
    fields: StreamFields | EvaluationFields, config: Checked, field: str, opened: Opened
) -> Table:
    """Loads what a stream or evaluation names; small sets are decoded, large ones stay lazy."""
    few = fields.per_class if isinstance(fields, StreamFields) else None
    drawn = fields.seed if isinstance(fields, StreamFields) else None
    arguments: dict[str, Any] = dict(
        labelled=fields.labelled,
        classes=fields.classes,
        per_class=few,
        # The same for all runs where nothing is drawn, so that they share it.
        seed=drawn if drawn is not None else config.fields.seed if few else 0,
        size=fields.size,
        channels=fields.channels,
        root=config.fields.data_dir or None,
    )
    same = repr((fields.data, fields.split, sorted(arguments.items())))
    if same not in opened.tables:
        table = sources.load(fields.data, fields.split, field=f"{field}.data", **arguments)
        limit = int(config.fields.resident_megabytes * 2**20)
        opened.tables[same] = sources.materialise(table, limit)
    return opened.tables[same]


def _attributes(config: Checked, known: Mapping[str, Table]) -> dict[str, np.ndarray]:
    """The class × attribute tables."""
    opened = {}
    for name, fields in config.fields.tables.items():
        field = f"tables.{name}"
        if fields.like and fields.like not in known:
            raise unknown(f"{field}.like", fields.like, known)
        like = [known[fields.like]] if fields.like else list(known.values())
        opened[name] = semantics.load_semantics(
            fields.data,
            next((table.classes for table in like if table.classes), ()),
            field=f"{field}.data",
            root=config.fields.data_dir or None,
            standardise=fields.standardise,
            normalise=fields.normalise,
            permute=fields.permute,
        ).values
    return opened


def _network(config: Checked, tables: Sequence[Table]) -> Network:
    """The network; a bank of neighbours has a class for each that its data knows."""
    fields = config.fields
    classes = max((len(table.classes) for table in tables if table.label is not None), default=0)
    heads = {
        name: {"outputs": classes, **head}
        if isinstance(head, Mapping) and head.get("name") == "neighbours"
        else head
        for name, head in fields.network.heads.items()
    }
    return build_network(
        fields.network.stems,
        fields.network.trunk,
        heads,
        precision=fields.precision,
        remat=fields.remat,
    )


def _phase(
    name: str,
    fields: PhaseFields,
    config: Checked,
    net: Network,
    tables: Mapping[str, Table],
    attributes: Mapping[str, np.ndarray],
) -> Phase:
    """A phase from its fields."""
    named, top = config.fields.streams, config.fields
    specs = []
    for stream in fields.flow or tuple(named):
        if stream not in named:
            raise unknown(place(name, "flow"), stream, named)
        specs.append(_stream(stream, named[stream], f"streams.{stream}", config))
    if not fields.terms and fields.steps:
        expected = "at least one term: dict(NAME=dict(term=..., weight=...))"
        raise wrong(place(name, "terms"), fields.terms, expected)
    parsed = {
        term: _term(term, given, place(name, f"terms.{term}"), tables)
        for term, given in fields.terms.items()
    }
    for i, (_, factor) in enumerate(fields.train):
        number(place(name, f"train[{i}]"), factor, "a factor on the learning rate of at least 0")
    if len(dict(fields.train)) < len(fields.train):
        raise wrong(place(name, "train"), fields.train, "each pattern once")
    for i, (_, origin) in enumerate(fields.start):
        if not isinstance(origin, str):
            expected = "'fresh', an earlier phase or 'run:WORKDIR'"
            raise wrong(place(name, f"start[{i}]"), origin, expected)
    batches = {spec.name: spec.batch for spec in specs}
    mesh = {"data": top.mesh.data, "shard": top.mesh.shard}
    with place_errors(name):
        return Phase(
            network=net,
            streams=specs,
            terms=parsed,
            optimizer=optimizers.parse(fields.optimizer, "optimizer"),
            steps=fields.steps,
            train=dict(fields.train),
            average=fields.average,
            balance=_balance(fields.balance),
            start=fields.start,
            prepare=prepare.parse(fields.prepare, "prepare"),
            tables=attributes,
            statistics=top.statistics,
            freeze_statistics=fields.freeze_statistics,
            accumulate=top.accumulate,
            mesh=placing.mesh(mesh, batches, top.accumulate),
        )


def _stream(
    name: str, fields: StreamFields | EvaluationFields, field: str, config: Checked
) -> Stream:
    if fields.stem and fields.stem not in config.fields.network.stems:
        raise unknown(f"{field}.stem", fields.stem, config.fields.network.stems)
    looks = transforms.parse(fields.transforms, f"{field}.transforms")
    if isinstance(fields, EvaluationFields):
        return Stream(name, fields.batch, looks, fields.stem)
    base = config.fields.streams[fields.of or name]
    return Stream(name, base.batch, looks, fields.stem, fields.of, fields.neighbour, base.balanced)


def _term(name: str, fields: Any, field: str, tables: Mapping[str, Table]) -> Term:
    if isinstance(fields, int | float) and not isinstance(fields, bool):
        fields = {"weight": fields}
    if not isinstance(fields, Mapping):
        raise wrong(field, fields, "a weight, or dict(term=..., weight=..., ...)")
    fields = {"term": name, **fields}
    if fields.get("class_weights") == "balanced":
        table = tables.get(fields.get("stream", "source"))
        if table is None or table.label is None:
            raise wrong(f"{field}.class_weights", "balanced", "a labelled stream")
        fields["class_weights"] = tuple(class_weights(table).tolist())
    return terms.term(fields.pop("term"), field=field, **fields)


def _balance(fields: Mapping[str, Any]) -> Any:
    for key, what in (("tasks", "names of terms"), ("shared", "patterns of shared parameters")):
        listed = fields.get(key, ())
        if not isinstance(listed, list | tuple) or not all(isinstance(e, str) for e in listed):
            raise wrong(f"balance.{key}", listed, f"a list of {what}")
    return balance(**fields)


def _readers(phase: Phase, index: int, tables: Mapping[str, Table], seed: int) -> dict[str, Reader]:
    readers = {}
    for stream in phase.streams.values():
        if not tables[stream.name].resident:
            own = (seed + streams.identity(f"{stream.base}/{index}")) % 2**31
            part = (jax.process_index(), jax.process_count())
            readers[stream.base] = streams.reader(tables[stream.name], stream.batch, own, *part)
    return readers


def _split(
    name: str,
    fields: EvaluationFields,
    table: Table,
    config: Checked,
    attributes: Mapping[str, np.ndarray],
) -> Split:
    """An evaluation, checked."""
    field, top, phases = f"evaluate.{name}", config.fields, tuple(config.phases)
    statistics = None
    if top.statistics == "separate":
        statistics = fields.statistics or name
        if statistics not in top.streams:
            raise unknown(f"{field}.statistics", statistics, top.streams)
    for value, key, choices in (
        (fields.head, "head", top.network.heads),
        (fields.phase, "phase", phases),
    ):
        if value and value not in choices:
            raise unknown(f"{field}.{key}", value, choices)
    if fields.readout not in READOUTS:
        raise unknown(f"{field}.readout", fields.readout, READOUTS)
    if READOUTS[fields.readout] and fields.table not in attributes:
        raise unknown(f"{field}.table", fields.table, attributes)
    unseen: tuple[int, ...] = ()
    if fields.unseen:
        unseen = tuple(sources.class_numbers(fields.unseen, table.classes, f"{field}.unseen"))
    semantic = attributes.get(fields.table)
    if semantic is not None and len(semantic) != len(table.classes):
        raise UserError(
            f"{field}.table: table {fields.table!r} has {len(semantic)} rows; expected one for "
            f"each of the {len(table.classes)} classes (tables.{fields.table}.like={name!r})"
        )
    return Split(
        name,
        table,
        _stream(name, fields, field, config),
        head=fields.head,
        statistics=statistics,
        phase=fields.phase or phases[-1],
        readout=fields.readout,
        semantics=semantic,
        classes=tuple(sources.class_numbers(fields.classes, table.classes, f"{field}.classes")),
        unseen=unseen,
        among=fields.among,
        calibrate=fields.calibrate,
        top=fields.top,
    )


def _check_unseen(built: Built, index: int) -> None:
    """Refuses an evaluation whose unseen classes have been seen by its phase or one before."""
    name = list(built.phases)[index]
    before = list(built.phases.values())[: index + 1]
    for split in built.splits.values():
        if split.phase != name or not split.unseen:
            continue
        for stream in dict.fromkeys(stream for phase in before for stream in phase.streams):
            seen = set(built.tables[stream].seen) & set(split.unseen)
            if seen:
                names = [split.table.classes[label] for label in sorted(seen)]
                raise wrong(
                    f"evaluate.{split.name}.unseen",
                    names,
                    f"classes that no labelled stream holds; stream {stream!r} holds them",
                )

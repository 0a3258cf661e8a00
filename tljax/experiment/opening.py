"""What a config's streams, tables and evaluations name, opened."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tljax.data import mixing, semantics
from tljax.data.classes import class_numbers, renumbered
from tljax.data.streams import check_batch
from tljax.data.table import Table
from tljax.errors import UserError, unknown, wrong
from tljax.experiment import prompts
from tljax.experiment.check import Checked, check
from tljax.experiment.fields import EvaluationFields, StreamFields
from tljax.experiment.meeting import met
from tljax.experiment.preprocessing import another_look, transforms_of
from tljax.experiment.reading import Opened, table_of, tokenizer_of
from tljax.phase import rehearsal
from tljax.phase.phase import Stream
from tljax.phase.scoring import READOUTS, Split


class Data(NamedTuple):
    """What a config names, opened."""

    tables: dict[str, Table]  # of every stream, also of one that shows another's
    splits: dict[str, Split]
    attributes: dict[str, np.ndarray]  # class × attribute tables
    heads: dict[str, tuple[str, ...]]  # the names of their outputs, where labels are read by them
    tokenizer: str = ""  # of texts, as a tokenizer.json


def open_data(config: Checked, opened: Opened) -> Data:
    """Loads what the streams, tables and evaluations of a config name.

    Args:
      config: checked.
      opened: what other runs have opened; added to.
    """
    tables = _stream_tables(config, opened)
    judged = {
        name: table_of(each, config, f"evaluate.{name}", opened)
        for name, each in config.fields.evaluate.items()
    }
    if "train" in judged:
        raise wrong("evaluate", "train", "another name: the records of training have this one")
    read = judged
    tables, judged, heads = met(config, tables, judged, opened.tables)
    attributes = _attributes(config, {**tables, **judged})
    tokenizer = tokenizer_of(config, opened) if opened.tokenizers else ""
    splits = {
        name: _split(name, each, read[name], judged[name], config, attributes, tokenizer)
        for name, each in config.fields.evaluate.items()
    }
    for name, split in splits.items():
        if split.calibrate and split.calibrate not in splits:
            raise unknown(f"evaluate.{name}.calibrate", split.calibrate, splits)
        rehearsal.check(split, f"evaluate.{name}")
        if split.calibrate:
            rehearsal.check_calibration(split, splits[split.calibrate], f"evaluate.{name}")
    return Data(tables, splits, attributes, heads, tokenizer)


def _stream_tables(config: Checked, opened: Opened) -> dict[str, Table]:
    """The table of every stream; one `of` another has the other's."""
    fields = config.fields.streams
    tables: dict[str, Table] = {}
    for name, stream in fields.items():
        _check_stream(name, stream, fields)
        if not stream.of:
            table = tables[name] = table_of(stream, config, f"streams.{name}", opened)
            if not stream.balanced:
                check_batch(stream.batch, len(table), f"streams.{name}.batch")
            elif not table.seen or not table.resident:
                expected = "a labelled stream that fits into resident_megabytes, of no random view"
                raise wrong(f"streams.{name}.balanced", True, expected)
    for name, stream in fields.items():
        if stream.of and stream.view:
            another_look(tables[stream.of], stream, f"streams.{name}")
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
        if other == "view" and stream.neighbour:
            raise wrong(f"{field}.view", stream.view, "nothing: neighbours are in memory")
        if other not in ("of", "neighbour", "view", "transforms", "mix", "stem", "batch"):
            value = getattr(stream, other)
            raise wrong(f"{field}.{other}", value, f"nothing: its data is {stream.of!r}'s")


def stream_of(
    name: str,
    fields: StreamFields | EvaluationFields,
    field: str,
    config: Checked,
    tokenizer: str = "",
) -> Stream:
    """A stream of its fields; transforms of tokens are filled in from the tokenizer."""
    if fields.stem and fields.stem not in config.fields.network.stems:
        raise unknown(f"{field}.stem", fields.stem, config.fields.network.stems)
    looks = transforms_of(fields.transforms, f"{field}.transforms", tokenizer)
    if isinstance(fields, EvaluationFields):
        return Stream(name, fields.batch, looks, fields.stem)
    base = config.fields.streams[fields.of or name]
    mix = mixing.parse(fields.mix, f"{field}.mix") if fields.mix else None
    of = (fields.of, fields.neighbour, base.balanced)
    return Stream(name, base.batch, looks, fields.stem, *of, mix)


def _attributes(config: Checked, known: Mapping[str, Table]) -> dict[str, np.ndarray]:
    """The class × attribute tables."""
    opened = {}
    for name, fields in config.fields.tables.items():
        field = f"tables.{name}"
        if fields.like and fields.like not in known:
            raise unknown(f"{field}.like", fields.like, known)
        like = [known[fields.like]] if fields.like else list(known.values())
        classes = next((table.classes for table in like if table.classes), ())
        if fields.data.startswith(prompts.SCHEME):
            opened[name] = prompts.vectors(fields, classes, config.fields.data_dir, field)
            continue
        opened[name] = semantics.load_semantics(
            fields.data,
            classes,
            field=f"{field}.data",
            root=config.fields.data_dir or None,
            standardise=fields.standardise,
            normalise=fields.normalise,
            permute=fields.permute,
        ).values
    return opened


def _split(
    name: str,
    fields: EvaluationFields,
    read: Table,
    table: Table,
    config: Checked,
    attributes: Mapping[str, np.ndarray],
    tokenizer: str,
) -> Split:
    """An evaluation, checked; numbers of classes are those of its table as it was `read`."""
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
        unseen = _numbers(fields.unseen, read, table, f"{field}.unseen")
    semantic = attributes.get(fields.table)
    if semantic is not None and len(semantic) != len(table.classes):
        raise UserError(
            f"{field}.table: table {fields.table!r} has {len(semantic)} rows; expected one for "
            f"each of the {len(table.classes)} classes (tables.{fields.table}.like={name!r})"
        )
    stream = stream_of(name, fields, field, config, tokenizer)
    # A batch is filled up to its length, which need not be far above that of the table.
    stream = dataclasses.replace(stream, batch=min(stream.batch, max(len(table), 1024)))
    return Split(
        name,
        table,
        stream,
        head=fields.head,
        layer=fields.layer,
        statistics=statistics,
        phase=fields.phase or phases[-1],
        readout=fields.readout,
        semantics=semantic,
        classes=_numbers(fields.classes, read, table, f"{field}.classes"),
        unseen=unseen,
        among=fields.among,
        calibrate=fields.calibrate,
        top=fields.top,
    )


def _numbers(classes: Any, read: Table, table: Table, field: str) -> tuple[int, ...]:
    """The numbers that classes have in a table, named or numbered as it was read; None: all."""
    if classes is None:
        return tuple(range(len(table.classes)))
    names = [read.classes[number] for number in class_numbers(classes, read.classes, field)]
    for name in names:
        if name not in table.classes:
            raise unknown(field, name, table.classes)
    return tuple(map(table.classes.index, names))


def elsewhere(config: Checked, name: str, data: Any, classes: Sequence[str]) -> Split:
    """An evaluation of a config by itself, where no training data is to be had.

    Args:
      config: checked.
      name: of the evaluation.
      data: what is to be judged, in place of what it names; see `data.sources.load`.
      classes: the names that its run has for them, in the order of their numbers; (): none known.

    Raises:
      UserError: data that cannot be read, or hold other classes.
    """
    fields, field = (
        config.fields.evaluate[name].model_copy(update={"data": data}),
        f"evaluate.{name}",
    )
    opened = Opened({}, {})
    table = read = table_of(fields, config, field, opened)
    if classes and not fields.labelled:
        table = read = renumbered(read, classes, field)
    elif classes and read.classes:
        table = renumbered(read, classes, field)
    tables = {n: each for n, each in config.plain["tables"].items() if n == fields.table}
    described = check({**config.plain, "tables": tables})
    like = {each.like or name: table for each in described.fields.tables.values()}
    tokenizer = tokenizer_of(config, opened) if opened.tokenizers else ""
    split = _split(name, fields, read, table, config, _attributes(described, like), tokenizer)
    rehearsal.check(split, field)
    return split


def check_unseen(
    splits: Mapping[str, Split], tables: Mapping[str, Table], flows: Mapping[str, Iterable[str]]
) -> None:
    """Refuses an evaluation whose unseen classes have been seen by its phase or one before.

    Args:
      splits: the evaluations.
      tables: of every stream.
      flows: phase -> the streams that flow in it, in order.
    """
    phases = list(flows)
    for split in splits.values():
        before = phases[: phases.index(split.phase) + 1] if split.unseen else []
        for stream in dict.fromkeys(stream for phase in before for stream in flows[phase]):
            seen = set(tables[stream].seen) & set(split.unseen)
            if seen:
                names = [split.table.classes[label] for label in sorted(seen)]
                raise wrong(
                    f"evaluate.{split.name}.unseen",
                    names,
                    f"classes that no labelled stream holds; stream {stream!r} holds them",
                )

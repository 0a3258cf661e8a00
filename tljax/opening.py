"""What a config's streams, tables and evaluations name, opened."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tljax import evaluate
from tljax.data import semantics, sources, streams, transforms
from tljax.errors import UserError, unknown, wrong
from tljax.evaluate import READOUTS, Split

STREAM: dict[str, Any] = {
    "data": "",
    "split": "train",
    "labelled": True,
    "classes": None,
    "per_class": None,
    "seed": None,
    "size": None,
    "channels": None,
    "of": "",
    "neighbour": False,
    "transforms": (),
    "batch": 64,
    "stem": "",
}
"""The fields of a stream and their defaults. `classes` keeps those alone, by name or number; `seed`
is of the few-shot draw, None for the run's. A stream `of` another shows the same examples, in the
same step, through transforms and a stem of its own; or, with `neighbour`, for each of them one of
the nearest neighbours that the preparation `neighbours` found."""

EVALUATION: dict[str, Any] = {
    **{k: v for k, v in STREAM.items() if k not in ("per_class", "seed", "of", "neighbour")},
    "batch": 256,
    "head": "label",
    "statistics": None,
    "phase": "",
    "readout": "logits",
    "table": "",
    "unseen": (),
    "among": "all",
    "calibrate": "",
    "top": 10,
    "validation": False,
}
"""The fields of an evaluation and their defaults. `statistics` is the stream whose batch statistics
are used where each stream keeps its own; None: the stream of the evaluation's name. `phase` is the
one whose result is judged; "": the last. `readout` makes class scores of the head's outputs, with
`table`; `unseen` classes were in no labelled stream, and `among` says which compete: "all" of
`classes`, or the "unseen" ones. `calibrate` names the evaluation on which the factor of calibrated
stacking is chosen; `top` is ConSE's number of seen classes. `validation` says that a choice between
runs may read its labels."""

TABLE: dict[str, Any] = {
    "data": "",
    "like": "",
    "standardise": False,
    "normalise": False,
    "permute": None,
}
"""The fields of a class × attribute table and their defaults. Its rows are the classes of the
stream or evaluation `like`, "" for the first one that has classes; `permute` is the seed of a
permutation of its rows: a control."""


class Data(NamedTuple):
    """The tables of an experiment: streams' and evaluations', by name; and class × attributes."""

    streams: dict[str, sources.Table]
    splits: dict[str, Split]
    tables: dict[str, np.ndarray]
    placed: dict[int, Any]  # a table's identity -> its arrays on the device, which streams share


def complete(given: Any, defaults: Mapping[str, Any], field: str) -> dict[str, Any]:
    """`given` with the defaults filled in; an unknown field is refused."""
    if not isinstance(given, Mapping):
        raise wrong(field, given, f"dict(...) of the fields {', '.join(sorted(defaults))}")
    for name in given:
        if name not in defaults:
            raise unknown(field, name, defaults)
        if isinstance(defaults[name], bool) and not isinstance(given[name], bool):
            raise wrong(f"{field}.{name}", given[name], "True or False")
    return {**defaults, **given}


def open_data(
    config: Mapping[str, Any],
    opened_before: dict[str, sources.Table] | None = None,
    placed: dict[int, Any] | None = None,
) -> Data:
    """Loads what the streams and evaluations name; small sets are decoded, large ones stay lazy.

    Args:
      config: resolved.
      opened_before, placed: what other experiments of a sweep have opened and put on the device;
        both are added to.
    """
    limit = int(config["resident_megabytes"] * 2**20)
    shared = {} if opened_before is None else opened_before

    def table(fields: Mapping[str, Any], field: str) -> sources.Table:
        arguments = dict(
            labelled=fields["labelled"],
            classes=fields["classes"],
            per_class=fields.get("per_class"),
            seed=_seed(fields, config),
            size=fields["size"],
            channels=fields["channels"],
            root=config["data_dir"] or None,
        )
        same = repr((fields["data"], fields["split"], sorted(arguments.items())))
        if same not in shared:
            opened = sources.load(
                fields["data"], fields["split"], field=f"{field}.data", **arguments
            )
            shared[same] = sources.materialise(opened, limit)
        return shared[same]

    given = {name: stream_fields(name, config["streams"]) for name in config["streams"]}
    opened = {}
    for name, fields in given.items():
        if not fields["of"]:
            opened[name] = table(fields, f"streams.{name}")
            streams.check_batch(fields["batch"], len(opened[name]), f"streams.{name}.batch")
    opened = {name: opened[fields["of"] or name] for name, fields in given.items()}
    evaluations = {}
    for name, each in config["evaluate"].items():
        field = f"evaluate.{name}"
        if name == "train":
            raise wrong("evaluate", name, "another name: the records of training have this one")
        fields = complete(each, EVALUATION, field)
        evaluations[name] = (fields, table(fields, field))
    tables = _tables(config, {**opened, **{n: t for n, (_, t) in evaluations.items()}})
    splits = {
        name: _split(name, fields, opened_as, config, tables)
        for name, (fields, opened_as) in evaluations.items()
    }
    for name, split in splits.items():
        if split.calibrate and split.calibrate not in splits:
            raise unknown(f"evaluate.{name}.calibrate", split.calibrate, splits)
        evaluate.check(split, f"evaluate.{name}")
        if split.calibrate:
            evaluate.check_calibration(split, splits[split.calibrate], f"evaluate.{name}")
    return Data(opened, splits, tables, {} if placed is None else placed)


def _seed(fields: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    """The seed of a few-shot draw; the same for all runs where nothing is drawn."""
    if fields.get("seed") is not None:
        return fields["seed"]
    return 0 if fields.get("per_class") is None else config["seed"]


def stream_fields(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a stream, completed; those of one `of` another are checked against it."""
    field = f"streams.{name}"
    fields = complete(given[name], STREAM, field)
    of = fields["of"]
    if not of:
        if fields["neighbour"]:
            raise wrong(f"{field}.neighbour", True, "of= a stream whose neighbours are shown")
        return fields
    if of not in given or of == name:
        raise unknown(f"{field}.of", of, [other for other in given if other != name])
    base = complete(given[of], STREAM, f"streams.{of}")
    if base["of"]:
        raise wrong(f"{field}.of", of, "a stream with data of its own")
    for other in given[name]:
        if other == "batch" and fields["batch"] != base["batch"]:
            raise wrong(f"{field}.batch", fields["batch"], f"{base['batch']}, that of {of!r}")
        if other not in ("of", "neighbour", "transforms", "stem", "batch"):
            raise wrong(f"{field}.{other}", given[name][other], f"nothing: its data is {of!r}'s")
    own = {key: fields[key] for key in ("of", "neighbour", "transforms", "stem")}
    return {**base, **own}


def stream(
    name: str,
    fields: Mapping[str, Any],
    field: str,
    network: Mapping[str, Any],
    classes: tuple = (),
) -> tuple[streams.Stream, Any]:
    """What is static of a stream or evaluation, and the numbers of its transforms."""
    static, numbers = transforms.parse(fields["transforms"], f"{field}.transforms")
    if fields["stem"] and fields["stem"] not in network["stems"]:
        raise unknown(f"{field}.stem", fields["stem"], network["stems"])
    of, neighbour = fields.get("of", ""), fields.get("neighbour", False)
    spec = streams.Stream(
        name, fields["batch"], static, fields["stem"], of, bool(neighbour), classes
    )
    return spec, numbers


def _tables(config: Mapping[str, Any], known: Mapping[str, sources.Table]) -> dict[str, np.ndarray]:
    opened = {}
    for name, given in config["tables"].items():
        field = f"tables.{name}"
        fields = complete(given, TABLE, field)
        if fields["like"] and fields["like"] not in known:
            raise unknown(f"{field}.like", fields["like"], known)
        of = [known[fields["like"]]] if fields["like"] else list(known.values())
        classes = next((each.classes for each in of if each.classes), ())
        opened[name] = semantics.load_semantics(
            fields["data"],
            classes,
            field=f"{field}.data",
            root=config["data_dir"] or None,
            standardise=fields["standardise"],
            normalise=fields["normalise"],
            permute=fields["permute"],
        ).values
    return opened


def _split(
    name: str,
    fields: Mapping[str, Any],
    table: sources.Table,
    config: Mapping[str, Any],
    tables: Mapping[str, np.ndarray],
) -> Split:
    """An evaluation, checked."""
    field = f"evaluate.{name}"
    heads, phases = config["network"]["heads"], config["phases"] or ("train",)
    spec, numbers = stream(name, fields, field, config["network"])
    statistics = None
    if config["statistics"] == "separate":
        statistics = fields["statistics"] or name
        if statistics not in config["streams"]:
            raise unknown(f"{field}.statistics", statistics, config["streams"])
    if fields["head"] and fields["head"] not in heads:
        raise unknown(f"{field}.head", fields["head"], heads)
    for key in ("batch", "top"):
        if type(fields[key]) is not int or fields[key] < 1:
            raise wrong(f"{field}.{key}", fields[key], "an integer of at least 1")
    if fields["phase"] and fields["phase"] not in phases:
        raise unknown(f"{field}.phase", fields["phase"], phases)
    if fields["readout"] not in READOUTS:
        raise unknown(f"{field}.readout", fields["readout"], READOUTS)
    if fields["among"] not in ("all", "unseen"):
        raise unknown(f"{field}.among", fields["among"], ("all", "unseen"))
    if READOUTS[fields["readout"]] and fields["table"] not in tables:
        raise unknown(f"{field}.table", fields["table"], tables)
    unseen: tuple[int, ...] = ()
    if fields["unseen"]:
        unseen = tuple(sources.class_numbers(fields["unseen"], table.classes, f"{field}.unseen"))
    classes = tuple(sources.class_numbers(fields["classes"], table.classes, f"{field}.classes"))
    semantic = tables.get(fields["table"])
    if semantic is not None and len(semantic) != len(table.classes):
        raise UserError(
            f"{field}.table: table {fields['table']!r} has {len(semantic)} rows; expected one for "
            f"each of the {len(table.classes)} classes (tables.{fields['table']}.like={name!r})"
        )
    return Split(
        name,
        table,
        spec,
        numbers,
        head=fields["head"],
        statistics=statistics,
        phase=fields["phase"] or phases[-1],
        readout=fields["readout"],
        semantics=semantic,
        classes=classes,
        unseen=unseen,
        among=fields["among"],
        calibrate=fields["calibrate"],
        top=fields["top"],
    )


def check_unseen(data: Data, phases: Sequence[str], flows: Sequence[Sequence[str]]) -> None:
    """Refuses an evaluation whose unseen classes have been seen.

    Args:
      data: the opened data.
      phases: the names of a phase and of those before it.
      flows: the streams that flow in each of them.
    """
    for split in data.splits.values():
        if split.phase != phases[-1] or not split.unseen:
            continue
        for name in dict.fromkeys(stream for flow in flows for stream in flow or data.streams):
            labels = data.streams[name].labels if name in data.streams else None
            seen = set() if labels is None else set(np.unique(labels)) & set(split.unseen)
            if seen:
                names = [split.table.classes[label] for label in sorted(seen)]
                raise wrong(
                    f"evaluate.{split.name}.unseen",
                    names,
                    f"classes that no labelled stream holds; stream {name!r} holds them",
                )

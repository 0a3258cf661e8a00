"""The tables that streams and evaluations name: loaded, and their texts made tokens."""

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tljax.data import decoded, sources, tokens
from tljax.data.scaling import scaled
from tljax.data.table import Table
from tljax.data.texts import is_text
from tljax.errors import wrong
from tljax.experiment.check import Checked
from tljax.experiment.fields import EvaluationFields, StreamFields
from tljax.experiment.preprocessing import sound_of, view_of


@dataclasses.dataclass(frozen=True)
class Opened:
    """What several runs share, by what it is."""

    tables: dict[str, Table]
    placed: dict[int, Table]  # where tables are on the device
    tokenizers: dict[str, str] = dataclasses.field(default_factory=dict)  # as a tokenizer.json
    known: sources.Known = dataclasses.field(default_factory=sources.Known)


_AS_THEY_ARE = ("labelled", "stratified", "where", "classes", "channels", "background", "damaged")


def table_of(
    fields: StreamFields | EvaluationFields, config: Checked, field: str, opened: Opened
) -> Table:
    """Loads what a stream or evaluation names; small sets are decoded, large ones stay lazy."""
    same, table = _loaded(fields, config, field, opened)
    if not is_text(table):
        if fields.length is not None and isinstance(fields.data, str):  # not tokens at hand
            raise wrong(f"{field}.length", fields.length, "None, as the inputs are no texts")
        return table
    text = tokenizer_of(config, opened)
    if not text:
        expected = "a tokenizer.json, as no stream has texts to learn one from"
        raise wrong("tokenizer.file", config.fields.tokenizer.file, expected)
    learnt = isinstance(fields, StreamFields)
    same += repr((hashlib.sha256(text.encode()).hexdigest(), fields.length, learnt))
    if same not in opened.tables:
        tokenizer = tokens.parsed(text, "tokenizer")
        made = tokens.tokenised(table, tokenizer, fields.length, leave_out=learnt, field=field)
        opened.tables[same] = decoded.materialise(made, _limit(config), f"{field}.data")
    return opened.tables[same]


def tokenizer_of(config: Checked, opened: Opened) -> str:
    """What turns the texts of a run into tokens, as a tokenizer.json; "" where it has no texts."""
    own = config.fields.tokenizer
    path = str(Path(config.fields.data_dir, os.path.expanduser(own.file))) if own.file else ""
    learnt_from = {} if own.file else dict(_texts(config, opened))
    if not (path or learnt_from):
        return ""
    same = repr((own, path, list(learnt_from)))
    if same not in opened.tokenizers:
        if own.file:
            tokenizer = tokens.read_tokenizer(path, "tokenizer.file")
        else:
            texts = (text for table in learnt_from.values() for text in tokens.texts_of(table))
            tokenizer = tokens.learned(texts, own.vocabulary, own.lowercase)
        opened.tokenizers[same] = tokenizer.to_str()
    return opened.tokenizers[same]


def check_vocabulary(tokenizer: str, trunk: Any) -> None:
    """Refuses a trunk that has no row for some token."""
    rows = getattr(trunk, "vocabulary", None)
    size = tokens.parsed(tokenizer, "tokenizer").get_vocab_size() if tokenizer and rows else 0
    if rows is not None and size > rows:
        expected = f"at least {size}, the tokens that the tokenizer has"
        raise wrong("network.trunk.vocabulary", rows, expected)


def _texts(config: Checked, opened: Opened) -> Iterator[tuple[str, Table]]:
    """The streams that hold texts, as they are."""
    for name, stream in config.fields.streams.items():
        if not stream.of:
            same, table = _loaded(stream, config, f"streams.{name}", opened)
            if is_text(table):
                yield same, table


def _loaded(
    fields: StreamFields | EvaluationFields, config: Checked, field: str, opened: Opened
) -> tuple[str, Table]:
    """What tells a table from others, and the table, whose texts are texts still."""
    few, drawn = fields.per_class, fields.seed
    arguments: dict[str, Any] = dict(
        **{name: getattr(fields, name) for name in _AS_THEY_ARE},
        per_class=few,
        skip=getattr(fields, "skip", 0),
        # The same for all runs where nothing is drawn, so that they share it.
        seed=drawn if drawn is not None else config.fields.seed if few else 0,
        size=fields.size,
        view=view_of(fields, field),
        **sound_of(fields, config.fields.network.stems, field),
        limit_bytes=_limit(config),
        root=config.fields.data_dir or None,
    )
    same = repr((fields.data, fields.split, fields.scale, sorted(arguments.items())))
    if isinstance(fields, EvaluationFields) and fields.damaged:
        same += "readable"
    if same not in opened.tables:
        arguments |= dict(field=f"{field}.data", known=opened.known)
        table = sources.load(fields.data, fields.split, **arguments)
        if not is_text(table):
            table = decoded.materialise(table, arguments["limit_bytes"], f"{field}.data")
            if isinstance(fields, EvaluationFields):
                table = decoded.readable(table, f"{field}.data")
            table = scaled(table, fields.scale, field)
        opened.tables[same] = table
    return same, opened.tables[same]


def _limit(config: Checked) -> float:
    return config.fields.resident_megabytes * 2**20

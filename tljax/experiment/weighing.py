"""The terms of a phase, and how they are weighed against each other."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from tljax import terms
from tljax.data.table import Table, class_weights
from tljax.errors import wrong
from tljax.losses import mixing_weights
from tljax.phase.phase import Term, balance


def term_of(name: str, fields: Any, field: str, tables: Mapping[str, Table]) -> Term:
    """A term of its fields, or of its weight."""
    if isinstance(fields, int | float) and not isinstance(fields, bool):
        fields = {"weight": fields}
    if not isinstance(fields, Mapping):
        raise wrong(field, fields, "a weight, or dict(term=..., weight=..., ...)")
    fields = {"term": name, **fields}
    weights = fields.get("class_weights")
    if isinstance(weights, str) and weights == "balanced":
        table = tables.get(fields.get("stream", "source"))
        if table is None or table.label is None:
            raise wrong(f"{field}.class_weights", "balanced", "a labelled stream")
        fields["class_weights"] = tuple(class_weights(table).tolist())
    return terms.term(fields.pop("term"), field=field, **fields)


def mixed(
    named: Mapping[str, Term],
    temperature: float | None,
    tasks: tuple[str, ...],
    tables: Mapping[str, Table],
    field: str,
) -> dict[str, Term]:
    """Terms whose weights are multiplied by those of their streams' sizes.

    Args:
      named: the terms by name.
      temperature: of `losses.mixing_weights`; None: nothing is multiplied.
      tasks: the terms that are meant; (): all of one stream.
      tables: of every stream.
      field: for error messages.
    """
    streams = {n: str(dict(term.static).get("stream")) for n, term in named.items()}
    mine = [n for n, of in streams.items() if of in tables and n in (tasks or named)]
    if temperature is None:
        return dict(named)
    if len(mine) < 2:
        raise wrong(field, temperature, "two terms at least that read a stream each")
    sizes = jnp.array([len(tables[streams[name]]) for name in mine], jnp.float32)
    weights = dict(zip(mine, np.asarray(mixing_weights(sizes, temperature)).tolist(), strict=True))
    return {
        name: Term(
            term.function,
            term.static,
            {**term.numbers, "weight": term.numbers["weight"] * weights.get(name, 1.0)},
        )
        for name, term in named.items()
    }


def balance_of(fields: Mapping[str, Any]) -> Any:
    """How tasks are weighed, of the section `balance`."""
    for key, what in (("tasks", "names of terms"), ("shared", "patterns of shared parameters")):
        listed = fields.get(key, ())
        if not isinstance(listed, list | tuple) or not all(isinstance(e, str) for e in listed):
            raise wrong(f"balance.{key}", listed, f"a list of {what}")
    return balance(**fields)

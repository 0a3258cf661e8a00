"""Where a phase starts: fresh, copied, prepared."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from tljax import programs, terms, trees
from tljax.data import streams
from tljax.data.order import by_class
from tljax.data.streams import Reader
from tljax.data.table import Table
from tljax.errors import UserError, wrong
from tljax.phase import objective, prepare, transfer
from tljax.phase.evaluate import Computed
from tljax.phase.objective import KINDS
from tljax.phase.phase import Phase, numbers
from tljax.train import gradients, step


def start(
    phase: Phase,
    data: Mapping[str, Table],
    key: jax.Array,
    *,
    earlier: Mapping[str, Any] | None = None,
    readers: Mapping[str, Reader] | None = None,
    seed: int = 0,
    computed: Computed | None = None,
) -> step.State:
    """The state that a phase starts from: parameters fresh or copied, and what is prepared.

    Args:
      phase: `start` says what is copied from where, `prepare` what is fitted.
      data: stream -> its table, in memory.
      key: of all randomness of the phase: parameters, order of the data, transforms.
      earlier: name -> variables `{"params", "batch_stats"}` that `start` may name, the phase before
        last.
      readers: stream -> what reads it from disk.
      seed: of solvers that draw.
      computed: puts features that are kept in the place of what solvers read.

    Raises:
      UserError: a term that asks for what is not there; patterns or variables that do not fit.
    """
    phase, earlier, readers = numbers(phase), earlier or {}, readers or {}
    data = in_memory(data)
    _check_streams(phase, data)
    _check_classes(phase, data)
    rows: Mapping[str, Any] = {}
    tables: Mapping[str, Any] = {}
    heads: Mapping[str, Any] = {}
    if phase.prepare:
        before = _variables(phase, data, readers, key, earlier)
        heads, tables, rows = _prepared(phase, before, data, readers, earlier, seed, computed)
    variables = _variables(phase, data, readers, key, earlier, tables, rows)
    if heads:
        heads = {**variables["params"].get("heads", {}), **jax.device_put(dict(heads))}
        variables["params"] = {**variables["params"], "heads": heads}
    transfer.moving(variables["params"], phase.train)
    transfer.check_still(phase, variables, earlier)
    rows = {name: dict(columns) for name, columns in rows.items()}
    for stream in phase.streams.values():
        if stream.balanced:
            places = by_class(np.asarray(data[stream.base].label))._asdict()
            rows[stream.base] = {**rows.get(stream.base, {}), streams.BY_CLASS: places}
    origin = {**variables, "tables": dict(tables), "rows": rows}
    return resumed(phase, origin, key)


def _check_streams(phase: Phase, data: Mapping[str, Table]) -> None:
    """Refuses streams whose batches their tables cannot fill."""
    first = {stream.base: stream for stream in reversed(phase.streams.values())}
    for base, stream in first.items():  # those that show the same examples take its batch
        table = data.get(base)
        if stream.balanced and (table is None or table.label is None):
            raise wrong(f"streams.{stream.name}.balanced", True, "a labelled stream in memory")
        if table is not None and not stream.balanced:
            streams.check_batch(stream.batch, len(table), f"streams.{stream.name}.batch")


def _check_classes(phase: Phase, data: Mapping[str, Table]) -> None:
    """Refuses streams whose labels meet at a head under other names or numbers."""
    first: dict[str, tuple[str, Table]] = {}
    for term in phase.terms.values():
        fields = dict(term.static)
        stream, head = phase.streams.get(fields.get("stream", "")), fields.get("head")
        table = data.get(stream.base) if stream and term.function not in terms.APART else None
        if table is None or not head or not (table.seen or table.labels is not None):
            continue
        name, other = first.setdefault(head, (stream.base, table))
        if other.classes != table.classes:
            expected = f"those of {name!r}, as both teach head {head!r}: tljax.data.meet(tables)"
            raise wrong(f"data[{stream.base!r}]: classes", table.classes[:20], expected)


def resumed(phase: Phase, origin: Mapping[str, Any], key: jax.Array) -> step.State:
    """The state before the first step of a phase that started from `origin`."""
    return _initial(numbers(phase), jax.device_put(origin), key)


@jax.jit
def _initial(phase: Phase, origin: Any, key: jax.Array) -> step.State:
    return step.initialise(phase, origin, key)


def in_memory(data: Mapping[str, Table]) -> dict[str, Table]:
    """The tables on the device; those that are there already stay as they are.

    Raises:
      UserError: a table whose inputs are still to be decoded.
    """
    for name, table in data.items():
        if not isinstance(table, Table):
            raise wrong(f"data[{name!r}]", type(table).__name__, "a tljax.Table(input=..., ...)")
        if not table.resident:
            raise wrong(f"data[{name!r}]", table, "a table in memory: tljax.data.load")
    return {name: jax.device_put(table) for name, table in data.items()}


def _prepared(
    phase: Phase,
    variables: Mapping[str, Any],
    data: Mapping[str, Table],
    readers: Mapping[str, Reader],
    earlier: Mapping[str, Any],
    seed: int,
    computed: Computed | None,
) -> prepare.Prepared:
    known = list(earlier.values())[-1]["params"].get("heads", {}) if earlier else {}
    params = variables["params"]
    params = {**params, "heads": {**known, **params.get("heads", {})}}
    tables = {**{name: reader.table for name, reader in readers.items()}, **data}
    shown = {name: tables[stream.base] for name, stream in phase.streams.items()}
    batch_stats = variables["batch_stats"]
    context = prepare.Context(phase, params, batch_stats, shown, dict(phase.tables), seed, computed)
    fitted = prepare.run(context)
    for name in fitted.rows:
        if name not in data:
            raise wrong("prepare", name, "a stream that fits into resident_megabytes")
    return fitted


def check(
    phase: Phase,
    data: Mapping[str, Table],
    readers: Mapping[str, Reader],
    key: jax.Array,
    earlier: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The shapes of the variables that a phase without preparations starts from.

    Args:
      phase, data, readers, key: see `start`.
      earlier: the shapes of those that it may start from; None where they are not known yet.

    Raises:
      UserError: terms, starts or moving parameters that ask for what is not there.
    """
    phase, names = numbers(phase), tuple(earlier or ())
    if earlier is None:
        phase = phase.changed(start=())

    def made(earlier: Mapping[str, Any]) -> dict[str, Any]:
        in_order = {name: earlier[name] for name in names}
        return _variables(phase, data, readers, key, in_order, {})

    shapes = jax.eval_shape(made, dict(earlier or {}))
    if earlier is not None:
        transfer.moving(shapes["params"], phase.train)
        transfer.check_still(phase, shapes, earlier)
    return shapes


def _rowless(data: Mapping[str, Table], readers: Mapping[str, Reader]) -> dict[str, Table]:
    """What terms may know of all tables without their columns."""
    tables = {**{name: reader.table for name, reader in readers.items()}, **data}
    return {name: table.like({}) for name, table in tables.items()}


def blank(
    phase: Phase,
    data: Mapping[str, Table],
    readers: Mapping[str, Reader],
    rows: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A batch of zeros, as the phase's terms see it; where they need none, without neighbours."""
    sizes = {stream.base: stream.batch for stream in phase.streams.values()}
    sizes |= {name: stream.batch for name, stream in phase.streams.items() if name in readers}
    examples = {}
    for name, size in sizes.items():
        if name in readers:
            table = readers[name].blank()
            columns = dict(table.columns)
        elif name in data:
            table = data[name]
            columns = {
                key: np.zeros((size, *leaf.shape[1:]), leaf.dtype)
                for key, leaf in table.columns.items()
            }
        else:
            raise UserError(f"data: stream {name!r} has none; expected a table for each stream")
        examples[name] = table.like({**columns, streams.NEIGHBOURS: np.zeros((size, 1), np.int32)})
    firsts = {n: t.like({k: v[:1] for k, v in t.columns.items()}) for n, t in data.items()}
    arguments = (phase.streams, firsts, rows or {}, examples, np.int32(0), jax.random.key(0))
    batch = jax.eval_shape(streams.batch_of, *arguments)
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), batch)


def _variables(
    phase: Phase,
    data: Mapping[str, Table],
    readers: Mapping[str, Reader],
    key: jax.Array,
    earlier: Mapping[str, Any],
    tables: Mapping[str, Any] | None = None,
    rows: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The variables that a phase starts from, before anything is prepared.

    Without `tables`, of a phase whose terms may ask for what is still to be prepared.
    """
    lenient = tables is None
    phase = phase.changed(tables={**phase.tables, **(tables or {})}, prepare={})
    if lenient:
        phase = phase.changed(terms={}, balance=None)
    batch = blank(phase, data, readers, rows)
    copies = {name: {kind: tree[kind] for kind in KINDS} for name, tree in earlier.items()}
    key = jax.random.fold_in(key, 1)
    return _first(phase, _rowless(data, readers), batch, key, copies, tuple(earlier), lenient)


@functools.partial(programs.once, static_argnums=(5, 6))
def _first(
    phase: Phase,
    tables: Mapping[str, Table],
    batch: Any,
    key: jax.Array,
    earlier: Mapping[str, Any],
    order: tuple[str, ...],
    lenient: bool,
) -> dict[str, Any]:
    """One program, where every leaf by itself would be compiled for its shape."""
    fresh = objective.initialise(phase, batch, tables, key, gradients.learned(phase))
    copied = {}
    earlier = {name: earlier[name] for name in order}  # jit has sorted the names
    for kind in KINDS:
        before = {name: variables[kind] for name, variables in earlier.items()}
        rules = transfer.origins(phase, kind, fresh[kind], earlier)
        if kind == "batch_stats" or lenient:
            rules = _reaching(rules, fresh[kind])
        else:  # what is for statistics alone
            statistics = _reaching(rules, fresh["batch_stats"])
            meant = _reaching(rules, fresh[kind])
            rules = tuple(rule for rule in rules if rule in meant or rule not in statistics)
        empty = not jax.tree.leaves(fresh[kind])
        copied[kind] = fresh[kind] if empty else transfer.start(fresh[kind], before, rules)
    return copied


def _reaching(rules: trees.Rules, tree: Any) -> trees.Rules:
    """The rules that match something: a pattern for parameters need not match a statistic."""
    paths = list(trees.flatten(tree))
    return tuple(r for r in rules if any(trees.match(r[0], path) for path in paths))

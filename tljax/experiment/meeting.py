"""Where the classes of streams and evaluations meet: at the heads and tables that read labels."""

from collections.abc import Iterable, Iterator, Mapping

from tljax import terms
from tljax.bind import defaults, find
from tljax.data.classes import meet
from tljax.data.table import Table
from tljax.errors import UserError, warn
from tljax.experiment.check import Checked
from tljax.phase import prepare
from tljax.phase.scoring import READOUTS
from tljax.phase.transfer import outside


def met(
    config: Checked,
    tables: Mapping[str, Table],
    judged: Mapping[str, Table],
    shared: dict[str, Table],
) -> tuple[dict[str, Table], dict[str, Table], dict[str, tuple[str, ...]]]:
    """The tables of streams and of evaluations, those that meet with one list of classes; and the
    names of the outputs of every head that labels meet at.

    Args:
      config: checked.
      tables, judged: of streams and of evaluations, by name.
      shared: what other runs have met; added to.

    Raises:
      UserError: classes that do not fit together; see `data.classes.meet`.
    """
    of_stream = {name: stream.of or name for name, stream in config.fields.streams.items()}
    known = {f"streams.{name}": tables[name] for name in dict.fromkeys(of_stream.values())}
    known |= {f"evaluate.{name}": table for name, table in judged.items()}
    points: dict[tuple[str, str], set[str]] = {}
    for name, point in _meetings(config, of_stream, known):
        points.setdefault(point, set()).add(name)
    by_logits = {
        f"evaluate.{name}"
        for name, fields in config.fields.evaluate.items()
        if fields.readout == "logits"
    }
    for group in _connected(points.values()):
        members = {name: table for name, table in known.items() if name in group}
        if len({table.classes for table in members.values() if table.classes}) < 2:
            continue
        for name, table in meet(members, by_logits).items():
            same = f"{id(known[name])} as {table.classes}"  # for all runs, so that they share it
            known[name] = shared.setdefault(same, table)
    _say_untrained(config, points, known, by_logits)
    heads = {
        head: next((known[name].classes for name in known if name in names), ())
        for (kind, head), names in points.items()
        if kind == "head"
    }
    return (
        {name: known[f"streams.{of}"] for name, of in of_stream.items()},
        {name: known[f"evaluate.{name}"] for name in judged},
        {head: classes for head, classes in heads.items() if classes},
    )


def _say_untrained(
    config: Checked,
    points: Mapping[tuple[str, str], set[str]],
    known: Mapping[str, Table],
    by_logits: Iterable[str],
) -> None:
    """Says which classes of an evaluation no stream teaches its head, but another run perhaps."""
    if any(outside(str(origin)) for p in config.phases.values() for _, origin in p.start):
        return
    for name in by_logits:
        head = config.fields.evaluate[name.partition(".")[2]].head
        others = points.get(("head", head), set()) - set(by_logits)
        taught = {number for other in others for number in known[other].seen}
        lacking = [number for number in known[name].seen if number not in taught]
        if taught and lacking:
            names = ", ".join(repr(known[name].classes[number]) for number in lacking[:10])
            warn(f"{name}: no stream teaches head {head!r} its {len(lacking)} classes {names}")


def _meetings(
    config: Checked, of_stream: Mapping[str, str], known: Mapping[str, Table]
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Where classes meet: (a stream or evaluation, the head or table that reads its labels).

    What names one stream and a head, or a table, reads the one by the labels of the other.
    """
    for fields in config.phases.values():
        for parts, key, registry, apart in (
            (fields.terms, "term", terms.TERMS, terms.APART),
            (fields.prepare, "solver", prepare.PREPARATIONS, prepare.APART),
        ):
            for name, part in parts.items():
                part = {key: name, **(part if isinstance(part, Mapping) else {})}
                try:
                    function = find(part[key], registry, name)
                    part = {**defaults(function), **part}
                except (UserError, TypeError, ValueError):
                    continue  # it is refused where it is read
                stream = part.get("stream")
                if function in apart or not isinstance(stream, str) or stream not in of_stream:
                    continue
                for kind in ("head", "table"):
                    if isinstance(part.get(kind), str) and part[kind]:
                        yield f"streams.{of_stream[stream]}", (kind, part[kind])
    for name, evaluation in config.fields.evaluate.items():
        if READOUTS.get(evaluation.readout):
            yield f"evaluate.{name}", ("table", evaluation.table)
        if evaluation.readout in ("logits", "conse") and evaluation.head:
            yield f"evaluate.{name}", ("head", evaluation.head)
    for name, table in config.fields.tables.items():
        like = [f"{kind}.{table.like}" for kind in ("evaluate", "streams")]
        like = [place for place in like if place in known] if table.like else []
        yield from ((place, ("table", name)) for place in like[:1])


def _connected(groups: Iterable[set[str]]) -> list[set[str]]:
    """Groups that share a member, joined."""
    joined: list[set[str]] = []
    for group in groups:
        apart = [other for other in joined if not other & group]
        joined = [*apart, group.union(*(other for other in joined if other & group))]
    return joined

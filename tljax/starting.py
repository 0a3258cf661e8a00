"""Where a phase starts: fresh, copied, prepared."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tljax import objective, prepare, transfer, trees
from tljax.assembly import place, rules
from tljax.data import streams
from tljax.errors import wrong
from tljax.opening import Data
from tljax.train import step
from tljax.train.checkpoint import final
from tljax.train.loop import Phase

KINDS = ("params", "batch_stats")
RUN = "run:"


def begin(
    phase: Phase, fields: Mapping[str, Any], earlier: Mapping[str, Any], data: Data, seed: int = 0
) -> tuple[Phase, step.State]:
    """A phase with what was prepared for it, and the state that it starts from.

    Args:
      phase: the phase.
      fields: its fields: `start` says what is copied from where, `prepare` what is fitted.
      earlier: phase name -> {"params", "batch_stats"} of the phases before, in order.
      data: the opened data.
      seed: of solvers that draw.
    """
    given = rules(fields["start"], place(phase.name, "start"))
    earlier = {**_runs(given, place(phase.name, "start")), **earlier}
    if fields["prepare"]:
        first = phase.plan._replace(objective=phase.plan.objective._replace(terms=()), balance=None)
        variables = _variables(first, phase, given, earlier, lenient=True)
        phase, fitted = _prepared(phase, fields, variables, earlier, data, seed)
    variables = _variables(phase.plan, phase, given, earlier)
    if fields["prepare"] and fitted.heads:
        heads = {**variables["params"].get("heads", {}), **jax.device_put(dict(fitted.heads))}
        variables = {**variables, "params": {**variables["params"], "heads": heads}}
    moves = place(phase.name, "train")
    transfer.moving(variables["params"], rules(fields["train"], moves), moves)
    return phase, _initial(phase.plan, variables["params"], variables["batch_stats"])


_initial = jax.jit(step.initialise, static_argnums=0)


def _runs(given: trees.Rules, field: str) -> dict[str, Any]:
    """The final variables of the runs that rules name as `run:WORKDIR`."""
    found = {}
    for i, (_, origin) in enumerate(given):
        if not isinstance(origin, str):
            raise wrong(f"{field}[{i}]", origin, "'fresh', an earlier phase or 'run:WORKDIR'")
        if origin.startswith(RUN):
            variables = final(Path(origin.removeprefix(RUN)))
            if variables is None:
                raise wrong(f"{field}[{i}]", origin, "run:WORKDIR of a run that has a checkpoint")
            found[origin] = variables
    return found


def _prepared(
    phase: Phase,
    fields: Mapping[str, Any],
    variables: Mapping[str, Any],
    earlier: Mapping[str, Any],
    data: Data,
    seed: int,
) -> tuple[Phase, prepare.Prepared]:
    spec = phase.plan.objective
    numbers = jax.device_get(phase.hyper["streams"])
    known = list(earlier.values())[-1]["params"].get("heads", {}) if earlier else {}
    context = prepare.Context(
        spec.network,
        {**variables["params"], "heads": {**known, **variables["params"].get("heads", {})}},
        variables["batch_stats"],
        {s.name: (s, numbers[s.name], data.streams[s.name]) for s in spec.streams},
        data.tables,
        spec.separate,
        seed,
    )
    _, fitted = prepare.run(fields["prepare"], place(phase.name, "prepare"), context)
    resident = dict(phase.resident)
    for name, rows in fitted.rows.items():
        if name not in resident:
            raise wrong(
                place(phase.name, "prepare"), name, "a stream that fits into resident_megabytes"
            )
        resident[name] = {**resident[name], **jax.device_put(dict(rows))}
    tables = {**phase.hyper["tables"], **jax.device_put(dict(fitted.tables))}
    return phase._replace(resident=resident, hyper={**phase.hyper, "tables": tables}), fitted


def _variables(
    plan: step.Plan,
    phase: Phase,
    given: trees.Rules,
    earlier: Mapping[str, Any],
    lenient: bool = False,
) -> dict[str, Any]:
    """The variables that a phase starts from, before anything is prepared."""
    key = jax.random.fold_in(phase.hyper["key"], 1)
    return _first(
        plan,
        given,
        place(phase.name, "start"),
        lenient,
        tuple(earlier),
        phase.hyper["terms"],
        phase.hyper["tables"],
        blank(phase),
        key,
        {name: {kind: each[kind] for kind in KINDS} for name, each in earlier.items()},
    )


def check(phase: Phase) -> None:
    """Refuses terms that ask for what is not there, without computing anything."""
    jax.eval_shape(
        functools.partial(objective.initialise, phase.plan.objective),
        phase.hyper["terms"],
        blank(phase),
        phase.hyper["key"],
        phase.hyper["tables"],
    )


def blank(phase: Phase) -> dict[str, Any]:
    """A batch of zeros, as the phase's terms see it; where they need none, without neighbours."""
    specs = phase.plan.objective.streams
    resident = {
        name: {key: leaf[:1] for key, leaf in arrays.items()}
        for name, arrays in phase.resident.items()
    }
    sizes = {spec.of or spec.name: spec.batch for spec in specs}
    examples = {
        name: jax.tree.map(lambda leaf, n=size: np.zeros((n, *leaf.shape[1:]), leaf.dtype), rows)
        for name, size in sizes.items()
        for rows in [resident[name] if name in resident else phase.readers[name][0]]
    }
    examples = {
        name: {**rows, streams.NEIGHBOURS: np.zeros((sizes[name], 1), np.int32)}
        for name, rows in examples.items()
    }
    batch = jax.eval_shape(
        functools.partial(streams.batch_of, specs),
        phase.hyper["streams"],
        resident,
        examples,
        np.int32(0),
        phase.hyper["key"],
    )
    return jax.tree.map(lambda each: np.zeros(each.shape, each.dtype), batch)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _first(
    plan: step.Plan,
    given: trees.Rules,
    field: str,
    lenient: bool,
    order: tuple[str, ...],
    numbers: Any,
    tables: Any,
    batch: Any,
    key: jax.Array,
    earlier: Mapping[str, Any],
) -> dict[str, Any]:
    """One program, where every leaf by itself would be compiled for its shape."""
    scalars = plan.balance.scalars if plan.balance else ()
    fresh = objective.initialise(plan.objective, numbers, batch, key, tables, scalars)
    found = {}
    for kind in KINDS:
        before = {name: earlier[name][kind] for name in order}  # jit has sorted the names
        # The trunk keeps statistics of each stream by itself where they are "separate".
        new = transfer.NEW if kind == "params" else (*transfer.NEW, "trunk")
        own: trees.Rules = given or transfer.usual(fresh[kind], before, new)
        if kind == "batch_stats" or lenient:
            own = _reaching(own, fresh[kind])
        else:  # what is for statistics alone
            statistics = _reaching(own, fresh["batch_stats"])
            meant = _reaching(own, fresh[kind])
            own = tuple(each for each in own if each in meant or each not in statistics)
        if jax.tree.leaves(fresh[kind]):
            found[kind] = transfer.start(fresh[kind], before, own, field)
        else:
            found[kind] = fresh[kind]
    return found


def _reaching(given: trees.Rules, tree: Any) -> trees.Rules:
    """The rules that match something: a pattern for parameters need not match a statistic."""
    paths = list(trees.flatten(tree))
    return tuple(r for r in given if any(trees.match(r[0], path) for path in paths))

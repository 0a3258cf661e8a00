"""What a phase starts from and which of its parameters move, as ordered patterns on paths."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax

from tljax import trees
from tljax.errors import UserError, unknown
from tljax.phase.phase import Phase

FRESH = "fresh"
NEW = ("adapters", "heads", "scalars", "stems")


def outside(origin: str) -> bool:
    """Whether an origin lies outside the run, "run:WORKDIR" say; no phase's name has a colon."""
    return ":" in origin


def usual(fresh: Any, earlier: Mapping[str, Any], new: Sequence[str] = NEW) -> trees.Rules:
    """The rules of a phase that gives none: all that the phase before has, new modules fresh.

    Args:
      fresh: the phase's newly initialised parameters.
      earlier: phase name -> its final parameters, in order; without one, all is fresh.
      new: where what the phase before lacks is new; elsewhere it is missing.
    """
    if not earlier:
        return (("**", FRESH),)
    name, before = list(earlier.items())[-1]
    held = trees.flatten(before)
    paths = [path for path in trees.flatten(fresh) if path not in held]
    return (*((path, FRESH) for path in paths if path.split("/")[0] in new), ("**", name))


def origins(phase: Phase, kind: str, fresh: Any, earlier: Mapping[str, Any]) -> trees.Rules:
    """Where a phase's "params" or "batch_stats" start from: its own rules, or the usual ones.

    Args:
      phase: whose `start` it is.
      kind: of the variables.
      fresh: those of the phase.
      earlier: phase name -> variables `{"params", "batch_stats"}`.
    """
    # The trunk keeps statistics of each stream by itself where they are "separate".
    new = NEW if kind == "params" else (*NEW, "trunk")
    return phase.start or usual(fresh, {name: tree[kind] for name, tree in earlier.items()}, new)


def _origin(path: str, rules: trees.Rules) -> str:
    """Where a leaf is from; what no rule names has been prepared."""
    return next((origin for pattern, origin in rules if trees.match(pattern, path)), FRESH)


def start(fresh: Any, earlier: Mapping[str, Any], rules: trees.Rules, field: str = "start") -> Any:
    """A phase's first parameters: each leaf fresh, or copied from an earlier phase.

    Args:
      fresh: the phase's newly initialised variables.
      earlier: the final variables of earlier phases, by phase name.
      rules: `((pattern, "fresh" or the name of an earlier phase), ...)`; the first match wins.
      field: where the rules were given, for error messages.

    Returns:
      A tree like `fresh`.

    Raises:
      UserError: an unknown phase; a pattern without a match; a leaf that the earlier phase lacks
        or has in another shape (all of them are listed).
    """
    for i, (_, origin) in enumerate(rules):
        if origin != FRESH and origin not in earlier:
            raise unknown(f"{field}[{i}]", origin, (FRESH, *earlier))
    origins = trees.flatten(trees.label(fresh, rules, field))
    leaves = trees.flatten(fresh)
    sources = {name: trees.flatten(tree) for name, tree in earlier.items()}
    for name, source in sources.items():
        wanted = {path: leaves[path] for path, origin in origins.items() if origin == name}
        lines = [line for line in trees.differences(wanted, source) if not line.startswith("+")]
        if lines:
            paths = [line.split()[1].split("/") for line in lines]
            heads = sorted({f"{path[0]}/{path[1]}/**" for path in paths if path[0] == "heads"})
            patterns = ", ".join(f"({pattern!r}, {FRESH!r})" for pattern in heads)
            which = f"with rules like {patterns}" if heads else f"with a rule (pattern, {FRESH!r})"
            raise UserError(
                f"{field}: {'' if outside(name) else 'phase '}{name!r} does not hold what is to be "
                f"copied from it (- missing, ! other shape): {'; '.join(lines)}. "
                f"Name these {which} before the others."
            )
    values = [leaves[p] if o == FRESH else sources[o][p] for p, o in origins.items()]
    return jax.tree.unflatten(jax.tree.structure(fresh), values)


def still(phase: Phase, params: Any, batch_stats: Any) -> frozenset[str]:
    """The paths of the modules whose running statistics stay: those of which no parameter moves.

    Statistics go with the parameters of their module; where it has none, with those of the module
    around it. `phase.freeze_statistics` may say that all stay, or none.
    """
    holders = frozenset(path.rpartition("/")[0] for path in trees.flatten(batch_stats))
    if phase.freeze_statistics is not None or not holders:
        return holders if phase.freeze_statistics else frozenset()
    moves = trees.flatten(moving(params, phase.train))
    return frozenset(h for h in holders if not any(moves[path] for path in _owned(h, moves)))


def _owned(holder: str, paths: Iterable[str]) -> list[str]:
    """The parameters under the longest part of a path that has some."""
    parts = holder.split("/")
    around = ["".join(f"{part}/" for part in parts[:depth]) for depth in range(len(parts), -1, -1)]
    under = ([path for path in paths if path.startswith(each)] for each in around)
    return next((owned for owned in under if owned), [])


def check_still(phase: Phase, variables: Mapping[str, Any], earlier: Mapping[str, Any]) -> None:
    """Refuses fresh statistics that would stay so, in a frozen module whose parameters are copied.

    Args:
      phase: in which they would.
      variables: that it starts from.
      earlier: see `origins`.
    """
    if phase.freeze_statistics is not None or not earlier:
        return
    kinds = ("params", "batch_stats")
    of_params, rules = (origins(phase, kind, variables[kind], earlier) for kind in kinds)
    stay = still(phase, variables["params"], variables["batch_stats"])
    known = list(trees.flatten(variables["params"]))
    for path in trees.flatten(variables["batch_stats"]):
        holder = path.rpartition("/")[0]
        copied = any(_origin(parameter, of_params) != FRESH for parameter in _owned(holder, known))
        if holder in stay and copied and _origin(path, rules) == FRESH:
            raise UserError(
                f"freeze_statistics: got None, and {holder!r} is frozen with fresh statistics, "
                "which would stay so; expected False, that they move, or a start that has them"
            )


def moving(params: Any, train: Mapping[str, Any], field: str = "train") -> Any:
    """Which parameters move: a tree of booleans, false where the first match is frozen.

    Only the moving leaves are differentiated and have optimiser state, so that a frozen layer
    costs neither a backward pass nor memory, whatever else is logged.

    Args:
      params: the parameters.
      train: pattern -> factor on the learning rate; None freezes.
      field: where it was given, for error messages.

    Raises:
      UserError: see `trees.label`; or nothing moves.
    """
    factors = [(p, False if factor is None else factor) for p, factor in train.items()]
    mask = jax.tree.map(lambda factor: factor is not False, trees.label(params, factors, field))
    if not any(jax.tree.leaves(mask)):
        raise UserError(f"{field}: {tuple(train)!r} freezes every parameter; nothing would train")
    return mask

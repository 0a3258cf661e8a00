"""What a phase starts from and which of its parameters move, as ordered patterns on paths."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from tljax import trees
from tljax.errors import UserError, unknown

FRESH = "fresh"


NEW = ("heads", "scalars", "stems")


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
            raise UserError(
                f"{field}: phase {name!r} does not hold what is to be copied from it "
                f"(- missing, ! other shape): {'; '.join(lines)}. "
                f"Name these with a rule (pattern, {FRESH!r}) before the others."
            )
    values = [leaves[p] if o == FRESH else sources[o][p] for p, o in origins.items()]
    return jax.tree.unflatten(jax.tree.structure(fresh), values)


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

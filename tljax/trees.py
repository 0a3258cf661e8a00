"""Parameter trees by path: match, label, select, combine, compare, count.

A path joins the keys of a leaf with "/": `trunk/conv_0/kernel`. A pattern matches whole segments:
`*`, `?` and `[...]` inside one segment, `**` any number of segments. In a list of rules
`((pattern, value), ...)` the first match wins.
"""

import fnmatch
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from tljax.errors import UserError

Rules = Sequence[tuple[str, Any]]


def flatten(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by path, in the tree's own order."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def match(pattern: str, path: str) -> bool:
    """Whether the whole of `path` matches `pattern`, segment by segment."""
    return _match(pattern.split("/"), path.split("/"))


def _match(pattern: list[str], path: list[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_match(pattern[1:], path[i:]) for i in range(len(path) + 1))
    return bool(path) and fnmatch.fnmatchcase(path[0], pattern[0]) and _match(pattern[1:], path[1:])


def label(tree: Any, rules: Rules, field: str) -> Any:
    """The tree with every leaf replaced by the value of the first rule that matches its path.

    Args:
      tree: any pytree of nested dictionaries.
      rules: `((pattern, value), ...)`.
      field: where the rules were given, for error messages.

    Returns:
      A tree of the same structure.

    Raises:
      UserError: a pattern that matches no path, or a path that no pattern matches.
    """
    paths = list(flatten(tree))
    for pattern, _ in rules:
        if not any(match(pattern, path) for path in paths):
            raise UserError(
                f"{field}: pattern {pattern!r} matches no parameter; the paths are: "
                + ", ".join(paths)
            )
    values = []
    for path in paths:
        hits = [value for pattern, value in rules if match(pattern, path)]
        if not hits:
            raise UserError(
                f"{field}: no pattern matches parameter {path!r}; add a last rule ('**', …)"
            )
        values.append(hits[0])
    return jax.tree.unflatten(jax.tree.structure(tree), values)


def partition(tree: Any, mask: Any) -> tuple[Any, Any]:
    """(leaves where the mask is true, the others); None stands for what is in the other half."""
    kept = jax.tree.map(lambda leaf, keep: leaf if keep else None, tree, mask)
    rest = jax.tree.map(lambda leaf, keep: None if keep else leaf, tree, mask)
    return kept, rest


def combine(kept: Any, rest: Any) -> Any:
    """The tree that `partition` took apart."""
    return jax.tree.map(
        lambda one, other: other if one is None else one, kept, rest, is_leaf=lambda x: x is None
    )


def differences(expected: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """What keeps two flat trees from being alike: `- missing`, `+ unexpected`, `! shapes`."""
    lines = [f"- {path}" for path in expected if path not in given]
    lines += [f"+ {path}" for path in given if path not in expected]
    for path in expected:
        if path in given and expected[path].shape != given[path].shape:
            lines.append(f"! {path} {expected[path].shape} against {given[path].shape}")
    return lines


def count(tree: Any) -> int:
    """The number of elements in all leaves."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))

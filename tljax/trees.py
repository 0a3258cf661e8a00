"""Parameter trees by path: match, label, select, combine, compare, count.

A path joins the keys of a leaf with "/": `trunk/conv_0/kernel`. A pattern matches whole segments:
`*`, `?` and `[...]` inside one segment, `**` any number of segments. In a list of rules
`((pattern, value), ...)` the first match wins.
"""

import fnmatch
import math
from collections.abc import Callable, Collection, Mapping, Sequence
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


def few(paths: Collection[str], most: int = 30) -> str:
    """Paths as they stand in an error: of many, their beginnings down to the depth that fits."""
    depth = max((path.count("/") for path in paths), default=0) + 1
    shown = list(paths)
    while len(shown) > most and depth > 1:
        depth -= 1
        cut = ["/".join([*path.split("/")[:depth], "…"][: path.count("/") + 1]) for path in paths]
        shown = list(dict.fromkeys(cut))
    return ", ".join(shown)


def label(tree: Any, rules: Rules, field: str) -> Any:
    """The tree with every leaf replaced by the value of the first rule that matches its path.

    Args:
      tree: any pytree of nested dictionaries.
      rules: `((pattern, value), ...)`.
      field: where the rules were given, for error messages.

    Returns:
      A tree of the same structure.

    Raises:
      UserError: a pattern that matches no path, or never comes to its turn because those before
        it give all that it matches another value (a last `**` may: it is for the rest, if there
        is one); or a path that no pattern matches.
    """
    paths = list(flatten(tree))
    hits = [[i for i, (each, _) in enumerate(rules) if match(each, path)] for path in paths]
    for i, (pattern, value) in enumerate(rules):
        firsts = {each[0] for each in hits if i in each}
        if not firsts:
            raise UserError(
                f"{field}: pattern {pattern!r} matches no parameter; the paths are: {few(paths)}"
            )
        rest = pattern == "**" and i == len(rules) - 1
        if i not in firsts and not rest and any(_differ(rules[j][1], value) for j in firsts):
            names = " and ".join(repr(rules[j][0]) for j in sorted(firsts))
            verb = "matches" if len(firsts) == 1 else "match"
            raise UserError(
                f"{field}: pattern {pattern!r} never applies: {names} before it {verb} all that "
                "it does, with another value"
            )
    for path, each in zip(paths, hits, strict=True):
        if not each:
            raise UserError(
                f"{field}: no pattern matches parameter {path!r}; add a last rule ('**', …)"
            )
    values = [rules[each[0]][1] for each in hits]
    return jax.tree.unflatten(jax.tree.structure(tree), values)


def _differ(one: Any, other: Any) -> bool:
    """Whether two values of rules are known to differ; not of numbers on the device."""
    return not isinstance(one, jax.Array) and not isinstance(other, jax.Array) and one != other


def named(tree: Any, function: Callable[[str], Any]) -> Any:
    """The tree with every leaf replaced by what a function gives for its path."""
    return jax.tree.unflatten(jax.tree.structure(tree), [function(path) for path in flatten(tree)])


def first(path: str, rules: Rules) -> tuple[str, Any]:
    """The first rule that matches a path; `label` has checked that there is one."""
    return next((pattern, value) for pattern, value in rules if match(pattern, path))


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


def over(tree: Any, other: Any, modules: Collection[str]) -> Any:
    """The tree with the leaves that `other` has directly in the modules at these paths."""
    leaves = {path: leaf for path, leaf in flatten(other).items() if _holder(path) in modules}
    mine = flatten(tree)
    return named(tree, lambda path: leaves.get(path, mine[path])) if leaves else tree


def _holder(path: str) -> str:
    return path.rpartition("/")[0]


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

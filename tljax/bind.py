"""Functions with their fields filled in: what a config, or a keyword, may say to a function.

One rule for terms, transforms, optimisers, balancers, preparations and modules alike: a parameter
whose default is a `float` is a number, a leaf, so that changing or sweeping it recompiles nothing;
every other parameter is structure, part of the compiled program's identity. What a value may be
beyond its kind stands in the parameter's annotation, as a `checks.Range` or a `Literal`.
"""

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from inspect import Parameter
from typing import Any, Literal, Self, TypeVar, get_args, get_origin

import jax
from jax.tree_util import GetAttrKey

from tljax.checks import INTEGER, NOT_NEGATIVE, REAL, Range
from tljax.errors import UserError, unknown, wrong

T = TypeVar("T")


def static(default: Any = dataclasses.MISSING) -> Any:
    """A field of a `node` that is structure, not leaves."""
    return dataclasses.field(default=default, metadata={"static": True})


def node(cls: type[T]) -> type[T]:
    """A frozen dataclass as a pytree: its fields are children, those that are `static` structure.

    As `jax.tree_util.register_dataclass`, but a tree that is put together again is not checked and
    tidied by `__post_init__` a second time, which would take a leaf that is 0 for an absent one.
    """
    fields: Any = dataclasses.fields(cls)  # type: ignore[arg-type]
    children = [field.name for field in fields if not field.metadata.get("static")]
    structure = [field.name for field in fields if field.metadata.get("static")]

    def flatten(tree: Any) -> Any:
        values = vars(tree)
        return [values[name] for name in children], tuple(values[name] for name in structure)

    def with_keys(tree: Any) -> Any:
        leaves, static = flatten(tree)
        return [(GetAttrKey(n), leaf) for n, leaf in zip(children, leaves, strict=True)], static

    def unflatten(static: Any, leaves: Any) -> Any:
        tree = object.__new__(cls)
        tree.__dict__.update(zip(children, leaves, strict=True))
        tree.__dict__.update(zip(structure, static, strict=True))
        return tree

    jax.tree_util.register_pytree_with_keys(cls, with_keys, unflatten, flatten)
    return cls


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True)
class Bound:
    """A function, its static items and its numbers: a pytree whose leaves are the numbers.

    A field is read as an attribute (`bound.margin`); a call fills all of them in.
    """

    function: Any  # called, or with parts that are
    static: tuple[tuple[str, Any], ...] = ()
    numbers: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **dict(self.static), **self.numbers, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            for fields in (self.numbers, dict(self.static)):
                if name in fields:
                    return fields[name]
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")

    def __getstate__(self) -> Any:
        return self.__dict__

    def tree_flatten_with_keys(self) -> Any:
        names = sorted(self.numbers)
        leaves = [(GetAttrKey(name), self.numbers[name]) for name in names]
        return leaves, (self.function, self.static, tuple(names))

    def tree_flatten(self) -> Any:
        leaves, structure = self.tree_flatten_with_keys()
        return [leaf for _, leaf in leaves], structure

    @classmethod
    def tree_unflatten(cls, structure: Any, leaves: Any) -> Self:
        function, static, names = structure
        return cls(function, static, dict(zip(names, leaves, strict=True)))


def bind(
    function: Callable[..., Any],
    fields: Mapping[str, Any],
    field: str,
    skip: Collection[str] = (),
) -> Bound:
    """`function` with its fields filled in; see `split` for the arguments and errors."""
    return Bound(function, *split(function, fields, field, skip))


def defaults(function: Callable, skip: Collection[str] = ()) -> dict[str, Any]:
    """What may be given to `function` by keyword, with defaults, without what is to `skip`.

    These are its keyword-only parameters, and others that have a default.
    """
    return {name: p.default for name, p in _given(function, skip).items()}


def limits(function: Callable, skip: Collection[str] = ()) -> dict[str, str]:
    """What the values of its parameters may be beyond their kind, in words; of those that say."""
    found = {name: _limit(p.annotation) for name, p in _given(function, skip).items()}
    return {
        name: str(limit) if isinstance(limit, Range) else f"one of {', '.join(map(repr, limit))}"
        for name, limit in found.items()
        if limit
    }


def _given(function: Callable, skip: Collection[str]) -> dict[str, Parameter]:
    return {
        name: p
        for name, p in _parameters(function).items()
        if name not in skip
        and p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
        and (p.kind is p.KEYWORD_ONLY or p.default is not p.empty)
    }


def _parameters(function: Callable) -> Mapping[str, Parameter]:
    """Those of a signature; none of what has no signature, as some functions written in C."""
    for evaluated in (True, False):  # an annotation may name what is not there
        try:
            return inspect.signature(function, eval_str=evaluated).parameters
        except Exception:
            continue
    return {}


def _limit(annotation: Any) -> Range | tuple[Any, ...] | None:
    """The range, or the choices of a Literal, that an annotation holds anywhere within."""
    if isinstance(annotation, Range):
        return annotation
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return parts
    return next((limit for limit in map(_limit, parts) if limit), None)


def split(
    function: Callable, fields: Mapping[str, Any], field: str, skip: Collection[str] = ()
) -> tuple[tuple[tuple[str, Any], ...], dict[str, float]]:
    """The keyword arguments of a call to `function`, as (static, traced).

    Args:
      function: what may be given to it is what `defaults` lists.
      fields: values from a config; a parameter left out takes its default.
      field: where they were given, for error messages, e.g. `transforms[0]`.
      skip: parameters that the caller fills in itself.

    Returns:
      The static arguments as hashable items sorted by name, and the numbers by name; together
      they name every parameter that has not been skipped.

    Raises:
      UserError: a name that is no parameter, a value of another kind than the default or out of
        the range in the annotation, or a parameter that has neither value nor default.
    """
    parameters = _given(function, skip)
    for name in fields:
        if name not in parameters:
            raise unknown(field, name, parameters)
    static: dict[str, Any] = {}
    numbers: dict[str, float] = {}
    for name, parameter in parameters.items():
        default, limit = parameter.default, _limit(parameter.annotation)
        if name not in fields and default is Parameter.empty:
            raise wrong(field, dict(fields), f"a value for {name!r}, which has no default")
        value = fields[name] if name in fields else default
        value = _like(default, value, f"{field}.{name}", limit)
        (numbers if isinstance(default, float) else static)[name] = value
    return tuple(sorted(static.items())), numbers


def _like(default: Any, value: Any, field: str, limit: Any = None) -> Any:
    """`value` as the kind of thing that `default` is; without a telling default, as it stands."""
    told = default is not None and default is not Parameter.empty  # by it, whether lists are meant
    of_list = isinstance(default, tuple) or (not told and isinstance(value, list | tuple))
    if isinstance(limit, tuple) and not of_list:
        if not any(type(value) is type(choice) and value == choice for choice in limit):
            raise unknown(field, value, limit)
        return value
    match default:
        case bool():
            if isinstance(value, bool):
                return value
            raise wrong(field, value, "True or False")
        case int():
            return (limit or INTEGER).fit(value, field)
        case float():
            if isinstance(value, jax.Array) and not value.shape:
                return value
            return (limit or REAL).fit(value, field)
        case str():
            if isinstance(value, str):
                return value
            raise wrong(field, value, "a string")
        case tuple() if not isinstance(value, list | tuple):
            raise wrong(field, value, "a list")
    if limit and not isinstance(default, tuple):
        return None if value is None and default is None else limit.fit(value, field)
    if isinstance(value, list | tuple):
        kinds = {type(entry) for entry in default} if isinstance(default, tuple) else set()
        entry = default[0] if len(kinds) == 1 else Parameter.empty
        return tuple(_like(entry, each, f"{field}[{i}]", limit) for i, each in enumerate(value))
    if not isinstance(value, Hashable):
        raise wrong(field, value, "a string, a number, True, False, None or a list of these")
    return value


def scalar(field: str, value: Any, limit: Range = NOT_NEGATIVE) -> Any:
    """A number of a range; one on the device is taken as it is, as it may be traced."""
    if isinstance(value, jax.Array) and not value.shape:
        return value
    return limit.fit(value, field)


def find(
    name: str | Callable,
    registry: Mapping[str, Callable],
    field: str,
    takes: Sequence[str] = (),
    also: Sequence[str] = (),
) -> Callable:
    """The function of a config name, or of an importable `package.module:function`, or given.

    Args:
      name: in the registry, importable, or the function itself.
      registry: of what is shipped.
      field: where the name was given, for error messages.
      takes: the names of the first parameters of what is not shipped; "rate|learning_rate" leaves
        a choice, "*" any.
      also: further parameters that are passed by keyword.

    Raises:
      UserError: an unknown name, a module or function that is not there, or one that cannot be
        called so. Nothing is called to find out.
    """
    function = _found(name, registry, field)
    if takes and function not in registry.values():
        _check_call(function, name, field, takes, also)
    return function


def _check_call(
    function: Callable, name: Any, field: str, takes: Sequence[str], also: Sequence[str]
) -> None:
    """Refuses a function by its signature."""
    parameters = _parameters(function)
    placed = [p for p in parameters.values() if p.kind <= Parameter.POSITIONAL_OR_KEYWORD]
    names = [p.name for p in placed[: len(takes)]]
    fits = len(names) == len(takes) and all(map(_may_be, names, takes))
    fits = fits and all(p.default is not p.empty for p in placed[len(takes) :])
    if not fits or not set(also) <= set(parameters):
        first = ", ".join({"*": "input"}.get(each, each).replace("|", " or ") for each in takes)
        keywords = ", ".join((*also, "..."))
        raise wrong(field, name, f"a function ({first}, *, {keywords}) of fields with defaults")


def _may_be(name: str, wanted: str) -> bool:
    return wanted == "*" or name in wanted.split("|")


def _found(name: Any, registry: Mapping[str, Callable], field: str) -> Callable:
    if callable(name):
        return name
    if not isinstance(name, str):
        raise wrong(field, name, f"a name, one of {', '.join(registry)}")
    if ":" not in name:
        if name not in registry:
            raise unknown(field, name, (*registry, "package.module:function"))
        return registry[name]
    module_name, _, function = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever the module does when it is run
        raise UserError(
            f"{field}: cannot import {module_name!r} of {name!r} ({error}); "
            "expected a module that can be imported from here"
        ) from error
    if not callable(getattr(module, function, None)):
        callables = [each for each in vars(module) if callable(getattr(module, each))]
        raise unknown(field, function, callables)
    return getattr(module, function)

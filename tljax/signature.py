"""What a config may say to a function: its keyword parameters, split by their defaults.

One rule for transforms, terms and optimisers alike: a parameter whose default is a `float` is
a number, traced, so that changing or sweeping it recompiles nothing; every other parameter is
static, part of the compiled program's identity.
"""

import importlib
import inspect
import math
from collections.abc import Callable, Collection, Hashable, Mapping
from numbers import Integral, Real
from typing import Any

from tljax.errors import UserError, unknown, wrong


def defaults(function: Callable, skip: Collection[str] = ()) -> dict[str, Any]:
    """What may be given to `function` by keyword, with defaults, without what is to `skip`.

    These are its keyword-only parameters, and others that have a default.
    """
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in skip
        and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and (parameter.kind is parameter.KEYWORD_ONLY or parameter.default is not parameter.empty)
    }


def split(
    function: Callable, given: Mapping[str, Any], field: str, skip: Collection[str] = ()
) -> tuple[tuple[tuple[str, Any], ...], dict[str, float]]:
    """The keyword arguments of a call to `function`, as (static, traced).

    Args:
      function: what may be given to it is what `defaults` lists.
      given: values from a config; a parameter left out takes its default.
      field: where they were given, for error messages, e.g. `transforms[0]`.
      skip: parameters that the caller fills in itself.

    Returns:
      The static arguments as hashable items sorted by name, and the numbers by name; together
      they name every parameter that has not been skipped.

    Raises:
      UserError: a name that is no parameter, a value of another kind than the default, a
        number that is not finite, or a parameter that has neither value nor default.
    """
    parameters = defaults(function, skip)
    for name in given:
        if name not in parameters:
            raise unknown(field, name, parameters)
    static: dict[str, Any] = {}
    numbers: dict[str, float] = {}
    for name, default in parameters.items():
        if name not in given and default is inspect.Parameter.empty:
            raise wrong(field, dict(given), f"a value for {name!r}, which has no default")
        value = _like(default, given.get(name, default), f"{field}.{name}")
        (numbers if isinstance(default, float) else static)[name] = value
    return tuple(sorted(static.items())), numbers


def _like(default: Any, value: Any, field: str) -> Any:
    """`value` as the kind of thing that `default` is; without a telling default, as it stands."""
    match default:
        case bool():
            if isinstance(value, bool):
                return value
            raise wrong(field, value, "True or False")
        case int():
            if isinstance(value, Integral) and not isinstance(value, bool):
                return int(value)
            raise wrong(field, value, "an integer")
        case float():
            if isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value):
                return float(value)
            raise wrong(field, value, "a finite number")
        case str():
            if isinstance(value, str):
                return value
            raise wrong(field, value, "a string")
        case tuple() if not isinstance(value, list | tuple):
            raise wrong(field, value, "a list")
    if isinstance(value, list | tuple):
        kinds = {type(entry) for entry in default} if isinstance(default, tuple) else set()
        entry = default[0] if len(kinds) == 1 else None
        return tuple(_like(entry, each, f"{field}[{i}]") for i, each in enumerate(value))
    if not isinstance(value, Hashable):
        raise wrong(field, value, "a string, a number, True, False, None or a list of these")
    return value


def find(name: str, registry: Mapping[str, Callable], field: str) -> Callable:
    """The function of a config name, or of an importable `package.module:function`.

    Raises:
      UserError: an unknown name, or a module or function that is not there.
    """
    if not isinstance(name, str) or ":" not in name:
        if name not in registry:
            raise unknown(field, name, (*registry, "package.module:function"))
        return registry[name]
    module_name, _, function = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ModuleNotFoundError, ValueError) as error:  # the latter of an empty name
        raise UserError(
            f"{field}: cannot import {module_name!r} of {name!r} ({error}); "
            "expected a module that can be imported from here"
        ) from None
    if not callable(getattr(module, function, None)):
        callables = [each for each in vars(module) if callable(getattr(module, each))]
        raise unknown(field, function, callables)
    return getattr(module, function)

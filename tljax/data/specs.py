"""What a config says of a function of data: `dict(name="shift", pixels=2)`."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from tljax.bind import Bound, bind, find
from tljax.errors import wrong


def named(
    spec: Any,
    registry: Mapping[str, Callable],
    field: str,
    takes: Sequence[str],
    also: Sequence[str] = (),
    skip: Collection[str] = (),
) -> Bound:
    """A function with its fields; `bind.find` and `bind.split` have the arguments and the errors.

    `skip` are parameters that the caller fills in beside those of `also`.
    """
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str | Callable):
        example = f'dict(name="{next(iter(registry))}", ...)'
        raise wrong(field, spec, f"a name and its parameters: {example}")
    function = find(spec["name"], registry, f"{field}.name", takes, also)
    fields = {key: value for key, value in spec.items() if key != "name"}
    return bind(function, fields, field, skip={*also, *skip})

"""Shapes and dtypes that stand in annotations, checked where a function is called.

`Raises:` in the docstring of such a function names only what it refuses beside.
"""

import functools
import inspect
import itertools
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from jaxtyping import AbstractArray, Float, Shaped, jaxtyped

from tljax import checks
from tljax.errors import UserError, wrong

_Result = TypeVar("_Result")
_Sizes = dict[str, tuple[int, str]]  # of an axis: its length, and the argument that it is from


def shaped(function: Callable[..., _Result]) -> Callable[..., _Result]:
    """`function`, whose arguments are held against jaxtyping's annotations before it runs.

    A name in a shape has one length in a call. Where the annotation is an array of numpy,
    anything array-like may come, and the function gets float64 or int64: nothing empty, every
    real number finite. Where it is an array of JAX, traced or not, it keeps its dtype, except
    that integers become real where reals are meant, and no number is looked at. In a union
    (`float | Float[Array, ""]`) what is of a plain type passes as it is; members of a tuple or a
    sequence are checked one by one. Every other annotation is left alone, that of the result too.

    Returns:
      A function of the same signature, which may raise a `UserError` of one line:
      `coral: target: got float32 [4, 2]; expected float [target, width=3 of source]`.
    """
    signature = inspect.signature(function)
    parameters = signature.parameters.items()
    annotations = {name: p.annotation for name, p in parameters if _has_shape(p.annotation)}

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> _Result:
        bound = signature.bind(*args, **kwargs)
        sizes: _Sizes = {}
        with jaxtyped("context"):
            for name, value in bound.arguments.items():
                if name in annotations:
                    field = f"{function.__name__}: {name}"
                    bound.arguments[name] = _fitting(field, value, annotations[name], sizes)
        return function(*bound.args, **bound.kwargs)

    return checked


def at_least(length: int, axis: int = 0, **arrays: Any) -> None:
    """Refuses arrays, each by its name, that are shorter than `length` along the axis."""
    for name, array in arrays.items():
        shape = list(array.shape)
        if shape[axis] < length:
            of_batch = " (a batch, or the part of it that accumulate= leaves)" if not axis else ""
            raise wrong(name, shape, f"a length of at least {length} along axis {axis}{of_batch}")


def _has_shape(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, AbstractArray):
        return True
    return any(map(_has_shape, typing.get_args(annotation)))


def _fitting(field: str, value: Any, annotation: Any, sizes: _Sizes) -> Any:
    """`value` as the annotation has it; the lengths of its axes are added to `sizes`."""
    if isinstance(annotation, types.UnionType):
        options = typing.get_args(annotation)
        plain = tuple(option for option in options if not _has_shape(option))
        if isinstance(value, (*plain, int) if float in plain else plain):
            return value
        annotation = next(filter(_has_shape, options))
    if members := typing.get_args(annotation):
        of_any_length = typing.get_origin(annotation) is not tuple or ... in members
        kinds = members[:1] * len(value) if of_any_length else members
        if len(value) != len(kinds):
            raise UserError(f"{field}: got {len(value)} arrays; expected {len(kinds)}")
        pairs = enumerate(zip(value, kinds, strict=True))
        return tuple(_fitting(f"{field}[{i}]", part, kind, sizes) for i, (part, kind) in pairs)
    try:
        array = _converted(value, annotation)
    except (TypeError, ValueError):
        raise wrong(field, value, _text(annotation, sizes)) from None
    on_host = annotation.array_type is np.ndarray
    if not isinstance(array, annotation) or (on_host and not array.size):
        raise UserError(
            f"{field}: got {array.dtype} {list(array.shape)}; expected {_text(annotation, sizes)}"
        )
    if on_host and annotation.dtype is Float:
        checks.finite(field, array)
    # Behind "*batch" or "..." it is not known which axis is meant.
    named = itertools.takewhile(str.isidentifier, annotation.dim_str.split())
    for axis, length in zip(named, array.shape, strict=False):
        if axis != "_":
            sizes.setdefault(axis, (length, field.split(": ")[-1]))
    return array


def _converted(value: Any, kind: Any) -> Any:
    """`value` as an array of the kind's library, real where reals are meant."""
    if kind.array_type is np.ndarray:
        on_host = np.asarray(value, np.float64 if kind.dtype is Float else None)
        return on_host.astype(np.int64) if on_host.dtype.kind in "iu" else on_host
    import jax  # slow to import, and what runs on the host needs none of it
    import jax.numpy as jnp

    array = value if isinstance(value, jax.Array) else jnp.asarray(value)
    fits = kind.dtype is not Float or jnp.issubdtype(array.dtype, jnp.inexact)
    return array if fits else array.astype(jnp.result_type(float))


def _text(kind: Any, sizes: _Sizes) -> str:
    """`float [batch=3 of logits, width]`: the kind, with the lengths that are known."""
    axes = kind.dim_str.split()
    axes = ["{}={} of {}".format(axis, *sizes[axis]) if axis in sizes else axis for axis in axes]
    name = "array" if kind.dtype is Shaped else kind.dtype.__name__.lower()
    return f"{name} [{', '.join(axes)}]"

"""Losses in float32 at least: half precision would overflow in their squares."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from tljax.typed import shaped

_Result = TypeVar("_Result")


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def widened(x: Array, dtype: Any) -> Array:
    """`x`, of the half precision `dtype`, as float32; its gradient is cut to what `dtype` holds."""
    return x.astype(jnp.float32)


def _forward(x: Array, dtype: Any) -> tuple[Array, None]:
    return widened(x, dtype), None


def _backward(dtype: Any, _: None, gradient: Array) -> tuple[Array]:
    most = jnp.finfo(dtype).max.astype(jnp.float32)
    return (jnp.clip(gradient, -most, most).astype(dtype),)


widened.defvjp(_forward, _backward)


def single(function: Callable[..., _Result]) -> Callable[..., _Result]:
    """A loss that is `shaped`, to which half precision comes as float32."""
    checked = shaped(function)

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> _Result:
        args, kwargs = jax.tree.map(_single, (args, kwargs))
        return checked(*args, **kwargs)

    return called


def _single(x: Any) -> Any:
    half = isinstance(x, jax.Array) and x.dtype in (jnp.float16, jnp.bfloat16)
    return widened(x, x.dtype) if half else x


def tamed(x: Array, axis: int) -> Array:
    """`x` over the largest along the axis, where its squares would overflow.

    For what does not depend on the scale, which gets no gradient.
    """
    largest = jnp.abs(jax.lax.stop_gradient(x)).max(axis=axis, keepdims=True)
    # In two steps, as the reciprocal of the largest numbers of all is taken for 0.
    step = jnp.where(largest > 1e15, 1e-20, 1.0).astype(x.dtype)
    return (x * step) / jnp.where(largest > 1e15, largest * step, 1)

"""What functions under `jax.jit` ask of their arrays, and vectors of length one.

Shapes are checked always, values only where they are there to be read: not while tracing.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from tljax import checks
from tljax.errors import UserError


def numbers(name: str, value: ArrayLike, *expected: int | str) -> Array:
    """`value` in float32 or wider, of the expected shape (a letter stands for any length).

    Raises:
      ValueError: another shape; or, outside of a trace, a number that is not finite.
    """
    try:
        if isinstance(value, jax.core.Tracer):
            checks.shape(name, value.shape, expected)
        else:
            checks.numbers(name, value, *expected)
    except UserError as error:
        raise ValueError(str(error)) from None
    array = jnp.asarray(value)
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def labels(name: str, value: ArrayLike, length: int | str, classes: int) -> Array:
    """`value` as a vector of classes.

    Raises:
      ValueError: another shape or no integers; or, outside of a trace, one not in [0, `classes`).
    """
    try:
        if isinstance(value, jax.core.Tracer):
            checks.shape(name, value.shape, (length,))
            if not jnp.issubdtype(value.dtype, jnp.integer):
                raise UserError(f"{name}: got {value.dtype} numbers; expected integers")
        else:
            checks.labels(name, value, length, classes)
    except UserError as error:
        raise ValueError(str(error)) from None
    return jnp.asarray(value)


@jax.jit
def unit(x: Array) -> Array:
    """The vectors along the last axis at length 1; a zero vector stays zero.

    They are first divided by their largest entry, so that no square over- or underflows.
    """
    largest = jnp.abs(x).max(axis=-1, keepdims=True)
    x = x / jnp.where(largest > 0, largest, 1)
    squares = jnp.sum(x * x, axis=-1, keepdims=True)
    # A root at zero would have a NaN gradient.
    return x * jax.lax.rsqrt(jnp.where(squares > 0, squares, 1))

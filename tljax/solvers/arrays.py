"""What functions under `jax.jit` ask of numbers, and vectors of length one."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from tljax import checks
from tljax.errors import UserError


def finite(name: str, array: Array) -> Array:
    """`array` in float32 or wider; outside of a trace every number must be finite."""
    if not array.size:
        raise UserError(f"{name}: got shape {list(array.shape)}; expected at least one number")
    if not isinstance(array, jax.core.Tracer):
        checks.finite(name, np.asarray(array))
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def within(name: str, labels: Array, classes: int) -> None:
    """Refuses labels that are no classes in [0, `classes`), outside of a trace."""
    if not isinstance(labels, jax.core.Tracer):
        checks.within(name, np.asarray(labels), classes)


@jax.jit
def unit(x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
    """The vectors along the last axis at length 1; a zero vector stays zero.

    They are first divided by their largest entry, so that no square over- or underflows.
    """
    largest = jnp.abs(x).max(axis=-1, keepdims=True)
    x = x / jnp.where(largest > 0, largest, 1)
    squares = jnp.sum(x * x, axis=-1, keepdims=True)
    # A root at zero would have a NaN gradient.
    return x * jax.lax.rsqrt(jnp.where(squares > 0, squares, 1))

"""Arguments against their annotations: what passes, what it becomes, and the line that says no."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from jaxtyping import Bool, Float, Integer, Scalar

from tljax.errors import UserError
from tljax.typed import at_least, shaped


@shaped
def device(
    x: Float[Array, "batch width"],
    labels: Integer[Array, "batch"] | None = None,
    scale: float | Scalar = 1.0,
    maps: tuple[Float[Array, "width d"], Float[Array, "d *rest"]] | None = None,
) -> Scalar:
    """A docstring."""
    return (x * scale).sum()


@shaped
def host(
    x: Float[np.ndarray, "n width"],
    labels: Integer[np.ndarray, "n"],
    seen: bool | Bool[np.ndarray, "n"] = True,
    name: str = "a",
):
    return x, labels, seen


X = jnp.ones((3, 2))


def test_the_signature_stays():
    assert device.__name__ == "device" and device.__doc__ == "A docstring."
    assert jax.jit(device, static_argnames=())(X, scale=2) == 12
    with pytest.raises(TypeError, match="'x'"):
        device()


def test_device_arrays_keep_their_dtype_and_numpy_and_integers_are_brought_over():
    assert device(X.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    assert device(np.ones((3, 2))).dtype == jnp.float32
    assert device(jnp.ones((3, 2), int)).dtype == jnp.float32
    assert device(X, np.arange(3), 2, (jnp.ones((2, 5)), jnp.ones((5, 1, 4)))) == 12
    assert jnp.isnan(device(X * jnp.nan))  # no number is looked at


def test_members_are_checked_one_by_one():
    @shaped
    def layers(*, x: tuple[Float[Array, "batch _"], ...], y: list[Float[Array, "batch _"]]):
        return len(x), len(y)

    assert layers(x=(X, X[:, :1]), y=[X]) == (2, 1)
    with pytest.raises(UserError, match=r"layers: y\[1\]: got float32 \[2, 2\]; .*=3 of x\[0\], _"):
        layers(x=(X,), y=[X, X[:2]])


def test_a_python_number_stays_weak():
    assert device(X.astype(jnp.float16), scale=2.0).dtype == jnp.float16


def test_under_transformations():
    np.testing.assert_allclose(jax.grad(device)(X, scale=3.0), 3 * X)
    assert jax.grad(device, argnums=2)(X, None, 3.0) == 6
    batched = jax.jit(jax.vmap(device, (0, None, 0)))
    np.testing.assert_allclose(batched(X[None], jnp.arange(3), jnp.array([2.0])), [12])
    with pytest.raises(UserError, match="labels"):
        batched(X[None], jnp.arange(2), jnp.array([2.0]))


def test_host_arrays_are_float64_and_int64():
    x, labels, seen = host([[1, 2]], np.array([0], np.uint8), seen=jnp.array([False]))
    assert (x.dtype, labels.dtype, seen.dtype) == (np.float64, np.int64, bool)
    assert host(jnp.ones((1, 2), jnp.bfloat16), [1])[0].dtype == np.float64
    assert host([[1.0]], [1])[2] is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X[0],), "device: x: got float32 [2]; expected float [batch, width]"),
        ((X, [1, 2]), "device: labels: got int32 [2]; expected integer [batch=3 of x]"),
        ((X, X[:, 0]), "device: labels: got float32 [3]; expected integer [batch=3 of x]"),
        ((X, None, X[0]), "device: scale: got float32 [2]; expected array []"),
        ((X, None, "x"), "device: scale: got 'x'; expected array []"),
        ((X, None, 1.0, (X,)), "device: maps: got 1 arrays; expected 2"),
        (
            (X, None, 1.0, (X, X)),
            "device: maps[0]: got float32 [3, 2]; expected float [width=2 of x",
        ),
        (
            (X, None, 1.0, (X[:2], X)),
            "device: maps[1]: got float32 [3, 2]; expected float [d=2 of maps[0], *rest]",
        ),
    ],
)
def test_what_does_not_fit_on_the_device(arguments, message):
    with pytest.raises(UserError) as error:
        device(*arguments)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [1]), "host: x: got float64 [1]; expected float [n, width]"),
        (([[1.0, np.inf]], [1]), "host: x: got inf at [0, 1]; expected finite numbers"),
        ((np.ones((0, 2)), []), "host: x: got float64 [0, 2]; expected float [n, width]"),
        (([["a"]], [1]), "host: x: got [['a']]; expected float [n, width]"),
        (([[1.0]], [0.5]), "host: labels: got float64 [1]; expected integer [n=1 of x]"),
        (([[1.0]], [1], [1]), "host: seen: got int64 [1]; expected bool [n=1 of x]"),
    ],
)
def test_what_does_not_fit_on_the_host(arguments, message):
    with pytest.raises(UserError) as error:
        host(*arguments)
    assert str(error.value) == message


def test_one_call_says_nothing_of_the_next():
    assert device(X) == 6 and device(X[:, :1]) == 3
    with pytest.raises(UserError):
        device(X, [1])
    assert device(X[:1], [1]) == 2


def test_at_least():
    at_least(3, x=X)
    with pytest.raises(UserError, match=r"x: got \[3, 2\]; expected a length of at least 3 "):
        at_least(3, axis=1, x=X)


def test_importing_the_host_side_imports_no_jax():
    code = "import sys, tljax; tljax.metrics.paired; assert 'jax' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

"""The two layers that need more than linen's own: convolution and normalisation."""

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from tljax.errors import wrong


class Conv(nn.Module):
    """A square convolution with symmetric zero padding, `kernel // 2` on every side.

    On a CPU it is computed as shifted slices and one matrix product, because XLA's convolution is
    tens of times slower there inside a loop; elsewhere it is the ordinary convolution. Parameters
    are the same either way: `kernel` `[k, k, in, out]` and `bias` `[out]`.
    """

    features: int
    kernel: int = 3
    stride: int = 1
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[batch, height, width, in]` → `[batch, ⌈height/stride⌉, ⌈width/stride⌉, features]`."""
        size, inputs = self.kernel, x.shape[-1]
        if size % 2 == 0:
            raise wrong("Conv.kernel", size, "an odd size, which can be padded alike on both sides")
        kernel = self.param(
            "kernel", nn.initializers.lecun_normal(), (size, size, inputs, self.features)
        )
        y = convolve(x, kernel, self.stride, shifted=jax.default_backend() == "cpu")
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            y = y + bias.reshape(1, 1, 1, -1)
        return y


def convolve(x: Array, kernel: Array, stride: int, *, shifted: bool) -> Array:
    """The convolution of `Conv`, as shifted slices and one product, or as XLA's own."""
    size, pad = kernel.shape[0], kernel.shape[0] // 2
    if not shifted:
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            [(pad, pad), (pad, pad)],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
    height, width = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    slices = [x[:, i : i + height : stride, j : j + width : stride] for i, j in _offsets(size)]
    # Without the barrier XLA fuses the slices into the product, which then leaves the fast matmul.
    columns = jax.lax.optimization_barrier(jnp.concatenate(slices, axis=-1))
    return columns @ kernel.reshape(-1, kernel.shape[-1])


def _offsets(size: int) -> Sequence[tuple[int, int]]:
    return [(i, j) for i in range(size) for j in range(size)]


NormKind = Literal["none", "batch", "layer"]


class Norm(nn.Module):
    """Normalisation by name: "none", "batch" or "layer".

    Batch statistics belong to `stream` where one is named: every stream then has running averages
    of its own, while scale and bias are shared. Without a name all streams share the statistics.
    """

    kind: NormKind = "none"

    @nn.compact
    def __call__(self, x: Array, *, train: bool, stream: str | None = None) -> Array:
        if self.kind == "none":
            return x
        if self.kind == "layer":
            return nn.LayerNorm(name="layer")(x)
        if train and x.size < 2 * x.shape[-1]:
            raise wrong("norm", "batch", "at least 2 examples in a batch or its part")
        name = "statistics" if stream is None else f"statistics_{stream}"
        x = nn.BatchNorm(not train, use_scale=False, use_bias=False, name=name)(x)
        shape = (1,) * (x.ndim - 1) + (-1,)
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return x * scale.reshape(shape) + bias.reshape(shape)


def max_pool(x: Array) -> Array:
    """2 × 2 maximum: `[batch, height, width, c]` → `[batch, height // 2, width // 2, c]`.

    As maxima of reshaped halves: on a CPU its gradient is several times faster than that of XLA's
    reduce-window.
    """
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    x = x[:, :height, :width].reshape(x.shape[0], height // 2, 2, width // 2, 2, x.shape[-1])
    x = jnp.maximum(x[:, :, 0], x[:, :, 1])
    return jnp.maximum(x[:, :, :, 0], x[:, :, :, 1])

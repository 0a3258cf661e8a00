"""The layers that need more than linen's own: convolution, normalisation, maxima."""

import functools
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from tljax.errors import wrong
from tljax.models.convolution import Padding, chosen, convolve, pads_of
from tljax.models.statistics import stays


class Conv(nn.Module):
    """A square convolution with zero padding.

    "symmetric" pads by `kernel // 2` on every side. "same" is TensorFlow's: as little as gives
    ⌈size/stride⌉, the odd pixel below and on the right, so that at a stride of 2 the two differ.

    On a CPU it is computed as shifted slices and products wherever these are faster, as
    `convolution.chosen` says by shape; elsewhere it is the ordinary one.
    Parameters are the same either way: `kernel` `[k, k, in/groups, out]` and `bias` `[out]`.
    """

    features: int
    kernel: int = 3
    stride: int = 1
    use_bias: bool = True
    groups: int = 1  # as many as there are channels: depthwise
    padding: Padding = "symmetric"

    @nn.compact
    def __call__(self, x: Array, scale: Array | None = None) -> Array:
        """`[batch, height, width, in]` → `[batch, ⌈height/stride⌉, ⌈width/stride⌉, features]`.

        The kernel is multiplied by `scale`, `[features]`, where there is one.
        """
        size, inputs = self.kernel, x.shape[-1]
        if size % 2 == 0:
            raise wrong("Conv.kernel", size, "an odd size, which can be padded alike on both sides")
        shape = (size, size, inputs // self.groups, self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        if scale is not None:
            kernel = kernel * scale.reshape(1, 1, 1, -1)
        pads = [pads_of(length, size, self.stride, self.padding) for length in x.shape[1:3]]
        form = (
            chosen(x.shape, size, self.stride, self.groups)
            if jax.default_backend() == "cpu"
            else "xla"
        )
        y = convolve(x, kernel, self.stride, form=form, pads=pads, groups=self.groups)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            y = y + bias.reshape(1, 1, 1, -1)
        return y


NormKind = Literal["none", "batch", "layer"]


class Norm(nn.Module):
    """Normalisation by name: "none", "batch" or "layer".

    Batch statistics belong to `stream` where one is named: every stream then has running averages
    of its own, while scale and bias are shared. Without a name all streams share the statistics.
    """

    kind: NormKind = "none"
    epsilon: float | None = None  # added to a variance; None: linen's own
    momentum: float = 0.99  # what running averages keep of themselves

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, stream: str | None = None, conv: Conv | None = None
    ) -> Array:
        """`x`, or what `conv` makes of it, normalised.

        By running statistics a convolution without a bias is scaled in its kernel on a CPU, where
        a pass over a map, and several more in its gradient, take as long as the products.
        """
        if self.kind != "batch":
            x = x if conv is None else conv(x)
            return x if self.kind == "none" else nn.LayerNorm(self.epsilon or 1e-6, name="layer")(x)
        epsilon = self.epsilon or 1e-5
        name = "statistics" if stream is None else f"statistics_{stream}"
        train = train and not stays("/".join((*self.path, name)))
        rules = (not train, -1, self.momentum, epsilon)
        statistics = nn.BatchNorm(*rules, use_scale=False, use_bias=False, name=name)
        held: list[Any] = [
            statistics.get_variable("batch_stats", which) for which in ("mean", "var")
        ]
        folds = conv is not None and not (conv.use_bias or train) and held[0] is not None
        folds = folds and jax.default_backend() == "cpu"
        if not folds:
            x = x if conv is None else conv(x)
            if train and x.size < 2 * x.shape[-1]:
                raise wrong("norm", "batch", "at least 2 examples in a batch or its part")
            x = statistics(x)
        channels = (conv.features if conv and folds else x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        shape = (1,) * (x.ndim - 1) + (-1,)
        if conv is None or not folds:
            return x * scale.reshape(shape) + bias.reshape(shape)
        mean, variance = held
        scale = scale * jax.lax.rsqrt(variance + epsilon)
        return conv(x, scale) + (bias - mean * scale).reshape(shape)


def relu(x: Array, most: float = jnp.inf) -> Array:
    """min(max(x, 0), most), whose gradient is 0 at both.

    It is found from the result, and by a product: jax.nn's keeps the argument, and chooses between
    the gradient and a map of zeros that XLA writes down.
    """
    return _relu(x, most)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _relu(x: Array, most: float) -> Array:
    return jnp.clip(x, 0, most)


def _relu_forward(x: Array, most: float) -> tuple[Array, Array]:
    y = _relu(x, most)
    return y, y


def _relu_backward(most: float, y: Array, dy: Array) -> tuple[Array]:
    return (dy * ((y > 0) & (y < most)).astype(dy.dtype),)


_relu.defvjp(_relu_forward, _relu_backward)


def max_pool(x: Array) -> Array:
    """2 × 2 maximum: `[batch, height, width, c]` → `[batch, height // 2, width // 2, c]`."""
    # As maxima of halves, whose gradient is several times faster on a CPU than reduce-window's.
    height, width = x.shape[1] // 2, x.shape[2] // 2
    if not height or not width:
        raise wrong("trunk: a map to halve", x.shape[1:3], "(2, 2) at least, of larger inputs")
    x = x[:, : height * 2, : width * 2].reshape(x.shape[0], height, 2, width, 2, x.shape[-1])
    x = jnp.maximum(x[:, :, 0], x[:, :, 1])
    return jnp.maximum(x[:, :, :, 0], x[:, :, :, 1])


def max_pool_3(x: Array) -> Array:
    """3 × 3 maximum at a stride of 2, one pixel of −∞ around: ⌈height/2⌉ × ⌈width/2⌉.

    As maxima of shifted slices, first of rows, then of columns, for the same reason.
    """
    for axis in (1, 2):
        pads = [(0, 0)] * axis + [(1, 1)] + [(0, 0)] * (3 - axis)
        padded, size = jnp.pad(x, pads, constant_values=-jnp.inf), x.shape[axis]
        three = [jax.lax.slice_in_dim(padded, i, i + size, 2, axis) for i in range(3)]
        x = functools.reduce(jnp.maximum, three)
    return x

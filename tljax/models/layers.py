"""The layers that need more than linen's own: convolution, normalisation, maxima."""

import functools
from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from tljax.errors import wrong

Padding = Literal["symmetric", "same"]


class Conv(nn.Module):
    """A square convolution with zero padding.

    "symmetric" pads by `kernel // 2` on every side. "same" is TensorFlow's: as little as gives
    ⌈size/stride⌉, the odd pixel below and on the right, so that at a stride of 2 the two differ.

    On a CPU it is computed as shifted slices and products wherever these are faster, because XLA's
    convolution is tens of times slower there inside a loop; elsewhere it is the ordinary one.
    Parameters are the same either way: `kernel` `[k, k, in/groups, out]` and `bias` `[out]`.
    """

    features: int
    kernel: int = 3
    stride: int = 1
    use_bias: bool = True
    groups: int = 1  # as many as there are channels: depthwise
    padding: Padding = "symmetric"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[batch, height, width, in]` → `[batch, ⌈height/stride⌉, ⌈width/stride⌉, features]`."""
        size, inputs = self.kernel, x.shape[-1]
        if size % 2 == 0:
            raise wrong("Conv.kernel", size, "an odd size, which can be padded alike on both sides")
        shape = (size, size, inputs // self.groups, self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        pads = [_pads(length, size, self.stride, self.padding) for length in x.shape[1:3]]
        shifted = jax.default_backend() == "cpu" and _pays(x.shape, size, self.groups)
        y = convolve(x, kernel, self.stride, shifted=shifted, pads=pads, groups=self.groups)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            y = y + bias.reshape(1, 1, 1, -1)
        return y


def _pads(length: int, size: int, stride: int, padding: Padding) -> tuple[int, int]:
    """How many zeros stand before and behind a side of so many pixels."""
    if padding == "symmetric":
        return size // 2, size // 2
    pad = max((-(-length // stride) - 1) * stride + size - length, 0)
    return pad // 2, pad - pad // 2


def _pays(shape: Sequence[int], size: int, groups: int) -> bool:
    """Whether slices and products are faster on a CPU than XLA's own."""
    _, height, width, inputs = shape
    if groups > 1:
        return groups == inputs
    return size == 1 or (size <= 5 and height * width <= LARGE)


LARGE = 64 * 64  # pixels of a map from which on XLA's own convolution is as fast or faster


def convolve(
    x: Array,
    kernel: Array,
    stride: int,
    *,
    shifted: bool,
    pads: Sequence[tuple[int, int]] | None = None,
    groups: int = 1,
) -> Array:
    """The convolution of `Conv`, as shifted slices and products, or as XLA's own.

    Args:
      x: `[batch, height, width, in]`.
      kernel: `[k, k, in/groups, out]`.
      stride: the same in both directions.
      shifted: whether by slices, where `groups` is 1 or `in`.
      pads: zeros (before, behind) of height and width; None: `k // 2` each.
      groups: of channels, each of which sees its own inputs alone.
    """
    size = kernel.shape[0]
    pads = pads or [(size // 2, size // 2)] * 2
    if not shifted:
        return jax.lax.conv_general_dilated(
            x,
            kernel.astype(x.dtype),  # XLA's takes no two types
            (stride, stride),
            pads,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
    if groups > 1:
        x = jnp.repeat(x, kernel.shape[-1] // groups, -1) if kernel.shape[-1] > groups else x
        return _depthwise(x, kernel, stride, tuple(pads))
    slices = _slices(x, size, stride, pads)
    # Without the barrier XLA fuses the slices into the product, which then leaves the fast matmul.
    columns = jax.lax.optimization_barrier(jnp.concatenate(slices, axis=-1))
    # Of two matrices: the gradient of a product over several axes leaves the fast matmul too.
    y = columns.reshape(-1, columns.shape[-1]) @ kernel.reshape(-1, kernel.shape[-1])
    return y.reshape(*columns.shape[:-1], -1)


def _slices(
    x: Array, size: int, stride: int, pads: Sequence[tuple[int, int]], within: int = 1
) -> list[Array]:
    """What each place of a kernel sees of a padded map, row by row.

    Args:
      x: `[batch, height, width, channels]`.
      size, stride, pads: of the convolution.
      within: 1 + how many zeros are put between two pixels.
    """
    sides = [(*pad, within - 1) for pad in pads]
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *sides, (0, 0, 0)])
    height, width = (length - size + 1 for length in x.shape[1:3])
    return [x[:, i : i + height : stride, j : j + width : stride] for i, j in _offsets(size)]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(x: Array, kernel: Array, stride: int, pads: tuple) -> Array:
    """A kernel `[k, k, 1, channels]` of each channel's own over `[batch, height, width, channels]`.

    Its gradient is written out: the sum over a map's slices becomes slices of the other map, where
    automatic differentiation pads and adds k² maps (two to three times as long on a CPU).
    """
    size = kernel.shape[0]
    each = kernel.reshape(size * size, 1, 1, 1, -1)
    return functools.reduce(jnp.add, map(jnp.multiply, _slices(x, size, stride, pads), each))


def _depthwise_forward(x: Array, kernel: Array, stride: int, pads: tuple) -> tuple[Array, Any]:
    return _depthwise(x, kernel, stride, pads), (x, kernel)


def _depthwise_backward(stride: int, pads: tuple, kept: Any, dy: Array) -> tuple[Array, Array]:
    x, kernel = kept
    size = kernel.shape[0]
    outer = []
    for axis, (before, _) in enumerate(pads, start=1):
        reach = (dy.shape[axis] - 1) * stride  # of the last output, in pixels of the padded map
        outer.append((size - 1 - before, x.shape[axis] - 1 + before - reach))
    flipped = kernel[::-1, ::-1].reshape(size * size, 1, 1, 1, -1)
    seen = _slices(dy, size, 1, outer, within=stride)
    dx = functools.reduce(jnp.add, map(jnp.multiply, seen, flipped))
    # Without the barrier XLA keeps the slices of the forward pass, k² maps, for these products.
    seen = _slices(jax.lax.optimization_barrier(x), size, stride, pads)
    dk = _sums_of_products(seen, dy).reshape(kernel.shape)
    return dx.astype(x.dtype), dk.astype(kernel.dtype)


def _sums_of_products(maps: Sequence[Array], dy: Array) -> Array:
    """Over all but the channels, `[maps, channels]`.

    Bands of rows first, for several maps in one reduction, which reads them once: as sums of their
    own, which read `dy` every time, it takes four times as long.
    """
    dy = dy.astype(jnp.promote_types(dy.dtype, jnp.float32))
    height = dy.shape[1]
    rows = max((n for n in range(4, 9) if height % n == 0), default=height)  # of a band
    banded = (dy.shape[0], height // rows, rows, *dy.shape[2:])
    sums: list[Array] = []
    for several in (maps[i : i + 9] for i in range(0, len(maps), 9)):
        products = [(part * dy).reshape(banded) for part in several]
        zeros = [jnp.zeros((), dy.dtype)] * len(products)
        sums += jax.lax.reduce(products, zeros, lambda a, b: [*map(jnp.add, a, b)], (2,))
    return jnp.stack([part.sum((0, 1, 2)) for part in sums])


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def _offsets(size: int) -> Sequence[tuple[int, int]]:
    return [(i, j) for i in range(size) for j in range(size)]


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
    def __call__(self, x: Array, *, train: bool, stream: str | None = None) -> Array:
        if self.kind == "none":
            return x
        if self.kind == "layer":
            return nn.LayerNorm(self.epsilon or 1e-6, name="layer")(x)
        if train and x.size < 2 * x.shape[-1]:
            raise wrong("norm", "batch", "at least 2 examples in a batch or its part")
        name = "statistics" if stream is None else f"statistics_{stream}"
        x = nn.BatchNorm(
            not train,
            -1,
            self.momentum,
            self.epsilon or 1e-5,
            use_scale=False,
            use_bias=False,
            name=name,
        )(x)
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

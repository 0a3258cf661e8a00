"""Convolution in the forms that a CPU wants, and the choice between them by shape."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

Padding = Literal["symmetric", "same"]


def pads_of(length: int, size: int, stride: int, padding: Padding) -> tuple[int, int]:
    """How many zeros stand before and behind a side of so many pixels."""
    if padding == "symmetric":
        return size // 2, size // 2
    pad = max((-(-length // stride) - 1) * stride + size - length, 0)
    return pad // 2, pad - pad // 2


# "slices": shifted slices and products; "forward": XLA's own, whose gradients are written as
# convolutions forward; "tiles": that, with `_tiled` for the map and its gradient; "xla": XLA's own.
Form = Literal["slices", "forward", "tiles", "xla"]
MANY = 2**21  # values of all slices: where they leave the caches


def chosen(shape: Sequence[int], size: int, stride: int, groups: int) -> Form:
    """The form that is fastest on a CPU, as measured by benchmarks/convolutions.py.

    Args:
      shape: of the map, `[batch, height, width, in]`.
      size, stride, groups: of the kernel.
    """
    batch, height, width, inputs = shape
    if groups > 1:
        return "slices" if groups == inputs else "xla"
    if size == 1 or min(height, width) < size:  # XLA's takes 60 times as long for a smaller map
        return "slices"
    if (size, stride) == (3, 1) and inputs >= 64 and height * width >= 14 * 14:
        return "tiles"
    seen = -(-height // stride) * -(-width // stride) * size * size * inputs
    any_batch = not isinstance(batch, int)  # of what is exported
    return "forward" if any_batch or batch * seen >= MANY else "slices"


def convolve(
    x: Array,
    kernel: Array,
    stride: int,
    *,
    form: Form,
    pads: Sequence[tuple[int, int]] | None = None,
    groups: int = 1,
) -> Array:
    """The convolution of `Conv`, in one of its forms.

    Args:
      x: `[batch, height, width, in]`.
      kernel: `[k, k, in/groups, out]`.
      stride: the same in both directions.
      form: all give the same; but by slices `groups` is 1 or `in`, forward and by tiles 1, and by
        tiles k is 3 and the stride 1.
      pads: zeros (before, behind) of height and width; None: `k // 2` each.
      groups: of channels, each of which sees its own inputs alone.
    """
    size = kernel.shape[0]
    pads = pads or [(size // 2, size // 2)] * 2
    if form == "xla":
        return _xlas(x, kernel, stride, pads, groups=groups)
    if form in ("forward", "tiles"):
        return _forward(x, kernel, stride, tuple(pads), form == "tiles")
    if groups > 1:
        x = jnp.repeat(x, kernel.shape[-1] // groups, -1) if kernel.shape[-1] > groups else x
        return _depthwise(x, kernel, stride, tuple(pads))
    columns = _joined(_slices(x, size, stride, pads))
    # Of two matrices: the gradient of a product over several axes leaves the fast matmul too.
    y = columns.reshape(-1, columns.shape[-1]) @ kernel.reshape(-1, kernel.shape[-1])
    return y.reshape(*columns.shape[:-1], -1)


def _xlas(
    x: Array,
    kernel: Array,
    stride: int,
    pads: Any,
    within: int = 1,
    apart: int = 1,
    groups: int = 1,
) -> Array:
    """XLA's own; pixels of the map lie `within` apart, with zeros between, those that a kernel
    sees `apart`."""
    return jax.lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),  # XLA's takes no two types
        (stride, stride),
        pads,
        lhs_dilation=(within, within),
        rhs_dilation=(apart, apart),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _forward(x: Array, kernel: Array, stride: int, pads: tuple, tiles: bool) -> Array:
    return _tiled(x, kernel, pads) if tiles else _xlas(x, kernel, stride, pads)


def _gradients(stride: int, pads: tuple, tiles: bool, kept: Any, dy: Array) -> tuple[Array, Array]:
    """As automatic differentiation has them, with other axes in the place of examples and channels,
    XLA leaves its fast loops on a CPU: within a loop it takes up to a hundred times as long."""
    x, kernel = kept
    size = kernel.shape[0]
    turned, outer = kernel[::-1, ::-1].swapaxes(2, 3), _outer(x, dy, size, stride, pads)
    dx = _tiled(dy, turned, outer) if tiles else _xlas(dy, turned, 1, outer, within=stride)
    seen = [  # of the map, for as many places as the kernel has
        (before, (n - 1) * stride + size - before - length)
        for (before, _), n, length in zip(pads, dy.shape[1:], x.shape[1:], strict=False)
    ]
    # Channels are the examples, examples the channels, and `dy` is a kernel that goes over `x`.
    # Without the barrier XLA folds the exchange of axes into the convolution again.
    x, dy = jax.lax.optimization_barrier((x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3)))
    return dx, _xlas(x, dy, 1, seen, apart=stride).transpose(1, 2, 0, 3).astype(kernel.dtype)


_forward.defvjp(lambda x, kernel, *how: (_forward(x, kernel, *how), (x, kernel)), _gradients)


# What each of four pixels of a tile, of three of a kernel and of four sums counts, in a direction.
OF_MAP = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
OF_KERNEL = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
OF_OUTPUT = ((1, 1, 1, 0), (0, 1, -1, -1))


def _tiled(x: Array, kernel: Array, pads: Sequence[tuple[int, int]]) -> Array:
    """3 × 3 at a stride of 1: two by two outputs by 16 products, where the sum itself takes 36.

    Lavin & Gray 2016 ("Fast Algorithms for Convolutional Neural Networks"), F(2 × 2, 3 × 3).
    """
    barrier = jax.lax.optimization_barrier  # else XLA computes each sum anew in all that reads it
    sizes = [length + sum(pad) - 2 for length, pad in zip(x.shape[1:3], pads, strict=True)]
    down, across = (-(-size // 2) for size in sizes)
    odd = [(before, behind + size % 2) for (before, behind), size in zip(pads, sizes, strict=True)]
    x = jnp.pad(x, ((0, 0), *odd, (0, 0)))
    rows = barrier(_combined(OF_MAP, [x[:, i : i + 2 * down - 1 : 2] for i in range(4)]))
    each = [[row[:, :, j : j + 2 * across - 1 : 2] for j in range(4)] for row in rows]
    seen = [sums.reshape(1, -1, x.shape[-1]) for row in each for sums in _combined(OF_MAP, row)]
    turned = [sums for row in _combined(OF_KERNEL, kernel) for sums in _combined(OF_KERNEL, row)]
    y = barrier(barrier(jnp.concatenate(seen)) @ barrier(jnp.stack(turned)).astype(x.dtype))
    rows = barrier(_combined(OF_OUTPUT, y.reshape(4, 4, len(x), down, across, -1)))
    pairs = jnp.stack([jnp.stack(_combined(OF_OUTPUT, row), 3) for row in rows], 2)
    return pairs.reshape(len(x), 2 * down, 2 * across, -1)[:, : sizes[0], : sizes[1]]


def _combined(counts: Sequence[Sequence[float]], parts: Any) -> list[Array]:
    """The sum of parts for each row of counts."""
    return [
        functools.reduce(jnp.add, [n * part for n, part in zip(row, parts, strict=True) if n])
        for row in counts
    ]


def _joined(slices: Sequence[Array]) -> Array:
    # Without the barrier XLA fuses the slices into the product, which then leaves the fast matmul.
    return jax.lax.optimization_barrier(jnp.concatenate(slices, axis=-1))


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
    places = itertools.product(range(size), repeat=2)
    return [x[:, i : i + height : stride, j : j + width : stride] for i, j in places]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(x: Array, kernel: Array, stride: int, pads: tuple) -> Array:
    """A kernel `[k, k, 1, channels]` of each channel's own over `[batch, height, width, channels]`.

    Its gradient is written out: the sum over a map's slices becomes slices of the other map, where
    automatic differentiation pads and adds k² maps (two to three times as long on a CPU).
    """
    size = kernel.shape[0]
    each = kernel.reshape(size * size, 1, 1, 1, -1)
    return functools.reduce(jnp.add, map(jnp.multiply, _slices(x, size, stride, pads), each))


def _depthwise_backward(stride: int, pads: tuple, kept: Any, dy: Array) -> tuple[Array, Array]:
    x, kernel = kept
    size = kernel.shape[0]
    flipped = kernel[::-1, ::-1].reshape(size * size, 1, 1, 1, -1)
    seen = _slices(dy, size, 1, _outer(x, dy, size, stride, pads), within=stride)
    dx = functools.reduce(jnp.add, map(jnp.multiply, seen, flipped))
    # Without the barrier XLA keeps the slices of the forward pass, k² maps, for these products.
    seen = _slices(jax.lax.optimization_barrier(x), size, stride, pads)
    dk = _sums_of_products(seen, dy).reshape(kernel.shape)
    return dx.astype(x.dtype), dk.astype(kernel.dtype)


def _outer(x: Array, dy: Array, size: int, stride: int, pads: Any) -> list[tuple[int, int]]:
    """The zeros around `dy` of the convolution that is the gradient towards `x`."""
    outer = []
    for axis, (before, _) in enumerate(pads, start=1):
        reach = (dy.shape[axis] - 1) * stride  # of the last output, in pixels of the padded map
        outer.append((size - 1 - before, x.shape[axis] - 1 + before - reach))
    return outer


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


_depthwise.defvjp(
    lambda x, kernel, *how: (_depthwise(x, kernel, *how), (x, kernel)), _depthwise_backward
)

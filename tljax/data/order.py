"""Orders of sampling without replacement that a compiled step can look up, place by place."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def draw(arrays: Mapping[str, Array], batch: int, step: Array, key: Array) -> dict[str, Any]:
    """A step's batch from resident arrays: every epoch a new order, the remainder dropped.

    Args:
      arrays: arrays `[n, ...]`, n ≥ `batch`.
      batch: the number of examples.
      step: the step's number, a scalar integer.
      key: the stream's key, the same in every step.

    Returns:
      The examples, arrays `[batch, ...]` by the same names.
    """
    length = next(iter(arrays.values())).shape[0]
    batches = length // batch
    slots = (step % batches) * batch + jnp.arange(batch)
    indices = shuffled(slots, length, jax.random.fold_in(key, step // batches))
    return {name: array[indices] for name, array in arrays.items()}


class ByClass(NamedTuple):
    """The rows of a table class by class, of the classes that occur, in ascending order."""

    rows: Array | np.ndarray  # int32 [n]: those of the first class, then of the next, ...
    starts: Array | np.ndarray  # int32 [classes]: where in `rows` those of each class begin
    sizes: Array | np.ndarray  # int32 [classes]: how many each has, at least 1


def by_class(label: np.ndarray) -> ByClass:
    """What `balanced_draw` looks up of a column of labels, integers `[n]`; made once, on the host.

    Returns:
      numpy arrays, which may live on the device beside the columns.
    """
    _, starts, sizes = np.unique(np.sort(label), return_index=True, return_counts=True)
    rows = np.argsort(label, stable=True)
    return ByClass(*(array.astype(np.int32) for array in (rows, starts, sizes)))


def balanced_draw(
    columns: Mapping[str, Array], batch: int, step: Array, key: Array, rows: ByClass
) -> dict[str, Any]:
    """A step's batch in which all classes that occur come equally often.

    In every batch the numbers of examples of two classes differ by 1 at most. The classes take
    turns in an order of their own for each round; a round is the fewest steps in which each comes
    equally often. Of one class every example comes once before any comes again, in a new order
    each time; so small classes repeat theirs sooner.

    Arguments and result are those of `draw`, but that `batch` may exceed n, the step is at most
    2³¹ · classes / `batch`, and `rows` is `by_class` of the labels of these columns.
    """
    classes = rows.sizes.shape[0]
    common = math.gcd(batch, classes)
    steps = classes // common  # of a round
    slots = (step % steps) * batch + jnp.arange(batch)
    turns, orders = jax.random.split(key)
    turn = shuffled(slots % classes, classes, jax.random.fold_in(turns, step // steps))
    before = (step // steps) * (batch // common) + slots // classes  # draws of the class so far
    size = jnp.asarray(rows.sizes)[turn]

    def bits(number: Array, epoch: Array) -> Array:
        of_class = jax.random.fold_in(orders, number)
        return jax.random.bits(jax.random.fold_in(of_class, epoch), (4,), jnp.uint32)

    round_keys = jax.vmap(bits, out_axes=1)(turn, before // size)
    highest = jnp.maximum(size - 1, 1).astype(jnp.uint32)
    half = jnp.maximum(1, (33 - jax.lax.clz(highest)) // 2)
    within = _walk(before % size, size.astype(jnp.uint32), half, round_keys)
    indices = jnp.asarray(rows.rows)[jnp.asarray(rows.starts)[turn] + within]
    return {name: column[indices] for name, column in columns.items()}


def shuffled(slots: Array, length: int, key: Array) -> Array:
    """Places `slots` of a random order of `range(length)`, without building the whole order.

    A Feistel network permutes the smallest even number of bits that holds `length`; what falls
    outside walks on until it is inside (cycle walking: Black & Rogaway 2002, "Ciphers with
    arbitrary finite domains"). The cost grows with the number of slots, not with `length`.

    Args:
      slots: `[batch]` integers in `range(length)`.
      length: at most 2³⁰.
      key: names the order.

    Returns:
      `[batch]` int32; all slots together give every number of `range(length)` once.
    """
    half = max(1, (max(length - 1, 1).bit_length() + 1) // 2)
    return _walk(slots, length, half, jax.random.bits(key, (4,), jnp.uint32))


def _walk(slots: Array, length: Any, half: Any, round_keys: Array) -> Array:
    """`slots` in the orders of `round_keys` `[4, ...]`: one for all, or one for each slot.

    `half` is half the number of bits that hold `length`, and likewise one number or one a slot.
    """
    mask = (1 << half) - 1

    def permute(x: Array) -> Array:
        left, right = x >> half, x & mask
        for round_key in round_keys:
            mixed = (right ^ round_key) * jnp.uint32(0x9E3779B1)
            mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(0x85EBCA6B)
            left, right = right, left ^ ((mixed ^ (mixed >> 13)) & mask)
        return (left << half) | right

    walked = jax.lax.while_loop(
        lambda x: (x >= length).any(),
        lambda x: jnp.where(x >= length, permute(x), x),
        permute(slots.astype(jnp.uint32)),
    )
    return walked.astype(jnp.int32)

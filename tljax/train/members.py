"""Many runs of one plan as one program: the step of `train/step.py`, over a leading axis of runs.

On a CPU the members of a device are taken in turn, which is faster there than batched products and
leaves every member bit for bit as it would be alone; on an accelerator they are batched (`vmap`).
Either way the axis is split over the devices.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AxisType, NamedSharding

from tljax.train.step import Plan, State, train_step

AXIS = "members"


def mesh(devices: Sequence[jax.Device] | None = None) -> jax.sharding.Mesh:
    """The devices, all of them if left out, along the axis of members."""
    devices = list(devices or jax.local_devices())
    return jax.sharding.Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))


def stack(trees: Sequence[Any], over: jax.sharding.Mesh) -> Any:
    """Trees of one structure as one, with a leading axis of members, split over the devices."""
    stacked = jax.tree.map(_stacked, *trees)
    return jax.device_put(stacked, NamedSharding(over, jax.P(AXIS)))


def _stacked(*leaves: Any) -> Any:
    if jax.dtypes.issubdtype(leaves[0].dtype, jax.dtypes.prng_key):
        return jnp.stack(leaves)
    return np.stack([np.asarray(leaf) for leaf in leaves])


def share(tree: Any, over: jax.sharding.Mesh) -> Any:
    """A tree that all members read, on every device."""
    return jax.device_put(tree, NamedSharding(over, jax.P()))


def member(tree: Any, index: int) -> Any:
    """One member's part of a stacked tree."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


@functools.partial(jax.jit, static_argnames=("plan", "over", "batched"), donate_argnames="state")
def steps(
    plan: Plan,
    over: jax.sharding.Mesh,
    batched: bool,
    state: State,
    hyper: Any,
    anchor: Any,
    own: Any,
    shared: Any,
    count: Array,
) -> State:
    """`count` steps of every member.

    A member whose loss is not finite stays as it was before that step; the others go on.

    Args:
      plan: what is static, the same for all.
      over: the devices.
      batched: whether the members of a device are batched, or taken in turn.
      state, hyper, anchor: of all members, stacked.
      own: stream -> arrays that differ between members, stacked.
      shared: stream -> arrays that all members sample.
      count: of steps, traced.
    """

    def one(given: Any, shared: Any, count: Array) -> State:
        first, hyper, anchor, own = given

        def body(_: Array, state: State) -> State:
            new = train_step(plan, state, hyper, anchor, {**shared, **own}, {})
            failed = jnp.stack([fault >= 0 for fault in new.faults.values()]).any()
            held = state._replace(faults=new.faults)
            # A branch, not a choice by element, which would be fused with what it chooses from.
            return jax.lax.cond(failed, lambda held, new: held, lambda held, new: new, held, new)

        return jax.lax.fori_loop(0, count, body, first)

    def several(given: Any, shared: Any, count: Array) -> State:
        each = functools.partial(one, shared=shared, count=count)
        return jax.vmap(each)(given) if batched else jax.lax.map(each, given)

    along, whole = jax.P(AXIS), jax.P()
    spread = jax.shard_map(
        several, mesh=over, in_specs=(along, whole, whole), out_specs=along, check_vma=False
    )
    return spread((state, hyper, anchor, own), shared, count)


def fitting(
    plan: Plan, over: jax.sharding.Mesh, batched: bool, arguments: tuple, limit: int | None
) -> int:
    """How many members a device can hold, by the compiled program's own account of its memory.

    Args:
      plan, over, batched: see `steps`.
      arguments: `(state, hyper, anchor, own, shared, count)` of one member a device.
      limit: bytes of a device's memory; None where it does not say, which fits any number.
    """
    if limit is None:
        return 2**30
    state, hyper, anchor, own, shared, count = arguments

    def size(members: int) -> int:
        wide = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                (members * leaf.shape[0], *leaf.shape[1:]), leaf.dtype, sharding=leaf.sharding
            ),
            (state, hyper, anchor, own),
        )
        analysis = steps.lower(plan, over, batched, *wide, shared, count).compile()
        memory: Any = analysis.memory_analysis()
        return memory.argument_size_in_bytes + memory.temp_size_in_bytes

    one, two = size(1), size(2)
    return max(1, int((0.9 * limit - one) / max(two - one, 1)) + 1)

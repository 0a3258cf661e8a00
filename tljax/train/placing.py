"""Where a run's arrays live when it has several devices: batches split, parameters split.

A mesh has two axes. Both split every batch; `shard` splits parameters and optimiser state as well
(as FSDP and ZeRO do: Rajbhandari et al. 2020), so that a device holds its part of each leaf.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding

from tljax.errors import wrong
from tljax.train import hosts

AXES = ("data", "shard")


def mesh(sizes: Mapping[str, int], batches: Mapping[str, int], parts: int = 1) -> Mesh | None:
    """The mesh of a config's `dict(data=N, shard=M)`, over N·M devices; None where that is one.

    Args:
      sizes: of the axes; 1 if left out.
      batches: stream -> examples in a batch.
      parts: of a batch, taken one after another; the devices must divide each.

    Raises:
      UserError: more devices than there are, or a batch they do not divide.
    """
    shape = [sizes.get(axis, 1) for axis in AXES]
    count, devices = int(np.prod(shape)), jax.devices()
    if len(devices) % count:
        raise wrong("mesh", dict(sizes), f"a product that divides the {len(devices)} devices")
    if hosts.several() and len(devices) != count:
        everyone = f"all devices of the {jax.process_count()} processes"
        raise wrong("mesh", dict(sizes), f"a product of {len(devices)}, {everyone}")
    for stream, batch in batches.items():
        if batch % (count * parts):
            factors = [f"the {count} devices of the mesh"] * (count > 1)
            factors += [f"the {parts} parts of accumulate"] * (parts > 1)
            expected = f"a multiple of {' times '.join(factors)}"
            raise wrong(f"streams.{stream}.batch", batch, expected)
    if count == 1:
        return None
    grid = np.array(devices[:count]).reshape(shape)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def split(tree: Any, over: Mesh | None) -> Any:
    """A state or its like on the mesh: each leaf split along `shard`, where that divides a side."""
    if over is None:
        return tree
    return jax.tree.map(lambda leaf: _put(leaf, _of(leaf, over)), tree)


def keep_split(tree: Any, over: Mesh | None) -> Any:
    """The same within a program, whose results would else be put where the compiler likes."""
    if over is None:
        return tree
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, _of(x, over)), tree)


def whole(tree: Any, over: Mesh | None) -> Any:
    """Parameters within a program, gathered from all devices where they are computed with.

    Else the compiler may leave them split and gather the activations of the whole batch instead.
    """
    if over is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(over, jax.P()))


def _of(leaf: Any, over: Mesh) -> NamedSharding:
    """The longest side of a leaf that the devices divide is split; none of a small one."""
    parts = over.shape["shard"]
    sides = sorted(range(leaf.ndim), key=lambda side: -leaf.shape[side])
    side = next((s for s in sides if leaf.shape[s] and leaf.shape[s] % parts == 0), None)
    if side is None or parts == 1:
        return NamedSharding(over, jax.P())
    return NamedSharding(over, jax.P(*[None] * side, "shard"))


def everywhere(tree: Any, over: Mesh | None) -> Any:
    """A tree on every device of the mesh; on the one device where there is none."""
    if over is None:
        return jax.device_put(tree)
    return jax.tree.map(lambda leaf: _put(leaf, NamedSharding(over, jax.P())), tree)


def _put(leaf: Any, where: NamedSharding) -> Any:
    """An array that this process has whole, on the devices of all processes."""
    if not hosts.several():
        return jax.device_put(leaf, where)
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_put(jax.random.key_data(leaf), where))
    whole = np.asarray(leaf)
    return jax.make_array_from_callback(whole.shape, where, lambda index: whole[index])


def split_fed(fed: Any, over: Mesh | None) -> Any:
    """Batches that were read, `[steps, batch, ...]`, on the device or split over the mesh.

    Of several processes each has read its own part of every batch.
    """
    if over is None:
        return jax.device_put(fed)
    along = NamedSharding(over, jax.P(None, AXES))
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(along, x), fed)


def gathered(tree: Any, over: Mesh | None) -> Any:
    """A tree whole and on this process's side again, as numpy arrays; as it is without a mesh."""
    if over is None:
        return tree
    return jax.device_get(_gather(over)(tree))


@functools.cache
def _gather(over: Mesh) -> Callable[[Any], Any]:
    """The program that gathers, the same for every evaluation."""
    return jax.jit(lambda tree: tree, out_shardings=NamedSharding(over, jax.P()))


def split_batch(batch: Any, over: Mesh | None) -> Any:
    """A batch within a program, its examples split over all devices."""
    if over is None:
        return batch
    return jax.lax.with_sharding_constraint(batch, NamedSharding(over, jax.P(AXES)))

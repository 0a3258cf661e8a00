"""Weights through the entries of a naming, as the reader and the writer of files take them."""

import drawing
import jax
import jax.numpy as jnp
import numpy as np

from tljax import trees
from tljax.models import Network

KEY = jax.random.key(0)


def unflatten(leaves):
    """Nested dictionaries of leaves by path."""
    tree = {}
    for path, leaf in leaves.items():
        *above, last = path.split("/")
        room = tree
        for part in above:
            room = room.setdefault(part, {})
        room[last] = leaf
    return tree


def drawn(module, x, **kwargs):
    """Parameters of a trunk of which no leaf is as it was made: norms and biases move, too."""
    return drawing.variables(module, x, train=False, **kwargs)["params"]


def entries_of(naming, module, head=False):
    """The entries of a trunk, and its classifier's where it is wanted."""
    return [e for e in naming(module) if head or not e.path.startswith("params/heads/")]


def saved(entries, params):
    """name -> tensor, of `{"trunk": …}`."""
    leaves, tensors = trees.flatten({"params": params}), {}
    for entry in entries:
        parts = entry.save(np.asarray(leaves[entry.path]))
        assert not set(entry.names) & set(tensors), f"{entry.names} are written twice"
        tensors |= dict(zip(entry.names, parts, strict=True))
    return tensors


def loaded(entries, tensors):
    """`{"trunk": …, "heads": …}` from name -> tensor."""
    leaves = {e.path: jnp.asarray(e.load(*(tensors[n] for n in e.names))) for e in entries}
    return unflatten(leaves)["params"]


def check_covered(entries, trunk):
    """Every leaf is in one entry; what is written is read back as it was."""
    leaves = trees.flatten({"params": {"trunk": trunk}})
    assert sorted(entry.path for entry in entries) == sorted(leaves)
    again = trees.flatten({"params": loaded(entries, saved(entries, {"trunk": trunk}))})
    for path, leaf in leaves.items():
        np.testing.assert_array_equal(again[path], leaf)


def check_alive(module, x, **kwargs):
    """A loss of the features reaches every parameter."""
    params = drawn(module, x, **kwargs)

    @jax.jit
    def loss(params):
        z, _ = module.apply({"params": params}, x, train=True, **kwargs)
        return jnp.sum(jnp.sin(z))

    for path, leaf in trees.flatten(jax.grad(loss)(params)).items():
        assert jnp.all(jnp.isfinite(leaf)) and jnp.any(leaf != 0), path


def check_half(trunk, params, x):
    """In bfloat16 a network's features are near those of float32; token numbers stay integers."""
    net = Network(trunk=trunk)
    half, params = net.clone(precision="bfloat16"), {"trunk": params}
    z = net.apply({"params": params}, x, method="features")
    z_half, maps = half.apply({"params": half.rounded(params)}, x, method="features_and_maps")
    assert {each.dtype for each in maps.values()} == {jnp.dtype("bfloat16")}
    np.testing.assert_allclose(z_half, z, atol=0.05 * float(jnp.abs(z).max()))

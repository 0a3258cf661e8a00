"""Variables of a module without compiling: `init` outside of jit compiles a program a shape."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np


def variables(module, *inputs, **how):
    """As `module.init(key, *inputs, **how)` shapes them, of numbers that no initialiser makes.

    Kernels keep the size of what they are applied to; norms and biases are not 1 and 0.
    """
    rng = np.random.default_rng(0)

    def drawn(path, leaf):
        name, normal = path[-1].key, rng.standard_normal(leaf.shape, np.float32)
        if name == "var":
            return jnp.asarray(1 + np.abs(normal) / 2)
        if leaf.ndim < 2:
            return jnp.asarray((name in ("scale", "gamma")) + normal / 10)
        return jnp.asarray(normal / math.sqrt(math.prod(leaf.shape[:-1])))

    shapes = jax.eval_shape(functools.partial(module.init, **how), jax.random.key(0), *inputs)
    return jax.tree_util.tree_map_with_path(drawn, shapes)

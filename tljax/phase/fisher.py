"""How much each parameter mattered: the diagonal of the Fisher information."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tljax.phase.evaluate import examples, forward
from tljax.phase.phase import numbers
from tljax.phase.scoring import Split


def diagonal(network: Any, params: Any, batch_stats: Any, split: Split, seed: int) -> Any:
    """The mean over a split of (∂ log p(y|x)/∂w)², y drawn from the network's own p: like `params`.

    Of a split's own labels nothing is read: with them it would be the empirical Fisher, which is no
    curvature. Running statistics are used.

    Args:
      network: an unbound `models.Network`.
      params, batch_stats: its variables.
      split: whose head gives the logits.
      seed: of the draws.
    """
    run, length, batch = forward(network, split), len(split.table), split.stream.batch
    stream, key = jax.device_put(numbers(split.stream)), jax.random.key(seed)

    def chance(params: Any, example: Any, index: Array) -> Array:
        alone = jax.tree.map(lambda leaf: leaf[None], example)
        logits = run((params, batch_stats), stream, alone, index[None])[0][0]
        drawn = jax.random.categorical(jax.random.fold_in(key, index), logits)
        return jax.nn.log_softmax(logits)[drawn]

    @jax.jit
    def added(total: Any, params: Any, *examples: Any) -> Any:
        def one(total: Any, row: Any) -> tuple[Any, None]:
            example, index, counts = row
            slopes = jax.grad(chance)(params, example, index)
            return jax.tree.map(lambda t, g: t + counts * jnp.square(g), total, slopes), None

        return jax.lax.scan(one, total, examples)[0]

    total = jax.tree.map(jnp.zeros_like, params)
    for start in range(0, length, batch):
        there = (np.arange(start, start + batch) < length).astype(np.float32)  # of a filled batch
        total = added(total, params, *jax.device_put((*examples(split, start), there)))
    return jax.tree.map(lambda leaf: np.asarray(leaf / length), total)

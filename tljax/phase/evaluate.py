"""What a trained state says of a split, batch by batch."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax.data import streams, transforms
from tljax.data.table import Table
from tljax.errors import UserError, calling
from tljax.masked import array_of
from tljax.models.network import above
from tljax.phase import objective
from tljax.phase.phase import Stream, numbers
from tljax.phase.scoring import Outputs, Split

Computed = Callable[[Split, Any, Any, Any], Split]
"""(split, network, params, batch_stats) -> the split on the features that these give."""


@functools.partial(jax.jit, static_argnames="held_out")
def _seen(looks: Any, inputs: Any, indices: jax.Array, *, held_out: bool) -> Any:
    """A batch as transforms leave it."""
    # A key for the example, not the batch: it looks the same in every evaluation of every run.
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), indices)
    return transforms.apply(looks, inputs, keys, held_out=held_out)


@functools.partial(jax.jit, static_argnames=("network", "head", "layer", "stem", "stream"))
def _said(network: Any, variables: Any, inputs: Any, **names: Any) -> tuple[jax.Array, jax.Array]:
    params, batch_stats = variables
    return objective.predict(network, params, batch_stats, inputs, **names)


def forward(network: Any, split: Split) -> Any:
    """What gives (outputs, features) of ((params, batch_stats), stream, *examples).

    Two programs: splits that differ in what is done to their inputs share the network's.
    """
    network = above(network) if split.computed else network
    names = dict(head=split.head, layer=split.layer, stem=split.stream.stem)

    def compute(variables: Any, stream: Stream, inputs: Any, indices: Any) -> Any:
        with calling(f"{stream.name}.transforms"):
            inputs = _seen(stream.transforms, inputs, indices, held_out=split.held_out)
        return _said(network, variables, inputs, stream=split.statistics, **names)

    return compute


def examples(split: Split, start: int) -> tuple[Any, np.ndarray]:
    """The inputs from `start` on, the last one repeated where there are no more, and indices."""
    indices = np.arange(start, start + split.stream.batch, dtype=np.int32)
    indices = np.minimum(indices, len(split.table) - 1, dtype=np.int32)
    inputs = split.table.inputs(indices)
    streams.check_finite(np.asarray(array_of(inputs)), f"evaluate.{split.name}")
    return inputs, indices


def check_fit(network: Any, variables: Any, split: Split) -> tuple[int, ...]:
    """The shape of the outputs for a batch of a split that the network takes; nothing is computed.

    Raises:
      UserError: a split that it cannot take.
    """
    inputs, indices = examples(split, 0)
    pair = (variables["params"], variables["batch_stats"])
    try:
        made = jax.eval_shape(forward(network, split), pair, split.stream, inputs, indices)
    except objective.Incomplete as error:
        reason = str(error).partition(". ")[0]
        raise UserError(
            f"evaluate.{split.name}: inputs {inputs.shape[1:]}, with the stem, the head and the "
            f"statistics that it names, do not fit the network of phase {split.phase!r} ({reason})"
        ) from None
    return made[0].shape


def program(
    network: Any, params: Any, batch_stats: Any, split: Split
) -> Callable[[Any], tuple[jax.Array, jax.Array]]:
    """What `batches` computes of a batch of inputs `[n, ...]`, as one function of them alone."""
    stream, compute = numbers(split.stream), forward(network, split)

    def run(inputs: Any) -> tuple[jax.Array, jax.Array]:
        rows = array_of(inputs)
        ones = jnp.ones_like(rows.reshape(rows.shape[0], -1)[:, 0], jnp.int32)
        return compute((params, batch_stats), stream, inputs, jnp.cumsum(ones) - 1)

    return run


def batches(
    network: Any, params: Any, batch_stats: Any, split: Split
) -> Iterator[tuple[jax.Array, jax.Array]]:
    """The outputs `[batch, outputs]` and features `[batch, features]` of a split, as `outputs` has
    them, while they are still computed; the last batch is padded."""
    compute = forward(network, split)
    variables, stream = jax.device_put(((params, batch_stats), numbers(split.stream)))
    for start in range(0, len(split.table), split.stream.batch):
        inputs, indices = jax.device_put(examples(split, start))
        yield compute(variables, stream, inputs, indices)


def known(table: Table) -> tuple[Any, ...]:
    """What `Outputs` has of a table."""
    return table.label, table.labels, table.value, table.span, table.mask


def outputs(network: Any, params: Any, batch_stats: Any, split: Split) -> Outputs:
    """The network's outputs on a whole split, batch by batch.

    Args:
      network: an unbound `models.Network`.
      params, batch_stats: its variables.
      split: what to evaluate on; its labels are not shown to the network.
    """
    pieces = jax.device_get(list(batches(network, params, batch_stats, split)))
    table, parts = split.table, zip(*pieces, strict=True)
    logits, features = (np.concatenate(part)[: len(table)] for part in parts)
    return Outputs(logits, features, *jax.device_get(known(table)))

"""A trained state and a labelled split to metrics."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from tljax import metrics, objective
from tljax.data import streams, transforms
from tljax.data.sources import Table


class Split(NamedTuple):
    """A split to evaluate on, as the config names it."""

    name: str
    table: Table
    stream: streams.Stream  # its batch, transforms and stem; its name tells whose statistics
    numbers: Any  # of the transforms
    head: str = "label"
    statistics: str | None = None  # whose batch statistics, where each stream has its own


class Outputs(NamedTuple):
    """What a network says of a split."""

    logits: np.ndarray  # [n, outputs]
    features: np.ndarray  # [n, features]
    labels: np.ndarray  # [n]


@functools.partial(jax.jit, static_argnames=("network", "stream", "head", "statistics"))
def _forward(
    network: Any,
    params: Any,
    batch_stats: Any,
    numbers: Any,
    images: jax.Array,
    indices: jax.Array,
    *,
    stream: streams.Stream,
    head: str,
    statistics: str | None,
) -> tuple[jax.Array, jax.Array]:
    # A key for the example, not the batch: it looks the same in every evaluation of every run.
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), indices)
    images = transforms.apply(stream.transforms, numbers, images, keys, held_out=True)
    return objective.predict(
        network, params, batch_stats, images, head=head, stem=stream.stem, stream=statistics
    )


def outputs(network: Any, params: Any, batch_stats: Any, split: Split) -> Outputs:
    """The network's outputs on a whole split, batch by batch, the last one padded.

    Args:
      network: an unbound `models.Network`.
      params, batch_stats: its variables.
      split: what to evaluate on; its labels are not shown to the network.
    """
    length, batch = len(split.table), split.stream.batch
    numbers = jax.device_put(split.numbers)
    pieces = []
    for start in range(0, length, batch):
        indices = np.minimum(np.arange(start, start + batch), length - 1)
        images = split.table.take(indices).images
        if not isinstance(images, np.ndarray):
            images = np.stack([images[i] for i in range(batch)])
        streams.check_finite(images, f"evaluate.{split.name}")
        pieces.append(
            _forward(
                network,
                params,
                batch_stats,
                numbers,
                jax.device_put(images),
                jax.device_put(indices.astype(np.int32)),
                stream=split.stream,
                head=split.head,
                statistics=split.statistics,
            )
        )
    logits, features = (
        np.concatenate([np.asarray(jax.device_get(each)) for each in part])[:length]
        for part in zip(*pieces, strict=True)
    )
    assert split.table.labels is not None
    return Outputs(logits, features, split.table.labels)


def confusion(said: Outputs) -> np.ndarray:
    """Counts `[classes, classes]`: rows are the true classes, columns the predicted ones."""
    classes = said.logits.shape[-1]
    return metrics.confusion_matrix(said.logits.argmax(-1), said.labels, classes)


def score(said: Outputs) -> dict[str, float]:
    """`accuracy`, the mean `per_class_accuracy` and the cross-entropy `loss` of some outputs."""
    logits, _, labels = said
    shifted = logits - logits.max(-1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(len(labels)), labels]
    return {
        "accuracy": metrics.accuracy(logits.argmax(-1), labels),
        "per_class_accuracy": float(np.nanmean(metrics.per_class_accuracy(confusion(said)))),
        "loss": float(losses.mean()),
    }

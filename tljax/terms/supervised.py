"""Terms that read labels: classification, attributes, and compatibility with class embeddings."""

from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jax import Array

from tljax.checks import Decay, NotNegative, Positive
from tljax.data.mixing import LABELS, MIX
from tljax.errors import UserError, wrong
from tljax.losses import weighted_mean, zero_shot
from tljax.phase.objective import View


def cross_entropy(
    view: View,
    *,
    stream: str = "source",
    head: str = "label",
    smoothing: Decay = 0.0,
    class_weights: tuple[NotNegative, ...] = (),
) -> Array:
    """Softmax cross-entropy with the stream's labels, smoothed by `smoothing`.

    `class_weights`, one for each class, weigh the examples: Σ wᵢ Lᵢ / Σ wᵢ over the batch. Of an
    example that is mixed of two, each label counts by its share.
    """
    least, default = max(view.classes[stream]) + 1, len(view.names[stream])
    logits = view.net.head(head, view.features[stream], least, default=default)
    shares = view.batch[stream].get(MIX)  # of the two labels of each example that is mixed
    labels = view.batch[stream]["label" if shares is None else LABELS]
    logits = logits if shares is None else logits[:, None]
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    losses = optax.losses.softmax_cross_entropy(logits, targets)
    if not class_weights:
        return losses if shares is None else (shares * losses).sum(-1)
    if len(class_weights) != len(view.names[stream]):
        expected = f"one weight for each of the {len(view.names[stream])} classes of {stream!r}"
        raise wrong("class_weights", class_weights, expected)
    weights = jnp.asarray(class_weights, jnp.float32)[labels]
    weights = weights if shares is None else shares * weights
    return weighted_mean(losses.ravel(), weights.ravel())


def binary_cross_entropy(view: View, *, stream: str = "source", head: str = "label") -> Array:
    """Binary cross-entropy with the `labels` [batch, classes] that each example has, their mean."""
    wanted = view.batch[stream]["labels"]
    logits = view.net.head(head, view.features[stream], default=wanted.shape[-1])
    _as_wide(logits, wanted, head, "class in 'labels'")
    return optax.losses.sigmoid_binary_cross_entropy(logits, wanted).mean(-1)


def _predicted(view: View, stream: str, head: str) -> tuple[Array, Array]:
    """What a head predicts, and the values [batch, size] to be predicted."""
    value = view.batch[stream]["value"]
    value = value.reshape(len(value), -1)
    predicted = view.net.head(head, view.features[stream], default=value.shape[-1])
    _as_wide(predicted, value, head, "number in 'value'")
    return predicted, value


def _as_wide(outputs: Array, wanted: Array, head: str, what: str) -> None:
    if outputs.shape[-1] != wanted.shape[-1]:  # a single one would be broadcast
        raise UserError(
            f"head {head!r} has {outputs.shape[-1]} outputs; expected {wanted.shape[-1]}, one for "
            f"each {what} (network.heads.{head}.outputs)"
        )


def squared_error(view: View, *, stream: str = "source", head: str = "value") -> Array:
    """(prediction − value)², without ½, the mean over the values of an example."""
    return optax.losses.squared_error(*_predicted(view, stream, head)).mean(-1)


def huber(
    view: View, *, stream: str = "source", head: str = "value", delta: Positive = 1.0
) -> Array:
    """Huber's loss: ½ e² up to |e| = `delta`, linear beyond (Huber 1964)."""
    return optax.losses.huber_loss(*_predicted(view, stream, head), delta=delta).mean(-1)


def attributes(
    view: View, *, stream: str = "source", head: str = "attributes", table: str = "attributes"
) -> Array:
    """Binary cross-entropy with the attributes in [0, 1] of each label's class, over all of them.

    A head of one output an attribute; the first half of DAP (Lampert et al. 2009).
    """
    logits = view.net.head(head, view.features[stream], default=view.tables[table].shape[-1])
    wanted = view.tables[table][view.batch[stream]["label"]]
    _fits(view, stream, logits, head, table)
    return optax.losses.sigmoid_binary_cross_entropy(logits, wanted).mean(-1)


RANKINGS = {"devise": zero_shot.devise, "sje": zero_shot.sje, "ale": zero_shot.ale}


def compatibility(
    view: View,
    *,
    stream: str = "source",
    head: str = "embed",
    table: str = "attributes",
    loss: Literal["softmax", "devise", "sje", "ale"] = "softmax",
    scale: Positive = 1.0,
    margin: NotNegative = 0.1,
) -> Array:
    """Labels against the compatibility with each class's embedding: head(z)·φ(y), times `scale`.

    Only the classes that the stream may hold compete: the seen ones. `loss` is "softmax", or a
    ranking with `margin`: "devise", "sje", "ale".
    """
    embedded = view.net.head(head, view.features[stream], default=view.tables[table].shape[-1])
    _fits(view, stream, embedded, head, table)
    seen = jnp.array(view.classes[stream])
    scores = scale * (embedded @ view.tables[table][seen].T)
    places = jnp.searchsorted(seen, view.batch[stream]["label"])
    if loss == "softmax":
        return optax.losses.softmax_cross_entropy_with_integer_labels(scores, places)
    return RANKINGS[loss](scores, places, margin)


def _fits(view: View, stream: str, outputs: Array, head: str, name: str) -> None:
    table, label = view.tables[name], max(view.classes.get(stream, ()), default=0)
    if label >= len(table):  # an index would be cut to the last row
        raise UserError(
            f"table {name!r} has {len(table)} rows; expected one for label {label} of stream "
            f"{stream!r} (tables.{name}.like={stream!r})"
        )
    if outputs.shape[-1] != table.shape[-1]:
        raise UserError(
            f"head {head!r} has {outputs.shape[-1]} outputs; expected {table.shape[-1]}, one for "
            f"each attribute of table {name!r} (network.heads.{head}.outputs)"
        )

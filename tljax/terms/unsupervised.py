"""Terms that read no label: reconstruction, agreement of two views, clusters."""

import jax
import optax
from jax import Array

from tljax.checks import NotNegative, Positive, Share
from tljax.errors import UserError
from tljax.losses import clustering, self_taught
from tljax.phase.objective import View


def reconstruction(
    view: View, *, stream: str = "source", clean: str = "", head: str = "decoder"
) -> Array:
    """The mean squared error of the decoded features against the stream's own inputs.

    With `clean`, the stream whose inputs are to be decoded from `stream`'s corrupted ones: a
    denoising autoencoder (Vincent et al. 2008).
    """
    inputs = view.batch[clean or stream]["input"]
    wanted = inputs.reshape(len(inputs), -1)
    decoded = view.net.head(head, view.features[stream], default=wanted.shape[-1])
    if decoded.shape[-1] != wanted.shape[-1]:
        raise UserError(
            f"head {head!r} has {decoded.shape[-1]} outputs; expected {wanted.shape[-1]}, one for "
            f"each number of an input {inputs.shape[1:]} (network.heads.{head}.outputs)"
        )
    return self_taught.reconstruction(wanted, decoded)


def pair(
    view: View, first: str, second: str, head: str, outputs: int | None = None
) -> tuple[Array, Array]:
    views = view.features[first], view.features[second]
    if len(views[0]) != len(views[1]):
        raise UserError(
            f"second: stream {second!r} has a batch of {len(views[1])}, {first!r} of "
            f"{len(views[0])}; expected two views of one batch (streams.{second}.of={first!r})"
        )
    one, other = (view.net.head(head, z, default=outputs) if head else z for z in views)
    return one, other


def nt_xent(
    view: View,
    *,
    first: str = "source",
    second: str = "view",
    head: str = "projection",
    temperature: Positive = 0.5,
) -> Array:
    """SimCLR: each view is to find the other among the batch (Chen et al. 2020)."""
    return self_taught.nt_xent(*pair(view, first, second, head), temperature)


def barlow_twins(
    view: View,
    *,
    first: str = "source",
    second: str = "view",
    head: str = "projection",
    off_diagonal: NotNegative = 5e-3,
) -> Array:
    """The views' cross-correlation is to be the identity (Zbontar et al. 2021)."""
    return self_taught.barlow_twins(*pair(view, first, second, head), off_diagonal)


def vicreg(
    view: View,
    *,
    first: str = "source",
    second: str = "view",
    head: str = "projection",
    similarity: NotNegative = 25.0,
    variance: NotNegative = 25.0,
    covariance: NotNegative = 1.0,
) -> Array:
    """Agreement of the views, with variance kept and covariance removed (Bardes et al. 2022)."""
    views = pair(view, first, second, head)
    return self_taught.vicreg(*views, similarity, variance, covariance)


def scan(
    view: View,
    *,
    stream: str = "target",
    neighbour: str = "neighbour",
    head: str = "cluster",
    entropy_weight: NotNegative = 5.0,
) -> Array:
    """SCAN: the same cluster for an example and its neighbour, all clusters in use.

    Van Gansbeke et al. 2020, eq. 2. Negative when it works.
    """
    return clustering.scan(
        *pair(view, stream, neighbour, head, len(view.names[stream])), entropy_weight
    )


def self_label(
    view: View,
    *,
    stream: str = "target",
    augmented: str = "augmented",
    head: str = "cluster",
    threshold: Share = 0.99,
) -> Array:
    """SCAN's self-labelling: an augmented view takes the cluster of a confident example."""
    return clustering.self_label(
        *pair(view, stream, augmented, head, len(view.names[stream])), threshold
    )


def embedded_clustering(view: View, *, stream: str = "target", head: str = "cluster") -> Array:
    """DEC: soft assignments against their own sharpened targets (Xie et al. 2016, eq. 2).

    `head` is of kind "prototypes", which the preparation `kmeans` fills.
    """
    logits = view.net.head(head, view.features[stream], default=len(view.names[stream]))
    wanted = clustering.target_distribution(jax.nn.softmax(logits))
    return optax.losses.kl_divergence(jax.nn.log_softmax(logits), wanted)

"""Heads: features to outputs `[batch, outputs]`. Each learns its input width when it is called."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from tljax.checks import Count, Outputs, Positive, Width
from tljax.errors import UserError
from tljax.solvers.readout import knn_logits


class Linear(nn.Module, kw_only=True):
    """One dense layer."""

    outputs: Outputs = None  # how many; None: as many as a term asks for
    bias: bool = True

    @nn.compact
    def __call__(self, z: Array) -> Array:
        return nn.Dense(self.outputs, self.bias, name="output")(z)


class MLPHead(nn.Module, kw_only=True):
    """Dense layers of width `hidden` with ReLU, then one of `outputs`."""

    outputs: Outputs = None  # how many; None: as many as a term asks for
    hidden: tuple[Width, ...] = (128,)

    @nn.compact
    def __call__(self, z: Array) -> Array:
        for i, width in enumerate(self.hidden):
            z = nn.relu(nn.Dense(width, name=f"dense_{i}")(z))
        return nn.Dense(self.outputs, name="output")(z)


class Prototypes(nn.Module, kw_only=True):
    """`outputs` points among the features; softmax of the outputs is DEC's soft assignment.

    The outputs are −(α + 1)/2 · log(1 + ‖z − μ‖²/α), so that the nearest prototype has the
    largest (Xie et al. 2016, eq. 1).
    """

    outputs: Outputs = None  # how many; None: as many as a term asks for
    alpha: Positive = 1.0

    @nn.compact
    def __call__(self, z: Array) -> Array:
        shape = (self.outputs, z.shape[-1])
        centroids = self.param("centroids", nn.initializers.normal(1.0), shape)
        distances = jnp.sum((z[:, None, :] - centroids[None]) ** 2, axis=-1)
        return -0.5 * (self.alpha + 1.0) * jnp.log1p(distances / self.alpha)


class Neighbours(nn.Module, kw_only=True):
    """Weighted k nearest neighbours in a bank of features, which the preparation `knn` fills."""

    outputs: Outputs = None  # how many; None: as many as a term asks for
    k: Count = 20
    temperature: Positive = 0.07

    @nn.compact
    def __call__(self, z: Array) -> Array:
        bank: Array | None = self.get_variable("params", "bank")
        labels: Array = self.get_variable("params", "labels")
        if bank is None:
            raise UserError(f"head {self.name!r} is filled by a preparation (knn), not trained")
        return knn_logits(z, bank, labels.astype(jnp.int32), self.outputs, self.k, self.temperature)


HEADS: dict[str, type[nn.Module]] = {
    "linear": Linear,
    "mlp": MLPHead,
    "prototypes": Prototypes,
    "neighbours": Neighbours,
}

"""Heads: features to outputs `[batch, outputs]`. Each learns its input width when it is called."""

import flax.linen as nn
import jax
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
    """Dense layers of width `hidden` with ReLU, then one of `outputs`.

    With `spectral` they are `Spectral` ones, which keep a discriminator from growing steep.
    """

    outputs: Outputs = None  # how many; None: as many as a term asks for
    hidden: tuple[Width, ...] = (128,)
    spectral: bool = False

    @nn.compact
    def __call__(self, z: Array) -> Array:
        dense = Spectral if self.spectral else nn.Dense
        for i, width in enumerate(self.hidden):
            z = nn.relu(dense(width, name=f"dense_{i}")(z))
        return dense(self.outputs, name="output")(z)


class Spectral(nn.Module):
    """A dense layer whose kernel `[in, features]` is divided by its largest singular value.

    Miyato et al. 2018 ("Spectral Normalization for Generative Adversarial Networks"), algorithm 1;
    but by `steps` of the power method from a fixed vector, so that nothing is kept between steps.
    """

    features: int
    steps: int = 8

    @nn.compact
    def __call__(self, z: Array) -> Array:
        shape = (z.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        still, right = jax.lax.stop_gradient(kernel), jnp.ones((self.features, 1), kernel.dtype)
        for _ in range(self.steps):
            left = _unit(still @ right)
            right = _unit(still.T @ left)
        largest = (left.T @ kernel @ right)[0, 0]
        return z @ (kernel / largest) + bias.reshape(*(1,) * (z.ndim - 1), -1)


def _unit(vector: Array) -> Array:
    return vector / jnp.maximum(jnp.linalg.norm(vector), 1e-12)


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

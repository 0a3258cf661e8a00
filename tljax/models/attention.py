"""The parts of a transformer, which `vit`, `bert` and `clip` share: attention, MLP and block."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from tljax.checks import WIDEST, Range
from tljax.errors import wrong

Gelu = Literal["exact", "tanh", "quick"]
GELU: dict[str, Callable[[Array], Array]] = {
    "exact": partial(nn.gelu, approximate=False),
    "tanh": nn.gelu,
    "quick": lambda x: x * nn.sigmoid(1.702 * x),
}
"""Hendrycks & Gimpel 2016: x·Φ(x), its approximation by tanh, and the one by a sigmoid (OpenAI)."""

Size = Annotated[int, Range(0, WIDEST, whole=True)]  # 0: none, or as the variant has it
Depth = Annotated[int, Range(0, 1000, whole=True)]
# The variance of the differences, as torch takes it: E[x²] − E[x]² loses digits.
LayerNorm = partial(nn.LayerNorm, use_fast_variance=False)


class Attention(nn.Module):
    """Multi-head self-attention; softmax in float32 (Vaswani et al. 2017).

    Queries, keys and values are one product, `qkv/kernel` `[width, 3·width]` in that order.

    Args:
      x: `[batch, tokens, width]`.
      mask: whether a query sees a key, `[batch or 1, 1, tokens or 1, tokens]`; None: all do.
      first: how many tokens at the start ask, and are not asked; 0: all ask all.

    Returns:
      `[batch, tokens or first, width]`.
    """

    heads: int
    bias: bool = True

    @nn.compact
    def __call__(self, x: Array, mask: Array | None = None, first: int = 0) -> Array:
        batch, tokens, width = x.shape
        if width % self.heads:
            raise wrong("heads", self.heads, f"a divisor of the width, {width}")
        qkv = nn.Dense(3 * width, self.bias, name="qkv")(x)
        q, k, v = jnp.split(qkv.reshape(batch, tokens, 3 * self.heads, -1), 3, axis=2)
        if first:
            q, k, v = q[:, :first], k[:, first:], v[:, first:]
        y = jax.nn.dot_product_attention(q, k, v, mask=mask)
        return nn.Dense(width, name="output")(y.reshape(batch, -1, width))


class MLP(nn.Module):
    """`[..., width]` → `[..., hidden]` → `[..., width]`."""

    hidden: int
    gelu: Gelu = "exact"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = GELU[self.gelu](nn.Dense(self.hidden, name="expand")(x))
        return nn.Dense(x.shape[-1], name="contract")(y)


class Block(nn.Module):
    """Attention and MLP, each added to what it reads: `[batch, tokens, width]`.

    Normalised before (ViT, CLIP), or the sum after (`post`, BERT); times a learned scale for each
    feature that starts at `scale`, unless that is 0 (LayerScale, Touvron et al. 2021).
    """

    heads: int
    hidden: int
    gelu: Gelu = "exact"
    epsilon: float = 1e-6
    bias: bool = True
    scale: float = 0.0
    post: bool = False

    @nn.compact
    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        parts: dict[str, Callable[[Array], Array]] = {
            "attention": lambda x: Attention(self.heads, self.bias, name="attention")(x, mask),
            "mlp": MLP(self.hidden, self.gelu, name="mlp"),
        }
        for name, part in parts.items():
            norm = LayerNorm(self.epsilon, name=f"norm_{name}")
            if self.post:
                x = norm(x + part(x))
                continue
            y = part(norm(x))
            if self.scale:
                shape = (x.shape[-1],)
                scale = self.param(f"scale_{name}", nn.initializers.constant(self.scale), shape)
                y = y * scale.reshape(1, 1, -1)
            x = x + y
        return x


def stacked(
    x: Array, depth: int, mask: Array | None = None, **fields: Any
) -> tuple[Array, dict[str, Array]]:
    """`depth` blocks of these fields, called `block_i`, and what each of them gives, by its name.

    To be called by a module, which they belong to.
    """
    maps = {}
    for i in range(depth):
        x = maps[f"block_{i}"] = Block(**fields, name=f"block_{i}")(x, mask)
    return x, maps


class AttentionPool(nn.Module):
    """One learned query asks all tokens, then an MLP: `[batch, tokens, width]` → `[batch, width]`.

    Zhai et al. 2022 (Scaling Vision Transformers), as SigLIP has it.
    """

    heads: int
    hidden: int
    gelu: Gelu = "exact"
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Array) -> Array:
        batch, _, width = x.shape
        probe = self.param("probe", nn.initializers.xavier_uniform(), (1, 1, width))
        # The query's product with keys and values is computed beside, and dropped: one row of many.
        x = jnp.concatenate([jnp.broadcast_to(probe, (batch, 1, width)), x], axis=1)
        y = Attention(self.heads, name="attention")(x, first=1)
        y = y + MLP(self.hidden, self.gelu, name="mlp")(LayerNorm(self.epsilon, name="norm")(y))
        return y[:, 0]


class Patches(nn.Module):
    """A convolution whose stride is its kernel, as one product of the pixels of every patch.

    `[batch, height, width, in]` → `[batch, height // patch, width // patch, features]`; what is
    left at the right and the bottom is dropped, as "valid" convolutions do. Parameters are those of
    the convolution: `kernel` `[patch, patch, in, features]`, `bias`.
    """

    features: int
    patch: int
    bias: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        p, (batch, height, width, inputs) = self.patch, x.shape
        rows, columns = height // p, width // p
        if not rows * columns:
            raise wrong("patch", p, f"at most the image's size, {height} × {width}")
        shape = (p, p, inputs, self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        x = x[:, : rows * p, : columns * p].reshape(batch, rows, p, columns, p, inputs)
        x = x.swapaxes(2, 3).reshape(batch, rows, columns, -1) @ kernel.reshape(-1, self.features)
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            x = x + bias.reshape(1, 1, 1, -1)
        return x

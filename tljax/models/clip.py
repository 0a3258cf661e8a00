"""The text towers of CLIP (Radford et al. 2021) and SigLIP (Zhai et al. 2023), and their names.

The image towers are `vit.ViT`: docs/backbones_transformers.md has the fields of each.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from tljax.checks import Count, Positive, Whole, Width
from tljax.models.attention import Depth, Gelu, LayerNorm, Size, stacked
from tljax.models.bert import EXAMPLE, check_tokens
from tljax.models.naming import CLASSIFIER, TRUNK, block, embedding, layer_norm
from tljax.models.vit_names import CLIP
from tljax.models.weights import Entry, linear

__all__ = ["EXAMPLE", "IGNORED", "NAMINGS", "TextTower"]


class TextTower(nn.Module, kw_only=True):
    """The text tower of CLIP, or SigLIP's; its maps are `block_i` and `tokens`, normalised.

    CLIP's reads forwards and its features are those of the first token `end`, so that what follows
    does not matter; SigLIP's reads both ways and its features are those of the last token, of
    texts that are always padded to its whole length.
    """

    vocabulary: Width = 49408
    length: Count = 77  # of the longest input
    width: Width = 512
    depth: Depth = 12
    heads: Count = 8
    mlp: Size = 0  # the width within the MLPs; 0: four times the width
    causal: bool = True  # whether a token reads only those before it
    pool: Literal["end", "last", "none"] = "end"
    end: Whole = 49407
    gelu: Gelu = "quick"
    epsilon: Positive = 1e-5
    projection: Size = 512  # of the features; 0: none
    projection_bias: bool = False

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, stream: str | None = None, mask: Array | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Token numbers `[batch, length]` → (`[batch, features]`, maps `[batch, length, width]`).

        Args:
          x: integers below `vocabulary`.
          train, stream: as of every trunk; nothing here depends on them.
          mask: `[batch, length]`, which tokens are read; None: all.

        Raises:
          UserError: inputs that are not integers of two axes, or that are too long.
        """
        check_tokens(x, self.length)
        tokens, length = x, x.shape[1]
        x = nn.Embed(self.vocabulary, self.width, name="tokens")(tokens)
        x = x + nn.Embed(self.length, self.width, name="positions")(jnp.arange(length)[None])
        read = jnp.ones((1, 1, 1, length), bool) if mask is None else mask[:, None, None, :] != 0
        if self.causal:
            read = read & jnp.tri(length, dtype=bool)[None, None]
        fields: dict[str, Any] = dict(
            heads=self.heads, hidden=self.mlp or 4 * self.width, gelu=self.gelu
        )
        x, maps = stacked(x, self.depth, read, epsilon=self.epsilon, **fields)
        x = maps["tokens"] = LayerNorm(self.epsilon, name="norm")(x)
        z = self._pooled(x, tokens)
        if self.projection:
            z = nn.Dense(self.projection, self.projection_bias, name="projection")(z)
        return z, maps

    def _pooled(self, x: Array, tokens: Array) -> Array:
        """Tokens → features; of a text without an end, those of its first token."""
        if self.pool == "none":
            return x
        if self.pool == "last":
            return x[:, -1]
        at = jnp.argmax(tokens == self.end, axis=1)
        return jnp.take_along_axis(x, at[:, None, None], axis=1)[:, 0]


def class_vectors(text: TextTower, params: Any, tokens: Array) -> Array:
    """What a text tower says of classes: the mean of their prompts, each and it of length 1.

    Products with an image tower's features of length 1 are cosines, by which CLIP classifies
    without examples (Radford et al. 2021, §3.1): the rows of a class × attribute table.

    Args:
      text: the tower.
      params: its parameters.
      tokens: `[classes, prompts, length]`.

    Returns:
      `[classes, features]`.
    """
    z, _ = text.apply({"params": params}, tokens.reshape(-1, tokens.shape[-1]), train=False)
    z = _unit(z).reshape(*tokens.shape[:2], -1)
    return _unit(z.mean(axis=1))


def _unit(z: Array) -> Array:
    return z / jnp.linalg.norm(z, axis=-1, keepdims=True)


def transformers(text: TextTower, prefix: str = "text_model.") -> list[Entry]:
    """The names of CLIPModel and SiglipModel, whose projections have different names."""
    start = f"{prefix}embeddings."
    entries = embedding(f"{TRUNK}/tokens", f"{start}token_embedding")
    entries += embedding(f"{TRUNK}/positions", f"{start}position_embedding")
    for i in range(text.depth):
        entries += block(f"{TRUNK}/block_{i}", f"{prefix}encoder.layers.{i}.", CLIP)
    entries += layer_norm(f"{TRUNK}/norm", f"{prefix}final_layer_norm")
    if text.projection:
        name = f"{prefix}head" if text.projection_bias else "text_projection"
        entries += linear(f"{TRUNK}/projection", name, text.projection_bias)
    return entries + linear(CLASSIFIER, "classifier")


NAMINGS: dict[str, Callable[[TextTower], list[Entry]]] = {
    "transformers": transformers,
    "transformers, bare": partial(transformers, prefix=""),
}
IGNORED = (
    *("*embeddings.position_ids", "vision_model.*", "visual_projection.*"),
    *("logit_scale", "logit_bias"),
)
"""Globs of tensors that no module here has: the image tower, and a table of 0, 1, 2, …"""

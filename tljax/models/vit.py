"""Vision transformers (Dosovitskiy et al. 2021), and their names in public files.

One module is ViT, DeiT, MAE's encoder, DINOv2 with and without registers, and the image towers of
CLIP and SigLIP: docs/backbones_transformers.md has the fields of each.
"""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from tljax.checks import Count, NotNegative, Positive, Whole
from tljax.errors import wrong
from tljax.models.attention import AttentionPool, Depth, Gelu, LayerNorm, Patches, Size, stacked
from tljax.models.positions import Resize, resized
from tljax.models.vit_names import IGNORED, NAMINGS

SIZES = {  # width, depth, heads
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
}
__all__ = ["IGNORED", "NAMINGS", "ViT"]


class ViT(nn.Module, kw_only=True):
    """A vision transformer for images of any size; its maps are `block_i` and `tokens`.

    Maps are `[batch, tokens, width]`: the class token if there is one, registers, then the patches
    row by row; `tokens` are those of the last block, normalised (unless `norm` says otherwise).
    Positions are learned for `image` and interpolated for other sizes.
    """

    variant: Literal["tiny", "small", "base", "large", "huge"] = "small"
    width: Size = 0  # this and the next two, 0: the variant's
    depth: Depth = 0
    heads: Size = 0
    mlp: Size = 0  # the width within the MLPs; 0: four times the width
    patch: Count = 16
    image: Count = 224  # for which the table of positions is made
    class_token: bool = True
    class_position: bool = True  # whether the class token has a position of its own
    registers: Whole = 0  # tokens that are learned and have no position (Darcet et al. 2024)
    pool: Literal["class", "mean", "both", "attention", "none"] = "class"
    norm: Literal["tokens", "pooled", "none"] = "tokens"  # what is normalised at the end
    gelu: Gelu = "exact"
    epsilon: Positive = 1e-6
    layer_scale: NotNegative = 0.0  # where it starts; 0: there is none
    pre_norm: bool = False  # a norm before the first block, as CLIP has it
    qkv_bias: bool = True
    patch_bias: bool = True
    resize: Resize = "smooth"
    projection: Size = 0  # of the features, without a bias; 0: none

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, stream: str | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """`[batch, height, width, channels]` → (`[batch, features]`, maps).

        The features are `[batch, tokens, width]` with the pool "none", and twice as wide with
        "both": the class token, then the mean of the patches.
        """
        width, depth, heads, hidden = self.sizes
        if self.pool in ("class", "both") and not self.class_token:
            raise wrong("pool", self.pool, "mean, attention or none, without a class token")
        x = self._embedded(x, width)
        if self.pre_norm:
            x = LayerNorm(self.epsilon, name="pre_norm")(x)
        fields: dict[str, Any] = dict(
            heads=heads, hidden=hidden, gelu=self.gelu, epsilon=self.epsilon
        )
        fields |= dict(bias=self.qkv_bias, scale=self.layer_scale)
        x, maps = stacked(x, depth, **fields)
        norm = LayerNorm(self.epsilon, name="norm") if self.norm != "none" else None
        x = norm(x) if norm and self.norm == "tokens" else x
        z = self._pooled(x, heads, hidden)
        z = norm(z) if norm and self.norm == "pooled" else z
        if self.projection:
            z = nn.Dense(self.projection, use_bias=False, name="projection")(z)
        return z, {**maps, "tokens": x}

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """(width, depth, heads, width within the MLPs)."""
        width, depth, heads = SIZES[self.variant]
        width = self.width or width
        return width, self.depth or depth, self.heads or heads, self.mlp or 4 * width

    def _embedded(self, x: Array, width: int) -> Array:
        """Images → tokens with their positions."""
        draw, side = nn.initializers.normal(0.02), self.image // self.patch
        x = Patches(width, self.patch, self.patch_bias, name="patches")(x)
        batch, grid = x.shape[0], (x.shape[1], x.shape[2])
        own = int(self.class_token and self.class_position)
        table = self.param("position", draw, (1, own + side * side, width))
        x = x.reshape(batch, -1, width) + resized(table[:, own:], grid, self.resize)
        first = []
        if self.class_token:
            token = self.param("class_token", draw, (1, 1, width))
            first.append(token + table[:, :1] if own else token)
        if self.registers:
            first.append(self.param("registers", draw, (1, self.registers, width)))
        first = [jnp.broadcast_to(token, (batch, *token.shape[1:])) for token in first]
        return jnp.concatenate([*first, x], axis=1)

    def _pooled(self, x: Array, heads: int, hidden: int) -> Array:
        """Tokens → features."""
        if self.pool == "attention":
            return AttentionPool(heads, hidden, self.gelu, self.epsilon, name="pool")(x)
        mean = x[:, self.class_token + self.registers :].mean(axis=1)
        both = jnp.concatenate([x[:, 0], mean], axis=-1)
        return {"class": x[:, 0], "mean": mean, "both": both, "none": x}[self.pool]

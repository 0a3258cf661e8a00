"""Vision transformers (Dosovitskiy et al. 2021), and their names in public files.

One module is ViT, DeiT, MAE's encoder, DINOv2 with and without registers, and the image towers of
CLIP and SigLIP: docs/backbones_transformers.md has the fields of each.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from tljax.checks import Count, NotNegative, Positive, Whole
from tljax.errors import wrong
from tljax.models.attention import AttentionPool, Block, Depth, Gelu, LayerNorm, Patches, Size
from tljax.models.naming import (
    HEAD,
    TRUNK,
    block,
    convolution,
    dense,
    leaf,
    linen,
    linen_attention,
    norm,
    only,
    qkv,
)
from tljax.models.positions import Resize, resized
from tljax.models.weights import Entry

SIZES = {  # width, depth, heads
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
}


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
        width, depth, heads, hidden = sizes(self)
        if self.pool in ("class", "both") and not self.class_token:
            raise wrong("pool", self.pool, "mean, attention or none, without a class token")
        x = self._embedded(x, width)
        if self.pre_norm:
            x = LayerNorm(self.epsilon, name="pre_norm")(x)
        maps = {}
        for i in range(depth):
            block = (heads, hidden, self.gelu, self.epsilon, self.qkv_bias, self.layer_scale)
            x = maps[f"block_{i}"] = Block(*block, name=f"block_{i}")(x)
        norm = LayerNorm(self.epsilon, name="norm") if self.norm != "none" else None
        x = norm(x) if norm and self.norm == "tokens" else x
        z = self._pooled(x, heads, hidden)
        z = norm(z) if norm and self.norm == "pooled" else z
        if self.projection:
            z = nn.Dense(self.projection, use_bias=False, name="projection")(z)
        return z, {**maps, "tokens": x}

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


def sizes(vit: ViT) -> tuple[int, int, int, int]:
    """(width, depth, heads, width of the MLPs)."""
    width, depth, heads = SIZES[vit.variant]
    width = vit.width or width
    return width, vit.depth or depth, vit.heads or heads, vit.mlp or 4 * width


TIMM = dict(
    qkv="attn.qkv",
    output="attn.proj",
    expand="mlp.fc1",
    contract="mlp.fc2",
    norm_attention="norm1",
    norm_mlp="norm2",
    scale_attention="ls1.gamma",
    scale_mlp="ls2.gamma",
)
QKV = "attention.attention.query attention.attention.key attention.attention.value"
DINO = dict(
    TIMM,
    qkv=QKV,
    output="attention.output.dense",
    scale_attention="layer_scale1.lambda1",
    scale_mlp="layer_scale2.lambda1",
)
HF = dict(
    qkv=QKV,
    output="attention.output.dense",
    expand="intermediate.dense",
    contract="output.dense",
    norm_attention="layernorm_before",
    norm_mlp="layernorm_after",
)


def tokens(vit: ViT, token: str, position: str, registers: str) -> list[Entry]:
    """What stands beside the patches, and the positions."""
    entries = [leaf(f"{TRUNK}/position", position)]
    entries += [leaf(f"{TRUNK}/class_token", token)] if vit.class_token else []
    return entries + ([leaf(f"{TRUNK}/registers", registers)] if vit.registers else [])


def blocks(vit: ViT, prefix: str, parts: Mapping[str, str]) -> list[Entry]:
    """All blocks in torch's layout; `prefix` ends before the number."""
    bias, scale = vit.qkv_bias, bool(vit.layer_scale)
    each = [
        block(f"{TRUNK}/block_{i}", f"{prefix}{i}.", parts, bias, scale)
        for i in range(sizes(vit)[1])
    ]
    return sum(each, [])


def timm(vit: ViT, registers: str = "reg_token") -> list[Entry]:
    """The names of timm, DeiT and MAE; DINOv2's own call the registers `register_tokens`."""
    only(vit, "timm", projection=0)
    if vit.registers and registers == "reg_token":  # timm's table has rows for them otherwise
        only(vit, "timm with registers", class_position=False)
    entries = tokens(vit, "cls_token", "pos_embed", registers)
    entries += convolution(f"{TRUNK}/patches", "patch_embed.proj", vit.patch_bias)
    entries += norm(f"{TRUNK}/pre_norm", "norm_pre") if vit.pre_norm else []
    entries += blocks(vit, "blocks.", TIMM)
    if vit.norm != "none":
        entries += norm(f"{TRUNK}/norm", "norm" if vit.norm == "tokens" else "fc_norm")
    if vit.pool == "attention":
        path = f"{TRUNK}/pool"
        entries += [leaf(f"{path}/probe", "attn_pool.latent")]
        entries += qkv(f"{path}/attention/qkv", ("attn_pool.q", "attn_pool.kv"))
        entries += dense(f"{path}/attention/output", "attn_pool.proj")
        entries += norm(f"{path}/norm", "attn_pool.norm")
        entries += dense(f"{path}/mlp/expand", "attn_pool.mlp.fc1")
        entries += dense(f"{path}/mlp/contract", "attn_pool.mlp.fc2")
    return entries + dense(HEAD, "head")


def transformers(vit: ViT, bare: bool = False) -> list[Entry]:
    """ViT's and ViTMAE's names, or with a LayerScale DINOv2's; `bare` where no head is on top."""
    only(vit, "transformers", pre_norm=False, projection=0, patch_bias=True)
    if vit.pool == "attention":
        only(vit, "transformers", pool="class")
    if vit.class_token:
        only(vit, "transformers", class_position=True)
    family = "dinov2_with_registers" if vit.registers else "dinov2"
    prefix = "" if bare else f"{family}." if vit.layer_scale else "vit."
    start = f"{prefix}embeddings."
    names = (f"{start}cls_token", f"{start}position_embeddings", f"{start}register_tokens")
    entries = tokens(vit, *names)
    projection = f"{start}patch_embeddings.projection"
    entries += convolution(f"{TRUNK}/patches", projection)
    entries += blocks(vit, f"{prefix}encoder.layer.", DINO if vit.layer_scale else HF)
    entries += norm(f"{TRUNK}/norm", f"{prefix}layernorm") if vit.norm != "none" else []
    return entries + dense(HEAD, "classifier")


def npz(vit: ViT, prefix: str = "", big_vision: bool = False) -> list[Entry]:
    """The names of vision_transformer, or of big_vision, whose class token has no position."""
    naming = "big_vision" if big_vision else "vision_transformer"
    only(vit, naming, registers=0, layer_scale=0, pre_norm=False, projection=0, norm="tokens")
    only(vit, naming, qkv_bias=True, patch_bias=True)
    if vit.class_token:
        only(vit, naming, class_position=not big_vision)
    heads, inner = sizes(vit)[2], f"{prefix}Transformer/"
    position = "" if big_vision else "Transformer/posembed_input/"
    entries = tokens(vit, f"{prefix}cls", f"{prefix}{position}pos_embedding", "")
    entries += linen(f"{TRUNK}/patches", f"{prefix}embedding")
    for i in range(sizes(vit)[1]):
        path, name = f"{TRUNK}/block_{i}", f"{inner}encoderblock_{i}"
        attention = f"{name}/MultiHeadDotProductAttention_{0 if big_vision else 1}"
        mlp = f"{name}/MlpBlock_{0 if big_vision else 3}"
        second = f"{name}/LayerNorm_{1 if big_vision else 2}"
        entries += linen(f"{path}/norm_attention", f"{name}/LayerNorm_0", "scale bias")
        entries += linen_attention(f"{path}/attention", attention, heads)
        entries += linen(f"{path}/norm_mlp", second, "scale bias")
        entries += linen(f"{path}/mlp/expand", f"{mlp}/Dense_0")
        entries += linen(f"{path}/mlp/contract", f"{mlp}/Dense_1")
    entries += linen(f"{TRUNK}/norm", f"{inner}encoder_norm", "scale bias")
    if vit.pool == "attention":
        only(vit, naming, class_token=False)
        path, name = f"{TRUNK}/pool", f"{prefix}MAPHead_0"
        entries += [leaf(f"{path}/probe", f"{name}/probe")]
        attention = f"{name}/MultiHeadDotProductAttention_0"
        entries += linen_attention(f"{path}/attention", attention, heads)
        entries += linen(f"{path}/norm", f"{name}/LayerNorm_0", "scale bias")
        entries += linen(f"{path}/mlp/expand", f"{name}/MlpBlock_0/Dense_0")
        entries += linen(f"{path}/mlp/contract", f"{name}/MlpBlock_0/Dense_1")
    return entries + linen(HEAD, f"{prefix}head")


PREFIXES = ("", "opt/target/", "params/", "params/img/")
NAMINGS: dict[str, Callable[[ViT], list[Entry]]] = {
    "timm": timm,
    "dinov2": partial(timm, registers="register_tokens"),
    "transformers": transformers,
    "transformers, bare": partial(transformers, bare=True),
}
NAMINGS |= {f"npz {prefix}".strip(): partial(npz, prefix=prefix) for prefix in PREFIXES}
NAMINGS |= {
    f"big_vision {prefix}".strip(): partial(npz, prefix=prefix, big_vision=True)
    for prefix in PREFIXES
}
IGNORED = ("*mask_token", "decoder*", "*pooler.dense.*")
"""Globs of tensors that no module here has: of masked training, and transformers' unused pooler."""

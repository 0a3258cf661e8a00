"""The names of a vision transformer's parameters in public files; `vit` is a `vit.ViT`."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tljax.models.naming import (
    CLASSIFIER,
    TRUNK,
    block,
    layer_norm,
    linen,
    linen_attention,
    moved,
    only,
    qkv,
)
from tljax.models.weights import Entry, conv, linear, same

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
CLIP = dict(
    qkv="self_attn.q_proj self_attn.k_proj self_attn.v_proj",
    output="self_attn.out_proj",
    expand="mlp.fc1",
    contract="mlp.fc2",
    norm_attention="layer_norm1",
    norm_mlp="layer_norm2",
)


def tokens(vit: Any, token: str, position: str, registers: str) -> list[Entry]:
    """What stands beside the patches, and the positions."""
    entries = same(f"{TRUNK}/position", position)
    entries += same(f"{TRUNK}/class_token", token) if vit.class_token else []
    return entries + (same(f"{TRUNK}/registers", registers) if vit.registers else [])


def blocks(vit: Any, prefix: str, parts: Mapping[str, str]) -> list[Entry]:
    """All blocks in torch's layout; `prefix` ends before the number."""
    bias, scale = vit.qkv_bias, bool(vit.layer_scale)
    each = [
        block(f"{TRUNK}/block_{i}", f"{prefix}{i}.", parts, bias, scale)
        for i in range(vit.sizes[1])
    ]
    return sum(each, [])


def timm(vit: Any, registers: str = "reg_token") -> list[Entry]:
    """The names of timm, DeiT and MAE; DINOv2's own call the registers `register_tokens`."""
    only(vit, "timm", projection=0)
    if vit.registers and registers == "reg_token":  # timm's table has rows for them otherwise
        only(vit, "timm with registers", class_position=False)
    entries = tokens(vit, "cls_token", "pos_embed", registers)
    entries += conv(f"{TRUNK}/patches", "patch_embed.proj", vit.patch_bias)
    entries += layer_norm(f"{TRUNK}/pre_norm", "norm_pre") if vit.pre_norm else []
    entries += blocks(vit, "blocks.", TIMM)
    if vit.norm != "none":
        entries += layer_norm(f"{TRUNK}/norm", "norm" if vit.norm == "tokens" else "fc_norm")
    if vit.pool == "attention":
        path = f"{TRUNK}/pool"
        entries += same(f"{path}/probe", "attn_pool.latent")
        entries += qkv(f"{path}/attention/qkv", ("attn_pool.q", "attn_pool.kv"))
        entries += linear(f"{path}/attention/output", "attn_pool.proj")
        entries += layer_norm(f"{path}/norm", "attn_pool.norm")
        entries += linear(f"{path}/mlp/expand", "attn_pool.mlp.fc1")
        entries += linear(f"{path}/mlp/contract", "attn_pool.mlp.fc2")
    return entries + linear(CLASSIFIER, "head")


def transformers(vit: Any, bare: bool = False) -> list[Entry]:
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
    entries += conv(f"{TRUNK}/patches", projection, bias=True)
    entries += blocks(vit, f"{prefix}encoder.layer.", DINO if vit.layer_scale else HF)
    entries += layer_norm(f"{TRUNK}/norm", f"{prefix}layernorm") if vit.norm != "none" else []
    return entries + linear(CLASSIFIER, "classifier")


def npz(vit: Any, prefix: str = "", big_vision: bool = False) -> list[Entry]:
    """The names of vision_transformer, or of big_vision, whose class token has no position."""
    naming = "big_vision" if big_vision else "vision_transformer"
    only(vit, naming, registers=0, layer_scale=0, pre_norm=False, projection=0, norm="tokens")
    only(vit, naming, qkv_bias=True, patch_bias=True)
    if vit.class_token:
        only(vit, naming, class_position=not big_vision)
    heads, inner = vit.sizes[2], f"{prefix}Transformer/"
    position = "" if big_vision else "Transformer/posembed_input/"
    entries = tokens(vit, f"{prefix}cls", f"{prefix}{position}pos_embedding", "")
    entries += linen(f"{TRUNK}/patches", f"{prefix}embedding")
    for i in range(vit.sizes[1]):
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
        entries += same(f"{path}/probe", f"{name}/probe")
        attention = f"{name}/MultiHeadDotProductAttention_0"
        entries += linen_attention(f"{path}/attention", attention, heads)
        entries += linen(f"{path}/norm", f"{name}/LayerNorm_0", "scale bias")
        entries += linen(f"{path}/mlp/expand", f"{name}/MlpBlock_0/Dense_0")
        entries += linen(f"{path}/mlp/contract", f"{name}/MlpBlock_0/Dense_1")
    return entries + linen(CLASSIFIER, f"{prefix}head")


def clip(vit: Any, prefix: str = "vision_model.") -> list[Entry]:
    """transformers' names of the image towers of CLIP and SigLIP, which lack what they lack."""
    only(vit, "CLIP", registers=0, layer_scale=0, qkv_bias=True)
    if vit.class_token:
        only(vit, "CLIP", class_position=True)
    start = f"{prefix}embeddings."
    name = f"{start}position_embedding.weight"
    entries = moved(f"{TRUNK}/position", name, lambda table: table[None], lambda table: table[0])
    if vit.class_token:
        name = f"{start}class_embedding"
        entries += moved(f"{TRUNK}/class_token", name, lambda v: v[None, None], lambda v: v[0, 0])
    entries += conv(f"{TRUNK}/patches", f"{start}patch_embedding", vit.patch_bias)
    entries += layer_norm(f"{TRUNK}/pre_norm", f"{prefix}pre_layrnorm") if vit.pre_norm else []
    entries += blocks(vit, f"{prefix}encoder.layers.", CLIP)
    entries += layer_norm(f"{TRUNK}/norm", f"{prefix}post_layernorm") if vit.norm != "none" else []
    if vit.pool == "attention":
        path, name = f"{TRUNK}/pool", f"{prefix}head"
        entries += same(f"{path}/probe", f"{name}.probe")
        entries += qkv(f"{path}/attention/qkv", (f"{name}.attention.in_proj",), end="_")
        entries += linear(f"{path}/attention/output", f"{name}.attention.out_proj")
        entries += layer_norm(f"{path}/norm", f"{name}.layernorm")
        entries += linear(f"{path}/mlp/expand", f"{name}.mlp.fc1")
        entries += linear(f"{path}/mlp/contract", f"{name}.mlp.fc2")
    if vit.projection:
        entries += linear(f"{TRUNK}/projection", "visual_projection", bias=False)
    return entries + linear(CLASSIFIER, "classifier")


PREFIXES = ("", "opt/target/", "params/", "params/img/")
NAMINGS: dict[str, Callable[[Any], list[Entry]]] = {
    "timm": timm,
    "dinov2": partial(timm, registers="register_tokens"),
    "transformers": transformers,
    "transformers, bare": partial(transformers, bare=True),
    "clip": clip,
    "clip, bare": partial(clip, prefix=""),
}
NAMINGS |= {f"npz {prefix}".strip(): partial(npz, prefix=prefix) for prefix in PREFIXES}
NAMINGS |= {
    f"big_vision {prefix}".strip(): partial(npz, prefix=prefix, big_vision=True)
    for prefix in PREFIXES
}
IGNORED = (
    *("*mask_token", "decoder*", "*pooler.dense.*", "*embeddings.position_ids"),
    *("text_model.*", "text_projection.*", "logit_scale", "logit_bias"),
)
"""Globs of tensors that no module here has: of masked training, transformers' unused pooler and
table of 0, 1, 2, …, and the text tower beside an image tower."""

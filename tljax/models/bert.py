"""BERT (Devlin et al. 2019) and sentence encoders of its kind, and their names in public files."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from tljax.checks import MOST, Count, Positive, Range, Whole, Width
from tljax.errors import wrong
from tljax.models.attention import Depth, Gelu, LayerNorm, Size, stacked
from tljax.models.naming import CLASSIFIER, TRUNK, block, embedding, layer_norm
from tljax.models.weights import Entry, linear

Separator = Annotated[Any, Range(0, MOST, whole=True)]  # None: there is none


class BERT(nn.Module, kw_only=True):
    """A transformer that reads tokens both ways; its maps are `block_i`, `[batch, length, width]`,
    and the last of them again as `tokens`, for heads that say something of every token.

    Tokens of the number `pad` are not read, unless a mask says which are. All of an input is one
    segment, or what follows its first `separator` another, as in public tokenizers' pairs. The
    width and depth that stand here are those of bert-base.
    """

    vocabulary: Width = 30522
    length: Count = 512  # of the longest input
    width: Width = 768
    depth: Depth = 12
    heads: Count = 12
    mlp: Size = 0  # the width within the MLPs; 0: four times the width
    segments: Count = 2  # rows of a table
    separator: Separator = None  # the token at a segment's end, 102 of bert-base-uncased
    pool: Literal["mean", "first", "pooler", "none"] = "mean"  # "pooler": tanh of a layer on first
    gelu: Gelu = "exact"
    epsilon: Positive = 1e-12
    pad: Whole = 0

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, stream: str | None = None, mask: Array | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Token numbers `[batch, length]` → (`[batch, width]`, maps).

        Args:
          x: integers below `vocabulary`.
          train, stream: as of every trunk; nothing here depends on them.
          mask: `[batch, length]`, which tokens are read; None: those that are not `pad`.

        Returns:
          The features, `[batch, length, width]` with the pool "none", and the maps.

        Raises:
          UserError: inputs that are not integers of two axes, or that are too long.
        """
        check_tokens(x, self.length)
        mask = x != self.pad if mask is None else mask.astype(bool)
        fields: dict[str, Any] = dict(
            heads=self.heads, hidden=self.mlp or 4 * self.width, gelu=self.gelu
        )
        fields |= dict(epsilon=self.epsilon, post=True)
        x, maps = stacked(self._embedded(x), self.depth, mask[:, None, None, :], **fields)
        return self._pooled(x, mask), {**maps, "tokens": x}

    def _embedded(self, x: Array) -> Array:
        """Token numbers → tokens with their positions, normalised."""
        tables = {
            "tokens": (self.vocabulary, x),
            "positions": (self.length, jnp.arange(x.shape[1])[None]),
            "segments": (self.segments, self._segments(x)),
        }
        words, positions, segments = (
            nn.Embed(rows, self.width, name=name)(index) for name, (rows, index) in tables.items()
        )
        return LayerNorm(self.epsilon, name="norm")(words + positions + segments)

    def _segments(self, x: Array) -> Array:
        """The segment of each token: how many have ended before it, at most the last."""
        if self.separator is None:
            return jnp.zeros((1, 1), "int32")
        ends = (x == self.separator).astype("int32")
        return jnp.minimum(jnp.cumsum(ends, axis=1) - ends, self.segments - 1)

    def _pooled(self, x: Array, mask: Array) -> Array:
        """Tokens → features."""
        if self.pool == "mean":
            weights = mask.astype("float32")[:, :, None]
            return (x * weights).sum(axis=1) / jnp.maximum(weights.sum(axis=1), 1.0)
        if self.pool == "pooler":
            return jnp.tanh(nn.Dense(self.width, name="pooler")(x[:, 0]))
        return x[:, 0] if self.pool == "first" else x


def check_tokens(x: Array, length: int) -> None:
    """Refuses what are no token numbers `[batch, length or less]`."""
    if not jnp.issubdtype(x.dtype, jnp.integer) or x.ndim != 2:
        raise wrong("input", f"{x.dtype} {x.shape}", "integers (batch, tokens)")
    if x.shape[1] > length:
        expected = f"at least {x.shape[1]}, the tokens of an input; a stream's length cuts it"
        raise wrong("length", length, expected)


def EXAMPLE(trunk: Any = None) -> Array:
    """The shortest input."""
    return jnp.zeros((1, 1), "int32")


PARTS = dict(
    qkv="attention.self.query attention.self.key attention.self.value",
    output="attention.output.dense",
    expand="intermediate.dense",
    contract="output.dense",
    norm_attention="attention.output.LayerNorm",
    norm_mlp="output.LayerNorm",
)


def transformers(bert: BERT, prefix: str = "bert.", gamma: bool = False) -> list[Entry]:
    """The names of BertForSequenceClassification; without a prefix of BertModel.

    `gamma`: files of bert-base-uncased's age call scale and bias of the norms gamma and beta.
    """
    tables = dict(tokens="word", positions="position", segments="token_type")
    start = f"{prefix}embeddings."
    entries: list[Entry] = []
    for ours, theirs in tables.items():
        entries += embedding(f"{TRUNK}/{ours}", f"{start}{theirs}_embeddings")
    entries += layer_norm(f"{TRUNK}/norm", f"{start}LayerNorm")
    for i in range(bert.depth):
        entries += block(f"{TRUNK}/block_{i}", f"{prefix}encoder.layer.{i}.", PARTS)
    if bert.pool == "pooler":
        entries += linear(f"{TRUNK}/pooler", f"{prefix}pooler.dense")
    if gamma:
        entries = [entry._replace(names=tuple(map(_old, entry.names))) for entry in entries]
    return entries + linear(CLASSIFIER, "classifier")


def _old(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
        "LayerNorm.bias", "LayerNorm.beta"
    )


NAMINGS: dict[str, Callable[[BERT], list[Entry]]] = {
    "transformers": transformers,
    "transformers, bare": partial(transformers, prefix=""),
    "transformers, gamma": partial(transformers, gamma=True),
    "transformers, bare, gamma": partial(transformers, prefix="", gamma=True),
}
IGNORED = ("*pooler.dense.*", "cls.*", "*embeddings.position_ids")
"""Globs of tensors that no module here has: a pooler that is not asked for, the heads of masked
training, and a table of 0, 1, 2, …"""

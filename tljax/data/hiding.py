"""Transforms of tokens: words that are hidden, one sentence of a pair."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from tljax.checks import Share, Whole, Width
from tljax.errors import wrong

HIDDEN = 2  # where a mask holds HIDDEN + n, the word n is to be found


def mask_tokens(
    tokens: Array,
    key: Array,
    *,
    held_out: bool = False,
    mask: Array | None = None,
    probability: Share = 0.15,
    cover: Whole = 103,
    special: tuple[Whole, ...] = (101, 102),
    vocabulary: Width = 30522,
) -> tuple[Array, Array]:
    """Hides words for the term `masked_language_model` to find.

    Every word is chosen with `probability`; of those chosen 80 % become the token `cover`, 10 %
    any other, 10 % stay as they are. The tokenizer of a run fills in the numbers that are left out;
    those that stand here are bert-base-uncased's.

    Args:
      tokens: `[length]`, integers.
      key: of the draw.
      held_out: nothing depends on it.
      mask: `[length]`, which tokens are there; None: all.
      probability: of a word to be chosen.
      cover: the token that stands for a hidden word.
      special: tokens that are no words, and are never chosen.
      vocabulary: how many tokens there are.

    Returns:
      Tokens and mask `[length]`; the mask is 0 where nothing is there, 1 where a token is read, and
      2 + n where the word n was chosen.

    Devlin et al. 2019, "BERT", section 3.1 and appendix A.1.
    """
    _check(tokens, "mask_tokens")
    mask = jnp.ones(tokens.shape, "int32") if mask is None else mask.astype("int32")
    free = (mask > 0) & ~jnp.isin(tokens, jnp.array((*special, cover)))
    keys = jax.random.split(key, 3)
    chosen = free & jax.random.bernoulli(keys[0], probability, tokens.shape)
    how = jax.random.uniform(keys[1], tokens.shape)
    other = jax.random.randint(keys[2], tokens.shape, 0, vocabulary, tokens.dtype)
    shown = jnp.where(how < 0.8, cover, jnp.where(how < 0.9, other, tokens))
    return jnp.where(chosen, shown, tokens), jnp.where(chosen, HIDDEN + tokens, mask)


def sentence(
    tokens: Array,
    key: Array,
    *,
    held_out: bool = False,
    mask: Array | None = None,
    which: Literal["first", "second"] = "first",
    separator: Whole = 102,
) -> tuple[Array, Array]:
    """One sentence of a pair, as though it stood alone: of [CLS] a [SEP] b [SEP] either half.

    Two streams of the same pairs (`of=`), one through each half, are two sides for `info_nce`. Of
    what is no pair the second half is nothing.

    Args:
      tokens: `[length]`, integers.
      key, held_out: nothing depends on them.
      mask: `[length]`, which tokens are there; None: all.
      which: "first" or "second".
      separator: the token at a sentence's end; the tokenizer of a run fills it in.

    Returns:
      Tokens and mask `[length]`.
    """
    _check(tokens, "sentence")
    mask = jnp.ones(tokens.shape, bool) if mask is None else mask > 0
    end, places = jnp.argmax(tokens == separator), jnp.arange(len(tokens))
    if which == "first":
        return tokens, mask & (places <= end)
    moved = jnp.roll(tokens.at[end].set(tokens[0]), -end)
    return moved, places < mask.sum() - end


def _check(tokens: Array, name: str) -> None:
    if tokens.ndim != 1 or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise wrong(name, f"{tokens.dtype} {tokens.shape}", "tokens, integers (length,)")

"""Terms of text: spans, hidden words, sentences that belong together."""

import jax.numpy as jnp
from jax import Array

from tljax.checks import Positive
from tljax.data.hiding import HIDDEN
from tljax.errors import UserError
from tljax.losses import text
from tljax.phase.objective import View
from tljax.terms.unsupervised import pair


def span(view: View, *, stream: str = "source", head: str = "span", layer: str = "tokens") -> Array:
    """The first and the last place of the stream's `span`, by a head of two outputs on each token.

    `layer` is the trunk's map `[batch, places, features]` that the head reads.
    """
    logits = view.net.head(head, view.maps(stream, layer), default=2)
    if logits.shape[-1] != 2:
        raise UserError(
            f"head {head!r} has {logits.shape[-1]} outputs; expected 2, for the first place of a "
            f"span and the last (network.heads.{head}.outputs)"
        )
    mask = view.batch[stream].get("mask", jnp.ones(logits.shape[:2], bool))
    return text.span_cross_entropy(logits, view.batch[stream]["span"], mask > 0)


def masked_language_model(
    view: View, *, stream: str = "source", head: str = "words", layer: str = "tokens"
) -> Array:
    """The words that the stream's transform `mask_tokens` has hidden (Devlin et al. 2019).

    A head that gives no number has an output for each token of the trunk's vocabulary.
    """
    mask = view.batch[stream].get("mask")
    if mask is None or mask.dtype == bool:
        name = f"streams.{stream}.transforms"
        raise UserError(f"{name}: hides no words; expected dict(name='mask_tokens') among them")
    vocabulary = getattr(view.net.trunk, "vocabulary", None)
    logits = view.net.head(head, view.maps(stream, layer), default=vocabulary)
    return text.hidden_cross_entropy(logits, mask - HIDDEN, mask >= HIDDEN)


def info_nce(
    view: View,
    *,
    first: str = "first",
    second: str = "second",
    head: str = "",
    temperature: Positive = 0.05,
) -> Array:
    """Pairs find each other in the batch, from either side, by the cosine of their features.

    Two streams of the same pairs, through the halves of the transform `sentence`; `head`, if any,
    is what the features pass before they are compared.
    """
    return text.info_nce(*pair(view, first, second, head), temperature)

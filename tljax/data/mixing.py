"""Mixing the examples of a batch, and their labels with them.

A mix is `mix(images, key, *, ...) -> (images, partner, share)` on a batch `[batch, height, width,
channels]` as its transforms left it: `partner` `[batch]` are the rows of the examples that are
mixed in, `share` `[batch]` what is left of the first. The batch then has no `label`, but the two of
each example and their shares, which `cross_entropy` reads.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from tljax.bind import Bound
from tljax.checks import NotNegative
from tljax.data.specs import named

LABELS, MIX = "label_mixed", "mix"  # int32 [batch, 2], and float32 [batch, 2], which adds up to 1


def mixup(images: Array, key: Array, *, alpha: NotNegative = 0.2) -> tuple[Array, Array, Array]:
    """λ · image + (1 − λ) · another's, λ of Beta(`alpha`, `alpha`) for each (Zhang et al. 2018).

    `alpha` 0 mixes nothing.
    """
    partner, share = _drawn(key, len(images), alpha)
    part = share.reshape(-1, *[1] * (images.ndim - 1))
    return part * images + (1 - part) * images[partner], partner, share


def cutmix(images: Array, key: Array, *, alpha: NotNegative = 1.0) -> tuple[Array, Array, Array]:
    """Pastes a rectangle of another image, of the area 1 − λ, where it lay (Yun et al. 2019).

    λ is of Beta(`alpha`, `alpha`) for each, the centre uniform; what falls outside is not pasted,
    and the share is that of the pixels. `alpha` 0 mixes nothing.
    """
    partner, share = _drawn(key, len(images), alpha)
    sides = images.shape[1:3]
    centres = jax.random.uniform(jax.random.fold_in(key, 2), (2, len(images)))
    inside = []
    for side, centre in zip(sides, centres, strict=True):
        half = (side * jnp.sqrt(1 - share) / 2)[:, None]
        distance = jnp.arange(side)[None, :] + 0.5 - side * centre[:, None]
        inside.append((-half <= distance) & (distance < half))
    pasted = inside[0][:, :, None] & inside[1][:, None, :]
    images = jnp.where(pasted[..., None], images[partner], images)
    return images, partner, 1 - pasted.mean((1, 2), dtype=jnp.float32)


def _drawn(key: Array, batch: int, alpha: Any) -> tuple[Array, Array]:
    """Partners `[batch]`, and the shares `[batch]` of the first."""
    partner = jax.random.permutation(jax.random.fold_in(key, 0), batch)
    least = jnp.maximum(alpha, 1e-3)  # as of 0 there is no such distribution
    share = jax.random.beta(jax.random.fold_in(key, 1), least, least, (batch,))
    return partner, jnp.where(alpha > 0, share, 1.0)


MIXES: dict[str, Callable[..., Any]] = {"mixup": mixup, "cutmix": cutmix}


def mix(name: str | Callable[..., Any], **fields: Any) -> Bound:
    """A mix with its fields filled in, e.g. `mix("cutmix", alpha=1.0)`, for a `Stream`.

    Args:
      name: of `MIXES`, `package.module:function`, or a function `(images, key, *, ...)` itself.
      **fields: its parameters; those left out take their defaults.

    Raises:
      UserError: an unknown mix or parameter, or a value out of its kind or range.
    """
    return parse({"name": name, **fields}, "mix")


def parse(spec: Mapping[str, Any], field: str) -> Bound:
    """Reads a mix from a config: `dict(name="mixup", alpha=0.2)`; errors as of `mix`."""
    return named(spec, MIXES, field, ("*", "key"), skip=("images", "key"))


def mixed(examples: Mapping[str, Array], mix: Bound, key: Array) -> dict[str, Array]:
    """A batch whose examples are mixed: `input`, `mix` and, if it has them, `mask` (of both) and
    `label_mixed`."""
    images, partner, share = mix(examples["input"], key)
    batch = {"input": images, MIX: jnp.stack([share, 1 - share], -1)}
    if "mask" in examples:
        batch["mask"] = examples["mask"] | examples["mask"][partner]
    if "label" in examples:
        label = examples["label"]
        batch[LABELS] = jnp.stack([label, label[partner]], -1)
    return batch

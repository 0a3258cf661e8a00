"""Terms that hold a phase near its start: by parameters, by outputs, by features."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from tljax import trees
from tljax.checks import Count, Positive
from tljax.errors import UserError
from tljax.losses import conservative
from tljax.phase.objective import View


def l2_sp(view: View, *, only: tuple = ("trunk/**",)) -> Array:
    """½ Σ‖w − w⁰‖² over the parameters that the patterns `only` match (Li et al. 2018)."""
    chosen = _chosen(view.params, only)
    anchor = trees.flatten(view.anchor)
    return conservative.l2_sp(chosen, {path: anchor[path] for path in chosen})


def l2_penalty(view: View, *, only: tuple = ("heads/**",)) -> Array:
    """½ Σ‖w‖² over the parameters that the patterns `only` match: for new layers."""
    return conservative.l2_penalty(_chosen(view.params, only))


def _chosen(params: Any, only: tuple) -> dict[str, Array]:
    """The leaves that a pattern matches, by path. Before there are parameters, none."""
    flat = trees.flatten(params)
    chosen = {p: leaf for p, leaf in flat.items() if any(trees.match(each, p) for each in only)}
    if flat and not chosen:
        raise UserError(f"only: {only!r} matches no parameter; the paths are: {trees.few(flat)}")
    return chosen


def distillation(
    view: View, *, stream: str = "target", head: str = "label", temperature: Positive = 3.0
) -> Array:
    """KL of the head's outputs from those of the anchored model (Li & Hoiem 2016, LwF)."""
    anchored = view.anchored(stream, head)
    logits = view.net.head(head, view.features[stream], default=anchored.shape[-1])
    return conservative.distillation(logits, anchored, temperature)


def delta(view: View, *, stream: str = "target", channels: Count = 1, table: str = "") -> Array:
    """½ Σ of squares between the feature maps and the anchored ones (Li et al. 2019, DELTA).

    Args:
      view: the step's view.
      stream: whose maps: the trunk's features, `channels` to a place.
      channels: of the last feature map.
      table: the channels' weights, from the preparation `channel_importance`; "" for none.
    """
    maps, anchored = view.features[stream], view.anchored(stream)
    if maps.shape[-1] % channels:
        raise UserError(f"channels: got {channels!r}; expected a divisor of {maps.shape[-1]}")
    shape = (maps.shape[0], -1, 1, channels)
    weights = view.tables[table] if table else None
    return conservative.feature_map_distance(maps.reshape(shape), anchored.reshape(shape), weights)


def spectral_shrinkage(view: View, *, stream: str = "target", k: Count = 1) -> Array:
    """Σ of the k smallest squared singular values of the features (Chen et al. 2019, BSS)."""
    return conservative.batch_spectral_shrinkage(view.features[stream], k)


def co_tuning(
    view: View,
    *,
    stream: str = "target",
    head: str = "source_label",
    table: str = "relationship",
) -> Array:
    """The source head against the source classes that each label stands for (You et al. 2020).

    `table` is the preparation `class_relationship`, `[target classes, source classes]`.
    """
    relationship = view.tables[table]
    logits = view.net.head(head, view.features[stream], default=relationship.shape[-1])
    if relationship.shape[-1] != logits.shape[-1]:
        raise UserError(
            f"table {table!r} relates to {relationship.shape[-1]} source classes; "
            f"expected the {logits.shape[-1]} of head {head!r}"
        )
    return conservative.co_tuning(logits, jnp.asarray(relationship), view.batch[stream]["label"])

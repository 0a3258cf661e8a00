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


def ewc(view: View, *, only: tuple = ("trunk/**",), table: str = "fisher") -> Array:
    """½ Σ F(w − w⁰)²: `l2_sp` by what the preparation `fisher` found (Kirkpatrick et al. 2017)."""
    chosen = _chosen(view.params, only)
    anchor, fisher = (trees.flatten(tree) for tree in (view.anchor, view.tables[table]))
    kept = ({path: tree[path] for path in chosen} for tree in (anchor, fisher))
    return conservative.ewc(chosen, *kept)


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


def delta(
    view: View, *, stream: str = "target", layer: str = "", channels: Count = 1, table: str = ""
) -> Array:
    """½ Σ of squares between the feature maps and the anchored ones (Li et al. 2019, DELTA).

    Args:
      view: the step's view.
      stream: whose maps.
      layer: the trunk's map, of pixels or tokens; "": its features. Several layers: several terms.
      channels: of the last feature map, of which the features have so many to a place.
      table: the channels' weights, from the preparation `channel_importance`; "" for none.
    """
    maps, anchored = view.features[stream], view.anchored(stream)
    if layer:
        maps, anchored = view.maps(stream, layer), view.anchored(stream, layer=layer)
        channels = maps.shape[-1]
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


def bi_tuning(
    view: View,
    *,
    stream: str = "target",
    keys: str = "view",
    head: str = "label",
    projection: str = "projection",
    temperature: Positive = 0.07,
) -> Array:
    """Categorical contrastive loss and contrastive cross-entropy (Zhong et al. 2021), in a batch.

    Args:
      view: the step's view.
      stream: labelled.
      keys: another view of it (`of=`). Here they stand for the paper's queue of a slow copy.
      head: a linear one, whose weights the features are held against.
      projection: the head whose outputs are compared.
      temperature: of both.
    """
    labels, z = view.batch[stream]["label"], view.features
    projected = (view.net.head(projection, z[each]) for each in (stream, keys))
    loss = conservative.categorical_contrast(*projected, labels, labels, temperature)
    if not view.params:  # there are no weights yet
        return loss
    layer = view.params["heads"][head]["output"]
    weights = (layer["kernel"], layer.get("bias"))
    return loss + conservative.class_contrast(z[stream], *weights, labels, temperature)

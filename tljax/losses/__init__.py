"""Losses as pure functions of arrays: no config, no model.

A loss that is defined per example returns `[batch]` and the caller reduces; a loss defined on a
whole batch returns a scalar. Arguments are held against the shapes in their annotations, by
`tljax.typed.shaped`: what does not fit is a `UserError`, which is a `ValueError`, of one line.
They compute in float32 at least, and half precision gets gradients that are finite.
"""

from tljax.losses import (
    adversarial,
    alignment,
    clustering,
    conservative,
    multitask,
    self_taught,
    supervised,
    text,
    zero_shot,
)
from tljax.losses.adversarial import (
    conditional_map,
    domain_confusion,
    entropy_weights,
    margin_disparity,
    ramp,
    reverse_gradient,
)
from tljax.losses.alignment import coral, joint_mmd, minimum_class_confusion, mk_mmd
from tljax.losses.clustering import scan, self_label, soft_assignment, target_distribution
from tljax.losses.conservative import (
    batch_spectral_shrinkage,
    co_tuning,
    distillation,
    feature_map_distance,
    l2_penalty,
    l2_sp,
)
from tljax.losses.multitask import mixing_weights, uncertainty_weighted, weighted_sum
from tljax.losses.self_taught import barlow_twins, nt_xent, reconstruction, vicreg
from tljax.losses.supervised import weighted_mean
from tljax.losses.text import hidden_cross_entropy, info_nce, span_cross_entropy
from tljax.losses.zero_shot import ale, compatibility, devise, sje

__all__ = [
    "adversarial", "alignment", "clustering", "conservative", "multitask", "self_taught",
    "supervised", "text", "zero_shot",
    "conditional_map", "domain_confusion", "entropy_weights", "margin_disparity", "ramp",
    "reverse_gradient", "coral", "joint_mmd", "minimum_class_confusion", "mk_mmd",
    "scan", "self_label", "soft_assignment", "target_distribution",
    "batch_spectral_shrinkage", "co_tuning", "distillation", "feature_map_distance",
    "l2_penalty", "l2_sp", "mixing_weights", "uncertainty_weighted", "weighted_sum",
    "barlow_twins", "nt_xent", "reconstruction", "vicreg", "weighted_mean",
    "hidden_cross_entropy", "info_nce", "span_cross_entropy",
    "ale", "compatibility", "devise", "sje",
]  # fmt: skip

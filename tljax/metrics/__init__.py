"""Numbers that a run is judged by. numpy in, floats out."""

from tljax.metrics import generalised, validators
from tljax.metrics.comparison import Interval, crossed, delta_p, holm, interval, paired, wilson
from tljax.metrics.domains import proxy_a_distance
from tljax.metrics.predictions import (
    accuracy,
    attribute_accuracy,
    class_accuracies,
    clustering,
    confused,
    confusion_matrix,
    multilabel,
    per_class_accuracy,
    regression,
    spans,
)

__all__ = [
    "Interval", "accuracy", "attribute_accuracy", "class_accuracies", "clustering", "confused",
    "confusion_matrix", "crossed", "delta_p", "generalised", "holm", "interval", "multilabel",
    "paired", "per_class_accuracy", "proxy_a_distance", "regression", "spans", "validators",
    "wilson",
]  # fmt: skip

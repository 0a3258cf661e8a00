"""How a network's outputs are read, and what they are worth against what is known."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tljax import metrics
from tljax.data.table import Table
from tljax.errors import UserError
from tljax.metrics import generalised, validators
from tljax.phase.phase import Stream
from tljax.solvers import zero_shot

READOUTS = {
    **dict.fromkeys(("logits", "clusters", "span"), False),
    **dict.fromkeys(("compatibility", "cosine", "dap", "conse", "attributes"), True),
}
"""How a head's outputs are read, and whether with a class × attribute table: as class scores
(`logits`); as embeddings that are compared with the classes' by inner product (`compatibility`) or
`cosine`; as logits of attributes, from which `dap` infers classes or which are judged themselves
(`attributes`); as logits of seen classes that `conse` combines; as `clusters` to be matched; as
the first and the last place of a `span`, by two outputs of every place of a map (`layer`)."""


class Split(NamedTuple):
    """A split to evaluate on, as the config names it."""

    name: str
    table: Table
    stream: Stream  # its batch, transforms and stem
    head: str = "label"  # "": none, the outputs are the features
    statistics: str | None = None  # whose batch statistics, where each stream has its own
    phase: str = ""  # whose result is judged
    readout: str = "logits"
    semantics: np.ndarray | None = None  # [classes, attributes], of the readouts that read a table
    classes: tuple[int, ...] = ()  # those that compete; (): all
    unseen: tuple[int, ...] = ()
    among: str = "all"  # or "unseen": those alone compete
    calibrate: str = ""  # the evaluation that chooses the factor of calibrated stacking
    top: int = 10  # ConSE's number of seen classes
    held_out: bool = True  # whether transforms draw from the material kept for evaluation
    computed: bool = False  # whether the inputs are the trunk's features
    layer: str = ""  # the map that the head reads; "": the features


class Outputs(NamedTuple):
    """What a network says of a split."""

    logits: np.ndarray  # [n, outputs]
    features: np.ndarray  # [n, features]
    labels: np.ndarray | None  # [n], the class of each
    several: np.ndarray | None = None  # [n, classes] of 0 and 1: which classes each has
    value: np.ndarray | None = None  # [n] or [n, size]: numbers to be predicted
    span: np.ndarray | None = None  # [n, 2]: the first place and the last
    mask: np.ndarray | None = None  # [n, length]: which places are there


def confusion(outputs: Outputs) -> np.ndarray:
    """Counts `[classes, classes]`: rows are the true classes, columns the predicted ones."""
    classes = outputs.logits.shape[-1]
    assert outputs.labels is not None
    return metrics.confusion_matrix(outputs.logits.argmax(-1), outputs.labels, classes)


def confused(outputs: Outputs, names: Sequence[str], top: int = 100) -> list[list[Any]]:
    """The most frequent mistakes, `[true class, predicted class, count]` by the classes' names."""
    assert outputs.labels is not None
    pairs = metrics.confused(outputs.logits.argmax(-1), outputs.labels, top)
    return [[*(names[i] if i < len(names) else str(i) for i in pair), n] for *pair, n in pairs]


def best_spans(outputs: Outputs) -> np.ndarray:
    """The first place and the last `[n, 2]` of the largest sum of logits, of places in order."""
    start, end = np.moveaxis(outputs.logits.astype(np.float64), -1, 0)
    if outputs.mask is not None:
        start, end = (np.where(outputs.mask, each, -np.inf) for each in (start, end))
    before = np.maximum.accumulate(start, axis=1)  # the best start up to each place
    last = np.argmax(before + end, axis=1)
    up_to = np.arange(start.shape[1]) <= last[:, None]
    return np.stack([np.argmax(np.where(up_to, start, -np.inf), axis=1), last], axis=1)


def competing(split: Split, classes: int) -> np.ndarray:
    """The classes that an example of the split may be given, ascending."""
    named = split.unseen if split.among == "unseen" else split.classes
    return np.array(sorted(named or range(classes)))


def class_scores(outputs: Outputs, split: Split) -> np.ndarray:
    """The score of every class `[n, classes]`, as the split's readout makes it."""
    scores: Any = outputs.logits
    table = split.semantics
    if table is None:
        return outputs.logits.astype(np.float64)
    seen = np.setdiff1d(competing(split, len(table)), split.unseen)
    seen = seen if seen.size else np.setdiff1d(range(len(table)), split.unseen)
    if split.readout == "compatibility":
        scores = outputs.logits @ table.T
    elif split.readout == "cosine":
        scores = zero_shot.cosine_scores(outputs.logits, table)
    elif split.readout == "dap":
        scores = zero_shot.dap(outputs.logits, table, prior=table[seen].mean(0))
    elif split.readout == "conse":
        shares = jax.nn.softmax(jnp.asarray(outputs.logits[:, seen]))
        combined = zero_shot.conse(shares, table[seen], top=min(split.top, len(seen)))
        scores = zero_shot.cosine_scores(combined, table)
    return np.asarray(scores, np.float64)


def answers(outputs: Outputs, split: Split) -> dict[str, np.ndarray]:
    """What is said of every example, `predicted`, and what is `true` where that is known.

    Of classes, clusters and spans `[n]` or `[n, 2]` integers; of several labels, and of attributes,
    booleans; of values the numbers. Nothing of features without a head.
    """
    true: Any
    if split.readout == "span":
        predicted, true = best_spans(outputs), outputs.span
    elif outputs.several is not None:
        predicted, true = outputs.logits > 0, outputs.several > 0
    elif outputs.value is not None:
        predicted, true = outputs.logits, outputs.value
    elif split.readout == "attributes":
        predicted, true = outputs.logits > 0, outputs.labels
    elif not split.head and split.semantics is None:
        return {}
    else:
        scores = class_scores(outputs, split)
        classes = competing(split, scores.shape[-1])
        predicted, true = classes[scores[..., classes].argmax(-1)], outputs.labels
    known = {"predicted": predicted} | ({} if true is None else {"true": true})
    return {
        name: each.astype(np.int32) if each.dtype.kind in "iu" else each
        for name, each in known.items()
    }


def score(outputs: Outputs, split: Split | None = None, gamma: float = 0.0) -> dict[str, float]:
    """What a split's outputs are worth, the headline first; all metrics are finite.

    What the examples do not define is left out: the mean average precision where no label occurs,
    `r2` of one value, the density of one example.

    Args:
      outputs: of the network.
      split: how they are read; class scores if left out.
      gamma: the factor of calibrated stacking, subtracted from the scores of seen classes.

    Returns:
      Of classes: `accuracy`, the mean `per_class_accuracy` and the cross-entropy `loss`; with
      unseen classes also `seen`, `unseen`, `harmonic` and their `calibrated_` values,
      `gamma`, `best_gamma` (of this split) and `ausuc`. Of clusters: `accuracy` by the best
      matching, `nmi`, `ari`. Of attributes: `accuracy`. Of several labels an example:
      `metrics.multilabel`; of values: `metrics.regression`; of spans: `metrics.spans`. Without
      labels, what a validator may read: `entropy`, `information_maximisation`,
      `soft_neighbourhood_density`. Of classes or clusters, where all examples are given the same:
      `constant_class` and `constant_units` (`validators.collapse`).

    Raises:
      UserError: outputs that are not finite.
    """
    finite = np.isfinite(outputs.logits).reshape(len(outputs.logits), -1).all(-1)
    if not finite.all():
        few = f"{(~finite).sum()} of {len(finite)} examples, the first of them {finite.argmin()}"
        raise UserError(f"outputs: got NaN or infinity for {few}; expected finite numbers")
    values = _score(outputs, split, gamma) | _collapsed(outputs, split)
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _score(outputs: Outputs, split: Split | None, gamma: float) -> dict[str, float]:
    readout = split.readout if split else "logits"
    if readout == "span":
        return {} if outputs.span is None else metrics.spans(best_spans(outputs), outputs.span)
    if outputs.several is not None:
        return metrics.multilabel(outputs.logits, outputs.several)
    if outputs.value is not None:
        return metrics.regression(outputs.logits, outputs.value.reshape(len(outputs.value), -1))
    if outputs.labels is None:
        return _blind(outputs.logits)
    if readout == "clusters":
        return metrics.clustering(outputs.logits.argmax(-1), outputs.labels)
    if readout == "attributes":
        assert split and split.semantics is not None
        wanted = split.semantics[outputs.labels] > 0.5
        return {"accuracy": metrics.attribute_accuracy(outputs.logits > 0, wanted)}
    scores, labels = outputs.logits, outputs.labels
    if split is None:
        return _classification(scores.astype(np.float64), labels)
    scores = class_scores(outputs, split)
    classes = competing(split, scores.shape[-1])
    if len(classes) < scores.shape[-1]:
        scores, labels = scores[:, classes], np.searchsorted(classes, labels)
    values = _classification(scores, labels)
    if split.unseen and split.among == "all":
        values |= _generalised(scores, labels, ~np.isin(classes, split.unseen), gamma)
    return values


def _collapsed(outputs: Outputs, split: Split | None) -> dict[str, float]:
    """`validators.collapse`, of outputs that are scores of classes or clusters."""
    labels, of_classes = outputs.labels, split is None or split.readout in ("logits", "clusters")
    others = (outputs.several, outputs.value, outputs.span)
    if not of_classes or (split and not split.head) or any(each is not None for each in others):
        return {}
    if labels is not None and (labels == labels[0]).all():
        return {}
    return validators.collapse(outputs.logits, outputs.features)


def _blind(logits: np.ndarray) -> dict[str, float]:
    """What is known without labels; the density is one of neighbours."""
    values = {
        "information_maximisation": validators.information_maximisation(logits),
        "entropy": validators.entropy(logits),
    }
    if len(logits) > 1:
        shares = np.asarray(jax.nn.softmax(logits))
        values["soft_neighbourhood_density"] = validators.soft_neighbourhood_density(shares)
    return values


def _classification(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    shifted = logits - logits.max(-1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(len(labels)), labels]
    predicted = logits.argmax(-1)
    accuracies = metrics.class_accuracies(predicted, labels, logits.shape[-1])
    return {
        "accuracy": metrics.accuracy(predicted, labels),
        "per_class_accuracy": float(np.nanmean(accuracies)),
        "loss": float(losses.mean()),
    }


def _generalised(
    scores: np.ndarray, labels: np.ndarray, seen: np.ndarray, gamma: float
) -> dict[str, float]:
    """Seen, unseen and harmonic accuracy, before and after calibrated stacking with `gamma`."""
    plain = generalised.seen_unseen(scores.argmax(-1), labels, seen, len(seen))
    stacked = np.asarray(zero_shot.calibrated_stacking(scores, seen, gamma))
    after = generalised.seen_unseen(stacked.argmax(-1), labels, seen, len(seen))
    return {
        **plain._asdict(),
        **{f"calibrated_{name}": value for name, value in after._asdict().items()},
        "gamma": gamma,
        "best_gamma": generalised.best_gamma(scores, labels, seen),
        "ausuc": generalised.stacking_curve(scores, labels, seen).ausuc,
    }

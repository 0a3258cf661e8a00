"""A trained state and a labelled split to metrics."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tljax import metrics
from tljax.data import streams, transforms
from tljax.data.table import Table
from tljax.errors import UserError, calling
from tljax.masked import array_of
from tljax.metrics import generalised, validators
from tljax.models.network import above
from tljax.phase import objective
from tljax.phase.phase import Stream, numbers
from tljax.solvers import zero_shot

READOUTS = {
    **dict.fromkeys(("logits", "clusters"), False),
    **dict.fromkeys(("compatibility", "cosine", "dap", "conse", "attributes"), True),
}
"""How a head's outputs are read, and whether with a class × attribute table: as class scores
(`logits`); as embeddings that are compared with the classes' by inner product (`compatibility`) or
`cosine`; as logits of attributes, from which `dap` infers classes or which are judged themselves
(`attributes`); as logits of seen classes that `conse` combines; as `clusters` to be matched."""


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


Computed = Callable[[Split, Any, Any, Any], Split]
"""(split, network, params, batch_stats) -> the split on the features that these give."""


class Outputs(NamedTuple):
    """What a network says of a split."""

    logits: np.ndarray  # [n, outputs]
    features: np.ndarray  # [n, features]
    labels: np.ndarray | None  # [n], the class of each
    several: np.ndarray | None = None  # [n, classes] of 0 and 1: which classes each has
    value: np.ndarray | None = None  # [n] or [n, size]: numbers to be predicted


@functools.partial(jax.jit, static_argnames=("network", "head", "statistics", "held_out"))
def _forward(
    network: Any,
    variables: Any,
    stream: Stream,
    inputs: Any,
    indices: jax.Array,
    *,
    head: str,
    statistics: str | None,
    held_out: bool,
) -> tuple[jax.Array, jax.Array]:
    # A key for the example, not the batch: it looks the same in every evaluation of every run.
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), indices)
    with calling(f"{stream.name}.transforms"):
        inputs = transforms.apply(stream.transforms, inputs, keys, held_out=held_out)
    params, batch_stats = variables
    return objective.predict(
        network, params, batch_stats, inputs, head=head, stem=stream.stem, stream=statistics
    )


def forward(network: Any, split: Split) -> Any:
    """What gives (outputs, features) of ((params, batch_stats), stream, *examples)."""
    names = dict(head=split.head, statistics=split.statistics, held_out=split.held_out)
    return functools.partial(_forward, above(network) if split.computed else network, **names)


def examples(split: Split, start: int) -> tuple[Any, np.ndarray]:
    """The inputs from `start` on, the last one repeated where there are no more, and indices."""
    indices = np.arange(start, start + split.stream.batch, dtype=np.int32)
    indices = np.minimum(indices, len(split.table) - 1, dtype=np.int32)
    inputs = split.table.inputs(indices)
    streams.check_finite(np.asarray(array_of(inputs)), f"evaluate.{split.name}")
    return inputs, indices


def check_fit(network: Any, variables: Any, split: Split) -> tuple[int, ...]:
    """The shape of the outputs for a batch of a split that the network takes; nothing is computed.

    Raises:
      UserError: a split that it cannot take.
    """
    inputs, indices = examples(split, 0)
    pair = (variables["params"], variables["batch_stats"])
    try:
        made = jax.eval_shape(forward(network, split), pair, split.stream, inputs, indices)
    except objective.Incomplete as error:
        reason = str(error).partition(". ")[0]
        raise UserError(
            f"evaluate.{split.name}: inputs {inputs.shape[1:]}, with the stem, the head and the "
            f"statistics that it names, do not fit the network of phase {split.phase!r} ({reason})"
        ) from None
    return made[0].shape


def program(
    network: Any, params: Any, batch_stats: Any, split: Split
) -> Callable[[Any], tuple[jax.Array, jax.Array]]:
    """What `batches` computes of a batch of inputs `[n, ...]`, as one function of them alone."""
    stream, compute = numbers(split.stream), forward(network, split)

    def run(inputs: Any) -> tuple[jax.Array, jax.Array]:
        rows = array_of(inputs)
        ones = jnp.ones_like(rows.reshape(rows.shape[0], -1)[:, 0], jnp.int32)
        return compute((params, batch_stats), stream, inputs, jnp.cumsum(ones) - 1)

    return run


def batches(
    network: Any, params: Any, batch_stats: Any, split: Split
) -> Iterator[tuple[jax.Array, jax.Array]]:
    """The outputs `[batch, outputs]` and features `[batch, features]` of a split, as `outputs` has
    them, while they are still computed; the last batch is padded."""
    stream, compute = jax.device_put(numbers(split.stream)), forward(network, split)
    for start in range(0, len(split.table), split.stream.batch):
        inputs, indices = jax.device_put(examples(split, start))
        yield compute((params, batch_stats), stream, inputs, indices)


def outputs(network: Any, params: Any, batch_stats: Any, split: Split) -> Outputs:
    """The network's outputs on a whole split, batch by batch.

    Args:
      network: an unbound `models.Network`.
      params, batch_stats: its variables.
      split: what to evaluate on; its labels are not shown to the network.
    """
    pieces = jax.device_get(list(batches(network, params, batch_stats, split)))
    table, parts = split.table, zip(*pieces, strict=True)
    logits, features = (np.concatenate(part)[: len(table)] for part in parts)
    return Outputs(logits, features, *jax.device_get((table.label, table.labels, table.value)))


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
      `metrics.multilabel`; of values: `metrics.regression`. Without labels, what a validator may
      read: `entropy`, `information_maximisation`, `soft_neighbourhood_density`.

    Raises:
      UserError: outputs that are not finite.
    """
    finite = np.isfinite(outputs.logits).reshape(len(outputs.logits), -1).all(-1)
    if not finite.all():
        few = f"{(~finite).sum()} of {len(finite)} examples, the first of them {finite.argmin()}"
        raise UserError(f"outputs: got NaN or infinity for {few}; expected finite numbers")
    values = _score(outputs, split, gamma)
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _score(outputs: Outputs, split: Split | None, gamma: float) -> dict[str, float]:
    readout = split.readout if split else "logits"
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

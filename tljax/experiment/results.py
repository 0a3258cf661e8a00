"""What a run leaves in its directory: whose it is, what it reached, how long it took."""

import importlib.metadata
import io
import math
import platform
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tljax import trees
from tljax.data.streams import check_finite
from tljax.errors import UserError, failure, unknown, wrong
from tljax.experiment.check import Checked
from tljax.phase.evaluate import check_fit, outputs
from tljax.phase.rehearsal import rehearse
from tljax.phase.scoring import READOUTS, Outputs, Split, answers, confused, confusion, score
from tljax.train import files
from tljax.train.loop import collapsed
from tljax.train.records import Display

Variables = dict[str, Any]
"""`{"params": ..., "batch_stats": ...}`."""
Judged = Mapping[str, tuple[Outputs | None, Mapping[str, Any]]]
"""Evaluation -> what its phase gives of it, if it did, and its metrics."""

MODULES = ("heads", "stems", "scalars")
PREDICTIONS = "predictions.npz"
MATRIX = 100  # more classes than that have no confusion matrix


def carried(earlier: Mapping[str, Variables]) -> Variables:
    """The variables of the phase before, whose heads and stems later evaluations may still ask."""
    return list(earlier.values())[-1] if earlier else {"params": {}, "batch_stats": {}}


def with_heads(before: Variables, now: Variables) -> Variables:
    """The variables of a phase, with what it lacks of the one before: heads, stems, statistics."""
    params = dict(now["params"])
    for kind in MODULES:
        modules = {**before["params"].get(kind, {}), **params.get(kind, {})}
        if modules:
            params[kind] = modules
    return {"params": params, "batch_stats": _over(before["batch_stats"], now["batch_stats"])}


def _over(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of both, those of now where both have one."""
    both = {
        key: _over(before[key], value) if key in before and isinstance(value, Mapping) else value
        for key, value in now.items()
    }
    return {**before, **both}


def check_splits(network: Any, splits: Iterable[Split], variables: Variables) -> None:
    """Refuses evaluations of a head that is not there or does not fit, or of other inputs."""
    heads = variables["params"].get("heads", {})
    for split in splits:
        if split.head and split.head not in heads:
            raise unknown(f"evaluate.{split.name}.head", split.head, heads)
        if split.table.resident:
            check_finite(split.table.input, f"evaluate.{split.name}")
        shape = check_fit(network, variables, split)
        check_width(split, shape[-1] if split.head and len(shape) == 2 else None)
        rehearse(split, shape)


def check_width(split: Split, outputs: int | None) -> None:
    """Refuses a head whose outputs are not what the readout of an evaluation reads."""
    head, known = split.head, split.table.label is not None
    if not head and known and split.readout in ("logits", "clusters", "conse"):
        raise wrong(f"evaluate.{split.name}.head", head, f"one, for {split.readout!r}")
    if outputs is None:  # the features themselves, or a head of a user's own kind
        return
    if split.readout == "logits" and known and max(split.table.seen, default=0) >= outputs:
        raise UserError(
            f"evaluate.{split.name}: label {max(split.table.seen)} has no output in head {head!r}; "
            f"expected labels from 0 to {outputs - 1} (network.heads.{head}.outputs)"
        )
    judged = [column for column in ("labels", "value") if column in split.table.columns]
    for column in judged[:1]:  # as `score` chooses
        size = math.prod(split.table.columns[column].shape[1:])
        if outputs != size:
            raise UserError(
                f"evaluate.{split.name}.head: head {head!r} has {outputs} outputs; expected "
                f"{size}, one for each column of {column!r} (network.heads.{head}.outputs)"
            )
    if split.semantics is None or not READOUTS[split.readout]:
        return
    classes, attributes = split.semantics.shape
    wanted, of = (classes, "class") if split.readout == "conse" else (attributes, "attribute")
    if outputs != wanted:
        raise UserError(
            f"evaluate.{split.name}.head: head {head!r} has {outputs} outputs; {wanted} are read "
            f"by {split.readout!r}, one for each {of} (network.heads.{head}.outputs)"
        )


def judge(
    network: Any,
    finals: Mapping[str, Variables],
    splits: Iterable[Split],
    said: Mapping[str, Outputs] | None = None,
) -> dict[str, tuple[Outputs | None, dict[str, Any]]]:
    """What each split's phase gives of it, and its metrics.

    The factor of calibrated stacking is chosen on the evaluation that a split names. What fails
    keeps no other from being judged: None, and `{"failed": "evaluate.NAME: why"}`.

    Args:
      network: unbound.
      finals: phase -> its variables.
      splits: of these phases.
      said: what the finals have given of some of them already.
    """
    seen: dict[str, tuple[Split, Outputs]] = {}
    judged: dict[str, tuple[Outputs | None, dict[str, Any]]] = {}
    for split in splits:
        own = finals[split.phase]
        try:
            found = (said or {}).get(split.name) or outputs(
                network, own["params"], own["batch_stats"], split
            )
        except Exception as error:
            judged[split.name] = (None, failure(f"evaluate.{split.name}", error))
        else:
            seen[split.name] = (split, found)
            judged[split.name] = (found, {})  # in their order
    for name, (split, found) in seen.items():
        try:
            judged[name] = (found, score(found, split, _gamma(split, seen, judged)))
        except Exception as error:
            judged[name] = (None, failure(f"evaluate.{name}", error))
    return judged


def _gamma(split: Split, seen: Mapping[str, Any], judged: Mapping[str, Any]) -> float:
    """The factor of calibrated stacking, as the evaluation that a split names has it."""
    if split.calibrate in seen:
        other, validation = seen[split.calibrate]
        return score(validation, other)["best_gamma"]
    if split.calibrate in judged:
        raise UserError(judged[split.calibrate][1]["failed"])
    return 0.0


def keep_predictions(workdir: Path, judged: Judged, splits: Mapping[str, Split]) -> None:
    """Leaves what is said of every example: `EVALUATION/predicted` and, if known, `/true`."""
    buffer, arrays = io.BytesIO(), dict[str, Any]()
    for name, (found, _) in judged.items():
        for kind, array in (answers(found, splits[name]) if found else {}).items():
            arrays[f"{name}/{kind}"] = array
    np.savez_compressed(buffer, **arrays)
    files.write(workdir / PREDICTIONS, buffer.getvalue())


def assemble(
    config: Checked,
    final: Variables,
    judged: Judged,
    splits: Mapping[str, Split],
) -> dict[str, Any]:
    """What `result.json` holds; with an evaluation that failed, `failed` says which and why."""
    evaluations = {name: evaluation(splits[name], *each) for name, each in judged.items()}
    failed = [each["failed"] for each in evaluations.values() if "failed" in each]
    return {
        "method": config.fields.method,
        "seed": config.fields.seed,
        "parameters": trees.count(final["params"]),
        "evaluations": evaluations,
        **({"failed": "; ".join(failed)} if failed else {}),
    }


def evaluation(split: Split, found: Outputs | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation in `result.json`; of many classes no matrix, and no list of mere numbers."""
    if found is None:
        return dict(values)
    reached = {**values, "examples": len(found.features)}
    if found.labels is None or split.readout != "logits":
        return reached
    names, size = split.table.classes, found.logits.shape[-1]
    numbered = len(names) > MATRIX and names == tuple(map(str, range(len(names))))
    reached["classes"] = len(names) if numbered else list(names)
    if size <= MATRIX:
        return {**reached, "confusion": confusion(found).tolist()}
    return {**reached, "confused": confused(found, names)}


def show(display: Display, result: Mapping[str, Any]) -> None:
    shown = ("accuracy", "per_class_accuracy", "loss")
    extra = (
        "mean_average_precision",
        "f1_macro",
        "mae",
        "rmse",
        "r2",
        "exact_match",
        "f1",
        "harmonic",
        "calibrated_harmonic",
        "nmi",
        "ari",
        "information_maximisation",
        "entropy",
    )
    present = [
        key
        for key in (*shown, *extra)
        if any(key in each for each in result["evaluations"].values())
    ]
    rows = [
        [
            name,
            *(f"{each[key]:.4f}" if key in each else "" for key in present),
            str(each.get("examples", "failed")),
        ]
        for name, each in result["evaluations"].items()
    ]
    names = [key.replace("per_class", "per-class").replace("_", " ") for key in present]
    columns = ["evaluation", *names, "examples"]
    seed = f", seed {result['seed']}" if "seed" in result else ""
    display.table(f"{result['method']}{seed}", columns, rows)
    for name, each in result["evaluations"].items():
        if "constant_class" in each:
            display.say(f"{name}: {collapsed([each['constant_class']])}")


def timing(began: float) -> dict[str, Any]:
    """How long this process took and on what; not in the result, which does not depend on it."""
    return {
        "seconds": time.monotonic() - began,
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("jax", "flax", "optax", "numpy")},
    }

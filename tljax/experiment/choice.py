"""Which of several runs is the best: by what reads no label of the target, never by test labels."""

from collections.abc import Mapping, Sequence
from typing import Any

from tljax import metrics
from tljax.errors import unknown, wrong
from tljax.experiment.fields import EvaluationFields
from tljax.metrics.validators import FOOLED

Row = Mapping[str, Any]
LOWER = ("loss", "entropy", "mae", "rmse")  # metrics of which less is better
USUAL = ("information_maximisation", "accuracy")  # chosen by: without labels, for validation


def choices(config: Mapping[str, Any]) -> list[str]:
    """The evaluations that a choice may read: those without labels, and those for validation."""
    evaluations = {
        name: EvaluationFields.model_validate(own) for name, own in config["evaluate"].items()
    }
    blind = [name for name in evaluations if not labelled(name, config)]
    return [*blind, *(name for name, own in evaluations.items() if own.validation)]


def labelled(evaluation: str, config: Mapping[str, Any]) -> bool:
    """Whether an evaluation reads labels."""
    return EvaluationFields.model_validate(config["evaluate"][evaluation]).labelled


def readable(select: str, config: Mapping[str, Any], field: str = "--select") -> str:
    """The evaluation of "EVALUATION/METRIC", if a choice may read it.

    Raises:
      UserError: one that is not there, or that reads labels which no choice may read.
    """
    evaluation = select.partition("/")[0]
    allowed = choices(config)
    if evaluation not in allowed:
        if evaluation in config["evaluate"]:
            raise wrong(
                field, select, "an evaluation without labels, or one with validation=True: "
                "what is chosen by test labels is no result"
            )  # fmt: skip
        raise unknown(field, evaluation, allowed)
    return evaluation


def lower(select: str) -> bool:
    """Whether less of the metric is better."""
    return select.partition("/")[2] in LOWER


def best(rows: Sequence[Row], select: str, config: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """The points by the mean of what is selected by, the best first; with a failed run or a
    collapsed one a point is worst.

    Raises:
      UserError: a metric that is not there, or one that reads labels which no choice may read.
    """
    evaluation = readable(select, config)
    known = {key for row in rows for key in row if key.startswith(f"{evaluation}/")}
    if select not in known:
        raise unknown("--select", select, known)
    sign = -1 if lower(select) else 1

    def worth(group: Sequence[Row]) -> float:
        values = [row[select] for row in group if row.get(select) is not None]
        if len(values) < len(group):  # it failed, or its examples do not define the metric
            return -float("inf")
        if any(collapsed(row, select) for row in group):
            return -float("inf")
        return sign * sum(values) / len(values)

    groups = grouped(rows)
    return sorted(groups, key=lambda point: worth(groups[point]), reverse=True)


def collapsed(row: Row, select: str) -> bool:
    """Whether a run calls all examples the same, and a validator, which may like it, chooses."""
    evaluation, _, metric = select.partition("/")
    return metric in FOOLED and row.get(f"{evaluation}/constant_class") is not None


def default(config: Mapping[str, Any]) -> str:
    """What is selected by where nothing is said; "" where nothing may be."""
    for evaluation in choices(config):
        return f"{evaluation}/{USUAL[labelled(evaluation, config)]}"
    return ""


def swept(rows: Sequence[Row]) -> list[str]:
    """The fields that were swept: the columns between the status and the metrics."""
    columns = [key for key in rows[0] if key not in ("member", "status") and "/" not in key]
    return columns


def grouped(rows: Sequence[Row]) -> dict[tuple[Any, ...], list[Row]]:
    """Rows that differ in the seed alone, by the values of the other swept fields."""
    fields = [field for field in swept(rows) if field != "seed"]
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[field] for field in fields), []).append(row)
    return found


def cell(values: Sequence[float]) -> str:
    """The mean of runs, with its 95 % interval where there are several."""
    if not values:
        return "failed"
    mean, half = metrics.interval(values)
    return f"{mean:.3f}" if len(values) < 2 else f"{mean:.3f} ± {half:.3f}"


def short(value: Any) -> str:
    """A value for a person to read: a number as it was drawn has too many digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)

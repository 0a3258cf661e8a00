"""What an evaluation needs, asked before the first step."""

from collections.abc import Sequence

import numpy as np

from tljax.errors import UserError, failure, wrong
from tljax.phase.evaluate import known
from tljax.phase.scoring import Outputs, Split, score


def check(split: Split, field: str) -> None:
    """Refuses a split whose examples, classes and table do not fit its readout."""
    table, names = split.semantics, split.table.classes
    if split.readout == "dap" and table is not None and not np.isin(table, (0, 1)).all():
        raise wrong(f"{field}.readout", "dap", "a table of 0 and 1 only, as it is not scaled")
    if split.among == "unseen" and not split.unseen:
        raise wrong(f"{field}.unseen", split.unseen, "the classes that compete")
    if not split.unseen or split.table.label is None:
        return
    held = set(np.unique(split.table.label).tolist())
    unseen = held & set(split.unseen)
    if split.among == "unseen" and held - unseen:
        seen = [names[label] for label in sorted(held - unseen)]
        raise wrong(f"{field}.classes", seen, "unseen classes alone, as those compete")
    if split.among == "all" and not (unseen and held - unseen):
        expected = "some of the classes of its examples, and not all; or among='unseen'"
        raise wrong(f"{field}.unseen", [names[label] for label in split.unseen], expected)


def check_calibration(split: Split, other: Split, field: str) -> None:
    """Refuses a factor of calibrated stacking that is chosen on what it is to be judged by."""
    if other.among != "all" or not other.unseen or other.table.label is None:
        expected = "an evaluation with labels and unseen=(...) of held-out seen classes among all"
        raise wrong(f"{field}.calibrate", other.name, expected)
    shown = sorted(set(split.unseen) & set(np.unique(other.table.label).tolist()))
    if shown:
        names = [split.table.classes[label] for label in shown]
        expected = f"an evaluation without the unseen classes {names}: it would choose by them"
        raise wrong(f"{field}.calibrate", other.name, expected)


def rehearse(split: Split, shape: Sequence[int]) -> None:
    """Refuses a split that could not be judged, by judging made-up outputs of its first examples.

    Args:
      split: to evaluate on.
      shape: of the outputs for a batch.
    """
    table, few = split.table, 64
    if split.readout == "span" and (len(shape) != 3 or shape[-1] != 2):
        expected = f"a head of two outputs for every place of a map, evaluate.{split.name}.layer"
        raise wrong(f"evaluate.{split.name}.head", split.head, expected)
    unseen = np.isin(np.asarray(table.label), split.unseen) if split.unseen else np.zeros(0, bool)
    firsts = (np.arange(len(table)), np.flatnonzero(unseen), np.flatnonzero(~unseen))
    rows = np.unique(np.concatenate([each[:few] for each in firsts]))
    made = np.random.default_rng(0).normal(size=(len(rows), *shape[1:])).astype(np.float32)
    of_rows = [None if each is None else np.asarray(each)[rows] for each in known(table)]
    try:
        score(Outputs(made, made, *of_rows), split)
    except Exception as error:
        raise UserError(failure(f"evaluate.{split.name}", error)["failed"]) from error

"""The best step of a phase, by an evaluation that may choose, and when to stop without a better.

Nothing of it is in a checkpoint: what was judged up to a step stands in the records, of which a run
that resumes has just those, so that its best and its patience are what they were.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tljax.errors import unknown
from tljax.metrics.validators import FOOLED
from tljax.train import checkpoint, hosts


class Select(NamedTuple):
    """What a phase's best step is chosen by."""

    evaluation: str
    metric: str
    lower: bool  # whether less of it is better
    patience: int = 0  # evaluations without a better one until the phase ends; 0: it goes on
    field: str = "select.by"


def standing(
    history: Sequence[tuple[int, float | None]], lower: bool, patience: int
) -> tuple[int, int]:
    """(the best step, the step at which patience ended), 0 for none; of equals the first is best.

    Args:
      history: (step, value) of every evaluation, in order, None where the network had collapsed,
        which is never the best; what follows the end is not looked at.
      lower: whether less is better.
      patience: evaluations without a better one; 0: any number.
    """
    best, value, waited = 0, 0.0, 0
    for step, now in history:
        if now is not None and (not best or (now < value if lower else now > value)):
            best, value, waited = step, now, 0
        else:
            waited += 1
        if patience and waited >= patience:
            return best, step
    return best, 0


def worth(values: Mapping[str, Any], metric: str) -> float | None:
    """What an evaluation's metric chooses by; None of a validator where the network has collapsed.

    A network that calls every example the same is certain of it: its entropy is the lowest.
    """
    return None if "constant_class" in values and metric in FOOLED else values[metric]


class Best:
    """A lane's best step so far, its variables in `DIRECTORY/STEP`."""

    def __init__(self, directory: Path, select: Select, keep: int):
        self.select, self.step, self.stopped = select, 0, 0
        self._directory, self._keep = directory, keep
        self._history: list[tuple[int, float | None]] = []
        self._saved: list[int] = []  # the best steps when checkpoints were saved

    def resume(self, phase: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Stands where the records of a phase, up to the step that is resumed, leave it."""
        evaluation, metric = self.select.evaluation, self.select.metric
        self._history = [
            (record["step"], worth(record, metric))
            for record in records
            if (record["phase"], record["kind"]) == (phase, evaluation) and metric in record
        ]
        self._saved = sorted(int(path.name) for path in self._directory.glob("[0-9]*"))
        self._stand()

    def judge(self, step: int, values: Mapping[str, Mapping[str, Any]], variables: Any) -> None:
        """Takes note of an evaluation; the variables are saved if there was no better one.

        Args:
          step: of the evaluation.
          values: evaluation -> metric -> value; of processes that do not evaluate nothing.
          variables: of that step.

        Raises:
          UserError: a metric that the evaluation does not have.
        """
        now = values.get(self.select.evaluation, {})
        if self.select.metric in now:
            self._history.append((step, worth(now, self.select.metric)))
        elif now and "failed" not in now and not self._history:
            raise unknown(self.select.field, self.select.metric, now)
        self._stand()
        if self.step == step:
            checkpoint.save(self._directory / str(step), variables)

    def _stand(self) -> None:
        stands = standing(self._history, self.select.lower, self.select.patience)
        self.step, self.stopped = map(hosts.largest, stands)  # the leader alone has a history

    def prune(self) -> None:
        """When a checkpoint is saved: forgets what none that is kept could go on from."""
        self._saved = [*self._saved, self.step][-self._keep - 1 :]
        if hosts.leader():
            for path in self._directory.glob("[0-9]*"):
                if path.name.isdigit() and int(path.name) not in self._saved:
                    shutil.rmtree(path)

    def variables(self, last: Any) -> Any:
        """The variables of the best step; the `last` ones where nothing was judged."""
        if not self.step:
            return last
        return checkpoint.load(self._directory / str(self.step), last)

    def told(self) -> dict[str, Any]:
        """What `result.json` says of it."""
        told: dict[str, Any] = {"by": f"{self.select.evaluation}/{self.select.metric}"}
        told |= {"step": self.step, "value": dict(self._history).get(self.step)}
        return {**told, **({"stopped": self.stopped} if self.stopped else {})}

"""A phase from Python: the loop of a run without its directory, and what a state is worth."""

from collections.abc import Mapping, Sequence
from typing import Any

from tljax.bind import Bound
from tljax.data.table import Table
from tljax.errors import UserError, failure
from tljax.phase import evaluate as judging
from tljax.phase import rehearsal
from tljax.phase.phase import Phase, Stream
from tljax.phase.scoring import Split, score
from tljax.train import loop
from tljax.train.lanes import Lane, Single
from tljax.train.loop import Cadence, Stop, Values, Writer
from tljax.train.records import Display, Kept
from tljax.train.starting import in_memory
from tljax.train.step import State, evaluated

USUAL = Cadence()


def fit(
    phase: Phase,
    state: State,
    data: Mapping[str, Table],
    *,
    judge: Mapping[str, Table] | None = None,
    cadence: Cadence = USUAL,
    display: Display | None = None,
    records: list[dict[str, Any]] | None = None,
) -> State:
    """Steps a phase from `state` to its end, by the loop of a run, without a directory.

    Args:
      phase: what is done.
      state: from `start`, or from any step; donated, that is used up.
      data: stream -> its table, in memory.
      judge: name -> a labelled table to evaluate on as it goes.
      cadence: how often what is done, in steps.
      display: where progress is shown; nowhere if left out.
      records: a list that gets what a run writes into metrics.jsonl.

    Returns:
      The state after `phase.steps` steps.

    Raises:
      UserError: a loss, or parameters, that are not finite.
    """

    for table in (judge or {}).values():
        _checked(phase, evaluated(state), Split("table", table, Stream("table", 256)))

    def worth(name: str, table: Table, state: State) -> dict[str, Any]:
        try:
            return evaluate(phase, state, table)
        except UserError as error:
            return failure(f"judge[{name!r}]", error)

    def values(state: State) -> Values:
        return {name: worth(name, table, state) for name, table in (judge or {}).items()}

    at, steps = int(state.step), int(phase.steps)
    program = Single(Lane(phase, state, in_memory(data)), cadence.dispatch)
    writers = [Writer("train", Kept(records if records is not None else []), values)]
    shown = display or Display(quiet=True)
    return loop.train("train", program, writers, steps, cadence, None, shown, Stop(), begun=at)[0]


def evaluate(
    phase: Phase,
    state: State,
    table: Table,
    *,
    head: str = "label",
    transforms: Sequence[Bound] = (),
    stem: str = "",
    statistics: str | None = None,
    readout: str = "logits",
    semantics: Any = None,
    batch: int = 256,
) -> dict[str, float]:
    """What a state is worth on a table: its metrics by name.

    Args:
      phase: whose network it is.
      state: is judged by the average of its parameters, where one is kept.
      table: with a `label`, `labels` or `value` column; without one, validators judge.
      head: whose outputs are read.
      transforms: of the inputs, drawn as for all evaluations, by example.
      stem: the stem that the inputs pass.
      statistics: the stream whose batch statistics are used, where each has its own.
      readout: how the outputs are read; see `phase.scoring.READOUTS`.
      semantics: `[classes, attributes]`, of the readouts that read a table.
      batch: examples at a time.

    Raises:
      UserError: a head that is not there, or a table that the network cannot take.
    """
    stream = Stream("table", batch, tuple(transforms), stem)
    split = Split("table", table, stream, head, statistics, readout=readout, semantics=semantics)
    variables = evaluated(state)
    _checked(phase, variables, split)
    outputs = judging.outputs(phase.network, variables["params"], variables["batch_stats"], split)
    return score(outputs, split)


def _checked(phase: Phase, variables: Mapping[str, Any], split: Split) -> None:
    """Refuses a table that the network cannot take, or whose outputs could not be judged."""
    rehearsal.rehearse(split, judging.check_fit(phase.network, variables, split))

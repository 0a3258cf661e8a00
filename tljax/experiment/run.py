"""One run: a sweep of one, that can be killed, resumed, read and drawn."""

import contextlib
import os
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from tljax.errors import failure, unknown, wrong
from tljax.experiment import origins, results, start
from tljax.experiment import workdir as workdirs
from tljax.experiment.build import Built, build
from tljax.experiment.cache import Cache
from tljax.experiment.card import write_card
from tljax.experiment.check import Checked, check
from tljax.experiment.fields import Config
from tljax.experiment.group import Unit, finish, keep_data
from tljax.phase import evaluate
from tljax.phase.scoring import Outputs
from tljax.report import figures
from tljax.train import hosts, loop
from tljax.train.files import read_json, write_json
from tljax.train.records import Display, read


def run(
    config: Config, workdir: str | os.PathLike, display: Display | None = None
) -> dict[str, Any]:
    """Runs a config, or goes on where a killed run stood, and returns what `result.json` holds.

    Args:
      config: from a config file, or `blank()` filled in.
      workdir: gets config.json, metrics.jsonl, phases/, checkpoints/, figures/, timing.json,
        README.md (its card) and, last, result.json. A directory of the same config is resumed;
        one that is finished is only read, or goes on if the config has more steps for its last
        phase. Processes of one run share it; no second run may.
      display: where progress is shown; nowhere if left out.

    Raises:
      UserError: a mistake in the config, its data or the workdir; a loss that is not finite; a
        checkpoint that could not be saved.
      Stopped: SIGTERM or SIGINT came; the state has been saved.
    """
    display = display or Display(quiet=True)
    checked, workdir, began = check(config), Path(workdir), time.monotonic()
    hosts.agree(checked.plain)
    ended = workdirs.finished(workdir, checked.plain)
    hosts.wait("a look at the workdir")
    if ended is not None:
        display.say(f"{workdir} is finished; this is its result")
        results.show(display, ended)
        return ended
    with _claimed(workdir, checked):
        result = _finish(checked, workdir, display, began)
    results.show(display, result)
    for figure in result.get("figures", {}).values():
        display.say(f"not drawn: {figure['failed']}")
    return result


def _finish(checked: Checked, workdir: Path, display: Display, began: float) -> dict[str, Any]:
    """What is left of a run whose directory is held; its result."""
    unit = Unit("", build(checked), workdir)
    if hosts.leader():
        keep_data(unit)
    with loop.stop_on_signals() as stop:
        cache = Cache(Path(checked.fields.features_dir or workdir / "features"), display)
        [(finals, _, splits, said)] = finish([unit], workdir / "checkpoints", cache, stop)
    if hosts.leader():
        judged = results.judge(unit.built.network, finals, splits.values(), said)
        seen = {name: found for name, (found, _) in judged.items() if found}
        undrawn = _drawn(workdir, unit.built, seen) if checked.fields.figures else {}
        write_json(workdir / "timing.json", results.timing(began))
        result = results.assemble(checked, list(finals.values())[-1], judged, unit.built.splits)
        result |= start.selected(workdir, finals)
        write_card(workdir, result)
        results.keep_predictions(workdir, judged, splits)
        write_json(workdir / "result.json", {**result, **({"figures": undrawn} if undrawn else {})})
    hosts.wait("the result")
    return read_json(workdir / "result.json")


def _drawn(workdir: Path, built: Built, said: Mapping[str, Outputs]) -> dict[str, Any]:
    """Draws a run's figures; those that could not be drawn, as they stand in `result.json`."""
    try:
        return draw(workdir, built, said)
    except Exception as error:
        return {"all": failure("figures", error)}


def outputs(
    config: Config, workdir: str | os.PathLike, evaluations: Collection[str] = ()
) -> dict[str, Outputs]:
    """What the networks of a run give of evaluations: logits, features and labels.

    A run that has not ended is run to its end first.

    Args:
      config, workdir: of the run.
      evaluations: their names; (): all.

    Raises:
      UserError: an evaluation that the config lacks.
    """
    checked, workdir = check(config), Path(workdir)
    if workdirs.finished(workdir, checked.plain) is None:
        run(config, workdir)
    built, found = build(checked), {}
    finals = origins.finals(workdir, built.phases)
    for name in evaluations or built.splits:
        if name not in built.splits:
            raise unknown("evaluations", name, built.splits)
        split = built.splits[name]
        own = finals[split.phase]
        found[name] = evaluate.outputs(built.network, own["params"], own["batch_stats"], split)
    return found


def draw(
    workdir: str | os.PathLike,
    built: Built | None = None,
    said: Mapping[str, Outputs] | None = None,
) -> dict[str, Any]:
    """Draws the figures of a run that has ended from what lies in its directory.

    Args:
      workdir: of the run.
      built: of its config.json, if that has been done.
      said: evaluation -> its outputs, of those that are known.

    Returns:
      Figure -> `{"failed": why}`, of those that could not be drawn.
    """
    workdir = Path(workdir)
    if built is None:
        built = build(check(workdirs.recorded(workdir).config))
    finals = origins.finals(workdir, built.phases)
    first = start.first(workdir, next(iter(finals)))
    records = read(workdir) if (workdir / "metrics.jsonl").exists() else []  # of no step none
    return figures.draw(workdir, built.network, first, finals, built.splits, records, said)


@contextlib.contextmanager
def _claimed(workdir: Path, config: Checked) -> Iterator[None]:
    """Makes the workdir this config's, of all processes alike, and holds it; or refuses it."""
    with contextlib.ExitStack() as held:
        if hosts.leader():
            held.enter_context(workdirs.claimed(workdir, config.plain))
        hosts.wait("the workdir")
        if not (workdir / "config.json").exists():
            expected = (
                "a directory that all processes share; this one does not see what process 0 wrote"
            )
            raise wrong("workdir", str(workdir), expected)
        yield

"""One run: a sweep of one, that can be killed, resumed, read and drawn."""

import json
import os
import time
from pathlib import Path
from typing import Any

from tljax.errors import wrong
from tljax.experiment import results, start
from tljax.experiment.build import Built, build
from tljax.experiment.check import Checked, check
from tljax.experiment.fields import Config, blank
from tljax.experiment.group import Unit, finish
from tljax.phase.evaluate import Outputs
from tljax.report import figures
from tljax.train import hosts, loop
from tljax.train.checkpoint import write_json
from tljax.train.records import Display, read


def run(
    config: Config, workdir: str | os.PathLike, display: Display | None = None
) -> dict[str, Any]:
    """Runs a config, or goes on where a killed run stood, and returns what `result.json` holds.

    Args:
      config: from a config file, or `blank()` filled in.
      workdir: gets config.json, metrics.jsonl, phases/, checkpoints/, figures/, timing.json and,
        last, result.json. A directory of the same config is resumed; one that is finished is only
        read. Processes of one run share it.
      display: where progress is shown; nowhere if left out.

    Raises:
      UserError: a mistake in the config, its data or the workdir; a loss that is not finite; a
        checkpoint that could not be saved.
      Stopped: SIGTERM or SIGINT came; the state has been saved.
    """
    display = display or Display(quiet=True)
    checked, workdir, began = check(config), Path(workdir), time.monotonic()
    _claim(workdir, checked)
    finished = workdir / "result.json"
    if finished.exists():
        result = json.loads(finished.read_text())
        display.say(f"{workdir} is finished; this is its result")
        results.show(display, result)
        return result
    unit = Unit("", build(checked), workdir)
    with loop.stop_on_signals() as stop:
        [finals], _ = finish([unit], workdir / "checkpoints", display, stop)
    if hosts.leader():
        judged = results.judge(unit.built.network, finals, unit.built.splits.values())
        if checked.fields.figures:
            draw(workdir, unit.built)
        write_json(workdir / "timing.json", results.timing(began))
        result = results.assemble(checked, list(finals.values())[-1], judged, unit.built.splits)
        write_json(finished, result)
    hosts.wait("the result")
    result = json.loads(finished.read_text())
    results.show(display, result)
    return result


def outputs(config: Config, workdir: str | os.PathLike) -> dict[str, Outputs]:
    """What the networks of a run give of every evaluation: logits, features and labels.

    A run that has not ended is run to its end first.
    """
    checked, workdir = check(config), Path(workdir)
    _claim(workdir, checked)
    unit = Unit("", build(checked), workdir)
    with loop.stop_on_signals() as stop:
        [finals], _ = finish([unit], workdir / "checkpoints", Display(quiet=True), stop)
    judged = results.judge(unit.built.network, finals, unit.built.splits.values())
    return {name: found for name, (found, _) in judged.items()}


def draw(workdir: str | os.PathLike, built: Built | None = None) -> None:
    """Draws the figures of a run that has ended from what lies in its directory.

    Args:
      workdir: of the run.
      built: of its config.json, if that has been done.
    """
    workdir = Path(workdir)
    if built is None:
        built = build(check(json.loads((workdir / "config.json").read_text())))
    finals = start.finals(workdir, built.phases)
    first = start.first(workdir, next(iter(finals)))
    figures.draw(workdir, built.network, first, finals, built.splits, read(workdir))


def _claim(workdir: Path, config: Checked) -> None:
    """Makes the workdir this config's, of all processes alike, or refuses it."""
    hosts.agree(config.plain)
    if hosts.leader():
        results.claim(workdir, config.plain, blank().to_dict())
    hosts.wait("the workdir")
    if not (workdir / "config.json").exists():
        expected = (
            "a directory that all processes share; this one does not see what process 0 wrote"
        )
        raise wrong("workdir", str(workdir), expected)

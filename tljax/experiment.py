"""The only reader of a config: config → phases → a run that can be killed and resumed."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_collections

from tljax import plots, results, running
from tljax.errors import unknown, wrong
from tljax.evaluate import Outputs
from tljax.running import build
from tljax.train import hosts
from tljax.train.checkpoint import write_json
from tljax.train.records import Display, read

__all__ = ["FAMILIES", "PHASE_FIELDS", "blank", "build", "outputs", "resolve", "run"]

FAMILIES = {
    "baseline": "the baselines that a method is held against",
    "fine-tuning": "source labelled, target labelled",
    "multitask": "source labelled, target labelled",
    "domain-adversarial": "source labelled, target unlabelled",
    "zero-shot": "source labelled, target unlabelled",
    "self-taught learning": "source unlabelled, target labelled",
    "self-taught clustering": "source unlabelled, target unlabelled",
}
"""The families of methods, and the cell of the field's table that each stands in."""

PHASE_FIELDS = (
    *("flow", "terms", "balance", "start", "prepare", "train", "freeze_statistics"),
    *("steps", "restarts", "optimizer", "average"),
)
"""What a phase may set for itself; every field it leaves out is that of the config's top level."""


def blank() -> ml_collections.ConfigDict:
    """A config with every field and its default, for a config file to fill in.

    The fields of a phase (`PHASE_FIELDS`) stand at the top level. A config of several phases lists
    their names in `phases` and gives each a `dict(...)` of that name with the fields that differ.
    """
    config = ml_collections.ConfigDict()
    config.method = ""  # the method's name in `tljax methods`
    config.family = ""  # one of FAMILIES
    config.seed = 0  # of parameters, data order, transforms and few-shot draws

    # What flows: name -> dict of the fields in opening.STREAM; and what is evaluated.
    config.streams = ml_collections.ConfigDict()
    config.evaluate = ml_collections.ConfigDict()  # fields: opening.EVALUATION
    config.tables = ml_collections.ConfigDict()  # class × attributes; fields: opening.TABLE
    config.data_dir = ""  # where relative paths start and TFDS keeps its data
    config.mesh = ml_collections.ConfigDict(dict(data=1, shard=1))  # devices: see train/placing.py
    config.resident_megabytes = 2048.0  # larger sets are streamed from disk
    config.workers = 0  # processes that read streamed sets; 0: threads

    config.network = ml_collections.ConfigDict(
        dict(stems={}, trunk=dict(name="cnn"), heads=dict(label=dict(name="linear")))
    )
    config.precision = "float32"  # or "bfloat16": stems and trunk compute in it; parameters do not
    config.remat = "none"  # what a backward pass keeps: "none" is all; "products"; "all" is nothing
    config.accumulate = 1  # parts of a batch, taken one after another to save memory
    config.statistics = "joint"  # batch statistics of all streams together, or "separate"

    config.phases = ()
    config.flow = ()  # names of the streams that flow; (): all
    config.terms = ml_collections.ConfigDict()  # name -> weight, or dict(term=, weight=, ramp=, …)
    config.balance = ml_collections.ConfigDict(dict(name="sum"))  # how tasks are weighed
    config.start = ()  # (pattern, "fresh", a phase or "run:WORKDIR"); (): the phase before
    config.prepare = ml_collections.ConfigDict()  # name -> dict(solver=, ...), before step 0
    config.train = (("**", 1.0),)  # (pattern, factor on the learning rate; 0 freezes)
    config.freeze_statistics = False  # batch statistics: the running ones, which stay as they are
    config.steps = 1000  # 0: nothing but what is prepared
    config.restarts = 1  # runs of the phase, of which the one of the lowest loss is kept
    config.optimizer = ml_collections.ConfigDict(
        dict(name="sgd", learning_rate=0.01, schedule=dict(name="constant"), warmup=0.0)
    )
    config.average = 0.0  # decay of an exponential moving average to evaluate; 0: none

    config.log_every = 50
    config.evaluate_every = 250
    config.checkpoint_every = 250
    config.keep = 2  # checkpoints of each phase
    config.steps_per_dispatch = ml_collections.config_dict.placeholder(int)  # None: the fastest
    config.figures = True
    config.tensorboard = False
    return config


def resolve(config: ml_collections.ConfigDict | Mapping[str, Any]) -> dict[str, Any]:
    """A config as plain dictionaries, checked: every field known, every number in its range.

    Raises:
      UserError: naming the first field that is wrong.
    """
    given = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else dict(config)
    defaults = blank().to_dict()
    phases = given.get("phases", ())
    if not isinstance(phases, list | tuple) or not all(isinstance(each, str) for each in phases):
        raise wrong("phases", phases, "names of phases: ('pretrain', 'adapt')")
    for i, name in enumerate(phases):
        if name in (*defaults, "fresh") or not name.isidentifier() or name in phases[:i]:
            expected = "a name of its own for each phase: no field's, not 'fresh', no signs in it"
            raise wrong(f"phases[{i}]", name, expected)
    for name in given:
        if name not in defaults and name not in phases:
            raise unknown("config", name, (*defaults, *phases))
    resolved = {**defaults, **given}
    for name in phases:
        if not isinstance(given.get(name), Mapping):
            raise wrong(name, given.get(name), f"dict(...) of {PHASE_FIELDS}, named in phases")
        for field in given[name]:
            if field not in PHASE_FIELDS:
                raise unknown(name, field, PHASE_FIELDS)
    if resolved["family"] and resolved["family"] not in FAMILIES:
        raise unknown("family", resolved["family"], FAMILIES)
    if resolved["statistics"] not in ("joint", "separate"):
        raise unknown("statistics", resolved["statistics"], ("joint", "separate"))
    for field, least in _COUNTS.items():
        _check_count(field, resolved[field], least)
    own = [("", resolved), *((f"{name}.", {**resolved, **given[name]}) for name in phases)]
    for prefix, fields in own[1:] or own:
        for field in PHASE_FIELDS:
            kind = Mapping if isinstance(defaults[field], dict) else (list, tuple)
            if isinstance(defaults[field], dict | tuple) and not isinstance(fields[field], kind):
                expected = "dict(...)" if kind is Mapping else "a list"
                raise wrong(f"{prefix}{field}", fields[field], expected)
        _check_count(f"{prefix}steps", fields["steps"], 0)
        _check_count(f"{prefix}restarts", fields["restarts"], 1)
        if not isinstance(fields["freeze_statistics"], bool):
            raise wrong(f"{prefix}freeze_statistics", fields["freeze_statistics"], "True or False")
        if not fields["steps"] and not fields["prepare"]:
            raise wrong(f"{prefix}steps", 0, "an integer of at least 1, or something to prepare")
    if resolved["steps_per_dispatch"] is not None:
        _check_count("steps_per_dispatch", resolved["steps_per_dispatch"], 1)
    for field in ("streams", "evaluate"):
        if not resolved[field]:
            raise wrong(field, resolved[field], 'at least one: dict(NAME=dict(data="digits", …))')
    return resolved


_COUNTS = {
    "seed": 0,
    "steps": 0,
    "restarts": 1,
    "log_every": 1,
    "evaluate_every": 1,
    "checkpoint_every": 1,
    "keep": 1,
    "accumulate": 1,
    "workers": 0,
}


def _check_count(field: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise wrong(field, value, f"an integer of at least {least}")


def run(
    config: ml_collections.ConfigDict | Mapping[str, Any],
    workdir: str | os.PathLike,
    display: Display | None = None,
) -> dict[str, Any]:
    """Runs a config, or goes on where a killed run stood, and returns what `result.json` holds.

    Args:
      config: from a config file, or `blank()` filled in.
      workdir: gets config.json, metrics.jsonl, checkpoints/, figures/, timing.json and, last,
        result.json. A directory of the same config is resumed; one that is finished is only read.
        Processes of one run share it.
      display: where progress is shown; nowhere if left out.

    Raises:
      UserError: a mistake in the config, its data or the workdir; a loss that is not finite; a
        checkpoint that could not be saved.
      Stopped: SIGTERM or SIGINT came; the state has been saved.
    """
    display = display or Display(quiet=True)
    config, workdir, began = resolve(config), Path(workdir), time.monotonic()
    _claim(workdir, config)
    finished = workdir / "result.json"
    if finished.exists():
        result = json.loads(finished.read_text())
        display.say(f"{workdir} is finished; this is its result")
        results.show(display, result)
        return result
    built, first, finals = running.finish(config, workdir, display)
    if not hosts.leader():
        hosts.wait("the result")
        return json.loads(finished.read_text())
    judged = results.judge(built.network, finals, built.data.splits.values())
    if config["figures"]:
        plots.draw(workdir, built.network, first, finals, built.data.splits, read(workdir))
    result = results.assemble(config, finals[built.names[-1]], judged, built.data.splits)
    write_json(workdir / "timing.json", results.timing(began))
    write_json(finished, result)
    hosts.wait("the result")
    results.show(display, result)
    return result


def _claim(workdir: Path, config: Mapping[str, Any]) -> None:
    """Makes the workdir this config's, of all processes alike, or refuses it."""
    hosts.agree(config)
    if hosts.leader():
        results.claim(workdir, config, blank().to_dict())
    hosts.wait("the workdir")
    if not (workdir / "config.json").exists():
        expected = (
            "a directory that all processes share; this one does not see what process 0 wrote"
        )
        raise wrong("workdir", str(workdir), expected)


def outputs(
    config: ml_collections.ConfigDict | Mapping[str, Any], workdir: str | os.PathLike
) -> dict[str, Outputs]:
    """What the networks of a run say of every evaluation: logits, features and labels.

    A run that has not ended is run to its end first.
    """
    config, workdir = resolve(config), Path(workdir)
    _claim(workdir, config)
    built, _, finals = running.finish(config, workdir, Display(quiet=True))
    judged = results.judge(built.network, finals, built.data.splits.values())
    return {name: said for name, (said, _) in judged.items()}

"""The only reader of a config: config → phases → a run that can be killed and resumed."""

import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import ml_collections

from tljax import assembly, plots, trees
from tljax.errors import unknown, wrong
from tljax.evaluate import confusion, outputs, score
from tljax.train import loop, step
from tljax.train.checkpoint import Checkpoints, write_json
from tljax.train.records import Display, Records, read

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

PHASE_FIELDS = ("flow", "terms", "start", "train", "steps", "optimizer", "average")
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

    # What flows: name -> dict of the fields in assembly.STREAM; and what is evaluated.
    config.streams = ml_collections.ConfigDict()
    config.evaluate = ml_collections.ConfigDict()  # fields: assembly.EVALUATION
    config.data_dir = ""  # where relative paths start and TFDS keeps its data
    config.resident_megabytes = 2048.0  # larger sets are streamed from disk
    config.workers = 0  # processes that read streamed sets; 0: threads

    config.network = ml_collections.ConfigDict(
        dict(stems={}, trunk=dict(name="cnn"), heads=dict(label=dict(name="linear")))
    )
    config.statistics = "joint"  # batch statistics of all streams together, or "separate"

    config.phases = ()
    config.flow = ()  # names of the streams that flow; (): all
    config.terms = ml_collections.ConfigDict()  # name -> weight, or dict(term=, weight=, ramp=, …)
    config.start = ()  # (pattern, "fresh" or a phase's name); (): all of the phase before
    config.train = (("**", 1.0),)  # (pattern, factor on the learning rate; 0 freezes)
    config.steps = 1000
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
    phases = tuple(given.get("phases", ()))
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
    for name in phases:
        _check_count(f"{name}.steps", given[name].get("steps", 1), 1)
    if resolved["steps_per_dispatch"] is not None:
        _check_count("steps_per_dispatch", resolved["steps_per_dispatch"], 1)
    for field in ("streams", "evaluate"):
        if not resolved[field]:
            raise wrong(field, resolved[field], 'at least one: dict(NAME=dict(data="digits", …))')
    return resolved


_COUNTS = {
    "seed": 0,
    "steps": 1,
    "log_every": 1,
    "evaluate_every": 1,
    "checkpoint_every": 1,
    "keep": 1,
    "workers": 0,
}


def _check_count(field: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise wrong(field, value, f"an integer of at least {least}")


def build(
    config: Mapping[str, Any],
) -> tuple[assembly.Data, list[loop.Phase], list[Mapping[str, Any]]]:
    """The data, the phases and each phase's fields of a resolved config, ready to run."""
    data = assembly.open_data(config)
    net = assembly.network(config, data)
    names = config["phases"] or ("train",)
    own = config if config["phases"] else {"train": {}}
    fields: list[Mapping[str, Any]] = [{**config, **own[name]} for name in names]
    phases = [assembly.phase(name, i, fields[i], config, data, net) for i, name in enumerate(names)]
    return data, phases, fields


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
        _show(display, result)
        return result
    data, phases, fields = build(config)
    records = Records(workdir, config["tensorboard"])
    earlier: dict[str, Any] = {}
    first = state = None
    with loop.stop_on_signals() as stop:
        for phase, own in zip(phases, fields, strict=True):
            fresh = assembly.first_state(phase, own, earlier)
            anchor, batch_stats = _copied((fresh.params, fresh.batch_stats))
            first = first or (anchor, batch_stats)
            checkpoints = Checkpoints(workdir / "checkpoints" / phase.name, config["keep"])
            saved = checkpoints.restore(fresh)
            state = fresh if saved is None else jax.device_put(saved)
            at = int(state.step)
            if at:
                display.say(f"phase {phase.name}: resuming at step {at}")
            if at < phase.steps:
                records.rewind([*earlier, phase.name], at)
                heads = state.params.get("heads", {})
                splits = [split for split in data.splits.values() if split.head in heads]

                def judge(state: step.State, net=phase.plan.objective.network, splits=splits):
                    params, batch_stats = step.evaluated(state)
                    return {
                        split.name: score(outputs(net, params, batch_stats, split))
                        for split in splits
                    }

                try:
                    state = loop.train(
                        phase, state, anchor, judge, checkpoints, records, display, stop
                    )
                finally:
                    checkpoints.wait()
            checkpoints.close()
            params, batch_stats = step.evaluated(state)
            earlier[phase.name] = {"params": params, "batch_stats": batch_stats}
    records.close()
    assert state is not None and first is not None
    net = phases[-1].plan.objective.network
    result = _result(config, net, step.evaluated(state), data)
    if config["figures"]:
        plots.draw(workdir, net, first, step.evaluated(state), data.splits, read(workdir))
    write_json(workdir / "timing.json", _timing(began))
    write_json(finished, result)
    _show(display, result)
    return result


@jax.jit
def _copied(tree: Any) -> Any:
    """A copy of what is to outlast a state, which is donated to its first step."""
    return jax.tree.map(jax.numpy.copy, tree)


def _claim(workdir: Path, config: Mapping[str, Any]) -> None:
    """Makes the workdir this config's, or refuses it."""
    written = workdir / "config.json"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        present = {path.name for path in workdir.iterdir()} - {"config.json.partial"}
        if not present:
            write_json(written, config)
            return
        if not os.access(workdir, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise wrong(
            "workdir", str(workdir), f"a directory to write in ({error.strerror})"
        ) from None
    if not written.exists():
        raise wrong(
            "workdir", str(workdir), f"an empty directory or a run of ours; it holds {min(present)}"
        )

    # JSON has lists where a config may have tuples.
    before, now = (
        {path.replace("/", "."): json.dumps(leaf) for path, leaf in trees.flatten(tree).items()}
        for tree in (json.loads(written.read_text()), json.loads(json.dumps(config)))
    )
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if names:
        listed = ", ".join(
            f"{name} ({before.get(name, 'nothing')} there, {now.get(name, 'nothing')} here)"
            for name in names
        )
        raise wrong("workdir", str(workdir), f"a run of the same config; these differ: {listed}")


def _result(config: Mapping[str, Any], net: Any, variables: Any, data: assembly.Data) -> dict:
    """What the final parameters reach on every evaluation."""
    params, batch_stats = variables
    evaluations = {}
    for name, split in data.splits.items():
        if split.head in params.get("heads", {}):
            said = outputs(net, params, batch_stats, split)
            counts = {"examples": len(said.labels), "confusion": confusion(said).tolist()}
            evaluations[name] = {**score(said), **counts}
    return {
        "method": config["method"],
        "seed": config["seed"],
        "parameters": trees.count(params),
        "evaluations": evaluations,
    }


def _show(display: Display, result: Mapping[str, Any]) -> None:
    rows = [
        [
            name,
            f"{each['accuracy']:.4f}",
            f"{each['per_class_accuracy']:.4f}",
            f"{each['loss']:.4f}",
            str(each["examples"]),
        ]
        for name, each in result["evaluations"].items()
    ]
    columns = ["evaluation", "accuracy", "per-class accuracy", "loss", "examples"]
    display.table(f"{result['method']}, seed {result['seed']}", columns, rows)


def _timing(began: float) -> dict[str, Any]:
    """How long this process took and on what; not in the result, which does not depend on it."""
    return {
        "seconds": time.monotonic() - began,
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("jax", "flax", "optax", "numpy")},
    }

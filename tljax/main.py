"""The command line: flags only. Everything it does can be called from Python."""

import logging
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from tljax.errors import Stopped, UserError, unknown, wrong

Changes = list[tuple[str, str]]  # of fields of the config: path, value

USAGE = """Transfer learning as phases of streams, terms, starting points and moving parameters.

  tljax --config dann --workdir runs/dann [--config.seed=1 ...]      run, or resume
  tljax sweep --config configs/dann.py --workdir runs/ablation \\
        --over 'terms.domain.weight=0,0.1,1' --over 'seed=range(10)'         many runs, one table
  tljax search --config my_config.py --workdir runs/search --trials 32 --batch 8 \\
        --over 'terms.domain.weight=log(0.01, 10)' [--seeds 2]               Optuna's TPE, one table
  tljax report runs/ablation [--select EVALUATION/METRIC]                    its figures and choices
  tljax params --config configs/finetune.py         what each phase copies, moves and freezes
  tljax configs [--configs DIRECTORY]               the shipped configs, or a directory's, as a list
  tljax methods [--configs DIRECTORY]               the field's table with these in its cells

  --config FILE           a config file, or the name of a shipped config; --config.FIELD=VALUE
                          changes a field of it
  --workdir DIRECTORY     where the run or sweep is kept, and resumed from
  --over PATH=VALUES      values of a field to sweep; several make a grid. Left out: the config
                          file's own sweep(). A search takes distributions: uniform(low, high),
                          log(low, high), integer(low, high), choice(value, value)
  --trials N              how many points a search tries (default: 32)
  --batch N               how many of them run before the next are drawn (default: 8)
  --seeds N               how many runs a trial has, from config.seed on (default: 1)
  --coordinator HOST:PORT --process_id I --num_processes N
                          one run in N processes, on one host or many, each started with its own I
                          and all with one workdir; process 0 listens at HOST:PORT
  --distributed           the same on a cluster that says all three (Slurm, Open MPI, Cloud TPU)
  --connect_timeout S     seconds that processes wait for each other at the start (default: 300)
                          A sweep needs no coordinator: each process runs its part of the members
  --together N            the most runs of a program (default: as many as fit in memory)
  --select NAME           what a report or search chooses by (default: a label-free evaluation's)
  --configs DIRECTORY     the config files that `configs` and `methods` list (default: the shipped)
  --quiet                 show nothing but errors
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code: 0, 2 for a mistake, 128 + n for a signal."""
    argv = list(sys.argv if argv is None else argv)
    if {"-h", "--help", "-help"} & set(argv):
        print(USAGE)
        return 0
    sys.path.insert(0, "")  # a user's own terms are found from where the command is given
    absl_logging.set_verbosity(absl_logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # orbax's, about damaged checkpoints
    try:
        argv, changes = _changes(_located(argv))
    except UserError as error:
        return _refuse(error)
    given = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", given, sys_argv=argv)
    flags.DEFINE_string("workdir", None, "", given)
    flags.DEFINE_multi_string("over", [], "", given)
    flags.DEFINE_integer("together", None, "", lower_bound=1, flag_values=given)
    flags.DEFINE_string("coordinator", None, "", given)
    flags.DEFINE_bool("distributed", False, "", given)
    for name in ("process_id", "num_processes"):
        flags.DEFINE_integer(name, None, "", lower_bound=0, flag_values=given)
    flags.DEFINE_integer("connect_timeout", 300, "", lower_bound=1, flag_values=given)
    for name, number in (("trials", 32), ("batch", 8), ("seeds", 1)):
        flags.DEFINE_integer(name, number, "", lower_bound=1, flag_values=given)
    flags.DEFINE_string("select", "", "", given)
    flags.DEFINE_string("configs", None, "", given)
    flags.DEFINE_bool("quiet", False, "", given)
    try:
        command, *rest = given(argv)[1:] or ["run"]
    except Exception as error:  # of flags, or of the config file's own code
        missing = "unknown field " if isinstance(error, AttributeError | KeyError) else ""
        return _refuse(error, "" if isinstance(error, flags.Error) else f"config: {missing}")
    try:
        if command not in COMMANDS or (rest and command != "report"):
            raise unknown("command", " ".join([command, *rest]), set(COMMANDS) - {"run"})
        COMMANDS[command](given, rest, changes)
        return 0
    except UserError as error:
        return _refuse(error)
    except OSError as error:  # a small file could not be written; a checkpoint says so itself
        return _refuse(wrong("workdir", given.workdir, f"room to write in ({error})"))
    except Stopped as stopped:
        print(f"tljax: {stopped}; run the same command again to resume", file=sys.stderr)
        return 128 + stopped.signal


def _changes(argv: Sequence[str]) -> tuple[list[str], Changes]:
    """The arguments without `--config.FIELD=VALUE`, and these."""
    rest, changes, left = [], [], iter(argv)
    for argument in left:
        if argument.startswith(("--config.", "-config.")):
            path, equals, text = argument.lstrip("-").removeprefix("config.").partition("=")
            changes.append((path, text if equals else next(left, "")))
        else:
            rest.append(argument)
    return rest, changes


def _located(argv: Sequence[str]) -> list[str]:
    """The arguments, with the file of a shipped config in place of its name."""
    from tljax.report import methods

    located: list[str] = []
    for argument in argv:
        flag, equals, value = argument.partition("=")
        if located and located[-1] in ("--config", "-config"):
            located.append(methods.find(argument))
        elif equals and flag in ("--config", "-config"):
            located.append(f"{flag}={methods.find(value)}")
        else:
            located.append(argument)
    return located


def _config(given: flags.FlagValues, changes: Changes) -> dict[str, Any]:
    """The config of a file with its changes: any field that there is, whether the file has it."""
    if not isinstance(given.config, ConfigDict):
        path = given.config and config_flags.get_config_filename(given["config"])
        raise wrong("--config", path, "--config FILE, a Python file with get_config()")
    from tljax.experiment.check import change, literal
    from tljax.experiment.fields import plain

    config = plain(given.config)
    for path, text in changes:
        config = change(config, path, literal(text), "--config")
    return config


def _workdir(given: flags.FlagValues) -> str:
    if not given.workdir:
        raise wrong("--workdir", given.workdir, "a directory for the run")
    return given.workdir


def _run(given: flags.FlagValues, _: Sequence[str], changes: Changes) -> None:
    config, workdir = _config(given, changes), _workdir(given)
    from tljax.train import hosts

    own = (given.coordinator, given.process_id, given.num_processes)
    if given.distributed or any(each is not None for each in own):
        hosts.connect(*own, given.connect_timeout)
    from tljax import experiment
    from tljax.train.records import Display

    with hosts.ending_together():
        experiment.run(config, workdir, Display(given.quiet or not hosts.leader()))


def _sweep(given: flags.FlagValues, _: Sequence[str], changes: Changes) -> None:
    config, workdir = _config(given, changes), _workdir(given)
    from tljax.experiment import sweep
    from tljax.train.records import Display

    sweep.use_all_cores()
    path = config_flags.get_config_filename(given["config"])
    points = sweep.parse(given.over) if given.over else sweep.own(path)
    if given.coordinator or given.distributed:
        raise wrong(
            "--coordinator", given.coordinator, "none: --process_id and --num_processes are enough"
        )
    part, parts = given.process_id or 0, given.num_processes or 1
    sweep.run(config, points, workdir, Display(given.quiet), given.together, part, parts)


def _search(given: flags.FlagValues, _: Sequence[str], changes: Changes) -> None:
    config, workdir = _config(given, changes), _workdir(given)
    from tljax.experiment import search, sweep
    from tljax.train.records import Display

    sweep.use_all_cores()
    search.run(
        config,
        search.parse(given.over),
        workdir,
        trials=given.trials,
        batch=given.batch,
        seeds=given.seeds,
        select=given.select,
        display=Display(given.quiet),
        together=given.together,
    )


def _report(given: flags.FlagValues, rest: Sequence[str], changes: Changes) -> None:
    if len(rest) != 1:
        raise wrong("report", list(rest), "one directory of a sweep")
    from tljax.report import tables

    tables.show(rest[0], given.select)


def _params(given: flags.FlagValues, _: Sequence[str], changes: Changes) -> None:
    config = _config(given, changes)
    from tljax.report import inventory

    inventory.show(config)


def _methods(given: flags.FlagValues, _: Sequence[str], changes: Changes) -> None:
    from tljax.report import methods

    methods.show(given.configs or methods.SHIPPED)


def _configs(given: flags.FlagValues, _: Sequence[str], changes: Changes) -> None:
    from tljax.report import methods

    methods.show_list(given.configs or methods.SHIPPED)


COMMANDS = {
    "run": _run,
    "sweep": _sweep,
    "search": _search,
    "report": _report,
    "params": _params,
    "configs": _configs,
    "methods": _methods,
}


def _refuse(error: Exception, field: str = "") -> int:
    quotes = "\"'" if isinstance(error, KeyError) else " "  # a KeyError quotes what it says
    said = str(error).strip(quotes).replace("\\n", "\n")
    told, _, trace = said.partition("Traceback (most recent call last)")
    message = " ".join([*told.split(), *trace.strip().split("\n")[-1].split()])
    print(f"tljax: error: {field}{message}", file=sys.stderr)
    return 2


def script() -> None:
    """The console script `tljax`."""
    code = main()
    hosts = sys.modules.get("tljax.train.hosts")
    if code and hosts and hosts.connected:
        hosts.leave(code)
    sys.exit(code)

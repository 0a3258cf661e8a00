"""The command line: flags only. Everything it does can be called from Python."""

import errno
import functools
import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from tljax.errors import Noticed, Stopped, UserError, unknown, wrong
from tljax.flags import parser
from tljax.memory import keep_freed

FULL = (errno.ENOSPC, errno.EDQUOT)
INTERRUPTED = "tljax: interrupted; run the same command again to go on from the last checkpoint"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code: 0, 2 for a mistake, 128 + n for a signal."""
    arguments, changes = _changes(list(sys.argv if argv is None else argv)[1:])
    sys.path.insert(0, "")  # a user's own terms are found from where the command is flags
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # orbax's, about damaged checkpoints
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    known, flags = parser(), None
    try:
        flags, rest = known.parse_known_args(arguments)
        for argument in rest:
            names = [name for action in known._actions for name in action.option_strings]
            raise unknown("flags", argument.partition("=")[0], names)
        command, *words = flags.words or ["run"]
        if command not in COMMANDS or (words and command != "report"):
            raise unknown("command", " ".join([command, *words]), set(COMMANDS) - {"run"})
        COMMANDS[command](flags, changes, words)
        return 0
    except UserError as error:
        return _refuse(str(error))
    except OSError as error:  # of a small file; data and checkpoints say so themselves
        full = "; make room, then run the same command again" * (error.errno in FULL)
        return _refuse(f"{error.filename or flags and flags.workdir}: {error.strerror}{full}")
    except Stopped as stopped:
        print(f"tljax: {stopped}; run the same command again to resume", file=sys.stderr)
        return 128 + stopped.signal
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130
    except SystemExit as end:  # of --help
        return int(end.code or 0)


def _changes(arguments: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """The arguments without `--config.FIELD=VALUE`, and these as (field, value)."""
    rest, changes, left = [], [], iter(arguments)
    for argument in left:
        if argument.startswith("--config."):
            path, equals, text = argument.removeprefix("--config.").partition("=")
            changes.append((path, text if equals else next(left, "")))
        else:
            rest.append(argument)
    return rest, changes


def _config(flags: Any, changes: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The config of a file with its changes: any field that there is, whether the file has it."""
    if not flags.config:
        raise wrong("--config", flags.config, "--config FILE, a Python file with get_config()")
    from tljax.experiment.check import change, literal
    from tljax.experiment.fields import plain
    from tljax.report import methods

    config = plain(methods.opened(flags.config))
    for path, text in changes:
        config = change(config, path, literal(text), "--config")
    return config


def _workdir(flags: Any) -> str:
    if not flags.workdir:
        raise wrong("--workdir", flags.workdir, "a directory for the run")
    return flags.workdir


def _run(flags: Any, changes: Any, words: Any) -> None:
    from tljax.train import hosts

    own = (flags.coordinator, flags.process_id, flags.num_processes)
    if flags.distributed or any(each is not None for each in own):
        hosts.connect(*own, flags.connect_timeout)
    from tljax import experiment
    from tljax.train.records import Display

    config, workdir = _config(flags, changes), _workdir(flags)
    with hosts.ending_together():
        result = experiment.run(config, workdir, Display(flags.quiet or not hosts.leader()))
    if "failed" in result:
        raise UserError(result["failed"])


def _sweep(flags: Any, changes: Any, words: Any) -> None:
    from tljax.experiment import grid, sweep
    from tljax.report import methods
    from tljax.train.records import Display

    config, workdir = _config(flags, changes), _workdir(flags)
    sweep.use_all_cores()
    points = grid.parse(flags.over) if flags.over else grid.own(methods.find(flags.config))
    if flags.coordinator or flags.distributed:
        expected = "none: --process_id and --num_processes are enough"
        raise wrong("--coordinator", flags.coordinator, expected)
    part, parts = flags.process_id or 0, flags.num_processes or 1
    sweep.run(config, points, workdir, Display(flags.quiet), flags.together, part, parts)


def _search(flags: Any, changes: Any, words: Any) -> None:
    from tljax.experiment import search, sweep
    from tljax.train.records import Display

    config, workdir = _config(flags, changes), _workdir(flags)
    sweep.use_all_cores()
    sizes = dict(trials=flags.trials, batch=flags.batch, seeds=flags.seeds, together=flags.together)
    points, display = search.parse(flags.over), Display(flags.quiet)
    search.run(config, points, workdir, select=flags.select, display=display, **sizes)


def _report(flags: Any, changes: Any, words: Sequence[str]) -> None:
    if len(words) != 1:
        raise wrong("report", list(words), "one directory of a sweep")
    from tljax.report import tables

    tables.show(words[0], flags.select)


def _evaluate(flags: Any, changes: Any, words: Any) -> None:
    from tljax.experiment import model, results
    from tljax.train.records import Display

    for flag, value in (("--run", flags.run), ("--data", flags.data)):
        if not value:
            raise wrong(flag, value, "tljax evaluate --run DIR --data SOURCE")
    fields = {"labelled": False} if flags.unlabelled else {}
    reached = model.evaluate(flags.run, flags.data, flags.split or "all", flags.like, **fields)
    shown = {"method": flags.run, "evaluations": {flags.data: reached}}
    results.show(Display(flags.quiet), shown)


def _soup(flags: Any, changes: Any, words: Any) -> None:
    from tljax.experiment import soup

    soup.show(flags.run, flags.workdir, flags.select, flags.over)


def _predict(flags: Any, changes: Any, words: Any) -> None:
    _used(flags, "predict", top=flags.top)


def _features(flags: Any, changes: Any, words: Any) -> None:
    _used(flags, "features")


def _used(flags: Any, command: str, **more: Any) -> None:
    """Writes a table of what a run says of data."""
    for flag, value in (("--run", flags.run), ("--data", flags.data)):
        if not value:
            raise wrong(flag, value, f"tljax {command} --run DIR --data SOURCE --out FILE")
    from tljax.experiment import using
    from tljax.train.records import Display

    display = Display(flags.quiet)
    arguments = dict(split=flags.split or "all", like=flags.like, force=flags.force, **more)
    function = getattr(using, command)
    count = function(flags.run, flags.data, flags.out, display=display, **arguments)
    if flags.out:
        display.say(f"{flags.out}: {count} examples")


def _export(flags: Any, changes: Any, words: Any) -> None:
    for flag, value in (("--run", flags.run), ("--out", flags.out)):
        if not value:
            raise wrong(flag, value, "tljax export --run DIR --out FILE")
    from tljax.experiment import export

    arguments = dict(like=flags.like, naming=flags.naming, force=flags.force)
    export.export(flags.run, flags.out, **arguments)


def _params(flags: Any, changes: Any, words: Any) -> None:
    from tljax.report import inventory

    inventory.show(_config(flags, changes))


def _data(flags: Any, changes: Any, words: Any) -> None:
    if not flags.data:
        raise wrong("--data", flags.data, "a source such as folder:DIR")
    from tljax.data import describe

    for line in describe.lines(flags.data, flags.split):
        print(line)


def _methods(flags: Any, changes: Any, words: Any) -> None:
    from tljax.report import methods

    methods.show(flags.configs or methods.SHIPPED)


def _configs(flags: Any, changes: Any, words: Any) -> None:
    from tljax.report import methods

    methods.show_list(flags.configs or methods.SHIPPED)


COMMANDS = {
    "run": _run,
    "sweep": _sweep,
    "search": _search,
    "report": _report,
    "evaluate": _evaluate,
    "soup": _soup,
    "predict": _predict,
    "features": _features,
    "export": _export,
    "data": _data,
    "params": _params,
    "configs": _configs,
    "methods": _methods,
}


def _refuse(message: str) -> int:
    print(f"tljax: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def script() -> None:
    """The console script `tljax`."""
    keep_freed(several=sys.argv[1:2] in (["sweep"], ["search"]))
    signal.signal(signal.SIGINT, _interrupted)
    warnings.showwarning = functools.partial(_warned, warnings.showwarning)
    code = main()
    hosts = sys.modules.get("tljax.train.hosts")
    if code and hosts and hosts.connected:
        hosts.leave(code)
    sys.exit(code)


def _warned(usual: Any, message: Warning, category: type[Warning], *rest: Any) -> None:
    """Shows a warning as our errors are, where it is meant for a user."""
    programs = sys.modules.get("tljax.programs")
    line = str(message) if category is Noticed else programs and programs.told(str(message))
    if line is None:
        usual(message, category, *rest)
    elif line:
        print(f"tljax: warning: {line}", file=sys.stderr)


def _interrupted(number: int, frame: Any) -> None:
    """Ends the process at once, in a line: what is being written is written whole or not at all."""
    shown = "\033[?25h" if sys.stderr.isatty() else ""  # a progress bar has hidden the cursor
    os.write(2, f"{shown}{INTERRUPTED}\n".encode())
    os._exit(128 + number)


if __name__ == "__main__":
    script()

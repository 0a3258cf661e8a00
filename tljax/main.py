"""The command line: flags only. Everything it does can be called from Python."""

import logging
import sys
from collections.abc import Sequence

from absl import flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from tljax.errors import Stopped, UserError, unknown, wrong

USAGE = """Transfer learning as phases of streams, terms, starting points and moving parameters.

  tljax --config configs/dann.py --workdir runs/dann [--config.seed=1 ...]   run, or resume
  tljax methods [--configs configs]                         the field's table and its configs

  --config FILE           a config file; --config.FIELD=VALUE changes a field of it
  --workdir DIRECTORY     where the run is kept, and resumed from
  --configs DIRECTORY     the config files that `methods` lists (default: configs)
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
    given = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", given, sys_argv=argv)
    flags.DEFINE_string("workdir", None, "", given)
    flags.DEFINE_string("configs", "configs", "", given)
    flags.DEFINE_bool("quiet", False, "", given)
    try:
        command = given(argv)[1:]
    except Exception as error:  # of flags, or of the config file's own code
        missing = "unknown field " if isinstance(error, AttributeError | KeyError) else ""
        return _refuse(error, "" if isinstance(error, flags.Error) else f"config: {missing}")
    try:
        return _execute(command, given, argv)
    except UserError as error:
        return _refuse(error)
    except OSError as error:  # a small file could not be written; a checkpoint says so itself
        return _refuse(wrong("workdir", given.workdir, f"room to write in ({error})"))
    except Stopped as stopped:
        print(f"tljax: {stopped}; run the same command again to resume", file=sys.stderr)
        return 128 + stopped.signal


def _execute(command: Sequence[str], given: flags.FlagValues, argv: Sequence[str]) -> int:
    if command and command != ["methods"]:
        raise unknown("command", " ".join(command), ["methods"])
    if command:
        from tljax import methods

        methods.show(given.configs)
        return 0
    if not isinstance(given.config, ConfigDict):
        raise wrong("--config", argv[1:], "--config FILE, a Python file with get_config()")
    if not given.workdir:
        raise wrong("--workdir", given.workdir, "a directory for the run")
    from tljax import experiment
    from tljax.train.records import Display

    experiment.run(given.config, given.workdir, Display(given.quiet))
    return 0


def _refuse(error: Exception, field: str = "") -> int:
    message = " ".join(str(error).strip("\"'").replace("\\n", " ").split())
    print(f"tljax: error: {field}{message}", file=sys.stderr)
    return 2


def script() -> None:
    """The console script `tljax`."""
    sys.exit(main())

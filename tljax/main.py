"""The command line: flags only. Everything it does can be called from Python."""

import logging
import sys
from collections.abc import Sequence

from absl import flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from tljax.errors import UserError, unknown, wrong

USAGE = """Transfer learning as phases of streams, terms, starting points and moving parameters.

  tljax --config configs/dann.py --workdir runs/dann [--config.seed=1 ...]   run, or resume
  tljax methods [--configs configs]                         the field's table and its configs
"""
FLAGS = flags.FLAGS
CONFIG = config_flags.DEFINE_config_file("config", None, "A config file; --config.FIELD=VALUE")
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is kept, and resumed from")
CONFIGS = flags.DEFINE_string("configs", "configs", "The directory that `methods` lists")
QUIET = flags.DEFINE_bool("quiet", False, "Show nothing but errors")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code: 0, 2 for a mistake, 128 + n for a signal."""
    argv = list(sys.argv if argv is None else argv)
    if {"-h", "--help", "-help"} & set(argv):
        print(USAGE + FLAGS.module_help(sys.modules[__name__]))
        return 0
    sys.path.insert(0, "")  # a user's own terms are found from where the command is given
    absl_logging.set_verbosity(absl_logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # orbax's, about damaged checkpoints
    try:
        command, config = FLAGS(argv)[1:], CONFIG.value
    except Exception as error:  # of flags, or of the config file's own code
        return _refuse(error, "" if isinstance(error, flags.Error) else "config: ")
    try:
        if command == ["methods"]:
            return _methods()
        if command:
            raise unknown("command", " ".join(command), ["methods"])
        if not isinstance(config, ConfigDict):
            raise wrong("--config", FLAGS["config"].unparsed_value, "a file with get_config()")
        if not WORKDIR.value:
            raise wrong("--workdir", WORKDIR.value, "a directory for the run")
        return _run(config)
    except UserError as error:
        return _refuse(error)


def _methods() -> int:
    from tljax import methods

    methods.show(CONFIGS.value)
    return 0


def _run(config: ConfigDict) -> int:
    from tljax import experiment
    from tljax.train.loop import Stopped
    from tljax.train.records import Display

    try:
        experiment.run(config, WORKDIR.value, Display(QUIET.value))
    except Stopped as stopped:
        print(f"tljax: {stopped}; run the same command again to resume", file=sys.stderr)
        return 128 + stopped.signal
    return 0


def _refuse(error: Exception, field: str = "") -> int:
    message = " ".join(str(error).strip("\"").replace("\\n", " ").split())
    print(f"tljax: error: {field}{message}", file=sys.stderr)
    return 2

"""The flags of the command line, each with its meaning."""

import argparse
from typing import NoReturn

from tljax.errors import UserError

EXAMPLES = """commands:
  tljax --config dann --workdir runs/dann [--config.seed=1 ...]      run, or resume
  tljax sweep --config dann --workdir runs/ablation \\
        --over 'terms.domain.weight=0,0.1,1' --over 'seed=range(10)'  many runs, one table
  tljax search --config my_config.py --workdir runs/search \\
        --over 'terms.domain.weight=log(0.01, 10)'                    Optuna's TPE, one table
  tljax report runs/ablation [--select EVALUATION/METRIC]             its figures and choices
  tljax evaluate --run runs/dann --data folder:NEW   what a finished run is worth on other data
  tljax predict --run runs/dann --data folder:NEW --out FILE.csv     its predictions, a line each
  tljax features --run runs/dann --data folder:NEW --out FILE.npz    the trunk's features
  tljax export --run runs/dann --out FILE.safetensors                or .npz, .stablehlo, .onnx
  tljax soup --run runs/dann --over alpha=0,0.5,1    between its start and end (WiSE-FT)
  tljax soup --run runs/ablation --workdir OUT       the mean of its members
  tljax data --data folder:DIR               what a source of data is understood as
  tljax params --config finetune             what each phase copies, moves and freezes
  tljax configs                              the shipped configs, by name
  tljax methods                              the field's table and its configs
"""


class Parser(argparse.ArgumentParser):
    """One whose refusals are ours."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def _count(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"got {text!r}; expected an integer of at least 1")
    return int(text)


def parser() -> Parser:
    """Every flag, each with its meaning; `--config.FIELD=VALUE` is taken out before."""
    flags = Parser(
        prog="tljax",
        usage="tljax [command] [flags]",
        description="Transfer learning as phases of streams, terms, starts and moving parameters.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = flags.add_argument
    add("words", nargs="*", metavar="command", help="run if left out")
    add("--config", metavar="FILE", help="a config file, or the name of a shipped config; "
        "--config.FIELD=VALUE changes any field of it")  # fmt: skip
    add("--workdir", metavar="DIR", help="where the run or sweep is kept, and resumed from")
    add("--over", action="append", default=[], metavar="PATH=VALUES", help="values of a field to "
        "sweep; several make a grid; left out: the config file's own sweep(). A search takes "
        "uniform(low, high), log(low, high), integer(low, high), choice(value, value)")  # fmt: skip
    add("--run", metavar="DIR", help="the finished run that is evaluated or used")
    add("--data", metavar="SOURCE", help="what it is shown, or what `data` describes: "
        "folder:DIR, npz:FILE, any source of a config")  # fmt: skip
    add("--split", default="", help="the part of it (all)")
    add("--like", default="", help="the evaluation of the run whose preprocessing, head and "
        "readout are taken (the first with labels of its last phase)")  # fmt: skip
    add("--out", metavar="FILE", default="", help="what is written: of predictions .csv (on "
        "standard output if left out) or .jsonl, of features .npz or .csv; of an export "
        ".safetensors, .npz, .stablehlo or .onnx")  # fmt: skip
    add("--naming", default="", help="of the tensors of a .safetensors: timm, transformers, … (the "
        "family's first)")  # fmt: skip
    add("--force", action="store_true", help="replace a file that is there")
    add("--top", type=_count, metavar="K", help="of a prediction the K most probable classes")
    add("--unlabelled", action="store_true", help="read no labels: validators judge")
    add("--trials", type=_count, default=32, help="how many points a search tries (32)")
    add("--batch", type=_count, default=8, help="how many run before the next are drawn (8)")
    add("--seeds", type=_count, default=1, help="runs of a trial, from config.seed on (1)")
    add("--together", type=_count, help="the most runs of a program (as many as fit)")
    add("--select", default="", help="what a report or search chooses by (without labels)")
    add("--coordinator", metavar="HOST:PORT", help="one run in several processes with one workdir, "
        "each with its own --process_id; process 0 listens there")  # fmt: skip
    add("--process_id", type=int, metavar="I", help="this process; of a sweep, its part")
    add("--num_processes", type=int, metavar="N", help="how many there are")
    add("--distributed", action="store_true", help="the same on a cluster that says all three "
        "(Slurm, Open MPI, Cloud TPU)")  # fmt: skip
    add("--connect_timeout", type=_count, default=300, metavar="S", help="seconds that processes "
        "wait for each other at the start (300)")  # fmt: skip
    add("--configs", metavar="DIR", help="the files that configs and methods list (the shipped)")
    add("--quiet", action="store_true", help="show nothing but errors")
    return flags

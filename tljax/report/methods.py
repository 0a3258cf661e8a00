"""The shipped configs: by name, as a list, and as the field's table."""

import ast
import importlib.util
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tljax.errors import UserError, unknown, wrong
from tljax.experiment import FAMILIES, resolve

SHIPPED = Path(__file__).parents[1] / "configs"


def names(directory: Path = SHIPPED) -> dict[str, Path]:
    """The configs of a directory by name: its files with a `get_config`."""
    return {
        path.stem: path
        for path in sorted(directory.glob("[!_]*.py"))
        if any(getattr(node, "name", "") == "get_config" for node in ast.walk(_parsed(path)))
    }


def find(config: str) -> str:
    """The file that `--config` means: an existing file, else the shipped config of that name.

    Raises:
      UserError: neither. What has a directory in it is a path, and returned as it is.
    """
    name, colon, argument = config.partition(":")
    path = Path(name)
    if path.is_file() or len(path.parts) > 1:
        return config
    shipped = names()
    if name.removesuffix(".py") not in shipped:
        raise unknown("--config", config, shipped)
    return f"{shipped[name.removesuffix('.py')]}{colon}{argument}"


def opened(config: str) -> Any:
    """The config that `--config FILE`, `--config NAME` or `--config FILE:ARGUMENT` means.

    Raises:
      UserError: no such file, no `get_config` in it, or an error of its own code.
    """
    name, _, argument = find(config).partition(":")
    if not Path(name).is_file():
        raise wrong("--config", name, "--config FILE, a Python file with get_config()")
    try:
        return load(Path(name), *([argument] if argument else []))
    except UserError:
        raise
    except (AttributeError, KeyError) as error:  # ml_collections, of a field that is not there
        raise UserError(f"config: unknown field {_last(error)} (in {name})") from None
    except Exception as error:
        raise UserError(f"config: {type(error).__name__} in {name}: {_last(error)}") from None


def _last(error: Exception) -> str:
    """What an error says; a KeyError quotes it."""
    return str(error.args[0] if isinstance(error, KeyError) and error.args else error)


def load(path: Path, *arguments: str) -> Any:
    """The config of a file."""
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*arguments)


def collect(directory: str | Path = SHIPPED) -> list[tuple[str, str, Path]]:
    """(family, method, file) of every config file in a directory, by family and name.

    Raises:
      UserError: a directory without configs, or a config that is wrong.
    """
    entries = []
    for path in names(Path(directory)).values():
        config = resolve(load(path))
        entries.append((config["family"], config["method"] or path.stem, path))
    if not entries:
        raise wrong("--configs", str(directory), "a directory of config files")
    order = list(FAMILIES)
    return sorted(entries, key=lambda entry: order.index(entry[0]) if entry[0] in order else 99)


def show(directory: str | Path = SHIPPED) -> None:
    """Prints {source labelled or not} × {target labelled or not}, families and configs within."""
    configs = [(family, method, _typed(path)) for family, method, path in collect(directory)]

    def cell(source: str, target: str) -> str:
        lines = []
        for family, where in FAMILIES.items():
            if where == f"source {source}, target {target}":
                lines.append(f"[bold]{family}[/bold]")
                lines += [f"  {method}: {config}" for f, method, config in configs if f == family]
        return "\n".join(lines)

    columns = ("", "target labelled", "target unlabelled")
    table = Table(*columns, title="Transfer learning", show_lines=True)
    for source in ("labelled", "unlabelled"):
        table.add_row(f"source {source}", cell(source, "labelled"), cell(source, "unlabelled"))
    console = Console()
    console.print(table)
    for family, method, config in configs:
        if family not in FAMILIES or family == "baseline":
            console.print(f"{family or 'other'}: {method}: {config}", highlight=False)


def show_list(directory: str | Path = SHIPPED) -> None:
    """Prints a line a config: what `--config` takes, its family, method, and what it is."""
    console, table = Console(), Table("config", "family", "method", "")
    for family, method, path in collect(directory):
        claim = (ast.get_docstring(_parsed(path)) or "").partition("\n")[0]
        table.add_row(_typed(path), family, method, claim)
        if not console.is_terminal:
            print(_typed(path), family, method, claim, sep="\t")
    if console.is_terminal:
        console.print(table)


def _typed(path: Path) -> str:
    """What `--config` takes for a file."""
    return path.stem if path.parent == SHIPPED else str(path)


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))

"""The field's table, with every config in its cell."""

import importlib.util
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tljax.errors import wrong
from tljax.experiment import FAMILIES, resolve


def load(path: Path) -> Any:
    """The config of a file, as `--config` loads it."""
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def collect(directory: str | Path) -> list[tuple[str, str, Path]]:
    """(family, method, file) of every config file in a directory, by family and name.

    Raises:
      UserError: a directory without configs, or a config that is wrong.
    """
    found = []
    for path in sorted(Path(directory).glob("[!_]*.py")):
        if "def get_config" not in path.read_text():  # what configs share
            continue
        config = resolve(load(path))
        found.append((config["family"], config["method"] or path.stem, path))
    if not found:
        raise wrong("--configs", str(directory), "a directory of config files")
    order = list(FAMILIES)
    return sorted(found, key=lambda each: order.index(each[0]) if each[0] in order else 99)


def show(directory: str | Path) -> None:
    """Prints {source labelled or not} × {target labelled or not}, families and configs within."""
    configs = collect(directory)

    def cell(source: str, target: str) -> str:
        lines = []
        for family, where in FAMILIES.items():
            if where == f"source {source}, target {target}":
                lines.append(f"[bold]{family}[/bold]")
                lines += [f"  {name}: {path}" for own, name, path in configs if own == family]
        return "\n".join(lines)

    table = Table(title="Transfer learning", show_lines=True)
    for column in ("", "target labelled", "target unlabelled"):
        table.add_column(column)
    for source in ("labelled", "unlabelled"):
        table.add_row(f"source {source}", cell(source, "labelled"), cell(source, "unlabelled"))
    console = Console()
    console.print(table)
    for family, name, path in configs:
        if family not in FAMILIES or family == "baseline":
            console.print(f"{family or 'other'}: {name}: {path}", highlight=False)

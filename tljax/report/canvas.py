"""What every figure is drawn on. A file is written whole or not at all."""

import warnings
from pathlib import Path
from typing import Any

NAMED = 20  # more classes than that get no counts and no legend
LONG = 24  # characters of a name


def short(name: Any, long: int = LONG) -> str:
    """A name as it fits into a figure; matplotlib would read mathematics between two dollars."""
    text = str(name)
    text = text if len(text) <= long else text[: long - 1] + "…"
    return text.replace("$", r"\$")


def canvas(width: float, height: float) -> Any:
    """An empty figure, in inches."""
    from matplotlib.figure import Figure  # slow to import; and pyplot would keep global state

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def save(figure: Any, path: Path) -> None:
    """Writes a figure, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # signs that the font lacks, long names
        figure.savefig(partial, format="png", metadata={"Software": None})
    partial.replace(path)

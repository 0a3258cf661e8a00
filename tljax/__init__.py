"""tljax: transfer learning as phases of streams, terms, starting points and moving parameters."""

import importlib
from typing import Any

__version__ = "0.2.0"

_NAMES = {
    "Phase": "phase.phase",
    "Stream": "phase.phase",
    "Network": "models",
    "Table": "data",
    "term": "terms",
    "transform": "data.transforms",
    "optimizer": "phase.optimizers",
    "start": "train.starting",
    "step": "train.step",
    "fit": "train.fitting",
    "evaluate": "train.fitting",
    "load": "experiment.model",
}
_ROOMS = (
    *("balance", "data", "experiment", "losses", "metrics", "models", "solvers", "terms", "trees"),
)
__all__ = [*_NAMES, *_ROOMS]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """What is asked for is imported then: `--help` needs no JAX."""
    if name in _ROOMS:
        return importlib.import_module(f"tljax.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"tljax.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'tljax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

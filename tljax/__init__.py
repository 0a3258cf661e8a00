"""tljax: transfer learning as phases of streams, terms, starting points and moving parameters."""

import importlib
from types import ModuleType

__version__ = "0.1.0"
_ROOMS = ("experiment", "losses", "metrics", "models", "transfer", "trees")


def __getattr__(name: str) -> ModuleType:
    """`tljax.losses` and the like, imported when first asked for: `--help` needs no JAX."""
    if name in _ROOMS:
        return importlib.import_module(f"tljax.{name}")
    raise AttributeError(f"module 'tljax' has no attribute {name!r}")

"""Figures of a run."""

from pathlib import Path
from typing import Any
def draw(*a): pass

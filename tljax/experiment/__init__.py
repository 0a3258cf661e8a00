"""Config → phases → runs that can be killed and resumed; sweeps and searches of them."""

from tljax.experiment.build import build
from tljax.experiment.check import check, resolve
from tljax.experiment.fields import FAMILIES, PHASE_FIELDS, blank
from tljax.experiment.model import evaluate
from tljax.experiment.run import draw, outputs, run

__all__ = ["FAMILIES", "PHASE_FIELDS", "blank", "build", "check", "draw"]
__all__ += ["evaluate", "outputs", "resolve", "run"]

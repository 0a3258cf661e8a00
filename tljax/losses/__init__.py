"""Losses as pure functions of arrays: no config, no model.

A loss that is defined per example returns `[batch]` and the caller reduces; a loss defined on a
whole batch returns a scalar.
"""

from tljax.losses import adversarial
from tljax.losses.adversarial import domain_confusion, ramp, reverse_gradient

__all__ = ["adversarial", "domain_confusion", "ramp", "reverse_gradient"]

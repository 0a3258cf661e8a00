"""Multitask balance: how much each task's gradient counts in a step, by six methods.

Each is a pure function; `BALANCERS` holds them behind one interface, with the state that some
keep from step to step. Weights w mean that the combined gradient is Σ_i w_i g_i, g_i the
gradient of task i's loss; the Gramian is A_ij = ⟨g_i, g_j⟩ over the shared parameters.
"""

from tljax.balance.balancers import BALANCERS, Balancer
from tljax.balance.gramian import cagrad, mgda, pcgrad
from tljax.balance.pace import dynamic_weight_average, famo, famo_gradient, gradnorm

__all__ = [
    "BALANCERS", "Balancer", "cagrad", "dynamic_weight_average", "famo", "famo_gradient",
    "gradnorm", "mgda", "pcgrad",
]  # fmt: skip

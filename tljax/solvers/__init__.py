"""Fits that need no training: arrays in, a small array out, in closed form or by scikit-learn."""

from tljax.solvers import cluster, readout, zero_shot

__all__ = ["cluster", "readout", "zero_shot"]

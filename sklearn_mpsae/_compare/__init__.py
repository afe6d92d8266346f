"""Estimators side by side, at equal sparsity: one table."""

from ._call import compare

__all__ = ["compare"]

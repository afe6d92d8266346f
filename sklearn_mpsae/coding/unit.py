"""Atoms of unit norm."""

from __future__ import annotations

import numpy as np


def unit_rows(W: np.ndarray) -> np.ndarray:
    """W with rows of unit norm; zero rows stay zero."""
    norms = np.linalg.norm(W, axis=1, keepdims=True)
    return W / np.where(norms > 0, norms, 1)

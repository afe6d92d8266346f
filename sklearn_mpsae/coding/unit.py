"""Atoms of unit norm."""

from __future__ import annotations

import numpy as np

# A norm may differ from 1 by so much: training in float32 keeps it no better.
_TOLERANCE = 1e-4


def unit_rows(W: np.ndarray) -> np.ndarray:
    """W with rows of unit norm; zero rows stay zero."""
    return with_norms(W)[0]


def with_norms(W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """W with rows of unit norm, and the norms (p,) before; zero rows stay, with a norm of 1."""
    norms = np.linalg.norm(W, axis=1)
    norms = np.where(norms > 0, norms, 1)
    return W / norms[:, None], norms


def not_unit(W: np.ndarray) -> np.ndarray:
    """The indices of the rows of W that are not of unit norm."""
    return np.flatnonzero(np.abs(np.linalg.norm(W, axis=1) - 1) > _TOLERANCE)


def check_unit(W: np.ndarray, name: str = "dictionary") -> None:
    """Refuse atoms that are not of unit norm.

    Raises
    ------
    ValueError
    """
    if len(not_unit(W)):
        raise ValueError(
            f"The atoms of {name} must have unit norm: divide it by "
            f"np.linalg.norm({name}, axis=1, keepdims=True)."
        )

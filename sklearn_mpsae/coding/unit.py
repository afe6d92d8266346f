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
    # Sums of squares take a third of the time, which counts beside the codes of one row. A
    # square is off by twice as much as its root; norms are the judge of those near it.
    near = np.flatnonzero(~(np.abs(np.einsum("nd,nd->n", W, W) - 1) <= _TOLERANCE))
    return near[np.abs(np.linalg.norm(W[near], axis=1) - 1) > _TOLERANCE]


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

"""What `transform` does with a row, as numbers: all that another program has to know."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._mp import MPSparseAutoencoder
from .._topk import BatchTopKSAE, TopKSAE
from ._state import name_of


class Pursuit(NamedTuple):
    """Matching pursuit of a centred row.

    Each step takes the atom with the largest correlation (in magnitude, unless `positive`)
    and subtracts it; the row stops once its squared residual is at most `tol` times its
    energy, or before a correlation of at most `threshold`, or of rounding noise.
    """

    atoms: np.ndarray
    intercept: np.ndarray
    k: int
    tol: float
    threshold: float
    positive: bool


class Shallow(NamedTuple):
    """The outputs of a linear encoder of a centred row that are above `floor`, or all.

    With k, the k largest of these (in magnitude, unless `positive`).
    """

    atoms: np.ndarray
    intercept: np.ndarray
    encoder: np.ndarray
    bias: np.ndarray
    floor: np.ndarray | None
    k: int | None
    positive: bool


def rule_of(estimator) -> Pursuit | Shallow:
    """The rule of a fitted estimator.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    ValueError
        If it is of another class, or codes by orthogonal matching pursuit.
    """
    name_of(estimator)
    estimator._check_to_code()
    atoms, intercept = estimator.components_, estimator.intercept_
    k = estimator._transform_k()
    if isinstance(estimator, MPSparseAutoencoder):
        if estimator.transform_algorithm == "omp":
            raise ValueError(
                "Orthogonal matching pursuit refits its codes with each atom, which has no "
                "counterpart there: set transform_algorithm='mp'."
            )
        k, threshold = k if isinstance(k, tuple) else (k, 0.0)
        positive = estimator.positive_code
        return Pursuit(atoms, intercept, k, estimator.tol, threshold, positive)
    encoder = estimator.encoder_components_, estimator.encoder_intercept_
    if isinstance(estimator, TopKSAE):
        return Shallow(atoms, intercept, *encoder, None, k, estimator.positive_code)
    # Asked for a number of codes, BatchTopK's threshold does not count.
    counted = k is not None and isinstance(estimator, BatchTopKSAE)
    floor = None if counted else estimator._floor(atoms.dtype)
    return Shallow(atoms, intercept, *encoder, floor, k, True)

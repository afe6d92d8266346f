"""What an encoder does with a row, as numbers: all that another program has to know."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Pursuit(NamedTuple):
    """Matching pursuit of a centred row.

    Each step takes the atom with the largest correlation (in magnitude, unless `positive`)
    and subtracts it; the row stops before a correlation of at most `threshold`, or of
    rounding noise, and after an atom that leaves a squared residual of at most `atol`, or
    `tol` times the row's energy, or with `once` after one that it had already.
    """

    atoms: np.ndarray
    intercept: np.ndarray
    k: int
    tol: float
    atol: float
    once: bool
    threshold: float
    positive: bool


class Shallow(NamedTuple):
    """The outputs of a linear encoder of a centred row that are above `floor`, or all.

    With k, the k largest of these (in magnitude, unless `positive`, when none is below 0).
    """

    atoms: np.ndarray
    intercept: np.ndarray
    encoder: np.ndarray
    bias: np.ndarray
    floor: np.ndarray | None
    k: int | None
    positive: bool

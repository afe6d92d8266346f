"""Number, mean and energy of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..coding.checks import check_energy
from ..coding.kernels.loops import add_moments


@dataclass(frozen=True)
class Moments:
    """Number, mean and energy of rows."""

    n_rows: int
    mean: np.ndarray
    energy: float
    """Sum of squared distances from the mean."""

    @classmethod
    def of(cls, chunks) -> Moments:
        """In one pass over arrays of rows, in float64.

        Rows are taken relative to the first one: sums of squares then keep their digits
        when the mean is large, and constant data have no energy at all.
        """
        n, first, energy = 0, None, 0.0
        for X in chunks:
            if first is None:
                first, total = X[0].astype(np.float64), np.zeros(X.shape[1])
            energy += add_moments(X, first, total)
            n += len(X)
        if energy or total.any():
            check_energy(energy)
        offset = total / n
        return cls(n, first + offset, max(0.0, energy - n * float(offset @ offset)))

    @classmethod
    def merged(cls, parts: list[Moments]) -> Moments:
        """Of all rows together."""
        if len(parts) == 1:
            return parts[0]
        n = sum(part.n_rows for part in parts)
        mean = sum(part.n_rows * part.mean for part in parts) / n
        return cls(n, mean, sum(part.energy_around(mean) for part in parts))

    def energy_around(self, center: np.ndarray) -> float:
        """Sum of squared distances from `center`."""
        offset = self.mean - center
        return self.energy + self.n_rows * float(offset @ offset)

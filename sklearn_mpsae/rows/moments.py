"""Number, mean and energy of rows, and how their features vary together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..coding.checks import check_energy
from ..coding.kernels.loops import add_moments


@dataclass(frozen=True, eq=False)
class Moments:
    """Number, mean and energy of rows."""

    n_rows: int
    mean: np.ndarray
    energy: float
    """Sum of squared distances from the mean."""
    outer: np.ndarray | None = None
    """(d, d) sum of outer products of rows minus the mean, if asked for."""

    @classmethod
    def of(cls, chunks, *, outer: bool = False) -> Moments:
        """In one pass over arrays of rows, in float64.

        Rows are taken relative to the first one: sums of squares then keep their digits
        when the mean is large, and constant data have no energy at all. Products of features
        are computed in the dtype of the rows, relative to their chunk's mean, and summed over
        chunks in float64.
        """
        n, first, energy, products = 0, None, 0.0, 0.0
        for X in chunks:
            if first is None:
                first, total = X[0].astype(np.float64), np.zeros(X.shape[1])
            before = total.copy() if outer else None
            energy += add_moments(X, first, total)
            n += len(X)
            if outer:
                products = products + _products(X, first, (total - before) / len(X))
        if energy or total.any():
            check_energy(energy)
        offset = total / n
        if outer:
            products = products - n * np.outer(offset, offset)
        energy = max(0.0, energy - n * float(offset @ offset))
        return cls(n, first + offset, energy, products if outer else None)

    @classmethod
    def merged(cls, parts: list[Moments]) -> Moments:
        """Of all rows together."""
        if len(parts) == 1:
            return parts[0]
        n = sum(part.n_rows for part in parts)
        mean = sum(part.n_rows * part.mean for part in parts) / n
        outer = None
        if parts[0].outer is not None:
            outer = sum(part.outer_around(mean) for part in parts)
        return cls(n, mean, sum(part.energy_around(mean) for part in parts), outer)

    def energy_around(self, center: np.ndarray) -> float:
        """Sum of squared distances from `center`."""
        offset = self.mean - center
        return self.energy + self.n_rows * float(offset @ offset)

    def outer_around(self, center: np.ndarray) -> np.ndarray:
        """Sum of outer products of rows minus `center`."""
        offset = self.mean - center
        return self.outer + self.n_rows * np.outer(offset, offset)


def _products(X, first, offset):
    """The sum of outer products of rows minus `first`, in float64.

    offset : (d,) the mean of the rows minus `first`
    """
    center = (first + offset).astype(X.dtype)
    rest, moved = first + offset - center, center - first
    X = X - center
    # In units of a power of two, so that squares stay in range.
    exponent = int(np.frexp(np.abs(X).max(initial=0))[1])
    X = np.ldexp(X, -exponent)
    products = np.ldexp(np.asarray(X.T @ X, dtype=np.float64), 2 * exponent)
    cross = np.outer(rest, moved)
    return products + len(X) * (np.outer(moved, moved) + cross + cross.T)

"""From an array to centred and scaled batches on a device."""

from __future__ import annotations

import numpy as np
from sklearn.utils import gen_batches

# Statistics of the data are taken over so many rows at a time.
_ROWS = 4096


def mean_of_rows(X: np.ndarray) -> np.ndarray:
    """Mean over rows, summed in float64; shape (n_features,)."""
    total = np.zeros(X.shape[1])
    for rows in gen_batches(len(X), _ROWS):
        total += X[rows].sum(axis=0, dtype=np.float64)
    return total / len(X)


def energy_of_rows(X: np.ndarray, center: np.ndarray) -> float:
    """Sum of squares of X - center, in float64."""
    total = 0.0
    for rows in gen_batches(len(X), _ROWS):
        difference = X[rows] - center
        total += float(np.einsum("ij,ij->", difference, difference, dtype=np.float64))
    return total


class Batches:
    """Shuffled batches of (X - center) / scale, in X's dtype.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    center : ndarray of shape (n_features,)
    scale : float
    batch_size : int
        The largest batch; an epoch is cut in batches of even size.
    """

    def __init__(self, X, center, scale, batch_size):
        self.X = X
        self.center = np.asarray(center, dtype=X.dtype)
        self.scale = X.dtype.type(scale)
        self.per_epoch = -(-len(X) // batch_size)

    def epoch(self, random_state, kernels):
        """One pass over the rows in a new order."""
        order = random_state.permutation(len(self.X))
        for rows in np.array_split(order, self.per_epoch):
            batch = self.X[rows]
            batch -= self.center
            batch /= self.scale
            yield kernels.asarray(batch)

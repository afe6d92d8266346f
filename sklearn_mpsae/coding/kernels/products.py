"""Products of rows and atoms."""

from __future__ import annotations

import numpy as np

# A BLAS copies both matrices into an order of its own before it multiplies them. For so few
# rows that takes longer than the product. OpenBLAS does without for products of up to a
# million multiply-adds: in parts of that size, products of 2 to 8 rows take a fifth to a
# third of the time, those of 16 rows about half (1024 x 784 and 16,384 x 768 atoms, float32).
_FEW_ROWS = 16
_SMALL_PRODUCT = 1_000_000


def correlations(X, W, out=None):
    """X @ W.T, of shape (n, p).

    X, W : (n, d) rows and (p, d) atoms
    out : (n, p), written; None for a new array
    """
    (n, d), p = X.shape, len(W)
    if not 1 < n <= _FEW_ROWS or n * p * d <= _SMALL_PRODUCT:
        return np.matmul(X, W.T, out=out)
    out = np.empty((n, p), X.dtype) if out is None else out
    size = max(32, _SMALL_PRODUCT // (n * d) // 32 * 32)
    for start in range(0, p, size):
        part = slice(start, start + size)
        np.matmul(X, W[part].T, out=out[:, part])
    return out

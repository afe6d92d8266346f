"""Orthogonal pursuits without a Gram matrix: products with what is left at each step."""

from __future__ import annotations

import numpy as np

from . import loops
from .budget import SPAN_BYTES
from .products import correlations

# More rows make a product no faster, and leave nothing for other threads.
_MOST_ROWS = 128


def rows_at_once(W, k, by_refit):
    """How many rows a thread codes at the same time, for the memory that it may take."""
    p, d = W.shape
    slots = min(k, d)
    numbers = (3 if by_refit else 1) * p + slots * (d + slots)
    return max(1, min(_MOST_ROWS, SPAN_BYTES // (numbers * W.itemsize)))


def orthogonal_codes(X, W, k, energy, stops, positive, by_refit, own, indices, values):
    """Write the codes of some rows; see `Kernels.orthogonal_pursuit`.

    energy : (n,) float64, squared norms of the rows
    stops : `enough` and `least` of `loops.pursue_rows`
    own : (p,) squared norms of the atoms, in X's dtype; read if `by_refit`
    indices, values : (n, k) zeros
    """
    (n, d), p = X.shape, len(W)
    slots = min(k, d)
    R = X.copy()
    U, L = np.empty((n, slots, d), X.dtype), np.empty((n, slots, slots), X.dtype)
    b = np.empty((n, slots), X.dtype)
    sizes, fresh, going = np.zeros(n, np.int32), np.ones(n, bool), np.zeros(n, bool)
    C = np.empty((n if by_refit else 0, p), X.dtype)
    room = np.tile(own, (len(C), 1)) if by_refit else C
    units = np.empty((n, 3), X.dtype)
    for row, its_energy in zip(units, energy, strict=True):
        loops.start_units(row, its_energy)
    remaining = energy.copy()
    rows = np.flatnonzero(remaining > stops[0])
    Q = np.empty((len(rows), p), X.dtype)
    # One step may go to atoms nearer to the span. Where atoms may leave, each pick lowers the
    # error, so that a row ends; the bound keeps its cost that of the others.
    for _ in range(1 + (2 * k if positive else slots)):
        if not len(rows):
            break
        if by_refit:
            last = U[rows, sizes[rows] - 1]
            V = np.where(fresh[rows, None], R[rows], last)
        else:
            V = R[rows]
        correlations(V, W, Q[: len(rows)])
        loops.span_rows(
            *(rows, Q[: len(rows)], X, W, R, U, L, b, sizes, going, fresh),
            *(C, room, units, energy, remaining, *stops, positive, indices, values),
        )
        rows = rows[going[rows]]
        if by_refit:
            for r in rows[fresh[rows]]:
                basis = correlations(U[r, : sizes[r]], W)
                room[r] = own - np.square(basis).sum(axis=0)
                room[r, indices[r, : sizes[r]]] = np.inf
    if positive:
        used = np.arange(k) < sizes[:, None]
        indices[~used], values[~used] = 0, 0
    else:
        loops.refit_rows(L, b, sizes, values)

"""Orthogonal matching pursuit.

Gram-Schmidt in the Gram domain. Let u_t be the t-th chosen atom made orthogonal
to the earlier ones and normalised. What a pursuit needs of u_t is its
correlations with all atoms, q_t = W u_t, and those follow from rows of G alone:
    q_t = (G[i_t] - sum_s L[t, s] q_s) / L[t, t],    L[t, s] = q_s[i_t].
L is the Cholesky factor of the chosen atoms' Gram matrix, b_t = <u_t, x> is
c[i_t] / L[t, t], the residual's correlations lose b_t q_t, its energy loses
b_t ** 2, and the codes solve L.T z = b. (Batch-OMP, Rubinstein, Zibulevsky and
Elad 2008, refreshes the correlations from the codes at each step instead.)
"""

from __future__ import annotations

import numpy as np

from ..compiled import jit
from .pursuit import LANES, best_atom, sweep


@jit
def _extend(c, G, i, t, Q, L, b, top, positive):
    """Add atom i as the t-th; False where it lies in the span of the earlier ones.

    c : (p,) correlations of the residual, updated
    G : (p, p) Gram matrix
    Q, L, b : (k, p), (k, k), (k,), as above; their t-th rows are written
    top : see `sweep`
    """
    q = Q[t]
    g = G[i]
    square = np.float64(g[i])
    for s in range(t):
        L[t, s] = Q[s, i]
        square -= np.float64(L[t, s]) * L[t, s]
    # A coherence of 1 - 1e-5 (float32) still counts as another direction.
    if square <= 32 * np.finfo(c.dtype).eps * g[i]:
        return False
    pivot = c.dtype.type(np.sqrt(square))
    L[t, t] = pivot
    for j in range(len(q)):
        q[j] = g[j]
    for s in range(t):
        qs = Q[s]
        ls = L[t, s]
        for j in range(len(q)):
            q[j] -= ls * qs[j]
    for j in range(len(q)):
        q[j] /= pivot
    b[t] = c[i] / pivot
    sweep(c, q, b[t], top, positive)
    return True


@jit
def _solve_upper(L, b, t, z):
    """Solve L[:t, :t].T @ z = b[:t] for z[:t].

    L, b, z : (k, k), (k,), (k,)
    """
    for row in range(t - 1, -1, -1):
        total = b[row]
        for s in range(row + 1, t):
            total -= L[s, row] * z[s]
        z[row] = total / L[row, row]


@jit
def orthogonal_rows(C, G, energy, enough, least, k, indices, values):
    """Orthogonal matching pursuit; the arguments of `pursue_rows`, with atoms of unit norm."""
    n, p = C.shape
    top = np.empty(min(LANES, p), C.dtype)
    Q = np.empty((k, p), C.dtype)
    L = np.zeros((k, k), C.dtype)
    b = np.empty(k, C.dtype)
    for r in range(n):
        c = C[r]
        remaining = energy[r]
        sweep(c, c, c.dtype.type(0), top, False)
        size = 0
        while size < k and remaining > enough[r]:
            i = best_atom(c, top, False)
            if i < 0 or np.float64(c[i]) * c[i] <= least[r]:
                break
            if not _extend(c, G, i, size, Q, L, b, top, False):
                break
            indices[r, size] = i
            remaining -= np.float64(b[size]) * b[size]
            size += 1
        _solve_upper(L, b, size, values[r])


@jit
def orthogonal_rows_positive(C, G, energy, enough, least, k, indices, values):
    """Lawson and Hanson's non-negative least squares, stopped at k atoms.

    As OMP, but where the refit would make a code negative, the atoms that reach zero
    first on the way leave the support (NN-OMP, Bruckstein, Elad and Zibulevsky 2008).
    The arguments are those of `orthogonal_rows`.
    """
    n, p = C.shape
    top = np.empty(min(LANES, p), C.dtype)
    Q = np.empty((k, p), C.dtype)
    L = np.zeros((k, k), C.dtype)
    b = np.empty(k, C.dtype)
    z = np.empty(k, C.dtype)
    start = np.empty(p, C.dtype)
    for r in range(n):
        c = C[r]
        code = values[r]
        support = indices[r]
        for j in range(p):
            start[j] = c[j]
        remaining = energy[r]
        sweep(c, c, c.dtype.type(0), top, True)
        size = 0
        # Each pick lowers the error, so it ends; the bound keeps its cost that of OMP.
        for _ in range(2 * k):
            if size == k or remaining <= enough[r]:
                break
            i = best_atom(c, top, True)
            if i < 0 or np.float64(c[i]) * c[i] <= least[r]:
                break
            if not _extend(c, G, i, size, Q, L, b, top, True):
                break
            support[size] = i
            code[size] = 0
            size += 1
            while True:
                _solve_upper(L, b, size, z)
                step = c.dtype.type(1)
                blocking = -1
                for s in range(size):
                    if z[s] <= 0:
                        ratio = code[s] / (code[s] - z[s]) if code[s] > 0 else c.dtype.type(0)
                        if blocking < 0 or ratio < step:
                            step = ratio
                            blocking = s
                for s in range(size):
                    code[s] += step * (z[s] - code[s])
                if blocking < 0:
                    break
                code[blocking] = 0
                kept = 0
                for s in range(size):
                    if code[s] > 0:
                        support[kept] = support[s]
                        code[kept] = code[s]
                        kept += 1
                size = kept
                for j in range(p):
                    c[j] = start[j]
                sweep(c, c, c.dtype.type(0), top, True)
                for s in range(size):
                    _extend(c, G, support[s], s, Q, L, b, top, True)
            remaining = energy[r]
            for s in range(size):
                remaining -= np.float64(b[s]) * b[s]
        for s in range(size, k):
            support[s] = 0
            code[s] = 0

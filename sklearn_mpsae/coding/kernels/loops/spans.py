"""Orthogonal pursuits without a Gram matrix: orthonormal bases of the chosen atoms' spans.

The basis U of a row lies in the space of features. An atom w joins it by modified
Gram-Schmidt, w = sum_s L[t, s] u_s + L[t, t] u_t, which is done a second time where the
first one has cancelled most of the atom, and with it most of its digits ("twice is enough":
Giraud, Langou and Rozloznik 2005). So U is orthonormal to rounding however nearly dependent
the atoms are. The same from a Gram matrix (`orthogonal.py`) loses twice as many digits.

Products with the dictionary are the caller's, of many rows at once. Each row has room for
as many atoms as there are features at most, `slots`.
"""

from __future__ import annotations

import numpy as np

from ..compiled import jit
from .matrices import dot
from .orthogonal import DEPENDENT, grow_noise, passed_over, start_units, subtract
from .pursuit import LANES, best_atom
from .refits import solve_upper, step_towards


@jit
def _remove(v, u):
    """Subtract the part of v that lies along u, of unit norm; returns its length."""
    along = dot(v, u)
    for j in range(len(v)):
        v[j] -= along * u[j]
    return along


@jit
def _join(w, t, U, L):
    """Make w the t-th atom of a basis; False where it lies in the span of the others.

    w : (d,)
    U, L : (slots, d), (slots, slots), their t-th rows are written
    """
    u = U[t]
    for j in range(len(u)):
        u[j] = w[j]
    for s in range(t):
        L[t, s] = 0
    own = dot(w, w)
    before = own
    for _ in range(2):
        for s in range(t):
            L[t, s] += _remove(u, U[s])
        left = dot(u, u)
        if 2 * left > before:
            break
        before = left
    if left <= DEPENDENT * np.finfo(u.dtype).eps * own:
        return False
    L[t, t] = np.sqrt(left)
    for j in range(len(u)):
        u[j] /= L[t, t]
    return True


@jit
def _rebuild(x, W, support, size, U, L, b, R):
    """The basis of the first `size` atoms of a row, and what they leave of it.

    x, R : (d,) the row, and what is left, written
    support : (slots,) int32
    b : (slots,) written
    """
    for j in range(len(x)):
        R[j] = x[j]
    for s in range(size):
        _join(W[support[s]], s, U, L)
        b[s] = _remove(R, U[s])


@jit
def _refit_nonnegative(x, W, support, code, size, U, L, b, R, z):
    """Least squares on a row's atoms, less those that would turn negative.

    Returns how many are left.

    code : (k,) as it was before the last atom, whose code is 0; written
    z : (slots,) overwritten
    """
    while True:
        solve_upper(L, b, size, z)
        kept = step_towards(z, size, support, code)
        if kept == size:
            return size
        size = kept
        _rebuild(x, W, support, size, U, L, b, R)


@jit
def _choose(c, q, last, fresh, units, room, nothing, gain, top, positive):
    """The best atom of a row, -1 for none; c and `room` are brought up to date.

    q, last, fresh : the row's part of Q, its last entry of b, and its part of `fresh`
    nothing : (p,) zeros
    c, units, room, gain, top : see `subtract`; c is q if `room` is empty
    """
    zero = c.dtype.type(0)
    if not len(room):
        subtract(c, c, zero, units, room, gain, top, positive)
        return best_atom(c, top, positive)
    if fresh:
        c[:] = q
        subtract(c, nothing, zero, units, room, gain, top, positive)
    else:
        subtract(c, q, last, units, room, gain, top, positive)
    return best_atom(gain, top, True)


@jit
def span_rows(
    rows,
    Q,
    X,
    W,
    R,
    U,
    L,
    b,
    sizes,
    going,
    fresh,
    C,
    room,
    units,
    energy,
    remaining,
    enough,
    least,
    positive,
    indices,
    values,
):
    """One more atom for each of some rows.

    rows : (m,) the numbers of the rows, of n
    Q : (m, p) the products with all atoms of what is left of a row or, by refit and unless
        it is fresh, of its last basis vector; overwritten
    X, R : (n, d) rows, and what is left of them, updated
    W : (p, d) atoms
    U, L, b : (n, slots, d), (n, slots, slots), (n, slots) as above; b are the products of
        the basis and the row; updated
    sizes : (n,) int32, updated: how many atoms a row has
    going : (n,) bool, written: whether a row may take another atom
    fresh : (n,) bool, updated: whether C and `room` of a row are to be computed anew
    C, room, units : (n, p), (n, p), (n, 3), updated: see `subtract`. No rows of C and of room
        where atoms are chosen by their correlations alone.
    energy : (n,) float64, squared norms of the rows
    remaining, enough, least : see `pursue_rows`; the first is updated
    indices, values : (n, k) int32 and X's dtype, updated; values only if `positive`
    """
    p = Q.shape[1]
    by_refit = len(room) > 0
    top = np.empty(min(LANES, p), X.dtype)
    z = np.empty(b.shape[1], X.dtype)
    nothing = np.zeros(p if by_refit else 0, X.dtype)
    gain = np.empty(len(nothing), X.dtype)
    one = X.dtype.type(1)
    nearest = X.dtype.type(2 * DEPENDENT * np.finfo(X.dtype).eps)
    for m in range(len(rows)):
        r = rows[m]
        size = sizes[r]
        going[r] = False
        c = C[r] if by_refit else Q[m]
        space = room[r] if by_refit else nothing
        i = _choose(
            *(c, Q[m], b[r, size - 1], fresh[r], units[r], space, nothing, gain, top, positive)
        )
        if i < 0 and units[r, 2] > nearest:
            # Atoms nearer to the span than a Gram matrix tells are known here, and so are
            # smaller correlations, once they are computed anew.
            fresh[r] = going[r] = passed_over(c, space, units[r], least[r], positive)
            start_units(units[r], energy[r])
            units[r, 2] = nearest
        if i < 0 or np.float64(c[i]) * c[i] <= least[r]:
            continue
        if not _join(W[i], size, U[r], L[r]):
            continue
        b[r, size] = _remove(R[r], U[r, size])
        indices[r, size] = i
        size += 1
        fresh[r] = False
        if by_refit:
            pivot = L[r, size - 1, size - 1] if units[r, 2] > nearest else one
            grow_noise(units[r], b[r, size - 1], pivot)
            space[i] = np.inf
        if positive:
            values[r, size - 1] = 0
            kept = _refit_nonnegative(
                *(X[r], W, indices[r], values[r], size, U[r], L[r], b[r], R[r], z)
            )
            fresh[r] = kept < size
            size = kept
        sizes[r] = size
        remaining[r] = 0
        for x in R[r]:
            remaining[r] += np.float64(x) * x
        going[r] = size < b.shape[1] and remaining[r] > enough[r]


@jit
def refit_rows(L, b, sizes, values):
    """Write the codes of rows from the factors of their atoms' Gram matrices.

    L, b, sizes : as in `span_rows`
    values : (n, k)
    """
    for r in range(len(values)):
        solve_upper(L[r], b[r], sizes[r], values[r])

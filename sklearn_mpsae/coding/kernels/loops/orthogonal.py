"""Orthogonal matching pursuit, and orthogonal least squares.

Gram-Schmidt in the Gram domain. Let u_t be the t-th chosen atom made orthogonal
to the earlier ones and normalised. What a pursuit needs of u_t is its
correlations with all atoms, q_t = W u_t, and those follow from rows of G alone:
    q_t = (G[i_t] - sum_s L[t, s] q_s) / L[t, t],    L[t, s] = q_s[i_t].
L is the Cholesky factor of the chosen atoms' Gram matrix, b_t = <u_t, x> is
c[i_t] / L[t, t], the residual's correlations lose b_t q_t, its energy loses
b_t ** 2, and the codes solve L.T z = b. (Batch-OMP, Rubinstein, Zibulevsky and
Elad 2008, refreshes the correlations from the codes at each step instead.)

With one more atom j the refit leaves c[j] ** 2 / room[j] less energy, where
    room[j] = G[j, j] - sum_s q_s[j] ** 2
is the part of the atom that lies outside the span of the chosen ones. Orthogonal least
squares takes the atom for which that is most (Chen, Billings and Luo 1989; the recursion
is that of Rebollo-Neira and Lowe 2002).
"""

from __future__ import annotations

import numpy as np

from ..compiled import jit
from .pursuit import LANES, best_atom, sweep
from .refits import solve_upper, step_towards

# An atom with less than so many roundings of its energy outside a span lies in the span: a
# coherence of 1 - 1e-5 (float32) still counts as another direction.
DEPENDENT = 32

# So many entries of a vector stay in a core's first cache while others are subtracted.
_TILE = 4096

# What `_take` answers where the Gram matrix does not tell how an atom goes on.
_UNSURE = -2

# The rounding errors of a row's correlations are up to so many of its norm and its values.
NOISE = 4


@jit
def _tops(gain, top):
    """The largest entry of each lane of `gain`, none below 0; see `sweep`.

    `sweep` itself reads a second array, and is not vectorised where that is the same one.
    """
    for lane in range(len(top)):
        top[lane] = 0
    whole = len(gain) // LANES * LANES
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            x = gain[start + lane]
            top[lane] = x if x > top[lane] else top[lane]
    for j in range(whole, len(gain)):
        lane = j % len(top)
        top[lane] = gain[j] if gain[j] > top[lane] else top[lane]


@jit
def subtract(c, q, v, units, room, gain, top, positive):
    """Subtract v * q from c, and prepare the choice of the next atom.

    c, q : (p,) correlations, changed in place, and what v counts
    units : (3,) the number that makes a row's norm 1, then the rounding errors of its
        correlations, and `room` up to which an atom counts as in the span
    room : (p,), see above, of the span without q, updated; inf for an atom that lies in it.
        Empty where atoms are chosen by their correlations alone.
    gain : (p,) written: the share of the row's energy that each atom surely takes, at least.
        The d-th atom in d dimensions leaves nothing, whichever it is, and so all gains are
        the same: this one is least where the values would be known least. Empty if `room` is.
    top : see `sweep`, of `gain` if that is not empty
    """
    if not len(room):
        sweep(c, q, v, top, positive)
        return
    # Values are known to eps / room: an atom needs some, and of gains that are about the same
    # that of the atom with the most room is the largest.
    scale, noise, inside = units
    zero = c.dtype.type(0)
    never = c.dtype.type(np.inf)
    # The maxima have a pass of their own: one over more arrays is not vectorised.
    for j in range(len(c)):
        x = c[j] - v * q[j]
        c[j] = x
        left = room[j] - q[j] * q[j]
        left = left if left > inside else never
        room[j] = left
        x = (x if positive else abs(x)) * scale - noise
        x = x if x > zero else zero
        gain[j] = x * x / (left + inside)
    _tops(gain, top)


@jit
def start_units(units, energy):
    """Of a row with this squared norm and no atoms; see `subtract`."""
    eps = np.finfo(units.dtype).eps
    units[0] = 1 / np.sqrt(energy) if energy > 0 else 0
    units[1] = NOISE * eps
    units[2] = np.sqrt(eps)


@jit
def grow_noise(units, b, pivot):
    """Count what the subtraction of b * q adds: q is known to eps / pivot."""
    units[1] += NOISE * np.finfo(units.dtype).eps * units[0] * abs(b / pivot)


@jit
def passed_over(c, room, units, least, positive):
    """Whether atoms were passed over as in the span that correlate beyond rounding.

    c, room, units, positive : as in `subtract`
    least : what a squared correlation must exceed
    """
    largest = c.dtype.type(0)
    for j in range(len(room)):
        x = c[j] if positive else abs(c[j])
        largest = x if x > largest else largest
    return largest * units[0] > units[1] and np.float64(largest) * largest > least


@jit
def _begin(c, energy, own, nothing, units, room, gain, top, positive):
    """Prepare the choice of a row's first atom.

    energy : the row's squared norm
    own, nothing : (p,) squared norms of the atoms, and zeros
    """
    for j in range(len(room)):
        room[j] = own[j]
    start_units(units, energy)
    subtract(c, nothing, c.dtype.type(0), units, room, gain, top, positive)


@jit
def _take(c, G, t, Q, L, b, units, room, gain, top, least, positive):
    """Add the best atom as the t-th and return it.

    -1 where there is none to take. _UNSURE where there is one so near the span of the
    earlier ones that the roundings of G are in half of the digits of what it adds.
    """
    i = best_atom(gain, top, True) if len(room) else best_atom(c, top, positive)
    if i < 0:
        return _UNSURE if passed_over(c, room, units, least, positive) else -1
    if np.float64(c[i]) * c[i] <= least:
        return -1
    outside = _outside(G, i, t, Q, L)
    eps = np.finfo(c.dtype).eps
    if outside <= np.sqrt(eps) * G[i, i]:
        small = abs(c[i]) * units[0] <= units[1]
        return -1 if small and outside <= DEPENDENT * eps * G[i, i] else _UNSURE
    _extend(c, G, i, t, outside, Q, L, b, units, room, gain, top, positive)
    return i


@jit
def _outside(G, i, t, Q, L):
    """The part of the energy of atom i that lies outside the span of the first t atoms.

    The t-th row of L is written.
    """
    square = np.float64(G[i, i])
    for s in range(t):
        L[t, s] = Q[s, i]
        square -= np.float64(L[t, s]) * L[t, s]
    return square


@jit
def _orthogonalise(Q, g, along, t, start, stop):
    """Q[t] = (g - sum_s along[s] Q[s]) / along[t], from start to stop.

    Q, g, along : (k, p), (p,), (k,)
    """
    # Slices of one row each: those of the whole matrix are not vectorised. Four rows in a
    # pass, so that q itself is read and written less often: a fifth of the time.
    q = Q[t, start:stop]
    g = g[start:stop]
    share = along.dtype.type(1) / along[t]
    for j in range(len(q)):
        q[j] = g[j] * share
    whole = t // 4 * 4
    for s in range(0, whole, 4):
        q0, q1 = Q[s, start:stop], Q[s + 1, start:stop]
        q2, q3 = Q[s + 2, start:stop], Q[s + 3, start:stop]
        x0, x1 = along[s] * share, along[s + 1] * share
        x2, x3 = along[s + 2] * share, along[s + 3] * share
        for j in range(len(q)):
            q[j] -= (x0 * q0[j] + x1 * q1[j]) + (x2 * q2[j] + x3 * q3[j])
    for s in range(whole, t):
        qs = Q[s, start:stop]
        x = along[s] * share
        for j in range(len(q)):
            q[j] -= x * qs[j]


@jit
def _extend(c, G, i, t, outside, Q, L, b, units, room, gain, top, positive):
    """Add atom i as the t-th.

    c : (p,) correlations of the residual, updated
    G : (p, p) Gram matrix
    outside : from `_outside`
    Q, L, b : (k, p), (k, k), (k,), as above; their t-th rows are written
    units, room, gain, top : see `subtract`

    After the last of k atoms none is chosen: c, Q, and what chooses are left as they were.
    """
    pivot = c.dtype.type(np.sqrt(outside))
    L[t, t] = pivot
    b[t] = c[i] / pivot
    if t + 1 == len(b):
        return
    for start in range(0, len(c), _TILE):
        _orthogonalise(Q, G[i], L[t], t, start, min(start + _TILE, len(c)))
    grow_noise(units, b[t], pivot)
    if len(room):
        room[i] = np.inf
    subtract(c, Q[t], b[t], units, room, gain, top, positive)


@jit
def _arrays(G, k, by_refit):
    """What a row needs, for all rows: (Q, L, b), (own, nothing, units, room, gain, top)."""
    p = len(G)
    size = p if by_refit else 0
    own = np.empty(size, G.dtype)
    for j in range(size):
        own[j] = G[j, j]
    room = np.empty(size, G.dtype)
    gain = np.empty(size, G.dtype)
    top = np.empty(min(LANES, p), G.dtype)
    Q = np.empty((k, p), G.dtype)
    L = np.zeros((k, k), G.dtype)
    b = np.empty(k, G.dtype)
    units = np.empty(3, G.dtype)
    return (Q, L, b), (own, np.zeros(p, G.dtype), units, room, gain, top)


@jit
def orthogonal_rows(C, G, energy, enough, least, k, by_refit, indices, values, unsure):
    """Orthogonal matching pursuit; the arguments of `pursue_rows`, with atoms of unit norm.

    by_refit : whether to take the atom that lowers the error most, else the one that
        correlates best
    unsure : (n,) bool, False; written: True for rows of which G does not tell the codes
    """
    (Q, L, b), (own, nothing, units, room, gain, top) = _arrays(G, k, by_refit)
    for r in range(len(C)):
        c = C[r]
        remaining = energy[r]
        _begin(c, remaining, own, nothing, units, room, gain, top, False)
        size = 0
        while size < k and remaining > enough[r]:
            i = _take(c, G, size, Q, L, b, units, room, gain, top, least[r], False)
            if i < 0:
                unsure[r] = i == _UNSURE
                break
            indices[r, size] = i
            remaining -= np.float64(b[size]) * b[size]
            size += 1
        solve_upper(L, b, size, values[r])


@jit
def orthogonal_rows_positive(C, G, energy, enough, least, k, by_refit, indices, values, unsure):
    """Lawson and Hanson's non-negative least squares, stopped at k atoms.

    As OMP, but where the refit would make a code negative, the atoms that reach zero
    first on the way leave the support (NN-OMP, Bruckstein, Elad and Zibulevsky 2008).
    The arguments are those of `orthogonal_rows`.
    """
    n, p = C.shape
    (Q, L, b), (own, nothing, units, room, gain, top) = _arrays(G, k, by_refit)
    z = np.empty(k, C.dtype)
    start = np.empty(p, C.dtype)
    for r in range(n):
        c = C[r]
        code = values[r]
        support = indices[r]
        for j in range(p):
            start[j] = c[j]
        remaining = energy[r]
        _begin(c, remaining, own, nothing, units, room, gain, top, True)
        size = 0
        # Each pick lowers the error, so it ends; the bound keeps its cost that of OMP.
        for _ in range(2 * k):
            if size == k or remaining <= enough[r]:
                break
            i = _take(c, G, size, Q, L, b, units, room, gain, top, least[r], True)
            if i < 0:
                unsure[r] = i == _UNSURE
                break
            support[size] = i
            code[size] = 0
            size += 1
            while True:
                solve_upper(L, b, size, z)
                kept = step_towards(z, size, support, code)
                if kept == size:
                    break
                size = kept
                for j in range(p):
                    c[j] = start[j]
                _begin(c, energy[r], own, nothing, units, room, gain, top, True)
                for s in range(size):
                    i = support[s]
                    outside = _outside(G, i, s, Q, L)
                    _extend(c, G, i, s, outside, Q, L, b, units, room, gain, top, True)
            remaining = energy[r]
            for s in range(size):
                remaining -= np.float64(b[s]) * b[s]
        for s in range(size, k):
            support[s] = 0
            code[s] = 0

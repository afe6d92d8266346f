"""Choosing atoms: matching pursuit, and the largest outputs of an encoder."""

from __future__ import annotations

import numpy as np

from ..compiled import jit
from .bfloat16 import real
from .matrices import dot

# Atoms j, j + LANES, j + 2 * LANES ... share a running maximum. Element-wise maxima of
# LANES neighbours vectorise, a reduction over neighbours does not.
LANES = 64


@jit
def sweep(c, g, v, top, positive):
    """Subtract v * g from c, and in the same pass find the largest score of each lane.

    c : (p,) correlations, changed in place
    g : (p,) row of the Gram matrix, of c's dtype or bfloat16 as uint16
    v : number of c's dtype
    top : (min(LANES, p),) of c's dtype, written; a score is c, or its magnitude unless
        `positive`, and at least 0
    """
    n_lanes = len(top)
    for lane in range(n_lanes):
        top[lane] = 0
    # A length that the compiler knows keeps the maxima in registers.
    whole = len(c) // LANES * LANES
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            x = c[start + lane] - v * real(g[start + lane])
            c[start + lane] = x
            score = x if positive else abs(x)
            top[lane] = score if score > top[lane] else top[lane]
    for j in range(whole, len(c)):
        x = c[j] - v * real(g[j])
        c[j] = x
        score = x if positive else abs(x)
        lane = j % n_lanes
        top[lane] = score if score > top[lane] else top[lane]


@jit
def best_atom(c, top, positive):
    """Index of the largest score, the lowest one among equals; -1 where none is above 0.

    c : (p,) correlations
    top : the largest score of each lane, from `sweep`
    """
    n_lanes = len(top)
    best = top[0]
    for lane in range(n_lanes):
        if top[lane] > best:
            best = top[lane]
    if not best > 0:
        return -1
    found = len(c)
    for lane in range(n_lanes):
        if top[lane] == best:
            for j in range(lane, found, n_lanes):
                if c[j] == best or (not positive and -c[j] == best):
                    found = j
                    break
    return found


@jit
def _taken(indices, t):
    """Whether the atom in slot t of a row is also in an earlier slot.

    indices : (k,) int32
    """
    s = 0
    while indices[s] != indices[t]:
        s += 1
    return s < t


@jit
def end_rows(X, W, atol, indices, values):
    """Set a row's codes to zero from where its residual has an energy of at most atol.

    X, W : (n, d) rows and (p, d) atoms
    atol : squared units of X
    indices, values : (n, k) int32 and X's dtype, changed in place
    """
    n, k = indices.shape
    left = np.empty(X.shape[1], X.dtype)
    for r in range(n):
        energy = 0.0
        for j in range(len(left)):
            left[j] = X[r, j]
            energy += np.float64(left[j]) * left[j]
        ended = energy <= atol
        for t in range(k):
            if ended:
                indices[r, t] = 0
                values[r, t] = 0
                continue
            v = values[r, t]
            if v == 0:
                break
            w = W[indices[r, t]]
            energy = 0.0
            for j in range(len(left)):
                left[j] -= v * w[j]
                energy += np.float64(left[j]) * left[j]
            ended = energy <= atol


@jit
def pursue_rows(C, G, energy, enough, least, k, positive, once, indices, values):
    """Matching pursuit on correlations. With `once`, a row ends with an atom that it has.

    C : (n, p) correlations of rows and atoms, overwritten
    G : (p, p) Gram matrix, of C's dtype
    energy, enough, least : (n,) float64, squared units of the rows: their squared norms, the
        squared residual at which they stop, what a squared correlation must exceed
    k : the most steps of a row
    indices, values : (n, k) int32 and C's dtype, zeros; written
    """
    n, p = C.shape
    top = np.empty(min(LANES, p), C.dtype)
    for r in range(n):
        c = C[r]
        remaining = energy[r]
        sweep(c, c, c.dtype.type(0), top, positive)
        for t in range(k):
            if remaining <= enough[r]:
                break
            i = best_atom(c, top, positive)
            if i < 0:
                break
            v = c[i]
            square = np.float64(v) * v
            if square <= least[r]:
                break
            indices[r, t] = i
            values[r, t] = v
            if once and _taken(indices[r], t):
                break
            remaining -= square * (2 - np.float64(G[i, i]))
            if t + 1 < k:
                sweep(c, G[i], v, top, positive)


# Two correlations are compared by their exact values where rounding to bfloat16 may have
# exchanged them: each is off by up to 2^-9 of the row's largest one. If there are many of
# them, only those that differ by less than one such error are: so many at most, which bounds
# the time.
_COARSE = 2.0**-9
_MANY, _MAX_COMPARED = 16, 64


@jit
def _near_best(c, first, top, positive, lowest, near):
    """Indices of other scores of at least `lowest`, written to `near`; how many there are.

    No more than fit; else as in `_best_of_coarse`.
    """
    n_near, n_lanes = 0, len(top)
    for lane in range(n_lanes):
        if top[lane] < lowest:
            continue
        for j in range(lane, len(c), n_lanes):
            score = c[j] if positive else abs(c[j])
            if score < lowest or j == first:
                continue
            if n_near == len(near):
                return n_near
            near[n_near] = j
            n_near += 1
    return n_near


@jit
def _best_of_coarse(c, first, top, positive, largest, res, W, near):
    """The best of the atoms that are about as good as the first one, and its exact value.

    c : (p,) rounded correlations
    first : index of the largest rounded score
    top : the largest score of each lane, from `sweep`
    largest : the row's largest correlation, 0 where that is the first one's
    res : (d,) residual
    W : (p, d) atoms
    near : (_MAX_COMPARED,) int32, overwritten
    """
    found = first
    best = dot(res, W[first])
    score = abs(c[first])
    error = c.dtype.type(_COARSE * max(score, abs(largest)))
    n_near = _near_best(c, first, top, positive, score - 2 * error, near)
    if n_near > _MANY:
        n_near = _near_best(c, first, top, positive, score - error, near)
    for j in near[:n_near]:
        v = dot(res, W[j])
        more = v - best if positive else abs(v) - abs(best)
        if more > 0 or (more == 0 and j < found):
            found = j
            best = v
    return found, best


@jit
def advance_rows(
    R,
    W,
    C,
    rows,
    place,
    weights,
    remaining,
    enough,
    least,
    k,
    positive,
    once,
    coarse,
    steps,
    indices,
    values,
):
    """`pursue_rows` as far as the available rows of the Gram matrix allow.

    R : (n, d) residuals; changed if `coarse`, else not read
    W : (p, d) atoms
    C : (n, p) correlations, overwritten
    rows : (capacity, p) rows of the Gram matrix, of C's dtype or bfloat16 as uint16
    place : (p,) int32; rows[place[i]] is the row of atom i, place[i] is -1 where it is missing
    weights : (p,) float64, squared norms of the atoms
    remaining : (n,) float64, squared norms of the residuals, updated
    enough, least, k, once : as in `pursue_rows`
    coarse : C and rows are rounded. Atoms are then compared, and valued, by their exact
        correlations with the residuals R, which are updated. A row also stops where the atom
        chosen has nothing to take: rounding hides the rest.
    steps : (n,) int32, updated: how many atoms a row has, the last one not yet subtracted from
        its correlations; -1 once the row is done
    indices, values : (n, k) int32 and X's dtype, written
    """
    n, p = C.shape
    top = np.empty(min(LANES, p), C.dtype)
    near = np.empty(_MAX_COMPARED, np.int32)
    for r in range(n):
        c = C[r]
        res = R[r]
        while steps[r] >= 0:
            t = steps[r]
            if t == 0:
                sweep(c, c, c.dtype.type(0), top, positive)
            else:
                where = place[indices[r, t - 1]]
                if where < 0:
                    break
                sweep(c, rows[where], c.dtype.type(values[r, t - 1]), top, positive)
            steps[r] = -1
            if remaining[r] <= enough[r]:
                break
            i = best_atom(c, top, positive)
            if i < 0:
                break
            v = res.dtype.type(c[i])
            if coarse:
                i, v = _best_of_coarse(c, i, top, positive, values[r, 0], res, W, near)
            square = np.float64(v) * v
            if square <= least[r] or (positive and v < 0):
                break
            indices[r, t] = i
            values[r, t] = v
            remaining[r] -= square * (2 - weights[i])
            if coarse:
                w = W[i]
                for j in range(len(res)):
                    res[j] -= v * w[j]
            if t + 1 < k and not (once and _taken(indices[r], t)):
                steps[r] = t + 1


@jit
def pick_rows(C, remaining, enough, least, positive, indices, values):
    """One step of a matching pursuit: the best atom of each row that has not stopped.

    C : (n, p) correlations
    remaining, enough, least : (n,) float64, as in `advance_rows`
    indices, values : (n,) int32 and C's dtype, zeros; written where an atom is chosen
    """
    n, p = C.shape
    top = np.empty(min(LANES, p), C.dtype)
    for r in range(n):
        c = C[r]
        if remaining[r] <= enough[r]:
            continue
        sweep(c, c, c.dtype.type(0), top, positive)
        i = best_atom(c, top, positive)
        if i >= 0 and np.float64(c[i]) * c[i] > least[r]:
            indices[r] = i
            values[r] = c[i]


@jit
def top_rows(C, k, positive, indices, values):
    """The k entries of each row with the largest scores, from the largest down.

    C : (n, p) outputs of an encoder
    indices, values : (n, k) int32 and C's dtype, zeros; written
    """
    n, p = C.shape
    top = np.empty(min(LANES, p), C.dtype)
    n_lanes = len(top)
    row = np.empty(p, C.dtype)
    for r in range(n):
        for j in range(p):
            row[j] = C[r, j]
        sweep(row, row, row.dtype.type(0), top, positive)
        for t in range(min(k, p)):
            i = best_atom(row, top, positive)
            if i < 0:
                break
            indices[r, t] = i
            values[r, t] = row[i]
            row[i] = 0
            lane = i % n_lanes
            best = row.dtype.type(0)
            for j in range(lane, p, n_lanes):
                score = row[j] if positive else abs(row[j])
                best = score if score > best else best
            top[lane] = best

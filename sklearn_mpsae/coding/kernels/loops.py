"""The compiled loops of the CPU path, each over a range of rows, columns or atoms.

They hold no lock, so that plain Python threads share the work (`team.py`), and they
allocate nothing that grows with the number of rows.
"""

from __future__ import annotations

import numba
import numpy as np
from numba.extending import overload, register_jitable

from .compiled import jit

# Atoms j, j + LANES, j + 2 * LANES ... share a running maximum. Element-wise maxima of
# LANES neighbours vectorise, a reduction over neighbours does not.
LANES = 64


# --------------------------------------------------------------------------- #
# bfloat16: the upper half of a float32, kept as uint16
# --------------------------------------------------------------------------- #
def _real(x):
    """The number that an entry stands for: a uint16 is a bfloat16."""
    return _expanded(x) if isinstance(x, np.uint16) else x


@register_jitable(inline="always")
def _expanded(x):
    return np.uint32(np.uint32(x) << np.uint32(16)).view(np.float32)


@overload(_real, inline="always")
def _overload_real(x):
    return _expanded if isinstance(x, numba.types.Integer) else lambda x: x


@jit
def round_rows(A, out):
    """A in bfloat16, rounded to nearest, ties to even."""
    for r in range(A.shape[0]):
        for j in range(A.shape[1]):
            bits = np.float32(A[r, j]).view(np.uint32)
            half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
            out[r, j] = np.uint16((bits + half) >> np.uint32(16))


@jit
def expand_rows(A, out):
    """bfloat16 as float32."""
    for r in range(A.shape[0]):
        for j in range(A.shape[1]):
            out[r, j] = _real(A[r, j])


# --------------------------------------------------------------------------- #
# Choosing atoms
# --------------------------------------------------------------------------- #
@jit
def _sweep(c, g, v, top, positive):
    """Subtract v * g from c, and in the same pass the largest score of each lane."""
    n_lanes = len(top)
    for lane in range(n_lanes):
        top[lane] = 0
    # A length that the compiler knows keeps the maxima in registers.
    whole = len(c) // LANES * LANES
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            x = c[start + lane] - v * _real(g[start + lane])
            c[start + lane] = x
            score = x if positive else abs(x)
            top[lane] = score if score > top[lane] else top[lane]
    for j in range(whole, len(c)):
        x = c[j] - v * _real(g[j])
        c[j] = x
        score = x if positive else abs(x)
        lane = j % n_lanes
        top[lane] = score if score > top[lane] else top[lane]


@jit
def _best(c, top, positive):
    """Index of the largest score, the lowest one among equals; -1 where none is above 0."""
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
    """Whether the atom in slot t is in an earlier one too."""
    s = 0
    while indices[s] != indices[t]:
        s += 1
    return s < t


@jit
def end_rows(X, W, atol, indices, values):
    """Give up the codes of a row after the first that leaves an energy of at most atol."""
    n, k = indices.shape
    left = np.empty(X.shape[1], X.dtype)
    for r in range(n):
        for j in range(len(left)):
            left[j] = X[r, j]
        ended = False
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
def pursue_rows(C, G, energy, floor, least, k, positive, once, indices, values):
    """Matching pursuit in correlations. With `once`, a row ends with an atom that it has."""
    n, p = C.shape
    top = np.empty(min(LANES, p), C.dtype)
    for r in range(n):
        c = C[r]
        remaining = energy[r]
        _sweep(c, c, c.dtype.type(0), top, positive)
        for t in range(k):
            if remaining <= floor[r]:
                break
            i = _best(c, top, positive)
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
                _sweep(c, G[i], v, top, positive)


# Two correlations that differ by less than the rounding to bfloat16 of the row's largest
# are told apart by their exact values; by those of so many atoms at most.
_COARSE = 2.0**-8
_MOST_COMPARED = 16


@jit
def _dot(a, b):
    total = a.dtype.type(0)
    for j in range(len(a)):
        total += a[j] * b[j]
    return total


@jit
def _best_of_coarse(c, first, top, positive, largest, res, W):
    """The best of the atoms that are about as good as the first one, and its exact value.

    largest : the row's largest correlation, 0 where that is the first one's
    """
    found = first
    best = _dot(res, W[first])
    score = abs(c[first])
    floor = score - c.dtype.type(_COARSE * max(score, abs(largest)))
    n_compared = 1
    n_lanes = len(top)
    for lane in range(n_lanes):
        if top[lane] < floor:
            continue
        for j in range(lane, len(c), n_lanes):
            score = c[j] if positive else abs(c[j])
            if score < floor or j == first:
                continue
            if n_compared == _MOST_COMPARED:
                return found, best
            n_compared += 1
            v = _dot(res, W[j])
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
    floor,
    least,
    k,
    positive,
    once,
    coarse,
    steps,
    indices,
    values,
):
    """`pursue_rows` as far as the rows of the Gram matrix at hand allow.

    rows[place[i]] is the Gram matrix's row of atom i; place[i] is -1 where it is missing.
    steps[r] is how many atoms row r has, the last of them still in its correlations; -1
    once it is done.

    once : as in `pursue_rows`
    coarse : C and rows are rounded. Atoms are then told apart, and valued, by their exact
        correlations with the residuals R, which they leave. A row also stops where rounding
        hides what it has left: where the atom chosen has nothing to take.
    """
    n, p = C.shape
    top = np.empty(min(LANES, p), C.dtype)
    for r in range(n):
        c = C[r]
        res = R[r]
        while steps[r] >= 0:
            t = steps[r]
            if t == 0:
                _sweep(c, c, c.dtype.type(0), top, positive)
            else:
                where = place[indices[r, t - 1]]
                if where < 0:
                    break
                _sweep(c, rows[where], c.dtype.type(values[r, t - 1]), top, positive)
            steps[r] = -1
            if remaining[r] <= floor[r]:
                break
            i = _best(c, top, positive)
            if i < 0:
                break
            v = res.dtype.type(c[i])
            if coarse:
                i, v = _best_of_coarse(c, i, top, positive, values[r, 0], res, W)
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
def pick_rows(C, remaining, floor, least, positive, indices, values):
    n, p = C.shape
    top = np.empty(min(LANES, p), C.dtype)
    for r in range(n):
        c = C[r]
        if remaining[r] <= floor[r]:
            continue
        _sweep(c, c, c.dtype.type(0), top, positive)
        i = _best(c, top, positive)
        if i >= 0 and np.float64(c[i]) * c[i] > least[r]:
            indices[r] = i
            values[r] = c[i]


@jit
def top_rows(C, k, positive, indices, values):
    n, p = C.shape
    top = np.empty(min(LANES, p), C.dtype)
    n_lanes = len(top)
    row = np.empty(p, C.dtype)
    for r in range(n):
        for j in range(p):
            row[j] = C[r, j]
        _sweep(row, row, row.dtype.type(0), top, positive)
        for t in range(min(k, p)):
            i = _best(row, top, positive)
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


# --------------------------------------------------------------------------- #
# Orthogonal matching pursuit
#
# Gram-Schmidt in the Gram domain. Let u_t be the t-th chosen atom made orthogonal
# to the earlier ones and normalised. What a pursuit needs of u_t is its
# correlations with all atoms, q_t = W u_t, and those follow from rows of G alone:
#     q_t = (G[i_t] - sum_s L[t, s] q_s) / L[t, t],    L[t, s] = q_s[i_t].
# L is the Cholesky factor of the chosen atoms' Gram matrix, b_t = <u_t, x> is
# c[i_t] / L[t, t], the residual's correlations lose b_t q_t, its energy loses
# b_t ** 2, and the codes solve L.T z = b. (Batch-OMP, Rubinstein, Zibulevsky and
# Elad 2008, refreshes the correlations from the codes at each step instead.)
# --------------------------------------------------------------------------- #
@jit
def _extend(c, G, i, t, Q, L, b, top, positive):
    """Add atom i as the t-th; False where it lies in the span of the earlier ones."""
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
    _sweep(c, q, b[t], top, positive)
    return True


@jit
def _solve_upper(L, b, t, z):
    """Solve for z: L[:t, :t].T @ z = b[:t]."""
    for row in range(t - 1, -1, -1):
        total = b[row]
        for s in range(row + 1, t):
            total -= L[s, row] * z[s]
        z[row] = total / L[row, row]


@jit
def orthogonal_rows(C, G, energy, floor, least, k, indices, values):
    n, p = C.shape
    top = np.empty(min(LANES, p), C.dtype)
    Q = np.empty((k, p), C.dtype)
    L = np.zeros((k, k), C.dtype)
    b = np.empty(k, C.dtype)
    for r in range(n):
        c = C[r]
        remaining = energy[r]
        _sweep(c, c, c.dtype.type(0), top, False)
        size = 0
        while size < k and remaining > floor[r]:
            i = _best(c, top, False)
            if i < 0 or np.float64(c[i]) * c[i] <= least[r]:
                break
            if not _extend(c, G, i, size, Q, L, b, top, False):
                break
            indices[r, size] = i
            remaining -= np.float64(b[size]) * b[size]
            size += 1
        _solve_upper(L, b, size, values[r])


@jit
def orthogonal_rows_positive(C, G, energy, floor, least, k, indices, values):
    """Lawson and Hanson's non-negative least squares, stopped at k atoms.

    As OMP, but where the refit would make a code negative, the atoms that reach zero
    first on the way leave the support (NN-OMP, Bruckstein, Elad and Zibulevsky 2008).
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
        _sweep(c, c, c.dtype.type(0), top, True)
        size = 0
        # Each pick lowers the error, so it ends; the bound keeps its cost that of OMP.
        for _ in range(2 * k):
            if size == k or remaining <= floor[r]:
                break
            i = _best(c, top, True)
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
                _sweep(c, c, c.dtype.type(0), top, True)
                for s in range(size):
                    _extend(c, G, support[s], s, Q, L, b, top, True)
            remaining = energy[r]
            for s in range(size):
                remaining -= np.float64(b[s]) * b[s]
        for s in range(size, k):
            support[s] = 0
            code[s] = 0


# --------------------------------------------------------------------------- #
# Valuing atoms: decoding and gradients
# --------------------------------------------------------------------------- #
@jit
def energy_rows(X, out):
    """Squared norms, in float64: the square of a small float32 underflows."""
    for r in range(X.shape[0]):
        total = 0.0
        for x in X[r]:
            total += np.float64(x) * np.float64(x)
        out[r] = total


@jit
def add_moments(X, center, total):
    """Add the rows of X - center to `total`; returns the sum of their squares."""
    energy = 0.0
    for r in range(X.shape[0]):
        for j in range(X.shape[1]):
            x = np.float64(X[r, j]) - center[j]
            total[j] += x
            energy += x * x
    return energy


@jit
def checksum_rows(words, weights, first):
    """A sum of the words of rows, which depends on where each of them stands.

    Of integers that wrap around: in whatever order and parts it is taken, it is the same.

    words : uint32 of shape (n, d)
    weights : uint64 of shape (d,), odd
    first : the number of the first row
    """
    total = np.uint64(0)
    for r in range(words.shape[0]):
        row = np.uint64(0)
        for j in range(words.shape[1]):
            row += np.uint64(words[r, j]) * weights[j]
        # The row's number, mixed as by splitmix64, and made odd.
        z = np.uint64(first + r + 1) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        total += row * (z | np.uint64(1))
    return total


@jit
def decode_rows(indices, values, W, out):
    for r in range(indices.shape[0]):
        row = out[r]
        for t in range(indices.shape[1]):
            v = values[r, t]
            if v != 0:
                w = W[indices[r, t]]
                for j in range(len(row)):
                    row[j] += v * w[j]


@jit
def dot_rows(R, W, indices, out):
    for r in range(indices.shape[0]):
        row = R[r]
        for t in range(indices.shape[1]):
            w = W[indices[r, t]]
            total = row.dtype.type(0)
            for j in range(len(row)):
                total += row[j] * w[j]
            out[r, t] = total


@jit
def scatter_columns(indices, values, R, out, start, stop):
    for r in range(indices.shape[0]):
        row = R[r, start:stop]
        for t in range(indices.shape[1]):
            v = values[r, t]
            if v != 0:
                target = out[indices[r, t], start:stop]
                for j in range(len(row)):
                    target[j] += v * row[j]


@jit
def adjoint_rows(X, W, indices, values, R, adjoint):
    n, d = X.shape
    lam = np.empty(d, X.dtype)
    for r in range(n):
        row = R[r]
        for j in range(d):
            row[j] = X[r, j]
        for t in range(indices.shape[1]):
            v = values[r, t]
            if v != 0:
                w = W[indices[r, t]]
                for j in range(d):
                    row[j] -= v * w[j]
        for j in range(d):
            lam[j] = row[j]
        for t in range(indices.shape[1] - 1, -1, -1):
            if values[r, t] != 0:
                w = W[indices[r, t]]
                a = lam.dtype.type(0)
                for j in range(d):
                    a += lam[j] * w[j]
                adjoint[r, t] = a
                for j in range(d):
                    lam[j] -= a * w[j]


@jit
def gradient_columns(R, W, indices, values, adjoint, gradient, start, stop):
    width = stop - start
    res = np.empty(width, R.dtype)
    lam = np.empty(width, R.dtype)
    for r in range(indices.shape[0]):
        for j in range(width):
            res[j] = R[r, start + j]
            lam[j] = R[r, start + j]
        for t in range(indices.shape[1] - 1, -1, -1):
            v = values[r, t]
            if v != 0:
                a = adjoint[r, t]
                w = W[indices[r, t], start:stop]
                target = gradient[indices[r, t], start:stop]
                for j in range(width):
                    before = res[j] + v * w[j]
                    target[j] -= a * before + v * lam[j]
                    lam[j] -= a * w[j]
                    res[j] = before


# --------------------------------------------------------------------------- #
# Stepping
# --------------------------------------------------------------------------- #
@jit
def adam_rows(W, gradient, mean, square, rates, sphere, max_norm):
    step, beta1, beta2, correct1, correct2 = rates
    p, d = W.shape
    one = W.dtype.type(1)
    tiny = np.finfo(W.dtype).tiny
    for i in range(p):
        w = W[i]
        g = gradient[i]
        m = mean[i]
        along = w.dtype.type(0)
        if sphere:
            for j in range(d):
                along += g[j] * w[j]
        energy = w.dtype.type(0)
        for j in range(d):
            gj = g[j] - along * w[j]
            energy += gj * gj
            m[j] = beta1 * m[j] + (one - beta1) * gj
        square[i] = beta2 * square[i] + (one - beta2) * energy
        rate = step * correct1 / (np.sqrt(square[i] * correct2) + tiny)
        norm = w.dtype.type(0)
        for j in range(d):
            w[j] -= rate * m[j]
            norm += w[j] * w[j]
        norm = np.sqrt(norm)
        if sphere or norm > max_norm:
            shrink = (one if sphere else max_norm) / norm
            for j in range(d):
                w[j] *= shrink


@jit
def mirror_lower(G, start, stop):
    """Copy the lower triangle's rows start to stop to the upper triangle's columns.

    In tiles of 8: a column of a power-of-two matrix maps to one set of the L1 cache,
    which holds no more than that many lines of each triangle at once.
    """
    tile = 8
    for top in range(start, stop, tile):
        for left in range(0, top + 1, tile):
            for i in range(top, min(top + tile, stop)):
                for j in range(left, min(left + tile, i)):
                    G[j, i] = G[i, j]

"""The CPU kernels: NumPy arrays in and out."""

from __future__ import annotations

import numpy as np
from sklearn.utils import gen_batches

from ..._optional import has_torch
from . import loops
from .budget import DEMAND_BYTES, WAITING_BYTES, even_parts
from .gram_rows import CoarseGramRows, GramRows, has_bfloat16
from .products import correlations
from .residuals import orthogonal_codes, rows_at_once
from .stopping import Stop, matching_stop
from .team import Team

# Rows are encoded so many at a time: few enough for their correlations to stay in a core's
# cache and for every thread to get some, enough for a matrix product. With many atoms the
# product gains more by more rows than the cache does by fewer: a fifth of its time from 64 to
# 256 rows of 16,384 atoms, on two threads of an AMD EPYC.
_CHUNK_BYTES = 1 << 20
_MAX_CHUNK_ROWS = 256
_MIN_CHUNK_ROWS = 64
_MIN_CHUNKS = 16

# Rows that wait for rows of the Gram matrix, per turn of a thread.
_WAITING_ROWS = 16


class NativeKernels:
    """The verbs of the engine on NumPy arrays; see `verbs.Kernels`."""

    device = "cpu"

    def __enter__(self) -> NativeKernels:
        self._buffers = {}
        self._team = Team().__enter__()
        return self

    def __exit__(self, *exc_info) -> None:
        self._team.__exit__(*exc_info)

    def _buffer(self, name, shape, dtype):
        """Memory that the next call of the same verb overwrites: fresh pages cost time."""
        key = name, shape, np.dtype(dtype)
        if key not in self._buffers:
            self._buffers[key] = np.empty(shape, dtype)
        return self._buffers[key]

    def has_bfloat16(self):
        return has_torch() and has_bfloat16()

    # ----------------------------------------------------------------- arrays
    def asarray(self, x):
        return np.ascontiguousarray(x)

    def to_numpy(self, x):
        return np.asarray(x)

    def exp(self, x):
        return np.exp(x)

    def product(self, X, W):
        out = np.empty((len(X), len(W)), X.dtype)
        self._team.run(
            lambda a, b: correlations(X[a:b], W, out[a:b]),
            len(X),
            W.size,
            chunk=_chunk(len(W), X),
        )
        return out

    def energies(self, X):
        out = np.empty(len(X))
        # A sum in float64 takes several times as long as a multiply-add of a product.
        self._team.run(lambda a, b: loops.energy_rows(X[a:b], out[a:b]), len(X), 4 * X.shape[1])
        return out

    def count(self, indices, values, n_components):
        # A pursuit may pick an atom twice in a row; sorting would cost more than it
        # would change what the counts are for.
        return np.bincount(indices[values != 0], minlength=n_components)

    # --------------------------------------------------------- choosing atoms
    def gram(self, W):
        p, d = W.shape
        G = self._buffer("gram", (p, p), W.dtype)

        def tile(start, stop):
            np.matmul(W[start:stop], W[:stop].T, out=G[start:stop, :stop])
            loops.mirror_lower(G, start, stop)

        # The last tile of the triangle is the dearest: start with it.
        height = max(128, p // 32)
        n_tiles = -(-p // height)
        self._team.run(
            lambda a, b: tile((n_tiles - b) * height, min((n_tiles - a) * height, p)),
            n_tiles,
            height * p * d / 2,
            chunk=1,
        )
        return G

    def matching_pursuit(self, X, W, G, k, *, tol, threshold, positive, atol=0.0, once=False):
        stop = matching_stop(tol, threshold, atol, k, _eps(X))
        if G is None:
            codes = self._residual_pursuit(X, W, k, stop, positive, once)
        else:
            loop, sweeps = loops.pursue_rows, k
            codes = self._gram_pursuit(loop, X, W, G, k, sweeps, stop, positive, once)
        return self._ended(X, W, *codes, atol)

    def orthogonal_pursuit(
        self, X, W, G, k, *, tol, threshold, positive, atol=0.0, by_refit=False
    ):
        stop = Stop(tol, threshold, atol)
        if G is None:
            return self._span_pursuit(X, W, k, stop, positive, by_refit)
        loop = loops.orthogonal_rows_positive if positive else loops.orthogonal_rows
        unsure = np.zeros(len(X), bool)
        arguments = loop, X, W, G, k, k * k / 2, stop, by_refit
        indices, values = self._gram_pursuit(*arguments, by_row=[unsure])
        rows = np.flatnonzero(unsure)
        if len(rows):
            codes = self._span_pursuit(X[rows], W, k, stop, positive, by_refit)
            indices[rows], values[rows] = codes
        return indices, values

    def _ended(self, X, W, indices, values, atol):
        """Codes of a matching pursuit as long as the residual is not within atol."""
        if atol:
            self._team.run(
                lambda a, b: loops.end_rows(X[a:b], W, atol, indices[a:b], values[a:b]),
                len(X),
                2 * indices.shape[1] * X.shape[1],
            )
        return indices, values

    def _gram_pursuit(self, loop, X, W, G, k, sweeps, stop, *options, by_row=()):
        """A pursuit by a compiled loop, which takes `sweeps` passes over p numbers a row."""
        n, p = len(X), len(W)
        indices, values = _empty_codes(n, k, X)

        def work(a, b):
            C = correlations(X[a:b], W)
            energy = _energies(X[a:b])
            stops = _stops(energy, stop, X)
            arrays = [x[a:b] for x in (indices, values, *by_row)]
            loop(C, G, energy, *stops, k, *options, *arrays)

        self._team.run(work, n, p * (X.shape[1] + sweeps), chunk=_chunk(p, X))
        return indices, values

    def _span_pursuit(self, X, W, k, stop, positive, by_refit):
        n, (p, d) = len(X), W.shape
        indices, values = _empty_codes(n, k, X)
        own = self.energies(W).astype(X.dtype) if by_refit else None

        def work(a, b):
            energy = _energies(X[a:b])
            stops = _stops(energy, stop, X)
            orthogonal_codes(
                *(X[a:b], W, k, energy, stops, positive, by_refit, own),
                *(indices[a:b], values[a:b]),
            )

        self._team.run(work, n, p * d * k, chunk=rows_at_once(W, k, by_refit))
        return indices, values

    def _residual_pursuit(self, X, W, k, stop, positive, once):
        n, p = len(X), len(W)
        indices, values = _empty_codes(n, k, X)
        # For few rows the norms of all atoms cost as much as some steps.
        weights = self.energies(W) if n * k >= p else None

        def work(a, b):
            R = X[a:b].copy()
            remaining = _energies(R)
            stops = _stops(remaining, stop, X)
            for t in range(k):
                C = correlations(R, W)
                i, v = indices[a:b, t], values[a:b, t]
                loops.pick_rows(C, remaining, *stops, positive, i, v)
                if not v.any():
                    break
                atoms = W[i]
                R -= v[:, None] * atoms
                weight = _energies(atoms) if weights is None else weights[i]
                remaining -= np.square(v, dtype=np.float64) * (2 - weight)
                if once:
                    again = (indices[a:b, :t] == i[:, None]).any(axis=1)
                    remaining[again] = -np.inf

        self._team.run(work, n, p * X.shape[1] * k, chunk=_chunk(p, X))
        return indices, values

    def blocked_pursuit(self, X, W, k, *, tol, threshold, positive, atol=0.0, once=False):
        gram = GramRows(self._team, W, self._demanded(W, W.dtype))
        stop = matching_stop(tol, threshold, atol, k, _eps(X))
        codes = self._pursue_on_demand(gram, X, W, k, stop, positive, once)
        return self._ended(X, W, *codes, atol)

    def coarse_pursuit(self, X, W, k, *, tol, threshold, positive, atol=0.0, once=False):
        gram = CoarseGramRows(self._team, W, self._demanded(W, np.uint16))
        if gram.holds_all and len(X) * k > len(W):
            gram.fetch_all()
        stop = matching_stop(tol, threshold, atol, k, _eps(X))
        codes = self._pursue_on_demand(gram, X, W, k, stop, positive, once)
        return self._ended(X, W, *codes, atol)

    def _demanded(self, W, dtype):
        """Memory for as many rows of W's Gram matrix as there is room for."""
        p = len(W)
        most = max(1, DEMAND_BYTES // (p * np.dtype(dtype).itemsize))
        return self._buffer("demanded", (min(p, most), p), dtype)

    def _pursue_on_demand(self, gram, X, W, k, stop, positive, once):
        n, p = len(X), len(W)
        indices, values = _empty_codes(n, k, X)
        weights = self.energies(W)
        size = max(1, min(n, WAITING_BYTES // (p * gram.dtype.itemsize)))
        for rows in gen_batches(n, size):
            R = X[rows].copy() if gram.coarse else X[rows]
            C = self._buffer("waiting", (size, p), gram.dtype)[: len(R)]
            gram.correlate(R, C)
            remaining = _energies(R)
            stops = _stops(remaining, stop, X)
            state = R, C, remaining, *stops, indices[rows], values[rows]
            self._advance(gram, W, weights, state, k, positive, once)
        return indices, values

    def _advance(self, gram, W, weights, state, k, positive, once):
        """Take rows of X to the end of their pursuit."""
        steps = np.zeros(len(state[0]), np.int32)

        def work(a, b):
            R, C, remaining, enough, least, indices, values = (x[a:b] for x in state)
            loops.advance_rows(
                *(R, W, C, gram.rows, gram.place, weights),
                *(remaining, enough, least, k, positive, once, gram.coarse),
                *(steps[a:b], indices, values),
            )

        while True:
            self._team.run(work, len(steps), len(W) * k, chunk=_WAITING_ROWS)
            waiting = np.flatnonzero(steps > 0)
            if not len(waiting):
                return
            indices = state[-2]
            gram.fetch(np.unique(indices[waiting, steps[waiting] - 1]))

    def top_k(self, X, W, bias, k, *, positive):
        n, p = len(X), len(W)
        indices, values = _empty_codes(n, k, X)

        def work(a, b):
            C = correlations(X[a:b], W)
            C += bias
            loops.top_rows(C, k, positive, indices[a:b], values[a:b])

        self._team.run(work, n, p * X.shape[1], chunk=_chunk(p, X))
        return indices, values

    def above(self, X, W, bias, floor):
        return _slots(*self._above(X, W, bias, floor))

    def above_in_parts(self, X, W, bias, floor):
        counts, columns, entries = self._above(X, W, bias, floor)
        ends = np.cumsum(counts)
        for rows in even_parts(counts):
            first = ends[rows.start] - counts[rows.start]
            of_rows = slice(first, ends[rows.stop - 1])
            yield _slots(counts[rows], columns[of_rows], entries[of_rows])

    def _above(self, X, W, bias, floor):
        n, p = len(X), len(W)
        chunk = _chunk(p, X)
        parts = [None] * -(-n // chunk)

        def work(a, b):
            C = correlations(X[a:b], W)
            C += bias
            parts[a // chunk] = _entries(C, floor)

        self._team.run(work, n, p * X.shape[1], chunk=chunk)
        return tuple(map(np.concatenate, zip(*parts, strict=True)))

    def batch_top_k(self, X, W, bias, n_codes, level=0.0):
        n, p = len(X), len(W)
        C = self._buffer("batch", (n, p), X.dtype)
        n_above = [0] * n

        def work(a, b):
            correlations(X[a:b], W, C[a:b])
            C[a:b] += bias
            n_above[a] = np.count_nonzero(C[a:b] > level)

        self._team.run(work, n, p * X.shape[1], chunk=_chunk(p, X))
        rank = max(0, n * p - n_codes)
        ordered = np.partition(C, rank, axis=None)
        smallest, others = max(ordered[rank], C.dtype.type(0)), ordered[:rank]
        if rank and others.max() == smallest:
            others = others[others < smallest]
        next_one = max(others.max(initial=0), C.dtype.type(0))
        entries = _entries(C, np.nextafter(smallest, C.dtype.type(-1)))
        return *_slots(*entries), float(smallest), float(next_one), sum(n_above)

    def by_value(self, indices, values):
        order = np.argsort(-values, axis=1, kind="stable")
        return np.take_along_axis(indices, order, 1), np.take_along_axis(values, order, 1)

    # ---------------------------------------------------------- valuing atoms
    def decode(self, indices, values, W):
        (n, k), d = indices.shape, W.shape[1]
        out = np.zeros((n, d), W.dtype)
        self._team.run(
            lambda a, b: loops.decode_rows(indices[a:b], values[a:b], W, out[a:b]), n, k * d
        )
        return out

    def gather_dot(self, R, W, indices):
        (n, k), d = indices.shape, W.shape[1]
        out = np.empty((n, k), W.dtype)
        self._team.run(lambda a, b: loops.dot_rows(R[a:b], W, indices[a:b], out[a:b]), n, k * d)
        return out

    def scatter_outer(self, indices, values, R, n_components):
        (n, k), d = indices.shape, R.shape[1]
        out = np.zeros((n_components, d), R.dtype)
        self._team.run(
            lambda a, b: loops.scatter_columns(indices, values, R, out, a, b), d, n * k
        )
        return out

    def pursuit_gradient(self, X, W, indices, values, path_weight=0.0):
        (n, k), d = indices.shape, W.shape[1]
        R = self._buffer("residual", X.shape, X.dtype)
        adjoint = self._buffer("adjoint", (n, k), X.dtype)
        gradient = self._buffer("gradient", W.shape, W.dtype)
        gradient[:] = 0
        by_rows = np.zeros(d, W.dtype)
        self._team.run(
            lambda a, b: loops.adjoint_rows(
                X[a:b], W, indices[a:b], values[a:b], path_weight, R[a:b], adjoint[a:b]
            ),
            n,
            3 * k * d,
        )
        codes = indices, values, path_weight
        self._team.run(
            lambda a, b: loops.gradient_columns(R, W, *codes, adjoint, gradient, by_rows, a, b),
            d,
            2 * n * k,
        )
        return R, gradient, by_rows

    # --------------------------------------------------------------- stepping
    def adam_step(self, W, gradient, mean, square, rates, *, sphere, max_norm=np.inf):
        p, d = W.shape
        rates = np.asarray(rates, W.dtype)
        max_norm = W.dtype.type(max_norm)
        self._team.run(
            lambda a, b: loops.adam_rows(
                W[a:b], gradient[a:b], mean[a:b], square[a:b], rates, sphere, max_norm
            ),
            p,
            4 * d,
        )


def _empty_codes(n, k, like):
    return np.zeros((n, k), np.int32), np.zeros((n, k), like.dtype)


def _entries(C, floor):
    """How many entries of each row are above `floor` and 0; their columns and values."""
    rows, columns = np.nonzero(np.maximum(floor, 0) < C)
    return np.bincount(rows, minlength=len(C)), columns.astype(np.int32), C[rows, columns]


def _slots(counts, columns, entries):
    """Such entries, a row's side by side: indices and values of shape (n, s)."""
    n, s = len(counts), max(1, counts.max())
    used = np.arange(s) < counts[:, None]
    indices, values = np.zeros((n, s), np.int32), np.zeros((n, s), entries.dtype)
    indices[used], values[used] = columns, entries
    return indices, values


def _energies(X):
    """Squared norms of the rows of X, in float64."""
    out = np.empty(len(X))
    loops.energy_rows(X, out)
    return out


def _eps(X):
    return np.finfo(X.dtype).eps


def _stops(energy, stop, X):
    """Where rows stop: once their squared residual is no more than the first array, or
    before an atom whose squared correlation is no more than the second.

    Without `tol` and `atol` a row does not stop by its residual, which is known only to
    rounding errors, but where its correlations are no larger than theirs.

    energy : (n,) float64, squared norms of the rows
    """
    enough = stop.tol * energy if stop.tol else np.full_like(energy, -np.inf)
    if stop.atol:
        enough = np.maximum(enough, stop.atol - stop.slack * energy)
    noise = (4 * float(_eps(X))) ** 2
    return enough, np.maximum(noise * energy, stop.threshold**2)


def _chunk(p, X):
    rows = max(_CHUNK_BYTES // (p * X.itemsize), len(X) // _MIN_CHUNKS)
    return max(_MIN_CHUNK_ROWS, min(_MAX_CHUNK_ROWS, rows))

"""The CPU kernels: NumPy arrays in and out."""

from __future__ import annotations

import numpy as np
from sklearn.utils import gen_batches

from . import loops
from .budget import DEMAND_BYTES, WAITING_BYTES, even_parts
from .gram_rows import CoarseGramRows, GramRows
from .team import Team

# Rows are encoded so many at a time: few enough for their correlations to stay in a core's
# cache through all k steps and for every thread to get some, enough for a matrix product.
_CHUNK_BYTES = 1 << 20
_CHUNK_ROWS = 256
_LEAST_CHUNK_ROWS = 64

# The largest share of an energy that is less than it.
_BELOW = 1 - np.finfo(np.float64).epsneg

# Rows that wait for rows of the Gram matrix, per turn of a thread.
_WAITING_ROWS = 16


class NativeKernels:
    """The verbs of the engine on NumPy arrays. A context manager: it owns threads.

    Every verb takes and returns arrays of one dtype, float32 or float64.
    """

    device = "cpu"

    def __enter__(self) -> NativeKernels:
        self._buffers = {}
        self._team = Team().__enter__()
        return self

    def __exit__(self, *exc_info) -> None:
        self._team.__exit__(*exc_info)

    def _buffer(self, name, shape, dtype):
        """Memory that the same verb fills anew at each call: fresh pages cost time."""
        key = name, shape, np.dtype(dtype)
        if key not in self._buffers:
            self._buffers[key] = np.empty(shape, dtype)
        return self._buffers[key]

    # ----------------------------------------------------------------- arrays
    def asarray(self, x):
        """The array that the kernels read: C-contiguous."""
        return np.ascontiguousarray(x)

    def to_numpy(self, x):
        """Back to NumPy."""
        return np.asarray(x)

    def exp(self, x):
        return np.exp(x)

    def energies(self, X):
        """Squared norms of the rows of X, as a float64 NumPy array."""
        return _energies(X)

    def count(self, indices, values, n_components):
        """How many rows use each atom, as a NumPy array of shape (p,)."""
        # A pursuit may pick an atom twice in a row; sorting would cost more than it
        # would change what the counts are for.
        return np.bincount(indices[values != 0], minlength=n_components)

    # --------------------------------------------------------- choosing atoms
    def gram(self, W):
        """W @ W.T, shape (p, p)."""
        p, d = W.shape
        G = self._buffer("gram", (p, p), W.dtype)

        def tile(start, stop):
            np.matmul(W[start:stop], W[:stop].T, out=G[start:stop, :stop])
            loops.mirror_lower(G, start, stop)

        # The last tile of the triangle is the dearest: start with it.
        height = 128
        n_tiles = -(-p // height)
        self._team.share(
            lambda a, b: tile((n_tiles - b) * height, min((n_tiles - a) * height, p)),
            n_tiles,
            height * p * d / 2,
            chunk=1,
        )
        return G

    def matching_pursuit(self, X, W, G, k, *, tol, threshold, positive, atol=0.0, once=False):
        """Matching pursuit with k steps, for every row of X.

        Parameters
        ----------
        X : (n, d) rows
        W : (p, d) atoms; of any norm: the value of a step is <w, r>
        G : (p, p) Gram matrix, or None to work on residuals instead of correlations
        k : steps
        tol : a row stops once its squared residual is at most tol times its energy
        threshold : a row stops before an atom whose correlation is no larger
        atol : a row stops after the first atom that leaves at most so much energy, by the
            residual itself: updated correlations would not tell a small one
        once : a row stops after an atom that it had already
        positive : choose the largest correlation, else the largest in magnitude

        Returns
        -------
        indices : (n, k) int32
        values : (n, k)
            Unused slots hold index 0 and value 0.
        """
        late = _late(k, atol, X)
        if G is None:
            codes = self._residual_pursuit(X, W, k, tol, threshold, late, positive, once)
        else:
            rows, sweeps = loops.pursue_rows, k
            stop = tol, threshold, late
            codes = self._gram_pursuit(rows, X, W, G, k, sweeps, stop, positive, once)
        return self._ended(X, W, *codes, atol)

    def orthogonal_pursuit(self, X, W, G, k, *, tol, threshold, positive, atol=0.0):
        """Orthogonal matching pursuit; as `matching_pursuit`, with unit-norm atoms.

        Energies are known to rounding errors of the row's, for `atol` too.
        """
        rows = loops.orthogonal_rows_positive if positive else loops.orthogonal_rows
        return self._gram_pursuit(rows, X, W, G, k, k * k / 2, (tol, threshold, (atol, 0.0)))

    def _ended(self, X, W, indices, values, atol):
        """Codes of a matching pursuit up to the one that comes within atol."""
        if atol:
            self._team.share(
                lambda a, b: loops.end_rows(X[a:b], W, atol, indices[a:b], values[a:b]),
                len(X),
                2 * indices.shape[1] * X.shape[1],
            )
        return indices, values

    def _gram_pursuit(self, rows, X, W, G, k, sweeps, stop, *options):
        n, p = len(X), len(W)
        indices, values = _empty_codes(n, k, X)

        def work(a, b):
            C = X[a:b] @ W.T
            energy = _energies(X[a:b])
            stops = _stops(energy, *stop, X)
            rows(C, G, energy, *stops, k, *options, indices[a:b], values[a:b])

        self._team.share(work, n, p * (X.shape[1] + sweeps), chunk=_chunk(p, X))
        return indices, values

    def _residual_pursuit(self, X, W, k, tol, threshold, late, positive, once):
        n, p = len(X), len(W)
        indices, values = _empty_codes(n, k, X)
        weights = _energies(W)

        def work(a, b):
            R = X[a:b].copy()
            remaining = _energies(R)
            stops = _stops(remaining, tol, threshold, late, X)
            for t in range(k):
                C = R @ W.T
                i, v = indices[a:b, t], values[a:b, t]
                loops.pick_rows(C, remaining, *stops, positive, i, v)
                if not v.any():
                    break
                R -= v[:, None] * W[i]
                remaining -= np.square(v, dtype=np.float64) * (2 - weights[i])
                if once:
                    again = (indices[a:b, :t] == i[:, None]).any(axis=1)
                    remaining[again] = -np.inf

        self._team.share(work, n, p * X.shape[1] * k, chunk=_chunk(p, X))
        return indices, values

    def blocked_pursuit(self, X, W, k, *, tol, threshold, positive, atol=0.0, once=False):
        """`matching_pursuit` by rows of the Gram matrix, each once an atom is first chosen.

        For dictionaries whose Gram matrix would not fit. Many rows of X go on together,
        each until it takes an atom whose row is missing; then the missing ones are
        multiplied at once. They stay until their memory is full.
        """
        gram = GramRows(self._team, W, self._demanded(W, W.dtype))
        stop = tol, threshold, _late(k, atol, X)
        codes = self._pursue_on_demand(gram, X, W, k, stop, positive, once)
        return self._ended(X, W, *codes, atol)

    def coarse_pursuit(self, X, W, k, *, tol, threshold, positive, atol=0.0, once=False):
        """`matching_pursuit` that chooses atoms by correlations in bfloat16.

        Values are exact, in X's dtype, along the atoms chosen. Atoms whose correlations
        bfloat16 cannot tell apart are told apart by their exact ones, up to 16 of them; a
        row stops where what is left of it is below what bfloat16 can tell.
        """
        gram = CoarseGramRows(self._team, W, self._demanded(W, np.uint16))
        if gram.holds_all and len(X) * k > len(W):
            gram.fetch_all()
        stop = tol, threshold, _late(k, atol, X)
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
        weights = _energies(W)
        size = max(1, min(n, WAITING_BYTES // (p * gram.dtype.itemsize)))
        for rows in gen_batches(n, size):
            R = X[rows].copy() if gram.coarse else X[rows]
            C = self._buffer("waiting", (size, p), gram.dtype)[: len(R)]
            gram.correlate(R, C)
            remaining = _energies(R)
            stops = _stops(remaining, *stop, X)
            state = R, C, remaining, *stops, indices[rows], values[rows]
            self._advance(gram, W, weights, state, k, positive, once)
        return indices, values

    def _advance(self, gram, W, weights, state, k, positive, once):
        """Take rows of X to the end of their pursuit."""
        steps = np.zeros(len(state[0]), np.int32)

        def work(a, b):
            R, C, remaining, floor, least, indices, values = (x[a:b] for x in state)
            loops.advance_rows(
                *(R, W, C, gram.rows, gram.place, weights),
                *(remaining, floor, least, k, positive, once, gram.coarse),
                *(steps[a:b], indices, values),
            )

        while True:
            self._team.share(work, len(steps), len(W) * k, chunk=_WAITING_ROWS)
            waiting = np.flatnonzero(steps > 0)
            if not len(waiting):
                return
            indices = state[-2]
            gram.fetch(np.unique(indices[waiting, steps[waiting] - 1]))

    def top_k(self, X, W, bias, k, *, positive):
        """The k largest entries (in magnitude unless `positive`) of each row of X @ W.T + bias.

        Sorted from the largest down; with `positive`, only those above zero.
        """
        n, p = len(X), len(W)
        indices, values = _empty_codes(n, k, X)

        def work(a, b):
            C = X[a:b] @ W.T
            C += bias
            loops.top_rows(C, k, positive, indices[a:b], values[a:b])

        self._team.share(work, n, p * X.shape[1], chunk=_chunk(p, X))
        return indices, values

    def above(self, X, W, bias, floor):
        """The entries of each row of X @ W.T + bias above their atom's floor, (p,), >= 0.

        Returns
        -------
        indices, values : (n, s)
            In no order. s is the largest number that a row has, but at least 1; unused
            slots hold index 0 and value 0.
        """
        return _slots(*self._above(X, W, bias, floor))

    def above_in_parts(self, X, W, bias, floor):
        """`above`, yielded for some rows after the others.

        A row with many entries makes those of its part wide, not those of all rows.
        """
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
            C = X[a:b] @ W.T
            C += bias
            parts[a // chunk] = _entries(C, floor)

        self._team.share(work, n, p * X.shape[1], chunk=chunk)
        return tuple(map(np.concatenate, zip(*parts, strict=True)))

    def batch_top_k(self, X, W, bias, n_codes, level=0.0):
        """The `n_codes` largest entries above zero of the whole of X @ W.T + bias.

        Entries that equal the smallest of these are among them.

        Returns
        -------
        indices, values : (n, s)
            As from `above`.
        smallest, next_one : float
            The smallest of these entries, and the largest of the others above zero; 0 where
            there is none.
        n_above : int
            How many of all entries are above `level`.
        """
        n, p = len(X), len(W)
        C = self._buffer("batch", (n, p), X.dtype)
        n_above = [0] * n

        def work(a, b):
            np.matmul(X[a:b], W.T, out=C[a:b])
            C[a:b] += bias
            n_above[a] = np.count_nonzero(C[a:b] > level)

        self._team.share(work, n, p * X.shape[1], chunk=_chunk(p, X))
        rank = max(0, n * p - n_codes)
        ordered = np.partition(C, rank, axis=None)
        smallest, others = max(ordered[rank], C.dtype.type(0)), ordered[:rank]
        if rank and others.max() == smallest:
            others = others[others < smallest]
        next_one = max(others.max(initial=0), C.dtype.type(0))
        entries = _entries(C, np.nextafter(smallest, C.dtype.type(-1)))
        return *_slots(*entries), float(smallest), float(next_one), sum(n_above)

    def by_size(self, indices, values):
        """The slots of each row from the largest value down."""
        order = np.argsort(-values, axis=1, kind="stable")
        return np.take_along_axis(indices, order, 1), np.take_along_axis(values, order, 1)

    # ---------------------------------------------------------- valuing atoms
    def decode(self, indices, values, W):
        """Sum over t of values[:, t] * W[indices[:, t]], shape (n, d)."""
        (n, k), d = indices.shape, W.shape[1]
        out = np.zeros((n, d), W.dtype)
        self._team.share(
            lambda a, b: loops.decode_rows(indices[a:b], values[a:b], W, out[a:b]), n, k * d
        )
        return out

    def gather_dot(self, R, W, indices):
        """<R[r], W[indices[r, t]]> for every slot, shape (n, k)."""
        (n, k), d = indices.shape, W.shape[1]
        out = np.empty((n, k), W.dtype)
        self._team.share(
            lambda a, b: loops.dot_rows(R[a:b], W, indices[a:b], out[a:b]), n, k * d
        )
        return out

    def scatter_outer(self, indices, values, R, n_components):
        """Sum over rows r and slots t of values[r, t] * R[r] in row indices[r, t]: (p, d)."""
        (n, k), d = indices.shape, R.shape[1]
        out = np.zeros((n_components, d), R.dtype)
        self._team.share(
            lambda a, b: loops.scatter_columns(indices, values, R, out, a, b), d, n * k
        )
        return out

    def pursuit_gradient(self, X, W, indices, values):
        """Residuals of the unrolled pursuit, and the gradient of half their energy.

        With r a row's residual after the last step, start from lam = r and go back,
        t = k .. 1, w = W[i_t], v = v_t::

            a = <lam, w>;  r += v w;  dW[i_t] -= a r + v lam;  lam -= a w

        This is the exact derivative through every step, for atoms of any norm, and it
        needs nothing of the forward pass but the codes. Rows share atoms, so dW is summed
        feature by feature: each thread owns a range of columns, and the order of the sums
        does not depend on the number of threads.

        Returns
        -------
        R : (n, d) residuals
        gradient : (p, d)
        """
        (n, k), d = indices.shape, W.shape[1]
        R = self._buffer("residual", X.shape, X.dtype)
        adjoint = self._buffer("adjoint", (n, k), X.dtype)
        gradient = self._buffer("gradient", W.shape, W.dtype)
        gradient[:] = 0
        self._team.share(
            lambda a, b: loops.adjoint_rows(
                X[a:b], W, indices[a:b], values[a:b], R[a:b], adjoint[a:b]
            ),
            n,
            3 * k * d,
        )
        self._team.share(
            lambda a, b: loops.gradient_columns(R, W, indices, values, adjoint, gradient, a, b),
            d,
            2 * n * k,
        )
        return R, gradient

    # --------------------------------------------------------------- stepping
    def adam_step(self, W, gradient, mean, square, rates, *, sphere, max_norm=np.inf):
        """One step of Adam on W, `mean` and `square`, in place, one step size per row.

        Adam (Kingma and Ba 2015) divides each coordinate by the root of its own second
        moment; here all coordinates of an atom share one, as a Riemannian method must
        (Becigneul and Ganea 2019), so that rotating data and atoms rotates the step. A
        row moves by at most about the step size, whatever its length and the data's scale.

        Parameters
        ----------
        W, gradient, mean : (p, d)
        square : (p,)
        rates : step size, beta1, beta2, bias correction of the mean and of the square
        sphere : rows are points of the unit sphere; their gradient is projected on its
            tangent before the step, and they are normalised after it
        max_norm : longer rows are scaled back to this norm
        """
        p, d = W.shape
        rates = np.asarray(rates, W.dtype)
        max_norm = W.dtype.type(max_norm)
        self._team.share(
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


def _late(k, atol, X):
    """An absolute floor, and by how much of a row's energy it may be missed after k steps.

    The account of what a row has left is known to that; its last codes are then given up
    by what is left itself.
    """
    return atol, 4 * k * float(np.finfo(X.dtype).eps)


def _stops(energy, tol, threshold, late, X):
    """Where rows stop: once their squared residual is no more than the first array, or
    before an atom whose squared correlation is no more than the second.

    Without a floor a row never stops by its residual, the account of which has rounding
    errors, but where its correlations drown in theirs.

    late : an absolute floor, and by how much of its energy a row may be late for it
    """
    floor = tol * energy if tol else np.full_like(energy, -np.inf)
    atol, share = late
    if atol:
        # Below what the row starts with, so that it has one atom.
        enough = np.minimum(atol - share * energy, _BELOW * energy)
        floor = np.maximum(floor, enough)
    noise = (4 * float(np.finfo(X.dtype).eps)) ** 2
    return floor, np.maximum(noise * energy, threshold**2)


def _chunk(p, X):
    return max(_LEAST_CHUNK_ROWS, min(_CHUNK_ROWS, _CHUNK_BYTES // (p * X.itemsize)))

"""Rows of a dictionary's Gram matrix, multiplied once they are asked for."""

from __future__ import annotations

import numpy as np

from ..._optional import torch_for
from . import loops
from .products import correlations

# Products are cut in tiles of so many rows and atoms, whatever the number of threads.
_TILE_ROWS = 512
_TILE_ATOMS = 512


class GramRows:
    """Some rows of W @ W.T, as many as there is memory for.

    Parameters
    ----------
    team : Team
    W : (p, d) atoms
    rows : (capacity, p)
        The memory.

    Attributes
    ----------
    place : (p,) int32
        Where in `rows` the row of each atom lies; -1 where it is missing.
    """

    coarse = False

    def __init__(self, team, W, rows):
        self._team = team
        self._atoms = W
        self.rows = rows
        self.place = np.full(len(W), -1, np.int32)
        self._n_held = 0

    @property
    def dtype(self):
        """That of correlations."""
        return self._atoms.dtype

    def correlate(self, X, out):
        """X @ W.T."""
        self._multiply(X, out)

    def fetch(self, atoms):
        """Have these atoms' rows, or the first ones where there is no room for all.

        Where they do not fit beside the earlier ones, those are forgotten.
        """
        if self._n_held + len(atoms) > len(self.rows):
            self.place[:] = -1
            self._n_held = 0
            atoms = atoms[: len(self.rows)]
        held = slice(self._n_held, self._n_held + len(atoms))
        self._multiply(self._atoms[atoms], self.rows[held])
        self.place[atoms] = np.arange(held.start, held.stop)
        self._n_held = held.stop

    def _multiply(self, A, out):
        """A @ W.T, tile by tile."""
        W, (p, d) = self._atoms, self._atoms.shape
        tiles = [
            (slice(i, i + _TILE_ROWS), slice(j, j + _TILE_ATOMS))
            for j in range(0, p, _TILE_ATOMS)
            for i in range(0, len(A), _TILE_ROWS)
        ]

        def work(a, _):
            i, j = tiles[a]
            self._tile(A[i], W[j], out[i, j])

        cost = min(len(A), _TILE_ROWS) * min(p, _TILE_ATOMS) * d
        self._team.run(work, len(tiles), cost, chunk=1)

    def _tile(self, A, B, out):
        correlations(A, B, out)


class CoarseGramRows(GramRows):
    """The same in bfloat16, which is kept as uint16; correlations are float32.

    torch multiplies, in the threads of the team, each of them alone: its own threads
    would go on spinning on the cores that the loops after them need.
    """

    coarse = True
    dtype = np.dtype(np.float32)

    def __init__(self, team, W, rows):
        super().__init__(team, W, rows)
        self._atoms = self._rounded(W)
        self._product = products()

    @property
    def holds_all(self):
        """Whether there is room for all rows."""
        return len(self.rows) == len(self._atoms)

    def correlate(self, X, out):
        self._multiply(self._rounded(X), out)

    def fetch_all(self):
        """All rows, for the price of half of them."""
        W, p, size = self._atoms, len(self._atoms), _TILE_ROWS
        starts = range(0, p, size)
        tiles = [(slice(i, i + size), slice(j, j + size)) for i in starts for j in starts]
        tiles = [(i, j) for i, j in tiles if j.start <= i.start]

        def work(a, _):
            i, j = tiles[a]
            self._product(W[i], W[j], self.rows[i, j], self.rows[j, i])

        self._team.run(work, len(tiles), min(p, size) ** 2 * W.shape[1], chunk=1)
        self.place[:] = np.arange(p)
        self._n_held = p

    def _tile(self, A, B, out):
        if out.dtype == np.uint16:
            self._product(A, B, out)
        else:
            bits = np.empty(out.shape, np.uint16)
            self._product(A, B, bits)
            loops.expand_rows(bits, out)

    def _rounded(self, A):
        out = np.empty(A.shape, np.uint16)
        self._team.run(lambda a, b: loops.round_rows(A[a:b], out[a:b]), len(A), 2 * A.shape[1])
        return out


def products():
    """A @ B.T in bfloat16, by torch on one thread; into `out`, and transposed into another."""
    from threadpoolctl import ThreadpoolController

    torch = torch_for("precision='bfloat16'")
    # torch takes as many threads as OpenMP allows the thread that calls it.
    openmp = ThreadpoolController().select(user_api="openmp")
    fast = has_bfloat16()

    def tensor(bits):
        return torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)

    def product(A, B, out, transposed=None):
        A, B = tensor(A), tensor(B)
        torch.get_num_threads()  # a new thread's first call sets its number of threads
        with openmp.limit(limits=1):
            # Without it torch would multiply number by number.
            C = A @ B.T if fast else (A.float() @ B.float().T).bfloat16()
            tensor(out).copy_(C)
            if transposed is not None:
                tensor(transposed).copy_(C.T)

    return product


def has_bfloat16():
    """Whether torch can multiply matrices in bfloat16 at speed here."""
    import torch

    if not torch.backends.mkldnn.is_available():
        return False
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()

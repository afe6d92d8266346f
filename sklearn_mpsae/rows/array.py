"""Rows that can be read in any order: of arrays and sparse matrices."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np

from ..coding.inputs import computed_dtype
from .sizes import block_rows, check_finite, chunk_rows, pool_rows


class Addressable:
    """`Rows` that can be read in any order. A child gives `read` and `take`.

    Rows that fit in one pool are shuffled as a whole. More rows are cut in blocks of
    neighbours: a pool is some blocks, drawn at random and read in the order of the file, and
    its rows are shuffled. The order depends on the shape and the dtype of the data only: a
    file is learnt from exactly as the same rows in memory are.
    """

    in_memory = True
    one_pass = False
    on_read: Callable[[int], None] | None = None
    # How rows are shuffled. Another order needs another name: checkpoints have it.
    order = "by row number"

    def __init__(self, shape, dtype):
        self.n_rows, self.n_features = shape
        self.dtype = computed_dtype(dtype)

    def computed_in(self, dtype):
        """The same rows, in another dtype.

        Parameters
        ----------
        dtype : dtype
            The one to compute in, float32 or float64.

        Returns
        -------
        rows : source
            One that shares what it can with this.
        """
        other = copy.copy(self)
        other.dtype = np.dtype(dtype)
        return other

    def survey(self):
        """The rows that the data's mean and scale are taken from: all.

        Returns
        -------
        chunks : iterator of ndarray of shape (n, n_features)
            As `chunks` yields them.
        """
        return self.chunks()

    def chunks(self) -> Iterator[np.ndarray]:
        """The rows in order, some thousand at a time.

        Yields
        ------
        rows : ndarray of shape (n, n_features)
            New arrays, found to be finite.
        """
        n = chunk_rows(self)
        for start in range(0, self.n_rows, n):
            rows = self.read(start, min(start + n, self.n_rows))
            check_finite(rows, start)
            if self.on_read is not None and not self.in_memory:
                self.on_read(len(rows))
            yield rows

    def pools(self, random_state, skip=0) -> Iterator[tuple[np.ndarray, Callable]]:
        """The rows in a new order, but for the first `skip` of them.

        Parameters
        ----------
        random_state : RandomState
            Draws the order.
        skip : int, default=0
            How many rows of that order to leave out.

        Yields
        ------
        order : ndarray of shape (n,), int
            The order of the rows of a pool.
        take : callable
            Takes a part of that order, and gives a new array of those rows.
        """
        together = pool_rows(self)
        if self.n_rows <= together:
            order = random_state.permutation(self.n_rows)
            yield order[skip:], self._held().take
            return
        block = block_rows(self)
        blocks = random_state.permutation(-(-self.n_rows // block))
        seed = random_state.randint(2**31 - 1)
        per_pool = max(1, together // block)
        for i, start in enumerate(range(0, len(blocks), per_pool)):
            starts = block * np.sort(blocks[start : start + per_pool])
            stops = np.minimum(starts + block, self.n_rows)
            n = int((stops - starts).sum())
            if skip < n:
                order = np.random.RandomState([seed, i]).permutation(n)
                yield order[skip:], self._pool(starts, stops)
            skip = max(0, skip - n)

    def _held(self):
        """The same source in memory."""
        return self

    def _pool(self, starts, stops):
        """Rows of these ranges, by their number within the pool."""
        rows = np.concatenate(list(map(np.arange, starts, stops)))
        return lambda order: self.take(rows[order])


class ArrayRows(Addressable):
    """The rows of an array, or of a memmap that is read as one."""

    def __init__(self, X):
        super().__init__(X.shape, X.dtype)
        self.X = X

    def read(self, start, stop):
        return np.ascontiguousarray(self.X[start:stop], self.dtype)

    def take(self, rows):
        return self.X[rows].astype(self.dtype, copy=False)


class SparseRows(Addressable):
    """The rows of a CSR matrix, made dense as they are read."""

    def __init__(self, X):
        super().__init__(X.shape, X.dtype)
        self.X = X

    def read(self, start, stop):
        return self.take(slice(start, stop))

    def take(self, rows):
        return self.X[rows].toarray().astype(self.dtype, copy=False)

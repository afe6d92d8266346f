"""Rows that do not fit in memory: files that are read as needed, and streams of batches.

Everything an estimator learns from or encodes becomes a *source*: something that knows
its number of features and the dtype to compute in, gives its rows in order (`chunks`),
and gives them shuffled (`pools`). Data that fit in one pool are shuffled as a whole.
Larger ones are cut in blocks of neighbouring rows; a pool is some blocks drawn at random
and read in the order of the file, and its rows are shuffled. The order depends on the
shape and the dtype of the data only: a file is learnt from exactly as the same rows in
memory are.
"""

from __future__ import annotations

import copy
import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from ._arrays import as_numpy
from .coding.checks import check_count

__all__ = ["BatchStream", "NpyFiles"]

# Rows are shuffled within so many bytes of them. One pool is in use, the next being read.
_POOL_BYTES = 256 << 20

# The rows of a pool lie side by side for so many bytes: long enough to read at full speed.
_BLOCK_BYTES = 1 << 20

# Rows are gone through so many at a time.
_CHUNK_ROWS = 8192


# --------------------------------------------------------------------------- #
# Rows that can be asked for
# --------------------------------------------------------------------------- #
class _Addressable:
    """A source whose rows can be read in any order. A child gives `read` and `take`."""

    in_memory = True
    one_pass = False

    def __init__(self, shape, dtype):
        self.n_rows, self.n_features = shape
        self.dtype = _computed_in(dtype)

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
        for start in range(0, self.n_rows, _CHUNK_ROWS):
            rows = self.read(start, min(start + _CHUNK_ROWS, self.n_rows))
            check_finite(rows, start)
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
        row = self.n_features * self.dtype.itemsize
        pool_rows = max(1, _POOL_BYTES // row)
        if self.n_rows <= pool_rows:
            order = random_state.permutation(self.n_rows)
            yield order[skip:], self._held().take
            return
        block = max(1, _BLOCK_BYTES // row)
        blocks = random_state.permutation(-(-self.n_rows // block))
        seed = random_state.randint(2**31 - 1)
        per_pool = max(1, pool_rows // block)
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


class ArrayRows(_Addressable):
    """The rows of an array, or of a memmap that is read as one."""

    def __init__(self, X):
        super().__init__(X.shape, X.dtype)
        self.X = X

    def read(self, start, stop):
        return np.ascontiguousarray(self.X[start:stop], self.dtype)

    def take(self, rows):
        return self.X[rows].astype(self.dtype, copy=False)


class SparseRows(_Addressable):
    """The rows of a CSR matrix, made dense as they are read."""

    def __init__(self, X):
        super().__init__(X.shape, X.dtype)
        self.X = X

    def read(self, start, stop):
        return self.take(slice(start, stop))

    def take(self, rows):
        return self.X[rows].toarray().astype(self.dtype, copy=False)


class _Part(NamedTuple):
    """A run of rows in a file."""

    path: str
    offset: int
    dtype: np.dtype
    n_rows: int


class NpyFiles(_Addressable):
    """The rows of one or more .npy files, read as they are needed.

    An estimator's `fit`, `partial_fit`, `transform`, `encode` and `score` take it in the
    place of X. A ``np.load(path, mmap_mode="r")`` is read in the same way.

    Parameters
    ----------
    paths : path-like or list of path-like
        Files as written by `numpy.save`, each of shape (n_samples_of_file, n_features), in
        C order, all with the same number of features. Their rows follow one another.

    Raises
    ------
    ValueError
        Where a file holds no such array. While reading: where it has become shorter.

    Examples
    --------
    >>> import numpy as np, tempfile, os
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> from sklearn_mpsae.sources import NpyFiles
    >>> folder = tempfile.TemporaryDirectory()
    >>> paths = [os.path.join(folder.name, f"shard{i}.npy") for i in range(2)]
    >>> for i, path in enumerate(paths):
    ...     np.save(path, np.random.default_rng(i).random((50, 8), dtype=np.float32))
    >>> rows = NpyFiles(paths)
    >>> rows.shape
    (100, 8)
    >>> sae = MPSparseAutoencoder(16, n_nonzero_coefs=2, max_iter=2, random_state=0)
    >>> sae.fit(rows).n_samples_seen_
    100

    What an estimator reads by: in order, or shuffled in pools.

    >>> rows.read(48, 52).shape, rows.computed_in("float64").dtype
    ((4, 8), dtype('float64'))
    >>> [chunk.shape for chunk in rows.chunks()] == [chunk.shape for chunk in rows.survey()]
    True
    >>> order, take = next(rows.pools(np.random.RandomState(0)))
    >>> take(order[:10]).shape
    (10, 8)
    >>> folder.cleanup()
    """

    in_memory = False

    def __init__(
        self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
    ) -> None:
        single = isinstance(paths, str | os.PathLike)
        arrays = [_open_npy(os.fspath(path)) for path in ([paths] if single else paths)]
        if not arrays:
            raise ValueError("paths names no file: give at least one .npy file.")
        self._set([_part(array) for array in arrays], {a.shape[1] for a in arrays})

    @classmethod
    def _of_memmap(cls, X):
        """The rows of a memmap by way of its file."""
        files = cls.__new__(cls)
        files._set([_part(X)], {X.shape[1]})
        return files

    def _set(self, parts, widths):
        if len(widths) > 1:
            raise ValueError(
                f"The files differ in their numbers of features: {sorted(widths)}."
            )
        self._parts = parts
        self._starts = np.cumsum([0, *(part.n_rows for part in parts)])
        dtype = np.result_type(*(_computed_in(part.dtype) for part in parts))
        super().__init__((int(self._starts[-1]), widths.pop()), dtype)

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of rows and of features."""
        return self.n_rows, self.n_features

    def read(self, start, stop):
        """Read the rows from `start` to before `stop`.

        Parameters
        ----------
        start, stop : int
            As of a slice.

        Returns
        -------
        rows : ndarray of shape (stop - start, n_features)
            A new array.
        """
        out = np.empty((stop - start, self.n_features), self.dtype)
        self._read_into(out, start)
        return out

    def _read_into(self, out, start):
        """Fill `out` with the rows from `start` on."""
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        at = 0
        for part, begin in zip(self._parts[first:], self._starts[first:], strict=False):
            skipped = start + at - int(begin)
            n = min(part.n_rows - skipped, len(out) - at)
            _read_part(part, skipped, out[at : at + n], int(begin))
            at += n
            if at == len(out):
                return

    def _held(self):
        # Read once, for all epochs.
        if not hasattr(self, "_array"):
            self._array = ArrayRows(self.read(0, self.n_rows))
        return self._array

    def _pool(self, starts, stops):
        rows = np.empty((int((stops - starts).sum()), self.n_features), self.dtype)
        at = 0
        for start, stop in zip(starts, stops, strict=True):
            self._read_into(rows[at : at + stop - start], start)
            at += stop - start
        return rows.__getitem__


def _open_npy(path):
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    # What a damaged header raises is not documented.
    except Exception as error:
        raise ValueError(f"{path} holds no array that can be read: {error}") from error
    if not isinstance(array, np.memmap) or array.ndim != 2 or not array.flags.c_contiguous:
        raise ValueError(
            f"{path} must hold one array of shape (n_samples, n_features) in C order: write "
            "it with np.save(path, np.ascontiguousarray(X))."
        )
    return array


def _part(X: np.memmap) -> _Part:
    """Where in its file a C-contiguous memmap, or a slice of one, lies.

    Reading the file, not the memory it is mapped to, because a file that has become
    shorter gives an error then; touching memory beyond its end kills the process.
    """
    mapped_from = X.offset - X.offset % mmap.ALLOCATIONGRANULARITY
    mapped_to = np.frombuffer(X._mmap, np.uint8).ctypes.data
    return _Part(
        os.fspath(X.filename), mapped_from + X.ctypes.data - mapped_to, X.dtype, len(X)
    )


def _read_part(part, start, out, begin):
    """Fill `out` with rows of a file; `begin` is the number of its first row in all."""
    raw = out if part.dtype == out.dtype else np.empty(out.shape, part.dtype)
    row_bytes = raw.shape[1] * raw.itemsize
    with open(part.path, "rb", buffering=0) as file:
        file.seek(part.offset + start * row_bytes)
        view = memoryview(raw).cast("B")
        done = 0
        while done < len(view):
            n = file.readinto(view[done:])
            if not n:
                row = begin + start + done // row_bytes
                raise ValueError(
                    f"{part.path} has become shorter while it was read: row {row} of X is "
                    f"missing or cut, and it had {part.n_rows} rows when it was opened."
                )
            done += n
    if raw is not out:
        out[:] = raw


# --------------------------------------------------------------------------- #
# Rows that come
# --------------------------------------------------------------------------- #
class BatchStream:
    """Rows that come in batches: from a DataLoader, a generator, a network.

    An estimator's `fit`, `partial_fit`, `transform`, `encode` and `score` take it in the
    place of X. How the rows are batched does not matter to the training, which makes
    batches of its own `batch_size`.

    Parameters
    ----------
    batches : iterable, or function that returns one
        Gives arrays, CSR matrices or torch tensors of shape (n, n_features), of any n, or
        single rows of shape (n_features,); of tuples, the first element is taken. Each
        pass over the data goes through it anew, so a `torch.utils.data.DataLoader` or
        `Dataset` will do, and a list, and a function that makes a generator.
    n_samples : int, default=None
        The number of rows of one pass; a stream that has more, or never ends, is left
        there. The mean and the scale of the data are then taken from the first rows (256
        MB of them), and a `fit` with ``max_iter=1`` reads the stream once. None: the rows
        are counted, and their mean and scale taken, in a pass before the training.
    shuffle : bool, default=True
        Whether to shuffle rows within buffers of 256 MB.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> from sklearn_mpsae.sources import BatchStream
    >>> def activations():
    ...     rng = np.random.default_rng(0)
    ...     while True:
    ...         yield rng.random((100, 8), dtype=np.float32)
    >>> sae = MPSparseAutoencoder(16, n_nonzero_coefs=2, max_iter=1, random_state=0)
    >>> sae.fit(BatchStream(activations, n_samples=1000)).n_samples_seen_
    1000
    """

    def __init__(
        self,
        batches: Iterable[Any] | Callable[[], Iterable[Any]],
        n_samples: int | None = None,
        *,
        shuffle: bool = True,
    ) -> None:
        if n_samples is not None:
            check_count(n_samples, "n_samples")
        self.batches = batches
        self.n_samples = n_samples
        self.shuffle = shuffle


class StreamRows:
    """The rows of a `BatchStream`, for one call of an estimator."""

    in_memory = False

    def __init__(self, stream: BatchStream) -> None:
        self.batches, self.shuffle = stream.batches, stream.shuffle
        self.n_rows = stream.n_samples
        self.one_pass = hasattr(self.batches, "__next__")
        if self.one_pass and self.n_rows is None:
            raise ValueError(
                "batches is an iterator, which can be gone through only once: pass its "
                "n_samples, or something that starts anew (a list, a DataLoader, a function "
                "that returns an iterator)."
            )
        # What has been read ahead: it comes first when the rows are gone through.
        self._ahead, self._rest = [], None
        first = self._read_ahead()
        if first is None:
            raise ValueError("batches gives no rows.")
        self.n_features = first.shape[1]
        self.dtype = _computed_in(first.dtype)

    def computed_in(self, dtype):
        """Itself, computed in another dtype."""
        self.dtype = np.dtype(dtype)
        return self

    def _read_ahead(self):
        """One more batch from the start of the stream, kept; None at its end."""
        if self._rest is None:
            self._rest = iter(_iterator(self.batches))
        item = next(self._rest, None)
        if item is not None:
            item = _batch(item, sum(map(len, self._ahead)))
            self._ahead.append(item)
        return item

    def survey(self):
        if self.n_rows is not None:
            row = self.n_features * self.dtype.itemsize
            wanted = min(self.n_rows, max(1, _POOL_BYTES // row))
            while sum(map(len, self._ahead)) < wanted and self._read_ahead() is not None:
                pass
            return self._checked(list(self._ahead), wanted)
        return self._counted()

    def _counted(self):
        n = 0
        for batch in self._checked(self._pass()):
            n += len(batch)
            yield batch
        self.n_rows = n

    def chunks(self):
        """The rows in order, some thousand at a time.

        Yields
        ------
        rows : ndarray of shape (n, n_features)
            New arrays, found to be finite.
        """
        return _gathered(self._checked(self._pass(), self.n_rows), _CHUNK_ROWS)

    def pools(self, random_state, skip=0):
        row = self.n_features * self.dtype.itemsize
        pool_rows = max(1, _POOL_BYTES // row)
        seed = random_state.randint(2**31 - 1)
        for i, rows in enumerate(_gathered(self.chunks(), pool_rows)):
            if skip < len(rows):
                order = np.arange(len(rows))
                if self.shuffle:
                    order = np.random.RandomState([seed, i]).permutation(len(rows))
                yield order[skip:], rows.__getitem__
            skip = max(0, skip - len(rows))

    def _pass(self):
        """All batches, those first that have been read already."""
        ahead, rest = self._ahead, self._rest
        self._ahead, self._rest = [], None
        if rest is None:
            rest = _iterator(self.batches)
        yield from ahead
        at = sum(map(len, ahead))
        for item in rest:
            batch = _batch(item, at)
            yield batch
            at += len(batch)

    def _checked(self, batches, n_rows=None):
        """Batches of finite rows, no more than `n_rows` and no fewer."""
        at = 0
        for batch in batches:
            if batch.shape[1] != self.n_features:
                raise ValueError(
                    f"The batch at row {at} of the stream has {batch.shape[1]} features, the "
                    f"first one had {self.n_features}."
                )
            batch = batch[: None if n_rows is None else n_rows - at]
            batch = np.ascontiguousarray(batch, self.dtype)
            check_finite(batch, at)
            yield batch
            at += len(batch)
            if at == n_rows:
                return
        if n_rows is not None:
            raise ValueError(
                f"The stream ended after {at} rows of the n_samples={n_rows} it was to have: "
                "pass the number it has, or let batches start anew at each pass."
            )


def _iterator(batches):
    return batches() if callable(batches) else batches


def _batch(item, at):
    """What a stream gave at row `at`, as an array of rows."""
    item = as_numpy(item[0] if isinstance(item, tuple | list) else item)
    X = item.toarray() if sparse.issparse(item) else np.asarray(item)
    X = X[None] if X.ndim == 1 else X
    if X.ndim != 2 or X.dtype.kind not in "fiub":
        raise ValueError(
            f"The stream gave, at row {at}, an array of shape {X.shape} and dtype {X.dtype}: "
            "it must give numbers, rows of shape (n_features,) or batches of shape "
            "(n, n_features)."
        )
    return X


def _gathered(batches, n_rows):
    """Batches put together until they have `n_rows` rows."""
    parts, n, batches, error = [], 0, iter(batches), None
    while error is None:
        try:
            parts.append(next(batches))
            n += len(parts[-1])
        except Exception as caught:  # what came before it is not lost
            error = caught
        if n >= n_rows or (n and error):
            yield np.concatenate(parts)
            parts, n = [], 0
    if not isinstance(error, StopIteration):
        raise error


# --------------------------------------------------------------------------- #
def file_rows(X: np.memmap):
    """The rows of a memmap: read from its file, or where that may differ, as an array."""
    in_file = X.filename is not None and X.mode in ("r", "r+") and X.flags.c_contiguous
    return NpyFiles._of_memmap(X) if in_file else ArrayRows(X)


def check_finite(X: np.ndarray, first_row: int) -> None:
    """Raise a ValueError that names the first row with NaN or infinity, if there is one."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(X.sum()):
            return
    bad = np.flatnonzero(~np.isfinite(X).all(axis=1))
    if len(bad):
        raise ValueError(
            f"Row {first_row + bad[0]} of X contains NaN or infinity (the first such row): "
            "remove or mend it."
        )


def _computed_in(dtype) -> np.dtype:
    """The dtype to compute in: float32 where that holds all values of a float dtype."""
    dtype = np.dtype(dtype)
    if dtype.kind not in "fiub":
        raise ValueError(f"X must hold real numbers, got dtype {dtype}.")
    return np.dtype(np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64)


# What an estimator learns from or encodes, for type checkers: arrays, data frames and sparse
# matrices, or sources.
RowsLike = ArrayLike | sparse.sparray | sparse.spmatrix | BatchStream | NpyFiles

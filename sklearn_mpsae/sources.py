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
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from ._array_api import NoArray
from ._batches import OF_LISTS, opened, rows_of
from ._compat import feature_names
from .coding.checks import check_count
from .coding.inputs import computed_dtype

__all__ = ["BatchStream", "NpyFiles"]

# Rows are shuffled within so many bytes of them. One pool is in use, the next being read.
_POOL_BYTES = 256 << 20

# Where a stream is shuffled within less, its mean and scale are those of so many bytes still.
_LEAST_BYTES = 16 << 20

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
        n = _chunk_rows(self)
        for start in range(0, self.n_rows, n):
            rows = self.read(start, min(start + n, self.n_rows))
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
        pool_rows = _pool_rows(self)
        if self.n_rows <= pool_rows:
            order = random_state.permutation(self.n_rows)
            yield order[skip:], self._held().take
            return
        block = _rows_in(_BLOCK_BYTES, self)
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
    header: bytes = b""
    """What the file begins with; nothing where that is not known."""
    stamp: tuple[int, int] | None = None
    """The file's size and time when the call that reads it began."""


class NpyFiles(NoArray, _Addressable):
    """The rows of one or more .npy files, read as they are needed.

    An estimator's `fit`, `partial_fit`, `transform`, `encode` and `score` take it in the
    place of X. A ``np.load(path, mmap_mode="r")`` is read in the same way.

    Each call reads the files anew, and keeps nothing of them: new rows of the same shape and
    dtype are seen. Files of another shape or dtype are refused, and are to be opened again.

    Parameters
    ----------
    paths : path-like or list of path-like
        Files as written by `numpy.save`, each of shape (n_samples_of_file, n_features), in
        C order, all with the same number of features. Their rows follow one another; files
        without rows are left out.

    Raises
    ------
    ValueError
        Where a file holds no such array. While reading: where it has changed its shape or
        dtype, has become shorter, or is written to.

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
    _instead = "NpyFiles.read(0, n) gives the first n"

    def __init__(
        self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
    ) -> None:
        single = isinstance(paths, str | os.PathLike)
        if not single and not isinstance(paths, Iterable):
            raise ValueError(f"paths must be a path or a list of them, got {paths!r}.")
        arrays = [_open_npy(os.fspath(path)) for path in ([paths] if single else paths)]
        if not arrays:
            raise ValueError("paths names no file: give at least one .npy file.")
        arrays = [array for array in arrays if len(array)] or arrays[:1]
        widths = {array.shape[1] for array in arrays}
        if len(widths) > 1:
            raise ValueError(
                f"The files differ in their numbers of features: {sorted(widths)}."
            )
        self._set([_part(array, header=True) for array in arrays], widths.pop())

    def _set(self, parts, n_features):
        self._parts = parts
        self._starts = np.cumsum([0, *(part.n_rows for part in parts)])
        dtype = np.result_type(*(computed_dtype(part.dtype) for part in parts))
        super().__init__((int(self._starts[-1]), n_features), dtype)

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
            A new array; of fewer rows where the files end before `stop`.
        """
        start, stop, _ = slice(start, stop).indices(self.n_rows)
        out = np.empty((max(0, stop - start), self.n_features), self.dtype)
        if len(out):
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
        return ArrayRows(self.read(0, self.n_rows))

    def _pool(self, starts, stops):
        rows = np.empty((int((stops - starts).sum()), self.n_features), self.dtype)
        at = 0
        for start, stop in zip(starts, stops, strict=True):
            self._read_into(rows[at : at + stop - start], start)
            at += stop - start
        return rows.__getitem__


class FileRows(NpyFiles):
    """The rows of files, for one call of an estimator.

    Files that fit in a pool are read once for all passes, and go with the call.
    """

    def __init__(self, parts, n_features):
        stamps = [_stamp(os.stat(part.path)) for part in parts]
        parts = [part._replace(stamp=stamp) for part, stamp in zip(parts, stamps, strict=True)]
        self._set(parts, n_features)
        self._array = None

    def computed_in(self, dtype):
        other = super().computed_in(dtype)
        other._array = None
        return other

    def survey(self):
        return (self._held() if self.n_rows <= _pool_rows(self) else self).chunks()

    def _held(self):
        if self._array is None:
            self._array = super()._held()
        return self._array


def _open_npy(path):
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    # What a damaged header raises is not documented.
    except Exception as error:
        # NumPy takes all that it does not know for a pickle, and says how to load one.
        reason = "it is no .npy file" if "allow_pickle" in str(error) else error
        raise ValueError(f"{path} holds no array that can be read: {reason}") from error
    if not isinstance(array, np.memmap) or array.ndim != 2 or not array.flags.c_contiguous:
        raise ValueError(
            f"{path} must hold one array of shape (n_samples, n_features) in C order: write "
            "it with np.save(path, np.ascontiguousarray(X))."
        )
    if len(array) and not array.size:
        raise ValueError(f"{path} holds {len(array)} rows of no features: leave it out.")
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{path} must hold real numbers, it has dtype {array.dtype}.")
    return array


def _part(X: np.memmap, *, header: bool = False) -> _Part:
    """Where in its file a C-contiguous memmap, or a slice of one, lies.

    Reading the file, not the memory it is mapped to, because a file that has become
    shorter gives an error then; touching memory beyond its end kills the process.
    """
    mapped_from = X.offset - X.offset % mmap.ALLOCATIONGRANULARITY
    mapped_to = np.frombuffer(X._mmap, np.uint8).ctypes.data
    path, offset = os.fspath(X.filename), mapped_from + X.ctypes.data - mapped_to
    begins = b""
    if header:
        with open(path, "rb") as file:
            begins = file.read(offset)
    return _Part(path, offset, X.dtype, len(X), begins)


def _stamp(stat):
    return stat.st_size, stat.st_mtime_ns


def _read_part(part, start, out, begin):
    """Fill `out` with rows of a file; `begin` is the number of its first row in all."""
    raw = out if part.dtype == out.dtype else np.empty(out.shape, part.dtype)
    row_bytes = raw.shape[1] * raw.itemsize
    with open(part.path, "rb", buffering=0) as file:
        _check_unchanged(part, file)
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
        with np.errstate(over="ignore"):  # what is not finite then is found
            out[:] = raw


def _check_unchanged(part, file):
    """Refuse a file that is not what was opened, or is written to while a call reads it."""
    if file.read(len(part.header)) != part.header:
        raise ValueError(
            f"{part.path} has changed since it was opened, and now holds an array of another "
            "shape or dtype, or none: open it again, with a new NpyFiles."
        )
    if part.stamp is not None and _stamp(os.fstat(file.fileno())) != part.stamp:
        raise ValueError(
            f"{part.path} has changed while it was read: call again when it is written."
        )


# --------------------------------------------------------------------------- #
# Rows that come
# --------------------------------------------------------------------------- #
class BatchStream(NoArray):
    """Rows that come in batches: from a DataLoader, a generator, a network.

    An estimator's `fit`, `partial_fit`, `transform`, `encode` and `score` take it in the
    place of X. How the rows are batched does not matter to the training, which makes
    batches of its own `batch_size`.

    Parameters
    ----------
    batches : iterable, or function that returns one
        Gives batches, as below. Each pass over the data goes through it anew, so a
        `torch.utils.data.DataLoader` or `Dataset` will do, and a list, and a function that
        makes a generator.
    n_samples : int, default=None
        The number of rows of one pass; a stream that has more, or never ends, is left
        there, and the rest of its batch is dropped. The mean and the scale of the data are
        then taken from the first rows (256 MB of them), and a `fit` with ``max_iter=1``
        reads the stream once. None: the rows are counted, and their mean and scale taken,
        in a pass before the training.
    shuffle : bool, default=True
        Whether to shuffle rows within buffers of 256 MB.

    Notes
    -----
    A batch is one of these, of any number of rows:

    - an array, a data frame, a sparse matrix or a tensor of shape (n, n_features), or a
      single row of shape (n_features,);
    - a list of rows, each of shape (n_features,) or (1, n_features);
    - a list or tuple of numbers, which is one row;
    - a tuple (X, y, ...) of which X, one of the above, is taken. So is the X of the lists
      [X, y, ...] into which a `DataLoader` turns tuples: where X has two dimensions, and
      nothing else in the list has its number of features.

    What cannot be told from something else is refused. A list of columns looks like a list of
    rows, and is taken for one; that of a `DataLoader` whose `Dataset` has lists for its rows
    is refused.

    Names of columns are those of the first batch, where it is a data frame; frames with other
    columns, or in another order, are refused.

    Batches without rows are left out. Rows are copied before the next batch is asked for: it
    may come in the same memory. The first batch with rows says whether the stream is computed
    in float32 or float64, as an array of its dtype would be.

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

    _instead = "np.concatenate(list(itertools.islice(batches, 10))), say"

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

    @property
    def _one_pass(self) -> bool:
        """Whether the batches can be gone through only once."""
        return hasattr(self.batches, "__next__")

    def _buffer_of(self, most, least, n_rows):
        """How many rows to shuffle together, at most and at least; of all, None if unknown."""
        return most


class StreamRows:
    """The rows of a `BatchStream`, for one call of an estimator."""

    in_memory = False

    def __init__(self, stream: BatchStream) -> None:
        self.batches, self.shuffle = stream.batches, stream.shuffle
        self.n_samples = self.n_rows = stream.n_samples
        self.one_pass, self._buffer_of = stream._one_pass, stream._buffer_of
        if self.one_pass and self.n_rows is None:
            raise ValueError(
                "batches is an iterator, which can be gone through only once: pass its "
                "n_samples, or something that starts anew (a list, a DataLoader, a function "
                "that returns an iterator)."
            )
        self.n_features = self.dtype = None
        # An empty frame with the names of the columns, where batches have them.
        self.named = None
        self.of_lists = False
        self._rest = self._batches()
        first = next(self._rest, None)
        if first is None:
            raise _no_rows()
        # What has been read ahead: it comes first when the rows are gone through.
        self._ahead = [first.copy()]

    def computed_in(self, dtype):
        """Itself, computed in another dtype."""
        self.dtype = np.dtype(dtype)
        self._ahead = [self._converted(first, 0) for first in self._ahead]
        return self

    def survey(self):
        if self.n_rows is None:
            # Gathered, so that the sums are the same to the last bit for batches of any size.
            return self.chunks()
        least = _rows_in(_LEAST_BYTES, self)
        wanted = min(self.n_rows, _pool_rows(self), max(self._buffer(), least))
        self._ahead = list(self._gathered(self._until(wanted), _chunk_rows(self)))
        return self._cut(self._ahead, wanted)

    def _until(self, n_rows):
        """Batches from the start of the stream until there are so many rows."""
        n = 0
        for batch in chain(self._ahead, self._rest):
            n += len(batch)
            yield batch
            if n >= n_rows:
                return

    def chunks(self):
        """The rows in order, some thousand at a time.

        Yields
        ------
        rows : ndarray of shape (n, n_features)
            New arrays, found to be finite.
        """
        return self._gathered(self._pass(), _chunk_rows(self))

    def pools(self, random_state, skip=0):
        seed = random_state.randint(2**31 - 1)
        for i, rows in enumerate(self._gathered(self._pass(), self._buffer())):
            if skip < len(rows):
                order = np.arange(len(rows))
                if self.shuffle:
                    order = np.random.RandomState([seed, i]).permutation(len(rows))
                yield order[skip:], rows.__getitem__
            skip = max(0, skip - len(rows))

    @property
    def order(self):
        """In which order rows are learnt from, in words."""
        shuffled = f", shuffled in buffers of {self._buffer()} rows" if self.shuffle else ""
        return "as they come" + shuffled

    def _buffer(self):
        """How many rows are shuffled together."""
        return self._buffer_of(_pool_rows(self), _rows_in(_LEAST_BYTES, self), self.n_rows)

    def _pass(self):
        """All batches, those first that have been read already."""
        ahead, rest = self._ahead, self._rest
        self._ahead, self._rest = [], None
        return self._cut(chain(ahead, rest or self._batches()), self.n_rows)

    def _cut(self, batches, n_rows):
        """The first `n_rows` rows, and no fewer; all there are for None, and at least one."""
        at, batches = 0, iter(batches)
        for batch in batches:
            counted = n_rows is not None and self.n_samples is None
            if counted and at + len(batch) >= n_rows:
                # A copy, as what is asked for next may be in the same memory.
                batch = batch.copy()
                if at + len(batch) > n_rows or next(batches, None) is not None:
                    raise ValueError(
                        f"The stream has more than the {n_rows} rows of the pass before: let "
                        "batches give the same rows at each pass, or pass n_samples."
                    )
            batch = batch[: None if n_rows is None else n_rows - at]
            yield batch
            at += len(batch)
            if at == n_rows:
                return
        if self.n_samples is not None:
            raise ValueError(
                f"The stream ended after {at} rows of the n_samples={self.n_samples} it was "
                "to have: pass the number it has, or let batches start anew at each pass."
            )
        if not at:
            raise _no_rows()
        if n_rows is None:
            self.n_rows = at  # which later passes are held to
        else:
            raise ValueError(
                f"The stream ended after {at} rows, and had {n_rows} in the pass before: let "
                "batches start anew at each pass."
            )

    def _batches(self):
        """Batches of finite rows from the start of the stream, none of them empty.

        They may share memory with what the stream gives next.
        """
        at = 0
        items, collated = opened(self.batches)
        for item in items:
            rows = rows_of(item, at, collated)
            if not len(rows):
                continue
            self._check_names(item, at)
            if self.n_features is None:
                self.n_features, self.dtype = rows.shape[1], computed_dtype(rows.dtype)
                self.of_lists = isinstance(item, list)
            if rows.shape[1] != self.n_features:
                hint = OF_LISTS if isinstance(item, list) else ""
                raise ValueError(
                    f"The batch at row {at} of the stream has {rows.shape[1]} features, the "
                    f"first one had {self.n_features}.{hint}"
                )
            yield self._converted(rows, at)
            at += len(rows)

    def _check_names(self, item, at):
        """Note the names of a frame's columns, or compare them with the first one's."""
        while isinstance(item, list | tuple) and len(item):
            item = item[0]
        names = feature_names(item)
        if names is None:
            return
        if self.named is None:
            self.named = item[:0]
        elif list(names) != (first := list(feature_names(self.named))):
            raise ValueError(
                f"The frame at row {at} of the stream has the columns {list(names)}, the first "
                f"one had {first}: give each the same columns in the same order."
            )

    def _converted(self, rows, at):
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(rows, self.dtype)
        check_finite(rows, at)
        return rows

    def _gathered(self, batches, n_rows):
        """Copies of the rows, `n_rows` at a time; those before an error come before it."""
        n_rows = min(n_rows, self.n_rows or n_rows)
        out, n, error = None, 0, None
        try:
            for batch in batches:
                while len(batch):
                    if out is None:
                        out = np.empty((n_rows, self.n_features), self.dtype)
                    part = batch[: n_rows - n]
                    out[n : n + len(part)] = part
                    batch, n = batch[len(part) :], n + len(part)
                    if n == n_rows:
                        yield out
                        out, n = None, 0
        except Exception as caught:
            error = caught
        if n:
            yield out[:n]
        if error is not None:
            raise error


def _no_rows():
    return ValueError(
        "batches gives no rows: it is empty, has empty batches only, or was gone through "
        "before (a function must make a new iterator each time)."
    )


# --------------------------------------------------------------------------- #
def file_rows(X: NpyFiles | np.memmap):
    """The rows of files for one call; of a memmap whose file may differ, as an array."""
    if isinstance(X, NpyFiles):
        if not X.n_rows:
            raise ValueError("The files of NpyFiles have no rows: give at least one that has.")
        return FileRows(X._parts, X.n_features)
    in_file = X.mode in ("r", "r+") and X.flags.c_contiguous and os.path.exists(X.filename)
    if not in_file:
        return ArrayRows(X)
    part = _part(X)
    _check_mapped(X, part)
    return FileRows([part], X.shape[1])


def _check_mapped(X, part):
    """Refuse a memmap whose file was replaced: it shows the rows of the old one."""
    end = part.offset + X.nbytes
    if os.path.getsize(part.path) < end:
        return  # reading says so, and where; the mapped memory must not be touched
    found = np.empty((1, X.shape[1]), X.dtype)
    for row in {0, len(X) // 2, len(X) - 1}:
        _read_part(part, row, found, 0)
        if found.tobytes() != X[row].tobytes():
            raise ValueError(
                f"{part.path} was replaced after X was mapped from it: map it again, with "
                "np.load(path, mmap_mode='r')."
            )


def check_no_stream(X: Any) -> None:
    """Refuse what gives rows or batches but is no array, and say what to do with it."""
    torch_data = sys.modules.get("torch.utils.data")
    dataset = torch_data is not None and isinstance(X, torch_data.Dataset)
    if isinstance(X, str | bytes | os.PathLike):
        raise ValueError(
            f"X is {X!r:.200}, which is no array: of a file, pass np.load(path, "
            "mmap_mode='r') or sklearn_mpsae.sources.NpyFiles(path)."
        )
    if sparse.issparse(X):
        return
    if isinstance(X, Mapping):
        raise ValueError(
            f"X is a {type(X).__name__} with the keys {list(X)}: pass the array of one of them."
        )
    array = hasattr(X, "shape") or hasattr(X, "__array__")
    sequence = hasattr(X, "__len__") and hasattr(X, "__getitem__")
    gives = callable(X) or hasattr(X, "__iter__")
    if dataset or (gives and not array and not sequence):
        raise ValueError(
            f"X is a {type(X).__name__}, which is no array: wrap what gives rows in batches as "
            "sklearn_mpsae.sources.BatchStream(X)."
        )


def check_finite(X: np.ndarray, first_row: int) -> None:
    """Raise a ValueError that names the first row with NaN or infinity, if there is one."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(X.sum()):
            return
    bad = np.flatnonzero(~np.isfinite(X).all(axis=1))
    if len(bad):
        raise ValueError(
            f"Row {first_row + bad[0]} of X contains NaN or infinity in {X.dtype} (the first "
            "such row): remove or mend it."
        )


def _rows_in(n_bytes, source) -> int:
    """How many rows of a source take so many bytes; at least one."""
    return max(1, n_bytes // (source.n_features * source.dtype.itemsize))


def _pool_rows(source) -> int:
    return _rows_in(_POOL_BYTES, source)


def _chunk_rows(source) -> int:
    return min(_CHUNK_ROWS, _pool_rows(source))


# What an estimator learns from or encodes, for type checkers: arrays, data frames and sparse
# matrices, or sources.
RowsLike = ArrayLike | sparse.sparray | sparse.spmatrix | BatchStream | NpyFiles

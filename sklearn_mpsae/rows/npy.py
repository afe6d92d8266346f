"""Rows of .npy files, read as they are needed."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..coding.inputs import computed_dtype
from .array import Addressable, ArrayRows
from .protocol import NoArray
from .sizes import pool_rows


class _FileRun(NamedTuple):
    """A run of rows in a file."""

    path: str
    offset: int
    dtype: np.dtype
    n_rows: int
    header: bytes = b""
    """What the file begins with; nothing where that is not known."""
    stamp: tuple[int, int] | None = None
    """The file's size and time when the call that reads it began."""


class NpyFiles(NoArray, Addressable):
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
        return (self._held() if self.n_rows <= pool_rows(self) else self).chunks()

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


def _part(X: np.memmap, *, header: bool = False) -> _FileRun:
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
    return _FileRun(path, offset, X.dtype, len(X), begins)


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

"""The one place where what a user passes as X becomes rows."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.utils.validation import validate_data

from ..coding.inputs import float_dtypes, in_words, tabled
from .array import ArrayRows, SparseRows
from .batches import OF_LISTS
from .npy import NpyFiles, file_rows
from .protocol import Rows
from .stream import BatchStream, StreamRows

# What an estimator learns from or encodes, for type checkers: arrays, data frames and sparse
# matrices, or sources.
RowsLike = ArrayLike | sparse.sparray | sparse.spmatrix | BatchStream | NpyFiles


def open_rows(estimator: Any, X: RowsLike, *, reset: bool, dtype: Any = None) -> Rows:
    """The rows of X.

    Parameters
    ----------
    estimator : estimator
        Its number and names of features are set, or with ``reset=False`` compared.
    X : array-like, CSR or source of shape (n_samples, n_features)
    reset : bool
    dtype : dtype, default=None
        The one to compute in; None for that of X, float32 or float64.

    Raises
    ------
    ValueError
        For what gives no rows of finite numbers. Rows that are read as needed are checked
        as they are read.
    """
    mapped = isinstance(X, np.memmap) and X.filename is not None and X.ndim == 2
    if isinstance(X, BatchStream):
        rows = StreamRows(X)
    elif isinstance(X, NpyFiles) or (mapped and X.size):
        rows = file_rows(X)
    else:
        X = in_memory(estimator, X, reset=reset, dtype=dtype)
        return SparseRows(X) if sparse.issparse(X) else ArrayRows(X)
    # Only the features can be told without reading all of it.
    columns = getattr(rows, "named", None)
    if columns is None:
        columns = np.empty((1, rows.n_features))
    try:
        validate_data(estimator, columns, reset=reset, skip_check_array=True)
    except ValueError as error:
        if isinstance(rows, StreamRows) and rows.of_lists:
            raise ValueError(f"{error}{OF_LISTS}") from None
        raise
    return rows if dtype is None else rows.computed_in(dtype)


def in_memory(estimator: Any, X: Any, *, reset: bool, dtype: Any = None):
    """X as finite array or CSR, in the dtype to compute in; arguments as of `open_rows`."""
    with in_words():
        X = tabled(X)
        check_no_stream(X)
        dtypes = float_dtypes(X) if dtype is None else dtype
        return validate_data(
            estimator, X, reset=reset, accept_sparse="csr", dtype=dtypes, order="C"
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
        call = " If it returns an array, call it: X()." if callable(X) else ""
        raise ValueError(
            f"X is a {type(X).__name__}, which is no array: wrap what gives rows in batches as "
            f"sklearn_mpsae.sources.BatchStream(X).{call}"
        )

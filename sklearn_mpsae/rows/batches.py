"""What a stream gives, as arrays of rows: whatever NumPy, pandas, polars, torch or lists make.

The grammar is written out for users in the notes of `sklearn_mpsae.sources.BatchStream`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from numbers import Number

import numpy as np
from scipy import sparse
from sklearn.utils import check_array

from ..coding.inputs import float_dtypes, in_words, plain, tabled

# For an error about the width of what was a list.
OF_LISTS = " A list is taken for one of rows: of columns, give np.stack(columns, axis=1)."


def has_length(batches):
    """Whether what a stream goes through says how many batches it has."""
    try:
        return len(batches) >= 0
    except (TypeError, NotImplementedError):  # of a DataLoader too, if its rows have none
        return False


def opened(batches):
    """What a stream gives, from its start; and whether torch's default collate made it."""
    if callable(batches):
        batches = batches()
    # Datasets have a length, and need not know where they end.
    if not hasattr(batches, "__iter__") and hasattr(batches, "__len__"):
        return (batches[i] for i in range(len(batches))), False
    single = isinstance(batches, Mapping | str | bytes) or hasattr(batches, "columns")
    if single or not (hasattr(batches, "__iter__") or hasattr(batches, "__getitem__")):
        raise ValueError(
            "batches must be an iterable of batches, or a function that returns one; got "
            f"{type(batches).__name__}. A single batch can be passed in the place of X."
        )
    torch_data = sys.modules.get("torch.utils.data")
    collated = (
        torch_data is not None
        and isinstance(batches, torch_data.DataLoader)
        and batches.batch_sampler is not None
        and batches.collate_fn is torch_data.default_collate
    )
    return iter(batches), collated


def rows_of(item, at, collated):
    """What a stream gave at row `at` as an array of rows, which may share its memory."""
    try:
        with in_words("it"):
            X = _of_collated(item) if collated else _of_item(item)
    except (TypeError, ValueError) as error:
        raise ValueError(f"The stream gave, at row {at}, no batch: {error}") from error
    if X.ndim == 1:
        X = X[None] if len(X) else np.empty((0, 0))
    if X.ndim != 2 or X.dtype.kind not in "fiub" or (len(X) and not X.size):
        raise ValueError(
            f"The stream gave, at row {at}, an array of shape {X.shape} and dtype {X.dtype}: "
            "it must give numbers, rows of shape (n_features,) or batches of shape "
            "(n, n_features)."
        )
    return X


def _of_item(item):
    """An array of whatever shape, for an item of a stream or a row of one."""
    if isinstance(item, Mapping) and not sparse.issparse(item):
        raise ValueError(
            f"it is a {type(item).__name__} with the keys {list(item)}. Give the array of one "
            "of them: BatchStream(lambda: (batch[key] for batch in batches))."
        )
    if item is None or isinstance(item, str | bytes):
        raise ValueError(f"it is {item!r:.50}, not numbers.")
    if isinstance(item, list | tuple):
        return _of_sequence(item)
    if hasattr(item, "columns") or hasattr(item, "iloc"):
        item = tabled(item, "it")
        item = check_array(
            item,
            accept_sparse="csr",
            dtype=float_dtypes(item),
            ensure_2d=False,
            ensure_all_finite=False,
            ensure_min_samples=0,
            ensure_min_features=0,
        )
    X = item.toarray() if sparse.issparse(item) else np.asarray(plain(item))
    if X.dtype == object and not X.ndim:
        raise ValueError(f"it is a {type(item).__name__}, not numbers.")
    return X.astype(np.float64) if X.dtype == object and X.ndim else X


def _of_sequence(items):
    """An array for a list or tuple: of numbers, of rows, or X and what goes with it."""
    if not len(items):
        return np.empty(0)
    if isinstance(items[0], Number) or getattr(items[0], "ndim", None) == 0:
        if any(isinstance(each, list) or getattr(each, "ndim", 0) for each in items[1:]):
            raise ValueError("it begins with a number: give X first, (X, y).")
        return np.asarray(tabled(items))
    X = _of_item(items[0])
    if isinstance(items, tuple):
        _check_not_rows(X, items)
        return X
    if X.ndim == 1:
        return _stacked(X, items)
    if X.ndim != 2 or len(items) == 1:
        return X
    shapes = [_shape(item) for item in items[1:]]
    if all(shape == (1, X.shape[1]) == X.shape for shape in shapes):
        return np.concatenate([X, *map(_of_item, items[1:])])
    if any(shape is not None and shape[1:] == X.shape[1:] for shape in shapes):
        raise ValueError(
            f"it is a list of {len(items)} batches, or of X and others of as many features. "
            "Give np.concatenate(batches), or X alone."
        )
    return X


def _check_not_rows(X, items):
    """Refuse a tuple whose X may be the first of its rows."""
    if X.ndim == 1 and len(items) > 2 and all(_shape(each) == X.shape for each in items[1:]):
        raise ValueError(
            f"it is a tuple of {len(items)} rows, of which (X, y, ...) would take the first. "
            "Give a list of rows, or X alone."
        )


def _stacked(first, items):
    rows = [first]
    for i, item in enumerate(items[1:], 1):
        row = _of_item(item)
        if row.shape != first.shape:
            raise ValueError(
                f"it is a list of rows, of which the first has shape {first.shape}, and row "
                f"{i} has {row.shape}. Give rows of one length, or a tuple (X, y)."
            )
        rows.append(row)
    return np.stack(rows)


def _shape(item):
    """The shape of what may be a batch or a row; None of what is neither."""
    try:
        return _of_item(item).shape
    except (TypeError, ValueError):
        return None


def _of_collated(item):
    """The X of what torch's default collate makes of rows, or of tuples with a row first."""
    while isinstance(item, list | tuple) and len(item):
        item = item[0]
    X = _of_item(item)
    if X.ndim == 1:
        raise ValueError(
            "the DataLoader made columns of the rows of its Dataset, since they are lists or "
            "numbers. Let the Dataset give arrays or tensors of shape (n_features,)."
        )
    return X

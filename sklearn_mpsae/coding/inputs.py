"""Rows as users have them, tensors, data frames, lists, on their way to NumPy."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .checks import check_unmasked

# What NumPy says of lists in the place of numbers.
_OF_SEQUENCES = "setting an array element with a sequence"

# How many columns an error names.
_NAMED = 3


def plain(X: Any) -> Any:
    """X as NumPy array if it is a tensor, else X itself; half floats as float32.

    scikit-learn would turn a float32 tensor into float64, and refuse bfloat16 and
    tensors that require a gradient. What is mapped from a file stays there.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(X, torch.Tensor):
        return _of_tensor(X, torch)
    if not isinstance(X, np.ndarray) or getattr(X, "filename", None) is not None:
        return X
    check_unmasked(X)
    if X.dtype.names:
        raise ValueError(
            f"X is a structured array with the fields {list(X.dtype.names)}: pass "
            "numpy.lib.recfunctions.structured_to_unstructured(X)."
        )
    if X.dtype == np.float16:
        return X.astype(np.float32)
    # In the machine's byte order float32 stays float32.
    return X if X.dtype.isnative else X.astype(X.dtype.newbyteorder("="))


def _of_tensor(X, torch):
    if X.is_nested:
        raise ValueError("X is a nested tensor: pass torch.cat(X.unbind()), say.")
    if X.layout is not torch.strided:
        raise ValueError(
            f"X is a tensor of layout {X.layout}: pass X.to_dense(), or a SciPy CSR matrix."
        )
    X = X.detach().cpu()
    half = X.dtype.is_floating_point and X.dtype.itemsize <= 2
    return (X.float() if half else X).numpy()


def tabled(X: Any, name: str = "X") -> Any:
    """X as `check_array` takes it: as `plain` has it, and a list of arrays as one array.

    Raises
    ------
    ValueError
        If it is a data frame with columns that are not numbers, or without rows yet.
    """
    if type(X).__name__ == "LazyFrame":  # polars warns where it is asked for its columns
        raise ValueError(f"{name} is a LazyFrame, which has no rows yet: pass its collect().")
    if hasattr(X, "columns"):
        _check_columns(X, name)
    if isinstance(X, list | tuple) and any(hasattr(row, "dtype") for row in X):
        return np.asarray([plain(row) for row in X])
    return plain(X)


def _check_columns(X, name):
    """Name the columns of a frame that are not numbers, which NumPy's error would not."""
    dtype = _frame_dtype(X)
    if dtype is not None and dtype.kind in "fiubc":
        return
    if hasattr(X, "iloc"):  # names may repeat
        columns = ((each, X.iloc[:, i]) for i, each in enumerate(X.columns))
    else:
        names = getattr(X, "column_names", X.columns)  # pyarrow, polars
        columns = ((each, X[each]) for each in names)
    found = [each for each, values in columns if not _is_numeric(values)]
    if found:
        shown = ", ".join(map(repr, found[:_NAMED]))
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise ValueError(
            f"{name} has columns that are not numbers: {shown}{more}. Encode them as numbers, "
            "e.g. by sklearn.preprocessing.OneHotEncoder in a ColumnTransformer, or drop them."
        )


def _is_numeric(values):
    """Whether a column holds numbers, be it as objects, text or categories."""
    kind = getattr(getattr(values, "dtype", None), "kind", None)
    kind = kind or np.asarray(values[:0]).dtype.kind
    # NumPy takes dates for nanoseconds, or refuses them beside numbers.
    if kind in "fiubcmM":
        return kind not in "mM"
    try:
        np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        if _OF_SEQUENCES in str(error):
            raise
        return False
    return True


@contextmanager
def in_words(name: str = "X") -> Iterator[None]:
    """Say more than NumPy where what is to be numbers are arrays or lists, as in a column."""
    try:
        yield
    except ValueError as error:
        if _OF_SEQUENCES not in str(error):
            raise
        raise ValueError(
            f"{name} has lists or arrays in the place of numbers, or rows that differ in "
            "length: pass an array of numbers, np.stack(column) of a column of arrays."
        ) from error


def computed_dtype(dtype: Any) -> np.dtype:
    """The dtype to compute in: float32 where that holds all values of a float dtype."""
    dtype = np.dtype(dtype)
    if dtype.kind not in "fiub":
        raise ValueError(f"X must hold real numbers, got dtype {dtype}.")
    return np.dtype(np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64)


def float_dtypes(X: Any) -> list[np.dtype]:
    """The dtypes that `check_array` may give X in: the one to compute in, first.

    For frames scikit-learn would choose float64 whenever a column has a dtype that is not
    NumPy's own.
    """
    dtype = _frame_dtype(X) if hasattr(X, "columns") else getattr(X, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind in "fiub":
        return [computed_dtype(dtype)]
    return [np.dtype(np.float64), np.dtype(np.float32)]


def _frame_dtype(X):
    """The dtype of all columns of a frame together; None where they are not all NumPy's."""
    try:
        if not hasattr(X, "iloc"):  # polars, pyarrow
            return np.asarray(X[:0]).dtype
        # Nullable, arrow's and sparse columns tell what NumPy has for them.
        names = ("numpy_dtype", "subtype")
        return np.result_type(
            *(next((getattr(d, n) for n in names if hasattr(d, n)), d) for d in X.dtypes)
        )
    except (TypeError, ValueError, NotImplementedError):
        return None

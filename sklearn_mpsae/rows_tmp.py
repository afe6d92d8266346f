import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import validate_data

from ._batches import OF_LISTS
from .coding.inputs import float_dtypes, in_words, tabled
from .sources import (
    ArrayRows,
    BatchStream,
    NpyFiles,
    SparseRows,
    StreamRows,
    check_no_stream,
    file_rows,
)


def open_rows(estimator, X, *, reset, dtype=None):
    """TEMPORARY until rows/ lands."""
    mapped = isinstance(X, np.memmap) and X.filename is not None and X.ndim == 2
    if isinstance(X, BatchStream):
        source = StreamRows(X)
    elif isinstance(X, NpyFiles) or (mapped and X.size):
        source = file_rows(X)
    else:
        X = validated(estimator, X, reset, dtype)
        return SparseRows(X) if issparse(X) else ArrayRows(X)
    # Only the features can be told without reading all of it.
    columns = getattr(source, "named", None)
    if columns is None:
        columns = np.empty((1, source.n_features))
    try:
        validate_data(estimator, columns, reset=reset, skip_check_array=True)
    except ValueError as error:
        if isinstance(source, StreamRows) and source.of_lists:
            raise ValueError(f"{error}{OF_LISTS}") from None
        raise
    return source if dtype is None else source.computed_in(dtype)


def validated(estimator, X, reset, dtype=None):
    check_no_stream(X)
    with in_words():
        X = tabled(X)
        dtypes = float_dtypes(X) if dtype is None else dtype
        return validate_data(
            estimator, X, reset=reset, accept_sparse="csr", dtype=dtypes, order="C"
        )

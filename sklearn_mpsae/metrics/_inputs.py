"""What every metric takes: rows, codes and dictionaries, checked, a part at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.utils import check_array, gen_batches

from .._array_api import as_numpy, as_rows
from ..coding import Codes
from ..coding.checks import check_magnitude
from ..coding.inputs import tabled
from ..coding.unit import check_unit, unit_rows

# Codes in any form, for type checkers.
CodesLike = Codes | ArrayLike | sparse.sparray | sparse.spmatrix

# A part of the rows takes about so many float64 numbers, and so many rows at most.
_NUMBERS = 1 << 22
_ROWS = 8192

# Beyond this share of non-zeros a dense product is faster than a sparse one.
_DENSE = 0.1


def batches(n_rows: int, row_size: int):
    """Slices of rows for work that takes `row_size` numbers for each of them."""
    return gen_batches(n_rows, min(_ROWS, max(1, _NUMBERS // row_size)))


# ------------------------------------------------------------------------ dictionaries
def checked_dictionary(dictionary, name="dictionary") -> np.ndarray:
    """Atoms in float64, refused unless they are of unit norm."""
    W = as_rows(dictionary, name, np.float64)
    zero = np.flatnonzero(np.linalg.norm(W, axis=1) == 0)
    if len(zero):
        raise ValueError(
            f"{name} has rows of zeros (first: row {zero[0]}), which have no direction: leave "
            "these atoms out, and their columns of the codes."
        )
    check_unit(W, name)
    return unit_rows(W)


def checked_dictionaries(dictionary, truth) -> tuple[np.ndarray, np.ndarray]:
    """Atoms and true features, refused unless they have as many entries."""
    W, D = checked_dictionary(dictionary), checked_dictionary(truth, "truth")
    if W.shape[1] != D.shape[1]:
        raise ValueError(
            f"dictionary has {W.shape[1]} columns and truth {D.shape[1]}: both must have one "
            "row per atom and one column per feature of the data."
        )
    return W, D


# -------------------------------------------------------------------------------- rows
def checked_rows(X, name="X") -> np.ndarray:
    """X as two-dimensional array or CSR; a memmap stays on disk. Values: see `finite`."""
    X = tabled(as_numpy(X), name)
    X = sparse.csr_array(X) if sparse.issparse(X) else np.asarray(X)
    if X.ndim != 2 or 0 in X.shape:
        raise ValueError(
            f"{name} must have shape (n_samples, n_features), neither of them 0; got {X.shape}."
        )
    return X


def finite(part, name) -> np.ndarray:
    """A part of the rows in float64, refused if it holds NaN, infinity or what overflows."""
    return as_rows(part.toarray() if sparse.issparse(part) else part, name, np.float64)


# ------------------------------------------------------------------------------- codes
def checked_codes(codes, n_components=None, name="codes"):
    """Codes as `Codes`, CSR array or array; a memmap stays on disk.

    Values are checked where they are read, by `csr` and `slots`.
    """
    if isinstance(codes, Codes):
        _check_slots(codes, name)
    else:
        codes = codes if sparse.issparse(codes) else np.asarray(tabled(as_numpy(codes), name))
        if codes.ndim != 2 or 0 in codes.shape:
            raise ValueError(
                f"{name} must have shape (n_samples, n_components), neither of them 0; got "
                f"{codes.shape}."
            )
        codes = sparse.csr_array(codes) if sparse.issparse(codes) else codes
    if n_components is not None and width(codes) != n_components:
        raise ValueError(
            f"{name} has {width(codes)} components, but {n_components} are expected: one for "
            "each atom."
        )
    return codes


def _check_slots(codes, name):
    indices, values = codes.indices, codes.values
    if indices.shape != values.shape or indices.ndim != 2 or len(indices) == 0:
        raise ValueError(
            f"{name} must have indices and values of one shape (n_samples, n_slots), with at "
            f"least one sample; got {indices.shape} and {values.shape}."
        )
    if indices.size and not 0 <= indices.min() <= indices.max() < codes.n_components:
        raise ValueError(
            f"{name} has indices from {indices.min()} to {indices.max()}, but its "
            f"n_components is {codes.n_components}: pass the number of rows of the dictionary."
        )


def n_rows(codes) -> int:
    return len(codes) if isinstance(codes, Codes) else codes.shape[0]


def width(codes) -> int:
    return codes.n_components if isinstance(codes, Codes) else codes.shape[1]


def take(codes, rows):
    """Rows of codes that `checked_codes` gave, of the same kind."""
    if isinstance(codes, Codes):
        return Codes(codes.indices[rows], codes.values[rows], codes.n_components)
    return codes[rows]


def csr_parts(codes, name="codes"):
    """Yield all rows of codes as CSR arrays, a part at a time."""
    for rows in batches(n_rows(codes), width(codes)):
        yield csr(take(codes, rows), name)


def csr(part, name="codes") -> sparse.csr_array:
    """A part of codes as CSR array in float64: each non-zero once, no stored zeros."""
    if isinstance(part, Codes):
        codes = part.csr().astype(np.float64)
        _check_finite(codes.data, name)
    else:
        # The part is a copy: what follows changes nothing of the caller's codes.
        part = check_array(part, accept_sparse="csr", dtype=np.float64, input_name=name)
        codes = sparse.csr_array(part)
        codes.sum_duplicates()
        codes.eliminate_zeros()
    check_magnitude(codes.data, name)
    return codes


def _check_finite(values, name):
    if not np.isfinite(values).all():
        raise ValueError(f"{name} contains NaN or infinity: replace those values.")


def slots(part, n_slots, name="codes") -> tuple[np.ndarray, np.ndarray]:
    """Indices and values of a part of codes, shape (n_samples, n_slots) each.

    Those of `Codes` are in the order chosen; others by decreasing magnitude.
    """
    if isinstance(part, Codes):
        _check_finite(part.values, name)
        check_magnitude(part.values, name)
        return part.indices, part.values.astype(np.float64)
    return sorted_slots(csr(part, name), n_slots)


def sorted_slots(codes, n_slots) -> tuple[np.ndarray, np.ndarray]:
    """Indices and values of CSR codes by decreasing magnitude, lowest index first."""
    counts = np.diff(codes.indptr)
    row = np.repeat(np.arange(len(counts)), counts)
    # Rows stay in their order, so the rank in a row is the distance from its start.
    order = np.lexsort((-np.abs(codes.data), row))
    rank = np.arange(len(row)) - np.repeat(codes.indptr[:-1], counts)
    indices = np.zeros((len(counts), n_slots), dtype=np.intp)
    values = np.zeros((len(counts), n_slots))
    indices[row, rank] = codes.indices[order]
    values[row, rank] = codes.data[order]
    return indices, values


def count_slots(codes, name="codes") -> int:
    """How many slots `slots` needs: those of Codes, else the largest L0 of a row."""
    return codes.values.shape[1] if isinstance(codes, Codes) else largest_l0(codes, name)


def largest_l0(codes, name="codes") -> int:
    return max(int(np.diff(part.indptr).max()) for part in csr_parts(codes, name))


def add_product(total, A, B):
    """Add A.T @ B, of CSR arrays with the same rows, to the array `total`."""
    if A.nnz > _DENSE * A.shape[0] * A.shape[1]:
        total += A.toarray().T @ B.toarray()
    else:
        product = (A.T @ B).tocoo()
        total[product.row, product.col] += product.data

"""Odd and hostile arrays, made of a plain one, for the tests of what becomes of each."""

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import joblib
import numpy as np
import pandas as pd
import polars as pl
import sklearn
import torch
from packaging.version import Version
from scipy import sparse

FOLDER = TemporaryDirectory()
NAMES = [f"é{i} \u2603 <b>" for i in range(10)]


def with_cell(value, dtype=np.float64):
    def make(X):
        X = X.astype(dtype)
        X[33, 3] = value
        return X

    return make


def read_only(X):
    X.flags.writeable = False
    return X


def unsorted_with_duplicates(X):
    """CSR that says each number in two halves, the columns from right to left."""
    coo = sparse.coo_array(X)
    order = np.lexsort((-coo.col, coo.row))
    halves = (np.repeat(coo.data[order] / 2, 2), np.repeat(coo.col[order], 2))
    ends = np.concatenate([[0], np.cumsum(2 * np.bincount(coo.row, minlength=len(X)))])
    return sparse.csr_array((*halves, ends), shape=X.shape)


def memory_map(X):
    path = Path(FOLDER.name, f"{joblib.hash(X)}.npy")
    np.save(path, X)
    return np.load(path, mmap_mode="r")


class Child(np.ndarray):
    pass


SAME = {
    "Fortran order": np.asfortranarray,
    "strided": lambda X: np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3],
    "negative strides": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "broadcast": lambda X: np.broadcast_to(X[None], (2, *X.shape))[0],
    "read-only": read_only,
    "byte-swapped": lambda X: X.astype(">f8"),
    "masked without a mask": np.ma.masked_array,
    "subclass": lambda X: X.view(Child),
    "memory map": memory_map,
    "list of lists": np.ndarray.tolist,
    "list of rows": list,
    "objects": lambda X: X.astype(object),
    "extended precision": lambda X: X.astype(np.longdouble),
    "numbers as text": lambda X: X.astype(str),
    "pandas": pd.DataFrame,
    "pandas nullable": lambda X: pd.DataFrame(X).astype("Float64"),
    "pandas sparse": lambda X: pd.DataFrame(X).astype(pd.SparseDtype(float, 0)),
    "CSR array": sparse.csr_array,
    "CSR matrix": sparse.csr_matrix,
    "CSC": sparse.csc_array,
    "COO": sparse.coo_array,
    "CSR unsorted, with duplicates": unsorted_with_duplicates,
    "tensor": torch.tensor,
    "tensor with gradient": lambda X: torch.tensor(X, requires_grad=True),
    "tensor transposed": lambda X: torch.tensor(X.T.copy()).T,
}

# dtypes with fewer digits: the answer to the same numbers in the dtype that is named.
ROUNDED = {
    "float32": (lambda X: X.astype(np.float32), np.float32),
    "float32 byte-swapped": (lambda X: X.astype(">f4"), np.float32),
    "float16": (lambda X: X.astype(np.float16), np.float32),
    "bfloat16": (lambda X: torch.tensor(X).bfloat16(), np.float32),
    "int": (lambda X: (100 * X).astype(int), np.float64),
    "uint8": (lambda X: (20 * X).astype(np.uint8), np.float64),
    "bool": (lambda X: X > 3, np.float64),
    "uint64": (lambda X: (100 * X).astype(np.uint64), np.float64),
    "int8 in CSR": (lambda X: sparse.csr_array((20 * X).astype(np.int8)), np.float64),
}

REFUSED = {
    "NaN": (with_cell(np.nan), "NaN"),
    "inf": (with_cell(np.inf), "infinity"),
    "-inf": (with_cell(-np.inf), "infinity"),
    "float32 NaN": (with_cell(np.nan, np.float32), "NaN"),
    "float16 inf": (with_cell(np.inf, np.float16), "infinity"),
    "complex": (with_cell(0, complex), "[Cc]omplex"),
    "None in objects": (with_cell(None, object), "NaN"),
    "text in objects": (with_cell("a", object), "could not convert"),
    "dict in objects": (with_cell({}, object), "float|dict"),
    "an int too large": (with_cell(10**400, object), "too large"),
    "NaN in CSR": (lambda X: sparse.csr_array(with_cell(np.nan)(X)), "NaN"),
    "NaN in pandas": (lambda X: pd.DataFrame(with_cell(np.nan)(X)), "NaN"),
    "NA in pandas": (lambda X: pd.DataFrame(with_cell(np.nan)(X)).astype("Float64"), "NaN"),
    "null in polars": (lambda X: pl.DataFrame(with_cell(np.nan)(X)).fill_nan(None), "NaN"),
    "NaN in a tensor": (lambda X: torch.tensor(with_cell(np.nan)(X)), "NaN"),
    "masked": (lambda X: np.ma.masked_array(X, X.mean() < X), "masked"),
    "categories": (
        lambda X: pd.DataFrame({n: pd.Categorical(["a", "b"] * 30) for n in NAMES}),
        "has columns that are not numbers: .* and 7 more",
    ),
    "numpy matrix": (np.matrix, "np.matrix"),
    "words": (lambda X: np.full(X.shape, "a"), "could not convert"),
    "names of two kinds": (
        lambda X: pd.DataFrame(X, columns=[0, *NAMES[1:]]),
        "all input features have string names",
    ),
    "names that repeat": (lambda X: pd.DataFrame(X, columns=["a"] * 10), "unique"),
    "one row as a vector": (lambda X: X[0], "2D"),
    "a list of vectors": (lambda X: X[None], "dim 3"),
    "a number": (lambda X: 3.0, "2D"),
    "nothing": (lambda X: None, "2D"),
    "text": (lambda X: "data.csv", "could not convert|2D|NpyFiles"),
    "a dict": (lambda X: {"X": X}, "dict|2D"),
    "ragged": (lambda X: [[1.0, 2.0], [3.0]], "inhomogeneous|differ in length"),
    "no rows": (lambda X: X[:0], "0 sample"),
    "no columns": (lambda X: X[:, :0], "0 feature"),
    "no rows in CSR": (lambda X: sparse.csr_array(X[:0]), "0 sample"),
    "beyond squares": (lambda X: X * 1e160, "too large|beyond"),
    "one cell beyond squares": (with_cell(1e300), "too large|beyond"),
    "the largest float": (with_cell(np.finfo(float).max), "too large|beyond"),
}
if Version(sklearn.__version__) < Version("1.9"):
    del REFUSED["names that repeat"]  # which scikit-learn then took for names like any

# To learn from: variance that float64 cannot tell from none.
TOO_SMALL = {
    "1e-300": lambda X: X * 1e-300,
    "subnormal": lambda X: X * 1e-320,
}


def quietly(function, *arguments):
    """Without warnings of feature names and of fits that are too short."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments)

"""Odd and hostile input, and what becomes of each: the right answer or a clear error.

Each case is tried on every estimator and method. "same" and a number mean the answer to
the plain array, to within that; a text the error that is to be raised. After an error the
estimator is what it was.
"""

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from packaging.version import Version
from scipy import sparse

from sklearn_mpsae.coding import matching_pursuit, orthogonal_matching_pursuit

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
        "could not convert",
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
    "text": (lambda X: "data.csv", "could not convert|2D"),
    "a dict": (lambda X: {"X": X}, "dict|2D"),
    "ragged": (lambda X: [[1.0, 2.0], [3.0]], "inhomogeneous"),
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

METHODS = ("fit", "partial_fit", "transform", "score")


def methods(Estimator):
    return [name for name in METHODS if hasattr(Estimator, name)]


def fitted(Estimator, X):
    return quietly(Estimator(16, max_iter=2, random_state=0).fit, X)


def quietly(method, X):
    """Without warnings of feature names and of fits that are too short."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return method(X)


def answer(Estimator, method, X, reference):
    """What a method gives for X, as an array: of a new estimator, or one fitted before."""
    if method in ("fit", "partial_fit"):
        sae = Estimator(16, max_iter=2, random_state=0)
        return quietly(getattr(sae, method), X).components_
    return np.asarray(quietly(getattr(fitted(Estimator, reference), method), X))


def state(estimator):
    return joblib.hash(vars(estimator))


@pytest.mark.parametrize("case", SAME)
def test_the_same_numbers_have_the_same_answer(Estimator, case, small):
    for method in methods(Estimator):
        expected = answer(Estimator, method, small, small)
        got = answer(Estimator, method, SAME[case](small.copy()), small)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected, err_msg=method)


@pytest.mark.parametrize("case", ROUNDED)
def test_other_dtypes_are_computed_in_the_one_documented(Estimator, case, small):
    make, dtype = ROUNDED[case]
    odd = make(small.copy())
    plain = odd.toarray() if sparse.issparse(odd) else odd
    plain = plain.float().numpy() if isinstance(plain, torch.Tensor) else plain
    plain = np.ascontiguousarray(plain, dtype=dtype)
    for method in methods(Estimator):
        got = answer(Estimator, method, odd, small)
        expected = answer(Estimator, method, plain, small)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected, err_msg=method)


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_leaves_no_trace(Estimator, case, small):
    make, message = REFUSED[case]
    for method in methods(Estimator):
        sae = fitted(Estimator, small)
        before = state(sae)
        with pytest.raises((ValueError, TypeError, OverflowError), match=message):
            quietly(getattr(sae, method), quietly(make, small.copy()))
        assert state(sae) == before, method


@pytest.mark.parametrize("case", TOO_SMALL)
def test_a_variance_too_small_to_be_told_is_refused(Estimator, case, small):
    for method in ("fit", "score"):
        sae = fitted(Estimator, small)
        with pytest.raises(ValueError, match="too small"):
            getattr(sae, method)(TOO_SMALL[case](small))


@pytest.mark.parametrize("exponent", [-450, -100, 100, 450])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_units_do_not_matter(Estimator, dtype, exponent, small):
    """Twice the data, twice the codes, as far as the dtype reaches."""
    exponent = exponent if dtype == np.float64 else np.sign(exponent) * 100
    scale, small = dtype(2.0**exponent), small.astype(dtype)
    plain, scaled = fitted(Estimator, small), fitted(Estimator, small * scale)
    np.testing.assert_array_equal(scaled.components_, plain.components_)
    np.testing.assert_array_equal(
        scaled.transform(small * scale), plain.transform(small) * scale
    )


WITHOUT_VARIANCE = {
    "zeros": lambda X: 0 * X,
    "a constant": lambda X: 0 * X + 7,
    "one row": lambda X: X[:1],
    "rows all the same": lambda X: np.repeat(X[:1], 60, axis=0),
}


@pytest.mark.parametrize("case", WITHOUT_VARIANCE)
def test_data_without_variance_have_no_codes(Estimator, case, small):
    X = WITHOUT_VARIANCE[case](small)
    sae = fitted(Estimator, X)
    np.testing.assert_allclose(np.linalg.norm(sae.components_, axis=1), 1)
    np.testing.assert_allclose(sae.inverse_transform(sae.transform(X)), X)
    assert np.isnan(sae.score(X))


DEGENERATE = {
    "one column": lambda X: X[:, :1],
    "a column of zeros": lambda X: X * (np.arange(10) != 3),
    "a row of zeros": lambda X: X * (np.arange(60) != 3)[:, None],
    "columns all the same": lambda X: np.repeat(X[:, :1], 10, axis=1),
    "two rows": lambda X: X[:2],
    "far from zero": lambda X: X + 1e6,
    "columns of all scales": lambda X: X * 10.0 ** np.linspace(-60, 60, 10),
    "one row outweighs all": lambda X: X * np.where(np.arange(60) == 3, 1e9, 1)[:, None],
}


@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_data_work(Estimator, case, small):
    X = DEGENERATE[case](small)
    sae = fitted(Estimator, X)
    assert np.isfinite(sae.components_).all()
    assert np.isfinite(sae.transform(X)).all()
    assert sae.score(X) <= 1


PURSUITS = pytest.mark.parametrize("pursuit", [matching_pursuit, orthogonal_matching_pursuit])


@PURSUITS
@pytest.mark.parametrize("case", SAME)
def test_pursuits_take_any_layout(pursuit, case, rng):
    X, W = rng.standard_normal((60, 10)), np.linalg.qr(rng.standard_normal((10, 10)))[0]
    if "CS" in case or case in ("COO", "pandas sparse"):
        with pytest.raises(TypeError, match="Sparse"):
            pursuit(SAME[case](X), W, 3)
        return
    if case == "tensor with gradient":
        with pytest.raises(RuntimeError, match="detach"):
            pursuit(SAME[case](X), W, 3)
        return
    np.testing.assert_array_equal(
        pursuit(SAME[case](X.copy()), W, 3).dense(), pursuit(X, W, 3).dense()
    )


# They take no notice of the names of columns.
@PURSUITS
@pytest.mark.parametrize("case", [case for case in REFUSED if "names" not in case])
@pytest.mark.parametrize("which", ["X", "dictionary"])
def test_pursuits_refuse_what_estimators_refuse(pursuit, case, which, rng):
    X = rng.standard_normal((60, 10))
    W = X / np.linalg.norm(X, axis=1, keepdims=True)
    odd, _ = REFUSED[case]
    arguments = (quietly(odd, X), W) if which == "X" else (X, quietly(odd, W))
    with pytest.raises((ValueError, TypeError, OverflowError)):
        quietly(lambda pair: pursuit(*pair, 3), arguments)

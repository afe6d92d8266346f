"""Odd and hostile input, and what becomes of each: the right answer or a clear error.

Each case of the tables in hostile.py is tried on every estimator and method: the answer is
that to the plain array, or the error that is named. After an error the estimator is as before.
"""

import joblib
import numpy as np
import pytest
import torch
from hostile import REFUSED, ROUNDED, SAME, TOO_SMALL, quietly
from scipy import sparse

from sklearn_mpsae.coding import (
    matching_pursuit,
    orthogonal_least_squares,
    orthogonal_matching_pursuit,
)
from sklearn_mpsae.coding.checks import check_magnitude

METHODS = ("fit", "partial_fit", "transform", "score")


def methods(Estimator):
    return [name for name in METHODS if hasattr(Estimator, name)]


def fitted(Estimator, X):
    return quietly(Estimator(16, max_iter=2, random_state=0).fit, X)


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


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_values_that_are_taken(sign):
    check_magnitude(np.array([[0.0, sign * 1e150]]))
    with pytest.raises(ValueError, match=r"X has values beyond 1e\+150"):
        check_magnitude(np.array([[0.0, sign * 1.001e150]]))


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


PURSUITS = pytest.mark.parametrize(
    "pursuit", [matching_pursuit, orthogonal_matching_pursuit, orthogonal_least_squares]
)


@PURSUITS
@pytest.mark.parametrize("case", SAME)
def test_pursuits_take_any_layout(pursuit, case, rng):
    X, W = rng.standard_normal((60, 10)), np.linalg.qr(rng.standard_normal((10, 10)))[0]
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
        quietly(pursuit, *arguments, 3)

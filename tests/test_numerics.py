"""How far the fast pursuits may drift from one that keeps its residual in float64.

The bounds are those of `matching_pursuit`'s and `orthogonal_matching_pursuit`'s Notes.
"""

import numpy as np
import pytest

from sklearn_mpsae.coding.kernels.native import NativeKernels
from sklearn_mpsae.coding.kernels.tensor import TensorKernels
from sklearn_mpsae.coding.unit import unit_rows

KERNELS = {
    "native": lambda dtype: NativeKernels(),
    "tensor": lambda dtype: TensorKernels("cpu", dtype),
}
MAKE = pytest.mark.parametrize("kernels", KERNELS)
DTYPE = pytest.mark.parametrize("dtype", [np.float32, np.float64])
SIGN = pytest.mark.parametrize("positive", [True, False], ids=["positive", "signed"])
COHERENCE = pytest.mark.parametrize("coherence", [0.0, 0.99, 0.9999, 1.0])


def coherent(n_pairs, d, coherence, rng):
    """Pairs of atoms that have this inner product; copies of each other for 1."""
    first = unit_rows(rng.standard_normal((n_pairs, d)))
    across = rng.standard_normal((n_pairs, d))
    across -= (across * first).sum(axis=1, keepdims=True) * first
    second = coherence * first + np.sqrt(1 - coherence**2) * unit_rows(across)
    return unit_rows(np.concatenate([first, second]))


def problem(coherence, dtype, d=32, n_pairs=64, n=20):
    rng = np.random.default_rng(0)
    W = coherent(n_pairs, d, coherence, rng).astype(dtype)
    return rng.standard_normal((n, d)).astype(dtype), W


def coded(kernels, verb, path, X, W, k, positive, tol=0.0, **more):
    with KERNELS[kernels](X.dtype) as opened:
        rows, atoms = opened.asarray(X), opened.asarray(W)
        gram = {"gram": [opened.gram(atoms)], "residual": [None], "blocked": []}[path]
        options = {"tol": tol, "threshold": 0.0, "positive": positive, **more}
        codes = getattr(opened, verb)(rows, atoms, *gram, k, **options)
        indices, values = (opened.to_numpy(a).copy() for a in codes)
    return indices, values.astype(np.float64)


@MAKE
@pytest.mark.parametrize("path", ["gram", "residual", "blocked"])
@DTYPE
@SIGN
@COHERENCE
def test_values_of_matching_pursuit_are_correlations_of_the_residual(
    kernels, path, dtype, positive, coherence
):
    """And each atom is as good a choice as any, but for rounding."""
    X, W = problem(coherence, dtype)
    k = 4 * X.shape[1]
    verb = "blocked_pursuit" if path == "blocked" else "matching_pursuit"
    indices, values = coded(kernels, verb, path, X, W, k, positive)
    residual, atoms = X.astype(np.float64), W.astype(np.float64)
    bound = 4 * (1 + np.sqrt(k)) * np.finfo(dtype).eps * np.linalg.norm(residual, axis=1)
    for i, v in zip(indices.T, values.T, strict=True):
        correlations = residual @ atoms.T
        taken = np.take_along_axis(correlations, i[:, None], 1)[:, 0]
        best = (correlations if positive else np.abs(correlations)).max(axis=1)
        assert (np.abs(np.where(v != 0, taken - v, 0)) <= bound).all()
        assert (best - np.abs(v) <= 2 * bound).all()
        residual -= v[:, None] * atoms[i]


@MAKE
@pytest.mark.parametrize("path", ["gram", "residual", "blocked"])
@DTYPE
@COHERENCE
def test_rows_stop_where_their_residual_falls_to_tol(kernels, path, dtype, coherence):
    X, W = problem(coherence, dtype)
    k, tol = 4 * X.shape[1], 1e-2
    verb = "blocked_pursuit" if path == "blocked" else "matching_pursuit"
    indices, values = coded(kernels, verb, path, X, W, k, False, tol)
    atoms, error = W.astype(np.float64), 4 * k * np.finfo(dtype).eps
    assert (values[:, -1] == 0).all()
    for x, i, v in zip(X.astype(np.float64), indices, values, strict=True):
        n = np.count_nonzero(v)
        parts = np.cumsum(v[:n, None] * atoms[i[:n]], axis=0)
        left = np.square(x - np.vstack([0 * x, parts])).sum(axis=1) / (x @ x)
        assert left[-1] <= tol + error
        assert left[-2] > tol - error


@MAKE
@DTYPE
@SIGN
@COHERENCE
@pytest.mark.parametrize("path", ["gram", "residual"])
@pytest.mark.parametrize("by_refit", [False, True], ids=["omp", "ols"])
def test_what_orthogonal_pursuit_leaves_is_orthogonal_to_its_atoms(
    kernels, dtype, positive, coherence, by_refit, path
):
    X, W = problem(coherence, dtype)
    # Which atom is the last of as many as there are features, rounding tells "ols".
    k = X.shape[1] // 2 if by_refit else X.shape[1]
    arguments = kernels, "orthogonal_pursuit", path, X, W, k, positive
    indices, values = coded(*arguments, by_refit=by_refit)
    for x, i, v in zip(X.astype(np.float64), indices, values, strict=True):
        atoms = W[i[v != 0]].astype(np.float64)
        left = x - v[v != 0] @ atoms
        size = np.linalg.norm(x) + np.abs(v).sum()
        assert np.abs(atoms @ left).max() <= 4 * np.finfo(dtype).eps * size
        # As little is left as least squares on all of them would leave.
        best = x - np.linalg.lstsq(atoms.T, x)[0] @ atoms
        excess = np.linalg.norm(left) - np.linalg.norm(best)
        assert excess <= 8 * k * np.finfo(dtype).eps * size


def nearly_equal(share, dtype, p=200, d=40, n=100):
    """Rows, and atoms that are `share` times their own part in a common one."""
    rng = np.random.default_rng(0)
    common, own = unit_rows(rng.standard_normal((1, d))), unit_rows(rng.standard_normal((p, d)))
    W = unit_rows(share * common + own)
    return rng.standard_normal((n, d)).astype(dtype), W.astype(dtype)


def left_of(X, W, indices, values):
    """The share of the rows' energy that codes leave."""
    fits = np.einsum("nk,nkd->nd", values, W.astype(np.float64)[indices])
    return np.square(X - fits).sum() / np.square(X.astype(np.float64)).sum()


@MAKE
@pytest.mark.parametrize("path", ["gram", "residual"])
@pytest.mark.parametrize(
    ("by_refit", "share", "k", "most"),
    [
        (False, 30, 40, 1e-8),  # scikit-learn from a Gram matrix: 4e-5, from X: 3e-3
        (False, 100, 40, 1e-7),  # from a Gram matrix: 2, from X: 0.09
        (False, 200, 40, 1e-6),  # orthogonalised once: 8e-6
        (True, 30, 40, 3e-5),
        (True, 100, 20, 1e-2),
        (True, 100, 40, 1e-6),
    ],
)
def test_nearly_equal_atoms_are_told_apart_in_float32(kernels, path, by_refit, share, k, most):
    """A Gram matrix has lost the digits that tell how they differ."""
    X, W = nearly_equal(share, np.float32)
    arguments = kernels, "orthogonal_pursuit", path, X, W, k, False
    assert left_of(X, W, *coded(*arguments, by_refit=by_refit)) < most


@pytest.mark.parametrize("share", [30, 100])
@pytest.mark.parametrize("by_refit", [False, True], ids=["omp", "ols"])
def test_nearly_equal_atoms_have_the_positive_codes_of_float64(share, by_refit):
    X, W = nearly_equal(share, np.float32)
    X += 0.5
    left = []
    for dtype in (np.float32, np.float64):
        arguments = "orthogonal_pursuit", "gram", X.astype(dtype), W.astype(dtype), 10, True
        left.append(left_of(X, W, *coded("native", *arguments, by_refit=by_refit)))
    assert left[0] == pytest.approx(left[1], rel=0.02)


@MAKE
@DTYPE
@SIGN
@pytest.mark.parametrize("by_refit", [False, True], ids=["omp", "ols"])
def test_orthogonal_codes_are_the_same_with_and_without_a_gram_matrix(
    kernels, dtype, positive, by_refit
):
    rng = np.random.default_rng(0)
    X, W = rng.standard_normal((200, 40)) + 0.3, unit_rows(rng.standard_normal((300, 40)) + 0.5)
    X, W = X.astype(dtype), W.astype(dtype)
    (one, one_values), (other, other_values) = (
        coded(*(kernels, "orthogonal_pursuit", path, X, W, 12, positive), by_refit=by_refit)
        for path in ("gram", "residual")
    )
    same = (one == other).all(axis=1)
    assert same.all() or (dtype == np.float32 and same.mean() > 0.97)
    atol = 1e-3 if dtype == np.float32 else 1e-11
    np.testing.assert_allclose(one_values[same], other_values[same], atol=atol)


@SIGN
@pytest.mark.parametrize("by_refit", [False, True], ids=["omp", "ols"])
@DTYPE
def test_rows_that_end_in_rounding_are_not_coded_again(monkeypatch, positive, by_refit, dtype):
    """Exact sums of a few atoms, and copies of these: what is left tells of no other atom."""
    rng = np.random.default_rng(0)
    W = unit_rows(rng.standard_normal((60, 50)))
    X = rng.random((40, 3)) @ W[:3]
    W = np.concatenate([W, W]).astype(dtype)
    monkeypatch.setattr(NativeKernels, "_span_pursuit", None)
    arguments = "native", "orthogonal_pursuit", "gram", X.astype(dtype), W, 10, positive
    indices, values = coded(*arguments, by_refit=by_refit)
    assert left_of(X, W, indices, values) < 1e3 * np.finfo(dtype).eps ** 2

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
@pytest.mark.parametrize("by_refit", [False, True], ids=["omp", "ols"])
def test_what_orthogonal_pursuit_leaves_is_orthogonal_to_its_atoms(
    kernels, dtype, positive, coherence, by_refit
):
    X, W = problem(coherence, dtype)
    # Which atom is the last of as many as there are features, rounding tells "ols".
    k = X.shape[1] // 2 if by_refit else X.shape[1]
    arguments = kernels, "orthogonal_pursuit", "gram", X, W, k, positive
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

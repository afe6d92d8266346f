"""Orthogonal least squares: each step takes the atom whose refit leaves least."""

import numpy as np
import pytest

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae.coding import orthogonal_least_squares, orthogonal_matching_pursuit
from sklearn_mpsae.coding.unit import unit_rows

SIGN = pytest.mark.parametrize("positive", [True, False], ids=["positive", "signed"])
DTYPE = pytest.mark.parametrize("dtype", [np.float32, np.float64])
DEVICE = pytest.mark.parametrize("device", ["cpu", "cpu:0"])  # "cpu:0" is of torch


def problem(p=120, d=24, n=30, shared=0.0):
    """Rows of a few atoms each, and noise; atoms with a direction in common."""
    rng = np.random.default_rng(0)
    W = unit_rows(rng.standard_normal((p, d)) + shared)
    Z = rng.random((n, p)) * (rng.random((n, p)) < 0.1)
    return Z @ W + 0.1 * rng.standard_normal((n, d)), W


def left_by(x, atoms):
    """The energy that least squares on these atoms leaves."""
    return np.square(x - np.linalg.lstsq(atoms.T, x)[0] @ atoms).sum()


def errors(codes, X, W):
    return np.square(X - codes.decode(W)).sum(axis=1)


@DEVICE
@DTYPE
@pytest.mark.parametrize("shared", [0.0, 1.0])
@pytest.mark.parametrize(
    "stop", [{}, {"tol": 0.05}, {"atol": 0.5}, {"threshold": 0.2}], ids=str
)
def test_each_step_lowers_the_error_most(device, dtype, shared, stop):
    """Every atom is tried, in float64."""
    X, W = (a.astype(dtype) for a in problem(shared=shared))
    k = 8
    codes = orthogonal_least_squares(X, W, k, device=device, **stop)
    X, W = X.astype(np.float64), W.astype(np.float64)
    lengths = []
    for x, indices, values in zip(X, codes.indices, codes.values, strict=True):
        size = np.count_nonzero(values)
        lengths.append(size)
        rounding = 1e3 * np.finfo(dtype).eps * (x @ x)
        for t in range(size + 1):
            chosen = W[indices[:t]]
            error = left_by(x, chosen) if t else x @ x
            enough = max(stop.get("tol", 0) * (x @ x), stop.get("atol", 0))
            tried = [left_by(x, np.vstack([chosen, w])) for w in W]
            if t < size:
                assert error > enough - rounding
                assert tried[indices[t]] <= min(tried) + rounding
                continue
            left = x - np.linalg.lstsq(chosen.T, x)[0] @ chosen if t else x
            small = abs(W[np.argmin(tried)] @ left) <= stop.get("threshold", 0) + rounding
            assert t == k or error <= enough + rounding or small
    assert len(set(lengths)) > 1 or not stop


@DTYPE
@SIGN
def test_kernels_agree(dtype, positive):
    X, W = (a.astype(dtype) for a in problem(300, 40, n=100, shared=0.5))
    ours, torchs = (
        orthogonal_least_squares(X, W, 10, positive=positive, device=device)
        for device in ("cpu", "cpu:0")
    )
    same = ((ours.dense() != 0) == (torchs.dense() != 0)).all(axis=1)
    assert same.mean() > 0.97 if dtype == np.float32 else same.all()
    tol = 1e-3 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(ours.dense()[same], torchs.dense()[same], atol=tol)


@SIGN
@pytest.mark.parametrize("k", [2, 5, 10])
def test_less_is_left_than_by_orthogonal_matching_pursuit(positive, k):
    X, W = problem(300, 40, n=200, shared=1.0)
    by_refit = errors(orthogonal_least_squares(X, W, k, positive=positive), X, W)
    by_correlation = errors(orthogonal_matching_pursuit(X, W, k, positive=positive), X, W)
    assert by_refit.mean() < 0.98 * by_correlation.mean()


@DEVICE
@SIGN
def test_atoms_in_the_span_are_passed_over(device, positive):
    """Copies, and atoms that lie in the plane of two others: they add nothing but rounding."""
    rng = np.random.default_rng(0)
    base = unit_rows(rng.standard_normal((6, 12)))
    pairs = unit_rows(base[:3] + rng.random((3, 1)) * base[3:])
    X = (0.5 + rng.random((20, 6))) @ base
    W = np.concatenate([base, base, pairs, base])
    codes = orthogonal_least_squares(X, W, 20, positive=positive, device=device)
    assert (np.count_nonzero(codes.values, axis=1) == codes.l0()).all()
    assert codes.l0().max() <= 6
    np.testing.assert_allclose(codes.decode(W), X, atol=1e-12)


@DEVICE
def test_a_row_goes_on_after_an_atom_at_the_border_of_the_span(device):
    """Atoms by rounding in or out of the span of the first: no row ends for them."""
    rng = np.random.default_rng(0)
    d, n_near = 40, 30
    first, *others = np.linalg.qr(rng.standard_normal((d, d)))[0]
    # Of an energy outside the span of about the least that counts.
    shares = 32 * np.finfo(np.float32).eps * rng.uniform(0.96, 1.04, n_near)
    near = np.sqrt(1 - shares)[:, None] * first + np.sqrt(shares)[:, None] * others[:n_near]
    W = np.vstack([first, near, others[n_near:]]).astype(np.float32)
    X = 100 * first + 9 * np.sum(others[:n_near], axis=0) + np.sum(others[n_near:], axis=0)
    X = np.repeat(X[None], 3, axis=0).astype(np.float32)
    codes = orthogonal_least_squares(X, W, len(W), device=device)
    # After them come all of the others.
    assert set(range(1 + n_near, len(W))) <= set(np.flatnonzero(codes.dense()[0]))


@DEVICE
@SIGN
def test_rows_of_zeros_and_more_steps_than_there_are_atoms_or_features(device, positive):
    X, W = problem(8, 20)
    X[3] = 0
    codes = orthogonal_least_squares(X, W, 50, positive=positive, device=device)
    assert codes.indices.shape == (30, codes.l0().max()) <= (30, 8)
    assert codes.l0()[3] == 0
    assert np.isfinite(codes.values).all()
    X, W = problem(60, 5)
    codes = orthogonal_least_squares(X, W, 50, positive=positive, device=device)
    assert codes.l0().max() <= 6  # by rounding
    if not positive:
        np.testing.assert_allclose(codes.decode(W), X, atol=1e-7)


@DEVICE
def test_an_atom_that_leaves_makes_room_again(device):
    """Without bound the end is non-negative least squares, where no atom is left to take."""
    rng = np.random.default_rng(0)
    W = unit_rows(rng.standard_normal((80, 30)) + 0.6)
    X = rng.standard_normal((100, 30)) + 0.3
    codes = orthogonal_least_squares(X, W, 30, positive=True, device=device)
    assert codes.l0().max() < 30
    assert ((X - codes.decode(W)) @ W.T).max() < 1e-9


def test_the_threshold_is_compared_with_the_atom_that_would_be_taken():
    W = np.array([[1.0, 0, 0], [0.8, 0.6, 0], [0, 0.8, 0.6]])
    X = [[3.0, 0.9, 0.0]]
    # What the first leaves correlates with the second, which is taken, by 0.54, and with the
    # third by 0.72.
    assert orthogonal_least_squares(X, W, 2, threshold=0.53).l0() == [2]
    assert orthogonal_least_squares(X, W, 2, threshold=0.55).l0() == [1]
    assert orthogonal_matching_pursuit(X, W, 2, threshold=0.55).l0() == [2]


@SIGN
def test_the_estimator_codes_by_it(positive, small):
    options = {"n_nonzero_coefs": 4, "max_iter": 20, "whitening": 0, "random_state": 0}
    est = MPSparseAutoencoder(
        30, transform_algorithm="ols", positive_code=positive, **options
    ).fit(small)
    rows = small - est.intercept_
    codes = orthogonal_least_squares(rows, est.components_, 4, positive=positive)
    np.testing.assert_allclose(est.transform(small), codes.dense(), atol=1e-10)
    omp = MPSparseAutoencoder(
        30, transform_algorithm="omp", positive_code=positive, **options
    ).fit(small)
    # It is also trained with such codes.
    assert abs(omp.components_ - est.components_).max() > 1e-6
    est.fit(small[:0:-1]).partial_fit(small)
    assert not est._coder().nested


def test_spams_calls_it_omp():
    spams = pytest.importorskip("spams")
    X, W = problem(100, 20, n=50, shared=0.5)
    theirs = spams.omp(np.asfortranarray(X.T), np.asfortranarray(W.T), L=6).toarray().T
    np.testing.assert_allclose(orthogonal_least_squares(X, W, 6).dense(), theirs, atol=1e-8)

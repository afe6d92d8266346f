"""What holds for any data, any dictionary and any number of codes."""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.stats import ortho_group
from toys import with_learnt

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae.coding import (
    Codes,
    matching_pursuit,
    orthogonal_least_squares,
    orthogonal_matching_pursuit,
)
from sklearn_mpsae.coding.unit import unit_rows

BY_CORRELATION = st.sampled_from([matching_pursuit, orthogonal_matching_pursuit])
PURSUIT = BY_CORRELATION | st.just(orthogonal_least_squares)
DTYPE = st.sampled_from([np.float32, np.float64])
SEED = st.integers(0, 2**32 - 1)

many = settings(deadline=None, max_examples=60)
# The fixture `Estimator` is a class: no example changes it.
few = settings(
    deadline=None,
    max_examples=8,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@st.composite
def problems(draw, dtypes=DTYPE, least_d=1):
    """Rows, unit atoms, and a number of codes that leaves most rows a residual."""
    rng = np.random.default_rng(draw(SEED))
    n, p, d = draw(st.integers(1, 12)), draw(st.integers(1, 80)), draw(st.integers(least_d, 24))
    W, X = rng.standard_normal((p, d)), rng.standard_normal((n, d))
    kind = draw(st.sampled_from(["normal", "sparse", "clustered"]))
    if kind == "clustered":
        W = W[rng.integers(0, max(1, p // 3), p)] + 0.05 * W
    if kind == "sparse":
        X = (rng.standard_normal((n, p)) * (rng.random((n, p)) < 0.1)) @ W
    X, dtype = X * 10.0 ** draw(st.integers(-9, 9)), draw(dtypes)
    k = draw(st.integers(1, max(1, min(p, d) // 2)))
    return X.astype(dtype), unit_rows(W).astype(dtype), k


@many
@given(problem=problems(), pursuit=PURSUIT, positive=st.booleans())
def test_what_is_left_is_orthogonal(problem, pursuit, positive):
    """To the last atom of a matching pursuit, to all atoms of an orthogonal one."""
    X, W, k = problem
    codes = pursuit(X, W, k, positive=positive)
    rows = zip(X.astype(np.float64), codes.indices, codes.values, strict=True)
    for x, indices, values in rows:
        atoms = W[indices[values != 0]].astype(np.float64)
        left = x - values[values != 0] @ atoms
        if pursuit is matching_pursuit:
            atoms = atoms[-1:]
        assert np.abs(atoms @ left).max(initial=0) <= rounding(x, values)


def rounding(x, values):
    """Of a residual: a small multiple of what it is made of."""
    return 16 * np.finfo(values.dtype).eps * (np.linalg.norm(x) + np.abs(values).sum())


@many
@given(problem=problems(), pursuit=PURSUIT)
def test_positive_codes_are_never_negative(problem, pursuit):
    X, W, k = problem
    assert (pursuit(X, W, k, positive=True).dense() >= 0).all()


@many
@given(problem=problems(), fewer=st.floats(0, 1), positive=st.booleans())
def test_fewer_codes_are_the_first_of_more(problem, fewer, positive):
    X, W, k = problem
    most, less = 2 * k, max(1, round(2 * k * fewer))
    codes = matching_pursuit(X, W, most, positive=positive)
    first = Codes(codes.indices[:, :less], codes.values[:, :less], len(W))
    assert_same_picks(X, W, first, matching_pursuit(X, W, less, positive=positive))


@many
@given(problem=problems(), exponent=st.integers(-20, 20), pursuit=PURSUIT)
def test_codes_scale_with_the_data(problem, exponent, pursuit):
    """Exactly, for powers of two: the same operations on the same digits."""
    X, W, k = problem
    scale = X.dtype.type(2.0**exponent)
    codes, scaled = pursuit(X, W, k), pursuit(X * scale, W, k)
    np.testing.assert_array_equal(scaled.indices, codes.indices)
    np.testing.assert_array_equal(scaled.values, codes.values * scale)


@many
@given(problem=problems(st.just(np.float64)), seed=SEED, positive=st.booleans())
def test_permuted_atoms_have_permuted_codes(problem, seed, positive):
    X, W, k = problem
    order = np.random.default_rng(seed).permutation(len(W))
    permuted = matching_pursuit(X, W[order], k, positive=positive)
    back = Codes(order[permuted.indices], permuted.values, len(W))
    assert_same_picks(X, W, matching_pursuit(X, W, k, positive=positive), back)


@many
@given(problem=problems(st.just(np.float64), least_d=2), seed=SEED, pursuit=BY_CORRELATION)
def test_data_and_atoms_rotated_together_have_the_same_codes(problem, seed, pursuit):
    X, W, k = problem
    rotation = ortho_group.rvs(X.shape[1], random_state=np.random.default_rng(seed))
    rotated = pursuit(X @ rotation, unit_rows(W @ rotation), k)
    assert_same_picks(X, W, pursuit(X, W, k), rotated)


# Slots of non-negative refits are not in the order of picks, so ties cannot be followed.
@many
@given(
    problem=problems(st.just(np.float32)),
    case=st.sampled_from(
        [
            (matching_pursuit, True),
            (matching_pursuit, False),
            (orthogonal_matching_pursuit, False),
        ]
    ),
)
def test_float32_agrees_with_float64(problem, case):
    """On the same numbers, so that only the arithmetic differs."""
    X, W, k = problem
    pursuit, positive = case
    double = pursuit(X.astype(np.float64), W.astype(np.float64), k, positive=positive)
    assert_same_picks(X, W, double, pursuit(X, W, k, positive=positive))


def assert_same_picks(X, W, expected, codes):
    """The same atoms with the same values, as far as rounding lets them be told apart.

    Where two atoms correlate equally well but for rounding, either is right, and rows go
    different ways from there on.
    """
    W, eps = W.astype(np.float64), np.finfo(codes.values.dtype).eps
    parts = expected.indices, expected.values, codes.indices, codes.values
    slots = max(part.shape[1] for part in parts)
    parts = [np.pad(part, ((0, 0), (0, slots - part.shape[1]))) for part in parts]
    for x, i, v, j, u in zip(X.astype(np.float64), *parts, strict=True):
        n = np.count_nonzero(v)
        error = 100 * eps * (np.linalg.norm(x) + np.abs(v).sum()) * magnified(W[i[:n]])
        differ = np.flatnonzero(np.where(v != 0, i, -1) != np.where(u != 0, j, -1))
        if not len(differ):
            np.testing.assert_allclose(u, v, rtol=0, atol=error)
            continue
        t = differ[0]
        one, other = (_score(x, W, i[:t], a[t], b[t]) for a, b in ((i, v), (j, u)))
        assert np.abs(one - other).min() <= error


def _score(x, W, before, atom, value):
    """How well an atom correlates with what those before it leave, refitted or not."""
    if value == 0:
        return np.zeros(2)
    atoms, plain = W[before], x.copy()
    for w in atoms:
        plain -= (w @ plain) * w
    refitted = x - np.linalg.lstsq(atoms.T, x)[0] @ atoms if len(before) else x
    return np.abs([W[atom] @ plain, W[atom] @ refitted])


def magnified(atoms):
    """How many times larger an error of the residual is in the values of its atoms."""
    smallest = np.linalg.svd(atoms, compute_uv=False).min(initial=1) if len(atoms) else 1
    return 1 / max(smallest, 1e-6) ** 2


@pytest.mark.parametrize("algorithm", ["mp", "omp", "ols"])
@few
@given(seed=SEED, d=st.integers(2, 20), dtype=DTYPE, positive=st.booleans(), data=st.data())
def test_codes_of_orthonormal_atoms_come_back(algorithm, seed, d, dtype, positive, data):
    rng, p = np.random.default_rng(seed), data.draw(st.integers(1, d))
    sae = MPSparseAutoencoder(
        p,
        n_nonzero_coefs=p,
        max_iter=1,
        transform_algorithm=algorithm,
        positive_code=positive,
        whitening=0,
        random_state=0,
    ).fit(rng.standard_normal((30, d)).astype(dtype))
    with_learnt(sae, components_=ortho_group.rvs(d, random_state=rng)[:p].astype(dtype))
    Z = rng.standard_normal((8, p)) * (rng.random((8, p)) < 0.5)
    Z = (np.abs(Z) if positive else Z).astype(dtype)
    codes = sae.transform(sae.inverse_transform(Z))
    np.testing.assert_allclose(codes, Z, atol=100 * np.finfo(dtype).eps)


@few
@given(seed=SEED, n=st.integers(2, 60), d=st.integers(1, 20), p=st.integers(1, 40), dtype=DTYPE)
def test_atoms_have_unit_norm(Estimator, seed, n, d, p, dtype):
    """After a fit, and after each chunk of a stream."""
    X = np.random.default_rng(seed).standard_normal((n, d)).astype(dtype)
    sae = Estimator(p, max_iter=1, random_state=0)
    learn = [sae.fit, *[getattr(sae, "partial_fit", sae.fit)] * 2]
    for method in learn:
        norms = np.linalg.norm(quietly(method, X).components_.astype(np.float64), axis=1)
        np.testing.assert_allclose(norms, 1, atol=8 * np.finfo(dtype).eps)


@few
@given(seed=SEED, n=st.integers(2, 60), d=st.integers(1, 20), p=st.integers(1, 40), dtype=DTYPE)
def test_sparse_rows_are_coded_as_dense_ones(Estimator, seed, n, d, p, dtype):
    rng = np.random.default_rng(seed)
    X = (rng.standard_normal((n, d)) * (rng.random((n, d)) < 0.3)).astype(dtype)
    dense, sparse = (
        quietly(Estimator(p, max_iter=1, random_state=0).fit, rows)
        for rows in (X, csr_array(X))
    )
    np.testing.assert_array_equal(dense.transform(csr_array(X)), dense.transform(X))
    np.testing.assert_array_equal(sparse.components_, dense.components_)


def quietly(method, X):
    """Without the warnings of fits that are too short."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return method(X)

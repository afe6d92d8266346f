"""Codes of every fast path are those of the short float64 reference."""

from contextlib import nullcontext
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import orthogonal_mp, orthogonal_mp_gram

from sklearn_mpsae import MPSparseAutoencoder, MPSparseAutoencoderCV
from sklearn_mpsae.coding import (
    Codes,
    matching_pursuit,
    orthogonal_least_squares,
    orthogonal_matching_pursuit,
)
from sklearn_mpsae.coding.kernels import reference
from sklearn_mpsae.coding.kernels.native import NativeKernels
from sklearn_mpsae.coding.kernels.tensor import TensorKernels
from sklearn_mpsae.coding.unit import unit_rows


def tensor_kernels():
    return TensorKernels("cpu", np.float64)


KERNELS = pytest.mark.parametrize("make_kernels", [NativeKernels, tensor_kernels])
PURSUITS = pytest.mark.parametrize(
    "pursuit", [matching_pursuit, orthogonal_matching_pursuit, orthogonal_least_squares]
)
BY_REFIT = pytest.mark.parametrize("by_refit", [False, True], ids=["omp", "ols"])
DOMAIN = pytest.mark.parametrize("domain", ["gram", "residual"])
SIGN = pytest.mark.parametrize("positive", [True, False], ids=["positive", "signed"])
SHAPES = pytest.mark.parametrize(
    ("p", "d", "k"), [(5, 3, 3), (64, 16, 8), (100, 40, 12), (257, 32, 6)], ids=str
)


def problem(p, d, n=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), unit_rows(rng.standard_normal((p, d)))


def reference_codes(pursuit, X, W, k, **options):
    """Codes of the reference as dense array, and its supports."""
    dense, supports = np.zeros((len(X), len(W))), []
    for row, x in enumerate(X):
        indices, values = pursuit(torch.tensor(x), torch.tensor(W), k, **options)
        np.add.at(dense[row], indices, [float(v) for v in values])
        supports.append(indices)
    return dense, supports


def run(make_kernels, verb, X, W, *args, **options):
    with make_kernels() as kernels:
        arrays = [kernels.asarray(X), kernels.asarray(W)]
        args = [kernels.asarray(a) if isinstance(a, np.ndarray) else a for a in args]
        if args and isinstance(args[0], str):
            args[0] = kernels.gram(arrays[1]) if args[0] == "gram" else None
        indices, values = getattr(kernels, verb)(*arrays, *args, **options)
        return Codes(kernels.to_numpy(indices), kernels.to_numpy(values), len(W))


STOPS = {
    "never": {"tol": 0.0, "threshold": 0.0},
    "tol": {"tol": 0.4, "threshold": 0.0},
    "threshold": {"tol": 0.0, "threshold": 1.2},
    # For each feature, see `stops_of`. Some rows have less from the start: they have none.
    "atol": {"tol": 0.0, "threshold": 0.0, "atol": 0.5},
    "both": {"tol": 0.4, "threshold": 0.0, "atol": 0.35},
}
REPEATS = STOPS | {
    "repeat": {"tol": 0.0, "threshold": 0.0, "once": True},
    "repeat, atol": {"tol": 0.0, "threshold": 0.0, "once": True, "atol": 0.2},
}


def stops_of(stop, d):
    return stop | {"atol": d * stop["atol"]} if "atol" in stop else stop


@KERNELS
@SIGN
@SHAPES
@DOMAIN
@pytest.mark.parametrize("stop", REPEATS.values(), ids=REPEATS)
def test_matching_pursuit_is_the_reference(make_kernels, positive, p, d, k, domain, stop):
    X, W = problem(p, d)
    k, stop = 3 * k if "once" in stop else k, stops_of(stop, d)
    codes = run(make_kernels, "matching_pursuit", X, W, domain, k, **stop, positive=positive)
    expected, supports = reference_codes(
        reference.matching_pursuit, X, W, k, **stop, positive=positive
    )
    for row, support in enumerate(supports):
        np.testing.assert_array_equal(codes.indices[row, : len(support)], support)
        assert not codes.values[row, len(support) :].any()
    np.testing.assert_allclose(codes.dense(), expected, atol=1e-12)
    assert len({len(support) for support in supports}) > 1 or not any(stop.values())


@KERNELS
@SIGN
@SHAPES
@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
@BY_REFIT
@DOMAIN
def test_orthogonal_pursuit_is_the_reference(
    make_kernels, positive, p, d, k, stop, by_refit, domain
):
    X, W = problem(p, d)
    stop = stops_of(stop, d)
    if by_refit:  # any d-th atom would leave nothing
        k = min(k, d - 1)
    options = stop | {"positive": positive, "by_refit": by_refit}
    codes = run(make_kernels, "orthogonal_pursuit", X, W, domain, k, **options)
    expected, supports = reference_codes(
        reference.orthogonal_matching_pursuit, X, W, k, **options
    )
    assert [set(np.flatnonzero(row)) for row in codes.dense()] == list(map(set, supports))
    np.testing.assert_allclose(codes.dense(), expected, atol=1e-9)


@KERNELS
@BY_REFIT
@DOMAIN
def test_positive_orthogonal_pursuit_of_atoms_that_correlate(make_kernels, by_refit, domain):
    """Several values at once would turn negative: the first to get to zero leaves first."""
    X, W = problem(100, 20, n=300)
    X, W = X + 0.4, unit_rows(W + 0.4 / np.sqrt(20))
    options = {"tol": 0.0, "threshold": 0.0, "positive": True, "by_refit": by_refit}
    codes = run(make_kernels, "orthogonal_pursuit", X, W, domain, 15, **options)
    pursuit = reference.orthogonal_matching_pursuit
    expected, _ = reference_codes(pursuit, X, W, 15, **options)
    np.testing.assert_allclose(codes.dense(), expected, atol=1e-9)


@KERNELS
def test_outputs_above_a_floor(make_kernels):
    """All of them, and the largest of a whole batch; in slots of the largest number."""
    X, W = problem(100, 20)
    bias = np.random.default_rng(1).standard_normal(100)
    floor = np.linspace(0, 6, 100)
    outputs = X @ W.T + bias
    codes = run(make_kernels, "above", X, W, bias, floor)
    expected = np.where(outputs > floor, outputs, 0)
    np.testing.assert_allclose(codes.dense(), expected, atol=1e-12)
    assert codes.indices.shape[1] == (expected > 0).sum(axis=1).max()
    with make_kernels() as kernels:
        arrays = map(kernels.asarray, (X, W, bias))
        _, values, threshold, _, _ = kernels.batch_top_k(*arrays, 3 * len(X))
        values = kernels.to_numpy(values)
    largest = np.sort(outputs, axis=None)[::-1][: 3 * len(X)]
    np.testing.assert_allclose(np.sort(values[values > 0])[::-1], largest, atol=1e-12)
    assert threshold == pytest.approx(largest[-1])


@KERNELS
@pytest.mark.parametrize("n_codes", [40, 2000])
def test_fewer_outputs_above_zero_than_asked_for(make_kernels, n_codes):
    X, W = problem(100, 20)
    bias = np.full(100, -1e3)
    bias[7] = 1e3
    with make_kernels() as kernels:
        arrays = map(kernels.asarray, (X, W, bias))
        indices, values, threshold, next_one, _ = kernels.batch_top_k(*arrays, len(X) + n_codes)
        assert (kernels.to_numpy(indices) == 7).all()
        assert (kernels.to_numpy(values) > 0).all()
    assert threshold == next_one == 0


@KERNELS
@SIGN
def test_top_k_is_the_reference(make_kernels, positive):
    X, W = problem(100, 20)
    bias = np.random.default_rng(1).standard_normal(100)
    codes = run(make_kernels, "top_k", X, W, bias, 60, positive=positive)
    for row, x in enumerate(X):
        indices, values = reference.top_k(
            torch.tensor(x), torch.tensor(W), torch.tensor(bias), 60, positive=positive
        )
        np.testing.assert_array_equal(codes.indices[row, : len(indices)], indices)
        np.testing.assert_allclose(codes.values[row, : len(indices)], values, atol=1e-12)
        assert not codes.values[row, len(indices) :].any()


def test_orthogonal_pursuit_agrees_with_scikit_learn():
    X, W = problem(200, 50)
    codes = orthogonal_matching_pursuit(X, W, 10)
    theirs = orthogonal_mp_gram(W @ W.T, W @ X.T, n_nonzero_coefs=10).T
    np.testing.assert_allclose(codes.dense(), theirs, atol=1e-10)


@PURSUITS
@SIGN
def test_ties_go_to_the_lowest_index_and_duplicates_do_no_harm(pursuit, positive):
    W = np.repeat(np.eye(3), 70, axis=0)
    codes = pursuit([[1.0, 3.0, 2.0]], W, 5, positive=positive)
    np.testing.assert_array_equal(codes.indices[0, :3], [70, 140, 0])
    np.testing.assert_allclose(codes.values[0], [3, 2, 1], atol=1e-15)


@PURSUITS
def test_rows_of_zeros_have_no_codes(pursuit):
    _, W = problem(20, 5)
    assert not pursuit(np.zeros((3, 5)), W, 4).values.any()


@PURSUITS
@pytest.mark.parametrize("scale", [1e-30, 1e-4, 1e4, 1e30])
def test_codes_scale_with_the_data(pursuit, scale):
    """Even where squares leave float32's range."""
    X, W = (a.astype(np.float32) for a in problem(100, 20))
    scale = np.float32(2.0 ** round(np.log2(scale)))
    codes, scaled = pursuit(X, W, 6, tol=0.01), pursuit(X * scale, W, 6, tol=0.01)
    np.testing.assert_array_equal(scaled.indices, codes.indices)
    np.testing.assert_allclose(scaled.values / scale, codes.values, rtol=1e-5)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 20),
    p=st.integers(1, 150),
    d=st.integers(1, 30),
    k=st.integers(1, 30),
    dtype=st.sampled_from([np.float32, np.float64]),
    positive=st.booleans(),
    pursuit=st.sampled_from(
        [matching_pursuit, orthogonal_matching_pursuit, orthogonal_least_squares]
    ),
    exponent=st.integers(-12, 12),
    clustered=st.booleans(),
)
def test_the_error_never_rises_along_the_path(
    seed, n, p, d, k, dtype, positive, pursuit, exponent, clustered
):
    rng = np.random.default_rng(seed)
    if pursuit is orthogonal_least_squares:
        # With d atoms any last one leaves nothing, and rounding decides which (its docstring).
        k = min(k, max(1, d - 2))
    W = rng.standard_normal((p, d))
    if clustered:  # nearly the same atoms
        W = W[rng.integers(0, max(1, p // 3), p)] + 1e-4 * W
    W = unit_rows(W).astype(dtype)
    X = (rng.standard_normal((n, d)) * 10.0**exponent).astype(dtype)
    if pursuit is not matching_pursuit:
        paths = [pursuit(X, W, t, positive=positive).decode(W) for t in range(1, k + 1)]
    else:
        codes = pursuit(X, W, k, positive=positive)
        paths = [
            Codes(codes.indices[:, :t], codes.values[:, :t], p).decode(W)
            for t in range(1, k + 1)
        ]
    norms = [np.linalg.norm(X.astype(float) - Y, axis=1) for Y in [0 * X, *paths]]
    rounding = 64 * np.finfo(dtype).eps * np.linalg.norm(X.astype(float), axis=1)
    assert (np.diff(norms, axis=0) <= rounding).all()
    if positive:
        assert (pursuit(X, W, k, positive=True).values >= 0).all()


def test_fewer_codes_are_a_prefix_of_more():
    X, W = problem(100, 20)
    full = matching_pursuit(X, W, 12)
    for k in (1, 5, 11):
        codes = matching_pursuit(X, W, k)
        np.testing.assert_array_equal(codes.indices, full.indices[:, :k])
        np.testing.assert_allclose(codes.values, full.values[:, :k], atol=1e-13)


@SIGN
def test_more_steps_than_atoms(positive):
    """Matching pursuit takes its atoms again; an orthogonal one has had them all."""
    X, W = problem(5, 8)
    X = np.abs(X @ W.T) @ W
    codes = matching_pursuit(X, W, 9, positive=positive)
    assert codes.indices.shape == (40, 9)
    assert (codes.values[:, 8] != 0).mean() > 0.5
    for pursuit in (orthogonal_matching_pursuit, orthogonal_least_squares):
        assert pursuit(X, W, 9, positive=positive).indices.shape == (40, 5)


def test_codes_forms_agree(rng):
    indices = np.array([[2, 0, 2], [1, 0, 0]])
    values = np.array([[1.0, 2.0, 3.0], [4.0, 0.0, 0.0]])
    codes = Codes(indices, values, 4)
    np.testing.assert_array_equal(codes.dense(), [[2, 0, 4, 0], [0, 4, 0, 0]])
    np.testing.assert_array_equal(codes.csr().toarray(), codes.dense())
    np.testing.assert_array_equal(codes.l0(), [2, 1])
    W = rng.standard_normal((4, 3))
    np.testing.assert_allclose(codes.decode(W), codes.dense() @ W)
    with pytest.raises(FrozenInstanceError):
        codes.n_components = 3


def test_codes_are_shown_in_a_line():
    indices, values = np.zeros((2, 2), int), np.array([[1.0, 2.0], [0.0, 0.0]], np.float32)
    shown = "<Codes: 2 rows, 4 components, 0.5 codes per row, float32>"
    assert repr(Codes(indices, values, 4)) == shown
    assert "0 rows" in repr(Codes(indices[:0], values[:0], 4))


@pytest.mark.parametrize(
    ("X", "dictionary", "k", "match"),
    [
        ([[1.0, 2.0]], np.eye(3), 1, "dictionary has 3 features, X has 2"),
        ([[1.0, 2.0]], 2 * np.eye(2), 1, "unit norm"),
        ([[1.0, 2.0]], np.eye(2), 0, "'n_nonzero_coefs' .* must be an int in the range"),
        ([[1.0, np.nan]], np.eye(2), 1, "NaN"),
        ([[1.0, 2.0]], np.full((2, 2), np.inf), 1, "dictionary contains infinity"),
    ],
)
def test_bad_input_is_refused(X, dictionary, k, match):
    with pytest.raises(ValueError, match=match):
        matching_pursuit(X, dictionary, k)


@PURSUITS
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("n_nonzero_coefs", value) for value in (0, -1, 2.5, "2", np.nan)],
        *[("tol", value) for value in (-1, 1, np.nan, "0.1", None)],
        *[("atol", value) for value in (-1, np.nan, np.inf, "0.1", None)],
        *[("threshold", value) for value in (-1, np.nan, "0.1", None)],
        *[("positive", value) for value in (2, "yes", None)],
        ("device", None),
    ],
    ids=str,
)
def test_parameters_out_of_range_are_refused(pursuit, name, value):
    """-1 as a threshold would stop at correlations of 1; NaN would leave rows without codes."""
    options = {"n_nonzero_coefs": 2, name: value}
    with pytest.raises(ValueError, match=f"'{name}' parameter of {pursuit.__name__} must be"):
        pursuit([[3.0, 1.0]], np.eye(2), **options)


@PURSUITS
def test_a_tolerance_alone_limits_the_codes(pursuit):
    X, W = problem(40, 12)
    for tolerance in ({"tol": 0.2}, {"atol": 1}):
        codes = pursuit(X, W, **tolerance, positive=False)
        whole = pursuit(X, W, 12, **tolerance, positive=False)
        np.testing.assert_array_equal(codes.dense(), whole.dense())
        left = np.square(X - codes.decode(W)).sum(axis=1)
        assert (left <= tolerance.get("atol", 0.2 * np.square(X).sum(axis=1))).all()
    with pytest.raises(ValueError, match="set n_nonzero_coefs, tol or atol"):
        pursuit(X, W)


@PURSUITS
@pytest.mark.parametrize("name", ["tol", "atol"])
def test_a_tolerance_per_row_is_one_of_scaled_rows(pursuit, name):
    """By the way that the error names."""
    X, W = problem(40, 12)
    tolerances = np.linspace(0.1, 5, len(X))
    for each in (tolerances, tolerances.tolist(), torch.from_numpy(tolerances)):
        with pytest.raises(ValueError, match=f"{name} must be one number.*square root.*atol=1"):
            pursuit(X, W, **{name: each})
    roots = np.sqrt(tolerances)[:, None]
    codes = pursuit(X / roots, W, atol=1, positive=False).dense() * roots
    for x, code, tolerance in zip(X, codes, tolerances, strict=True):
        expected = pursuit(x[None], W, atol=tolerance, positive=False).dense()[0]
        np.testing.assert_allclose(code, expected, atol=1e-12)


@PURSUITS
def test_slots_that_no_row_uses_are_left_out(pursuit):
    X, W = np.array([[0.0, 5.0, 0.0], [3.0, 0.0, 4.0], [0.0, 0.0, 0.0]]), np.eye(3)
    codes = pursuit(X, W, 3)
    assert codes.indices.shape == codes.values.shape == (3, 2)
    np.testing.assert_array_equal(codes.dense(), X)
    assert codes.values.base is None  # they take no memory
    assert pursuit(np.zeros((4, 3)), W, 3).indices.shape == (4, 1)


@PURSUITS
def test_options_have_names(pursuit):
    with pytest.raises(TypeError, match="positional"):
        pursuit([[1.0, 2.0]], np.eye(2), 1, 0.5)


@PURSUITS
@pytest.mark.parametrize(
    "kind",
    {
        "requires grad": lambda X: torch.from_numpy(X).requires_grad_(),
        "bfloat16": lambda X: torch.from_numpy(X).bfloat16(),
        "CSR": sparse.csr_array,
        "COO": sparse.coo_array,
    }.items(),
    ids=lambda kind: kind[0],
)
def test_rows_and_atoms_may_be_what_estimators_take(kind, pursuit):
    X, W = np.array([[3, 1, 0], [0, 2, 0]], np.float32), np.eye(3, dtype=np.float32)
    codes, expected = pursuit(kind[1](X), kind[1](W), 2), pursuit(X, W, 2)
    assert codes.values.dtype == np.float32
    np.testing.assert_array_equal(codes.values, expected.values)


def test_sparse_tensors_are_refused():
    with pytest.raises(ValueError, match="to_dense"):
        matching_pursuit(torch.eye(3).to_sparse(), np.eye(3), 2)


@pytest.mark.parametrize("verb", ["matching_pursuit", "blocked_pursuit", "coarse_pursuit"])
@KERNELS
def test_rows_stop_by_what_is_left_of_them_however_little(make_kernels, verb):
    """In float32 the account of a residual is off by more than a small one has."""
    X, W = (a.astype(np.float32) for a in problem(64, 16, n=100))
    args = ("gram", 60) if verb == "matching_pursuit" else (60,)
    options = {"tol": 0.0, "threshold": 0.0, "positive": False}
    left = run(make_kernels, verb, X, W, *args, **options)
    atol = 1e-7 if verb != "coarse_pursuit" else 1e-4
    codes = run(make_kernels, verb, X, W, *args, **options, atol=atol)
    residual, expected = X.astype(float), np.zeros_like(codes.values)
    going = np.ones(len(X), bool)
    for t in range(60):
        expected[going, t] = left.values[going, t]
        residual = residual - left.values[:, t, None].astype(float) * W[left.indices[:, t]]
        going &= (residual**2).sum(axis=1) > atol
    assert not going.all()
    # A residual within rounding of it may stop a step earlier or later.
    assert ((codes.values != 0) != (expected != 0)).sum() <= 3
    assert (codes.l0() < left.l0()).any()


@KERNELS
@pytest.mark.parametrize("verb", ["blocked_pursuit", "coarse_pursuit"])
def test_every_way_ends_with_an_atom_that_a_row_has_already(make_kernels, verb):
    X, W = problem(20, 6)
    codes = run(make_kernels, verb, X, W, 40, tol=0, threshold=0, positive=True, once=True)
    repeats = [
        len(s) - len(set(s))
        for s in (i[v != 0] for i, v in zip(codes.indices, codes.values, strict=True))
    ]
    assert max(repeats) == 1
    for indices, values in zip(codes.indices, codes.values, strict=True):
        taken = indices[values != 0]
        assert len(set(taken[:-1])) == len(taken) - 1
    if verb == "blocked_pursuit":
        expected, _ = reference_codes(reference.matching_pursuit, X, W, 40, once=True)
        np.testing.assert_allclose(codes.dense(), expected, atol=1e-12)


def test_stopping_by_name():
    """`atol` is a squared norm in units of X; it is looked at before each atom."""
    X = [[3.0, 2.0, 1.0], [1.0, 0.0, 0.0], [0.1, 0.0, 0.0]]
    for pursuit in (matching_pursuit, orthogonal_matching_pursuit, orthogonal_least_squares):
        assert pursuit(X, np.eye(3), 3, atol=1.0).l0().tolist() == [2, 0, 0]
        assert pursuit(X, np.eye(3), 3, atol=np.nextafter(1, 0)).l0().tolist() == [3, 1, 0]
    W = np.array([[1.0, 0], [0.6, 0.8]])
    codes = matching_pursuit([[1.0, 3.0]], W, 9, positive=False, stop_on_repeat=True)
    assert codes.indices[0, :3].tolist() == [1, 0, 1]
    assert not codes.values[0, 3:].any()


@pytest.mark.parametrize("value", [2, "yes", None])
def test_stop_on_repeat_is_a_boolean(value):
    with pytest.raises(ValueError, match="'stop_on_repeat' parameter"):
        matching_pursuit([[1.0, 2.0]], np.eye(2), 1, stop_on_repeat=value)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.longdouble, int])
@PURSUITS
def test_numbers_to_stop_by_are_of_any_precision(pursuit, kind, small):
    codes = pursuit(small, np.eye(10), 4, atol=kind(1), threshold=kind(1))
    expected = pursuit(small, np.eye(10), 4, atol=1.0, threshold=1.0)
    np.testing.assert_array_equal(codes.dense(), expected.dense())


def test_atol_is_scikit_learns_tol():
    X, W = problem(40, 12)
    for x in X[:5]:
        (ours,) = orthogonal_matching_pursuit([x], W, 12, atol=2.0).dense()
        np.testing.assert_allclose(ours, orthogonal_mp(W.T, x, tol=2.0), atol=1e-9)


# ------------------------------------------------------------- of estimators, by all doors
FAST = {"n_components": 16, "n_nonzero_coefs": 8, "max_iter": 2, "random_state": 0}
ATOL = 0.3


def learn(est, X, door):
    return est.partial_fit(X[:40]).partial_fit(X[40:]) if door == "stream" else est.fit(X)


@pytest.mark.parametrize("door", ["fit", "stream"])
@pytest.mark.parametrize("scale", [2.0**-10, 2.0**10])
@pytest.mark.parametrize("sparsity", ["row", "average"])
def test_atol_has_the_unit_of_the_data_in_training_too(small, door, scale, sparsity):
    params = FAST | {"sparsity": sparsity, "n_nonzero_coefs": 4}
    one, other, free = (
        learn(MPSparseAutoencoder(**params, atol=atol), X, door)
        for atol, X in [(ATOL, small), (ATOL * scale**2, small * scale), (0.0, small)]
    )
    np.testing.assert_allclose(other.components_, one.components_, atol=1e-12)
    assert abs(one.components_ - free.components_).max() > 1e-3
    np.testing.assert_allclose(other.transform(small * scale), scale * one.transform(small))


@pytest.mark.parametrize("stop", [{"atol": 1e9}, {"stop_on_repeat": True}], ids=str)
def test_training_stops_rows_as_transform_does(small, stop):
    est = MPSparseAutoencoder(**FAST | {"dead_atoms": "keep", "n_components": 8}, **stop)
    all_within = pytest.warns(ConvergenceWarning, match="0 codes.*at most atol. Lower it")
    with all_within if "atol" in stop else nullcontext():
        est.fit(small)
    if "atol" in stop:
        assert not est.atom_usage_.any()
    else:
        free = MPSparseAutoencoder(**est.get_params() | {"stop_on_repeat": False}).fit(small)
        assert est.atom_usage_.sum() < free.atom_usage_.sum()


@pytest.mark.parametrize("algorithm", ["mp", "omp", "ols"])
@pytest.mark.parametrize("sparsity", ["row", "average"])
@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_rows_within_atol_take_no_further_atom(small, algorithm, sparsity, device):
    est = MPSparseAutoencoder(**FAST, whitening=0, sparsity=sparsity, device=device).fit(small)
    est.set_params(transform_algorithm=algorithm, atol=ATOL, stop_on_repeat=True)
    codes = est.encode(small)
    assert len(set(codes.l0())) > 1
    left = (small - codes.decode(est.components_) - est.intercept_) ** 2
    enough = left.sum(axis=1) <= ATOL
    assert enough.any()
    path = est.reconstruction_path(small)
    assert (np.diff(path) <= 1e-12).all()
    assert 1 - path[-1] == pytest.approx(est.score(small), rel=1e-9)
    # One atom fewer would not have been enough.
    if algorithm == "mp":
        for row in np.flatnonzero(enough):
            used = np.flatnonzero(codes.values[row])
            if not len(used):
                continue
            last = codes.values[row, used[-1]] * est.components_[codes.indices[row, used[-1]]]
            before = small[row] - est.intercept_ - codes.decode(est.components_)[row] + last
            assert before @ before > ATOL


def test_a_search_stops_rows_in_all_its_fits(small):
    est = MPSparseAutoencoderCV(
        16, n_nonzero_coefs=6, max_iter=1, cv=2, target_score=None, random_state=0,
        scoring=lambda est, X: (est.atol, est.stop_on_repeat) == (ATOL, True),
        atol=ATOL, stop_on_repeat=True,
    ).fit(small)  # fmt: skip
    assert est.best_score_ == 1


@pytest.mark.parametrize("Cls", [MPSparseAutoencoder, MPSparseAutoencoderCV])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("atol", value) for value in (-1.0, np.nan, np.inf, "0.1", None, [1.0] * 60)],
        *[("stop_on_repeat", value) for value in (2, "yes", None)],
    ],
    ids=str,
)
def test_estimators_refuse_bad_stopping(small, Cls, name, value):
    with pytest.raises(ValueError, match=f"'{name}' parameter of {Cls.__name__} must be"):
        Cls(16, **{name: value}).fit(small)

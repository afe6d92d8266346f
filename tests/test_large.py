"""Large dictionaries: no p x p matrix where it does not fit, and choosing in bfloat16."""

import tracemalloc

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae.coding import (
    matching_pursuit,
    orthogonal_least_squares,
    orthogonal_matching_pursuit,
    pursuit,
)
from sklearn_mpsae.coding.kernels import gram_rows, native, reference, residuals
from sklearn_mpsae.coding.kernels.native import NativeKernels
from sklearn_mpsae.coding.pursuit import cheapest_path
from sklearn_mpsae.coding.unit import unit_rows

SIGN = pytest.mark.parametrize("positive", [True, False], ids=["positive", "signed"])
DTYPE = pytest.mark.parametrize("dtype", [np.float32, np.float64])
STOP = pytest.mark.parametrize(
    "stop",
    [
        {"tol": 0.0, "threshold": 0.0},
        {"tol": 0.4, "threshold": 0.0},
        {"tol": 0.0, "threshold": 1.2},
    ],
    ids=["never", "tol", "threshold"],
)
ORTHOGONAL_PURSUITS = {"omp": orthogonal_matching_pursuit, "ols": orthogonal_least_squares}
ORTHOGONAL = pytest.mark.parametrize("algorithm", ORTHOGONAL_PURSUITS)
NEVER = {"tol": 0.0, "threshold": 0.0, "positive": True}


def problem(n, p, d, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    X, W = rng.standard_normal((n, d)), unit_rows(rng.standard_normal((p, d)))
    return X.astype(dtype), W.astype(dtype)


def small_memory(monkeypatch, n_rows, n_waiting, p, itemsize):
    """Room for so many rows of the Gram matrix, and so many rows of X at a time."""
    monkeypatch.setattr(native, "DEMAND_BYTES", n_rows * p * itemsize)
    monkeypatch.setattr(native, "WAITING_BYTES", n_waiting * p * itemsize)


@SIGN
@STOP
@pytest.mark.parametrize("n_rows", [1, 7, 1000])
def test_blocked_pursuit_is_the_reference(monkeypatch, positive, stop, n_rows):
    X, W = problem(40, 257, 32)
    small_memory(monkeypatch, n_rows, 16, 257, 8)
    with NativeKernels() as kernels:
        indices, values = kernels.blocked_pursuit(X, W, 6, **stop, positive=positive)
    lengths = set()
    for row, x in enumerate(X):
        support, expected = reference.matching_pursuit(
            torch.tensor(x), torch.tensor(W), 6, **stop, positive=positive
        )
        lengths.add(len(support))
        np.testing.assert_array_equal(indices[row, : len(support)], support)
        np.testing.assert_allclose(values[row, : len(support)], expected, atol=1e-12)
        assert not values[row, len(support) :].any()
    assert len(lengths) > 1 or not any(stop.values())


@DTYPE
@SIGN
def test_blocked_pursuit_is_that_on_the_gram_matrix(dtype, positive):
    X, W = problem(300, 2500, 24, dtype)
    options = {**NEVER, "positive": positive}
    with NativeKernels() as kernels:
        blocked = kernels.blocked_pursuit(X, W, 9, **options)
        whole = kernels.matching_pursuit(X, W, kernels.gram(W), 9, **options)
    same = (blocked[0] == whole[0]).all(axis=1)
    assert same.mean() > 0.99  # in float32 a tie may fall the other way
    np.testing.assert_allclose(blocked[1][same], whole[1][same], atol=200 * np.finfo(dtype).eps)


@DTYPE
@SIGN
@STOP
def test_coarse_pursuit_takes_exact_values(dtype, positive, stop):
    """Values follow from the atoms; atoms are nearly always those of the full pursuit."""
    X, W = problem(200, 600, 48, dtype)
    with NativeKernels() as kernels:
        indices, values = kernels.coarse_pursuit(X, W, 8, **stop, positive=positive)
        full = kernels.matching_pursuit(X, W, kernels.gram(W), 8, **stop, positive=positive)
    R = X.astype(np.float64)
    energy = np.square(R).sum(axis=1)
    for i, v in zip(indices.T, values.T, strict=True):
        exact = np.einsum("nd,nd->n", R, W[i])
        used = v != 0
        np.testing.assert_allclose(v[used], exact[used], atol=100 * np.finfo(dtype).eps)
        assert (np.abs(v[used]) > stop["threshold"]).all()
        assert (np.square(R).sum(axis=1)[used] > stop["tol"] * energy[used] * 0.999).all()
        R -= v[:, None] * W[i]
    assert (indices == full[0]).mean() > 0.98
    assert not positive or (values >= 0).all()


@SIGN
def test_coarse_pursuit_without_room_for_all_rows(monkeypatch, positive):
    X, W = problem(100, 300, 24)
    options = {**NEVER, "positive": positive}
    with NativeKernels() as kernels:
        expected = kernels.coarse_pursuit(X, W, 6, **options)
        small_memory(monkeypatch, 20, 32, 300, 2)
        codes = kernels.coarse_pursuit(X, W, 6, **options)
    np.testing.assert_array_equal(codes[0], expected[0])
    np.testing.assert_allclose(codes[1], expected[1], atol=1e-12)


@pytest.mark.parametrize("verb", ["blocked_pursuit", "coarse_pursuit"])
@SIGN
def test_ties_go_to_the_lowest_index(verb, positive):
    W = np.repeat(np.eye(3), 5, axis=0)
    with NativeKernels() as kernels:
        options = {**NEVER, "positive": positive}
        indices, values = getattr(kernels, verb)(np.array([[1.0, 3, 2]]), W, 5, **options)
    np.testing.assert_array_equal(indices[0], [5, 10, 0, 0, 0])
    np.testing.assert_allclose(values[0], [3, 2, 1, 0, 0])


@pytest.mark.parametrize("verb", ["blocked_pursuit", "coarse_pursuit"])
def test_codes_do_not_depend_on_the_number_of_threads(verb):
    X, W = problem(600, 3000, 64, np.float32)
    before = torch.get_num_threads()
    codes = []
    for n_threads in (1, 2, 3):
        with threadpool_limits(n_threads, user_api="openmp"), NativeKernels() as kernels:
            codes.append(getattr(kernels, verb)(X, W, 8, **NEVER))
    for other in codes[1:]:
        np.testing.assert_array_equal(other[0], codes[0][0])
        np.testing.assert_array_equal(other[1], codes[0][1])
    assert torch.get_num_threads() == before


def test_coarse_pursuit_where_the_processor_has_no_bfloat16(monkeypatch):
    X, W = problem(100, 300, 24, np.float32)
    with NativeKernels() as kernels:
        expected = kernels.coarse_pursuit(X, W, 6, **NEVER)
        monkeypatch.setattr(gram_rows, "has_bfloat16", lambda: False)
        codes = kernels.coarse_pursuit(X, W, 6, **NEVER)
    assert (codes[0] == expected[0]).mean() > 0.98


@SIGN
def test_a_coarse_choice_is_fine_after_a_code_a_hundred_times_as_large(positive):
    """Rounding is that of the row's largest correlation, also for those that come later."""
    X, W = problem(200, 50, 20)
    X += 100 * W[0]
    options = {"tol": 0.0, "threshold": 0.0, "positive": positive}
    with NativeKernels() as kernels:
        expected, _ = kernels.matching_pursuit(X, W, None, 2, **options)
        indices, _ = kernels.coarse_pursuit(X, W, 2, **options)
    np.testing.assert_array_equal(indices, expected)


def test_a_coarse_choice_of_the_wrong_sign_is_left_out():
    """Of the row and the atom as rounded the code is positive, of themselves it is not."""
    X, W = np.ones((1, 3), np.float32), np.array([[0, 0, 0], [0.7, 0.31, -1.0115]], np.float32)
    rounded = torch.tensor(W).bfloat16().float().numpy()
    assert (X @ rounded.T)[0, 1] > 0 > (X @ W.T)[0, 1]
    with NativeKernels() as kernels:
        indices, values = kernels.coarse_pursuit(X, W, 2, **NEVER)
    assert not indices.any()
    assert not values.any()


@pytest.mark.parametrize("verb", ["blocked_pursuit", "coarse_pursuit"])
def test_rows_of_zeros_have_no_codes(verb):
    _, W = problem(1, 20, 5)
    with NativeKernels() as kernels:
        indices, values = getattr(kernels, verb)(np.zeros((3, 5)), W, 4, **NEVER)
    assert not indices.any()
    assert not values.any()


@pytest.mark.parametrize(
    ("shape", "path"),
    [
        ((10_000, 1024, 784, 32, 4), "gram"),
        ((4096, 16_384, 768, 32, 4), "gram"),
        # Few features: a product costs less than updates of correlations.
        ((10_000, 100, 8, 8, 4), "residual"),
        # One row: forming a Gram matrix would cost more than all the rest.
        ((1, 1024, 784, 32, 4), "residual"),
        ((64, 65_536, 768, 2, 4), "residual"),
        # Rows on demand, but for so few rows of X that they share too few atoms.
        ((64, 65_536, 768, 16, 4), "blocked"),
        ((16, 65_536, 768, 16, 4), "residual"),
        # A hundred rows pick half of the atoms, a few at each step: all at once are cheaper.
        ((100, 1024, 784, 10, 4), "gram"),
        # A Gram matrix of 16 GiB is not formed.
        ((1024, 65_536, 768, 16, 4), "blocked"),
        ((10**6, 32_768, 768, 32, 4), "blocked"),
    ],
    ids=str,
)
def test_the_cost_model_takes_the_cheapest_path(shape, path):
    assert cheapest_path(*shape) == path


@pytest.mark.parametrize("room", [100, 700, 1000])
@pytest.mark.parametrize("n_picks", [50, 1000, 20_000])
def test_rows_on_demand_are_as_many_as_a_simulation_fetches(monkeypatch, rng, n_picks, room):
    """Each when it is first picked, until memory is full: then all are forgotten."""
    monkeypatch.setattr(pursuit, "DEMAND_BYTES", room * 1000 * 4)
    n_fetched, held = 0, set()
    for pick in rng.integers(1000, size=n_picks):
        if pick not in held:
            held = set() if len(held) == room else held
            held.add(pick)
            n_fetched += 1
    assert pursuit._rows_on_demand(n_picks, 1000, 4) == pytest.approx(n_fetched, rel=0.05)


@pytest.mark.parametrize("path", ["blocked", "residual"])
@pytest.mark.parametrize("precision", ["full", "bfloat16"])
def test_many_atoms_train_without_their_gram_matrix(monkeypatch, path, precision):
    """With p = 20,000 it would take 1.6 GB in float32; here rows on demand may take 64 MB."""
    p = 20_000
    X, W = problem(128, p, 16, np.float32)
    monkeypatch.setattr(native, "DEMAND_BYTES", 1 << 26)
    monkeypatch.setattr("sklearn_mpsae.coding.pursuit.cheapest_path", lambda *_: path)
    monkeypatch.setattr("sklearn_mpsae.models.coder.cheapest_path", lambda *_: path)
    monkeypatch.setattr(NativeKernels, "gram", None)
    sae = MPSparseAutoencoder(
        p, n_nonzero_coefs=3, precision=precision, device="cpu", random_state=0, dict_init=W
    )
    tracemalloc.start()
    sae.partial_fit(X)
    codes = sae.encode(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400e6
    assert codes.l0().max() <= 3


@pytest.mark.parametrize(
    ("shape", "path"),
    [
        ((10_000, 1024, 784, 32, 4), "gram"),
        ((100, 1024, 784, 32, 4), "gram"),
        # One row pays for no Gram matrix, nor do few.
        ((1, 1024, 784, 32, 4), "residual"),
        ((1, 16_384, 64, 16, 8), "residual"),
        ((256, 16_384, 64, 16, 4), "residual"),
        # Few features: a product costs about as much as updates of correlations.
        ((1000, 4096, 64, 32, 4), "gram"),
        ((1000, 4096, 8, 8, 4), "residual"),
        # 8 GiB, and more.
        ((10**6, 46_340, 768, 16, 4), "gram"),
        ((10**6, 46_341, 768, 16, 4), "residual"),
        ((10**6, 32_768, 768, 16, 8), "gram"),
        ((10**6, 32_769, 768, 16, 8), "residual"),
    ],
    ids=str,
)
@ORTHOGONAL
def test_the_cost_model_takes_the_cheapest_path_of_an_orthogonal_pursuit(
    monkeypatch, shape, path, algorithm
):
    monkeypatch.watch(pursuit, "ORTHOGONAL_BYTES", 8 << 30)
    assert cheapest_path(*shape, algorithm) == path


@SIGN
@ORTHOGONAL
def test_many_atoms_are_coded_orthogonally_without_their_gram_matrix(
    monkeypatch, positive, algorithm
):
    """With p = 20,000 it would take 1.6 GB in float32, and the rows' bases 13 MB."""
    X, W = problem(300, 20_000, 16, np.float32)
    monkeypatch.setattr("sklearn_mpsae.coding.pursuit.ORTHOGONAL_BYTES", 1 << 30)
    monkeypatch.setattr(NativeKernels, "gram", None)
    pursuit = ORTHOGONAL_PURSUITS[algorithm]
    tracemalloc.start()
    codes = pursuit(X, W, 5, positive=positive, device="cpu")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6
    assert (codes.l0() == 5).all()


@ORTHOGONAL
def test_many_atoms_train_and_transform_orthogonally_without_their_gram_matrix(
    monkeypatch, algorithm
):
    X, W = problem(40, 60, 8)
    monkeypatch.setattr("sklearn_mpsae.coding.pursuit.ORTHOGONAL_BYTES", 1000)
    monkeypatch.setattr(NativeKernels, "gram", None)
    sae = MPSparseAutoencoder(
        60, n_nonzero_coefs=3, transform_algorithm=algorithm, max_iter=3, device="cpu",
        dict_init=W, whitening=0, random_state=0,
    )  # fmt: skip
    pursuit = ORTHOGONAL_PURSUITS[algorithm]
    codes = sae.fit(X).transform(X)
    expected = pursuit(X - sae.intercept_, sae.components_, 3, positive=True, device="cpu")
    np.testing.assert_allclose(codes, expected.dense(), atol=1e-12)


@pytest.mark.parametrize("by_refit", [False, True], ids=["omp", "ols"])
def test_orthogonal_codes_do_not_depend_on_the_number_of_threads(by_refit):
    X, W = problem(600, 2000, 64, np.float32)
    codes = []
    for n_threads in (1, 2, 3):
        with threadpool_limits(n_threads, user_api="openmp"), NativeKernels() as kernels:
            codes.append(kernels.orthogonal_pursuit(X, W, None, 8, **NEVER, by_refit=by_refit))
    for other in codes[1:]:
        np.testing.assert_array_equal(other[0], codes[0][0])
        np.testing.assert_array_equal(other[1], codes[0][1])


@pytest.mark.parametrize("by_refit", [False, True], ids=["omp", "ols"])
@pytest.mark.parametrize("n_bytes", [1, 1 << 16])
def test_little_memory_means_few_rows_at_once(monkeypatch, n_bytes, by_refit):
    X, W = problem(50, 100, 16)
    options = NEVER | {"by_refit": by_refit}
    with NativeKernels() as kernels:
        expected = kernels.orthogonal_pursuit(X, W, None, 6, **options)
        monkeypatch.setattr(residuals, "SPAN_BYTES", n_bytes)
        assert residuals.rows_at_once(W, 6, by_refit) < 50
        codes = kernels.orthogonal_pursuit(X, W, None, 6, **options)
    np.testing.assert_array_equal(codes[0], expected[0])
    np.testing.assert_allclose(codes[1], expected[1], atol=1e-12)


def test_bfloat16_trains_as_well_and_transforms_in_full():
    X = load_digits().data.astype(np.float32)
    options = {"n_nonzero_coefs": 8, "max_iter": 10, "device": "cpu", "random_state": 0}
    options["whitening"] = 0
    full = MPSparseAutoencoder(128, **options).fit(X)
    coarse = MPSparseAutoencoder(128, precision="bfloat16", **options).fit(X)
    assert coarse.components_.dtype == np.float32
    assert coarse.score(X) > full.score(X) - 0.01
    codes = coarse.encode(X)
    expected = matching_pursuit(X - coarse.intercept_, coarse.components_, 8, device="cpu")
    np.testing.assert_array_equal(codes.indices, expected.indices)
    np.testing.assert_array_equal(codes.values, expected.values)

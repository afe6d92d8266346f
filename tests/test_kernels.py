"""The kernels' verbs one by one: each is its NumPy definition, on both sets of kernels."""

import inspect

import numpy as np
import pytest
import torch

from sklearn_mpsae.coding import kernels as coding_kernels
from sklearn_mpsae.coding.kernels import gram_rows, loops
from sklearn_mpsae.coding.kernels.loops.pursuit import _best_of_coarse
from sklearn_mpsae.coding.kernels.native import NativeKernels
from sklearn_mpsae.coding.kernels.products import correlations
from sklearn_mpsae.coding.kernels.tensor import TensorKernels
from sklearn_mpsae.coding.kernels.verbs import Kernels
from sklearn_mpsae.coding.unit import unit_rows

DTYPES = pytest.mark.parametrize(("dtype", "tol"), [(np.float64, 1e-12), (np.float32, 2e-5)])
SIGN = pytest.mark.parametrize("positive", [True, False], ids=["positive", "signed"])
# Fewer atoms than lanes of the compiled loops, as many, and more, by what is no multiple.
SIZES = pytest.mark.parametrize("p", [1, 20, 64, 150])


@pytest.fixture(params=["native", "tensor"])
def kernels(request):
    native = request.param == "native"
    with NativeKernels() if native else TensorKernels("cpu", np.float64) as found:
        yield found


def call(kernels, verb, *arguments, **options):
    """A verb's answer to NumPy arrays, in NumPy arrays."""
    arguments = [kernels.asarray(x) if isinstance(x, np.ndarray) else x for x in arguments]
    answer = getattr(kernels, verb)(*arguments, **options)
    if isinstance(answer, tuple):
        return tuple(x if np.isscalar(x) else kernels.to_numpy(x) for x in answer)
    return answer if isinstance(answer, np.ndarray) else kernels.to_numpy(answer)


@pytest.fixture
def codes(rng):
    """Atoms of 12 rows in 7 slots, some taken twice, and values of both signs; one slot in
    three is unused, and one row has no codes at all.
    """
    indices = rng.integers(30, size=(12, 7)).astype(np.int32)
    values = rng.standard_normal((12, 7))
    indices[:, 3] = indices[:, 2]
    unused = rng.random((12, 7)) < 1 / 3
    unused[5] = True
    return np.where(unused, 0, indices).astype(np.int32), np.where(unused, 0, values)


def dense(indices, values, p):
    out = np.zeros((len(indices), p))
    np.add.at(out, (np.arange(len(indices))[:, None], indices), values)
    return out


def verbs_of(cls):
    """The parameters of each verb, with what kind they are and their defaults."""
    return {
        name: [each.replace(annotation=each.empty) for each in parameters.values()]
        for name, verb in vars(cls).items()
        if inspect.isfunction(verb) and not name.startswith("_")
        for parameters in [inspect.signature(verb).parameters]
    }


@pytest.mark.parametrize("cls", [NativeKernels, TensorKernels])
def test_kernels_have_the_verbs_of_their_contract(cls):
    """All of them and no others, with the same parameters, described in one place."""
    assert verbs_of(cls) == verbs_of(Kernels)
    for name in verbs_of(Kernels):
        assert vars(Kernels)[name].__doc__
        assert not vars(cls)[name].__doc__


def test_the_contract_says_which_answers_are_buffers(rng):
    """The next call of the verb overwrites them, and no other answer."""
    X, W = rng.standard_normal((9, 11)), rng.standard_normal((20, 11))
    with NativeKernels() as kernels:
        stops = {"tol": 0, "threshold": 0, "positive": True}
        codes = kernels.matching_pursuit(X, W, None, 3, **stops)
        bias, G = np.zeros(20), W @ W.T
        calls = {
            "gram": lambda: [kernels.gram(W)],
            "product": lambda: [kernels.product(X, W)],
            "matching_pursuit": lambda: kernels.matching_pursuit(X, W, G, 3, **stops),
            "blocked_pursuit": lambda: kernels.blocked_pursuit(X, W, 3, **stops),
            "coarse_pursuit": lambda: kernels.coarse_pursuit(X, W, 3, **stops),
            "orthogonal_pursuit": lambda: kernels.orthogonal_pursuit(X, W, G, 3, **stops),
            "top_k": lambda: kernels.top_k(X, W, bias, 3, positive=True),
            "above": lambda: kernels.above(X, W, bias, bias),
            "batch_top_k": lambda: kernels.batch_top_k(X, W, bias, 20)[:2],
            "by_value": lambda: kernels.by_value(*codes),
            "decode": lambda: [kernels.decode(*codes, W)],
            "gather_dot": lambda: [kernels.gather_dot(X, W, codes[0])],
            "scatter_outer": lambda: [kernels.scatter_outer(*codes, X, 20)],
            "pursuit_gradient": lambda: kernels.pursuit_gradient(X, W, *codes)[:2],
        }
        for name, verb in calls.items():
            shared = [np.shares_memory(a, b) for a, b in zip(verb(), verb(), strict=True)]
            assert set(shared) == {"A buffer" in vars(Kernels)[name].__doc__}, name


# ------------------------------------------------------------------------------- valuing
def test_exp(kernels, rng):
    x = rng.standard_normal(9)
    np.testing.assert_allclose(call(kernels, "exp", x), np.exp(x), rtol=1e-12)


def test_count(kernels, codes):
    indices, values = codes
    expected = [np.sum((indices == j) & (values != 0)) for j in range(40)]
    assert call(kernels, "count", indices, values, 40).tolist() == expected


@pytest.mark.parametrize("scale", [1, 1e-30])
def test_energies_are_in_float64(kernels, rng, scale):
    X = (scale * rng.standard_normal((5, 9))).astype(np.float32)
    found = call(kernels, "energies", X)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, (X.astype(np.float64) ** 2).sum(axis=1), rtol=1e-7)


@DTYPES
def test_decode(kernels, codes, rng, dtype, tol):
    W = rng.standard_normal((30, 11)).astype(dtype)
    found = call(kernels, "decode", codes[0], codes[1].astype(dtype), W)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, dense(*codes, 30) @ W, atol=10 * tol)


@DTYPES
def test_gather_dot(kernels, codes, rng, dtype, tol):
    W, R = (rng.standard_normal((n, 11)).astype(dtype) for n in (30, 12))
    found = call(kernels, "gather_dot", R, W, codes[0])
    expected = np.take_along_axis(R @ W.T, codes[0].astype(np.int64), axis=1)
    np.testing.assert_allclose(found, expected, atol=10 * tol)


@DTYPES
def test_scatter_outer(kernels, codes, rng, dtype, tol):
    R = rng.standard_normal((12, 11)).astype(dtype)
    found = call(kernels, "scatter_outer", codes[0], codes[1].astype(dtype), R, 30)
    np.testing.assert_allclose(found, dense(*codes, 30).T @ R, atol=10 * tol)


@pytest.mark.parametrize("p", [1, 7, 128, 133, 300])
def test_gram(kernels, rng, p):
    W = rng.standard_normal((p, 11))
    np.testing.assert_allclose(call(kernels, "gram", W), W @ W.T, atol=1e-12)


# ------------------------------------------------------------------------------ choosing
def linear_problem(rng, p):
    """Rows, atoms and biases, and what the linear encoder makes of them."""
    X, W, bias = rng.standard_normal((9, 11)), rng.standard_normal((p, 11)), rng.random(p) - 0.5
    return (X, W, bias), X @ W.T + bias


@SIZES
@SIGN
@pytest.mark.parametrize("k", [1, 4, 30])
def test_top_k(kernels, rng, p, k, positive):
    problem, outputs = linear_problem(rng, p)
    indices, values = call(kernels, "top_k", *problem, k, positive=positive)
    assert indices.shape == values.shape == (9, k)
    scores = np.maximum(outputs, 0) if positive else np.abs(outputs)
    for row in range(9):
        best = np.argsort(-scores[row])[: min(k, p)]
        best = best[scores[row, best] > 0]
        np.testing.assert_array_equal(indices[row, : len(best)], best)
        np.testing.assert_allclose(values[row, : len(best)], outputs[row, best])
        assert not indices[row, len(best) :].any()
        assert not values[row, len(best) :].any()


@SIZES
def test_above(kernels, rng, p):
    problem, outputs = linear_problem(rng, p)
    floor = 2 * rng.random(p)
    indices, values = call(kernels, "above", *problem, floor)
    expected = np.where(outputs > floor, outputs, 0)
    np.testing.assert_allclose(dense(indices, values, p), expected, atol=1e-12)
    assert values.shape[1] == max(1, (expected > 0).sum(axis=1).max())
    assert not indices[values == 0].any()


@SIZES
@pytest.mark.parametrize("n_codes", [1, 25, 10_000])
def test_batch_top_k(kernels, rng, p, n_codes):
    problem, outputs = linear_problem(rng, p)
    answer = call(kernels, "batch_top_k", *problem, n_codes, 0.3)
    indices, values, threshold, next_one, n_above = answer
    ordered = np.sort(outputs, axis=None)[::-1]
    largest, others = ordered[:n_codes], ordered[n_codes:]
    assert threshold == pytest.approx(max(largest[-1], 0))
    assert next_one == pytest.approx(max(others.max(initial=0), 0))
    assert n_above == (outputs > 0.3).sum()
    positive = largest[largest > 0]
    np.testing.assert_allclose(np.sort(values[values > 0])[::-1], positive)
    np.testing.assert_allclose(
        dense(indices, values, p), np.where(outputs >= max(threshold, 1e-300), outputs, 0)
    )


def test_batch_top_k_of_equal_outputs(kernels):
    """All that equal the smallest are taken; the next one is smaller."""
    outputs = np.array([[3.0, 2.0, 2.0, 1.0, -1.0]])
    problem = np.ones((2, 1)), outputs.T, np.zeros(5)
    for n_codes, n_taken, smallest, below in (
        (2, 2, 3, 2),
        (3, 6, 2, 1),
        (6, 6, 2, 1),
        (7, 8, 1, 0),
    ):
        _, values, threshold, next_one, _ = call(kernels, "batch_top_k", *problem, n_codes)
        assert (np.count_nonzero(values), threshold, next_one) == (n_taken, smallest, below)


def test_by_value(kernels, codes):
    indices, values = call(kernels, "by_value", *codes)
    order = np.argsort(-codes[1], axis=1, kind="stable")
    np.testing.assert_array_equal(indices, np.take_along_axis(codes[0], order, 1))
    np.testing.assert_array_equal(values, np.take_along_axis(codes[1], order, 1))


@SIGN
@pytest.mark.parametrize("verb", ["matching_pursuit", "blocked_pursuit", "coarse_pursuit"])
def test_a_value_is_the_correlation_of_its_atom_with_what_is_left(kernels, rng, positive, verb):
    """To rounding of float64, coarse as the choice of the atom may be."""
    W, X = unit_rows(rng.standard_normal((40, 8))), rng.standard_normal((20, 8))
    gram = (W @ W.T,) if verb == "matching_pursuit" else ()
    indices, values = call(kernels, verb, X, W, *gram, 5, tol=0, threshold=0, positive=positive)
    left = X.copy()
    for i, v in zip(indices.T, values.T, strict=True):
        used = v != 0
        np.testing.assert_allclose(v[used], (left * W[i]).sum(axis=1)[used], atol=1e-12)
        left -= v[:, None] * W[i]
    assert used.all()


@pytest.mark.parametrize(
    ("verb", "k"),
    [
        ("matching_pursuit", 5),
        ("residual", 5),
        ("blocked_pursuit", 5),
        ("coarse_pursuit", 5),
        ("orthogonal_pursuit", 1),
        ("orthogonal_residual", 1),
        ("orthogonal_least_squares", 1),
        ("least_squares_residual", 1),
    ],
)
def test_positive_codes_of_atoms_and_their_opposites_are_the_signed_ones(kernels, rng, verb, k):
    """A correlation of the same size and the wrong sign is not taken for the largest.

    An atom and its opposite share a lane of the compiled loops.
    """
    W, X = unit_rows(rng.standard_normal((64, 8))), rng.standard_normal((20, 8))
    both = np.concatenate([-W, W])

    def codes(W, positive):
        gram = {"blocked_pursuit": (), "coarse_pursuit": ()}
        gram |= {name: (None,) for name in (verb,) if name.endswith("residual")}
        name = {
            "residual": "matching_pursuit",
            "orthogonal_residual": "orthogonal_pursuit",
            "orthogonal_least_squares": "orthogonal_pursuit",
            "least_squares_residual": "orthogonal_pursuit",
        }.get(verb, verb)
        stops = {"tol": 0, "threshold": 0, "positive": positive}
        if "least_squares" in verb:
            stops["by_refit"] = True
        return call(kernels, name, X, W, *gram.get(verb, (W @ W.T,)), k, **stops)

    indices, values = codes(both, positive=True)
    signed = np.where(indices < 64, -values, values)
    expected, expected_values = codes(W, positive=False)
    np.testing.assert_array_equal(indices % 64, expected)
    np.testing.assert_allclose(signed, expected_values, atol=1e-12)


@SIGN
@pytest.mark.parametrize(
    "path",
    [
        *("gram", "residual", "orthogonal", "by_refit"),
        *("orthogonal residual", "by_refit residual"),
    ],
)
def test_a_row_stops_where_its_correlations_drown_in_rounding(kernels, rng, positive, path):
    """Each row is a sum of three of 20 orthonormal atoms: no fourth one is worth a code."""
    W = np.linalg.qr(rng.standard_normal((20, 20)))[0]
    X = rng.random((50, 3)) @ W[:3] + W[:3].sum(axis=0)
    orthogonal = path.startswith(("orthogonal", "by_refit"))
    verb = "orthogonal_pursuit" if orthogonal else "matching_pursuit"
    G = None if path.endswith("residual") else W @ W.T
    options = {"tol": 0, "threshold": 0, "positive": positive}
    options |= {"by_refit": path.startswith("by_refit")} if orthogonal else {}
    indices, values = call(kernels, verb, X, W, G, 8, **options)
    assert (np.count_nonzero(values, axis=1) == 3).all()
    np.testing.assert_allclose(dense(indices, values, 20) @ W, X, atol=1e-12)


@SIGN
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("by_refit", [False, True], ids=["omp", "ols"])
@pytest.mark.parametrize("path", ["gram", "residual"])
def test_orthogonal_pursuit_ends_where_no_atom_is_independent(
    kernels, rng, positive, flat, by_refit, path
):
    """More steps than dimensions; and atoms that lie in a plane, but for rounding."""
    W = unit_rows(rng.standard_normal((40, 3)) * (1, 1, 1e-8 if flat else 1))
    X = rng.standard_normal((30, 3))
    options = {"tol": 0, "threshold": 0, "positive": positive, "by_refit": by_refit}
    gram = W @ W.T if path == "gram" else None
    indices, values = call(kernels, "orthogonal_pursuit", X, W, gram, 8, **options)
    assert not indices[values == 0].any()
    if flat and by_refit:
        return  # the second atom may tilt the plane, and the others then add to it
    assert (np.count_nonzero(values, axis=1) <= 3).all()
    left = X - dense(indices, values, 40) @ W
    if flat:
        assert (np.count_nonzero(values, axis=1) <= 2).all()
    elif positive:
        # No atom that is left out would lower the error: that is non-negative least squares.
        assert (left @ W.T).max() < 1e-9
    else:
        np.testing.assert_allclose(left, 0, atol=1e-9)


# ------------------------------------------------------------------------------ stepping
def adam(W, gradient, mean, square, rates, sphere, max_norm):
    step, beta1, beta2, correct1, correct2 = rates
    if sphere:
        gradient = gradient - (gradient * W).sum(axis=1, keepdims=True) * W
    mean = beta1 * mean + (1 - beta1) * gradient
    square = beta2 * square + (1 - beta2) * (gradient**2).sum(axis=1)
    W = W - step * (mean * correct1) / np.sqrt(square * correct2)[:, None]
    norms = np.linalg.norm(W, axis=1, keepdims=True)
    return W / (norms if sphere else np.maximum(norms / max_norm, 1)), mean, square


@DTYPES
@pytest.mark.parametrize(
    ("sphere", "max_norm"), [(True, np.inf), (False, np.inf), (False, 1.02)], ids=str
)
def test_adam_step(kernels, rng, dtype, tol, sphere, max_norm):
    W = unit_rows(rng.standard_normal((9, 6)))
    state = W, np.zeros((9, 6)), np.zeros(9)
    arrays = [kernels.asarray(x.astype(dtype)) for x in state]
    for t in range(1, 5):
        rates = 0.1, 0.5, 0.9, 1 / (1 - 0.5**t), 1 / (1 - 0.9**t)
        gradient = rng.standard_normal((9, 6))
        state = adam(state[0], gradient, *state[1:], rates, sphere, max_norm)
        kernels.adam_step(
            arrays[0],
            kernels.asarray(gradient.astype(dtype)),
            *arrays[1:],
            rates,
            sphere=sphere,
            max_norm=max_norm,
        )
        for found, expected in zip(arrays, state, strict=True):
            np.testing.assert_allclose(kernels.to_numpy(found), expected, atol=10 * tol)
    norms = np.linalg.norm(kernels.to_numpy(arrays[0]), axis=1)
    assert (norms < 1.03).all() == (sphere or max_norm < np.inf)


def test_a_step_without_gradient_stays(kernels, rng):
    """Of an atom that was never used, whose second moment is zero."""
    W = unit_rows(rng.standard_normal((2, 6)))
    arrays = [kernels.asarray(x) for x in (W.copy(), 0 * W, 0 * W, np.zeros(2))]
    kernels.adam_step(*arrays, (0.1, 0.5, 0.9, 2.0, 10.0), sphere=True)
    np.testing.assert_allclose(kernels.to_numpy(arrays[0]), W, rtol=1e-15)


# ------------------------------------------------------------------------------- devices
@pytest.mark.parametrize(
    ("cuda", "mps", "dtype", "device"),
    [
        (False, False, np.float32, "cpu"),
        (True, True, np.float32, "cuda"),
        (True, False, np.float64, "cuda"),
        (False, True, np.float32, "mps"),
        # Apple's GPUs have no float64.
        (False, True, np.float64, "cpu"),
    ],
)
def test_auto_is_the_device_that_computes_in_the_dtype(
    own_choice, monkeypatch, cuda, mps, dtype, device
):
    monkeypatch.setattr(coding_kernels, "_may_have_accelerator", lambda: True)
    monkeypatch.watch(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.watch(torch.backends.mps, "is_available", lambda: mps)
    assert coding_kernels._best_device(np.dtype(dtype)) == device


@pytest.mark.parametrize(
    ("platform", "there", "expected"),
    [
        ("linux", (), False),
        ("linux", ("/dev/nvidiactl",), True),
        ("linux", ("/dev/kfd",), True),
        ("darwin", (), True),
    ],
)
def test_torch_is_asked_where_there_may_be_a_gpu(monkeypatch, platform, there, expected):
    monkeypatch.setattr(coding_kernels.sys, "platform", platform)
    monkeypatch.watch(coding_kernels.os.path, "exists", lambda path: path in there)
    assert coding_kernels._may_have_accelerator() == expected


def test_without_mkldnn_torch_has_no_fast_bfloat16(monkeypatch):
    asked = (
        torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    assert gram_rows.has_bfloat16() == asked
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not gram_rows.has_bfloat16()


# ------------------------------------------------------------------------ compiled loops
def test_bfloat16_is_rounded_to_nearest_ties_to_even():
    X = np.array([[1, -1, 1 + 2**-8, 1 + 3 * 2**-8, 1e-30, -3e30, np.pi, 0]], np.float32)
    halves, back = np.empty(X.shape, np.uint16), np.empty_like(X)
    loops.round_rows(X, halves)
    loops.expand_rows(halves, back)
    np.testing.assert_array_equal(back, torch.tensor(X).bfloat16().float().numpy())


@SIGN
def test_a_coarse_choice_is_settled_by_exact_values_and_then_by_the_lowest_index(positive):
    W = np.zeros((150, 3))
    W[[10, 70, 140]] = [[0.6, 0.8, 0], [0.6, 0.8, 0], [0.8, 0.6, 0]]
    sign = 1 if positive else -1
    c = sign * np.full(150, 0.1)
    c[[10, 70, 140]] = sign * np.array([0.999, 1.0, 0.998])
    top, near = np.zeros(64), np.empty(64, np.int32)
    np.maximum.at(top, np.arange(150) % 64, np.abs(c))
    for residual, expected in [([1, 1, 0], 10), ([0, 1, 0], 10), ([1, 0, 0], 140)]:
        residual = sign * np.array(residual, float)
        found, value = _best_of_coarse(c, 70, top, positive, 1.0, residual, W, near)
        assert found == expected
        assert value == pytest.approx(W[expected] @ residual)
    # Beyond the rounding, no exact value is asked for.
    c[140] = sign * 0.99
    assert _best_of_coarse(c, 70, top, positive, 1.0, np.array([1.0, 0, 0]), W, near)[0] == 10


@pytest.mark.parametrize("n", [1, 2, 7, 16, 17])
@pytest.mark.parametrize(("p", "d"), [(50, 9), (3001, 700)])
@DTYPES
def test_correlations_of_any_number_of_rows(rng, n, p, d, dtype, tol):
    """A few rows are multiplied in parts."""
    X, W = (rng.standard_normal((size, d)).astype(dtype) for size in (n, p))
    expected = X.astype(np.float64) @ W.T
    out = np.empty((n + 1, p), dtype)[1:]
    assert correlations(X, W, out) is out
    for found in (out, correlations(X, W)):
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, atol=tol * d)


@pytest.mark.parametrize("n", [2, 40])
def test_a_pursuit_of_residuals_weighs_its_atoms(rng, n):
    """Energies of rows follow the norms of the atoms, also where those of all are not computed.

    With p = 100 and k = 5, that is for 2 rows, and not for 40.
    """
    W = 1.2 * unit_rows(rng.standard_normal((100, 10)))
    X = rng.standard_normal((n, 10))
    options = {"tol": 0.2, "threshold": 0.0, "positive": False}
    with NativeKernels() as kernels:
        codes = kernels.matching_pursuit(X, W, None, 5, **options)
        expected = kernels.matching_pursuit(X, W, W @ W.T, 5, **options)
    assert (expected[1] == 0).any()
    for found, value in zip(codes, expected, strict=True):
        np.testing.assert_allclose(found, value, atol=1e-12)

"""The explicit gradients are autograd's on the reference."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from patches import CheckedPatch

from sklearn_mpsae.coding.kernels import reference, team
from sklearn_mpsae.coding.kernels.native import NativeKernels
from sklearn_mpsae.coding.kernels.tensor import TensorKernels
from sklearn_mpsae.coding.unit import unit_rows
from sklearn_mpsae.learning.distributed import Alone
from sklearn_mpsae.learning.recipe import fit_plan
from sklearn_mpsae.models import pursuit, shallow
from sklearn_mpsae.models.base import StepContext

KERNELS = pytest.mark.parametrize("kind", ["native", "tensor"])
DTYPES = pytest.mark.parametrize(("dtype", "tol"), [(np.float64, 1e-10), (np.float32, 1e-5)])
SIGN = pytest.mark.parametrize("positive", [True, False], ids=["positive", "signed"])


def open_kernels(kind, dtype):
    return NativeKernels() if kind == "native" else TensorKernels("cpu", dtype)


def context(plan, numbers=None):
    """A step of one process, no atom dead."""
    return StepContext(plan, np.array([], int), {} if numbers is None else numbers, Alone())


def problem(rng, *, norms=1.0):
    X = rng.standard_normal((50, 24))
    W = unit_rows(rng.standard_normal((70, 24))) * norms
    return X, W


def loss_and_gradients(encode, X, path_weight=0.0, **parameters):
    """The loss, summed over rows, and autograd's gradients, in float64.

    "intercept" is what rows lose before they are coded: zero, so that they stay what they are.
    """
    tensors = {k: torch.tensor(v, requires_grad=True) for k, v in parameters.items()}
    intercept = torch.zeros(X.shape[1], dtype=torch.float64, requires_grad=True)

    def loss_of(x):
        indices, values = encode(x, **tensors)
        ends = range(1, len(indices) + 1) if indices else [0]
        errors = [
            ((x - reference.decode(indices[:m], values[:m], tensors["W"])) ** 2).sum() / 2
            for m in ends
        ]
        return (1 - path_weight) * errors[-1] + path_weight * sum(errors) / len(errors)

    loss = sum(loss_of(x - intercept) for x in torch.tensor(X))
    tensors["intercept"] = intercept
    loss.backward()
    return float(loss.detach()), {k: v.grad.numpy() for k, v in tensors.items()}


def assert_close(actual, expected, tol):
    np.testing.assert_allclose(actual, expected, atol=tol * np.abs(expected).max())


@KERNELS
@DTYPES
@SIGN
@pytest.mark.parametrize(
    ("norm", "stop"),
    [(0.8, {}), (1.0, {}), (1.15, {}), (0.8, {"once": True}), (1.0, {"atol": 12.0})],
    ids=str,
)
@pytest.mark.parametrize("path_weight", [0.0, 0.4, 1.0])
def test_gradient_of_the_unrolled_pursuit(
    kind, dtype, tol, positive, norm, stop, path_weight, rng
):
    """Through every step, for atoms on the sphere and off it; by the rows too."""
    X, W = problem(rng, norms=norm)
    k = 9

    def encode(x, W):
        return reference.matching_pursuit(x, W, k, positive=positive, **stop)

    _, expected = loss_and_gradients(encode, X, path_weight, W=W)
    loss, _ = loss_and_gradients(encode, X, W=W)
    with open_kernels(kind, dtype) as kernels:
        X, W = kernels.asarray(X.astype(dtype)), kernels.asarray(W.astype(dtype))
        codes = kernels.matching_pursuit(
            X, W, kernels.gram(W), k, tol=0.0, threshold=0.0, positive=positive, **stop
        )
        assert (kernels.to_numpy(codes[1])[:, -1] == 0).any() == bool(stop)
        residual, gradient, by_rows = kernels.pursuit_gradient(X, W, *codes, path_weight)
        assert kernels.energies(residual).sum() / 2 == pytest.approx(loss, rel=tol)
        assert_close(kernels.to_numpy(gradient), expected["W"], tol)
        assert_close(-kernels.to_numpy(by_rows), expected["intercept"], 4 * tol)


@KERNELS
@DTYPES
@SIGN
def test_gradients_of_top_k(kind, dtype, tol, positive, rng):
    X, W = problem(rng)
    encoder = W + 0.1 * rng.standard_normal(W.shape)
    bias = 0.1 * rng.standard_normal(len(W))

    def encode(x, W, encoder, bias):
        return reference.top_k(x, encoder, bias, 6, positive=positive)

    _, expected = loss_and_gradients(encode, X, W=W, encoder=encoder, bias=bias)
    parameters = {"components": W, "encoder": encoder, "bias": bias[:, None]}
    model = shallow.TopK(positive=positive)
    plan = fit_plan(0.9, 6, len(W), free_norms=False)
    assert plan.n_nonzero_coefs == 6
    with open_kernels(kind, dtype) as kernels:
        parameters = {k: kernels.asarray(v.astype(dtype)) for k, v in parameters.items()}
        X = kernels.asarray(X.astype(dtype))
        step = model.gradients(kernels, parameters, X, context(plan))
        gradients = {k: kernels.to_numpy(v) for k, v in step.gradients.items()}
    assert_close(gradients["components"], expected["W"], tol)
    assert_close(gradients["encoder"], expected["encoder"], tol)
    assert_close(gradients["bias"][:, 0], expected["bias"], tol)
    assert_close(gradients["intercept"][0], expected["intercept"], 4 * tol)


def threshold_step(kind, dtype, model, rng, *, bias=0.1, **start):
    """Parameters, rows and the step of a shallow model, in NumPy."""
    X, W = problem(rng)
    parameters = model.start(W) | {
        "encoder": W + 0.1 * rng.standard_normal(W.shape),
        "bias": bias * rng.standard_normal((len(W), 1)),
        **start,
    }
    plan = fit_plan(0.9, 6, len(W), free_norms=False)
    numbers = dict(model.first_numbers)
    with open_kernels(kind, dtype) as kernels:
        arrays = {k: kernels.asarray(v.astype(dtype)) for k, v in parameters.items()}
        X_ = kernels.asarray(X.astype(dtype))
        step = model.gradients(kernels, arrays, X_, context(plan, numbers))
        gradients = {k: kernels.to_numpy(v).copy() for k, v in step.gradients.items()}
        chosen = np.zeros((len(X), len(W)), bool)
        indices, values = kernels.to_numpy(step.indices), kernels.to_numpy(step.values)
    rows, slots = np.nonzero(values)
    chosen[rows, indices[rows, slots]] = True
    return X, parameters, numbers, chosen, gradients


def autograd(loss, X, parameters):
    """Gradients of the loss of rows, by the parameters and by what rows lose before."""
    intercept = np.zeros((1, X.shape[1]))
    tensors = {
        k: torch.tensor(v, requires_grad=True)
        for k, v in {**parameters, "intercept": intercept}.items()
    }
    rows = torch.tensor(X) - tensors["intercept"]
    loss(rows, **{k: v for k, v in tensors.items() if k != "intercept"}).backward()
    return {k: v.grad.numpy() for k, v in tensors.items() if v.grad is not None}


@KERNELS
@DTYPES
def test_gradients_of_relu(kind, dtype, tol, rng):
    model = shallow.ReLU()
    X, parameters, numbers, chosen, gradients = threshold_step(kind, dtype, model, rng)

    def loss(rows, components, encoder, bias):
        codes = torch.relu(rows @ encoder.T + bias[:, 0])
        error = ((rows - codes @ components) ** 2).sum() / 2
        return error + numbers["penalty"] * codes.sum()

    assert numbers["penalty"] > shallow.ReLU.first_numbers["penalty"]
    assert (chosen == (X @ parameters["encoder"].T + parameters["bias"][:, 0] > 0)).all()
    for name, expected in autograd(loss, X, parameters).items():
        assert_close(gradients[name], expected, 4 * tol if name == "intercept" else tol)


@KERNELS
@DTYPES
@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        (shallow.BatchTopK(), [70]),
        (shallow.Matryoshka(), [4, 8, 17, 35, 70]),
        (shallow.Matryoshka(prefix_sizes=[69, 10, 11]), [10, 11, 69, 70]),
    ],
    ids=str,
)
def test_gradients_of_nested_prefixes(kind, dtype, tol, model, sizes, rng):
    """Of BatchTopK too, which is that of one prefix."""
    X, parameters, numbers, chosen, gradients = threshold_step(kind, dtype, model, rng)
    outputs = X @ parameters["encoder"].T + parameters["bias"][:, 0]
    assert chosen.sum() == 6 * len(X)
    assert outputs[chosen].min() > outputs[~chosen].max()
    between = (outputs[chosen].min() + outputs[~chosen].max()) / 2
    assert numbers["threshold"] == pytest.approx(between, rel=tol)

    def loss(rows, components, encoder, bias):
        codes = (rows @ encoder.T + bias[:, 0]) * torch.tensor(chosen)
        errors = [rows - codes[:, :m] @ components[:m] for m in sizes]
        return sum((error**2).sum() for error in errors) / 2 / len(sizes)

    for name, expected in autograd(loss, X, parameters).items():
        assert_close(gradients[name], expected, 4 * tol if name == "intercept" else tol)


@KERNELS
@DTYPES
def test_gradients_of_jump_relu(kind, dtype, tol, rng):
    """Straight through the threshold, for the outputs near it; see the class's notes."""
    logs = 0.2 * np.random.default_rng(1).standard_normal((70, 1))
    X, parameters, _, chosen, gradients = threshold_step(
        kind, dtype, shallow.JumpReLU(), rng, log_threshold=logs
    )
    outputs = X @ parameters["encoder"].T + parameters["bias"][:, 0]
    # The first batch sets the common threshold, to just the codes it is to have.
    assert chosen.sum() == pytest.approx(6 * len(X), abs=1)
    shape = np.exp(parameters["log_threshold"][:, 0])
    scores = outputs / shape
    assert scores[chosen].min() > scores[~chosen].max()
    threshold = (scores[chosen].min() + scores[~chosen].max()) / 2

    def loss(rows, components, encoder, bias, log_threshold):
        codes = (rows @ encoder.T + bias[:, 0]) * torch.tensor(chosen)
        return ((rows - codes @ components) ** 2).sum() / 2

    for name, expected in autograd(loss, X, parameters).items():
        assert_close(gradients[name], expected, 4 * tol if name == "intercept" else tol)
    residual = X - (outputs * chosen) @ parameters["components"]
    gain = residual @ parameters["components"].T * shape * threshold
    near = (scores > 0.9 * threshold) & (scores < 1.1 * threshold)
    expected = ((gain - gain[near].mean()) * near).sum(axis=0)
    assert_close(gradients["log_threshold"][:, 0], expected, 10 * tol)


@KERNELS
@SIGN
@pytest.mark.parametrize("algorithm", ["omp", "ols"])
def test_gradient_of_orthogonal_codes_by_finite_differences(kind, algorithm, positive, rng):
    X, W = problem(rng)
    model = pursuit.MatchingPursuit(algorithm=algorithm, positive=positive)
    plan = fit_plan(0.9, 4, len(W), free_norms=False)
    direction = rng.standard_normal(W.shape)
    # Orthogonal pursuit takes atoms of unit norm: move along the sphere.
    direction -= (direction * W).sum(1, keepdims=True) * W

    def half_energy(kernels, W):
        step = model.gradients(
            kernels, {"components": kernels.asarray(unit_rows(W))}, X_, context(plan)
        )
        return kernels.energies(step.residual).sum() / 2, step.gradients

    with open_kernels(kind, np.float64) as kernels:
        X_ = kernels.asarray(X)
        _, gradients = half_energy(kernels, W)
        gradient, by_shift = (
            kernels.to_numpy(gradients[name]).copy() for name in ("components", "intercept")
        )
        slope = (gradient * direction).sum()
        eps = 1e-6
        above, _ = half_energy(kernels, W + eps * direction)
        below, _ = half_energy(kernels, W - eps * direction)
        shift = rng.standard_normal(X.shape[1])
        X_ = kernels.asarray(X - eps * shift)
        shifted, _ = half_energy(kernels, W)
        X_ = kernels.asarray(X + eps * shift)
        back, _ = half_energy(kernels, W)
    assert slope == pytest.approx((above - below) / (2 * eps), rel=1e-5)
    assert by_shift[0] @ shift == pytest.approx((shifted - back) / (2 * eps), rel=1e-5)


@contextmanager
def use_threads(kind, n):
    if kind == "native":
        with CheckedPatch.context() as patch:
            patch.setattr(team, "n_threads", lambda: n)
            yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@KERNELS
def test_gradient_does_not_depend_on_the_number_of_threads(kind, rng):
    """Bit for bit: sums over rows come in one order."""
    X, W = rng.standard_normal((3000, 24)), unit_rows(rng.standard_normal((70, 24)))
    results = []
    for threads in (1, 2, 3):
        with use_threads(kind, threads), open_kernels(kind, np.float64) as kernels:
            arrays = kernels.asarray(X), kernels.asarray(W)
            G = kernels.gram(arrays[1])
            codes = kernels.matching_pursuit(
                *arrays, G, 5, tol=0.0, threshold=0.0, positive=True
            )
            gradient = kernels.pursuit_gradient(*arrays, *codes)[1]
            results.append(kernels.to_numpy(gradient).copy())
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])

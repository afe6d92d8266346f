"""torch modules and ONNX models whose output is what `transform` gives."""

import copy
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import ESTIMATORS, SEARCHING
from sklearn.exceptions import NotFittedError
from toys import with_learnt

from sklearn_mpsae import BatchTopKSAE, JumpReLUSAE, MPSparseAutoencoder, ReLUSAE, TopKSAE
from sklearn_mpsae.coding.kernels import open_kernels
from sklearn_mpsae.models.coder import PursuitCoder, ShallowCoder
from sklearn_mpsae.persistence import (
    export_saelens,
    import_saelens,
    push_to_hub,
    save,
    to_onnx,
    to_torch_module,
)

# What a search over few codes comes to is of no matter here.
pytestmark = pytest.mark.filterwarnings(
    "ignore:No number of codes reaches:sklearn.exceptions.ConvergenceWarning"
)

# Every estimator there is, as it comes, and what its parameters change in its rule.
CODERS = {cls.__name__: (cls, {}) for cls in ESTIMATORS}
CODERS |= {cls.__name__: (cls, {"cv": 2}) for cls in SEARCHING}
CODERS |= {
    "MP, no metric": (MPSparseAutoencoder, {"whitening": 0}),
    "MP, signed": (MPSparseAutoencoder, {"positive_code": False}),
    "MP, tol": (MPSparseAutoencoder, {"tol": 0.2}),
    "MP, atol": (MPSparseAutoencoder, {"atol": 1.0, "transform_n_nonzero_coefs": 20}),
    "MP, no atom again": (
        MPSparseAutoencoder,
        {"stop_on_repeat": True, "transform_n_nonzero_coefs": 20, "positive_code": False},
    ),
    "MP, all stops": (
        MPSparseAutoencoder,
        {"tol": 0.02, "atol": 0.4, "stop_on_repeat": True, "transform_n_nonzero_coefs": 20},
    ),
    "MP, average": (MPSparseAutoencoder, {"sparsity": "average"}),
    "MP, not centred": (MPSparseAutoencoder, {"intercept": "zero"}),
    "MP, whitened": (MPSparseAutoencoder, {"whitening": 0.3, "sparsity": "average"}),
    "MP, other k": (MPSparseAutoencoder, {"transform_n_nonzero_coefs": 3}),
    "TopK, signed": (TopKSAE, {"positive_code": False}),
    "BatchTopK, k": (BatchTopKSAE, {"transform_n_nonzero_coefs": 3}),
    "JumpReLU, k": (JumpReLUSAE, {"transform_n_nonzero_coefs": 3}),
    "ReLU, k": (ReLUSAE, {"transform_n_nonzero_coefs": 3}),
}
ATOL = {np.float32: 1e-5, np.float64: 1e-12}
CODER = pytest.mark.parametrize("name", CODERS)
DTYPE = pytest.mark.parametrize("dtype", ATOL, ids=["float32", "float64"])


@pytest.fixture(name="X", scope="module")
def some_rows(digits):
    X = digits[:200] / 16
    # A row that is the mean has no code, and one beyond the others many.
    return np.concatenate([X, X.mean(axis=0, keepdims=True), 3 * X[:1]])


@pytest.fixture(scope="module")
def fitted(X):
    """A function that fits each coder once."""
    fits = {}

    def fitted(name, dtype=np.float64):
        if (name, dtype) not in fits:
            cls, params = CODERS[name]
            est = cls(80, n_nonzero_coefs=6, max_iter=4, random_state=0, **params)
            fits[name, dtype] = est.fit(X.astype(dtype))
        if type(fits[name, dtype]._coder()) not in (PursuitCoder, ShallowCoder):
            with pytest.raises(ValueError, match="exports do not know"):
                to_torch_module(fits[name, dtype])
            pytest.skip("codes by a rule of its own: exports refuse it by name")
        return copy.deepcopy(fits[name, dtype])

    return fitted


def assert_same_codes(codes, est, X):
    expected = est.transform(X)
    assert codes.dtype == expected.dtype
    np.testing.assert_array_equal(codes != 0, expected != 0)
    np.testing.assert_allclose(codes, expected, atol=ATOL[X.dtype.type])


# -------------------------------------------------------------------------------- torch
@CODER
@DTYPE
def test_a_module_codes_as_transform_does(name, dtype, X, fitted):
    est, X = fitted(name, dtype), X.astype(dtype)
    module = to_torch_module(est)
    codes = module(torch.from_numpy(X)).detach()
    assert_same_codes(codes.numpy(), est, X)
    rows = module.decode(codes).detach().numpy()
    np.testing.assert_allclose(rows, est.inverse_transform(est.transform(X)), atol=1e-5)


@CODER
def test_any_leading_shape_will_do(name, X, fitted):
    module = to_torch_module(fitted(name))
    rows = torch.from_numpy(X[:200])
    expected = module(rows)
    torch.testing.assert_close(module(rows.reshape(10, 4, 5, 64)).reshape(200, 80), expected)
    torch.testing.assert_close(module(rows[0]), expected[0])
    assert module(rows[:0]).shape == (0, 80)


@CODER
def test_a_module_moves_to_another_dtype(name, X, fitted):
    module = to_torch_module(fitted(name, np.float32)).double()
    codes = module.encode(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(codes, fitted(name, np.float32).transform(X), atol=1e-5)
    assert {tensor.dtype for tensor in module.state_dict().values()} == {torch.float64}


@CODER
def test_values_are_differentiable(name, X, fitted):
    module = to_torch_module(fitted(name))
    # Away from where an atom is about to be another.
    rows = torch.from_numpy(X[:3]).requires_grad_()
    parameters = dict(module.named_parameters())

    def codes(rows, *values):
        named = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(module, named, (rows,))

    inputs = rows, *(p.detach().clone().requires_grad_() for p in parameters.values())
    assert torch.autograd.gradcheck(codes, inputs, eps=1e-7, atol=1e-5, fast_mode=True)


def test_the_gradient_of_a_pursuit_is_the_one_it_was_trained_with(X, fitted):
    est = fitted("MP, no metric")
    module = to_torch_module(est)
    rows = torch.from_numpy(X)
    (rows - module.decode(module(rows))).square().sum().div(2).backward()
    with open_kernels("cpu", X.dtype) as kernels:
        codes = est.encode(X)
        _, expected, _ = kernels.pursuit_gradient(
            X - est.intercept_, est.components_, codes.indices, codes.values
        )
        np.testing.assert_allclose(module.components.grad.numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("name", ["MP, all stops", "TopK, signed", "JumpReLU, k", "ReLUSAE"])
def test_a_module_exports_with_any_number_of_rows(name, X, fitted):
    est = fitted(name)
    if name.startswith("MP"):
        est.set_params(transform_n_nonzero_coefs=3)  # a graph of each step takes its time
    module = to_torch_module(est)
    rows = torch.from_numpy(X)
    n = torch.export.Dim("n", min=1)
    program = torch.export.export(module, (rows[:5],), dynamic_shapes={"x": {0: n}})
    for part in (rows, rows[:1]):
        torch.testing.assert_close(program.module()(part), module(part))


def test_a_module_has_copies(X, fitted):
    est = fitted("TopKSAE")
    before = est.transform(X)
    with torch.no_grad():
        for parameter in to_torch_module(est).parameters():
            parameter.zero_()
    np.testing.assert_array_equal(est.transform(X), before)


@pytest.mark.parametrize("spoil", [lambda x: x.float(), lambda x: x[:, 1:]])
def test_rows_that_do_not_fit_a_module_are_named(spoil, X, fitted):
    module = to_torch_module(fitted("MPSparseAutoencoder"))
    with pytest.raises(ValueError, match=r"Rows must have 64 features of torch.float64, got"):
        module(spoil(torch.from_numpy(X)))


# --------------------------------------------------------------------------------- ONNX
@CODER
@DTYPE
def test_onnxruntime_codes_as_transform_does(name, dtype, X, fitted, tmp_path):
    est, X = fitted(name, dtype), X.astype(dtype)
    path = to_onnx(est, tmp_path / "model.onnx", reconstruction=True)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path)
    for rows in (X, X[:1]):
        codes, back = session.run(["codes", "reconstruction"], {"X": rows})
        assert_same_codes(codes, est, rows)
        expected = est.inverse_transform(est.transform(rows))
        np.testing.assert_allclose(back, expected, atol=ATOL[dtype])


def test_an_onnx_model_has_the_shapes_it_says(fitted, tmp_path):
    model = onnx.load(to_onnx(fitted("MPSparseAutoencoder"), tmp_path / "model.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [(x.name, x.shape) for x in session.get_inputs()] == [("X", ["N", 64])]
    assert [(x.name, x.shape) for x in session.get_outputs()] == [("codes", ["N", 80])]
    assert {domain.domain for domain in model.opset_import} == {""}
    assert not model.functions


def test_an_onnx_model_does_not_grow_with_the_number_of_codes(fitted, tmp_path):
    est = fitted("MPSparseAutoencoder")
    sizes = [
        to_onnx(est.set_params(transform_n_nonzero_coefs=k), tmp_path / "a").stat().st_size
        for k in (1, 64)
    ]
    assert sizes[0] == sizes[1]


def test_an_onnx_model_takes_the_place_of_an_older_one_when_it_is_whole(
    fitted, tmp_path, monkeypatch
):
    path = to_onnx(fitted("TopKSAE"), tmp_path / "model.onnx")
    before = path.read_bytes()

    def full(model, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx, "save_model", full)
    with pytest.raises(OSError, match="No space"):
        to_onnx(fitted("MPSparseAutoencoder"), path)
    assert [path] == list(tmp_path.iterdir())
    assert path.read_bytes() == before


def test_a_model_too_large_for_onnx_is_refused(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr("sklearn_mpsae.persistence._onnx._MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="more than the 2 GiB that an ONNX file can have"):
        to_onnx(fitted("TopKSAE"), tmp_path / "model.onnx")


def test_a_missing_onnx_is_named(fitted, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'sklearn_mpsae\[onnx\]'"):
        to_onnx(fitted("TopKSAE"), tmp_path / "model.onnx")


# --------------------------------------------------------------------------------- both
EXPORT = pytest.mark.parametrize(
    "export", [to_torch_module, lambda est: to_onnx(est, "x")], ids=["torch", "onnx"]
)


@EXPORT
def test_an_unfitted_estimator_is_refused(Estimator, export):
    with pytest.raises(NotFittedError):
        export(Estimator())


@EXPORT
@pytest.mark.parametrize("algorithm", ["omp", "ols"])
def test_an_orthogonal_pursuit_is_refused(export, algorithm, fitted):
    with pytest.raises(ValueError, match="set transform_algorithm='mp'"):
        export(fitted("MPSparseAutoencoder").set_params(transform_algorithm=algorithm))


def test_an_atol_beyond_the_dtype_is_more_than_any_row_has(fitted, X, tmp_path):
    X = X.astype(np.float32)
    est = fitted("MP, no metric", np.float32).set_params(atol=1e300)
    codes = to_torch_module(est)(torch.from_numpy(X)).detach().numpy()
    assert not codes.any()
    assert_same_codes(codes, est, X)
    session = onnxruntime.InferenceSession(to_onnx(est, tmp_path / "x.onnx"))
    assert_same_codes(session.run(["codes"], {"X": X})[0], est, X)
    assert_same_codes(import_saelens(export_saelens(est, tmp_path / "x")).transform(X), est, X)


@EXPORT
def test_others_are_refused(export):
    with pytest.raises(ValueError, match=r"none of the estimators that can be .* exported"):
        export(object())


# ----------------------------------------------------------------- rules of their own
class EverySecond(ShallowCoder):
    """A rule that no export knows."""

    def open(self, kernels, n_rows):
        encode = super().open(kernels, n_rows)
        return lambda X: [(indices, values * (indices % 2)) for indices, values in encode(X)]


class Gated(TopKSAE):
    """The outputs of every second atom alone: another rule than the class it derives from."""

    def _coder(self, k=None):
        return EverySecond(**vars(super()._coder(k)))


class Declared(TopKSAE):
    """The same rule in terms that exports know."""

    def _coder(self, k=None):
        floor = np.where(np.arange(len(self.components_)) % 2, np.inf, 0)
        return replace(super()._coder(k), k=None, floor=floor)


class Named(TopKSAE):
    """Codes as its parent does."""

    def l0(self, X):
        return (self.transform(X) != 0).sum(axis=1)


class Rotated(TopKSAE):
    """Codes otherwise by a door further out."""

    def transform(self, X):
        return super().transform(X[:, ::-1])


class Taken(TopKSAE):
    """Codes as its parent does, of other rows."""

    def _rows(self, X):
        return super()._rows(np.tanh(X))


TOYS = {"n_components": 20, "n_nonzero_coefs": 3, "max_iter": 1, "random_state": 0}
DOORS = {
    "torch": lambda est, path: to_torch_module(est),
    "onnx": to_onnx,
    "SAELens": export_saelens,
}
KEEPERS = {"save": save, "hub": lambda est, path: push_to_hub(est, "me/toy")}


@pytest.mark.parametrize("cls", [Gated, Rotated, Taken])
@pytest.mark.parametrize("door", [*DOORS, *KEEPERS])
def test_a_rule_that_is_not_declared_is_no_rule_of_a_parent(cls, door, X, tmp_path):
    est = cls(**TOYS).fit(X)
    match = (
        f"{cls.__name__} (codes by a EverySecond|has a .* of its own|is none of the estimators)"
    )
    with pytest.raises(ValueError, match=match):
        (DOORS | KEEPERS)[door](est, tmp_path / "x")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("cls", [Declared, Named])
def test_a_rule_that_is_declared_crosses(cls, X, tmp_path):
    est = cls(**TOYS).fit(X)
    codes = to_torch_module(est)(torch.from_numpy(X)).detach().numpy()
    assert_same_codes(codes, est, X)
    session = onnxruntime.InferenceSession(to_onnx(est, tmp_path / "x.onnx"))
    assert_same_codes(session.run(["codes"], {"X": X})[0], est, X)


# ------------------------------------------------------------------------------ ties
@DTYPE
@pytest.mark.parametrize("cls", [BatchTopKSAE, JumpReLUSAE, ReLUSAE], ids=lambda c: c.__name__)
def test_an_output_on_its_threshold_is_no_code_anywhere(cls, dtype, tmp_path):
    """Sums of whole numbers, which every program adds up alike."""
    rng = np.random.default_rng(0)
    X = rng.integers(-4, 5, (40, 6)).astype(dtype)
    est = cls(12, n_nonzero_coefs=3, max_iter=1, random_state=0).fit(X)
    learnt = {
        "intercept_": np.ones(6, dtype),
        "components_": np.repeat(np.eye(6, dtype=dtype), 2, axis=0),
        "encoder_components_": rng.integers(-2, 3, (12, 6)).astype(dtype),
        "encoder_intercept_": rng.integers(-2, 3, 12).astype(dtype),
    }
    if cls is not ReLUSAE:
        each = rng.integers(0, 6, 12).astype(dtype)
        learnt["threshold_"] = each if cls is JumpReLUSAE else 3.0
    with_learnt(est, **learnt)
    floor = 0 if cls is ReLUSAE else est.threshold_
    outputs = (X - 1) @ est.encoder_components_.T + est.encoder_intercept_
    assert (outputs == floor).sum() > 10
    expected = np.where(outputs > floor, outputs, 0)
    np.testing.assert_array_equal(est.transform(X), expected)
    module = to_torch_module(est)(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_array_equal(module, expected)
    session = onnxruntime.InferenceSession(to_onnx(est, tmp_path / "x.onnx"))
    np.testing.assert_array_equal(session.run(["codes"], {"X": X})[0], expected)
    back = import_saelens(export_saelens(est, tmp_path / "saelens"))
    np.testing.assert_array_equal(back.transform(X), expected)

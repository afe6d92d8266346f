"""Arrays of other libraries and data frames: what goes in comes out."""

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from conftest import ESTIMATORS, SEARCHING
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE, metrics, persistence
from sklearn_mpsae.plotting import (
    AtomsDisplay,
    AtomUsageDisplay,
    AtomWeightsDisplay,
    BabelDisplay,
)

ARRAYS = ["components_", "intercept_", "atom_usage_", "loss_curve_"]

# Fits of two epochs end far from what some were to reach.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Rows have .* codes on average"),
    pytest.mark.filterwarnings("ignore:No number of codes reaches"),
]


@pytest.fixture(params=ESTIMATORS + SEARCHING, ids=lambda cls: cls.__name__)
def est(request):
    return request.param(12, max_iter=2, random_state=0)


@pytest.fixture
def dispatch():
    """array_api_dispatch, where this environment has what scikit-learn wants for it."""
    try:
        context = sklearn.config_context(array_api_dispatch=True)
        context.__enter__()
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"no array_api_dispatch here: {error}")
    yield
    context.__exit__(None, None, None)


@pytest.fixture(params=["torch", "array_api_strict"])
def other(request):
    """A function that takes NumPy arrays elsewhere; NumPy cannot read the second's device."""
    if request.param == "torch":
        return torch.from_numpy
    xp = pytest.importorskip("array_api_strict")
    return lambda X: xp.asarray(X, device=xp.Device("device1"))


def numpy_of(x):
    if isinstance(x, torch.Tensor):
        return x.numpy()
    xp = x.__array_namespace__()
    assert x.device == xp.Device("device1")
    return np.asarray(xp.asarray(x, device=xp.Device("CPU_DEVICE")))


@pytest.mark.usefixtures("dispatch")
def test_arrays_come_back_where_they_came_from(est, other, small):
    small = small.astype(np.float32)
    X = other(small)
    by_numpy = clone(est).fit(small)
    codes = by_numpy.transform(small)
    assert type(codes) is np.ndarray
    assert est.fit(X) is est
    for answer, truth in [
        (est.transform(X), codes),
        (clone(est).fit_transform(X), codes),
        (est.inverse_transform(est.transform(X)), by_numpy.inverse_transform(codes)),
        (est.reconstruction_path(X), by_numpy.reconstruction_path(small)),
        (est.score_samples(X), by_numpy.score_samples(small)),
        *((getattr(est, name), getattr(by_numpy, name)) for name in ARRAYS),
    ]:
        assert type(answer) is type(X)
        found = numpy_of(answer)
        assert found.dtype == truth.dtype
        np.testing.assert_array_equal(found, truth)
    assert est.score(X) == by_numpy.score(small)
    np.testing.assert_array_equal(est.encode(X).indices, by_numpy.encode(small).indices)


@pytest.mark.skipif(
    not hasattr(estimator_checks, "check_array_api_input_and_values"),
    reason="scikit-learn before 1.7",
)
@pytest.mark.usefixtures("dispatch")
def test_scikit_learns_own_comparison_of_values(est):
    estimator_checks.check_array_api_input_and_values(
        type(est).__name__, est, array_namespace="torch", device_name="cpu"
    )


def test_without_dispatch_numpy_comes_out(est, small):
    X = torch.from_numpy(small)
    codes = est.fit(X).transform(X)
    assert type(codes) is np.ndarray
    assert type(est.inverse_transform(torch.from_numpy(codes))) is np.ndarray
    assert all(type(getattr(est, name)) is np.ndarray for name in ARRAYS)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.usefixtures("dispatch")
def test_half_floats_come_back_as_single_ones(dtype, small):
    X = torch.from_numpy(small).to(dtype).requires_grad_()
    codes = MPSparseAutoencoder(12, max_iter=2).fit_transform(X)
    assert codes.dtype == torch.float32


def test_fitted_to_tensors_it_still_answers_numpy_without_dispatch(est, small, dispatch):
    X = torch.from_numpy(small)
    codes = est.fit(X).transform(X)
    with sklearn.config_context(array_api_dispatch=False):
        np.testing.assert_array_equal(est.transform(small), codes.numpy())
        assert type(est.transform(X)) is np.ndarray


@pytest.mark.usefixtures("dispatch")
def test_a_pickle_knows_nothing_of_torch_and_goes_on(est, small):
    X = torch.from_numpy(small)
    codes = est.fit(X).transform(X)
    assert isinstance(est.components_, torch.Tensor)
    assert not any(isinstance(value, torch.Tensor) for value in vars(est).values())
    pickled = pickle.dumps(est)
    assert b"torch" not in pickled
    back = pickle.loads(pickled)
    assert type(back.components_) is np.ndarray
    torch.testing.assert_close(back.transform(X), codes, rtol=0, atol=0)


@pytest.mark.usefixtures("dispatch")
def test_a_pickle_of_a_fit_to_tensors_is_used_without_torch(small, tmp_path):
    X = torch.from_numpy(small)
    est = MPSparseAutoencoder(12, max_iter=2, device="cpu").fit(X)
    (tmp_path / "est.pickle").write_bytes(pickle.dumps(est))
    np.save(tmp_path / "X.npy", small)
    code = (
        "import pickle, sys, numpy as np\n"
        "est = pickle.load(open('est.pickle', 'rb'))\n"
        "np.save('codes.npy', est.transform(np.load('X.npy')))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), est.transform(X).numpy())


@pytest.mark.usefixtures("dispatch")
def test_what_was_fitted_on_numpy_takes_any(est, other, small):
    est.fit(small)
    X = other(small)
    assert type(est.transform(X)) is type(X)
    assert type(est.components_) is np.ndarray
    np.testing.assert_array_equal(numpy_of(est.transform(X)), est.transform(small))


@pytest.mark.usefixtures("dispatch")
def test_what_was_fitted_elsewhere_refuses_numpy(est, other, small):
    X = other(small)
    est.fit(X)
    codes = numpy_of(est.transform(X))
    methods = {"inverse_transform": codes} | dict.fromkeys(
        ["transform", "encode", "score", "score_samples", "reconstruction_path"], small
    )
    if hasattr(est, "partial_fit"):
        methods["partial_fit"] = small
    for name, x in methods.items():
        with pytest.raises(ValueError, match=rf"\.{name}\(\) must use the same namespace"):
            getattr(est, name)(x)
    with pytest.raises(ValueError, match="same namespace"):
        est.transform(pd.DataFrame(small))
    assert type(est.fit(small).components_) is np.ndarray


@pytest.mark.usefixtures("dispatch")
def test_sparse_matrices_go_with_any(small):
    X = torch.from_numpy(small)
    est = MPSparseAutoencoder(12, max_iter=2, sparse_output=True).fit(X)
    codes = est.transform(X)
    assert sparse.issparse(codes)
    assert isinstance(est.inverse_transform(codes), torch.Tensor)
    est.set_params(sparse_output=False)
    assert isinstance(est.transform(sparse.csr_array(small)), torch.Tensor)


@pytest.mark.usefixtures("dispatch")
def test_a_stream_of_tensors(Estimator, small):
    chunks = np.array_split(np.tile(small, (4, 1)), 3)
    by_numpy, est = Estimator(12, random_state=0), Estimator(12, random_state=0)
    for chunk in chunks:
        by_numpy.partial_fit(chunk)
        est.partial_fit(torch.from_numpy(chunk))
    assert isinstance(est.components_, torch.Tensor)
    np.testing.assert_array_equal(est.components_.numpy(), by_numpy.components_)


@pytest.mark.usefixtures("dispatch")
def test_a_fit_that_fails_changes_nothing(est, small):
    est.fit(torch.from_numpy(small))
    atoms = est.components_.clone()
    with pytest.raises(ValueError, match="NaN"):
        est.fit(np.full_like(small, np.nan))
    torch.testing.assert_close(est.components_, atoms, rtol=0, atol=0)


@pytest.mark.usefixtures("dispatch")
def test_scikit_learn_moves_estimators(small):
    array_api = pytest.importorskip("sklearn.utils._array_api")
    if not hasattr(array_api, "move_estimator_to"):
        pytest.skip("scikit-learn before 1.9")
    X = torch.from_numpy(small)
    est = MPSparseAutoencoder(12, max_iter=2).fit(small)
    xp, _, device = array_api.get_namespace_and_device(X)
    moved = array_api.move_estimator_to(est, xp, device)
    assert isinstance(moved.components_, torch.Tensor)
    assert type(est.components_) is np.ndarray
    xp, _, device = array_api.get_namespace_and_device(small)
    back = array_api.move_estimator_to(moved, xp, device)
    np.testing.assert_array_equal(back.transform(small), est.transform(small))


@pytest.mark.usefixtures("dispatch")
def test_tensors_through_a_searched_pipeline(small):
    X = torch.from_numpy(small)
    pipe = make_pipeline(StandardScaler(), MPSparseAutoencoder(12, max_iter=2, random_state=0))
    grid = {"mpsparseautoencoder__n_nonzero_coefs": [1, 3]}
    search = GridSearchCV(pipe, grid, cv=2).fit(X)
    assert isinstance(search.transform(X), torch.Tensor)
    with sklearn.config_context(array_api_dispatch=False):
        by_numpy = GridSearchCV(pipe, grid, cv=2).fit(small)
    scores = "mean_test_score"
    np.testing.assert_allclose(search.cv_results_[scores], by_numpy.cv_results_[scores])


@pytest.mark.usefixtures("dispatch")
def test_fitted_tensors_are_taken_as_first_atoms_and_by_metrics(small):
    X = torch.from_numpy(small)
    est = MPSparseAutoencoder(12, max_iter=2, random_state=0).fit(X)
    again = clone(est).set_params(dict_init=est.components_).fit(X)
    assert 0 < metrics.matched_cosine(est.components_, again.components_) <= 1


@pytest.mark.usefixtures("dispatch")
def test_fitted_elsewhere_it_is_drawn(other, small):
    est, X = MPSparseAutoencoder(12, max_iter=2, random_state=0).fit(other(small)), other(small)
    by_numpy = clone(est).fit(small)
    for draw in [
        lambda est, X: AtomsDisplay.from_estimator(est, image_shape=(2, 5)).images,
        lambda est, X: AtomWeightsDisplay.from_estimator(est).weights,
        lambda est, X: BabelDisplay.from_estimator(est, X).babel,
        lambda est, X: AtomUsageDisplay.from_estimator(est).usage,
    ]:
        np.testing.assert_array_equal(draw(est, X), draw(by_numpy, small))


@pytest.mark.usefixtures("dispatch")
def test_fitted_elsewhere_it_is_saved(other, small, tmp_path):
    est = TopKSAE(12, max_iter=2, random_state=0).fit(other(small))
    persistence.save(est, tmp_path / "model")
    loaded = persistence.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.components_, numpy_of(est.components_))
    assert type(loaded.transform(other(small))) is type(other(small))
    module = persistence.to_torch_module(est)
    codes = loaded.transform(torch.from_numpy(small))
    torch.testing.assert_close(module(torch.from_numpy(small)), codes)


# ---------------------------------------------------------------------- data frames
def frames(X):
    names = [f"x{i}" for i in range(X.shape[1])]
    index = [f"row {i}" for i in range(len(X))]
    return pd.DataFrame(X, index, names), pl.DataFrame(X, schema=names)


def test_codes_as_data_frames(est, small):
    X, in_polars = frames(small)
    codes = est.fit(X).transform(X)
    np.testing.assert_array_equal(est.feature_names_in_, X.columns)
    names = [f"{type(est).__name__.lower()}{i}" for i in range(12)]
    np.testing.assert_array_equal(est.get_feature_names_out(), names)

    in_pandas = est.set_output(transform="pandas").transform(X)
    assert list(in_pandas.columns) == names
    assert in_pandas.index.equals(X.index)
    np.testing.assert_array_equal(in_pandas, codes)
    np.testing.assert_array_equal(clone(est).fit_transform(X), codes)

    # fitted to the one library, applied to the other
    out = est.set_output(transform="polars").transform(in_polars)
    assert isinstance(out, pl.DataFrame)
    assert out.columns == names
    np.testing.assert_array_equal(out.to_numpy(), codes)
    # codes with names go back by their position
    np.testing.assert_array_equal(est.inverse_transform(out), est.inverse_transform(codes))


def test_polars_data_are_learnt_like_arrays(est, small):
    _, X = frames(small)
    codes = clone(est).fit_transform(small)
    np.testing.assert_array_equal(est.fit_transform(X), codes)
    np.testing.assert_array_equal(est.feature_names_in_, X.columns)
    with pytest.raises(ValueError, match="feature names"):
        est.transform(X.rename({"x0": "other"}))
    with pytest.raises(ValueError, match="feature names"):
        est.score(X.select(reversed(X.columns)))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_sparse_codes_are_no_data_frame(est, library, small):
    est.set_params(sparse_output=True).fit(small)
    est.set_output(transform=library)
    with pytest.raises(ValueError, match="sparse matrix"):
        est.transform(small)


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.usefixtures("dispatch")
def test_codes_of_tensors_as_data_frames(est, library, small):
    X = torch.from_numpy(small)
    codes = est.fit_transform(X)
    out = est.set_output(transform=library).transform(X)
    assert list(out.columns) == list(est.get_feature_names_out())
    np.testing.assert_array_equal(out.to_numpy(), codes)

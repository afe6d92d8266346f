"""How the estimators behave behind scikit-learn's doors."""

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from epochs import AfterEpochs
from scipy import sparse
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sklearn_mpsae
from sklearn_mpsae import (
    BatchTopKSAE,
    JumpReLUSAE,
    MatryoshkaSAE,
    MPSparseAutoencoder,
    ReLUSAE,
    TopKSAE,
)
from sklearn_mpsae.datasets import make_superposition
from sklearn_mpsae.estimators._shallow import BaseAverageSAE
from sklearn_mpsae.learning.progress import Progress
from sklearn_mpsae.metrics import firing_scores, match_atoms
from sklearn_mpsae.sources import BatchStream

FAST = {"max_iter": 3, "batch_size": 20, "random_state": 0}


def test_pipeline_grid_search_over_sparsity_needs_no_scoring(Estimator, small):
    pipe = make_pipeline(StandardScaler(), Estimator(16, **FAST))
    name = Estimator.__name__.lower()
    search = GridSearchCV(pipe, {f"{name}__n_nonzero_coefs": [1, 2, 4]}, cv=2).fit(small)
    assert search.best_params_[f"{name}__n_nonzero_coefs"] == 4
    assert (np.diff(search.cv_results_["mean_test_score"]) > 0).all()


def test_score_is_explained_variance(Estimator, small):
    est = Estimator(16, n_nonzero_coefs=3, **FAST).fit(small)
    reconstruction = est.inverse_transform(est.transform(small))
    expected = r2_score(small, reconstruction, multioutput="variance_weighted")
    assert est.score(small) == pytest.approx(expected, abs=1e-12)


def test_score_of_a_single_row_is_nan(Estimator, small):
    assert np.isnan(Estimator(4, **FAST).fit(small).score(small[:1]))


def test_fitted_attributes(Estimator, small):
    est = Estimator(16, n_nonzero_coefs=3, **FAST).fit(small)
    assert est.components_.shape == (16, 10)
    np.testing.assert_allclose(np.linalg.norm(est.components_, axis=1), 1, atol=1e-12)
    assert est.intercept_.shape == (10,)
    assert est.n_iter_ == 3
    assert est.n_steps_ == 9
    assert est.loss_curve_.shape == (3,)
    assert est.atom_usage_.shape == (16,)
    # Of 60 rows, each within the plan's slack of twice as many codes again.
    on_average = issubclass(Estimator, BaseAverageSAE)
    assert 0 < est.atom_usage_.sum() <= 60 * (16 if on_average else 9)
    assert est.n_features_in_ == 10


def in_metric(est, rows):
    """Differences of rows where the estimator compares them."""
    return rows @ est.metric_ if hasattr(est, "metric_") else rows


@pytest.mark.parametrize("whitening", [0, 0.1])
def test_loss_curve_is_the_unexplained_share(whitening, small):
    est = MPSparseAutoencoder(
        16, n_nonzero_coefs=3, max_iter=200, whitening=whitening, random_state=0
    ).fit(small)
    left = in_metric(est, small - est.inverse_transform(est.transform(small)))
    share = (left**2).sum() / ((small - small.mean(axis=0)) ** 2).sum()
    assert est.loss_curve_[-1] == pytest.approx(share, rel=0.01)


def arrays_in(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [array for item in value for array in arrays_in(item)]
    if hasattr(value, "__dict__") and not isinstance(value, np.ndarray):
        return arrays_in(vars(value))
    return [value]


def test_fitted_state_is_numpy_optimizer_included(Estimator, small):
    est = Estimator(16, **FAST).fit(small.astype(np.float32))
    found = arrays_in(vars(est))
    assert not any(isinstance(item, torch.Tensor) for item in found)
    floating = [a for a in found if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    # Atoms, intercept and both moments of each parameter. The loss curve is float64, and so
    # is the running mean, which each chunk of a stream moves by little.
    double = (est.loss_curve_, est._training.frame.center)
    assert len(floating) >= 5
    assert {a.dtype.name for a in floating if not any(a is each for each in double)} == {
        "float32"
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(Estimator, dtype, small):
    X = small.astype(dtype)
    est = Estimator(16, **FAST).fit(X)
    codes = est.transform(X)
    assert codes.dtype == est.components_.dtype == dtype
    assert est.inverse_transform(codes).dtype == dtype


def test_integers_are_computed_in_float64(Estimator):
    est = Estimator(4, **FAST).fit(np.arange(40).reshape(10, 4))
    assert est.components_.dtype == np.float64


@pytest.mark.parametrize("interface", ["sparray", "spmatrix"])
def test_sparse_output_is_the_dense_one(Estimator, interface, small):
    if "sparse_interface" not in sklearn.get_config():
        pytest.skip("sparse_interface came with scikit-learn 1.9")
    est = Estimator(16, n_nonzero_coefs=3, **FAST).fit(small)
    dense = est.transform(small)
    with sklearn.config_context(sparse_interface=interface):
        codes = est.set_params(sparse_output=True).transform(small)
    assert isinstance(codes, sparse.sparray) == (interface == "sparray")
    assert codes.format == "csr"
    np.testing.assert_array_equal(codes.toarray(), dense)
    np.testing.assert_allclose(est.inverse_transform(codes), est.inverse_transform(dense))


def test_sparse_output_refuses_a_data_frame(Estimator, small):
    est = Estimator(16, sparse_output=True, **FAST).set_output(transform="pandas").fit(small)
    with pytest.raises(ValueError, match="outputs a scipy sparse"):
        est.transform(small)


def test_feature_names_out(Estimator, small):
    est = Estimator(3, **FAST).fit(small)
    prefix = Estimator.__name__.lower()
    assert est.get_feature_names_out().tolist() == [f"{prefix}{i}" for i in range(3)]


def test_transform_sparsity_without_refitting(Estimator, small):
    est = Estimator(16, n_nonzero_coefs=2, transform_n_nonzero_coefs=2, **FAST).fit(small)
    assert (est.transform(small) != 0).sum(axis=1).max() == 2
    est.set_params(transform_n_nonzero_coefs=5)
    assert (est.transform(small) != 0).sum(axis=1).max() > 2


def test_default_sparsity_is_a_tenth_of_the_features(Estimator, rng):
    X = rng.standard_normal((300, 40))
    for n_features, k in [(40, 4), (5, 1)]:
        sae = Estimator(80, batch_size=50, random_state=0)
        l0 = (sae.fit_transform(X[:, :n_features]) != 0).sum(axis=1)
        if issubclass(Estimator, BaseAverageSAE):
            assert l0.mean() == pytest.approx(k, rel=0.05)
        else:
            assert l0.max() == k


def test_default_sparsity_is_at_most_64(Estimator):
    asked = [Estimator()._n_asked(n_features, 9999) for n_features in (4, 639, 640, 4096)]
    assert asked == [1, 63, 64, 64]


@pytest.mark.parametrize("positive", [True, False])
def test_sign_of_codes(Estimator, positive, small):
    signs = {"positive_code": positive} if "positive_code" in Estimator().get_params() else {}
    codes = Estimator(16, n_nonzero_coefs=3, **signs, **FAST).fit_transform(small)
    assert (codes.min() >= 0) == (positive or not signs)


def test_intercept(Estimator, small):
    """The mean, nothing, or what lowers the loss: then a little from the mean after 9 steps."""
    learnt = {
        intercept: Estimator(16, intercept=intercept, **FAST).fit(small).intercept_
        for intercept in ("learn", "mean", "zero")
    }
    assert not learnt["zero"].any()
    np.testing.assert_allclose(learnt["mean"], small.mean(axis=0), rtol=1e-12)
    moved = np.linalg.norm(learnt["learn"] - learnt["mean"])
    assert 0 < moved < 9 * 0.03 * np.sqrt(small.var(axis=0).sum())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_score_samples_are_minus_the_errors_of_rows(Estimator, dtype, small):
    X = small.astype(dtype)
    sae = Estimator(16, n_nonzero_coefs=2, **FAST).fit(X)
    by_hand = -np.square(X - sae.inverse_transform(sae.transform(X))).sum(axis=1)
    streams = BatchStream([X[:7], X[7:]]), BatchStream(iter([X]), 60)
    for rows in (X, sparse.csr_array(X), *streams):
        scores = sae.score_samples(rows)
        assert scores.dtype == np.float64
        np.testing.assert_allclose(scores, by_hand, rtol=1e-3, atol=1e-5)
    energy = np.square(X - X.mean(axis=0)).sum()
    assert 1 + sae.score_samples(X).sum() / energy == pytest.approx(sae.score(X), abs=1e-5)


def test_score_samples_of_a_pipeline(small):
    pipe = make_pipeline(StandardScaler(), MPSparseAutoencoder(16, **FAST)).fit(small[:40])
    rows = pipe[0].transform(small[40:])
    scores = pipe.score_samples(small[40:])
    np.testing.assert_array_equal(scores, pipe[-1].score_samples(rows))


@pytest.mark.parametrize("algorithm", ["mp", "omp", "ols"])
def test_reconstruction_path_is_the_score_at_each_sparsity(algorithm, small):
    est = MPSparseAutoencoder(16, n_nonzero_coefs=4, transform_algorithm=algorithm, **FAST)
    path = est.fit(small).reconstruction_path(small)
    assert path.shape == (4,)
    assert (np.diff(path) < 0).all()
    for k, unexplained in enumerate(path, start=1):
        score = est.set_params(transform_n_nonzero_coefs=k).score(small)
        assert 1 - unexplained == pytest.approx(score, abs=1e-12)


def test_reconstruction_path_goes_beyond_the_training_sparsity(small):
    est = MPSparseAutoencoder(16, n_nonzero_coefs=2, **FAST).fit(small)
    longer = est.reconstruction_path(small, n_nonzero_coefs=6)
    np.testing.assert_allclose(longer[:2], est.reconstruction_path(small))
    assert (np.diff(longer) < 0).all()


def test_reconstruction_path_of_topk(small):
    est = TopKSAE(16, n_nonzero_coefs=4, **FAST).fit(small)
    for k, unexplained in enumerate(est.reconstruction_path(small), start=1):
        score = est.set_params(transform_n_nonzero_coefs=k).score(small)
        assert 1 - unexplained == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize("whitening", [0, 0.1])
def test_tol_stops_rows_early_and_keeps_its_word(whitening, small):
    est = MPSparseAutoencoder(
        32, n_nonzero_coefs=10, max_iter=50, whitening=whitening, random_state=0
    ).fit(small)
    centred = small - est.intercept_
    before = est.transform(small)
    codes = est.set_params(tol=0.1).transform(small)
    assert (codes != 0).sum() < (before != 0).sum()
    left = in_metric(est, centred - codes @ est.components_)
    left = (left**2).sum(1) / (in_metric(est, centred) ** 2).sum(1)
    stopped = (codes != 0).sum(1) < (before != 0).sum(1)
    assert (left[stopped] <= 0.1).all()


# ------------------------------------------------------------------ streams and restarts
def stream(est, X, chunks=6):
    for chunk in np.array_split(X, chunks):
        est.partial_fit(chunk)
    return est


def test_partial_fit_learns(Estimator, digits):
    est = Estimator(64, n_nonzero_coefs=6, batch_size=200, random_state=0)
    scores = [stream(est, digits).score(digits) for _ in range(20)]
    # What an L1 penalty takes from codes, and nesting from the whole, the error shows.
    assert scores[-1] > {ReLUSAE: 0.7, MatryoshkaSAE: 0.75}.get(Estimator, 0.8)
    # ReLU starts with a code for every other output.
    assert scores[-1] > scores[0] or Estimator is ReLUSAE
    np.testing.assert_allclose(np.linalg.norm(est.components_, axis=1), 1)


def test_partial_fit_follows_the_mean_of_all_rows(Estimator, small):
    est = stream(Estimator(16, intercept="mean", **FAST), small)
    np.testing.assert_allclose(est.intercept_, small.mean(axis=0))
    assert est.n_samples_seen_ == len(small)


def test_partial_fit_goes_on_from_fit(Estimator, small):
    est = Estimator(16, n_nonzero_coefs=3, batch_size=20, random_state=0).fit(small)
    before, n_steps = est.score(small), est.n_steps_
    est.partial_fit(small)
    assert est.n_steps_ == n_steps + 3
    assert abs(est.score(small) - before) < 0.05


@pytest.mark.parametrize("through", ["pickle", "joblib"])
def test_a_stream_survives_a_pickle_bit_for_bit(Estimator, through, digits, tmp_path):
    def again(est):
        if through == "pickle":
            return pickle.loads(pickle.dumps(est))
        joblib.dump(est, tmp_path / "est")
        # Memory-mapped, so read-only, arrays.
        return joblib.load(tmp_path / "est", mmap_mode="r")

    X = digits[:600].astype(np.float32)
    whole = stream(Estimator(80, batch_size=50, dead_after=2, random_state=0), X)
    broken = Estimator(80, batch_size=50, dead_after=2, random_state=0)
    for chunk in np.array_split(X, 6):
        broken = again(broken.partial_fit(chunk))
    for name, value in vars(whole).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, vars(broken)[name], err_msg=name)
    assert whole.n_steps_ == 12


def test_a_seed_fixes_the_fit_bit_for_bit(Estimator, digits):
    fits = [Estimator(64, max_iter=5, random_state=3).fit(digits) for _ in range(2)]
    np.testing.assert_array_equal(fits[0].components_, fits[1].components_)
    other = Estimator(64, max_iter=5, random_state=4).fit(digits)
    assert not np.array_equal(fits[0].components_, other.components_)


def test_warm_start_refines_the_last_solution(Estimator, digits):
    est = Estimator(64, n_nonzero_coefs=6, max_iter=60, random_state=0).fit(digits)
    cold = est.score(digits)
    components = est.components_
    est.set_params(warm_start=True, max_iter=10).fit(digits)
    assert est.score(digits) > cold - 0.005
    cosines = (components * est.components_).sum(axis=1)
    assert np.median(cosines) > 0.9
    fresh = clone(est).set_params(warm_start=False).fit(digits)
    assert fresh.score(digits) < est.score(digits)


def test_dict_init_is_where_it_starts(Estimator, small, rng):
    atoms = rng.standard_normal((16, 10))
    est = Estimator(16, dict_init=5 * atoms, learning_rate=1e-9, max_iter=1, dead_atoms="keep")
    est.fit(small)
    expected = atoms / np.linalg.norm(atoms, axis=1, keepdims=True)
    np.testing.assert_allclose(est.components_, expected, atol=1e-6)


@pytest.mark.parametrize(
    "kind", [np.asarray, np.ndarray.tolist, torch.from_numpy, pd.DataFrame]
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_the_number_of_atoms_is_that_of_dict_init(Estimator, method, kind, small, rng):
    est = Estimator(dict_init=kind(rng.standard_normal((13, 10))), **FAST)
    assert getattr(est, method)(small).components_.shape == (13, 10)
    assert getattr(est, method)(small).components_.shape == (13, 10)


def test_codes_have_no_slots_that_no_row_uses(small):
    sae = MPSparseAutoencoder(16, n_nonzero_coefs=8, **FAST).fit(small).set_params(tol=0.5)
    codes = sae.encode(small)
    assert codes.indices.shape == (60, codes.l0().max())
    assert codes.l0().max() < 8
    with sae.coder() as encode:
        assert encode(small).indices.shape == codes.indices.shape


# ------------------------------------------------------------------------------ torch
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_torch_tensors_are_read_in_their_precision(Estimator, dtype, small):
    X = torch.tensor(small, dtype=dtype, requires_grad=True)
    est = Estimator(16, **FAST).fit(X)
    expected = np.float64 if dtype == torch.float64 else np.float32
    assert est.components_.dtype == expected
    same = Estimator(16, **FAST).fit(X.detach().to(torch.float64).numpy().astype(expected))
    np.testing.assert_array_equal(est.transform(X), same.transform(X))


@pytest.mark.parametrize(
    "options",
    [{}, {"transform_algorithm": "omp"}, {"transform_algorithm": "ols"}],
    ids=["", "omp", "ols"],
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_the_torch_path_learns_what_the_cpu_path_learns(Estimator, options, method, small):
    if options and Estimator is not MPSparseAutoencoder:
        options = {"dead_atoms": "revive"}
    est = Estimator(16, n_nonzero_coefs=3, max_iter=30, random_state=0, **options)
    tensor = clone(est).set_params(device="cpu:0")  # of torch; "cpu" is of NumPy
    for each in (est, tensor):
        getattr(each, method)(small)
    np.testing.assert_allclose(tensor.components_, est.components_, atol=1e-8)
    np.testing.assert_allclose(tensor.transform(small), est.transform(small), atol=1e-8)
    np.testing.assert_array_equal(tensor.atom_usage_, est.atom_usage_)


@pytest.mark.parametrize("path", ["blocked", "residual"])
@pytest.mark.parametrize("precision", ["full", "bfloat16"])
def test_the_torch_path_without_a_gram_matrix_is_as_good(path, precision, small, monkeypatch):
    est = MPSparseAutoencoder(16, n_nonzero_coefs=3, max_iter=30, random_state=0)
    expected = est.fit(small).score(small)
    for module in ("models.coder", "coding.pursuit"):
        monkeypatch.setattr(f"sklearn_mpsae.{module}.cheapest_path", lambda *_: path)
    est.set_params(device="cpu:0", precision=precision).fit(small)
    assert est.score(small) == pytest.approx(
        expected, abs=1e-8 if precision == "full" else 0.02
    )


# -------------------------------------------------------------------------- callbacks
def test_callbacks_see_every_epoch_and_may_stop(Estimator, small):
    pytest.importorskip("sklearn.callback", reason="callbacks came with scikit-learn 1.9")

    monitor = AfterEpochs(lambda est: est.score(small), stop_after=2)
    est = Estimator(16, max_iter=10, random_state=0).set_callbacks(monitor).fit(small)
    assert est.n_iter_ == 2
    assert monitor.seen[-1] == est.score(small)


def test_without_callbacks_in_scikit_learn_fit_works(small, monkeypatch):
    """As with scikit-learn 1.6 to 1.8."""
    import importlib
    import sys

    from sklearn_mpsae import _compat

    monkeypatch.setitem(sys.modules, "sklearn.callback", None)
    try:
        fallback = importlib.reload(_compat).CallbackSupportMixin
        assert fallback.__module__ == "sklearn_mpsae._compat"
        context = fallback()._init_callback_context(max_subtasks=3)
        epoch = context.subcontext(task_name="epoch")
        epoch.call_on_fit_task_begin(estimator=None, X=small)
        assert epoch.call_on_fit_task_end(estimator=None) is False
    finally:
        monkeypatch.undo()
        importlib.reload(_compat)


def test_verbose_shows_a_progress_bar(Estimator, small, capsys):
    Estimator(4, **FAST).fit(small)
    assert capsys.readouterr().err == ""
    est = Estimator(4, verbose=1, **FAST).fit(small)
    shown = capsys.readouterr().err
    assert f"{Estimator.__name__}, epoch 3/3: 100%" in shown
    assert "180/180" in shown  # rows
    assert f"loss={est.loss_curve_[-1]:.4f}, k=1]" in shown


def test_verbose_ends_with_what_was_learnt(Estimator, small, capsys):
    est = Estimator(4, verbose=1, **FAST).fit(small)
    last = capsys.readouterr().err.splitlines()[-1]
    l0, loss = est.atom_usage_.sum() / 60, est.loss_curve_[-1]
    assert f"over epoch 3, {l0:.3g} codes a row left {loss:.2%} of the energy" in last
    assert f"{(est.atom_usage_ == 0).sum()} of 4 atoms are dead" in last
    assert last.endswith(" s.")


def test_verbose_counts_the_rows_of_an_epoch_and_the_codes_they_may_have(small, monkeypatch):
    """A loss that rises is explained by their falling number."""
    rates = {"n_nonzero_coefs": 2, "max_iter": 1, "batch_size": 6, "random_state": 0}
    told = []
    monkeypatch.setattr(Progress, "step", lambda self, *args: told.append(args))
    MPSparseAutoencoder(16, **rates).fit(small)
    assert [n_rows for _, n_rows, _, _ in told] == list(range(6, 61, 6))
    assert {epoch for epoch, *_ in told} == {"epoch 1/1"}
    ks = [k for *_, k in told]
    assert (ks[0], ks[-1], ks) == (6, 2, sorted(ks, reverse=True))


@pytest.mark.parametrize("n_samples", [None, 60])
def test_verbose_counts_rows_that_are_read_before_the_training(n_samples, small, capsys):
    stream = BatchStream(lambda: iter(np.split(small, 6)), n_samples)
    TopKSAE(4, verbose=1, **FAST).fit(stream)
    shown = capsys.readouterr().err
    assert "TopKSAE, reading rows: 60.0 rows" in shown
    assert shown.index("reading rows") < shown.index("training")


def test_verbose_counts_rows_of_the_buffer_that_the_first_step_waits_for(small, capsys):
    """Here after a pass that counted them."""
    progress = Progress("A fit", shown=True)
    with progress:
        progress.begin(60)
        progress._bar.mininterval = 0
        progress.read(40)
        progress.read(20)
        progress.step("epoch 1/1", 30, 0.5, 3)
        progress.read(7)
    shown = capsys.readouterr().err
    assert "40 rows read" in shown
    assert "60 rows read" in shown
    assert "67 rows read" not in shown


def test_verbose_of_partial_fit_shows_long_calls_only(small, capsys, monkeypatch):
    sae = MPSparseAutoencoder(4, verbose=1, **FAST).partial_fit(small)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sklearn_mpsae.estimators._base._DELAY", 0)
    sae.partial_fit(small)
    shown = capsys.readouterr().err
    assert "MPSparseAutoencoder, partial_fit: 100%" in shown
    assert "60.0/60.0" in shown


def test_public_names():
    assert set(sklearn_mpsae.__all__) >= {"MPSparseAutoencoder", "TopKSAE", "coding"}
    for name in sklearn_mpsae.__all__:
        assert getattr(sklearn_mpsae, name) is not None
        assert name in dir(sklearn_mpsae)
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        sklearn_mpsae.Nonsense  # noqa: B018


@pytest.mark.parametrize("k", [2, *(pytest.param(k, marks=pytest.mark.slow) for k in (4, 10))])
def test_codes_are_as_many_as_asked_for(Estimator, k, digits):
    """On average within 5%, with the default fit; never more where that is the promise."""
    sae = Estimator(128, n_nonzero_coefs=k, random_state=0).fit(digits)
    l0 = (sae.transform(digits) != 0).sum(axis=1)
    if issubclass(Estimator, BaseAverageSAE):
        assert l0.mean() == pytest.approx(k, rel=0.05)
    else:
        assert l0.max() <= k
        # A pursuit may take an atom again, and stops where nothing positive is left.
        assert l0.mean() > 0.8 * k


@pytest.mark.parametrize(
    "sae",
    [
        BatchTopKSAE(),
        MPSparseAutoencoder(sparsity="average"),
        MPSparseAutoencoder(sparsity="average", positive_code=False),
        MPSparseAutoencoder(sparsity="average", transform_algorithm="omp"),
        MPSparseAutoencoder(sparsity="average", transform_algorithm="ols"),
    ],
    ids=str,
)
def test_an_average_may_lie_between_whole_numbers(sae, digits):
    sae.set_params(n_components=128, n_nonzero_coefs=1.4, random_state=0).fit(digits)
    assert (sae.transform(digits) != 0).sum(axis=1).mean() == pytest.approx(1.4, rel=0.05)


@pytest.mark.parametrize("algorithm", ["mp", "omp", "ols"])
def test_rows_take_as_many_atoms_as_they_need(algorithm, digits):
    """A pursuit with a threshold: rows differ, none stops early, none goes on too long."""
    sae = MPSparseAutoencoder(
        64, n_nonzero_coefs=5, sparsity="average", transform_algorithm=algorithm, random_state=0
    ).fit(digits)
    codes = sae.encode(digits)
    assert codes.l0().mean() == pytest.approx(5, rel=0.05)
    assert codes.l0().min() < 5 < codes.l0().max()
    left = in_metric(sae, digits - sae.inverse_transform(sae.transform(digits)))
    atoms = in_metric(sae, sae.components_)
    norms = np.linalg.norm(atoms, axis=1)
    next_codes = (left @ (atoms / norms[:, None]).T).max(axis=1)
    stopped = (codes.values != 0).sum(axis=1) < codes.values.shape[1]
    assert stopped.mean() > 0.9
    # Of "ols" another atom may correlate better than the one it would take.
    if algorithm != "ols":
        assert (next_codes[stopped] <= sae.threshold_ * (1 + 1e-9)).all()
    if algorithm == "mp":
        there = codes.values * norms[codes.indices]
        assert there[codes.values != 0].min() > sae.threshold_
    np.testing.assert_allclose(
        sae.reconstruction_path(digits)[-1], 1 - sae.score(digits), rtol=1e-9
    )
    sae.set_params(transform_n_nonzero_coefs=3)
    assert (sae.transform(digits) != 0).sum(axis=1).max() == 3


def test_fit_of_an_average_finds_the_support_of_each_row():
    data = make_superposition(20_000, 64, 96, l0=4, random_state=0)
    fresh = make_superposition(1000, 64, 96, l0=4, dictionary=data.dictionary, random_state=1)

    def f1(sparsity):
        sae = MPSparseAutoencoder(
            96, n_nonzero_coefs=4, sparsity=sparsity, intercept="zero", random_state=0
        ).fit(data.data)
        matching = match_atoms(sae.components_, data.dictionary)
        return firing_scores(sae.transform(fresh.data), fresh.codes, matching).macro.f1

    assert f1("average") > 0.95
    assert f1("average") > f1("row") + 0.1


def test_encode_is_transform_before_it_is_laid_out(Estimator, digits):
    sae = Estimator(64, n_nonzero_coefs=5, max_iter=20, random_state=0).fit(digits)
    codes = sae.encode(digits)
    np.testing.assert_array_equal(codes.dense(), sae.transform(digits))
    if Estimator is not MPSparseAutoencoder:
        assert (np.diff(codes.values, axis=1) <= 0).all()


def test_more_codes_than_trained_with(Estimator, digits):
    """A pursuit gains from each of them; ReLU and JumpReLU have no more to give."""
    sae = Estimator(64, n_nonzero_coefs=3, max_iter=50, random_state=0).fit(digits)
    path = sae.reconstruction_path(digits, 12)
    if Estimator is MPSparseAutoencoder:
        assert (np.diff(path) < 0).all()
    if Estimator in (JumpReLUSAE, ReLUSAE):
        assert path[-1] == pytest.approx(1 - sae.score(digits), rel=1e-6)
    sae.set_params(transform_n_nonzero_coefs=2)
    assert (sae.transform(digits) != 0).sum(axis=1).max() == 2
    assert sae.score(digits) == pytest.approx(1 - path[1], rel=1e-6)


def test_first_atoms_of_a_matryoshka_reconstruct_best(digits):
    """Its first prefix explains more than that of the same without nesting."""

    def of_prefix(cls):
        sae = cls(64, n_nonzero_coefs=6, random_state=0).fit(digits)
        codes = sae.transform(digits)
        codes[:, 4:] = 0
        return ((digits - sae.inverse_transform(codes)) ** 2).sum()

    assert of_prefix(MatryoshkaSAE) < 0.9 * of_prefix(BatchTopKSAE)


def test_thresholds_are_learnt(digits):
    sae = JumpReLUSAE(64, n_nonzero_coefs=6, random_state=0).fit(digits)
    assert sae.threshold_.shape == (64,)
    assert sae.threshold_.min() > 0
    assert sae.threshold_.std() > 0.01 * sae.threshold_.mean()
    codes = sae.transform(digits)
    for atom in np.flatnonzero(codes.any(axis=0)):
        used = codes[:, atom] > 0
        assert codes[used, atom].min() > sae.threshold_[atom]

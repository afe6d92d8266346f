"""The metric that `whitening` asks for: what it is, and that all of an estimator knows it."""

import warnings

import numpy as np
import pytest
from checkpoints import assert_same_fit, killed_after_steps  # noqa: F401 - a fixture
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from sklearn_mpsae import MPSparseAutoencoder, MPSparseAutoencoderCV
from sklearn_mpsae.coding import matching_pursuit, orthogonal_matching_pursuit
from sklearn_mpsae.learning import start
from sklearn_mpsae.learning.frame import whitening_metric
from sklearn_mpsae.persistence import (
    export_saelens,
    load,
    save,
    to_onnx,
    to_torch_module,
)
from sklearn_mpsae.rows.moments import Moments

OPTIONS = {"n_components": 24, "n_nonzero_coefs": 3, "max_iter": 4, "random_state": 0}


@pytest.fixture(name="X", scope="module")
def rows_of_unequal_variance():
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((12, 12)) * np.logspace(0, -2, 12)
    return rng.standard_normal((900, 12)) @ mixing.T + 3


def whitened(X, whitening, center):
    """The rows about a centre in the metric, and the metric, by its formula."""
    Y = X - center
    C = Y.T @ Y / len(Y)
    values, vectors = np.linalg.eigh(C)
    inner = whitening * values / values.mean() + (1 - whitening)
    M = vectors @ np.diag(inner**-0.5) @ vectors.T
    M *= np.sqrt((Y**2).sum() / ((Y @ M) ** 2).sum())
    return Y @ M, M


@pytest.mark.parametrize("whitening", [0.03, 0.5, 1.0])
@pytest.mark.parametrize("intercept", ["learn", "mean", "zero"])
def test_the_metric_is_that_of_the_formula(whitening, intercept, X):
    est = MPSparseAutoencoder(**OPTIONS, whitening=whitening, intercept=intercept).fit(X)
    center = 0 if intercept == "zero" else X.mean(axis=0)
    Y, M = whitened(X, whitening, center)
    np.testing.assert_allclose(est.metric_, M, rtol=1e-9, atol=1e-9 * np.abs(M).max())
    if whitening == 1:
        C = Y.T @ Y
        np.testing.assert_allclose(C, np.eye(12) * np.trace(C) / 12, atol=1e-8 * np.trace(C))


def test_without_whitening_there_is_no_metric(X):
    est = MPSparseAutoencoder(**OPTIONS, whitening=0).fit(X)
    assert not hasattr(est, "metric_")
    assert est._coder().metric is None


@pytest.mark.parametrize("sparsity", ["row", "average"])
@pytest.mark.parametrize("algorithm", ["mp", "omp"])
def test_it_is_a_fit_to_rows_that_are_whitened_before(algorithm, sparsity, X):
    options = OPTIONS | {"transform_algorithm": algorithm, "sparsity": sparsity}
    est = MPSparseAutoencoder(**options, whitening=0.5).fit(X)
    Y, M = whitened(X, 0.5, X.mean(axis=0))
    there = MPSparseAutoencoder(**options, whitening=0).fit(Y)
    atoms = there.components_ @ np.linalg.inv(M)
    norms = np.linalg.norm(atoms, axis=1)
    np.testing.assert_allclose(est.components_, atoms / norms[:, None], atol=1e-7)
    np.testing.assert_allclose(est.threshold_, there.threshold_, rtol=1e-7)
    np.testing.assert_allclose(
        est.intercept_, X.mean(axis=0) + there.intercept_ @ np.linalg.inv(M), atol=1e-7
    )
    # A code of an atom of another norm.
    np.testing.assert_allclose(est.transform(X), there.transform(Y) * norms, atol=1e-6)


@pytest.mark.parametrize("algorithm", ["mp", "omp"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_codes_and_scores_are_of_the_data_s_own_space(algorithm, dtype, X):
    X = X.astype(dtype)
    est = MPSparseAutoencoder(**OPTIONS, whitening=0.5, transform_algorithm=algorithm).fit(X)
    assert est.metric_.dtype == est.components_.dtype == dtype
    np.testing.assert_allclose(np.linalg.norm(est.components_, axis=1), 1, rtol=1e-5)
    atoms = est.components_ @ est.metric_
    norms = np.linalg.norm(atoms, axis=1)
    pursuit = matching_pursuit if algorithm == "mp" else orthogonal_matching_pursuit
    rows = (X - est.intercept_) @ est.metric_
    codes = pursuit(rows, atoms / norms[:, None], 3, positive=True).dense() / norms
    np.testing.assert_allclose(est.transform(X), codes, atol=2e-4)
    back = est.inverse_transform(est.transform(X))
    left = ((X - back) ** 2).sum() / ((X - X.mean(axis=0)) ** 2).sum()
    assert est.score(X) == pytest.approx(1 - left, abs=1e-5)
    assert est.reconstruction_path(X)[-1] == pytest.approx(left, abs=1e-5)
    with est.coder() as encode:
        np.testing.assert_allclose(encode(X[:5]).dense(), codes[:5], atol=2e-4)


def test_what_is_written_into_the_dictionary_is_coded_with(X):
    est = MPSparseAutoencoder(**OPTIONS, whitening=0.5).fit(X)
    usual = est.transform(X)
    assert usual[:, 3].any()
    est.components_[3] = est.components_[5]
    est.components_[5] = 0
    codes = est.transform(X)
    assert not codes[:, 5].any()
    atoms = est.components_ @ est.metric_
    norms = np.linalg.norm(atoms, axis=1)
    norms[5] = 1
    rows = (X - est.intercept_) @ est.metric_
    expected = matching_pursuit(rows, np.delete(atoms / norms[:, None], 5, axis=0), 3)
    np.testing.assert_allclose(
        np.delete(codes, 5, axis=1), expected.dense() / np.delete(norms, 5), atol=1e-9
    )


def test_weak_directions_are_explained_better(X):
    plain, whitened = (
        MPSparseAutoencoder(**OPTIONS | {"max_iter": 80}, whitening=w).fit(X) for w in (0, 1)
    )
    values, vectors = np.linalg.eigh(np.cov(X.T))
    weak = vectors[:, :6]

    def left(est):
        return (((X - est.inverse_transform(est.transform(X))) @ weak) ** 2).sum()

    assert left(whitened) < 0.9 * left(plain)
    assert values[:6].sum() < 0.05 * values.sum()


# ---------------------------------------------------------------- streams and what is saved
def test_a_stream_settles_its_metric(X):
    """By all its first rows, however they are cut; then it stays."""
    options = {"whitening": 0.5, "intercept": "mean", "random_state": 0}
    est = MPSparseAutoencoder(24, n_nonzero_coefs=3, **options)
    for part in np.split(X[:600], [3, 5, 40, 300]):
        est.partial_fit(part)
    _, M = whitened(X[:600], 0.5, X[:600].mean(axis=0))
    np.testing.assert_allclose(est.metric_, M, rtol=1e-9, atol=1e-9 * np.abs(M).max())
    settled = est.metric_
    est.partial_fit(100 * X[600:])
    np.testing.assert_array_equal(est.metric_, settled)
    assert est._training.basis.outer is None


def test_a_stream_whose_first_rows_are_all_the_same(X):
    est = MPSparseAutoencoder(24, n_nonzero_coefs=3, whitening=0.5, random_state=0)
    with pytest.warns(Warning, match="do not vary"):
        est.partial_fit(np.repeat(X[:1], 600, axis=0))
    assert not hasattr(est, "metric_")
    est.partial_fit(X)
    assert est.metric_.shape == (12, 12)
    assert est.score(X) > 0.5


def test_a_stream_after_a_fit_to_rows_that_are_all_the_same(X):
    est = MPSparseAutoencoder(24, n_nonzero_coefs=3, max_iter=1, random_state=0)
    with pytest.warns(ConvergenceWarning, match="no row uses"):
        est.fit(np.ones((30, 12)))
    est.partial_fit(X)
    assert not hasattr(est, "metric_")
    assert est.score(X) > 0


@pytest.mark.parametrize("first", [300, 900], ids=["not settled", "settled"])
def test_a_saved_stream_goes_on_bit_for_bit(first, X, tmp_path):
    est = MPSparseAutoencoder(24, n_nonzero_coefs=3, whitening=0.5, random_state=0)
    est.partial_fit(X[:first])
    assert (est._training.basis.outer is None) == (first == 900)
    again = load(save(est, tmp_path / "model"))
    np.testing.assert_array_equal(again.transform(X), est.transform(X))
    assert_same_fit(est.partial_fit(X), again.partial_fit(X))


def test_a_fit_goes_on_from_its_checkpoint(X, tmp_path, killed_after):
    options = OPTIONS | {"whitening": 0.5, "batch_size": 100}
    whole = MPSparseAutoencoder(**options).fit(X)
    options |= {"checkpoint": tmp_path / "fit.ckpt", "checkpoint_every": 0}
    killed_after(13, MPSparseAutoencoder(**options), X)
    resumed = MPSparseAutoencoder(**options).fit(X)
    assert_same_fit(resumed.set_params(checkpoint_every=60.0), whole)
    other = MPSparseAutoencoder(**options | {"whitening": 0.4})
    with pytest.raises(ValueError, match="whitening"):
        other.fit(X)
    options |= {"checkpoint": None}
    loaded = MPSparseAutoencoder(**options).load_checkpoint(tmp_path / "fit.ckpt")
    np.testing.assert_array_equal(loaded.transform(X), whole.transform(X))


def test_a_warm_start_begins_with_the_atoms_it_had(X):
    est = MPSparseAutoencoder(**OPTIONS | {"max_iter": 60}, whitening=0.5).fit(X)
    atoms, intercept = est.components_, est.intercept_
    again = clone(est).set_params(learning_rate=1e-9, warm_start=True)
    again._learnt = est._learnt
    again.fit(X)
    np.testing.assert_allclose(again.components_, atoms, atol=1e-6)
    np.testing.assert_allclose(again.intercept_, intercept, atol=1e-6)
    # Another metric for the same atoms.
    again.set_params(whitening=0.0).fit(X)
    np.testing.assert_allclose(again.components_, atoms, atol=1e-6)
    assert not hasattr(again, "metric_")


def test_exports_carry_the_metric(X, tmp_path):
    torch = pytest.importorskip("torch")
    X = X.astype(np.float32)
    est = MPSparseAutoencoder(**OPTIONS, whitening=0.5).fit(X)
    module = to_torch_module(est)
    expected = est.transform(X)
    found = module(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    with pytest.raises(ValueError, match="metric; fit with whitening=0"):
        export_saelens(est, tmp_path / "saelens")
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    session = runtime.InferenceSession(
        to_onnx(est, tmp_path / "model.onnx", reconstruction=True)
    )
    codes, back = session.run(None, {"X": X})
    np.testing.assert_allclose(codes, expected, atol=1e-4)
    np.testing.assert_allclose(back, est.inverse_transform(expected), atol=1e-3)


def test_a_search_has_it(X):
    est = MPSparseAutoencoderCV(24, n_nonzero_coefs=4, cv=2, max_iter=20, whitening=0.5)
    est.set_params(target_score=0.5, random_state=0).fit(X)
    k = est.n_nonzero_coefs_
    single = MPSparseAutoencoder(24, n_nonzero_coefs=k, max_iter=20, whitening=0.5)
    single.set_params(random_state=0).fit(X)
    np.testing.assert_array_equal(est.metric_, single.metric_)
    np.testing.assert_array_equal(est.transform(X), single.transform(X))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_outlier_among_the_first_rows_costs_no_digits(dtype):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((4000, 8)).astype(dtype)
    rows[0] *= 1000
    parts = np.split(rows, [100, 2000])
    Y = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    for moments in (
        Moments.of(parts, outer=True),
        Moments.merged([Moments.of([part], outer=True) for part in parts]),
    ):
        tol = 1e-2 if dtype == np.float32 else 1e-9
        np.testing.assert_allclose(
            np.linalg.eigvalsh(moments.outer)[:7], np.linalg.eigvalsh(Y.T @ Y)[:7], rtol=tol
        )


@pytest.mark.parametrize("whitening", [0, 0.1])
@pytest.mark.parametrize("intercept", ["learn", "mean", "zero"])
def test_rows_that_do_not_vary_count_as_one(intercept, whitening, X):
    options = {"n_nonzero_coefs": 3, "intercept": intercept, "whitening": whitening}
    scores, metrics = [], []
    for n_constant in (0, 100, 600):
        est = MPSparseAutoencoder(24, random_state=0, **options)
        if n_constant:
            with pytest.warns(ConvergenceWarning, match="do not vary"):
                est.partial_fit(np.zeros((n_constant, 12)))
        for part in np.split(np.tile(X, (4, 1)) + 2, 36):
            est.partial_fit(part)
        scores.append(est.score(X + 2))
        metrics.append(est.metric_ if whitening else 0)
        np.testing.assert_allclose(metrics[-1], metrics[min(1, len(metrics) - 1)], rtol=1e-9)
    assert scores[1] == pytest.approx(scores[2], rel=1e-9)
    assert scores[1] > scores[0] - 0.15  # of few steps


@pytest.mark.parametrize("intercept", ["learn", "mean"])
def test_a_stream_follows_a_mean_that_moves(intercept, X):
    est = MPSparseAutoencoder(24, n_nonzero_coefs=3, intercept=intercept, random_state=0)
    est.partial_fit(X)
    for _ in range(10):
        est.partial_fit(X + 5)
    assert np.linalg.norm(est.intercept_ - X.mean(axis=0) - 5) < 3


def test_single_rows_are_enough_to_whiten_in_full_in_the_end(X):
    est = MPSparseAutoencoder(24, n_nonzero_coefs=3, whitening=1.0, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for row in X[:40]:
            est.partial_fit(row[None])
    est.partial_fit(X[40:])
    C = np.cov((X @ est.metric_).T)
    np.testing.assert_allclose(C, np.eye(12) * np.trace(C) / 12, atol=1e-6 * C[0, 0])


def test_training_on_does_not_move_atoms_by_rounding(X):
    est = MPSparseAutoencoder(24, n_nonzero_coefs=3, whitening=0.9, learning_rate=1e-30)
    est.fit(X.astype(np.float32))
    atoms = est._metric_components
    for _ in range(5):
        est.partial_fit(X[:10].astype(np.float32))
    np.testing.assert_allclose(est._metric_components, atoms, atol=1e-6)


# ------------------------------------------------------------------------------ bad input
def constant(X):
    return np.where(np.arange(12) == 3, 5.0, X)


def duplicate(X):
    return np.where(np.arange(12) == 3, X[:, 4:5], X)


HOSTILE = {
    "fewer rows than features": lambda X: X[:8],
    "a constant feature": constant,
    "a duplicate feature": duplicate,
    "condition 1e24": lambda X: X * np.logspace(0, -12, 12),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_rows_that_cannot_be_whitened_are_refused(change, dtype, X):
    rows = change(X).astype(dtype)
    with pytest.raises(ValueError, match=r"whitening=1.0 would stretch directions .*\(0\.99"):
        MPSparseAutoencoder(**OPTIONS, whitening=1.0).fit(rows)
    est = MPSparseAutoencoder(**OPTIONS | {"max_iter": 40}, whitening=0.99).fit(rows)
    assert np.isfinite(est.metric_).all()
    assert np.isfinite(est.components_).all()
    assert est.score(rows) > 0.3


def test_one_feature(X):
    est = MPSparseAutoencoder(2, n_nonzero_coefs=1, whitening=1.0, random_state=0)
    est.fit(X[:, :1])
    np.testing.assert_allclose(est.metric_, [[1]])
    assert est.score(X[:, :1]) > 0.3


def test_rows_that_do_not_vary_have_no_metric():
    assert whitening_metric(np.zeros((3, 3)), 0.5, np.float64) is None
    with pytest.warns(ConvergenceWarning, match="no row uses"):
        est = MPSparseAutoencoder(2, n_nonzero_coefs=1, whitening=0.5).fit(np.ones((9, 3)))
    assert est.transform(np.ones((9, 3))).shape == (9, 2)


def test_more_features_than_there_is_room_for():
    rows = np.random.default_rng(0).random((3, 8193), dtype=np.float32)
    est = MPSparseAutoencoder(2, n_nonzero_coefs=1, max_iter=1)
    est.set_params(whitening=0.1)
    for learn in (est.fit, est.partial_fit):
        with pytest.raises(ValueError, match="8192 features at most: set whitening=0"):
            learn(rows)
    for whitening in (0, None):
        est.set_params(whitening=whitening).fit(rows)
        assert not hasattr(est, "metric_")


def test_wide_rows_have_no_metric_unless_it_is_asked_for(monkeypatch):
    rows = np.random.default_rng(0).random((3, 2049), dtype=np.float32)
    est = MPSparseAutoencoder(2, n_nonzero_coefs=1, max_iter=1)
    assert not hasattr(est.fit(rows), "metric_")
    made = []
    # Decomposing it takes seconds.
    monkeypatch.setattr(start, "whitening_metric", lambda *args: made.append(args[1]))
    est.fit(rows[:, :2048])
    est.set_params(whitening=0.3).fit(rows)
    assert made == [0.1, 0.3]


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.5), (0.5, 0.0), (0.5, 0.6)])
def test_a_stream_keeps_its_metric(before, after, X):
    for first in (20, 900):
        est = MPSparseAutoencoder(24, whitening=before, random_state=0).partial_fit(X[:first])
        components = est.components_
        with pytest.raises(ValueError, match="whitening cannot change within a stream"):
            est.set_params(whitening=after).partial_fit(X)
        assert est.components_ is components


@pytest.mark.parametrize("before", ["learn", "mean", "zero"])
@pytest.mark.parametrize("verb", ["fit", "partial_fit"])
def test_a_stream_keeps_to_its_kind_of_intercept(verb, before, X):
    est = getattr(MPSparseAutoencoder(**OPTIONS, intercept=before), verb)(X).partial_fit(X)
    for after in {"learn", "mean", "zero"} - {before}:
        with pytest.raises(ValueError, match=f"it was '{before}', and is '{after}'"):
            est.set_params(intercept=after).partial_fit(X)
    est.set_params(warm_start=True).fit(X)


@pytest.mark.parametrize("whitening", [-0.1, 1.1, np.nan, "zca"])
def test_numbers_out_of_range(whitening, X):
    with pytest.raises(ValueError, match="'whitening' parameter"):
        MPSparseAutoencoder(**OPTIONS, whitening=whitening).fit(X)

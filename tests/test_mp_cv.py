"""The autoencoder that chooses its sparsity from one encode per fold."""

import pickle

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mpsae import MPSparseAutoencoder, MPSparseAutoencoderCV
from sklearn_mpsae.callbacks import LogMetrics
from sklearn_mpsae.models import coded
from sklearn_mpsae.sources import BatchStream

FAST = {"max_iter": 5, "batch_size": 20, "random_state": 0}
OUT_OF_REACH = "ignore:No number of codes reaches:sklearn.exceptions.ConvergenceWarning"
pytestmark = pytest.mark.filterwarnings(OUT_OF_REACH)


def r2(est, X):
    return est.score(X)


def two_codes_are_best(est, X):
    return -abs((est.transform(X) != 0).sum(axis=1).max() - 2)


@pytest.fixture
def searched(small):
    return MPSparseAutoencoderCV(16, n_nonzero_coefs=6, cv=3, target_score=0.5, **FAST).fit(
        small
    )


def test_the_number_of_atoms_is_that_of_dict_init(small, rng):
    atoms = rng.standard_normal((12, 10))
    search = MPSparseAutoencoderCV(dict_init=atoms, n_nonzero_coefs=[2, 11], cv=2, **FAST)
    assert search.fit(small).components_.shape == (12, 10)
    assert search.candidates_.tolist() == [2, 11]


def paths(X, k, algorithm="mp", **options):
    """R² of held-out rows after 1 to k atoms, fold by fold, from public parts alone.

    Half of the loss, or all, is that of fewer codes: one fit, by matching pursuit, is judged
    at each number.
    """
    options = {"path_weight": 0.5 if algorithm == "mp" else 1.0, **options}
    return np.array(
        [
            1
            - MPSparseAutoencoder(16, n_nonzero_coefs=k, **options, **FAST)
            .fit(X[train])
            .set_params(transform_algorithm=algorithm)
            .reconstruction_path(X[test], k)
            for train, test in KFold(3).split(X)
        ]
    )


@pytest.mark.parametrize("algorithm", ["mp", "omp", "ols"])
def test_the_smallest_number_that_explains_enough_of_held_out_rows(algorithm, small):
    options = {"transform_algorithm": algorithm}
    scores = paths(small, 6, algorithm)
    means = scores.mean(axis=0)
    for k in (2, 4, 6):
        est = MPSparseAutoencoderCV(16, n_nonzero_coefs=6, cv=3, **options, **FAST)
        est.set_params(target_score=means[k - 2 : k].mean()).fit(small)
        np.testing.assert_allclose(est.cv_scores_, scores)
        assert est.n_nonzero_coefs_ == k
        assert est.best_score_ == pytest.approx(means[k - 1])


def test_a_larger_path_weight_is_that_of_folds_too(small):
    options = {"path_weight": 0.9, "cv": 3, "target_score": None, "scoring": r2, **FAST}
    est = MPSparseAutoencoderCV(16, n_nonzero_coefs=4, **options).fit(small)
    np.testing.assert_allclose(est.cv_scores_, paths(small, 4, path_weight=0.9))


def test_the_dictionary_is_that_of_a_fit_with_the_chosen_number(searched, small):
    alone = MPSparseAutoencoder(16, n_nonzero_coefs=searched.n_nonzero_coefs_, **FAST)
    alone.fit(small)
    for name in ("components_", "intercept_", "atom_usage_", "loss_curve_", "n_steps_"):
        np.testing.assert_array_equal(getattr(searched, name), getattr(alone, name))
    np.testing.assert_array_equal(searched.transform(small), alone.transform(small))
    assert searched.score(small) == alone.score(small)


def test_a_fold_is_encoded_once(small, monkeypatch):
    calls = []

    def count(owner, name):
        original = getattr(owner, name)
        counted = lambda *args: calls.append(name) or original(*args)  # noqa: E731
        monkeypatch.setattr(owner, name, counted)

    count(MPSparseAutoencoder, "fit")
    count(coded, "coded")
    MPSparseAutoencoderCV(16, n_nonzero_coefs=6, cv=3, **FAST).fit(small)
    assert calls == ["fit", "coded"] * 3 + ["fit"]


def test_a_target_out_of_reach_takes_the_largest_and_says_so(small):
    est = MPSparseAutoencoderCV(16, n_nonzero_coefs=3, cv=3, target_score=1.0, **FAST)
    match = r"reaches target_score=1\.0: the best mean .* shuffle the folds: cv=KFold"
    with pytest.warns(ConvergenceWarning, match=match):
        est.fit(small)
    assert est.n_nonzero_coefs_ == 3


def test_own_scoring_is_called_for_each_number(small):
    est = MPSparseAutoencoderCV(16, n_nonzero_coefs=[4, 1, 2], cv=3, scoring=r2, **FAST)
    est.set_params(target_score=-1.0).fit(small)
    assert est.candidates_.tolist() == [1, 2, 4]
    np.testing.assert_allclose(est.cv_scores_, paths(small, 4)[:, [0, 1, 3]])
    assert est.n_nonzero_coefs_ == 1


def test_without_a_target_the_best_of_a_scoring_is_taken(small):
    est = MPSparseAutoencoderCV(16, n_nonzero_coefs=4, cv=3, target_score=None, **FAST)
    est.set_params(scoring=two_codes_are_best).fit(small)
    assert est.n_nonzero_coefs_ == 2
    with pytest.raises(ValueError, match="set target_score, or a scoring"):
        est.set_params(scoring=None).fit(small)


@pytest.mark.parametrize(
    ("n_features", "n_components", "expected"),
    [(10, 40, 10), (10, 4, 4), (120, None, 12), (700, 70, 64)],
)
def test_default_candidates(n_features, n_components, expected, rng):
    X = rng.standard_normal((20, n_features))
    est = MPSparseAutoencoderCV(n_components, cv=2, max_iter=1).fit(X)
    assert est.candidates_.tolist() == list(range(1, expected + 1))


def test_more_codes_than_atoms_are_clipped_with_a_warning(small):
    est = MPSparseAutoencoderCV(4, n_nonzero_coefs=[2, 5, 9], cv=2, **FAST)
    with pytest.warns(UserWarning, match="n_nonzero_coefs=9 is more than the 4 components"):
        est.fit(small)
    assert est.candidates_.tolist() == [2, 4]


@pytest.mark.parametrize("numbers", [[], [0, 1], [1.5], ["two"], [[1]], [True]])
def test_candidates_that_are_no_numbers_of_codes(numbers, small):
    est = MPSparseAutoencoderCV(4, n_nonzero_coefs=numbers, cv=2)
    with pytest.raises(ValueError, match="must be whole numbers from 1"):
        est.fit(small)


def test_auto_is_told_from_a_list_of_candidates(searched, small):
    est = MPSparseAutoencoderCV(4, n_nonzero_coefs="auto", cv=2)
    with pytest.raises(ValueError, match=r"pass a list to choose .*\(sparsity='average', n_no"):
        est.fit(small)
    with pytest.raises(ValueError, match="pass a list"):
        clone(searched).fit(small).set_params(n_nonzero_coefs="auto").transform(small)


def test_folds_without_variance_are_refused(small):
    with pytest.raises(ValueError, match="each fold needs several rows"):
        MPSparseAutoencoderCV(4, cv=len(small), max_iter=1).fit(small)


def test_streams_are_refused(small):
    with pytest.raises(ValueError, match="BatchStream cannot be split"):
        MPSparseAutoencoderCV(4).fit(BatchStream([small]))


def test_a_failed_fit_leaves_the_last_one(searched, small):
    before = pickle.dumps(searched)
    with pytest.raises(ValueError, match="n_splits=100"):
        searched.set_params(cv=100).fit(small)
    assert pickle.dumps(searched.set_params(cv=3)) == before


def test_it_learns_by_fit_alone(searched, small):
    for name in ("partial_fit", "load_checkpoint"):
        assert not hasattr(searched, name)
        with pytest.raises(AttributeError, match="give its n_nonzero_coefs_"):
            getattr(searched, name)


def test_processes_change_nothing(searched, small):
    parallel = clone(searched).set_params(n_jobs=2).fit(small)
    np.testing.assert_array_equal(parallel.cv_scores_, searched.cv_scores_)
    np.testing.assert_array_equal(parallel.components_, searched.components_)


def test_a_generator_draws_one_seed_for_all_fits(small):
    fits = [
        MPSparseAutoencoderCV(
            16, n_nonzero_coefs=3, cv=2, max_iter=2, n_jobs=n_jobs, random_state=seed
        ).fit(small)
        for n_jobs, seed in [(1, np.random.RandomState(3)), (2, np.random.RandomState(3))]
    ]
    np.testing.assert_array_equal(fits[0].cv_scores_, fits[1].cv_scores_)


@pytest.mark.parametrize("cv", [StratifiedKFold(2), [(range(40), range(40, 60))]], ids=str)
def test_any_splitter(cv, small):
    y = np.arange(60) % 2
    est = MPSparseAutoencoderCV(16, n_nonzero_coefs=3, cv=cv, **FAST).fit(small, y)
    assert est.cv_scores_.shape == (2 if cv is not None and not isinstance(cv, list) else 1, 3)
    with pytest.raises(ValueError, match="groups"):
        clone(est).set_params(cv=GroupKFold(2)).fit(small, y)


def test_sparse_rows(searched, small):
    est = clone(searched).fit(csr_array(small))
    np.testing.assert_allclose(est.cv_scores_, searched.cv_scores_)


def test_transform_sparsity_can_be_set_after_fit(searched, small):
    k = searched.n_nonzero_coefs_
    assert (searched.transform(small) != 0).sum(axis=1).max() <= k
    searched.set_params(transform_n_nonzero_coefs=1)
    assert (searched.transform(small) != 0).sum(axis=1).max() == 1
    assert len(searched.reconstruction_path(small)) == 1


def test_float32_stays(small):
    est = MPSparseAutoencoderCV(16, n_nonzero_coefs=3, cv=2, **FAST)
    assert est.fit_transform(small.astype(np.float32)).dtype == np.float32


def test_a_pickle_is_as_good(searched, small):
    again = pickle.loads(pickle.dumps(searched))
    np.testing.assert_array_equal(again.transform(small), searched.transform(small))


def test_in_a_pipeline_with_names_in_a_grid_search(small):
    est = MPSparseAutoencoderCV(n_nonzero_coefs=3, cv=2, **FAST)
    pipe = make_pipeline(StandardScaler(), est).set_output(transform="pandas")
    grid = {"mpsparseautoencodercv__n_components": [8, 16]}
    search = GridSearchCV(pipe, grid, cv=2).fit(small)
    codes = search.transform(small)
    assert codes.columns[0] == "mpsparseautoencodercv0"
    assert codes.shape == (60, search.best_params_["mpsparseautoencodercv__n_components"])


def test_callbacks_follow_all_fits(small, capsys):
    callback = pytest.importorskip("sklearn.callback")
    epochs = []
    log = LogMetrics(lambda epoch, numbers: epochs.append(epoch))
    est = MPSparseAutoencoderCV(16, n_nonzero_coefs=3, cv=2, **FAST)
    est.set_callbacks(log, callback.ProgressBar()).fit(small)
    assert epochs == [1, 2, 3, 4, 5] * 3
    shown = capsys.readouterr().out
    assert "MPSparseAutoencoderCV - refit | MPSparseAutoencoder - fit" in shown
    assert est._skl_callbacks[0] is log
    assert len(est._skl_callbacks) == 2
    make_pipeline(StandardScaler(), clone(est).set_callbacks(log)).set_callbacks(
        callback.ProgressBar(max_propagation_depth=None)
    ).fit(small)
    assert len(epochs) == 30

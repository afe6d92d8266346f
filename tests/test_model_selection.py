"""Searches over pipelines: what is fitted again, and what a cache saves."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from sklearn_mpsae import MPSparseAutoencoder, MPSparseAutoencoderCV

SAE = MPSparseAutoencoder(max_iter=3, batch_size=20, random_state=0)


@pytest.fixture
def y(small):
    return (small[:, 0] > np.median(small[:, 0])).astype(int)


@pytest.fixture
def fits(monkeypatch):
    """How often PCA and the autoencoder were fitted in this process."""
    counts = {"PCA": 0, "MPSparseAutoencoder": 0}

    def count(cls, method):
        original = getattr(cls, method)

        def counted(self, *args, **kwargs):
            counts[cls.__name__] += 1
            return original(self, *args, **kwargs)

        monkeypatch.watch(cls, method, counted)

    count(PCA, "fit_transform")
    count(MPSparseAutoencoder, "fit")
    return counts


def search(steps, grid, memory, X, y=None):
    pipe = Pipeline(steps, memory=str(memory))
    return GridSearchCV(pipe, grid, cv=2, refit=False, error_score="raise").fit(X, y)


def test_a_cache_keeps_the_steps_before_the_autoencoder(fits, small, tmp_path):
    grid = {"sae__n_components": [8, 16], "sae__n_nonzero_coefs": [1, 2, 4]}
    search([("pca", PCA(6)), ("sae", SAE)], grid, tmp_path, small)
    assert fits == {"PCA": 2, "MPSparseAutoencoder": 12}


def test_a_cache_keeps_the_dictionaries_for_the_steps_after_them(fits, small, y, tmp_path):
    grid = {"sae__n_components": [8, 16], "sae__n_nonzero_coefs": [1, 2], "clf__C": [0.1, 1, 9]}
    steps = [("sae", SAE), ("clf", LogisticRegression())]
    first = search(steps, grid, tmp_path, small, y)
    assert fits["MPSparseAutoencoder"] == 2 * 2 * 2
    again = search(steps, grid, tmp_path, small, y)
    assert fits["MPSparseAutoencoder"] == 2 * 2 * 2
    np.testing.assert_array_equal(
        first.cv_results_["mean_test_score"], again.cv_results_["mean_test_score"]
    )


def test_transform_sparsity_is_searched_with_a_fit_each(fits, small, y, tmp_path):
    """scikit-learn's cache goes by all parameters of a step, also those fit does not use."""
    grid = {"sae__transform_n_nonzero_coefs": [1, 2, 4]}
    search([("sae", SAE), ("clf", LogisticRegression())], grid, tmp_path, small, y)
    assert fits["MPSparseAutoencoder"] == 2 * 3


def test_the_cv_estimator_searches_it_with_one_fit_per_fold(fits, small, tmp_path):
    params = SAE.get_params()
    options = {name: params[name] for name in ("max_iter", "batch_size", "random_state")}
    est = MPSparseAutoencoderCV(
        16, n_nonzero_coefs=[1, 2, 4], cv=2, target_score=0.1, **options
    )
    est.fit(small)
    assert fits["MPSparseAutoencoder"] == 2 + 1
    assert est.cv_scores_.shape == (2, 3)

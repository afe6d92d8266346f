"""Fitted estimators and where they are saved, for tests."""

import pytest

FAST = {"max_iter": 2, "batch_size": 20, "random_state": 0}


def fitted(Estimator, X, **params):
    return Estimator(**{"n_components": 16, "n_nonzero_coefs": 3, **FAST, **params}).fit(X)


@pytest.fixture(name="path", params=["folder", "file.safetensors"])
def path_of_model(request, tmp_path):
    return tmp_path / request.param


def files_of(path):
    return sorted(path.iterdir()) if path.is_dir() else [path]

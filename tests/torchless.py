"""A program that does on the CPU what needs no torch, and prints the sums of its results.

`test_torchless` runs it where torch cannot be imported, and tools/check_package.sh where it is
not installed.
"""

import importlib.util
import json
import os
import pickle
import sys
import tempfile

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import sklearn_mpsae
from sklearn_mpsae import MPSparseAutoencoder, TopKSAE, compare, explore
from sklearn_mpsae.coding import matching_pursuit, orthogonal_matching_pursuit
from sklearn_mpsae.metrics import *  # noqa: F403 - no public name may need torch
from sklearn_mpsae.metrics import l0, stability
from sklearn_mpsae.persistence import *  # noqa: F403
from sklearn_mpsae.persistence import load, save
from sklearn_mpsae.sources import BatchStream, NpyFiles

FAST = {"n_nonzero_coefs": 2, "max_iter": 2, "random_state": 0}


def estimators():
    """One of each public class."""
    for name in sklearn_mpsae.__all__:
        cls = getattr(sklearn_mpsae, name)
        if isinstance(cls, type) and issubclass(cls, BaseEstimator):
            yield cls(16, **FAST)


def results():
    """Numbers of fits, by what made them."""
    X, y = load_digits(return_X_y=True)
    X, y, found = X[:300], y[:300], {}
    for sae in estimators():
        name = type(sae).__name__
        found[name] = sae.fit(X).transform(X)
        with tempfile.TemporaryDirectory() as folder:
            for again in (
                load(save(sae, os.path.join(folder, "model"))),
                pickle.loads(pickle.dumps(sae)),
                clone(sae).fit(X),
            ):
                assert np.array_equal(again.transform(X), found[name]), name
        if hasattr(sae, "partial_fit"):
            found[f"{name}.partial_fit"] = clone(sae).partial_fit(X).transform(X)
    sae = MPSparseAutoencoder(16, transform_algorithm="omp", **FAST)
    search = GridSearchCV(
        make_pipeline(sae, RidgeClassifier()),
        {"mpsparseautoencoder__n_nonzero_coefs": [1, 2]},
        cv=2,
    )
    found["search"] = search.fit(X, y).cv_results_["mean_test_score"]
    compared = {"MP": sae, "TopK": TopKSAE(16, **FAST)}
    found["compare"] = compare(compared, X, n_nonzero_coefs=[2]).r2.to_numpy()
    sae.fit(X)
    atoms = sae.components_
    found["coding"] = matching_pursuit(X, atoms, 3).dense()
    found["orthogonal"] = orthogonal_matching_pursuit(X, atoms, 3).dense()
    found["metrics"] = np.array([l0(found["coding"]), stability([atoms, atoms])])
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "X.npy")
        np.save(path, X)
        found["file"] = clone(sae).fit(NpyFiles(path)).components_
        found["stream"] = clone(sae).fit(BatchStream([X[:150], X[150:]])).components_
        page = explore(sae, X, os.path.join(folder, "page.html"), image_shape=(8, 8))
        assert page.stat().st_size > 10_000
    return found


def sums():
    """One number for each result."""
    found = {name: float(np.abs(array).sum()) for name, array in results().items()}
    assert np.isfinite(list(found.values())).all()
    return found


if __name__ == "__main__":
    assert importlib.util.find_spec("torch") is None
    print(json.dumps(sums()))
    assert "torch" not in sys.modules

"""dictlearn: the K-SVD family with scikit-learn's interface."""

import numpy as np
from dictlearn import DictionaryLearning, sparse_encode
from harness import Learned

NAME = "dictlearn"
PACKAGE = "dictlearn"


def encode(X, W, k):
    """Orthogonal matching pursuit; codes of either sign."""
    return lambda: sparse_encode(X, W, algorithm="omp", n_nonzero_coefs=k)


def learn(X, n_components, k, seed, *, iterations=8):
    """Approximate K-SVD; eight iterations, each over all rows, already take minutes."""
    model = DictionaryLearning(
        n_components, n_nonzero_coefs=k, max_iter=iterations, random_state=seed
    ).fit(X)
    components = model.components_.astype(np.float32)
    return Learned(components, lambda X: encode(X, components, k)())


ENCODERS = {"OMP": encode}
LEARNERS = {"approximate K-SVD": learn}

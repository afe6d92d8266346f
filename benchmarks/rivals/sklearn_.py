"""scikit-learn: what a user has before installing anything else."""

import numpy as np
from harness import Learned
from sklearn.decomposition import MiniBatchDictionaryLearning
from sklearn.linear_model import orthogonal_mp_gram

NAME = "scikit-learn"
PACKAGE = "scikit-learn"


def encode(X, W, k):
    """Orthogonal matching pursuit over a Gram matrix; codes of either sign."""
    return lambda: orthogonal_mp_gram(W @ W.T, W @ X.T, n_nonzero_coefs=k).T


def learn(X, n_components, k, seed, *, rows=6_000, passes=1):
    """Online dictionary learning, whose codes are a Lasso; on some rows, as it is slow."""
    model = MiniBatchDictionaryLearning(
        n_components,
        max_iter=passes,
        max_no_improvement=None,
        batch_size=512,
        transform_algorithm="omp",
        transform_n_nonzero_coefs=k,
        random_state=seed,
    ).fit(X[np.random.default_rng(seed).permutation(len(X))[:rows]])
    return Learned(model.components_, model.transform)


ENCODERS = {"OMP": encode}
LEARNERS = {"MiniBatchDictionaryLearning": learn}

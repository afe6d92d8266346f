"""What the study measures beyond the columns of `compare`: (fitted estimator, X) -> anything.

A file of its own, as finished fits are kept with what was measured: a change here makes them
run again, a change of a script or a figure does not.
"""

from __future__ import annotations

import numpy as np

from sklearn_mpsae import metrics
from sklearn_mpsae.coding import Codes

# How far the pursuit goes beyond, and before, the number of atoms it was trained with.
LONGEST = 50
STEPS = (1, 5, 10, 15, 20, 30, 50)


def inference_path(estimator, X):
    """Unexplained share of the variance with 1 .. LONGEST atoms, without another fit."""
    return estimator.reconstruction_path(X, LONGEST)


def babel(estimator, X):
    """Babel function of the dictionary, up to LONGEST atoms."""
    return metrics.babel_function(estimator.components_, LONGEST)


def coselected_babel(estimator, X):
    """Babel function of the atoms that rows select together."""
    return metrics.coselected_babel(estimator.encode(X), estimator.components_)


def conditional_orthogonality(estimator, X):
    """Cosines of each atom taken with the one before it, and with the span of all before."""
    return tuple(metrics.conditional_orthogonality(estimator.encode(X), estimator.components_))


def first(codes, k):
    """The first k codes of each row: those of a shorter pursuit."""
    return Codes(codes.indices[:, :k], codes.values[:, :k], codes.n_components)


def rank_path(estimator, X):
    """Effective rank of the codes with 1 .. LONGEST atoms at inference, at each of STEPS."""
    estimator.set_params(transform_n_nonzero_coefs=LONGEST)
    codes = estimator.encode(X)
    estimator.set_params(transform_n_nonzero_coefs=None)
    return {k: metrics.effective_rank(first(codes, k)) for k in STEPS}


def dictionary(estimator, X):
    """The atoms."""
    return np.asarray(estimator.components_, dtype=np.float32)


def intercept(estimator, X):
    """What the atoms are added to."""
    return np.asarray(estimator.intercept_, dtype=np.float32)

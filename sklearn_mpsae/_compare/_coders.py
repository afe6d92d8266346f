"""One interface to every coder that `compare` supports: this package's, scikit-learn's."""

from __future__ import annotations

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import (
    NMF,
    PCA,
    DictionaryLearning,
    MiniBatchDictionaryLearning,
    SparseCoder,
)

from .._compat import reconstructed
from ..coding.codes import stack_csr
from ..estimators._base import BaseSparseAutoencoder
from ..estimators._mp_cv import MPSparseAutoencoderCV


class Coder:
    """What is asked of an estimator. The defaults are those of scikit-learn's."""

    # Whether one fit serves every number of non-zero codes.
    one_fit = False

    def sparsity(self, level: int) -> dict:
        """The parameters for so many non-zero codes of a row."""
        raise NotImplementedError

    def encode(self, estimator, X):
        """The codes of X, in any form that metrics take."""
        return estimator.transform(X)

    def decode(self, estimator, codes) -> np.ndarray:
        """The reconstruction of these codes."""
        return reconstructed(estimator, codes)

    def dictionary(self, estimator) -> np.ndarray:
        """Atoms in rows, of any norm."""
        return estimator.components_


class _Autoencoder(Coder):
    def sparsity(self, level):
        return {"n_nonzero_coefs": level, "transform_n_nonzero_coefs": None}

    def encode(self, estimator, X):
        return stack_csr(estimator._encoded(X))

    def decode(self, estimator, codes):
        return codes @ estimator.components_ + estimator.intercept_


class _Dictionary(Coder):
    """A dictionary that is learned with another penalty, and coded by scikit-learn's OMP."""

    one_fit = True

    def sparsity(self, level):
        return {
            "transform_algorithm": "omp",
            "transform_n_nonzero_coefs": level,
            "split_sign": False,
        }


class _GivenDictionary(_Dictionary):
    def decode(self, estimator, codes):
        return codes @ self.dictionary(estimator)

    def dictionary(self, estimator):
        return np.asarray(estimator.dictionary)


class _Components(Coder):
    """All components are non-zero in every row: their number is the sparsity."""

    def sparsity(self, level):
        return {"n_components": level}


_CODERS = {
    BaseSparseAutoencoder: _Autoencoder(),
    DictionaryLearning: _Dictionary(),
    MiniBatchDictionaryLearning: _Dictionary(),
    SparseCoder: _GivenDictionary(),
    PCA: _Components(),
    NMF: _Components(),
}


def coder_of(estimator, name) -> Coder:
    """The coder of an estimator of this name.

    Raises
    ------
    TypeError
        If there is none.
    """
    if isinstance(estimator, MPSparseAutoencoderCV):
        raise TypeError(
            f"estimators[{name!r}] is an MPSparseAutoencoderCV, which chooses its sparsity: "
            "compare sets it. Pass an MPSparseAutoencoder."
        )
    for kind, coder in _CODERS.items():
        if isinstance(estimator, kind):
            return coder
    known = ", ".join(kind.__name__ for kind in _CODERS if kind is not BaseSparseAutoencoder)
    raise TypeError(
        f"estimators[{name!r}] is {estimator!r}: compare knows unfitted instances of this "
        f"package's autoencoders and of scikit-learn's {known}. For a pipeline, pass the data "
        "as its last step gets them, and that step."
    )


def configured(estimator, name, level, seed):
    """A clone of the estimator for so many non-zero codes."""
    coder = coder_of(estimator, name)
    estimator = clone(estimator).set_params(**coder.sparsity(level))
    if "random_state" in estimator.get_params(deep=False):
        estimator.set_params(random_state=seed)
    return estimator.set_output(transform="default")

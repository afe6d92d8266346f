"""The sparse autoencoder whose encoder is matching pursuit."""

from __future__ import annotations

from numbers import Real
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval, StrOptions

from ._base import BaseSparseAutoencoder
from ._docs import shared_docs
from .coding.pursuit import prefers_gram, pursue
from .learning.trainer import Step


@shared_docs
class MPSparseAutoencoder(BaseSparseAutoencoder):
    """Sparse autoencoder with matching pursuit as its encoder (MP-SAE).

    Codes are found one atom at a time: each step takes the atom that correlates best with
    what the earlier ones left of the row, and subtracts its part [1]_, [2]_. The dictionary
    is trained by gradient descent through all these steps. Unlike a shallow encoder, which
    sees the row only once, a pursuit can tell correlated atoms apart, and each atom lowers
    the error.

    Parameters
    ----------
    {n_components}
    {n_nonzero_coefs}
    tol : float, default=0.0
        A row takes no further atom once its squared residual is at most `tol` times its
        squared norm (after centring); so it does not depend on the data's scale.
    transform_algorithm : {{"mp", "omp"}}, default="mp"
        The pursuit of `transform`. "mp": matching pursuit, the encoder that is trained; its
        codes are nested, and an atom may be taken again. "omp": orthogonal matching
        pursuit, which refits all codes with each atom (by non-negative least squares under
        `positive_code`). `fit` then also refines the dictionary on such codes, during the
        last part of the training.
    {transform_n_nonzero_coefs}
    positive_code : bool, default=True
        Whether codes must not be negative, as in the papers.
    {training}
    dead_atoms : {{"revive", "keep"}}, default="revive"
        What to do with atoms that no row uses any more. "revive": point them at what the
        others leave of a badly reconstructed row. "keep": nothing.
    dead_after : int, default=100
        The number of steps without use after which an atom is dead.
    {infrastructure}

    Attributes
    ----------
    {attributes}

    See Also
    --------
    TopKSAE : The same with a shallow encoder.
    sklearn.decomposition.DictionaryLearning : Dictionary learning with an L1 penalty.
    sklearn.linear_model.OrthogonalMatchingPursuit : Pursuit for a single target.

    Notes
    -----
    A batch is multiplied with the dictionary once, as by a shallow encoder; each atom then
    updates the correlations from the dictionary's Gram matrix, row by row, in cache. Where
    that would cost more than working on residuals (few rows, or many atoms), a cost model
    takes the latter.
    The gradient is the exact derivative of the unrolled pursuit; nothing of the unrolling
    is stored, so a batch takes memory for its rows and codes only.

    References
    ----------
    .. [1] "Evaluating Sparse Autoencoders: From Shallow Design to Matching Pursuit",
       arXiv:2506.05239, 2025.
    .. [2] "From Flat to Hierarchical: Extracting Sparse Representations with Matching
       Pursuit", arXiv:2506.03093, 2025.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> X, _ = load_digits(return_X_y=True)
    >>> sae = MPSparseAutoencoder(n_components=128, n_nonzero_coefs=8, random_state=0)
    >>> codes = sae.fit_transform(X)
    >>> codes.shape
    (1797, 128)
    >>> bool(sae.score(X) > 0.9)
    True
    """

    _parameter_constraints: dict = {
        **BaseSparseAutoencoder._parameter_constraints,
        "tol": [Interval(Real, 0, 1, closed="left")],
        "transform_algorithm": [StrOptions({"mp", "omp"})],
    }

    _free_norms = True

    def __init__(
        self,
        n_components: int | None = None,
        *,
        n_nonzero_coefs: int | None = None,
        tol: float = 0.0,
        transform_algorithm: Literal["mp", "omp"] = "mp",
        transform_n_nonzero_coefs: int | None = None,
        positive_code: bool = True,
        center: bool = True,
        max_iter: int | None = None,
        batch_size: int = 512,
        learning_rate: float = 0.3,
        dict_init: ArrayLike | None = None,
        dead_atoms: Literal["revive", "keep"] = "revive",
        dead_after: int = 100,
        sparse_output: bool = False,
        device: str = "auto",
        warm_start: bool = False,
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.n_nonzero_coefs = n_nonzero_coefs
        self.tol = tol
        self.transform_algorithm = transform_algorithm
        self.transform_n_nonzero_coefs = transform_n_nonzero_coefs
        self.positive_code = positive_code
        self.center = center
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.dict_init = dict_init
        self.dead_atoms = dead_atoms
        self.dead_after = dead_after
        self.sparse_output = sparse_output
        self.device = device
        self.warm_start = warm_start
        self.verbose = verbose
        self.random_state = random_state

    def _initial_parameters(self, atoms):
        return {"components": atoms}

    def _fitted_parameters(self, scale):
        return {"components": self.components_}

    def _attributes(self, parameters, running, scale):
        return {"components_": parameters["components"]}

    def _backward(self, kernels, parameters, X, plan, dead, running):
        W = parameters["components"]
        # Orthogonal codes want atoms of unit norm, and minimise the error themselves: its
        # derivative by them is zero, so the gradient is that of the decoder alone.
        orthogonal = plan.refine and self.transform_algorithm == "omp"
        indices, values = pursue(
            kernels,
            X,
            W,
            plan.n_nonzero_coefs,
            tol=self.tol,
            positive=self.positive_code,
            orthogonal=orthogonal,
        )
        if orthogonal:
            residual = X - kernels.decode(indices, values, W)
            gradient = -kernels.scatter_outer(indices, values, residual, len(W))
        else:
            residual, gradient = kernels.pursuit_gradient(X, W, indices, values)
        return Step(indices, values, residual, {"components": gradient})

    def _encoder(self, kernels, n_samples, k, dtype):
        W = kernels.asarray(self.components_.astype(dtype, copy=False))
        orthogonal = self.transform_algorithm == "omp"
        gram = None
        if orthogonal or prefers_gram(n_samples, *W.shape, k, dtype.itemsize):
            gram = kernels.gram(W)

        def encode(X):
            return pursue(
                kernels,
                X,
                W,
                k,
                tol=self.tol,
                positive=self.positive_code,
                orthogonal=orthogonal,
                gram=gram,
            )

        return encode

    def _squared_errors(self, X, k, path):
        if path and self.transform_algorithm == "omp":
            # The codes of fewer atoms are not the first ones of more.
            ends = [self._squared_errors(X, t + 1, False) for t in range(k)]
            return np.concatenate(ends)
        return super()._squared_errors(X, k, path)

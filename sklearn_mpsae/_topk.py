"""The baseline: a sparse autoencoder with a shallow TopK encoder."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import StrOptions

from ._base import BaseSparseAutoencoder
from ._docs import shared_docs
from .learning.trainer import Step

# The share of the auxiliary loss in the loss (Gao et al. 2024), and how many times more
# latents than the main one it lets reconstruct.
_AUXILIARY = 1 / 32
_AUXILIARY_LATENTS = 4


@shared_docs
class TopKSAE(BaseSparseAutoencoder):
    """Sparse autoencoder with a TopK encoder.

    A linear encoder of its own, not tied to the dictionary, looks at the row once; the k
    largest of its outputs are the codes [1]_. The baseline that `MPSparseAutoencoder` is
    compared with, under the same names.

    Parameters
    ----------
    {n_components}
    {n_nonzero_coefs}
    {transform_n_nonzero_coefs}
    positive_code : bool, default=True
        Whether codes must not be negative: the k largest outputs, of those above zero. Else
        the k largest in magnitude.
    {training}
    dead_atoms : {{"auxiliary", "revive", "keep"}}, default="auxiliary"
        What to do with atoms that no row uses any more. "auxiliary": let the dead ones
        together reconstruct what the others leave, as a second loss [1]_. "revive": point
        them at what the others leave of a badly reconstructed row. "keep": nothing.
    dead_after : int, default=30
        The number of steps without use after which an atom is dead.
    {infrastructure}

    Attributes
    ----------
    {attributes}
    encoder_components_ : ndarray of shape (n_components, n_features)
        The encoder's weights.
    encoder_intercept_ : ndarray of shape (n_components,)
        The encoder's bias. Codes are the largest entries of
        ``(X - intercept_) @ encoder_components_.T + encoder_intercept_``.

    See Also
    --------
    MPSparseAutoencoder : The same with matching pursuit as its encoder.

    References
    ----------
    .. [1] L. Gao et al., "Scaling and evaluating sparse autoencoders", arXiv:2406.04093,
       2024.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_mpsae import TopKSAE
    >>> X, _ = load_digits(return_X_y=True)
    >>> sae = TopKSAE(n_components=128, n_nonzero_coefs=8, random_state=0).fit(X)
    >>> int((sae.transform(X) != 0).sum(axis=1).max())
    8
    """

    _parameter_constraints: dict = {
        **BaseSparseAutoencoder._parameter_constraints,
        "dead_atoms": [StrOptions({"auxiliary", "revive", "keep"})],
    }

    # A bias shifts a latent for all rows at once, and an encoder moves without a sphere to
    # hold it: at the dictionary's own rate both overshoot, and latents die of it.
    _rate_shares = {"encoder": 0.2, "bias": 0.03}

    def __init__(
        self,
        n_components: int | None = None,
        *,
        n_nonzero_coefs: int | None = None,
        transform_n_nonzero_coefs: int | None = None,
        positive_code: bool = True,
        center: bool = True,
        max_iter: int | None = None,
        batch_size: int = 512,
        learning_rate: float = 0.3,
        dict_init: ArrayLike | None = None,
        dead_atoms: Literal["auxiliary", "revive", "keep"] = "auxiliary",
        dead_after: int = 30,
        sparse_output: bool = False,
        device: str = "auto",
        warm_start: bool = False,
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.n_nonzero_coefs = n_nonzero_coefs
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

    # The encoder's bias is in units of the data; all else has no unit.
    def _initial_parameters(self, atoms):
        bias = np.zeros((len(atoms), 1), atoms.dtype)
        return {"components": atoms, "encoder": atoms.copy(), "bias": bias}

    def _fitted_parameters(self, scale):
        return {
            "components": self.components_,
            "encoder": self.encoder_components_,
            "bias": (self.encoder_intercept_ / scale)[:, None].astype(self.components_.dtype),
        }

    def _attributes(self, parameters, scale):
        dtype = parameters["components"].dtype
        return {
            "components_": parameters["components"],
            "encoder_components_": parameters["encoder"],
            "encoder_intercept_": (parameters["bias"][:, 0] * float(scale)).astype(dtype),
        }

    def _backward(self, kernels, parameters, X, plan, dead):
        k, positive = plan.n_nonzero_coefs, self.positive_code
        W, encoder, bias = (parameters[name] for name in ("components", "encoder", "bias"))
        indices, values = kernels.top_k(X, encoder, bias[:, 0], k, positive=positive)
        residual = X - kernels.decode(indices, values, W)
        gradients = _gradients(kernels, X, W, residual, indices, values)
        if len(dead) and self.dead_atoms == "auxiliary":
            # The dead latents alone autoencode the residual.
            W, encoder, bias = W[dead], encoder[dead], bias[dead]
            k = min(len(dead), _AUXILIARY_LATENTS * k)
            auxiliary = kernels.top_k(X, encoder, bias[:, 0], k, positive=positive)
            left = residual - kernels.decode(*auxiliary, W)
            for name, gradient in _gradients(kernels, X, W, left, *auxiliary).items():
                gradients[name][dead] += _AUXILIARY * gradient
        return Step(indices, values, residual, gradients)

    def _encoder(self, kernels, n_samples, k, dtype):
        weights = kernels.asarray(self.encoder_components_.astype(dtype, copy=False))
        bias = kernels.asarray(self.encoder_intercept_.astype(dtype, copy=False))
        return lambda X: kernels.top_k(X, weights, bias, k, positive=self.positive_code)


def _gradients(kernels, X, W, residual, indices, values):
    """Of half the residual's energy, by dictionary, encoder and bias."""
    by_values = -kernels.gather_dot(residual, W, indices)
    by_values *= values != 0
    ones = X[:, :1] * 0 + 1
    return {
        "components": -kernels.scatter_outer(indices, values, residual, len(W)),
        "encoder": kernels.scatter_outer(indices, by_values, X, len(W)),
        "bias": kernels.scatter_outer(indices, by_values, ones, len(W)),
    }

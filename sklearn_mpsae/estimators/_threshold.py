"""Sparse autoencoders whose outputs become codes above a threshold: ReLU and JumpReLU."""

from __future__ import annotations

import numpy as np

from .._array_api import Fitted
from .._docs import shared_docs
from ..models import shallow as models
from ._shallow import BaseAverageSAE


@shared_docs
class ReLUSAE(BaseAverageSAE):
    """Sparse autoencoder with a ReLU encoder and an L1 penalty.

    The codes are the outputs of a linear encoder above zero, and the loss penalises the sum
    of the codes [1]_. The weight of the penalty is not a parameter: training adapts it at
    each step, so that rows have `n_nonzero_coefs` codes on average.

    Parameters
    ----------
    {n_components}
    {average_n_nonzero_coefs}
    transform_n_nonzero_coefs : int, default=None
        The largest number of codes that `transform` keeps of a row, of those above zero; it
        can be set after `fit`. None for all.
    {training}
    {dead}
    {infrastructure}

    Attributes
    ----------
    {attributes}
    {encoder_attributes}
    penalty_ : float
        The weight of the L1 penalty at the end: the loss of a row is
        ``sum((x - x_hat) ** 2) / 2 + penalty_ * sum(codes)``; in units of the data.

    See Also
    --------
    JumpReLUSAE : A threshold instead of a penalty, which shrinks codes.
    sklearn.decomposition.DictionaryLearning : Minimises the penalised error itself.

    Notes
    -----
    The logarithm of the penalty moves by 0.1 times that of the ratio of a batch's L0 to the
    requested one, by more in the first steps, and by less at learning rates below 0.3, which
    the weights follow more slowly. It is at most the root mean squared norm of the rows.
    Where the training steps still have more than a tenth too many codes, `encoder_intercept_`
    is the trained bias minus a shift that gives the requested number.

    References
    ----------
    .. [1] H. Cunningham et al., "Sparse autoencoders find highly interpretable features in
       language models", arXiv:2309.08600, 2023.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_mpsae import ReLUSAE
    >>> X, _ = load_digits(return_X_y=True)
    >>> sae = ReLUSAE(n_components=128, n_nonzero_coefs=8, random_state=0).fit(X)
    >>> bool(abs((sae.transform(X) != 0).sum(axis=1).mean() - 8) < 0.4)
    True
    """

    penalty_ = Fitted[float]()
    # `encoder_intercept_` without the shift that leaves the codes asked for.
    _trained_intercept = Fitted[np.ndarray]()

    def _model(self):
        return models.ReLU(auxiliary=self.dead_atoms == "auxiliary")


@shared_docs
class JumpReLUSAE(BaseAverageSAE):
    """Sparse autoencoder with a JumpReLU encoder.

    The codes are the outputs of a linear encoder above a threshold. Each atom has its own
    threshold, which is trained with a straight-through estimator [1]_, so that rows have
    `n_nonzero_coefs` codes on average.

    Parameters
    ----------
    {n_components}
    {average_n_nonzero_coefs}
    transform_n_nonzero_coefs : int, default=None
        The largest number of codes that `transform` keeps of a row, of those above their
        thresholds; it can be set after `fit`. None for all.
    {training}
    {dead}
    {infrastructure}

    Attributes
    ----------
    {attributes}
    {encoder_attributes}
    threshold_ : ndarray of shape (n_components,)
        What an output must exceed to be a code; in units of the data.

    See Also
    --------
    BatchTopKSAE : One threshold for all atoms.
    ReLUSAE : A penalty instead of thresholds.

    Notes
    -----
    Thresholds are ``c * exp(s)``, with one c for all atoms and a shape s that is learnt.
    Among the outputs close to their threshold (within 10%), firing gains
    ``g = threshold * <residual, atom>``; the pseudo-derivative of the loss by s is the sum
    of an atom's gains, less the mean gain of all such outputs for each of them. That mean
    is the Lagrange multiplier of the constraint on L0: where [1]_ weighs a penalty, here
    the constraint itself is kept, by c, whose logarithm moves by 0.05 times that of the
    ratio of a batch's L0 to the requested one, by more in the first steps; `threshold_` has
    its mean over the last ones.

    References
    ----------
    .. [1] S. Rajamanoharan et al., "Jumping ahead: improving reconstruction fidelity with
       JumpReLU sparse autoencoders", arXiv:2407.14435, 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_mpsae import JumpReLUSAE
    >>> X, _ = load_digits(return_X_y=True)
    >>> sae = JumpReLUSAE(n_components=128, n_nonzero_coefs=8, random_state=0).fit(X)
    >>> bool(abs((sae.transform(X) != 0).sum(axis=1).mean() - 8) < 0.4)
    True
    """

    threshold_ = Fitted[np.ndarray]()
    # The logarithms of `threshold_`, up to a common number.
    _log_threshold = Fitted[np.ndarray]()

    def _model(self):
        return models.JumpReLU(auxiliary=self.dead_atoms == "auxiliary")

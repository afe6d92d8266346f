"""Shallow sparse autoencoders that keep the largest outputs: of a row, or of a batch."""

from __future__ import annotations

import os
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from .._array_api import Fitted
from .._docs import shared_docs
from ..models import shallow as models
from ._shallow import BaseAverageSAE, BaseShallowSAE


@shared_docs
class TopKSAE(BaseShallowSAE):
    """Sparse autoencoder with a TopK encoder.

    The codes are the k largest outputs of a linear encoder, whose weights are not tied to
    the dictionary [1]_. It is the usual baseline for `MPSparseAutoencoder`, and has the same
    interface.

    Parameters
    ----------
    {n_components}
    {n_nonzero_coefs}
    {transform_n_nonzero_coefs}
    positive_code : bool, default=True
        Whether codes must not be negative: the k largest outputs, of those above zero. Else
        the k largest in magnitude.
    {training}
    {dead}
    {infrastructure}

    Attributes
    ----------
    {attributes}
    {encoder_attributes}

    See Also
    --------
    MPSparseAutoencoder : The same with matching pursuit as its encoder.
    BatchTopKSAE : The k largest outputs on average.

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
        **BaseShallowSAE._parameter_constraints,
        "positive_code": ["boolean"],
    }

    positive_code: bool

    def __init__(
        self,
        n_components: int | None = None,
        *,
        n_nonzero_coefs: int | None = None,
        transform_n_nonzero_coefs: int | None = None,
        positive_code: bool = True,
        intercept: Literal["learn", "mean", "zero"] = "learn",
        max_iter: int | None = None,
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: float = 0.3,
        dict_init: ArrayLike | None = None,
        dead_atoms: Literal["auxiliary", "revive", "keep"] = "auxiliary",
        dead_after: int = 30,
        sparse_output: bool = False,
        device: str = "auto",
        warm_start: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: float = 60.0,
        distributed: bool = False,
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self._store(locals())

    def _model(self):
        auxiliary = self.dead_atoms == "auxiliary"
        return models.TopK(auxiliary=auxiliary, positive=bool(self.positive_code))


@shared_docs
class BatchTopKSAE(BaseAverageSAE):
    """Sparse autoencoder with a BatchTopK encoder.

    As `TopKSAE`, but a training step keeps the largest outputs of its batch, k per row on
    average, so rows may have different numbers of codes [1]_. `transform` keeps the outputs
    above a threshold, so that the codes of a row do not depend on other rows. The threshold
    is midway between the smallest output that is kept and the largest that is not, averaged
    over the last training steps.

    Parameters
    ----------
    {n_components}
    {average_n_nonzero_coefs}
    transform_n_nonzero_coefs : int, default=None
        None to apply the threshold. Otherwise `transform` keeps so many of the largest
        outputs of each row (of those above zero), as `TopKSAE` does; it can be set after
        `fit`.
    {training}
    {dead}
    {infrastructure}

    Attributes
    ----------
    {attributes}
    {encoder_attributes}
    threshold_ : float
        Outputs above it become codes; in units of the data.

    See Also
    --------
    TopKSAE : The k largest outputs of each row.
    JumpReLUSAE : A threshold for each atom, learnt.

    References
    ----------
    .. [1] B. Bussmann, P. Leask and N. Nanda, "BatchTopK sparse autoencoders",
       arXiv:2412.06410, 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_mpsae import BatchTopKSAE
    >>> X, _ = load_digits(return_X_y=True)
    >>> sae = BatchTopKSAE(n_components=128, n_nonzero_coefs=8, random_state=0).fit(X)
    >>> l0 = (sae.transform(X) != 0).sum(axis=1)
    >>> bool(abs(l0.mean() - 8) < 0.4), bool(l0.max() > 8)
    (True, True)
    """

    threshold_ = Fitted[float]()

    def _model(self):
        return models.BatchTopK(auxiliary=self.dead_atoms == "auxiliary")


@shared_docs
class MatryoshkaSAE(BatchTopKSAE):
    """Sparse autoencoder of nested dictionaries, with a BatchTopK encoder.

    The loss is the mean squared error over several prefixes of the dictionary. Each prefix
    is trained to reconstruct the data by itself, so the first atoms learn general features
    and later ones learn special features [1]_.

    Parameters
    ----------
    {n_components}
    {average_n_nonzero_coefs}
    transform_n_nonzero_coefs : int, default=None
        None to apply the threshold. Otherwise `transform` keeps so many of the largest
        outputs of each row (of those above zero); it can be set after `fit`.
    prefix_sizes : array-like of int, default=None
        The numbers of atoms of the prefixes; the whole dictionary always is one. None for
        a sixteenth, an eighth, a quarter and a half of it.
    {training}
    {dead}
    {infrastructure}

    Attributes
    ----------
    {attributes}
    {encoder_attributes}
    threshold_ : float
        Outputs above it become codes; in units of the data.

    See Also
    --------
    BatchTopKSAE : The same with one dictionary.
    MPSparseAutoencoder : Hierarchies by pursuit.

    References
    ----------
    .. [1] B. Bussmann, N. Nabeshima, A. Karvonen and N. Nanda, "Learning multi-level
       features with Matryoshka sparse autoencoders", arXiv:2503.17547, 2025.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_mpsae import MatryoshkaSAE
    >>> X, _ = load_digits(return_X_y=True)
    >>> sae = MatryoshkaSAE(128, n_nonzero_coefs=8, prefix_sizes=[16, 64], random_state=0)
    >>> sae.fit_transform(X).shape
    (1797, 128)
    """

    _parameter_constraints: dict = {
        **BatchTopKSAE._parameter_constraints,
        "prefix_sizes": ["array-like", None],
    }

    prefix_sizes: ArrayLike | None

    def __init__(
        self,
        n_components: int | None = None,
        *,
        n_nonzero_coefs: float | None = None,
        transform_n_nonzero_coefs: int | None = None,
        prefix_sizes: ArrayLike | None = None,
        intercept: Literal["learn", "mean", "zero"] = "learn",
        max_iter: int | None = None,
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: float = 0.3,
        dict_init: ArrayLike | None = None,
        dead_atoms: Literal["auxiliary", "revive", "keep"] = "auxiliary",
        dead_after: int = 30,
        sparse_output: bool = False,
        device: str = "auto",
        warm_start: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: float = 60.0,
        distributed: bool = False,
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self._store(locals())

    def _model(self):
        auxiliary = self.dead_atoms == "auxiliary"
        return models.Matryoshka(auxiliary=auxiliary, prefix_sizes=self.prefix_sizes)

"""Shallow sparse autoencoders that keep the largest outputs: of a row, or of a batch."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ._docs import shared_docs
from ._shallow import (
    BaseAverageSAE,
    BaseShallowSAE,
    error_step,
    gradients_of_error,
    largest_of_batch,
)
from .coding.checks import checked_counts
from .learning.control import count, divide, settle
from .learning.trainer import Step


@shared_docs
class TopKSAE(BaseShallowSAE):
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
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: float = 60.0,
        distributed: bool = False,
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
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.distributed = distributed
        self.verbose = verbose
        self.random_state = random_state

    def _step(self, kernels, parameters, X, now):
        encoder, bias = parameters["encoder"], parameters["bias"][:, 0]
        k = now.plan.n_nonzero_coefs
        codes = kernels.top_k(X, encoder, bias, k, positive=self.positive_code)
        return error_step(kernels, parameters, X, *codes)

    def _encoder(self, kernels, n_samples, k, dtype):
        weights = self._weights(kernels, dtype)
        return lambda X: [kernels.top_k(X, *weights, k, positive=self.positive_code)]

    def _rule(self):
        return self._shallow_rule(None, self._transform_k(), self.positive_code)


@shared_docs
class BatchTopKSAE(BaseAverageSAE):
    """Sparse autoencoder with a BatchTopK encoder.

    As `TopKSAE`, but a training step keeps the largest outputs of its batch, k per row on
    average: rows that need more codes take them from rows that need fewer [1]_. The
    threshold of `transform` lies midway between the smallest output that is kept and the
    largest that is not, averaged over the last steps: the codes of a row depend on that row
    alone.

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

    _running_start = {"threshold": 0.0, "n_batches": 0, "l0": 0.0}
    _level = "threshold"

    def _step(self, kernels, parameters, X, now):
        codes = self._largest(kernels, parameters, X, now)
        return error_step(kernels, parameters, X, *codes)

    def _largest(self, kernels, parameters, X, now):
        """The largest outputs of the batch, as many as its rows may have together."""
        running, n_rows = now.running, now.totals(len(X))[0]
        running["n_batches"] += 1
        encoder, bias = parameters["encoder"], parameters["bias"][:, 0]
        indices, values, threshold, n_above = largest_of_batch(
            kernels, X, encoder, bias, now, running["threshold"]
        )
        sizes = kernels.to_numpy(values)
        # While it explores, the batch has more codes than were asked for.
        divides = divide(now, sizes, n_rows)
        settle(now, "threshold", divides or threshold, n_rows)
        # Of outputs that are not among the codes, the number is known from before.
        seen = running["threshold"] >= threshold
        n_above = np.count_nonzero(sizes > running["threshold"]) if seen else n_above
        count(now, n_above, n_rows)
        return indices, values

    def _attributes(self, parameters, running, scale):
        threshold = running["threshold"] * float(scale)
        return super()._attributes(parameters, running, scale) | {"threshold_": threshold}

    def _floor(self, dtype):
        return np.full(len(self.components_), self.threshold_, dtype)

    def _encoder(self, kernels, n_samples, k, dtype):
        if k is None:
            return super()._encoder(kernels, n_samples, k, dtype)
        # Asked for a number, it counts: a threshold fits the number it was trained with.
        weights = self._weights(kernels, dtype)
        return lambda X: [kernels.top_k(X, *weights, k, positive=True)]

    def _rule(self):
        k = self._transform_k()
        return super()._rule() if k is None else self._shallow_rule(None, k, True)


@shared_docs
class MatryoshkaSAE(BatchTopKSAE):
    """Sparse autoencoder of nested dictionaries, with a BatchTopK encoder.

    Each prefix of the dictionary has to reconstruct the data by itself, so the first atoms
    take up what is general and leave what is particular to later ones [1]_. The loss is
    the mean of the prefixes' squared errors.

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

    def __init__(
        self,
        n_components: int | None = None,
        *,
        n_nonzero_coefs: float | None = None,
        transform_n_nonzero_coefs: int | None = None,
        prefix_sizes: ArrayLike | None = None,
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
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: float = 60.0,
        distributed: bool = False,
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        super().__init__(
            n_components,
            n_nonzero_coefs=n_nonzero_coefs,
            transform_n_nonzero_coefs=transform_n_nonzero_coefs,
            center=center,
            max_iter=max_iter,
            batch_size=batch_size,
            learning_rate=learning_rate,
            dict_init=dict_init,
            dead_atoms=dead_atoms,
            dead_after=dead_after,
            sparse_output=sparse_output,
            device=device,
            warm_start=warm_start,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            distributed=distributed,
            verbose=verbose,
            random_state=random_state,
        )
        self.prefix_sizes = prefix_sizes

    def _initial_parameters(self, atoms):
        self._prefixes(len(atoms))  # so that bad ones are refused before any work
        return super()._initial_parameters(atoms)

    def _step(self, kernels, parameters, X, now):
        """The mean over prefixes of the gradients of their errors.

        A group of atoms takes part in every prefix that reaches it: what it sees is the
        sum of their residuals.
        """
        W = parameters["components"]
        indices, values = self._largest(kernels, parameters, X, now)
        residual = left = X - kernels.decode(indices, values, W)
        seen = left * 0
        gradients = {name: array * 0 for name, array in parameters.items()}
        ends = self._prefixes(len(W))
        for start, end in reversed(list(pairwise([0, *ends]))):
            seen = seen + left / len(ends)
            part = values * ((indices >= start) & (indices < end))
            of_group = gradients_of_error(kernels, W, X, seen, indices, part)
            for name, gradient in of_group.items():
                gradients[name] += gradient
            left = left + kernels.decode(indices, part, W)
        return Step(indices, values, residual, gradients)

    def _prefixes(self, n_components):
        """The sizes of the prefixes, rising, the whole dictionary last."""
        if self.prefix_sizes is None:
            sizes = [max(1, n_components >> halvings) for halvings in range(5)]
        else:
            sizes = checked_counts(self.prefix_sizes, "prefix_sizes", n_components)
        return sorted({*map(int, sizes), n_components})

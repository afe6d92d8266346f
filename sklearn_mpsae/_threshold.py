"""Sparse autoencoders whose outputs become codes above a threshold: ReLU and JumpReLU."""

from __future__ import annotations

import numpy as np

from ._arrays import FittedArray
from ._docs import shared_docs
from ._shallow import BaseAverageSAE, error_step, largest_of_batch, sum_by_atom
from .learning.control import (
    control,
    count,
    divide,
    settle,
    settle_threshold,
    start,
    too_many,
)
from .learning.trainer import Step

# The controllers of L0: how fast a logarithm follows the error of L0's; the penalty at this
# learning rate or higher ones.
_PENALTY_GAIN = 0.1
_RATE_OF_GAIN = 0.3
_THRESHOLD_GAIN = 0.05

# The largest penalty, where rows have a mean squared norm of 1: no code could gain as much.
_LARGEST_PENALTY = 1.0

# JumpReLU's pseudo-derivative sees outputs this close to their threshold, as a share of it.
_BAND = 0.1


@shared_docs
class ReLUSAE(BaseAverageSAE):
    """Sparse autoencoder with a ReLU encoder and an L1 penalty.

    The classic: outputs of a linear encoder above zero are the codes, and the sum of the
    codes is penalised [1]_. The weight of the penalty is not a parameter: a controller
    adapts it at each step, so that rows come to have `n_nonzero_coefs` codes on average,
    as many as those of the other estimators.

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
    one asked for, by more in the first steps, and by less at learning rates below 0.3, which
    the weights follow more slowly. It is at most the root mean squared norm of the rows.
    Where the training steps still have more than a tenth too many codes, `encoder_intercept_`
    is the trained bias less what leaves the number asked for.

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

    # The bias is what a threshold is to the others, the encoder what fights the penalty.
    _rate_shares = {"encoder": 0.5, "bias": 0.03}
    # The bias without the shift, to go on from.
    _trained_intercept = FittedArray()

    _running_start = start("penalty", 0.01) | {"shift": 0.0}
    _level = "shift"

    def _fitted_parameters(self, scale):
        parameters = super()._fitted_parameters(scale)
        if "_trained_intercept" in vars(self):
            bias = (self._trained_intercept / scale)[:, None].astype(self.components_.dtype)
            parameters["bias"] = bias
        return parameters

    def _attributes(self, parameters, running, scale):
        fitted = super()._attributes(parameters, running, scale)
        trained = fitted["encoder_intercept_"]
        shift = trained.dtype.type(running["shift"] * float(scale))
        fitted |= {"encoder_intercept_": trained - shift, "_trained_intercept": trained}
        # Codes have the data's unit, so this makes the penalty's unit the error's.
        return fitted | {"penalty_": running["settled"] * float(scale)}

    def _step(self, kernels, parameters, X, now):
        encoder, bias = parameters["encoder"], parameters["bias"][:, 0]
        running = now.running
        indices, values = kernels.above(X, encoder, bias, bias * 0)
        sizes = kernels.to_numpy(values)
        # Weights follow at the learning rate; a faster penalty would leave them behind.
        gain = _PENALTY_GAIN * min(1.0, float(self.learning_rate) / _RATE_OF_GAIN)
        n_rows = control(now, "penalty", gain, sizes, _LARGEST_PENALTY)
        settle(now, "settled", running["penalty"], n_rows)
        # Where weights have not followed the penalty yet, the bias does what it will do.
        shift = divide(now, sizes, n_rows) if too_many(now) else 0.0
        settle(now, "shift", shift, n_rows)
        count(now, np.count_nonzero(sizes > running["shift"]), n_rows)
        return error_step(kernels, parameters, X, indices, values, running["penalty"])


@shared_docs
class JumpReLUSAE(BaseAverageSAE):
    """Sparse autoencoder with a JumpReLU encoder.

    Outputs of a linear encoder become codes where they exceed their atom's own threshold,
    which is learnt with a straight-through estimator [1]_, so that rows have
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
    ratio of a batch's L0 to the one asked for, by more in the first steps; `threshold_` has
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

    threshold_ = FittedArray()
    _log_threshold = FittedArray()

    _rate_shares = {"encoder": 0.2, "bias": 0.03, "log_threshold": 0.03}
    _running_start = start("threshold")
    _level = "settled"

    def _count(self, kernels, parameters, X, level, now):
        floor = level * kernels.exp(parameters["log_threshold"])[:, 0]
        return self._count_above(kernels, parameters, X, floor)

    def _initial_parameters(self, atoms):
        bias = np.zeros((len(atoms), 1), atoms.dtype)
        return super()._initial_parameters(atoms) | {"log_threshold": bias}

    def _fitted_parameters(self, scale):
        return super()._fitted_parameters(scale) | {"log_threshold": self._log_threshold}

    def _attributes(self, parameters, running, scale):
        shape = parameters["log_threshold"]
        threshold = shape.dtype.type(running["settled"] * float(scale)) * np.exp(shape[:, 0])
        return super()._attributes(parameters, running, scale) | {
            "threshold_": threshold,
            "_log_threshold": shape,
        }

    def _step(self, kernels, parameters, X, now):
        """See the class's notes for the gradient by the thresholds."""
        W, logs, running = parameters["components"], parameters["log_threshold"], now.running
        relative = kernels.exp(logs)
        # In units of their thresholds' shape, outputs share one threshold.
        encoder, bias = parameters["encoder"] / relative, (parameters["bias"] / relative)[:, 0]
        if running["threshold"] == 0:
            threshold = largest_of_batch(kernels, X, encoder, bias, now)[2]
            running["threshold"] = float(threshold)
        threshold = running["threshold"]
        indices, scores = kernels.above(X, encoder, bias, bias * 0 + (1 - _BAND) * threshold)
        shape = relative[:, 0][indices]
        values = scores * shape * (scores > threshold)
        sizes = kernels.to_numpy(scores * (scores > threshold))
        n_rows = control(now, "threshold", _THRESHOLD_GAIN, sizes)
        settle_threshold(now, "threshold", sizes, n_rows)

        residual = X - kernels.decode(indices, values, W)
        by_values = -kernels.gather_dot(residual, W, indices)
        # What firing gains, for the outputs that only just do or do not.
        band = (scores > 0) & (scores < (1 + _BAND) * threshold)
        gain = -by_values * shape * threshold * band
        gains, n_gains = now.totals(gain.sum(), band.sum())
        gain[band] -= float(gains / max(1, n_gains))
        active = by_values * (values != 0)
        gradients = {
            "components": -kernels.scatter_outer(indices, values, residual, len(W)),
            "encoder": kernels.scatter_outer(indices, active, X, len(W)),
            "bias": sum_by_atom(kernels, indices, active, X, len(W)),
            "log_threshold": sum_by_atom(kernels, indices, gain, X, len(W)),
        }
        return Step(indices, values, residual, gradients)

    def _floor(self, dtype):
        return self.threshold_.astype(dtype)

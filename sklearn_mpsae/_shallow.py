"""What the sparse autoencoders with a shallow encoder share: they look at a row once."""

from __future__ import annotations

import os
from abc import abstractmethod
from numbers import Real
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ._arrays import FittedArray
from ._base import BaseSparseAutoencoder
from ._compat import Interval, StrOptions
from .coding.rules import Shallow
from .learning.trainer import Step

# The share of the auxiliary loss in the loss (Gao et al. 2024), and how many times more
# latents than the main one it lets reconstruct.
_AUXILIARY = 1 / 32
_AUXILIARY_LATENTS = 4


class BaseShallowSAE(BaseSparseAutoencoder):
    """A linear encoder of its own, not tied to the dictionary, and a rule that chooses.

    A child says what a batch teaches (`_step`) and which outputs are codes (`_encoder`).
    """

    _parameter_constraints: dict = {
        **BaseSparseAutoencoder._parameter_constraints,
        "dead_atoms": [StrOptions({"auxiliary", "revive", "keep"})],
    }

    encoder_components_ = FittedArray()
    encoder_intercept_ = FittedArray()

    _directions = frozenset({"components", "encoder"})

    # A bias shifts a latent for all rows at once, and an encoder moves without a sphere to
    # hold it: at the dictionary's own rate both overshoot, and latents die of it.
    _rate_shares = {"encoder": 0.2, "bias": 0.03}

    # Only TopKSAE lets its user choose.
    positive_code = True

    @abstractmethod
    def _step(self, kernels, parameters, X, now):
        """Codes, residuals and gradients of a batch; see `_backward`."""

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

    def _attributes(self, parameters, running, scale):
        dtype = parameters["components"].dtype
        return {
            "components_": parameters["components"],
            "encoder_components_": parameters["encoder"],
            "encoder_intercept_": (parameters["bias"][:, 0] * float(scale)).astype(dtype),
        }

    def _backward(self, kernels, parameters, X, now):
        step = self._step(kernels, parameters, X, now)
        dead = now.dead
        if len(dead) and self.dead_atoms == "auxiliary":
            # The dead latents alone autoencode the residual.
            some = {name: array[dead] for name, array in parameters.items()}
            k = _AUXILIARY_LATENTS * max(1, round(now.plan.n_nonzero_coefs))
            encoder, bias = some["encoder"], some["bias"][:, 0]
            codes = kernels.top_k(
                X, encoder, bias, min(k, len(dead)), positive=self.positive_code
            )
            left = step.residual - kernels.decode(*codes, some["components"])
            gradients = gradients_of_error(kernels, some["components"], X, left, *codes)
            for name, gradient in gradients.items():
                step.gradients[name][dead] += _AUXILIARY * gradient
        return step

    def _shallow_rule(self, floor, k, positive):
        encoder = self.encoder_components_, self.encoder_intercept_
        k = None if k is None else min(k, len(self.components_))
        return Shallow(self.components_, self.intercept_, *encoder, floor, k, positive)

    def _weights(self, kernels, dtype):
        """The encoder's weights and bias on the device."""
        arrays = self.encoder_components_, self.encoder_intercept_
        return tuple(kernels.asarray(array.astype(dtype, copy=False)) for array in arrays)


class BaseAverageSAE(BaseShallowSAE):
    """A shallow autoencoder whose rows have `n_nonzero_coefs` codes on average."""

    _parameter_constraints: dict = {
        **BaseShallowSAE._parameter_constraints,
        "n_nonzero_coefs": [Interval(Real, 0, None, closed="neither"), None],
    }
    _parameter_constraints.pop("positive_code")

    _steers = True

    def __init__(
        self,
        n_components: int | None = None,
        *,
        n_nonzero_coefs: float | None = None,
        transform_n_nonzero_coefs: int | None = None,
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

    def _fitted_k(self):
        return None

    def _count(self, kernels, parameters, X, level, now):
        floor = parameters["bias"][:, 0] * 0 + level
        return self._count_above(kernels, parameters, X, floor)

    @staticmethod
    def _count_above(kernels, parameters, X, floor):
        weights = parameters["encoder"], parameters["bias"][:, 0]
        parts = kernels.above_in_parts(X, *weights, floor)
        return sum(np.count_nonzero(kernels.to_numpy(values)) for _, values in parts)

    def _floor(self, dtype):
        """What an output must exceed to be a code, shape (n_components,)."""
        return np.zeros(len(self.components_), dtype)

    def _encoder(self, kernels, n_samples, k, dtype):
        weights = self._weights(kernels, dtype)
        floor = kernels.asarray(self._floor(dtype))

        def encode(X):
            for codes in kernels.above_in_parts(X, *weights, floor):
                indices, values = kernels.by_value(*codes)
                yield indices[:, :k], values[:, :k]

        return encode

    def _rule(self):
        floor, k = np.maximum(self._floor(self.components_.dtype), 0), self._transform_k()
        # The largest outputs, of those above zero: they need no threshold.
        floor = floor if k is None or floor.any() else None
        return self._shallow_rule(floor, k, True)


def largest_of_batch(kernels, X, encoder, bias, now, level=0.0):
    """The largest outputs above zero, as many as the rows of a batch may have together.

    Returns
    -------
    indices, values : (n, s)
    threshold : float
        Midway between the smallest of them and the largest other output above zero, so that
        rounding does not decide on rows that are repeated; 0 where there is no smallest.
    n_above : int
        How many outputs of this rank's rows are above `level`.
    """
    n_codes = max(1, round(now.totals(len(X))[0] * now.plan.n_nonzero_coefs))
    indices, values, smallest, next_one, n_above = kernels.batch_top_k(
        X, encoder, bias, n_codes, level
    )
    if now.ranks.size > 1:
        # This rank's largest ones; all ranks' are among them.
        parts = now.ranks.gather((kernels.to_numpy(values[values > 0]), next_one))
        sizes = np.sort(np.concatenate([sizes for sizes, _ in parts]))[::-1]
        smallest = float(sizes[n_codes - 1]) if len(sizes) >= n_codes else 0.0
        others = [sizes[sizes < smallest].max(initial=0), *(other for _, other in parts)]
        next_one = float(max(others))
        values = values * (values >= smallest)
    threshold = (smallest + next_one) / 2 if smallest else 0.0
    return indices, values, threshold, n_above


def error_step(kernels, parameters, X, indices, values, penalty=0.0):
    """The step that lowers the error of these codes, and their sum times the penalty."""
    W = parameters["components"]
    residual = X - kernels.decode(indices, values, W)
    gradients = gradients_of_error(kernels, W, X, residual, indices, values, penalty)
    return Step(indices, values, residual, gradients)


def gradients_of_error(kernels, W, X, residual, indices, values, penalty=0.0):
    """Of half the residual's energy and the penalised codes, by all that made them."""
    by_values = penalty - kernels.gather_dot(residual, W, indices)
    by_values *= values != 0
    return {
        "components": -kernels.scatter_outer(indices, values, residual, len(W)),
        "encoder": kernels.scatter_outer(indices, by_values, X, len(W)),
        "bias": sum_by_atom(kernels, indices, by_values, X, len(W)),
    }


def sum_by_atom(kernels, indices, values, X, n_components):
    """The sum of each atom's values, shape (p, 1)."""
    ones = X[:, :1] * 0 + 1
    return kernels.scatter_outer(indices, values, ones, n_components)

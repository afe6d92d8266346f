"""Linear encoders that look at a row once, and the rules that choose among their outputs."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..coding.checks import checked_counts
from .base import BatchResult, Model
from .coder import ShallowCoder
from .steering import (
    count,
    divide,
    numbers_to_steer,
    settle,
    settle_threshold,
    steer_l0,
    too_many,
)

# The weight of the auxiliary loss, and how many times more latents than the main loss it
# lets reconstruct (Gao et al. 2024, appendix A.2).
_AUXILIARY = 1 / 32
_AUXILIARY_LATENTS = 4

# How fast the logarithms of a penalty and of a threshold follow the error of log L0; the
# penalty at this learning rate or higher ones.
_PENALTY_GAIN = 0.1
_RATE_OF_GAIN = 0.3
_THRESHOLD_GAIN = 0.05

# The largest penalty, where rows have a mean squared norm of 1: no code could gain as much.
_LARGEST_PENALTY = 1.0

# JumpReLU's pseudo-derivative sees outputs this close to their threshold, as a share of it.
_BAND = 0.1


@dataclass(frozen=True)
class Shallow(Model):
    """A linear encoder, not tied to the dictionary, and a rule that chooses among its outputs.

    auxiliary : dead latents learn from the residual, by a loss of their own
    """

    auxiliary: bool = True

    layout = {"components": "pd", "encoder": "pd", "bias": "p1"}
    fitted = {"components_": "pd", "encoder_components_": "pd", "encoder_intercept_": "p"}

    # At the dictionary's learning rate an encoder overshoots, as its norm is free, and so
    # does a bias, which shifts a latent for all rows: latents die (benchmarks/bench_recipe.py).
    rate_factors = {"encoder": 0.2, "bias": 0.03}

    positive = True

    def start(self, atoms):
        bias = np.zeros((len(atoms), 1), atoms.dtype)
        return {"components": atoms, "encoder": atoms.copy(), "bias": bias}

    # The bias is in units of the data; components and encoder have no unit.
    def parameters(self, fitted, scale):
        bias = (fitted["encoder_intercept_"] / scale)[:, None]
        return {
            "components": fitted["components_"],
            "encoder": fitted["encoder_components_"],
            "bias": bias.astype(fitted["components_"].dtype),
        }

    def attributes(self, parameters, numbers, scale):
        dtype = parameters["components"].dtype
        return {
            "components_": parameters["components"],
            "encoder_components_": parameters["encoder"],
            "encoder_intercept_": (parameters["bias"][:, 0] * float(scale)).astype(dtype),
        }

    @abstractmethod
    def codes_and_gradients(self, kernels, parameters, X, step) -> BatchResult:
        """`gradients` without the auxiliary loss."""

    def gradients(self, kernels, parameters, X, step):
        result = self.codes_and_gradients(kernels, parameters, X, step)
        if self.auxiliary and len(step.dead):
            self._add_auxiliary(kernels, parameters, X, step, result)
        return result

    def _add_auxiliary(self, kernels, parameters, X, step, result):
        """Add the gradients by which dead latents alone reconstruct the residual."""
        dead = step.dead
        of_dead = {name: array[dead] for name, array in parameters.items()}
        k = _AUXILIARY_LATENTS * max(1, round(step.plan.n_nonzero_coefs))
        weights = of_dead["encoder"], of_dead["bias"][:, 0]
        codes = kernels.top_k(X, *weights, min(k, len(dead)), positive=self.positive)
        left = result.residual - kernels.decode(*codes, of_dead["components"])
        gradients = gradients_of_codes(kernels, of_dead["components"], X, left, *codes)
        for name, gradient in gradients.items():
            result.gradients[name][dead] += _AUXILIARY * gradient

    def shallow_coder(self, fitted, k, floor=None, positive=True) -> ShallowCoder:
        """The coder with this encoder; `k` and `floor` as ShallowCoder has them."""
        names = "components_", "intercept_"
        weights = fitted["encoder_components_"], fitted["encoder_intercept_"]
        arrays = (fitted[name] for name in names)
        return ShallowCoder(*arrays, k, *weights, floor, positive)


@dataclass(frozen=True)
class TopK(Shallow):
    """The k largest outputs of a row."""

    positive: bool = True

    def codes_and_gradients(self, kernels, parameters, X, step):
        encoder, bias = parameters["encoder"], parameters["bias"][:, 0]
        k = step.plan.n_nonzero_coefs
        codes = kernels.top_k(X, encoder, bias, k, positive=self.positive)
        return error_step(kernels, parameters, X, *codes)

    def coder(self, fitted, k, trained):
        k = trained if k is None else k
        return self.shallow_coder(fitted, k, positive=self.positive)


@dataclass(frozen=True)
class Thresholded(Shallow):
    """The outputs above a threshold, so many on average."""

    steers = True

    @abstractmethod
    def floor(self, fitted) -> np.ndarray:
        """What an output must exceed to be a code, shape (p,), in units of the data."""

    def count(self, kernels, parameters, X, level, step):
        floor = self.trained_floor(kernels, parameters, level)
        weights = parameters["encoder"], parameters["bias"][:, 0]
        parts = kernels.above_in_parts(X, *weights, floor)
        return sum(np.count_nonzero(kernels.to_numpy(values)) for _, values in parts)

    def trained_floor(self, kernels, parameters, level):
        """`floor` within a training, for this level: shape (p,), of the kernels' kind."""
        return parameters["bias"][:, 0] * 0 + level

    def coder(self, fitted, k, trained):
        return self.shallow_coder(fitted, k, np.maximum(self.floor(fitted), 0))


@dataclass(frozen=True)
class BatchTopK(Thresholded):
    """The largest outputs of a batch, k per row on average."""

    fitted = {**Shallow.fitted, "threshold_": ""}
    first_numbers = {"threshold": 0.0, "n_batches": 0, "l0": 0.0}
    level = "threshold"

    def codes_and_gradients(self, kernels, parameters, X, step):
        codes = self.largest(kernels, parameters, X, step)
        return error_step(kernels, parameters, X, *codes)

    def largest(self, kernels, parameters, X, step):
        """The largest outputs of the batch, as many as its rows may have together."""
        numbers, n_rows = step.numbers, step.totals(len(X))[0]
        numbers["n_batches"] += 1
        encoder, bias = parameters["encoder"], parameters["bias"][:, 0]
        indices, values, threshold, n_above = largest_of_batch(
            kernels, X, encoder, bias, step, numbers["threshold"]
        )
        sizes = kernels.to_numpy(values)
        # While it explores, the batch has more codes than were asked for.
        divides = divide(step, sizes, n_rows)
        settle(step, "threshold", divides or threshold, n_rows)
        # Outputs below `threshold` are not among the codes: `n_above` has counted them.
        seen = numbers["threshold"] >= threshold
        n_above = np.count_nonzero(sizes > numbers["threshold"]) if seen else n_above
        count(step, n_above, n_rows)
        return indices, values

    def attributes(self, parameters, numbers, scale):
        threshold = numbers["threshold"] * float(scale)
        return super().attributes(parameters, numbers, scale) | {"threshold_": threshold}

    def floor(self, fitted):
        return np.full(len(fitted["components_"]), fitted["threshold_"])

    def coder(self, fitted, k, trained):
        if k is None:
            return super().coder(fitted, k, trained)
        # The threshold gives the number of the training: it does not hold for another k.
        return self.shallow_coder(fitted, k)


@dataclass(frozen=True)
class Matryoshka(BatchTopK):
    """BatchTopK whose prefixes of atoms reconstruct as well.

    prefix_sizes : numbers of atoms; None for a sixteenth, an eighth, a quarter and a half
    """

    prefix_sizes: tuple[int, ...] | None = None

    def start(self, atoms):
        self.prefixes(len(atoms))  # so that bad ones are refused before any work
        return super().start(atoms)

    def codes_and_gradients(self, kernels, parameters, X, step):
        """The mean over prefixes of the gradients of their errors.

        A group of atoms takes part in every prefix that reaches it: its gradient is that of
        the sum of their residuals.
        """
        W = parameters["components"]
        indices, values = self.largest(kernels, parameters, X, step)
        residual = left = X - kernels.decode(indices, values, W)
        seen = left * 0
        gradients = {name: array * 0 for name, array in parameters.items()}
        ends = self.prefixes(len(W))
        for start, end in reversed(list(pairwise([0, *ends]))):
            seen = seen + left / len(ends)
            part = values * ((indices >= start) & (indices < end))
            of_group = gradients_of_codes(kernels, W, X, seen, indices, part)
            for name, gradient in of_group.items():
                gradients[name] += gradient
            left = left + kernels.decode(indices, part, W)
        gradients["intercept"] = by_intercept(parameters["encoder"], seen, gradients["bias"])
        return BatchResult(indices, values, residual, gradients)

    def prefixes(self, n_components: int) -> list[int]:
        """The sizes of the prefixes, rising, the whole dictionary last."""
        if self.prefix_sizes is None:
            sizes = [max(1, n_components >> halvings) for halvings in range(5)]
        else:
            sizes = checked_counts(self.prefix_sizes, "prefix_sizes", n_components)
        return sorted({*map(int, sizes), n_components})


@dataclass(frozen=True)
class ReLU(Thresholded):
    """Outputs above zero, with an L1 penalty."""

    fitted = {**Shallow.fitted, "_trained_intercept": "p", "penalty_": ""}
    # The bias lowers outputs as a threshold does, and the encoder raises them again against
    # the penalty: at the smaller rate of the other models it falls behind.
    rate_factors = {"encoder": 0.5, "bias": 0.03}
    # Nothing but the bias keeps outputs from being codes: at zero a revived latent would be
    # one of half of the rows. The other models choose, and a bias below zero, as the living
    # ones mostly have it, would keep a revived latent from being chosen.
    revived_at_mean = frozenset({"bias"})
    first_numbers = numbers_to_steer("penalty", 0.01) | {"shift": 0.0}
    level = "shift"

    def parameters(self, fitted, scale):
        # `encoder_intercept_` is the trained bias minus the shift.
        trained = fitted["_trained_intercept"]
        return super().parameters({**fitted, "encoder_intercept_": trained}, scale)

    def attributes(self, parameters, numbers, scale):
        fitted = super().attributes(parameters, numbers, scale)
        trained = fitted["encoder_intercept_"]
        shift = trained.dtype.type(numbers["shift"] * float(scale))
        fitted |= {"encoder_intercept_": trained - shift, "_trained_intercept": trained}
        # The penalty has the unit of the codes: times a code, that of the squared error.
        return fitted | {"penalty_": numbers["settled"] * float(scale)}

    def floor(self, fitted):
        return np.zeros(len(fitted["components_"]))

    def codes_and_gradients(self, kernels, parameters, X, step):
        encoder, bias = parameters["encoder"], parameters["bias"][:, 0]
        numbers = step.numbers
        indices, values = kernels.above(X, encoder, bias, bias * 0)
        sizes = kernels.to_numpy(values)
        # Weights follow at the learning rate; a faster penalty would leave them behind.
        gain = _PENALTY_GAIN * min(1.0, step.learning_rate / _RATE_OF_GAIN)
        n_rows = steer_l0(step, "penalty", gain, sizes, _LARGEST_PENALTY)
        settle(step, "settled", numbers["penalty"], n_rows)
        # Where weights have not followed the penalty yet, the shift of the bias replaces it.
        shift = divide(step, sizes, n_rows) if too_many(step) else 0.0
        settle(step, "shift", shift, n_rows)
        count(step, np.count_nonzero(sizes > numbers["shift"]), n_rows)
        return error_step(kernels, parameters, X, indices, values, numbers["penalty"])


@dataclass(frozen=True)
class JumpReLU(Thresholded):
    """Outputs above a threshold for each atom, which is learnt; see `JumpReLUSAE`."""

    layout = {**Shallow.layout, "log_threshold": "p1"}
    fitted = {**Shallow.fitted, "threshold_": "p", "_log_threshold": "p1"}
    rate_factors = {"encoder": 0.2, "bias": 0.03, "log_threshold": 0.03}
    revived_at_mean = frozenset({"log_threshold"})
    first_numbers = numbers_to_steer("threshold")
    level = "settled"

    def start(self, atoms):
        logs = np.zeros((len(atoms), 1), atoms.dtype)
        return super().start(atoms) | {"log_threshold": logs}

    def parameters(self, fitted, scale):
        logs = {"log_threshold": fitted["_log_threshold"]}
        return super().parameters(fitted, scale) | logs

    def attributes(self, parameters, numbers, scale):
        logs = parameters["log_threshold"]
        threshold = logs.dtype.type(numbers["settled"] * float(scale)) * np.exp(logs[:, 0])
        own = {"threshold_": threshold, "_log_threshold": logs}
        return super().attributes(parameters, numbers, scale) | own

    def floor(self, fitted):
        return fitted["threshold_"]

    def trained_floor(self, kernels, parameters, level):
        return level * kernels.exp(parameters["log_threshold"])[:, 0]

    def codes_and_gradients(self, kernels, parameters, X, step):
        """See the notes of `JumpReLUSAE` for the gradient by the thresholds."""
        W, logs, numbers = parameters["components"], parameters["log_threshold"], step.numbers
        relative = kernels.exp(logs)
        # Divided by their atom's relative threshold, outputs share one threshold.
        encoder, bias = parameters["encoder"] / relative, (parameters["bias"] / relative)[:, 0]
        if numbers["threshold"] == 0:
            threshold = largest_of_batch(kernels, X, encoder, bias, step)[2]
            numbers["threshold"] = float(threshold)
        threshold = numbers["threshold"]
        indices, scores = kernels.above(X, encoder, bias, bias * 0 + (1 - _BAND) * threshold)
        shape = relative[:, 0][indices]
        values = scores * shape * (scores > threshold)
        sizes = kernels.to_numpy(scores * (scores > threshold))
        n_rows = steer_l0(step, "threshold", _THRESHOLD_GAIN, sizes)
        settle_threshold(step, "threshold", sizes, n_rows)

        residual = X - kernels.decode(indices, values, W)
        by_values = -kernels.gather_dot(residual, W, indices)
        # For outputs within the band around their threshold: how much the error falls if the
        # output becomes a code.
        band = (scores > 0) & (scores < (1 + _BAND) * threshold)
        gain = -by_values * shape * threshold * band
        gains, n_gains = step.totals(gain.sum(), band.sum())
        gain[band] -= float(gains / max(1, n_gains))
        active = by_values * (values != 0)
        gradients = {
            "components": -kernels.scatter_outer(indices, values, residual, len(W)),
            "encoder": kernels.scatter_outer(indices, active, X, len(W)),
            "bias": sum_by_atom(kernels, indices, active, X, len(W)),
            "log_threshold": sum_by_atom(kernels, indices, gain, X, len(W)),
        }
        gradients["intercept"] = by_intercept(
            parameters["encoder"], residual, gradients["bias"]
        )
        return BatchResult(indices, values, residual, gradients)


def largest_of_batch(kernels, X, encoder, bias, step, level=0.0):
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
    n_codes = max(1, round(step.totals(len(X))[0] * step.plan.n_nonzero_coefs))
    indices, values, smallest, next_one, n_above = kernels.batch_top_k(
        X, encoder, bias, n_codes, level
    )
    if step.ranks.size > 1:
        # This rank's largest ones; all ranks' are among them.
        parts = step.ranks.gather((kernels.to_numpy(values[values > 0]), next_one))
        sizes = np.sort(np.concatenate([sizes for sizes, _ in parts]))[::-1]
        smallest = float(sizes[n_codes - 1]) if len(sizes) >= n_codes else 0.0
        others = [sizes[sizes < smallest].max(initial=0), *(other for _, other in parts)]
        next_one = float(max(others))
        values = values * (values >= smallest)
    threshold = (smallest + next_one) / 2 if smallest else 0.0
    return indices, values, threshold, n_above


def error_step(kernels, parameters, X, indices, values, penalty=0.0) -> BatchResult:
    """The gradients of these codes' error, and of their sum times the penalty."""
    W, encoder = parameters["components"], parameters["encoder"]
    residual = X - kernels.decode(indices, values, W)
    gradients = gradients_of_error(kernels, W, encoder, X, residual, indices, values, penalty)
    return BatchResult(indices, values, residual, gradients)


def gradients_of_error(kernels, W, encoder, X, residual, indices, values, penalty=0.0):
    """Gradients of half the residual's energy plus the penalised codes, by all parameters.

    W, encoder : (p, d) the dictionary, and what rows are multiplied with
    """
    gradients = gradients_of_codes(kernels, W, X, residual, indices, values, penalty)
    return gradients | {"intercept": by_intercept(encoder, residual, gradients["bias"])}


def gradients_of_codes(kernels, W, X, residual, indices, values, penalty=0.0):
    """The same but for the intercept, whose gradient is of all codes of a row."""
    by_values = penalty - kernels.gather_dot(residual, W, indices)
    by_values *= values != 0
    return {
        "components": -kernels.scatter_outer(indices, values, residual, len(W)),
        "encoder": kernels.scatter_outer(indices, by_values, X, len(W)),
        "bias": sum_by_atom(kernels, indices, by_values, X, len(W)),
    }


def by_intercept(encoder, residual, by_bias):
    """The gradient by the intercept, (1, d): rows lose it, and outputs with them."""
    return -(residual.sum(0) + by_bias[:, 0] @ encoder)[None]


def sum_by_atom(kernels, indices, values, X, n_components):
    """The sum of each atom's values, shape (p, 1)."""
    ones = X[:, :1] * 0 + 1
    return kernels.scatter_outer(indices, values, ones, n_components)

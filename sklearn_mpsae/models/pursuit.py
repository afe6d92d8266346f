"""The encoder that is matching pursuit: its atoms are all that it learns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from ..coding.codes import Codes
from ..coding.pursuit import bfloat16_pays, pursue
from ..coding.unit import unit_rows, with_norms
from .base import BatchResult, Model
from .coder import PursuitCoder
from .steering import numbers_to_steer, settle_threshold, steer_l0

# With average sparsity: how fast the threshold's logarithm follows the error of log L0, and
# how many times the average a row may have.
_GAIN = 0.05
_LARGEST_SHARE = 4

# Rounding errors of a product of two vectors, in units of the dtype's precision and of their
# norms: far beyond what it can be.
_ROUNDING = 64


@dataclass(frozen=True)
class MatchingPursuit(Model):
    """Matching pursuit; see `MPSparseAutoencoder` for the parameters.

    average : rows have `n_nonzero_coefs` codes on average, by a threshold
    algorithm : of `transform`: "mp", "omp" or "ols"; orthogonal ones, which refit all codes
        with each atom, are also that of the last steps of training
    precision : in which training chooses atoms: "full", "bfloat16", or "auto" for what the
        size of the dictionary and the machine suggest
    path_weight : the share of the loss that lies on the prefixes of the codes
    """

    average: bool = False
    tol: float = 0.0
    atol: float = 0.0
    stop_on_repeat: bool = False
    algorithm: str = "mp"
    positive: bool = True
    precision: str = "full"
    path_weight: float = 0.0

    layout = {"components": "pd"}
    fitted = {"components_": "pd", "threshold_": ""}
    first_numbers = numbers_to_steer("threshold")
    level = "settled"
    free_norms = True
    whitens = True

    @property
    def steers(self) -> bool:
        return self.average

    @property
    def may_stop_at_once(self) -> bool:
        return self.atol > 0

    @property
    def orthogonal(self) -> bool:
        return self.algorithm != "mp"

    def sized(self, shape, has_bfloat16, saved):
        if self.precision != "auto":
            return self
        if "precision_" in saved:
            return replace(self, precision=saved["precision_"])
        pays = bfloat16_pays(*shape) and has_bfloat16()
        return replace(self, precision="bfloat16" if pays else "full")

    @property
    def chosen(self):
        return {"precision_": self.precision}

    def start(self, atoms):
        return {"components": atoms}

    def parameters(self, fitted, scale):
        return {"components": fitted["components_"]}

    def attributes(self, parameters, numbers, scale):
        threshold = numbers["settled"] * float(scale)
        return {"components_": parameters["components"], "threshold_": threshold}

    def gradients(self, kernels, parameters, X, step):
        W = parameters["components"]
        # Orthogonal codes want atoms of unit norm, and minimise the error themselves: its
        # derivative by them is zero, so the gradient is that of the decoder alone.
        plan, numbers = step.plan, step.numbers
        orthogonal = plan.refine and self.orthogonal
        k, threshold = ceil(plan.n_nonzero_coefs), 0.0
        if self.average:
            if numbers["threshold"] == 0:
                numbers["threshold"] = self._first_threshold(kernels, X, W, step)
            k, threshold = _largest(k, len(W)), numbers["threshold"]
        indices, values = self._pursue(
            kernels,
            *(X, W, k, threshold, step.scale),
            algorithm=self.algorithm if orthogonal else "mp",
            coarse=self.precision == "bfloat16",
        )
        if self.average:
            _steer(kernels, W, indices, values, step)
        if orthogonal:
            residual = X - kernels.decode(indices, values, W)
            gradient = -kernels.scatter_outer(indices, values, residual, len(W))
            by_rows = residual.sum(0)
        else:
            residual, gradient, by_rows = kernels.pursuit_gradient(
                X, W, indices, values, self.path_weight
            )
        gradients = {"components": gradient, "intercept": -by_rows[None]}
        return BatchResult(indices, values, residual, gradients)

    def _pursue(self, kernels, X, W, k, threshold, scale, algorithm="mp", coarse=False):
        """Codes of X, whose unit is `scale` of the data's."""
        return pursue(
            kernels,
            X,
            W,
            k,
            tol=self.tol,
            atol=self.atol / scale / scale,
            stop_on_repeat=self.stop_on_repeat,
            threshold=threshold,
            positive=self.positive,
            algorithm=algorithm,
            coarse=coarse,
        )

    def count(self, kernels, parameters, X, level, step):
        W = kernels.asarray(unit_rows(kernels.to_numpy(parameters["components"])))
        k = _largest(step.plan.asked, len(W))
        codes = self._pursue(kernels, X, W, k, level, step.scale, self.algorithm)
        # An atom that a row takes twice is one code.
        return Codes(*map(kernels.to_numpy, codes), len(W)).l0().sum()

    def _first_threshold(self, kernels, X, W, step):
        """The threshold that gives a batch as many codes as planned on average."""
        k = ceil(step.plan.n_nonzero_coefs)
        _, values = self._pursue(kernels, X, W, _largest(k, len(W)), 0.0, step.scale)
        parts = step.ranks.gather(np.abs(kernels.to_numpy(values)).ravel())
        sizes = np.sort(np.concatenate(parts))[::-1]
        n_codes = round(k * step.totals(len(X))[0])
        return float(sizes[min(n_codes, len(sizes) - 1)])

    def coder(self, fitted, k, trained):
        threshold = 0.0
        if k is None and self.average:
            threshold = fitted["threshold_"]
            if not threshold > 0:
                raise ValueError(
                    "sparsity='average' needs the threshold that fit learns with it, and this "
                    "estimator was fitted with sparsity='row': fit again, or set "
                    "sparsity='row' or transform_n_nonzero_coefs."
                )
            k = _largest(trained, len(fitted["components_"]))
        return PursuitCoder(
            fitted["components_"],
            fitted["intercept_"],
            trained if k is None else k,
            self.tol,
            self.atol,
            self.stop_on_repeat,
            threshold,
            self.positive,
            self.algorithm,
            *in_metric(fitted),
        )


def _steer(kernels, W, indices, values, step):
    """Steer the threshold by the codes of a batch."""

    def compared(values):
        # A row ends at a code that is too small: a larger one after it does not count.
        return np.minimum.accumulate(np.abs(values), axis=1)

    values = kernels.to_numpy(values)
    sizes = compared(values)
    n_rows = steer_l0(step, "threshold", _GAIN, sizes)
    if not step.plan.sphere:
        # Atoms of unit norm, as `transform` has them, would have about these codes.
        norms = np.sqrt(kernels.energies(W))
        norms = np.where(norms > 0, norms, 1)
        sizes = compared(values / norms[kernels.to_numpy(indices)])
    settle_threshold(step, "threshold", sizes, n_rows)


def in_metric(fitted):
    """The metric, the atoms of unit norm there, and their norms before; None without one.

    They are as `learning.frame` made them, unless somebody has written into the arrays since.
    """
    W, metric = fitted["components_"], fitted.get("metric_")
    if metric is None:
        return None, None, None
    there, norms = fitted["_metric_components"], fitted["_metric_norms"]
    # Two products with a vector, where all atoms would take d of them.
    probe = np.random.RandomState(0).standard_normal(len(metric)).astype(metric.dtype)
    image = metric @ probe
    off = np.abs(W @ image - norms * (there @ probe)).max()
    if off > _ROUNDING * np.finfo(W.dtype).eps * np.linalg.norm(image):
        there, norms = with_norms(W @ metric)
    return metric, there, norms


def _largest(k, n_atoms):
    """The most atoms that a row may take where k is the average."""
    return min(_LARGEST_SHARE * ceil(k), n_atoms)

"""The coordinates that a training works in: rows about a centre, in a metric, at one scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..coding.unit import unit_rows, with_norms

# Its decomposition takes d^3 steps, and some matrices of d x d: minutes, and 2 GiB.
_MOST_FEATURES = 8192


@dataclass(frozen=True, eq=False)
class Frame:
    """A row x has the coordinates ``(x - center) @ metric / scale``.

    Attributes
    ----------
    center : ndarray of shape (d,), float64
    scale : float
        The root mean squared norm of rows about the centre: rows then have about unit norm.
    metric : ndarray of shape (d, d), or None
        Symmetric, in the dtype of the data; None for the identity.
    """

    center: np.ndarray
    scale: float
    metric: np.ndarray | None = None

    def opened(self, kernels, dtype):
        """A function from rows (n, d), whose memory it may overwrite, to their coordinates.

        These are arrays of the kernels' kind.
        """
        center, scale = self.center.astype(dtype), dtype.type(self.scale)
        metric = None if self.metric is None else kernels.asarray(self.metric)

        def of_rows(rows):
            rows -= center
            rows /= scale
            rows = kernels.asarray(rows)
            return rows if metric is None else kernels.product(rows, metric)

        return of_rows

    def of_atoms(self, components: np.ndarray) -> np.ndarray:
        """Directions of the data's space (p, d) as directions here, of unit norm."""
        if self.metric is None:
            return components
        return unit_rows(components @ self.metric)

    def of_intercept(self, shift: np.ndarray) -> np.ndarray:
        """A shift of rows (d,), in units of the data, as one of coordinates."""
        shift = np.asarray(shift, dtype=np.float64) / self.scale
        return shift if self.metric is None else shift @ self.metric

    def fitted(self, attributes: Mapping, intercept: np.ndarray | None) -> dict:
        """The fitted attributes of a model in the data's space, "intercept_" among them.

        attributes : those of the model, whose atoms are directions here
        intercept : (d,) the point that is the origin of codes, here; None for the centre
        """
        atoms = attributes["components_"]
        shift = np.zeros_like(self.center)
        if intercept is not None:
            shift = self.scale * np.asarray(intercept, dtype=np.float64)
        if self.metric is None:
            own = {}
        else:
            inverse = np.linalg.inv(self.metric.astype(np.float64))
            shift = shift @ inverse
            components = unit_rows(atoms @ inverse).astype(atoms.dtype)
            there, norms = with_norms(components @ self.metric)
            own = {
                "components_": components,
                "metric_": self.metric,
                "_metric_components": there,
                "_metric_norms": norms,
            }
        return {**attributes, **own, "intercept_": (self.center + shift).astype(atoms.dtype)}


def check_width(whitening: float, n_features: int) -> None:
    """Refuse a metric of more features than there is room for, before any work.

    Raises
    ------
    ValueError
    """
    if whitening and n_features > _MOST_FEATURES:
        raise ValueError(
            f"whitening={whitening} needs a matrix of {n_features} x {n_features}, and is for "
            f"{_MOST_FEATURES} features at most: set whitening=0."
        )


def whitening_metric(outer: np.ndarray, whitening: float, dtype) -> np.ndarray | None:
    """The metric that whitens rows partly; it leaves their mean energy as it is.

    It is proportional to ``(w C / m + (1 - w) I) ** (-1/2)``, where m is the mean of the
    eigenvalues of C: the identity at w = 0, whitening at w = 1 (ZCA).

    Parameters
    ----------
    outer : ndarray of shape (d, d), float64
        C, times any number.
    whitening : float
        w, from 0 to 1.
    dtype : dtype
        Of the metric.

    Returns
    -------
    metric : ndarray of shape (d, d), or None
        None where rows do not vary.

    Raises
    ------
    ValueError
        If the metric stretches a direction by more than the dtype can tell from rounding.
    """
    trace = np.trace(outer)
    if not trace > 0:
        return None
    values, vectors = np.linalg.eigh(outer * (len(outer) / trace))
    values = values.clip(min=0)
    inner = whitening * values + (1 - whitening)
    if inner.min() <= np.finfo(dtype).eps * inner.max():
        raise ValueError(
            f"whitening={whitening} would stretch directions in which these rows hardly vary, "
            f"or not at all, beyond the precision of {np.dtype(dtype)}: their variance is "
            f"{values.min() / values.max():.1g} of the largest. Lower whitening (0.99, say), "
            "remove constant and dependent features, or pass more rows than features."
        )
    stretch = inner**-0.5
    stretch *= np.sqrt(values.sum() / (values * stretch**2).sum())
    metric = (vectors * stretch) @ vectors.T
    return ((metric + metric.T) / 2).astype(dtype)

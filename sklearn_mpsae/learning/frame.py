"""The coordinates that a training works in: rows about a centre, in a metric, at one scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..coding.unit import unit_rows, with_norms

# Decomposing a metric takes d^3 steps, and some matrices of d x d: at 8,192 features minutes,
# and 4 GiB. Without being asked for, it is made up to 2,048, where it takes seconds.
_MOST_FEATURES, _MOST_BY_DEFAULT = 8192, 2048
_DEFAULT = 0.1


class Metric:
    """A symmetric matrix that rows and atoms are multiplied with.

    Attributes
    ----------
    matrix : ndarray of shape (d, d)
        In the dtype of the data.
    """

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = matrix

    @cached_property
    def inverse(self) -> np.ndarray:
        """The inverse of the matrix, in its dtype."""
        return np.linalg.inv(self.matrix.astype(np.float64)).astype(self.matrix.dtype)

    def owned(self) -> Metric:
        """The same with a matrix in memory: its file may be about to be written again."""
        return self if self.matrix.flags.owndata else Metric(np.array(self.matrix))

    def __getstate__(self):
        return {"matrix": self.matrix}


@dataclass(frozen=True, eq=False)
class Frame:
    """A row x has the coordinates ``(x - center) @ metric / scale``.

    Attributes
    ----------
    center : ndarray of shape (d,), float64
    scale : float
        The root mean squared norm of rows about the centre: rows then have about unit norm.
    metric : Metric, or None
        None for the identity.
    """

    center: np.ndarray
    scale: float
    metric: Metric | None = None

    def opened(self, kernels, dtype):
        """A function from rows (n, d), whose memory it may overwrite, to their coordinates.

        These are arrays of the kernels' kind.
        """
        center, scale = self.center.astype(dtype), dtype.type(self.scale)
        metric = None if self.metric is None else kernels.asarray(self.metric.matrix)

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
        return unit_rows(components @ self.metric.matrix)

    def of_intercept(self, shift: np.ndarray) -> np.ndarray:
        """A shift of rows (d,), in units of the data, as one of coordinates."""
        shift = np.asarray(shift, dtype=np.float64) / self.scale
        return shift if self.metric is None else shift @ self.metric.matrix

    def fitted(self, attributes: Mapping, intercept: np.ndarray | None) -> dict:
        """The fitted attributes of a model in the data's space, "intercept_" among them.

        attributes : those of the model, whose atoms are directions here
        intercept : (d,) the point that is the origin of codes, here; None for the centre
        """
        atoms, own = attributes["components_"], {}
        shift = np.zeros_like(self.center)
        if intercept is not None:
            shift = self.scale * np.asarray(intercept, dtype=np.float64)
        if self.metric is not None:
            shift = shift @ self.metric.inverse
            components, norms = with_norms(atoms @ self.metric.inverse)
            own = {
                "components_": components,
                "metric_": self.metric.matrix,
                "_metric_components": atoms,
                "_metric_norms": 1 / norms,
            }
        return {**attributes, **own, "intercept_": (self.center + shift).astype(atoms.dtype)}


@dataclass(frozen=True, eq=False)
class Basis:
    """What the frame of a training is made from."""

    intercept: str
    whitening: float
    n_rows: int = 0
    """The number of rows that it is made from: in a stream, since some have varied."""
    outer: np.ndarray | None = None
    """(d, d) sum of outer products of these rows about the centre, until a stream's metric is
    settled."""

    @classmethod
    def of(cls, settings) -> Basis:
        """Of no rows yet."""
        return cls(settings.intercept, settings.whitening)

    def facts(self) -> dict:
        """All but the products, as plain values."""
        return {name: value for name, value in vars(self).items() if name != "outer"}

    def extended(self, moments, n_rows, old: Frame | None, center: np.ndarray) -> Basis:
        """With some more rows, about a new centre.

        old : the frame so far
        """
        outer = None
        if moments.outer is not None and (self.outer is not None or not self.n_rows):
            outer = moments.outer_around(center)
            if self.n_rows:
                moved = old.center - center
                outer += self.outer + self.n_rows * np.outer(moved, moved)
        return replace(self, n_rows=self.n_rows + n_rows, outer=outer)


def default_whitening(n_features: int) -> float:
    """How far rows of so many features are whitened where nothing else is asked for."""
    return _DEFAULT if n_features <= _MOST_BY_DEFAULT else 0.0


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


def whitening_metric(outer: np.ndarray, whitening: float, dtype) -> Metric | None:
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
    metric : Metric or None
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
    return Metric(((metric + metric.T) / 2).astype(dtype))

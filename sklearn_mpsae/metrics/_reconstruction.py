"""How much of the data codes explain."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from ..coding.checks import check_energy
from ._inputs import (
    CodesLike,
    batches,
    checked_codes,
    checked_rows,
    count_slots,
    finite,
    n_rows,
    slots,
    take,
)


class ExplainedVariance:
    """`explained_variance` of rows that come in chunks.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import ExplainedVariance
    >>> metric = ExplainedVariance()
    >>> metric.update([[1.0], [2.0]], [[1.0], [2.0]]).update([[3.0]], [[2.0]]).compute()
    0.5
    """

    def __init__(self) -> None:
        self._energy = _CenteredEnergy()
        self._error = 0.0

    def update(self, X: ArrayLike, X_reconstructed: ArrayLike) -> Self:
        """Take account of more rows.

        Parameters
        ----------
        X, X_reconstructed : array-like of shape (n_samples, n_features)
            As for `explained_variance`, with as many columns as before.

        Returns
        -------
        self : object
            To chain calls.

        Raises
        ------
        ValueError
            As for `explained_variance`.
        """
        X, X_hat = checked_rows(X), checked_rows(X_reconstructed, "X_reconstructed")
        if X.shape != X_hat.shape:
            raise ValueError(
                f"X has shape {X.shape} and X_reconstructed {X_hat.shape}: pass the rows that "
                "were encoded and their reconstruction."
            )
        for rows in batches(*X.shape):
            part = finite(X[rows], "X")
            self._error += _energy(part - finite(X_hat[rows], "X_reconstructed"))
            self._energy.update(part)
        return self

    def compute(self) -> float:
        """The explained variance of all rows so far.

        Returns
        -------
        r2 : float
            As of `explained_variance`.
        """
        return float(1 - self._energy.share(self._error))


def explained_variance(X: ArrayLike, X_reconstructed: ArrayLike) -> float:
    """Share of the variance of X that a reconstruction explains, R².

    ``1 - sum((X - X_reconstructed) ** 2) / sum((X - X.mean(axis=0)) ** 2)``, over all rows
    and columns together: what `score` of the estimators gives. scikit-learn's
    ``r2_score(..., multioutput="variance_weighted")`` is the same but for columns of X that
    are constant: it leaves out their errors.

    Parameters
    ----------
    X, X_reconstructed : array-like of shape (n_samples, n_features)
        Rows and their reconstruction. Read a part at a time, so memmaps may be of any
        length, and summed in float64.

    Returns
    -------
    r2 : float
        1 is perfect, 0 no better than the mean of X; NaN where X has no variance.

    Raises
    ------
    ValueError
        If the shapes differ, or values are not finite.

    See Also
    --------
    ExplainedVariance : The same for rows that come in chunks.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import explained_variance
    >>> explained_variance([[1.0], [2.0], [3.0]], [[1.0], [2.0], [2.0]])
    0.5
    """
    return ExplainedVariance().update(X, X_reconstructed).compute()


def fraction_of_variance_unexplained(X: ArrayLike, X_reconstructed: ArrayLike) -> float:
    """Share of the variance of X that a reconstruction leaves, FVU: 1 - R².

    Parameters
    ----------
    X, X_reconstructed : array-like of shape (n_samples, n_features)
        As for `explained_variance`.

    Returns
    -------
    fvu : float
        0 is perfect; NaN where X has no variance.

    Raises
    ------
    ValueError
        As for `explained_variance`.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import fraction_of_variance_unexplained
    >>> fraction_of_variance_unexplained([[1.0], [2.0], [3.0]], [[1.0], [2.0], [2.0]])
    0.5
    """
    return 1 - explained_variance(X, X_reconstructed)


def residual_path(
    X: ArrayLike, codes: CodesLike, dictionary: ArrayLike, intercept: ArrayLike | None = None
) -> np.ndarray:
    """Share of the variance of X that is left after 1, 2, ... k of the codes of each row.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows.
    codes : array-like, sparse of shape (n_samples, n_components) or Codes
        Their codes. Those of `Codes` are added in the order in which they were chosen,
        others by decreasing magnitude.
    dictionary : array-like of shape (n_components, n_features)
        Atoms, of any norm.
    intercept : array-like of shape (n_features,), default=None
        What the reconstruction starts from. None for zero.

    Returns
    -------
    path : ndarray of shape (n_slots,)
        The fraction of variance unexplained for each number of codes. The length is the
        number of slots of `Codes`, else the largest number of non-zeros of a row. It is
        `reconstruction_path` of the estimators, but for orthogonal pursuits: those refit
        their codes with each atom, where here the first codes of the last fit are added.

    Raises
    ------
    ValueError
        If shapes do not fit, or values are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mpsae.metrics import residual_path
    >>> X = np.array([[3.0, 1.0], [-3.0, -1.0]])
    >>> residual_path(X, X, np.eye(2))
    array([0.1, 0. ])
    """
    X, W = checked_rows(X), finite(dictionary, "dictionary")
    codes = checked_codes(codes, len(W))
    if n_rows(codes) != X.shape[0] or W.shape[1] != X.shape[1]:
        raise ValueError(
            f"X of shape {X.shape} needs codes of {X.shape[0]} rows and a dictionary of "
            f"{X.shape[1]} columns; got {n_rows(codes)} and {W.shape[1]}."
        )
    start = np.zeros(X.shape[1]) if intercept is None else np.asarray(intercept, np.float64)
    if start.shape != (X.shape[1],) or not np.isfinite(start).all():
        raise ValueError(f"intercept must be {X.shape[1]} finite numbers, one per feature.")
    k, energy = count_slots(codes), _CenteredEnergy()
    errors = np.zeros(k)
    for rows in batches(X.shape[0], X.shape[1] + len(W)):
        part = finite(X[rows], "X")
        energy.update(part)
        residual = part - start
        for step, (indices, values) in enumerate(_steps(take(codes, rows), k)):
            residual -= values[:, None] * W[indices]
            errors[step] += _energy(residual)
    return energy.share(errors)


def _steps(part, k):
    """The k-th (indices, values) of all rows, one after another."""
    indices, values = slots(part, k)
    return zip(indices.T, values.T, strict=True)


class _CenteredEnergy:
    """Sum of squares around the mean, of rows that come in chunks.

    The energy of two sets of rows is that of each, plus that of the distance of their
    means (Chan, Golub and LeVeque 1983): no difference of large sums, whatever the mean.
    Rows are taken relative to the first one, so that constant data have no energy at all.
    """

    def __init__(self) -> None:
        self.n_rows, self.first, self.mean, self.energy = 0, None, 0.0, 0.0
        self.varied = False

    def update(self, X):
        if self.first is None:
            self.first = X[0].copy()
        elif len(self.first) != X.shape[1]:
            raise ValueError(
                f"This chunk has {X.shape[1]} features, the ones before had {len(self.first)}."
            )
        X = X - self.first
        self.varied = self.varied or bool(X.any())
        mean, n = X.mean(axis=0), self.n_rows + len(X)
        shift = mean - self.mean
        self.energy += _energy(X - mean) + shift @ shift * self.n_rows * len(X) / n
        self.mean = self.mean + shift * len(X) / n
        self.n_rows = n

    def share(self, errors):
        """Errors as share of the energy; NaN where there is none."""
        if not self.n_rows:
            raise ValueError("There are no rows yet: call update first.")
        if not self.varied:
            return errors * np.nan
        check_energy(self.energy)
        return errors / self.energy


def _energy(X):
    return float(np.einsum("ij,ij->", X, X))

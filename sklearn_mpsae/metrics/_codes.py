"""How sparse codes are, and how much of the dictionary they use."""

from __future__ import annotations

from typing import Self

import numpy as np
from scipy.special import entr

from ._inputs import CodesLike, add_product, checked_codes, csr_parts, width


class AtomUsage:
    """Counts of the rows that use each atom, of codes that come in chunks.

    Attributes
    ----------
    n_samples : int
        The number of rows so far.
    counts : ndarray of shape (n_components,), int, or None
        How many of them use each atom; None before the first `update`.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import AtomUsage
    >>> usage = AtomUsage().update([[1.0, 2.0, 0.0]]).update([[3.0, 0.0, 0.0]])
    >>> usage.compute()
    array([2, 1, 0])
    >>> usage.l0(), usage.dead_fraction()
    (1.5, 0.3333333333333333)
    """

    def __init__(self) -> None:
        self.n_samples, self.counts = 0, None

    def update(self, codes: CodesLike) -> Self:
        """Take account of more rows.

        Parameters
        ----------
        codes : array-like, sparse of shape (n_samples, n_components) or Codes
            As for `atom_usage`, with as many columns as before.

        Returns
        -------
        self : object
            To chain calls.

        Raises
        ------
        ValueError
            As for `atom_usage`.
        """
        codes = checked_codes(codes, None if self.counts is None else len(self.counts))
        if self.counts is None:
            self.counts = np.zeros(width(codes), dtype=np.int64)
        for part in csr_parts(codes):
            self.counts += np.bincount(part.indices, minlength=len(self.counts))
            self.n_samples += part.shape[0]
        return self

    def compute(self) -> np.ndarray:
        """The counts of all rows so far.

        Returns
        -------
        counts : ndarray of shape (n_components,), int
            How many rows use each atom.
        """
        return _filled(self.counts).copy()

    def l0(self) -> float:
        """The mean number of atoms of a row.

        Returns
        -------
        l0 : float
            As of the function of this name.
        """
        return float(_filled(self.counts).sum() / self.n_samples)

    def dead_fraction(self) -> float:
        """The share of atoms that no row uses.

        Returns
        -------
        share : float
            As of the function of this name.
        """
        return float(np.mean(_filled(self.counts) == 0))


def atom_usage(codes: CodesLike) -> np.ndarray:
    """How many rows use each atom.

    Parameters
    ----------
    codes : array-like, sparse of shape (n_samples, n_components) or Codes
        Read a part at a time, so memmaps may be of any length.

    Returns
    -------
    counts : ndarray of shape (n_components,), int
        One for each atom.

    Raises
    ------
    ValueError
        If codes are empty, not two-dimensional or not finite.

    See Also
    --------
    AtomUsage : The same for codes that come in chunks.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import atom_usage
    >>> atom_usage([[1.0, 2.0, 0.0], [3.0, 0.0, 0.0]])
    array([2, 1, 0])
    """
    return AtomUsage().update(codes).compute()


def l0(codes: CodesLike) -> float:
    """The mean number of non-zero codes of a row.

    Parameters
    ----------
    codes : array-like, sparse of shape (n_samples, n_components) or Codes
        As for `atom_usage`. An atom that `Codes` hold twice in a row counts once.

    Returns
    -------
    l0 : float
        The mean over rows.

    Raises
    ------
    ValueError
        As for `atom_usage`.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import l0
    >>> l0([[1.0, 2.0, 0.0], [3.0, 0.0, 0.0]])
    1.5
    """
    return AtomUsage().update(codes).l0()


def dead_fraction(codes: CodesLike) -> float:
    """The share of atoms that no row uses.

    Parameters
    ----------
    codes : array-like, sparse of shape (n_samples, n_components) or Codes
        As for `atom_usage`. With fewer rows, more atoms look dead.

    Returns
    -------
    share : float
        Between 0 and 1.

    Raises
    ------
    ValueError
        As for `atom_usage`.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import dead_fraction
    >>> dead_fraction([[1.0, 2.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0]])
    0.5
    """
    return AtomUsage().update(codes).dead_fraction()


class SecondMoment:
    """Uncentred second moment Z'Z of codes that come in chunks, and its effective rank.

    It takes n_components² numbers, however many rows there are.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import SecondMoment
    >>> moment = SecondMoment().update([[1.0, 2.0]]).update([[3.0, 0.0]])
    >>> moment.compute()
    array([[10.,  2.],
           [ 2.,  4.]])
    >>> round(moment.effective_rank(), 2)
    1.74
    """

    def __init__(self) -> None:
        self._total = None

    def update(self, codes: CodesLike) -> Self:
        """Take account of more rows.

        Parameters
        ----------
        codes : array-like, sparse of shape (n_samples, n_components) or Codes
            As for `effective_rank`, with as many columns as before.

        Returns
        -------
        self : object
            To chain calls.

        Raises
        ------
        ValueError
            As for `effective_rank`.
        """
        codes = checked_codes(codes, None if self._total is None else len(self._total))
        if self._total is None:
            self._total = np.zeros((width(codes), width(codes)))
        for part in csr_parts(codes):
            add_product(self._total, part, part)
        return self

    def compute(self) -> np.ndarray:
        """The sum of outer products of all rows so far.

        Returns
        -------
        moment : ndarray of shape (n_components, n_components)
            ``Z.T @ Z`` of all codes Z.
        """
        return _filled(self._total).copy()

    def effective_rank(self) -> float:
        """Effective rank of the moment.

        Returns
        -------
        rank : float
            As of the function of this name.
        """
        eigenvalues = np.linalg.eigvalsh(_filled(self._total)).clip(0)
        if not eigenvalues.any():
            return float("nan")
        return float(np.exp(entr(eigenvalues / eigenvalues.sum()).sum()))


def effective_rank(codes: CodesLike) -> float:
    """Effective rank of the second moment of the codes: how many directions they fill.

    The exponential of the entropy of a spectrum that is scaled to sum 1, here of the
    eigenvalues of ``Z.T @ Z`` for codes Z: ``exp(-sum(p * log(p)))`` with
    ``p = eigenvalues / sum(eigenvalues)`` [1]_, [2]_. So Z is not centred, and it is its
    squared singular values that are taken, which are the singular values of ``Z.T @ Z``.

    Parameters
    ----------
    codes : array-like, sparse of shape (n_samples, n_components) or Codes
        Read a part at a time; the memory taken is n_components² numbers.

    Returns
    -------
    rank : float
        Between 1 and the rank of Z; NaN where all codes are zero.

    Raises
    ------
    ValueError
        If codes are empty, not two-dimensional or not finite.

    See Also
    --------
    SecondMoment : The same for codes that come in chunks.

    References
    ----------
    .. [1] O. Roy and M. Vetterli, "The effective rank: a measure of effective
       dimensionality", EUSIPCO, 2007.
    .. [2] "From Flat to Hierarchical: Extracting Sparse Representations with Matching
       Pursuit", arXiv:2506.03093, 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mpsae.metrics import effective_rank
    >>> round(effective_rank(np.eye(4)), 6)
    4.0
    """
    return SecondMoment().update(codes).effective_rank()


def _filled(total):
    if total is None:
        raise ValueError("There are no rows yet: call update first.")
    return total

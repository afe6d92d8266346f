"""How alike the atoms are: all of them, and those that rows select together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..coding.checks import check_count
from ._inputs import (
    CodesLike,
    batches,
    checked_codes,
    checked_dictionary,
    count_slots,
    csr,
    largest_l0,
    n_rows,
    slots,
    sorted_slots,
    take,
)

# An atom is in the span of others if no more than this is left of it.
_IN_SPAN = 1e-6


def mutual_coherence(dictionary: ArrayLike) -> float:
    """The largest ``|cosine|`` of two different atoms.

    Parameters
    ----------
    dictionary : array-like of shape (n_components, n_features)
        Atoms of unit norm, at least two.

    Returns
    -------
    coherence : float
        From 0, for orthogonal atoms, to 1, where an atom is there twice.

    Raises
    ------
    ValueError
        If there are fewer than two atoms, or they are not finite or not of unit norm.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import mutual_coherence
    >>> mutual_coherence([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    0.8
    """
    return float(babel_function(dictionary, r=1)[0])


def babel_function(dictionary: ArrayLike, r: int | None = None) -> np.ndarray:
    """Babel function: how much an atom can have in common with r others together.

    ``mu_1(r) = max over sets S of r atoms, and atoms i outside S, of
    sum(|<d_i, d_j>| for j in S)`` [1]_. ``mu_1(1)`` is the mutual coherence, and matching
    pursuits recover any k atoms of a dictionary with ``mu_1(k - 1) + mu_1(k) < 1``.

    Parameters
    ----------
    dictionary : array-like of shape (n_components, n_features)
        Atoms of unit norm, at least two.
    r : int, default=None
        How far to go. None for all ``n_components - 1``.

    Returns
    -------
    mu : ndarray of shape (r,)
        ``mu_1(1), ..., mu_1(r)``, which never falls. Computed for blocks of atoms: no
        Gram matrix is formed.

    Raises
    ------
    ValueError
        If there are fewer than two atoms, they are not finite or not of unit norm, or r is
        not within 1 and ``n_components - 1``.

    References
    ----------
    .. [1] J. A. Tropp, "Greed is good: algorithmic results for sparse approximation", IEEE
       Trans. Information Theory 50(10), 2004.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import babel_function
    >>> babel_function([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    array([0.8, 1.4])
    """
    W = checked_dictionary(dictionary)
    if len(W) < 2:
        raise ValueError("dictionary has a single atom; the coherence is of two at least.")
    r = len(W) - 1 if r is None else r
    check_count(r, "r", len(W) - 1)
    mu = np.zeros(r)
    for rows in batches(len(W), len(W)):
        cosines = np.abs(W[rows] @ W.T)
        cosines[np.arange(len(cosines)), np.arange(rows.start, rows.stop)] = 0
        mu = np.maximum(mu, _sums_of_largest(cosines, r).max(axis=0))
    return mu


def _sums_of_largest(cosines, r):
    """For each row, the sums of its 1, 2, ... r largest entries; along the last axis."""
    # A cosine is at most 1; rounding may make it larger.
    largest = -np.partition(-cosines, r - 1)[..., :r]
    return -np.sort(-largest.clip(max=1)).cumsum(axis=-1)


def coselected_babel(
    codes: CodesLike, dictionary: ArrayLike, r: int | None = None
) -> np.ndarray:
    """Babel function of the atoms that a row selects together, averaged over rows.

    For each row, the Babel function is that of the sub-dictionary of its non-zero codes.
    Entry ``r - 1`` is the mean of ``mu_1(r)`` over the rows with at least ``r + 1`` atoms;
    so entries are averages over different rows [1]_.

    Parameters
    ----------
    codes : array-like, sparse of shape (n_samples, n_components) or Codes
        Read a part at a time.
    dictionary : array-like of shape (n_components, n_features)
        Atoms of unit norm.
    r : int, default=None
        How far to go. None for the largest number of atoms of a row, less 1.

    Returns
    -------
    mu : ndarray of shape (r,)
        NaN where no row has enough atoms.

    Raises
    ------
    ValueError
        If shapes do not fit, values are not finite, atoms not of unit norm, or r < 1.

    References
    ----------
    .. [1] "From Flat to Hierarchical: Extracting Sparse Representations with Matching
       Pursuit", arXiv:2506.03093, 2025, figures 7 and 21.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import coselected_babel
    >>> dictionary = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]
    >>> coselected_babel([[1.0, 1.0, 0.0], [2.0, 0.0, 1.0]], dictionary)
    array([0.4])
    """
    W = checked_dictionary(dictionary)
    codes = checked_codes(codes, len(W))
    k = largest_l0(codes)
    if r is None:
        r = max(k - 1, 0)
    else:
        check_count(r, "r")
    sums, counts = np.zeros(r), np.zeros(r, dtype=int)
    reach = min(r, k - 1)
    if reach > 0:
        for rows in batches(n_rows(codes), len(W) + k * max(k, W.shape[1])):
            indices, values = sorted_slots(csr(take(codes, rows)), k)
            atoms = W[indices] * (values != 0)[..., None]
            cosines = np.abs(atoms @ atoms.transpose(0, 2, 1))
            cosines[:, np.arange(k), np.arange(k)] = 0
            mu = _sums_of_largest(cosines, reach).max(axis=1)
            # Slots that are not used add zeros, so only rows are to be left out.
            enough = np.count_nonzero(values, axis=1)[:, None] > np.arange(1, reach + 1)
            sums[:reach] += (mu * enough).sum(axis=0)
            counts[:reach] += enough.sum(axis=0)
    return _means(sums, counts)


class ConditionalOrthogonality(NamedTuple):
    """What `conditional_orthogonality` returns: an entry for step 2, 3, ... of the codes.

    Parameters
    ----------
    previous : ndarray of shape (n_steps - 1,)
        Mean ``|cosine|`` of the atom of the step with that of the step before.
    span : ndarray of shape (n_steps - 1,)
        Mean cosine of the atom with the span of the atoms of all steps before.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mpsae.metrics import conditional_orthogonality
    >>> conditional_orthogonality([[3.0, 2.0, 1.0]], np.eye(3)).previous
    array([0., 0.])
    """

    previous: np.ndarray
    span: np.ndarray


def conditional_orthogonality(
    codes: CodesLike, dictionary: ArrayLike
) -> ConditionalOrthogonality:
    """How orthogonal each atom of a row is to those chosen before it.

    Each step of a matching pursuit leaves a residual that is orthogonal to the atom just
    taken, so the next one is nearly so, however coherent the dictionary: conditional
    orthogonality [1]_. The cosine with the span of earlier atoms is the norm of the atom's
    projection on it.

    Parameters
    ----------
    codes : array-like, sparse of shape (n_samples, n_components) or Codes
        Read a part at a time. Steps are the used slots of `Codes`, in the order in which
        they were chosen, otherwise the non-zero codes by decreasing magnitude. An atom that
        is chosen again is in the span of the earlier ones.
    dictionary : array-like of shape (n_components, n_features)
        Atoms of unit norm.

    Returns
    -------
    result : ConditionalOrthogonality
        The arrays ``previous`` and ``span``, of shape (n_steps - 1,), for steps 2, 3, ...;
        each a mean over the rows that have this step, NaN where there is none.

    Raises
    ------
    ValueError
        If shapes do not fit, values are not finite, or atoms not of unit norm.

    References
    ----------
    .. [1] "From Flat to Hierarchical: Extracting Sparse Representations with Matching
       Pursuit", arXiv:2506.03093, 2025.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import conditional_orthogonality
    >>> dictionary = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.6, 0.0, 0.8]]
    >>> result = conditional_orthogonality([[3.0, 2.0, 1.0]], dictionary)
    >>> result.previous
    array([0., 0.])
    >>> result.span
    array([0. , 0.6])
    """
    W = checked_dictionary(dictionary)
    codes = checked_codes(codes, len(W))
    k = count_slots(codes)
    sums, counts = np.zeros((2, max(k - 1, 0))), np.zeros(max(k - 1, 0), dtype=int)
    if k < 2:
        return ConditionalOrthogonality(*sums)
    for rows in batches(n_rows(codes), len(W) + k * W.shape[1]):
        indices, values = _packed(*slots(take(codes, rows), k))
        used = values != 0
        atoms = W[indices] * used[..., None]
        previous = np.abs(np.einsum("nkd,nkd->nk", atoms[:, 1:], atoms[:, :-1]))
        # Slots that are not used hold zeros here: they add nothing.
        sums += previous.sum(axis=0), _cosines_with_span(atoms)[:, 1:].sum(axis=0)
        counts += used[:, 1:].sum(axis=0)
    return ConditionalOrthogonality(*_means(sums, counts))


def _packed(indices, values):
    """The used slots of each row first, in their order."""
    order = np.argsort(values == 0, axis=1, kind="stable")
    return np.take_along_axis(indices, order, 1), np.take_along_axis(values, order, 1)


def _cosines_with_span(atoms):
    """Norm of each atom's projection on the earlier ones, by Gram-Schmidt of all rows."""
    basis, cosines = np.zeros_like(atoms), np.zeros(atoms.shape[:2])
    for step in range(atoms.shape[1]):
        earlier, new = basis[:, :step], atoms[:, step]
        parts = np.einsum("nkd,nd->nk", earlier, new)
        cosines[:, step] = np.linalg.norm(parts, axis=1).clip(max=1)
        for _ in range(2):  # the second time removes the rounding of the first
            parts = np.einsum("nkd,nd->nk", earlier, new)
            new = new - np.einsum("nkd,nk->nd", earlier, parts)
        left = np.linalg.norm(new, axis=1, keepdims=True)
        basis[:, step] = np.where(left > _IN_SPAN, new / np.maximum(left, _IN_SPAN), 0)
    return cosines


def _means(sums, counts):
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)

"""Which atom stands for which true feature."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from ._inputs import (
    CodesLike,
    add_product,
    batches,
    checked_codes,
    checked_dictionaries,
    csr,
    n_rows,
    take,
    width,
)


class Matching(NamedTuple):
    """Pairs of a learned atom and a true feature, in the order of the features.

    Parameters
    ----------
    atoms : ndarray of shape (n_pairs,), int
        The atom of each pair.
    features : ndarray of shape (n_pairs,), int
        Its feature, increasing.
    scores : ndarray of shape (n_pairs,)
        How alike they are, in the measure that was matched.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import match_atoms
    >>> atoms, features, cosines = match_atoms([[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0]])
    >>> atoms, features, cosines
    (array([1]), array([0]), array([1.]))
    """

    atoms: np.ndarray
    features: np.ndarray
    scores: np.ndarray


def match_atoms(dictionary: ArrayLike, truth: ArrayLike, *, absolute: bool = False) -> Matching:
    """Pair atoms with true features so that the sum of their cosines is largest.

    Parameters
    ----------
    dictionary : array-like of shape (n_components, n_features)
        Learned atoms of unit norm.
    truth : array-like of shape (n_true, n_features)
        True features of unit norm.
    absolute : bool, default=False
        Whether to take ``|cosine|``: for codes of either sign, an atom and its negative are
        the same.

    Returns
    -------
    matching : Matching
        ``atoms``, ``features`` and their cosines, ``scores``, of shape
        ``(min(n_components, n_true),)``: all of the fewer are paired, what is left of the
        others is in no pair.

    Raises
    ------
    ValueError
        If shapes do not fit, values are not finite or rows not of unit norm.

    See Also
    --------
    match_codes : Pairs by when they are active, not by where they point.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import match_atoms
    >>> match_atoms([[0.0, 1.0], [0.8, 0.6], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]).atoms
    array([2, 0])
    """
    return best_pairs(cosines_of(dictionary, truth, absolute))


def match_codes(codes: CodesLike, activations: CodesLike) -> Matching:
    """Pair atoms with true features by the samples on which they are active.

    The pairs maximise the sum of ``(codes / abs(codes).max(axis=0)).T @ activations``,
    which is how the authors of [1]_ pair them.

    Parameters
    ----------
    codes : array-like, sparse of shape (n_samples, n_components) or Codes
        Learned codes. Read a part at a time.
    activations : array-like, sparse of shape (n_samples, n_true) or Codes
        The true ones of the same samples.

    Returns
    -------
    matching : Matching
        As of `match_atoms`; ``scores`` are the entries of that product. All of the fewer
        are paired, those that are never active too, with a score of 0.

    Raises
    ------
    ValueError
        If the numbers of samples differ, or values are not finite.

    References
    ----------
    .. [1] "From Flat to Hierarchical: Extracting Sparse Representations with Matching
       Pursuit", arXiv:2506.03093, 2025.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import match_codes
    >>> match_codes([[0.0, 2.0], [4.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]).atoms
    array([1, 0])
    """
    codes, activations = checked_pair(codes, activations)
    product = np.zeros((width(codes), width(activations)))
    largest = np.zeros(width(codes))
    for Z, A in parts_of(codes, activations):
        add_product(product, Z, A)
        largest = np.maximum(largest, abs(Z).max(axis=0).toarray().ravel())
    return best_pairs(product / np.where(largest > 0, largest, 1)[:, None])


def best_pairs(scores):
    features, atoms = linear_sum_assignment(scores.T, maximize=True)
    return Matching(atoms, features, scores[atoms, features])


def matched_cosine(
    dictionary: ArrayLike,
    truth: ArrayLike,
    matching: Matching | None = None,
    *,
    absolute: bool = False,
) -> float:
    """Mean cosine of true features with their atoms.

    Parameters
    ----------
    dictionary : array-like of shape (n_components, n_features)
        Learned atoms of unit norm.
    truth : array-like of shape (n_true, n_features)
        True features of unit norm.
    matching : Matching or (atoms, features), default=None
        The pairs. None for those of `match_atoms`.
    absolute : bool, default=False
        Whether to take ``|cosine|``.

    Returns
    -------
    cosine : float
        The mean over pairs: features without an atom, and atoms without a feature, do not
        enter it.

    Raises
    ------
    ValueError
        As for `match_atoms`, or if the matching does not fit.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import matched_cosine
    >>> matched_cosine([[0.8, 0.6], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]])
    0.9
    """
    cosines = cosines_of(dictionary, truth, absolute)
    atoms, features = checked_matching(matching, cosines)
    return float(cosines[atoms, features].mean())


def cosines_of(dictionary, truth, absolute):
    W, D = checked_dictionaries(dictionary, truth)
    cosines = W @ D.T
    return np.abs(cosines) if absolute else cosines


def checked_pair(codes, activations):
    codes = checked_codes(codes)
    activations = checked_codes(activations, name="activations")
    if n_rows(codes) != n_rows(activations):
        raise ValueError(
            f"codes has {n_rows(codes)} rows and activations {n_rows(activations)}: pass "
            "those of the same samples."
        )
    return codes, activations


def checked_matching(matching, scores=None, *, shape=None):
    """Atoms and features of a matching that fits; without one, the best by `scores`."""
    if matching is None:
        return best_pairs(scores)[:2]
    shape = scores.shape if shape is None else shape
    atoms, features = (np.asarray(indices) for indices in tuple(matching)[:2])
    if not (_are_distinct(atoms, shape[0]) and _are_distinct(features, shape[1])):
        raise ValueError(
            f"matching does not fit {shape[0]} atoms and {shape[1]} features: it must hold "
            "two equally long integer arrays of indices, none of them twice."
        )
    if len(atoms) != len(features) or len(atoms) == 0:
        raise ValueError(
            f"matching must pair atoms with features, at least one; got {len(atoms)} of the "
            f"one and {len(features)} of the other."
        )
    return atoms, features


def _are_distinct(indices, n):
    """Whether these are different indices of n things."""
    return (
        indices.ndim == 1
        and indices.dtype.kind in "iu"
        and len(np.unique(indices)) == len(indices)
        and bool(((indices >= 0) & (indices < n)).all())
    )


def parts_of(codes, activations):
    """Yield the same rows of both as CSR arrays, a part at a time."""
    for rows in batches(n_rows(codes), width(codes) + width(activations)):
        yield csr(take(codes, rows)), csr(take(activations, rows), "activations")

"""How well a dictionary finds the features that made the data."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ._inputs import CodesLike, checked_dictionaries, width
from ._matching import (
    Matching,
    checked_matching,
    checked_pair,
    cosines_of,
    matched_cosine,
    parts_of,
)


class Scores(NamedTuple):
    """Precision, recall and F1: a number each, or an array with one for each feature.

    Parameters
    ----------
    precision : float or ndarray of shape (n_true,)
        The share of an atom's firings on which its feature is active.
    recall : float or ndarray of shape (n_true,)
        The share of a feature's activity on which its atom fires.
    f1 : float or ndarray of shape (n_true,)
        Their harmonic mean.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import Scores
    >>> Scores(precision=1.0, recall=0.5, f1=2 / 3).recall
    0.5
    """

    precision: np.ndarray | float
    recall: np.ndarray | float
    f1: np.ndarray | float


class FiringScores(NamedTuple):
    """What `firing_scores` returns.

    Parameters
    ----------
    per_feature : Scores
        Arrays of shape (n_true,).
    macro : Scores
        The means over features.
    micro : Scores
        The scores of all firings of all pairs together.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import firing_scores
    >>> codes, truth = [[2.0, 0.0], [1.0, 3.0]], [[1.0], [0.0]]
    >>> scores = firing_scores(codes, truth, ([0], [0]))
    >>> float(scores.macro.precision), float(scores.macro.recall)
    (0.5, 1.0)
    """

    per_feature: Scores
    macro: Scores
    micro: Scores


def firing_scores(codes: CodesLike, activations: CodesLike, matching: Matching) -> FiringScores:
    """How well atoms fire when their features are active.

    To fire is to be other than zero. With the numbers of samples on which an atom fires,
    on which its feature is active, and on which both are, ``precision = both / fires``,
    ``recall = both / active`` and ``f1 = 2 * both / (fires + active)``.

    Parameters
    ----------
    codes : array-like, sparse of shape (n_samples, n_components) or Codes
        Learned codes. Read a part at a time.
    activations : array-like, sparse of shape (n_samples, n_true) or Codes
        The true ones of the same samples.
    matching : Matching or (atoms, features)
        The pairs, of `match_atoms` or `match_codes`.

    Returns
    -------
    scores : FiringScores
        ``per_feature``, ``macro`` and ``micro``, each with ``precision``, ``recall`` and
        ``f1``. A feature without an atom, or whose atom never fires, scores 0: it is missed.
        A feature that is never active has no scores (NaN) and is left out of ``macro``. Atoms
        without a feature do not count.

    Raises
    ------
    ValueError
        If the numbers of samples differ, values are not finite or the matching does not fit.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import firing_scores, match_codes
    >>> activations = [[1.0, 0.0], [1.0, 2.0], [0.0, 1.0]]
    >>> codes = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    >>> scores = firing_scores(codes, activations, match_codes(codes, activations))
    >>> scores.per_feature.recall
    array([1. , 0.5])
    >>> scores.macro.recall
    0.75
    """
    codes, activations = checked_pair(codes, activations)
    n_true = width(activations)
    atoms, features = checked_matching(matching, shape=(width(codes), n_true))
    both, fires, active = np.zeros((3, n_true))
    for Z, A in parts_of(codes, activations):
        Z, A = Z.astype(bool).astype(np.int64), A.astype(bool).astype(np.int64)
        active += A.sum(axis=0)
        fires[features] += Z[:, atoms].sum(axis=0)
        both[features] += Z[:, atoms].multiply(A[:, features]).sum(axis=0)
    per_feature = _scores(both, fires, active)
    macro = Scores(*(_mean_of_known(score) for score in per_feature))
    micro = Scores(*map(float, _scores(both.sum(), fires.sum(), active.sum())))
    return FiringScores(per_feature, macro, micro)


def _scores(both, fires, active):
    known = np.where(active > 0, 1.0, np.nan)
    return Scores(
        known * both / np.maximum(fires, 1),
        known * both / np.maximum(active, 1),
        known * 2 * both / np.maximum(fires + active, 1),
    )


def feature_absorption(
    dictionary: ArrayLike,
    truth: ArrayLike,
    parents: ArrayLike,
    matching: Matching | None = None,
    *,
    absolute: bool = False,
) -> float:
    """Mean cosine of the atoms of child features with their true parents.

    Where a feature is active only together with its parent, it is sparser to let the
    child's atom absorb the parent's direction. This is the quantity of Table 1 of [1]_;
    where true children are orthogonal to their parents, 0 is right.

    Parameters
    ----------
    dictionary : array-like of shape (n_components, n_features)
        Learned atoms of unit norm.
    truth : array-like of shape (n_true, n_features)
        True features of unit norm.
    parents : array-like of shape (n_true,), int
        The index of each feature's parent, -1 for features that have none.
    matching : Matching or (atoms, features), default=None
        The pairs. None for those of `match_atoms`.
    absolute : bool, default=False
        Whether to take ``|cosine|``; else atoms turned away from the parent make up for
        others turned towards it.

    Returns
    -------
    absorption : float
        The mean over the children that have an atom; NaN if none has.

    Raises
    ------
    ValueError
        As for `matched_cosine`, or if parents are not indices of other features or -1, or
        no feature has one.

    References
    ----------
    .. [1] "From Flat to Hierarchical: Extracting Sparse Representations with Matching
       Pursuit", arXiv:2506.03093, 2025.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import feature_absorption
    >>> feature_absorption([[1.0, 0.0], [0.6, 0.8]], [[1.0, 0.0], [0.0, 1.0]], [-1, 0])
    0.6
    """
    cosines = cosines_of(dictionary, truth, False)
    parents = checked_parents(parents, cosines.shape[1])
    atoms, features = checked_matching(matching, np.abs(cosines) if absolute else cosines)
    child = parents[features] >= 0
    absorbed = cosines[atoms[child], parents[features[child]]]
    return _mean_of_known(np.abs(absorbed) if absolute else absorbed)


class SimilarityError(NamedTuple):
    """What `similarity_error` returns; NaN where there is no such pair of features.

    Parameters
    ----------
    within : float
        Mean squared error of cosines of features of the same level.
    across : float
        Mean squared error of cosines of features of different levels.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mpsae.metrics import similarity_error
    >>> error = similarity_error(np.eye(3), np.eye(3), levels=[0, 0, 1])
    >>> error.within, error.across
    (0.0, 0.0)
    """

    within: float
    across: float


def similarity_error(
    dictionary: ArrayLike,
    truth: ArrayLike,
    levels: ArrayLike,
    matching: Matching | None = None,
) -> SimilarityError:
    """How well cosines among atoms are those among the true features.

    The mean squared difference of the two cosine matrices, over pairs of different
    features on the same level of a hierarchy, and over pairs on different ones: the "flat"
    and "hierarchical" errors of [1]_, as its figure 4 is read here.

    Parameters
    ----------
    dictionary : array-like of shape (n_components, n_features)
        Learned atoms of unit norm.
    truth : array-like of shape (n_true, n_features)
        True features of unit norm.
    levels : array-like of shape (n_true,)
        The level of each feature, or any other label of a group.
    matching : Matching or (atoms, features), default=None
        The pairs. None for those of `match_atoms`. Features without an atom do not count.

    Returns
    -------
    error : SimilarityError
        ``within`` and ``across`` levels.

    Raises
    ------
    ValueError
        As for `matched_cosine`, or if there is not one level for each feature.

    References
    ----------
    .. [1] "From Flat to Hierarchical: Extracting Sparse Representations with Matching
       Pursuit", arXiv:2506.03093, 2025.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import similarity_error
    >>> error = similarity_error([[1.0, 0.0], [0.6, 0.8]], [[1.0, 0.0], [0.0, 1.0]], [0, 1])
    >>> round(error.across, 6)
    0.36
    """
    W, D = checked_dictionaries(dictionary, truth)
    levels = np.asarray(levels)
    if levels.shape != (len(D),):
        raise ValueError(
            f"levels must have one entry for each of the {len(D)} features of truth; got "
            f"shape {levels.shape}."
        )
    atoms, features = checked_matching(matching, W @ D.T)
    W, D, levels = W[atoms], D[features], levels[features]
    errors = (W @ W.T - D @ D.T) ** 2
    same = levels[:, None] == levels
    different = ~np.eye(len(W), dtype=bool)
    return SimilarityError(
        _mean_of_known(errors[same & different]), _mean_of_known(errors[~same])
    )


def stability(
    dictionaries: Sequence[ArrayLike | Any] | ArrayLike | Any,
    *more: ArrayLike | Any,
    absolute: bool = False,
) -> float:
    """Mean matched cosine of all pairs of dictionaries, as of fits from several seeds.

    Parameters
    ----------
    dictionaries : sequence of array-like of shape (n_components, n_features), or of estimators
        At least two, of atoms of unit norm; the numbers of atoms may differ. Of a fitted
        estimator, or of a pipeline that ends with one, its `components_` are taken.
    *more : array-like or estimators
        ``stability(a, b, c)`` is ``stability([a, b, c])``.
    absolute : bool, default=False
        Whether to take ``|cosine|``.

    Returns
    -------
    stability : float
        1 if all have the same atoms, in any order.

    Raises
    ------
    ValueError
        If there are fewer than two, or as for `match_atoms`.
    NotFittedError
        If an estimator is not fitted.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import stability
    >>> stability([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.8, 0.6]]])
    0.9

    Of fits with two seeds:

    >>> from sklearn.datasets import load_digits
    >>> from sklearn_mpsae import TopKSAE
    >>> X = load_digits().data
    >>> fits = [TopKSAE(32, max_iter=2, random_state=seed).fit(X) for seed in (0, 1)]
    >>> stability(fits) == stability(fits[0].components_, fits[1].components_)
    True
    """
    single = more or hasattr(dictionaries, "fit") or getattr(dictionaries, "ndim", 0) == 2
    given = [dictionaries, *more] if single else dictionaries
    if len(given) < 2:
        raise ValueError(
            f"stability compares at least two dictionaries, and was given {len(given)}: pass "
            "stability([a, b]), with fitted estimators, or their components_, of fits with "
            "different random_state."
        )
    pairs = combinations(map(_atoms_of, given), 2)
    return float(np.mean([matched_cosine(*pair, absolute=absolute) for pair in pairs]))


# --------------------------------------------------------------------------- their parts


def _atoms_of(dictionary):
    """The atoms of a fitted estimator, or a dictionary as it is."""
    if not hasattr(dictionary, "fit"):
        return dictionary
    estimator = dictionary[-1] if isinstance(dictionary, Pipeline) else dictionary
    check_is_fitted(estimator)
    return estimator.components_


def checked_parents(parents, n_true) -> np.ndarray:
    """Indices of parents, refused unless they are of features and there is one."""
    parents = np.asarray(parents)
    if parents.shape != (n_true,) or parents.dtype.kind not in "iu":
        raise ValueError(
            f"parents must be {n_true} integers, one for each feature of truth; got "
            f"{parents.dtype} of shape {parents.shape}."
        )
    wrong = (parents < -1) | (parents >= n_true) | (parents == np.arange(n_true))
    if wrong.any():
        first = np.flatnonzero(wrong)[0]
        raise ValueError(
            f"parents[{first}] is {parents[first]}: it must be the index of another feature, "
            "or -1 for none."
        )
    if (parents < 0).all():
        raise ValueError("parents gives no feature a parent: there is nothing to absorb.")
    return parents


def _mean_of_known(values):
    """The mean of what is not NaN; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")

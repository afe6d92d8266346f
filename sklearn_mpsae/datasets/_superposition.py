"""More features than dimensions, some frequent, most rare."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from sklearn.utils import Bunch

from .._compat import Interval, validate_params
from ..learning.dictionary import random_atoms
from ._atoms import given_atoms, spread_atoms
from ._rows import CONSTRAINTS, checked_law, draw_rows, float_dtype, own_stream
from ._tree import Tree, fire


@validate_params(
    {
        **CONSTRAINTS,
        "n_features": [Interval(Integral, 1, None, closed="left")],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "l0": [Interval(Real, 0, None, closed="neither")],
        "exponent": [Interval(Real, 0, None, closed="left")],
        "hierarchy": [Interval(Real, 0, 1, closed="left")],
        "max_cosine": [Interval(Real, 0, 1, closed="neither"), None],
    },
    prefer_skip_nested_validation=True,
)
def make_superposition(
    n_samples: int,
    n_features: int,
    n_components: int,
    *,
    l0: float = 8.0,
    exponent: float = 0.5,
    hierarchy: float = 0.0,
    max_cosine: float | None = None,
    mean: ArrayLike = 1.0,
    std: ArrayLike = 0.25,
    noise: float = 0.0,
    dictionary: ArrayLike | None = None,
    dtype: DTypeLike = np.float64,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Generate sums of features that are more than the dimensions.

    Atoms are random unit vectors. Features fire independently, but for children, which do so
    only where their parent does. Rows are ``codes @ dictionary``, plus noise; the code of a
    feature that fires is drawn from N(mean, std²), independently, and is not clipped at 0.

    Parameters
    ----------
    n_samples : int
        The number of rows.
    n_features : int
        The dimension.
    n_components : int
        The number of features; the more per dimension, the more they overlap.
    l0 : float, default=8.0
        The mean number of features in a row, at most `n_components`.
    exponent : float, default=0.5
        How much rarer each feature is than the one before: feature r, counted from 1, fires
        with probability ``min(1, c * r**-exponent)``, with the c that makes these sum to
        `l0`. 0 for equal probabilities, 1 for Zipf's law.
    hierarchy : float, default=0.0
        The share of features that are children, rounded to whole features. They are the last
        and rarest ones; the others, in turn, are their parents. All fire as often as without
        hierarchy: it changes only which fire together.
    max_cosine : float, default=None
        The largest absolute cosine of two atoms: they are pushed apart until there is none
        beyond it. None to leave random atoms as they are.
    mean, std : float or array-like of shape (n_components,), default=1.0 and 0.25
        Mean and standard deviation of the codes of features that fire.
    noise : float, default=0.0
        The standard deviation of Gaussian noise, added to each entry of the data.
    dictionary : array-like of shape (n_components, n_features), default=None
        Atoms of unit norm, to draw more rows from; `max_cosine` is then of no effect. None to
        draw them.
    dtype : float32 or float64, default=float64
        The type of all floats returned.
    random_state : int, RandomState instance or None, default=None
        Draws atoms, then rows; which features are whose children is not random. A RandomState
        instance moves on, so that calls with the same one and the first's `dictionary` give
        fresh rows of the same features.

    Returns
    -------
    features : :class:`~sklearn.utils.Bunch`
        With the attributes

        data : ndarray of shape (n_samples, n_features)
            The rows.
        dictionary : ndarray of shape (n_components, n_features)
            The atoms, of unit norm.
        codes : csr_array of shape (n_samples, n_components)
            The true codes.
        parents : ndarray of shape (n_components,), int
            The parent of each feature, -1 for none.
        probabilities : ndarray of shape (n_components,)
            The probability that each feature fires; they sum to `l0`.

    Raises
    ------
    ValueError
        If `l0` is more than there are features, if there is a hierarchy of features that all
        fire equally often, if atoms cannot be as far apart as `max_cosine` asks, or if shapes
        disagree.

    Notes
    -----
    In the spirit of SynthSAEBench [1]_, which studies how superposition, uneven firing and
    hierarchy mislead sparse autoencoders, but smaller: here one level of children, no
    correlated firing of unrelated features, no children that exclude each other (for those,
    :func:`make_hierarchical_features`). That benchmark measures overlap by the mean over atoms
    of each one's largest absolute cosine; `max_cosine` bounds the largest of all.

    No n unit vectors in d dimensions have all absolute cosines below Welch's bound,
    ``sqrt((n - d) / (d (n - 1)))``; about twice that is reached in a few steps.

    References
    ----------
    .. [1] "SynthSAEBench: Evaluating Sparse Autoencoders on Scalable Realistic Synthetic
       Data", arXiv:2602.14687, 2026.

    Examples
    --------
    >>> from sklearn_mpsae.datasets import make_superposition
    >>> features = make_superposition(1000, 64, 256, l0=5, random_state=0)
    >>> features.data.shape, features.dictionary.shape, features.codes.shape
    ((1000, 64), (256, 64), (1000, 256))
    >>> round(float(features.probabilities.sum()), 6)
    5.0
    """
    dtype = float_dtype(dtype)
    random_state = own_stream(random_state)
    law = checked_law(mean, std, n_components)
    probabilities = _firing_law(l0, exponent, n_components)
    tree = _two_levels(probabilities, hierarchy)
    if dictionary is None:
        dictionary = random_atoms(n_components, n_features, random_state, np.float64)
        if max_cosine is not None:
            dictionary = spread_atoms(dictionary, max_cosine)
        dictionary = dictionary.astype(dtype)
    else:
        dictionary = given_atoms(dictionary, (n_components, n_features), dtype)
    where = fire(tree, n_samples, random_state)
    return draw_rows(
        where,
        n_samples,
        dictionary,
        law,
        noise=noise,
        random_state=random_state,
        parents=tree.parents,
        probabilities=probabilities.astype(dtype),
    )


def _firing_law(l0, exponent, n_components):
    """Probabilities min(1, c rank^-exponent) that sum to l0."""
    if l0 > n_components:
        raise ValueError(
            f"l0={l0} is more than there are features: n_components={n_components}."
        )
    ranks = np.arange(1, n_components + 1)
    for certain in range(n_components):
        # If so many of the first always fire, the others share what is left of l0.
        shares = (ranks[certain:] / ranks[certain]) ** -float(exponent)
        highest = (l0 - certain) / shares.sum()
        if highest <= 1:
            break
    return np.concatenate([np.ones(certain), highest * shares])


def _two_levels(probabilities, hierarchy):
    """The tree in which the rarest features are children and all keep their probabilities."""
    n = len(probabilities)
    n_roots = n - round(hierarchy * n)
    if n_roots == 0:
        raise ValueError(f"hierarchy={hierarchy} leaves none of {n} features for a parent.")
    parents = np.full(n, -1)
    parents[n_roots:] = np.arange(n - n_roots) % n_roots
    given_parent = probabilities.copy()
    given_parent[n_roots:] /= probabilities[parents[n_roots:]]
    if n_roots < n and (given_parent[n_roots:] == 1).all():
        raise ValueError(
            "With hierarchy, children must be rarer than their parents, else they always fire "
            "together: raise exponent above 0, or lower l0."
        )
    return Tree(parents, given_parent, np.full(n, False))

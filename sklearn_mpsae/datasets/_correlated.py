"""Features in groups, alike within a group."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from sklearn.utils import Bunch

from .._compat import Interval, validate_params
from ._atoms import given_atoms, grouped_atoms
from ._rows import CONSTRAINTS, checked_law, draw_rows, float_dtype, own_stream


@validate_params(
    {
        **CONSTRAINTS,
        "n_features": [Interval(Integral, 1, None, closed="left")],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "rho": [Interval(Real, -1, 1, closed="neither")],
        "group_size": [Interval(Integral, 1, None, closed="left")],
        "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def make_correlated_features(
    n_samples: int,
    n_features: int,
    n_components: int,
    *,
    rho: float,
    group_size: int = 4,
    n_nonzero_coefs: int = 4,
    mean: ArrayLike = 1.0,
    std: ArrayLike = 0.25,
    noise: float = 0.0,
    dictionary: ArrayLike | None = None,
    dtype: DTypeLike = np.float64,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Generate sums of features that are alike in groups.

    Each row is the sum of `n_nonzero_coefs` features, any as likely as any other. Rows are
    ``codes @ dictionary``, plus noise; codes are drawn from N(mean, std²), independently, and
    are not clipped at 0.

    Parameters
    ----------
    n_samples : int
        The number of rows.
    n_features : int
        The dimension, at least `group_size`.
    n_components : int
        The number of features, a multiple of `group_size`: the first `group_size` of them are
        the first group, and so on.
    rho : float
        The cosine of the atoms of a group: above -1, at least ``-1 / (group_size - 1)``, the
        least that so many vectors can have in common, and below 1.
        Atoms of different groups are orthogonal if ``n_components <= n_features``; else each
        group spans a random subspace of its own, and their cosines are about
        1 / sqrt(n_features).
    group_size : int, default=4
        The number of features in a group.
    n_nonzero_coefs : int, default=4
        The number of features in a row.
    mean, std : float or array-like of shape (n_components,), default=1.0 and 0.25
        Mean and standard deviation of the codes of features that fire.
    noise : float, default=0.0
        The standard deviation of Gaussian noise, added to each entry of the data.
    dictionary : array-like of shape (n_components, n_features), default=None
        Atoms of unit norm, to draw more rows from; `rho` is then of no effect. None to draw
        them.
    dtype : float32 or float64, default=float64
        The type of all floats returned.
    random_state : int, RandomState instance or None, default=None
        Draws atoms, then rows. A RandomState instance moves on, so that calls with the same
        one and the first's `dictionary` give fresh rows of the same features.

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
            All -1: no feature needs another.
        groups : ndarray of shape (n_components,), int
            The group of each feature.
        probabilities : ndarray of shape (n_components,)
            The probability that each feature fires, ``n_nonzero_coefs / n_components``.

    Raises
    ------
    ValueError
        If no atoms have cosines of `rho`, if numbers do not fit each other, or if shapes
        disagree.

    See Also
    --------
    make_hierarchical_features : Groups of siblings, which fire only with their parents.

    Examples
    --------
    >>> from sklearn_mpsae.datasets import make_correlated_features
    >>> features = make_correlated_features(100, 16, 8, rho=0.6, random_state=0)
    >>> cosines = features.dictionary @ features.dictionary.T
    >>> cosines[0, 1:5].round(2) + 0.0
    array([0.6, 0.6, 0.6, 0. ])
    """
    dtype = float_dtype(dtype)
    random_state = own_stream(random_state)
    if n_components % group_size:
        raise ValueError(
            f"n_components={n_components} is not a multiple of group_size={group_size}."
        )
    if n_nonzero_coefs > n_components:
        raise ValueError(
            f"n_nonzero_coefs={n_nonzero_coefs} is more than there are features: "
            f"n_components={n_components}."
        )
    law = checked_law(mean, std, n_components)
    groups = np.arange(n_components).reshape(-1, group_size)
    if dictionary is None:
        dictionary = grouped_atoms(groups, rho, n_features, random_state).astype(dtype)
    else:
        dictionary = given_atoms(dictionary, (n_components, n_features), dtype)
    features = _subsets(n_samples, n_nonzero_coefs, n_components, random_state)
    where = np.repeat(np.arange(n_samples), n_nonzero_coefs), features.ravel()
    return draw_rows(
        where,
        n_samples,
        dictionary,
        law,
        noise=noise,
        random_state=random_state,
        parents=np.full(n_components, -1),
        groups=np.arange(n_components) // group_size,
        probabilities=np.full(n_components, n_nonzero_coefs / n_components, dtype=dtype),
    )


def _subsets(n_subsets, size, n_elements, random_state):
    """Subsets of range(n_elements), each as likely as any other, one in each row.

    Robert Floyd's way: draw from ever more elements, one more each time; what is in the
    subset already stands for the element just added.
    """
    subsets = np.empty((n_subsets, size), dtype=np.intp)
    for i, last in enumerate(range(n_elements - size, n_elements)):
        drawn = random_state.randint(last + 1, size=n_subsets)
        taken = (subsets[:, :i] == drawn[:, None]).any(axis=1)
        subsets[:, i] = np.where(taken, last, drawn)
    return subsets

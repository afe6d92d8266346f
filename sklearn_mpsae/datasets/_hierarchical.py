"""Features that fire only where their parents do."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from sklearn.utils import Bunch

from .._compat import Interval, StrOptions, validate_params
from ._atoms import given_atoms, grouped_atoms
from ._rows import CONSTRAINTS, checked_law, draw_rows, float_dtype, own_stream
from ._tree import checked_tree, fire

_TREES = {
    "two-level": {
        "parents": [-1, 0, 0, 0, -1, 4, 4, 4, -1, 8, 8, 8] + 8 * [-1],
        "probabilities": 12 * [0.2] + 8 * [0.05],
        "exclusive": True,
    },
}


@validate_params(
    {
        **CONSTRAINTS,
        "tree": [StrOptions(set(_TREES)), dict],
        "n_features": [Interval(Integral, 1, None, closed="left"), None],
        "rho": [Interval(Real, -1, 1, closed="neither")],
    },
    prefer_skip_nested_validation=True,
)
def make_hierarchical_features(
    n_samples: int,
    *,
    tree: str | dict[str, Any] = "two-level",
    n_features: int | None = None,
    rho: float = 0.0,
    mean: ArrayLike = 1.5,
    std: ArrayLike = 0.25,
    noise: float = 0.0,
    dictionary: ArrayLike | None = None,
    dtype: DTypeLike = np.float64,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Generate sums of features that form a tree.

    A feature fires only where its parent does. Rows are ``codes @ dictionary``, plus noise;
    the code of a feature that fires is drawn from N(mean, std²), independently of others,
    and is not clipped at 0.

    Parameters
    ----------
    n_samples : int
        The number of rows.
    tree : "two-level" or dict, default="two-level"
        "two-level" is the tree of [1]_: features 0, 4 and 8 have three children each, the
        next three; features 12 to 19 have none. In each row exactly one of the eleven at
        the top fires, a parent with probability 0.2, another with 0.05; where a parent
        fires, each of its children does with probability 0.2, at most one of them. That
        makes 1.36 features a row. (The paper calls these draws independent; its code, which
        is followed here, makes them exclude each other.)

        A dict describes any other tree, by

        - "parents": for each feature the index of its parent, -1 for none;
        - "probabilities": for each, the probability that it fires where its parent does;
        - "exclusive", default False: whether a feature excludes those of its siblings that
          exclude others too (features without parent are siblings); a bool for each, or one
          for all. Where all that exclude each other have probabilities that sum to 1, one
          of them fires; features that do not exclude others fire independently.
    n_features : int, default=None
        The dimension. None for that of `dictionary`, or as many as there are features in
        the tree, which is enough for families to be orthogonal.
    rho : float, default=0.0
        The cosine of siblings, features without parent included. Atoms that are no siblings
        are orthogonal if `n_features` allows, else their cosines are about
        1 / sqrt(n_features).
    mean, std : float or array-like of shape (n_components,), default=1.5 and 0.25
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
            The parent of each feature, -1 for none.
        levels : ndarray of shape (n_components,), int
            The number of ancestors of each feature.
        probabilities : ndarray of shape (n_components,)
            The probability that each feature fires; they sum to the mean number of features
            in a row.

    Raises
    ------
    ValueError
        If the tree is none, if no atoms have cosines of `rho`, or if shapes disagree.

    Notes
    -----
    Siblings are made of orthonormal q_1, ..., q_m: ``v_i = a q_i + b (q_1 + ... + q_m)``,
    with ``a = sqrt(1 - rho)`` and ``a + m b = sqrt(1 + (m - 1) rho)``, which have unit norm
    and cosine rho. The code of [1]_ writes the same atoms as
    ``(1 - e) q_i + e / (m - 1) * sum_{j != i} q_j``, normalised, for an e fitted to rho.

    Table 1 of [1]_ varies how strongly a child fires: a parent from N(1, 1/4²), children from
    N(0.1, 1/40²), N(0.5, 1/400²), N(0.5, 1/8²) or N(1, 1/4²). Arrays for `mean` and `std` say
    that; its tree is not among those known here by name, so give one. ``std=0`` is the case
    in which, as [1]_ reports, MP is unstable: where a child always adds the same to its
    parent, the sparser dictionary has their sum for an atom.

    References
    ----------
    .. [1] "From Flat to Hierarchical: Extracting Sparse Representations with Matching
       Pursuit", arXiv:2506.03093, 2025; its code is the repository mpsae/MP-SAE.

    Examples
    --------
    >>> from sklearn_mpsae.datasets import make_hierarchical_features
    >>> features = make_hierarchical_features(1000, rho=0.3, random_state=0)
    >>> features.data.shape, features.dictionary.shape, features.codes.shape
    ((1000, 20), (20, 20), (1000, 20))
    >>> round(float(features.probabilities.sum()), 2)
    1.36

    A parent and a weaker child, in half of the parent's rows:

    >>> tree = {"parents": [-1, 0], "probabilities": [0.2, 0.5]}
    >>> features = make_hierarchical_features(
    ...     1000, tree=tree, mean=[1, 0.5], std=[1 / 4, 1 / 8], random_state=0
    ... )
    >>> features.probabilities
    array([0.2, 0.1])
    """
    dtype = float_dtype(dtype)
    random_state = own_stream(random_state)
    tree = checked_tree(_TREES[tree] if isinstance(tree, str) else tree)
    n_components = len(tree.parents)
    law = checked_law(mean, std, n_components)
    if dictionary is None:
        n_features = n_components if n_features is None else n_features
        dictionary = grouped_atoms(tree.siblings(), rho, n_features, random_state)
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
        levels=tree.levels(),
        probabilities=tree.marginals().astype(dtype),
    )

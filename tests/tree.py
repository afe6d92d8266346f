"""The two-level tree of arXiv:2506.03093 (repository mpsae/MP-SAE), whose atoms are known.

Twenty features: three parents with three children each, and eight features without. Of the
eleven at the top exactly one is active in a row; a parent's children exclude each other.
"""

import numpy as np
from scipy.optimize import brentq, linear_sum_assignment

from sklearn_mpsae.learning.dictionary import unit_rows

TOP = [0, 4, 8, *range(12, 20)]
PARENTS = [0, 4, 8]


def dictionary(rho, seed):
    """Twenty atoms, orthogonal but for cosine rho among siblings."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((20, 20)))[0].T
    D = Q.copy()
    for group in [TOP, *([p + 1, p + 2, p + 3] for p in PARENTS)]:
        n = len(group)
        share = _share_of_siblings(rho, n)
        D[group] = (1 - share) * Q[group]
        D[group] += share / (n - 1) * (Q[group].sum(axis=0) - Q[group])
    return unit_rows(D)


def _share_of_siblings(rho, n):
    def excess(e):
        a, b = 1 - e, e / (n - 1)
        return (2 * a * b + (n - 2) * b * b) / (a * a + (n - 1) * b * b) - rho

    return brentq(excess, 0, 1 - 1 / n - 1e-9) if rho else 0.0


def rows(D, n, seed):
    """Draw n sums of active features, 1.36 on average, of size about 1.5."""
    rng = np.random.default_rng(seed)
    active = np.zeros((n, 20))
    top = rng.choice(TOP, n, p=[0.2 if i in PARENTS else 0.05 for i in TOP])
    active[np.arange(n), top] = 1
    child = (rng.random(n) / 0.2).astype(int)
    with_child = np.isin(top, PARENTS) & (child < 3)
    active[np.flatnonzero(with_child), (top + 1 + child)[with_child]] = 1
    return (active * (1.5 + 0.25 * rng.standard_normal((n, 20)))) @ D


def matched_cosine(components, D):
    """Mean cosine of true atoms and learnt ones, under the best matching of the two."""
    similarity = components @ D.T
    return similarity[linear_sum_assignment(-similarity)].mean()

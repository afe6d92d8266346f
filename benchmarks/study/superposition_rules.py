"""Rules that stop a pursuit, or pick from it, so that rows have some codes on average."""

from __future__ import annotations

import inspect

import numpy as np

from sklearn_mpsae.coding import Codes, matching_pursuit, orthogonal_matching_pursuit


class Path:
    """A long pursuit of fresh rows, and what rules ask of it.

    A rule gives each step a score; the steps above a cut are kept, and the cut is where rows
    have `l0` different atoms on average. Where a rule stops a pursuit rather than picks from
    it, scores never rise along a row.
    """

    def __init__(self, fresh, D, l0):
        self.fresh, self.D, self.l0 = fresh, D, l0
        self.codes = matching_pursuit(fresh.data, D, 4 * l0)
        self.values = self.codes.values
        energy = (fresh.data**2).sum(axis=1, keepdims=True)
        spent = np.cumsum(self.values**2, axis=1)
        self.energy = np.maximum(energy, 1e-12)  # some rows have no feature
        self.left = np.maximum(energy - np.hstack([0 * energy, spent[:, :-1]]), 1e-12)

    def keep(self, scores, codes=None):
        """The codes whose scores are above the cut."""
        codes = codes or self.codes
        scores = np.where(codes.values != 0, scores, -np.inf)
        counted = np.sort(scores[_first_uses(codes)])[::-1]
        n_kept = round(self.l0 * len(scores))
        kept = scores > (counted[n_kept] if n_kept < len(counted) else -np.inf)
        return Codes(
            np.where(kept, codes.indices, 0), np.where(kept, codes.values, 0), len(self.D)
        )

    def stop(self, scores):
        """The codes until scores fall below the cut for the first time."""
        return self.keep(np.minimum.accumulate(scores, axis=1))


def _first_uses(codes):
    """Whether a step takes an atom that the row has not yet."""
    steps = codes.indices.shape[1]
    again = np.zeros(codes.indices.shape, dtype=bool)
    for t in range(1, steps):
        again[:, t] = (codes.indices[:, :t] == codes.indices[:, t : t + 1]).any(axis=1)
    return (codes.values != 0) & ~again


def same_steps(path):
    return path.keep(-np.arange(path.values.shape[1]) + 0.0 * path.values)


def true_number(path):
    """Not a rule: as many steps as the row has features."""
    n_true = np.diff(path.fresh.codes.indptr)[:, None]
    kept = np.arange(path.values.shape[1]) < n_true
    return Codes(path.codes.indices * kept, path.values * kept, len(path.D))


def residual_relative(path):
    return path.stop(path.left / path.energy)


def residual_absolute(path):
    return path.stop(path.left)


def code_absolute(path):
    return path.stop(path.values)


def code_relative(path):
    return path.stop(path.values / np.maximum(path.values[:, :1], 1e-12))


def code_against_rest(path):
    """By the share of what is left that the atom explains."""
    return path.stop(path.values**2 / path.left)


def summed(path):
    """Twice as many steps as wanted codes, values of the same atom added up."""
    dense = Codes(
        path.codes.indices[:, : 2 * path.l0], path.values[:, : 2 * path.l0], len(path.D)
    ).dense()
    indices = np.argsort(-dense, axis=1)[:, : 2 * path.l0]
    return Codes(indices, np.take_along_axis(dense, indices, axis=1), len(path.D))


def prune_smallest(path):
    codes = summed(path)
    return path.keep(codes.values, codes)


def prune_least_loss(path):
    """Drop the codes without which the error grows least."""
    codes = summed(path)
    residual = path.fresh.data - codes.decode(path.D)
    correlations = np.take_along_axis(residual @ path.D.T, codes.indices, axis=1)
    return path.keep(codes.values**2 + 2 * codes.values * correlations, codes)


def refit_prune(path):
    """Non-negative orthogonal pursuit, twice as many steps; then drop the smallest codes."""
    codes = orthogonal_matching_pursuit(path.fresh.data, path.D, 2 * path.l0, positive=True)
    return path.keep(codes.values, codes)


def refit_threshold(path):
    """Non-negative orthogonal pursuit that stops before a small correlation."""

    def coded(X, threshold):
        return orthogonal_matching_pursuit(
            X, path.D, 4 * path.l0, threshold=threshold, positive=True
        )

    low, high = 0.0, 1.0
    for _ in range(9):
        middle = (low + high) / 2
        l0 = coded(path.fresh.data[:2000], middle).l0().mean()
        low, high = (middle, high) if l0 > path.l0 else (low, middle)
    return coded(path.fresh.data, high)


RULES = {
    "steps: the same number in every row": same_steps,
    "residual: relative to the row": residual_relative,
    "residual: absolute": residual_absolute,
    "code: absolute": code_absolute,
    "code: relative to the row's first": code_relative,
    "code: relative to what is left": code_against_rest,
    "longer, then prune the smallest": prune_smallest,
    "longer, then prune by loss": prune_least_loss,
    "OMP, longer, then prune the smallest": refit_prune,
    "OMP, correlation: absolute": refit_threshold,
    "(told the row's true number)": true_number,
}

# The code of all rules.
SOURCE = inspect.getsource(Path) + "".join(map(inspect.getsource, RULES.values()))
SOURCE += "".join(map(inspect.getsource, (_first_uses, summed)))

"""True dictionaries: unit atoms whose cosines are as asked."""

from __future__ import annotations

import numpy as np

from .._array_api import as_rows
from ..coding.unit import not_unit, unit_rows

# Steps in which atoms are pushed apart. Where they do not suffice, an error names the bound.
_SPREAD_STEPS = 200


def grouped_atoms(groups, rho, n_features, random_state):
    """Atoms of pairwise cosine rho within each group of indices.

    Atoms of different groups are orthogonal if there are no more atoms than features. Else
    each group spans a random subspace of its own, and their cosines are about
    1 / sqrt(n_features).

    Raises
    ------
    ValueError
        If the largest group cannot have that cosine, or does not fit in the space.
    """
    n_atoms = sum(len(group) for group in groups)
    _check_possible(max(len(group) for group in groups), rho, n_features)
    atoms = np.empty((n_atoms, n_features))
    if n_atoms <= n_features:
        frame = _orthonormal_rows(n_atoms, n_features, random_state)
        for group in groups:
            atoms[group] = _equiangular(frame[group], rho)
    else:
        for group in groups:
            frame = _orthonormal_rows(len(group), n_features, random_state)
            atoms[group] = _equiangular(frame, rho)
    return atoms


def spread_atoms(atoms, max_cosine):
    """Push unit atoms apart until no two have a larger absolute cosine than asked.

    Gradient steps on the squares of what the cosines exceed it by, on the sphere.

    Raises
    ------
    ValueError
        If that many atoms cannot be so far apart, or the steps do not get there.
    """
    n_atoms, n_features = atoms.shape
    # Welch's bound: the largest cosine of n unit vectors is never below this.
    bound = np.sqrt(max(n_atoms - n_features, 0) / max(n_features * (n_atoms - 1), 1))
    for _ in range(_SPREAD_STEPS):
        cosines = atoms @ atoms.T
        np.fill_diagonal(cosines, 0)
        if np.abs(cosines).max() <= max_cosine:
            return atoms
        # A little farther than asked, else the last steps would be endlessly small.
        goal = 0.95 * max_cosine
        excess = cosines - np.clip(cosines, -goal, goal)
        # Longer steps than 0.25 diverge where many atoms crowd.
        atoms = unit_rows(atoms - 0.25 * excess @ atoms)
    raise ValueError(
        f"{n_atoms} atoms in {n_features} dimensions could not be spread to cosines of at most "
        f"max_cosine={max_cosine}: {bound:.3g} is the least there is (Welch's bound), and "
        f"about {2 * bound:.3g} can be reached. Raise max_cosine or n_features."
    )


def given_atoms(dictionary, shape, dtype):
    """A user's dictionary, checked; None in `shape` stands for any size.

    Raises
    ------
    ValueError
        If it has another shape, or rows that are not of unit norm.
    """
    atoms = as_rows(dictionary, "dictionary", dtype)
    shape = tuple(
        found if wanted is None else wanted
        for found, wanted in zip(atoms.shape, shape, strict=True)
    )
    if atoms.shape != shape:
        raise ValueError(
            f"dictionary must have shape (n_components, n_features) = {shape}, "
            f"got {atoms.shape}."
        )
    wrong = not_unit(atoms)
    if len(wrong):
        row = wrong[0]
        raise ValueError(
            f"dictionary must have rows of unit norm, but row {row} has norm "
            f"{np.linalg.norm(atoms[row]):g}: divide each row by its norm."
        )
    return atoms


def _check_possible(size, rho, n_features):
    if size > n_features:
        raise ValueError(
            f"A group of {size} atoms needs as many dimensions, but n_features={n_features}: "
            "raise n_features or make the groups smaller."
        )
    if size > 1 and rho < -1 / (size - 1):
        raise ValueError(
            f"rho={rho} is impossible: {size} vectors have a common cosine of at least "
            f"-1 / ({size} - 1) = {-1 / (size - 1):.4g}."
        )


def _orthonormal_rows(n_rows, n_features, random_state):
    return np.linalg.qr(random_state.standard_normal((n_features, n_rows)))[0].T


def _equiangular(frame, rho):
    """Unit rows of pairwise cosine rho from orthonormal ones, each as close as can be.

    That is the symmetric square root of the Gram matrix ``(1 - rho) I + rho 11'``, times the
    frame; the root has the same form, ``own I + common 11'``.
    """
    m = len(frame)
    own = np.sqrt(1 - rho)
    # 1 + (m - 1) rho is 0 at the least rho there is, and may be rounded below it.
    common = (np.sqrt(max(1 + (m - 1) * rho, 0)) - own) / m if m > 1 else 1 - own
    return own * frame + common * frame.sum(axis=0)

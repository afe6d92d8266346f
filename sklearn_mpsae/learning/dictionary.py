"""First atoms: random ones, or a user's."""

from __future__ import annotations

import numpy as np

from ..coding.unit import unit_rows


def random_atoms(n_components: int, n_features: int, random_state, dtype) -> np.ndarray:
    """Atoms drawn uniformly from the unit sphere.

    Rows of the data would start closer to a good reconstruction, but they are sums of
    features, and stay so: random atoms recover the features.
    """
    atoms = random_state.standard_normal((n_components, n_features))
    return unit_rows(atoms).astype(dtype)


def checked_atoms(dict_init, shape: tuple[int, int], dtype) -> np.ndarray:
    """A user's first dictionary, with unit rows.

    Raises
    ------
    ValueError
        If it has another shape, values that are not finite, or rows of zeros.
    """
    atoms = np.asarray(dict_init, dtype=np.float64)
    if atoms.shape != shape:
        raise ValueError(
            f"dict_init must have shape (n_components, n_features) = {shape}, "
            f"got {atoms.shape}."
        )
    if not np.isfinite(atoms).all():
        raise ValueError("dict_init holds NaN or infinity: replace those values.")
    zero = np.flatnonzero(~atoms.any(axis=1))
    if len(zero):
        raise ValueError(
            f"dict_init has rows of zeros (first: row {zero[0]}), which point nowhere: "
            "replace them by non-zero atoms."
        )
    # Scaled first, so that the squares of extreme values stay in range.
    return unit_rows(atoms / np.abs(atoms).max(axis=1, keepdims=True)).astype(dtype)
